//! Settings that something else on the host sets as well.

use super::facts::Facts;
use super::{Level, Lint, Subject, Words};
use crate::policy::Max;

/// The kernel's own ratio of entries to buckets, where it knows the buckets only (`nf_conntrack_init_start`).
const RATIO: u32 = 8;

pub(super) fn look(subject: &Subject<'_>, facts: &Facts) -> Vec<Lint> {
    let mut lints: Vec<Lint> = facts
        .settings
        .iter()
        .map(|setting| {
            let (table, key) = &setting.key;
            let message = format!("{key} is {} here and {} in {}", setting.ours, setting.theirs, setting.source);
            let remedy = "say it in one place: whichever is written last counts";
            subject.of_table(table, key, Words::new("set-twice", Level::Warning, message, remedy))
        })
        .collect();
    if let (Max::Number { entries, .. }, Some((hashsize, source))) = (&subject.policy.conntrack.max, &facts.hashsize)
        && *entries > hashsize.saturating_mul(RATIO)
    {
        let message =
            format!("max is {entries}, and {source} has hashsize={hashsize}: the buckets stay at that, too few");
        let remedy = "take that option away, and the buckets follow max";
        lints.push(subject.of_table("conntrack", "max", Words::new("few-buckets", Level::Warning, message, remedy)));
    }
    lints
}

//! Blocks that are recorded and not carried out.

use super::{Level, Lint, Subject, Words};
use crate::model::Action;
use crate::text::counted;

pub(super) fn look(subject: &Subject<'_>) -> Option<Lint> {
    let policy = subject.policy;
    let blocks = policy.rules.iter().filter(|rule| rule.action == Action::Block);
    let watched = blocks.filter(|rule| !policy.is_enforced(rule)).count();
    let default = usize::from(policy.defaults.action == Action::Block);
    if policy.defaults.enforce || watched.saturating_add(default) == 0 {
        return None;
    }
    let what = match (watched, default) {
        (1, 0) => "1 block rule is".to_owned(),
        (rules, 0) => format!("{rules} block rules are"),
        (0, _) => "the default's block is".to_owned(),
        (rules, _) => format!("{} and the default's block are", counted(rules, "block rule")),
    };
    let message = format!("{what} only recorded: `enforce` is false for all that do not say otherwise");
    let remedy = "see `guard log --verdict block`, then take it out";
    Some(subject.of_table("defaults", "enforce", Words::new("watch-only", Level::Note, message, remedy)))
}

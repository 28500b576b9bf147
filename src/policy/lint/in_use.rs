//! Blocks that take away what the host uses now, or asked for before.

use std::collections::BTreeMap;

use super::facts::{Facts, Loss};
use super::{Level, Lint, Subject, Words, listed};
use crate::policy::pattern;

/// The rule that blocks, and the module that it blocks by.
type Cause<'a> = (Option<&'a str>, Option<&'a [u8]>);

pub(super) fn look(subject: &Subject<'_>, facts: &Facts) -> Vec<Lint> {
    let mut by_cause: BTreeMap<Cause<'_>, Vec<&Loss>> = BTreeMap::new();
    for loss in &facts.losses {
        // The default is one cause, and so are names, whatever they keep out.
        let module = (loss.rule.is_some() && !loss.is_by_name).then(|| loss.module.as_bytes());
        by_cause.entry((loss.rule.as_deref(), module)).or_default().push(loss);
    }
    let mut lints: Vec<Lint> = by_cause.values().filter_map(|losses| lost(subject, losses)).collect();
    for past in &facts.past {
        let by: Vec<String> = past.by.iter().map(|(what, count)| format!("{what} ({count})")).collect();
        let counted = match past.requests {
            1 => "1 request that this host's log has as permitted".to_owned(),
            count => format!("{count} requests that this host's log has as permitted"),
        };
        let message = format!("would block {counted}: {}", listed(&by));
        let words = Words::new(
            "blocks-past-requests",
            Level::Warning,
            message,
            "see `guard log`; permit them in a rule before",
        );
        lints.push(at_cause(subject, past.rule.as_deref(), "", words));
    }
    lints.extend(facts.past_unread.as_ref().map(|(why, remedy)| {
        let message = format!("past requests were not looked at: {why}");
        subject.of_table("", "", Words::new("log-unread", Level::Note, message, *remedy))
    }));
    lints
}

fn lost(subject: &Subject<'_>, losses: &[&Loss]) -> Option<Lint> {
    let first = losses.first()?;
    let module = &first.module;
    let uses: Vec<String> = losses
        .iter()
        .map(|loss| match (&loss.rule, loss.is_softdep) {
            (Some(_), _) if loss.is_by_name && loss.name != loss.module => {
                format!("{}, which leads to {} ({})", loss.name, loss.module, loss.used)
            }
            (Some(_), false) if loss.name == loss.module && !loss.is_by_name => loss.used.clone(),
            (_, true) => format!("as a soft dependency of {} ({})", loss.name, loss.used),
            (Some(_), false) if !loss.is_by_name => format!("needed by {} ({})", loss.name, loss.used),
            (_, false) => format!("{} ({})", loss.name, loss.used),
        })
        .collect();
    let some = if first.is_for_some { ", for those it asks for" } else { "" };
    let uses = listed(&uses);
    let message = match &first.rule {
        Some(rule) if first.is_by_name => {
            format!("rule \"{rule}\" blocks requests for what this host uses{some}: {uses}")
        }
        Some(rule) => format!("rule \"{rule}\" blocks {module}, which this host uses{some}: {uses}"),
        None => format!("the default blocks what this host uses: {uses}"),
    };
    let remedy = if first.is_for_some {
        "leave it if others ask for it; `guard --dry-run --as` with --policy tells who may"
    } else if losses.iter().all(|loss| loss.is_softdep) {
        "the next request for what needs it is blocked: permit it, or take the soft dependency away in modprobe.d"
    } else {
        "it stays until it is unloaded, and requests for it are blocked from then; see `guard --dry-run` with --policy"
    };
    let level = if first.is_for_some { Level::Note } else { Level::Warning };
    let words = Words::new("in-use", level, message, remedy);
    let by = if first.is_by_name { &first.name } else { module };
    Some(at_cause(subject, first.rule.as_deref(), &by.to_string(), words))
}

/// At the entry of the rule that matches `name`, of a module or, where it has no modules, of a request; or at the
/// default's action.
fn at_cause(subject: &Subject<'_>, rule: Option<&str>, name: &str, words: Words) -> Lint {
    let Some(rule) = rule.and_then(|id| subject.policy.rules.iter().find(|rule| rule.id == id)) else {
        return subject.of_table("defaults", "action", words);
    };
    let (key, patterns) = match &rule.modules {
        Some(modules) => ("modules", Some(modules)),
        None => ("requests", rule.requests.as_ref()),
    };
    let entries = patterns.into_iter().flat_map(|patterns| patterns.iter());
    let mut matching = entries.filter(|entry| pattern::matches(entry.as_bytes(), name.as_bytes()));
    match matching.next() {
        Some(entry) => subject.of_rule(rule, key, entry, words),
        None => subject.of_rule(rule, "", "", words),
    }
}

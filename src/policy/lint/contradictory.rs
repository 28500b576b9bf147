//! Requesters that nobody can be.

use super::shadowed::includes;
use super::{Level, Lint, Subject, Words};
use crate::model::Action;
use crate::policy::UnknownRequester;
use crate::policy::requester::{CALLERS, Condition, Entry, Is, Key, MAX_ID, Who};

const LINT: &str = "contradictory";

pub(super) fn look(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    for rule in &subject.policy.rules {
        let Some(Who::All(conditions)) = &rule.requester else { continue };
        // Then a block matches also those of whom the key is not known.
        let takes_unknown =
            rule.action == Action::Block && subject.policy.defaults.unknown_requester == UnknownRequester::Block;
        let is_clear = |condition: &&Condition| !takes_unknown || condition.key == Key::Caller;
        for condition in conditions.iter().filter(is_clear).filter(|condition| is_never(condition)) {
            let key = condition.key.name();
            let message = format!("rule \"{}\" never matches: `{key}` takes out all that it names", rule.id);
            let words =
                Words::new(LINT, Level::Warning, message, "take out the entry with `!`, or the one it takes out");
            lints.push(subject.of_rule(rule, key, "", words));
        }
    }
    lints
}

/// Whether no requester can meet `condition`.
fn is_never(condition: &Condition) -> bool {
    let (none_of, any_of): (Vec<&Entry>, Vec<&Entry>) = condition.entries.iter().partition(|entry| entry.negated);
    let is_taken_out = |is: &Is| match is {
        Is::Range(low, high) => is_range_taken(*low, *high, &none_of),
        is => none_of.iter().any(|out| includes(condition.key, &out.is, is)),
    };
    if !any_of.is_empty() {
        return any_of.iter().all(|entry| is_taken_out(&entry.is));
    }
    match condition.key {
        Key::Uid => is_range_taken(0, MAX_ID, &none_of),
        Key::Auid => is_range_taken(0, MAX_ID, &none_of) && is_taken_out(&Is::None),
        Key::Caller => CALLERS.iter().all(|(_, caller)| is_taken_out(&Is::Caller(*caller))),
        _ => false,
    }
}

/// Whether the ranges of `none_of` leave nothing of one.
fn is_range_taken(low: u32, high: u32, none_of: &[&Entry]) -> bool {
    let mut ranges: Vec<(u32, u32)> = none_of
        .iter()
        .filter_map(|entry| match entry.is {
            Is::Range(low, high) => Some((low, high)),
            _ => None,
        })
        .collect();
    ranges.sort_unstable();
    let mut left = low;
    for (from, to) in ranges {
        if from > left {
            return false;
        }
        if to >= high {
            return true;
        }
        left = left.max(to.saturating_add(1));
    }
    false
}

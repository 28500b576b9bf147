//! Rules, and entries of theirs, that never count because an earlier rule takes all that they are about.

use super::{Level, Lint, Subject, Words, listed};
use crate::model::Action;
use crate::policy::requester::{Condition, Entry, Is, Key, Who};
use crate::policy::{Patterns, Policy, Rule, pattern};

const LINT: &str = "shadowed";

pub(super) fn look(subject: &Subject<'_>) -> Vec<Lint> {
    let rules = &subject.policy.rules;
    let mut lints = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let earlier = rules.get(..at).unwrap_or_default();
        let (key, patterns) = match (&rule.modules, &rule.requests) {
            (Some(modules), _) => ("modules", modules),
            (None, Some(requests)) => ("requests", requests),
            (None, None) => continue,
        };
        let takers: Vec<(&str, Option<&Rule>)> = patterns
            .iter()
            .map(|entry| (entry, earlier.iter().find(|earlier| takes(subject.policy, earlier, rule, entry))))
            .collect();
        lints.extend(match takers.iter().all(|(_, taker)| taker.is_some()) {
            true => Some(whole(subject, rule, &takers)),
            false => partly(subject, rule, key, &takers),
        });
    }
    lints
}

/// Whether `earlier` matches whenever `rule` does by `entry`, and then leaves nothing to be decided.
fn takes(policy: &Policy, earlier: &Rule, rule: &Rule, entry: &str) -> bool {
    // While a block is only recorded, the rules behind it go on to decide.
    let is_final = policy.is_enforced(earlier) || !policy.is_enforced(rule);
    let are_about = match &rule.modules {
        Some(_) => {
            earlier.modules.as_ref().is_none_or(|modules| modules.covers(entry))
                && covers_all(earlier.requests.as_ref(), rule.requests.as_ref())
        }
        None => earlier.modules.is_none() && earlier.requests.as_ref().is_none_or(|requests| requests.covers(entry)),
    };
    is_final && are_about && is_asked_by(earlier, rule)
}

fn covers_all(wide: Option<&Patterns>, narrow: Option<&Patterns>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(wide), None) => wide.covers("*"),
        (Some(wide), Some(narrow)) => narrow.iter().all(|entry| wide.covers(entry)),
    }
}

/// Whether the requester is one for `earlier` whenever it is one for `rule`.
fn is_asked_by(earlier: &Rule, rule: &Rule) -> bool {
    match (&earlier.requester, &rule.requester) {
        (None, _) | (Some(Who::Unknown), Some(Who::Unknown)) => true,
        (Some(Who::All(wide)), Some(Who::All(narrow))) => {
            // A block needs no more than a doubt, what permits has to be certain of everybody.
            let doubts = earlier.action == Action::Block || rule.action != Action::Block;
            let is_certain = wide.iter().all(|condition| condition.key == Key::Caller);
            (doubts || is_certain) && wide.iter().all(|wide| narrow.iter().any(|narrow| is_weaker(wide, narrow)))
        }
        _ => false,
    }
}

/// Whether `wide` is answered at least as certainly with yes as `narrow`, whoever asks.
fn is_weaker(wide: &Condition, narrow: &Condition) -> bool {
    let parts = |condition: &Condition, negated| -> Vec<Entry> {
        condition.entries.iter().filter(|entry| entry.negated == negated).cloned().collect()
    };
    let (any_of, any_narrow) = (parts(wide, false), parts(narrow, false));
    let (none_of, none_narrow) = (parts(wide, true), parts(narrow, true));
    let key = wide.key;
    let any_holds = any_of.is_empty()
        || !any_narrow.is_empty()
            && any_narrow.iter().all(|narrow| any_of.iter().any(|wide| includes(key, &wide.is, &narrow.is)));
    let none_holds = none_of.iter().all(|wide| none_narrow.iter().any(|narrow| includes(key, &narrow.is, &wide.is)));
    key == narrow.key && any_holds && none_holds
}

/// Whether whatever is `narrow` is `wide` as well; both are entries of `key`.
pub(super) fn includes(key: Key, wide: &Is, narrow: &Is) -> bool {
    match (wide, narrow) {
        (Is::Range(low, high), Is::Range(from, to)) => low <= from && to <= high,
        (Is::Any, Is::Text(_)) => true,
        (Is::Text(wide), Is::Text(narrow)) if matches!(key, Key::Unit | Key::Container) => {
            pattern::covers(|byte| byte, wide.as_bytes(), narrow.as_bytes())
        }
        (wide, narrow) => wide == narrow,
    }
}

/// The whole rule never counts.
fn whole(subject: &Subject<'_>, rule: &Rule, takers: &[(&str, Option<&Rule>)]) -> Lint {
    let mut by: Vec<&Rule> = takers.iter().filter_map(|(_, taker)| *taker).collect();
    by.dedup_by_key(|rule| &rule.id);
    by.sort_by_key(|rule| &rule.id);
    by.dedup_by_key(|rule| &rule.id);
    let named = named(&by);
    // What permits somebody in spite of a block is another matter.
    let is_fallback = match by.as_slice() {
        [block] => {
            let is_block = block.action == Action::Block && rule.action != Action::Block;
            is_block && block.requester == rule.requester && is_same(rule, block)
        }
        _ => false,
    };
    let words = if is_fallback {
        let message = format!("rule \"{}\" counts only while the block of {named} is not enforced", rule.id);
        Words::new(LINT, Level::Note, message, "leave it if that is what it is for")
    } else if by.iter().all(|by| file_of(by) != file_of(rule)) {
        let message = format!("rule \"{}\" never counts: {named} of another file comes before it", rule.id);
        Words::new(LINT, Level::Note, message, "leave it if that file is meant to have its way")
    } else {
        let message = format!("rule \"{}\" never counts: whatever it matches, {named} matches before it", rule.id);
        Words::new(LINT, Level::Warning, message, "put it before that, narrow that, or take it out")
    };
    subject.of_rule(rule, "", "", words)
}

/// Some entries never count. An earlier file that takes some is how a host overrides what it was shipped.
fn partly(subject: &Subject<'_>, rule: &Rule, key: &str, takers: &[(&str, Option<&Rule>)]) -> Option<Lint> {
    let taken: Vec<(&str, &Rule)> = takers
        .iter()
        .filter_map(|(entry, taker)| Some((*entry, taker.filter(|taker| file_of(taker) == file_of(rule))?)))
        .collect();
    let (first, taker) = *taken.first()?;
    let entries: Vec<&str> =
        taken.iter().filter(|(_, by)| by.id == taker.id).map(|(entry, _)| subject.written(rule, key, entry)).collect();
    let message =
        format!("{} in rule \"{}\" never counts: {} matches it before", listed(&entries), rule.id, named(&[taker]));
    let words = Words::new(LINT, Level::Warning, message, "put this rule before that, or take it out");
    Some(subject.of_rule(rule, key, first, words))
}

fn is_same(one: &Rule, other: &Rule) -> bool {
    let (modules, others) = (one.modules.as_ref(), other.modules.as_ref());
    let (requests, other_requests) = (one.requests.as_ref(), other.requests.as_ref());
    covers_all(modules, others)
        && covers_all(others, modules)
        && covers_all(requests, other_requests)
        && covers_all(other_requests, requests)
}

fn file_of(rule: &Rule) -> &str {
    rule.source.rsplit_once(':').map_or(rule.source.as_str(), |(file, _)| file)
}

fn named(rules: &[&Rule]) -> String {
    let names: Vec<String> = rules.iter().map(|rule| format!("\"{}\" ({})", rule.id, rule.source)).collect();
    format!("rule {}", listed(&names))
}

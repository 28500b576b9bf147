//! Names and patterns that stand for nothing on this kernel, or for something else than a module.

use super::facts::{Facts, Modules};
use super::{Level, Lint, Subject, Words, listed};
use crate::model::Action;
use crate::policy::parse::distance;
use crate::policy::{Rule, pattern};

pub(super) fn look(subject: &Subject<'_>, facts: &Facts) -> Vec<Lint> {
    let Some(modules) = &facts.modules else { return Vec::new() };
    subject.policy.rules.iter().flat_map(|rule| Names::of(rule, modules).lints(subject, rule, modules)).collect()
}

/// What a rule's names are on one kernel.
#[derive(Default)]
struct Names<'a> {
    /// Entries of `modules` that are modules, or patterns that match one.
    good: usize,
    /// In the image.
    builtin: Vec<&'a str>,
    /// Other names of modules, with these.
    aliases: Vec<(&'a str, String)>,
    /// Nothing, but near to a module's name.
    slips: Vec<(&'a str, String)>,
    missing: Vec<&'a str>,
    /// Entries of `requests` that no module and no alias has.
    unknown: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(rule: &'a Rule, modules: &Modules) -> Names<'a> {
        let mut names = Names::default();
        let entries = || rule.modules.iter().flat_map(|patterns| patterns.iter());
        // What was typed by hand is shorter, and the effort goes up with the number.
        let is_typed = entries().filter(|entry| modules.is(entry) == Is::Nothing).count() <= TYPED;
        for entry in entries() {
            match modules.is(entry) {
                Is::Module => names.good = names.good.saturating_add(1),
                Is::Builtin => names.builtin.push(entry),
                Is::Nothing => match (modules.others(entry), is_typed.then(|| modules.nearest(entry)).flatten()) {
                    (Some(others), _) => names.aliases.push((entry, others)),
                    (None, Some(near)) => names.slips.push((entry, near)),
                    (None, None) => names.missing.push(entry),
                },
            }
        }
        let requests = rule.requests.iter().flat_map(|patterns| patterns.iter());
        names.unknown.extend(requests.filter(|entry| modules.is(entry) == Is::Nothing && !modules.may_be_asked(entry)));
        names
    }

    fn lints(self, subject: &Subject<'_>, rule: &Rule, modules: &Modules) -> Vec<Lint> {
        let kernel = &modules.kernel;
        let mut lints = Vec::new();
        let mut say = |key, entry: &str, words| lints.push(subject.of_rule(rule, key, entry, words));
        let written = |key, entries: &[&str]| -> String {
            listed(&entries.iter().map(|entry| subject.written(rule, key, entry)).collect::<Vec<_>>())
        };
        for (entry, near) in &self.slips {
            let message = format!("{kernel} has no module {}", written("modules", &[entry]));
            let words = Words::new("unknown-module", Level::Warning, message, format!("did you mean `{near}`?"));
            say("modules", entry, words);
        }
        for (entry, others) in &self.aliases {
            let message =
                format!("{} is no module of {kernel}, but another name of {others}", written("modules", &[entry]));
            let remedy = format!("write `{others}`, or the name under `requests`");
            say("modules", entry, Words::new("alias", Level::Warning, message, remedy));
        }
        if let Some(first) = self.builtin.first().filter(|_| rule.action != Action::Allow) {
            let message =
                format!("built into {kernel}, where no rule can change it: {}", written("modules", &self.builtin));
            let words = Words::new("builtin", Level::Warning, message, "take it out if no other kernel is meant");
            say("modules", first, words);
        }
        if let Some(first) = self.missing.first() {
            let all = written("modules", &self.missing);
            let is_all = self.good == 0 && self.builtin.is_empty() && self.aliases.is_empty() && self.slips.is_empty();
            let message = match is_all {
                true => format!("rule \"{}\" matches no module of {kernel}: {all}", rule.id),
                false => format!("no module of {kernel}: {all}"),
            };
            // Lists of what is not wanted are made for many kernels.
            let is_list = rule.action == Action::Block && self.missing.len() > 1;
            let words = match is_all && !is_list {
                true => {
                    Words::new("unknown-module", Level::Warning, message, "take it out if no other kernel is meant")
                }
                false => Words::new("unknown-module", Level::Note, message, "leave what other kernels have"),
            };
            say("modules", first, words);
        }
        if let Some(first) = self.unknown.first() {
            let message = format!("no module and no alias of {kernel}: {}", written("requests", &self.unknown));
            let words = Words::new("unknown-request", Level::Note, message, "leave what other kernels have");
            say("requests", first, words);
        }
        lints
    }
}

/// What an entry of a rule is.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Module,
    Builtin,
    Nothing,
}

/// Of more names that are none the nearest are not looked for.
const TYPED: usize = 50;
/// Names as short as this are near to too many.
const SHORT: usize = 4;
/// In names as long as this, two slips are still one word.
const LONG: usize = 9;

impl Modules {
    fn is(&self, entry: &str) -> Is {
        let is_among = |names: &[Vec<u8>]| match pattern::is_literal(entry.as_bytes()) {
            true => {
                let folded: Vec<u8> = entry.bytes().map(pattern::fold).collect();
                names.binary_search(&folded).is_ok()
            }
            false => names.iter().any(|name| pattern::matches(entry.as_bytes(), name)),
        };
        match () {
            () if is_among(&self.names) => Is::Module,
            () if is_among(&self.builtins) => Is::Builtin,
            () => Is::Nothing,
        }
    }

    /// The modules that the plain name `entry` is another name of.
    fn others(&self, entry: &str) -> Option<String> {
        let others = self.stands_for.get(entry).filter(|others| !others.is_empty())?;
        Some(listed(&others.iter().map(ToString::to_string).collect::<Vec<_>>()))
    }

    /// The module whose name is `entry` but for a slip of a finger.
    fn nearest(&self, entry: &str) -> Option<String> {
        if !pattern::is_literal(entry.as_bytes()) || entry.len() <= SHORT {
            return None;
        }
        let bound = if entry.len() >= LONG { 2 } else { 1 };
        let all = self.names.iter().chain(&self.builtins).filter_map(|name| std::str::from_utf8(name).ok());
        let near = all.filter(|name| name.len().abs_diff(entry.len()) <= bound);
        // A number at the end is another thing, not another spelling.
        let stem = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let near = near.filter(|name| stem(name) != stem(entry)).map(|name| (distance(entry, name), name));
        near.min().filter(|(distance, _)| *distance <= bound).map(|(_, name)| name.to_owned())
    }

    /// Whether an alias may have a name that `entry` matches: told by how both begin.
    fn may_be_asked(&self, entry: &str) -> bool {
        let begins = |pattern: &[u8]| -> Vec<u8> {
            let plain = pattern.iter().take_while(|byte| !matches!(byte, b'*' | b'?' | b'[' | b'\\'));
            plain.map(|byte| pattern::fold(*byte)).collect()
        };
        // There are tens of thousands of symbols, and few ask by them.
        if entry.starts_with("symbol:") {
            return true;
        }
        let own = begins(entry.as_bytes());
        let is_met = |alias: &Vec<u8>| match pattern::is_literal(entry.as_bytes()) {
            true => pattern::matches(alias, entry.as_bytes()),
            false => {
                let other = begins(alias);
                own.starts_with(&other) || other.starts_with(&own)
            }
        };
        self.stands_for.get(entry).is_some_and(|others| !others.is_empty()) || self.aliases.iter().any(is_met)
    }
}

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
    /// Nothing, but a part of names of modules, with these.
    parts: Vec<(&'a str, Vec<String>)>,
    missing: Vec<&'a str>,
    /// Entries of `requests` that no module and no alias has, but nearly.
    asked_slips: Vec<(&'a str, String)>,
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
                    (None, None) => match is_typed.then(|| modules.with_part(entry)).filter(|with| !with.is_empty()) {
                        Some(with) => names.parts.push((entry, with)),
                        None => names.missing.push(entry),
                    },
                },
            }
        }
        let requests = rule.requests.iter().flat_map(|patterns| patterns.iter());
        let unknown = requests.filter(|entry| modules.is(entry) == Is::Nothing && !modules.may_be_asked(entry));
        let unknown: Vec<&str> = unknown.collect();
        for entry in &unknown {
            match (unknown.len() <= TYPED).then(|| modules.nearest_request(entry)).flatten() {
                Some(near) => names.asked_slips.push((entry, near)),
                None => names.unknown.push(entry),
            }
        }
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
        let count = rule.modules.as_ref().map_or(0, |patterns| patterns.iter().count());
        for (entry, with) in &self.parts {
            let message = format!("{kernel} has no module {}", written("modules", &[entry]));
            let with: Vec<String> = with.iter().map(|name| format!("`{name}`")).collect();
            let level = if rule.action == Action::Block && count > 1 { Level::Note } else { Level::Warning };
            let words = Words::new("unknown-module", level, message, format!("did you mean {}?", with.join(" or ")));
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
            let is_all = self.missing.len() == count;
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
        for (entry, near) in &self.asked_slips {
            let own = written("requests", &[entry]);
            let near = spelt_as(near, &own);
            let message = format!("no module and no alias of {kernel}: {own}");
            let words = Words::new("unknown-request", Level::Warning, message, format!("did you mean `{near}`?"));
            say("requests", entry, words);
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
/// Names as short as this are near to too many, but for what they lack at the end, or have there too much.
const SHORT: usize = 4;
/// In names as long as this, two slips are still one word.
const LONG: usize = 9;

/// So many names are suggested for a part of them.
const PARTS: usize = 2;

/// Spellings that are one to a person.
fn spelt(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// `name`, with a hyphen where `own` has one: an index has none.
fn spelt_as(name: &str, own: &str) -> String {
    let own = own.chars().map(Some).chain(std::iter::repeat(None));
    name.chars().zip(own).map(|(sign, own)| if sign == '_' && own == Some('-') { '-' } else { sign }).collect()
}

/// Which of `names` is `entry` but for a slip of a finger; `own` is how many bytes of that tell it apart.
fn nearest<'a>(entry: &str, own: usize, names: impl Iterator<Item = &'a str>) -> Option<String> {
    if !pattern::is_literal(entry.as_bytes()) {
        return None;
    }
    let (entry, bound) = (spelt(entry), if own >= LONG { 2 } else { 1 });
    let near = names.filter(|name| name.len().abs_diff(entry.len()) <= bound).filter_map(|name| {
        let other = spelt(name);
        let stem = other.trim_end_matches(|c: char| c.is_ascii_digit());
        // Another number at the end is another thing, not another spelling.
        let is_another = stem.len() < other.len() && stem == entry.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_cut = other.starts_with(&entry) || entry.starts_with(&other);
        let is_near = other == entry || (!is_another && (own > SHORT || is_cut));
        is_near.then(|| (distance(&entry, &other), name))
    });
    near.min().filter(|(distance, _)| *distance <= bound).map(|(_, name)| name.to_owned())
}

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

    fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.builtins).filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The module whose name is `entry` but for a slip of a finger.
    fn nearest(&self, entry: &str) -> Option<String> {
        nearest(entry, entry.len(), self.all())
    }

    /// The alias or module that is `entry` but for a slip of a finger.
    fn nearest_request(&self, entry: &str) -> Option<String> {
        let aliases = self.aliases.iter().filter(|alias| pattern::is_literal(alias));
        let aliases = aliases.filter_map(|alias| std::str::from_utf8(alias).ok());
        // What they begin with says what they are for, and is the same for many.
        let own = entry.rsplit(['-', '_']).next().unwrap_or(entry);
        nearest(entry, own.len(), aliases).or_else(|| self.nearest(entry))
    }

    /// The alias or module that somebody who asked for `name`, which is none, may have meant, spelt as they spell.
    pub fn meant(&self, name: &str) -> Option<String> {
        self.nearest_request(name).map(|near| spelt_as(&near, name))
    }

    /// The shortest names of modules that `entry` is a part of.
    fn with_part(&self, entry: &str) -> Vec<String> {
        let part = format!("_{}_", spelt(entry));
        let mut names: Vec<&str> = self.all().filter(|name| format!("_{}_", spelt(name)).contains(&part)).collect();
        names.sort_by_key(|name| (name.len(), *name));
        names.into_iter().take(PARTS).map(str::to_owned).collect()
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

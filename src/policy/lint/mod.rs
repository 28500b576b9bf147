//! What is sound in a policy, and yet hardly meant. Nothing is found out here: what a lint has to know of a host comes
//! with [`Facts`], and what is not known there is not judged.
//!
//! A lint that cannot be sure says nothing. None keeps a policy from being applied.

mod contradictory;
mod executables;
pub mod facts;
mod in_use;
mod names;
mod place;
mod settings;
mod shadowed;
mod surroundings;
mod watch;

use serde::Serialize;

use self::place::Places;
use super::{Finding, Policy, Rule, Source};

pub use facts::Facts;

/// How much a lint weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It does not do what it seems to do, or does harm.
    Warning,
    /// Good to know, and often meant.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// Which lint it is of; a name that does not change.
    pub lint: &'static str,
    /// How much it weighs.
    pub level: Level,
    /// The rule that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Where, what and what to do.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Everything that was found in `policy`, which was made of `sources`, in the order of these and of places in them.
pub fn lints(policy: &Policy, sources: &[Source], facts: &Facts) -> Vec<Lint> {
    let file = sources.first().map(|source| source.shown.clone()).unwrap_or_default();
    let subject = Subject { policy, places: Places::of(sources), file };
    let mut lints = shadowed::look(&subject);
    lints.extend(contradictory::look(&subject));
    lints.extend(watch::look(&subject));
    lints.extend(executables::look(&subject, facts));
    lints.extend(names::look(&subject, facts));
    lints.extend(in_use::look(&subject, facts));
    lints.extend(surroundings::look(&subject, facts));
    lints.extend(settings::look(&subject, facts));
    let order = |lint: &Lint| sources.iter().position(|source| source.shown == lint.finding.path);
    lints.sort_by_key(|lint| (order(lint), lint.finding.position));
    lints
}

/// The policy, and where in its files everything stands.
struct Subject<'a> {
    policy: &'a Policy,
    places: Places,
    /// The first of its files, for what is about all of them.
    file: String,
}

/// What is said about a place.
struct Words {
    lint: &'static str,
    level: Level,
    message: String,
    remedy: String,
}

impl Words {
    fn new(lint: &'static str, level: Level, message: impl Into<String>, remedy: impl Into<String>) -> Words {
        Words { lint, level, message: message.into(), remedy: remedy.into() }
    }
}

impl Subject<'_> {
    /// About `entry` of the key `key` of `rule`; where that is not to be found, about as much of it as is.
    fn of_rule(&self, rule: &Rule, key: &str, entry: &str, words: Words) -> Lint {
        self.at(Some(&rule.id), key, entry, words)
    }

    /// About the key `key` of the table `table`.
    fn of_table(&self, table: &str, key: &str, words: Words) -> Lint {
        self.at(None, table, key, words)
    }

    fn at(&self, rule: Option<&str>, key: &str, entry: &str, words: Words) -> Lint {
        let Words { lint, level, message, remedy } = words;
        let place = self.places.nearest(rule, key, entry);
        let path = place.map_or_else(|| self.file.clone(), |place| place.path.clone());
        let position = place.map(|place| place.position);
        let finding = Finding { path, position, message, remedy };
        Lint { lint, level, rule: rule.map(str::to_owned), finding }
    }

    /// A name or pattern as the file has it; the policy spells plain names with underscores.
    fn written<'a>(&'a self, rule: &Rule, key: &str, entry: &'a str) -> &'a str {
        self.places.exactly(&rule.id, key, entry).map_or(entry, |place| &place.written)
    }
}

/// So many of a list are named.
const NAMED: usize = 8;

/// `a, b and 3 more`.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let named: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;

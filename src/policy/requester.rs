//! Who a rule is about, and whether that is who asked.
//!
//! Facts about a requester can be missing, so every question has three answers. Nothing is found out here: which files
//! an executable is, and how far the other facts go, comes with the [`Task`].

use serde::{Deserialize, Serialize};

use crate::model::{Action, Caller, Confidence, Files, FoundBy, Known, Namespace, Request, Requester, Task};
use crate::text::Text;

use super::{Defaults, Policy, Rule, Trust, UnknownRequester, pattern};

/// The greatest user id: the one above it is the kernel's word for none.
pub const MAX_ID: u32 = u32::MAX - 1;

/// The ways of a request by their names in a policy.
pub const CALLERS: [(&str, Caller); 4] =
    [("kernel", Caller::Kernel), ("xtables", Caller::Xtables), ("modprobe", Caller::Modprobe), ("hook", Caller::Hook)];

/// A rule's key `requester`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// `"unknown"`: the requesters of whom nothing is known.
    Unknown,
    /// A table, one condition a key: all must hold.
    All(Vec<Condition>),
}

/// One key of the table, with its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What was asked for.
    pub key: Key,
    /// Of those that are not negated one must be so, of the negated ones none.
    pub entries: Vec<Entry>,
}

/// A key of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// The executable.
    Exe,
    /// The executable of any parent.
    Ancestor,
    /// The systemd unit.
    Unit,
    /// The container.
    Container,
    /// The real user id.
    Uid,
    /// The login user id.
    Auid,
    /// The user namespace.
    Userns,
    /// How the request reached us.
    Caller,
}

impl Key {
    /// All keys by their names in a policy.
    pub const NAMES: [&str; 8] = ["exe", "ancestor", "unit", "container", "uid", "auid", "userns", "caller"];

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        let [exe, ancestor, unit, container, uid, auid, userns, caller] = Key::NAMES;
        match self {
            Key::Exe => exe,
            Key::Ancestor => ancestor,
            Key::Unit => unit,
            Key::Container => container,
            Key::Uid => uid,
            Key::Auid => auid,
            Key::Userns => userns,
            Key::Caller => caller,
        }
    }
}

/// One entry of a key's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Written with a `!` in front.
    pub negated: bool,
    /// What the requester is to be, or not to be.
    pub is: Is,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Is {
    /// `exe`, `ancestor`: a path; `unit`, `container`: a pattern.
    Text(String),
    /// `container`: any at all.
    Any,
    /// `auid`: no login.
    None,
    /// `uid`, `auid`: a number between these, both included.
    Range(u32, u32),
    /// `userns`.
    Namespace(Namespace),
    /// `caller`.
    Caller(Caller),
}

/// The order is that of certainty, from no to yes: over several answers, the least is that all are so, the greatest
/// that any is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    No,
    Unknown,
    Yes,
}

impl Answer {
    /// `absent_is_certain`: a fact that is absent is one that is not there, rather than one that nobody knows.
    fn of<T>(fact: Option<T>, absent_is_certain: bool, is: impl FnOnce(T) -> bool) -> Answer {
        match fact {
            Some(fact) => Answer::from(is(fact)),
            None if absent_is_certain => Answer::No,
            None => Answer::Unknown,
        }
    }

    /// For a rule that blocks.
    fn unless_kept_from_us(self, task: &Task) -> Answer {
        if self == Answer::Unknown && task.known.hides { Answer::Yes } else { self }
    }

    fn not(self) -> Answer {
        match self {
            Answer::No => Answer::Yes,
            Answer::Unknown => Answer::Unknown,
            Answer::Yes => Answer::No,
        }
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Answer {
        if yes { Answer::Yes } else { Answer::No }
    }
}

impl Who {
    /// Whether a rule that says `action` is about `requester`.
    ///
    /// A rule that blocks is, if it may be any of the candidates; what that means where it cannot be told is for
    /// `defaults` to say, unless that was kept from us: nobody gets past a block by hiding. A rule that permits must be
    /// sure of all of them, and of how they were found.
    pub(super) fn is(&self, action: Action, defaults: &Defaults, request: &Request, requester: &Requester) -> bool {
        let Who::All(conditions) = self else { return requester.confidence == Confidence::Unknown };
        let of = |task: &Task| all_of(conditions, task, request);
        if action == Action::Block {
            match any_of(requester, &|task| of(task).unless_kept_from_us(task)) {
                Answer::Yes => true,
                Answer::Unknown => defaults.unknown_requester == UnknownRequester::Block,
                Answer::No => false,
            }
        } else {
            let is_sure = !self.asks_of_the_task() || is_trusted(requester, defaults.trust);
            // All are so if of none it is otherwise.
            is_sure && any_of(requester, &|task| of(task).not()) == Answer::No
        }
    }

    /// Whether more is asked than how the request came, which is always known.
    pub fn asks_of_the_task(&self) -> bool {
        match self {
            Who::Unknown => true,
            Who::All(conditions) => conditions.iter().any(|one| one.key != Key::Caller),
        }
    }

    /// The keys that keep it open whether this is who asked; none if that is certain.
    fn open(&self, request: &Request, requester: &Requester) -> Vec<Key> {
        let Who::All(conditions) = self else { return Vec::new() };
        // Who is unknown stays so.
        if requester.confidence == Confidence::Unknown
            || any_of(requester, &|task| all_of(conditions, task, request)) != Answer::Unknown
        {
            return Vec::new();
        }
        let is_open = |one: &&Condition| {
            any_of(requester, &|task| Answer::from(one.answer(task, request) == Answer::Unknown)) == Answer::Yes
        };
        conditions.iter().filter(is_open).map(|one| one.key).collect()
    }
}

fn all_of(conditions: &[Condition], task: &Task, request: &Request) -> Answer {
    conditions.iter().map(|one| one.answer(task, request)).min().unwrap_or(Answer::Yes)
}

/// The greatest answer over all who may have asked.
fn any_of(requester: &Requester, of: &dyn Fn(&Task) -> Answer) -> Answer {
    match requester.candidates.as_slice() {
        // Of nobody nothing is known, whatever stands there.
        _ if requester.confidence == Confidence::Unknown => {
            let known = Known { hides: requester.task.known.hides, ..Known::default() };
            of(&Task { known, ..Task::default() })
        }
        [] => of(&requester.task),
        candidates => candidates.iter().map(of).max().unwrap_or(Answer::Unknown),
    }
}

/// Whether the requester was found well enough for a rule that permits.
fn is_trusted(requester: &Requester, trust: Trust) -> bool {
    match requester.confidence {
        Confidence::Exact | Confidence::Assumed => true,
        Confidence::Ambiguous if matches!(requester.found_by, Some(FoundBy::Recorder | FoundBy::Parent)) => true,
        Confidence::Ambiguous | Confidence::Likely => trust == Trust::Likely,
        Confidence::Unknown => false,
    }
}

impl Condition {
    fn answer(&self, task: &Task, request: &Request) -> Answer {
        let (mut any, mut none) = (None, Answer::Yes);
        for entry in &self.entries {
            let answer = self.key.answer(&entry.is, task, request);
            if entry.negated {
                none = none.min(answer.not());
            } else {
                any = any.max(Some(answer));
            }
        }
        any.unwrap_or(Answer::Yes).min(none)
    }
}

impl Key {
    fn answer(self, is: &Is, task: &Task, request: &Request) -> Answer {
        match (self, is) {
            (Key::Exe, Is::Text(path)) => file(&task.known.exe, path),
            (Key::Ancestor, Is::Text(path)) => file(&task.known.ancestors, path),
            (Key::Unit, Is::Text(pattern)) => Answer::of(task.unit.as_ref(), task.known.unit, |unit| {
                pattern::matches_exactly(pattern.as_bytes(), unit.as_bytes())
            }),
            (Key::Container, Is::Text(pattern)) => {
                Answer::of(task.container.as_ref(), task.known.container, |container| is_container(pattern, container))
            }
            (Key::Container, Is::Any) => Answer::of(task.container.as_ref(), task.known.container, |_| true),
            (Key::Uid, Is::Range(low, high)) => Answer::of(task.uid, false, |uid| (*low..=*high).contains(&uid)),
            (Key::Auid, Is::Range(low, high)) => {
                Answer::of(task.auid, task.known.auid, |auid| (*low..=*high).contains(&auid))
            }
            (Key::Auid, Is::None) => Answer::of(task.auid, task.known.auid, |_| true).not(),
            (Key::Userns, Is::Namespace(own)) => Answer::of(task.userns, false, |userns| userns == *own),
            (Key::Caller, Is::Caller(caller)) => Answer::from(request.caller == *caller),
            // No parser makes such a pair.
            _ => Answer::Unknown,
        }
    }
}

fn file(files: &Files, path: &str) -> Answer {
    let is = files.are.iter().any(|are| are == path);
    Answer::of(is.then_some(()), files.complete, |()| true)
}

/// Docker shows, and takes, the beginning of an id.
fn is_container(pattern: &str, container: &Text) -> bool {
    const SHORT: usize = 12;
    const WHOLE: usize = 64;
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    let (pattern, id) = (pattern.as_bytes(), container.as_bytes());
    let is_beginning = pattern.len() >= SHORT && is_hex(pattern) && id.len() == WHOLE && is_hex(id);
    is_beginning && id.starts_with(pattern) || pattern::matches_exactly(pattern, id)
}

/// What is wrong with a path or a number, and what to write instead.
pub type Wrong = (&'static str, &'static str);

/// Whether `path` has the one form in which `exe` and `ancestor` name files.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn check_path(path: &str) -> Result<(), Wrong> {
    if !path.starts_with('/') {
        return Err(("is no absolute path", "write the whole path: `/usr/bin/dockerd`"));
    }
    if path.contains(['*', '?', '[']) {
        return Err(("is a pattern, and files have none", "name each file"));
    }
    if path.contains(char::is_control) {
        return Err(("holds control characters", "write the path as `ls` shows it"));
    }
    if path.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
        return Err(("is not in its normal form", "write it without `//`, `.`, `..` and a slash at its end"));
    }
    Ok(())
}

/// A user id, or a range of them: `0`, `1000-1999`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn range(text: &str) -> Result<(u32, u32), Wrong> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    // A sign is no digit.
    let number = |text: &str| text.parse().ok().filter(|id| *id <= MAX_ID && text.bytes().all(|c| c.is_ascii_digit()));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(_), Some(_)) => Err(("holds nothing", "write the lower end first")),
        _ => Err(("is no user id", "write a number from 0 to 4294967294, or a range: `\"1000-1999\"`")),
    }
}

/// A rule that is about the request, and perhaps about who made it: too little is known of them to tell.
#[derive(Debug)]
pub struct Open<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// What it asks and nobody knows.
    pub keys: Vec<Key>,
}

impl<'a> Open<'a> {
    /// `rule`, if that is so.
    pub(super) fn of(rule: &'a Rule, request: &Request, requester: &Requester) -> Option<Open<'a>> {
        let keys = rule.requester.as_ref()?.open(request, requester);
        (!keys.is_empty()).then_some(Open { rule, keys })
    }
}

impl Policy {
    /// The rules that ask more of the requester than how the request came.
    pub fn asks_who(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.requester.as_ref().is_some_and(Who::asks_of_the_task))
    }

    /// Every path that a rule's `exe` or `ancestor` names, each once, sorted.
    pub fn executables(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        for rule in &self.rules {
            let Some(Who::All(conditions)) = &rule.requester else { continue };
            for condition in conditions.iter().filter(|one| matches!(one.key, Key::Exe | Key::Ancestor)) {
                for entry in &condition.entries {
                    if let Is::Text(path) = &entry.is {
                        paths.push(path.as_str());
                    }
                }
            }
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

#[cfg(test)]
mod tests;

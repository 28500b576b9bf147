//! What of a record's line matters here, read without a copy: millions of them go by.
//!
//! Words are kept as text, so that one which a newer version writes spoils nothing but its own line; keys that are not
//! known are passed over.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::unit;

/// A text of the record, in the printable form of [`Text`](crate::text::Text).
#[derive(Clone, Debug, Deserialize, Hash, PartialEq, Eq)]
pub(super) struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

impl Str<'_> {
    pub fn get(&self) -> &str {
        &self.0
    }
}

/// The text, or none.
pub(super) fn text<'a>(text: &'a Option<Str<'_>>) -> Option<&'a str> {
    text.as_ref().map(Str::get)
}

/// A record, or a count of requests that were not written (`thinned`).
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    pub v: u64,
    #[serde(borrow)]
    pub time: Option<Str<'a>>,
    #[serde(borrow)]
    pub host: Option<Str<'a>>,
    #[serde(borrow)]
    pub request: Request<'a>,
    #[serde(borrow)]
    pub requester: Option<Requester<'a>>,
    #[serde(borrow)]
    pub verdict: Verdict<'a>,
    #[serde(borrow)]
    pub modules: Option<Vec<Module<'a>>>,
    #[serde(default)]
    pub sysctl: Vec<IgnoredAny>,
    pub thinned: Option<u64>,
    #[serde(borrow)]
    pub since: Option<Str<'a>>,
    #[serde(borrow)]
    pub kind: Option<Str<'a>>,
}

#[derive(Deserialize, Hash)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
}

/// Its own keys and those of a task: written out, since to flatten them would copy every value.
#[derive(Deserialize)]
pub(super) struct Requester<'a> {
    #[serde(borrow)]
    pub confidence: Option<Str<'a>>,
    #[serde(borrow)]
    pub found_by: Option<Str<'a>>,
    #[serde(borrow)]
    pub exe: Option<Str<'a>>,
    #[serde(borrow)]
    pub unit: Option<Str<'a>>,
    #[serde(borrow)]
    pub container: Option<Str<'a>>,
    pub uid: Option<u32>,
    #[serde(borrow)]
    pub userns: Option<Str<'a>>,
    #[serde(borrow)]
    pub mntns: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub candidates: Vec<Task<'a>>,
}

/// One of several who may have asked.
#[derive(Deserialize)]
pub(super) struct Task<'a> {
    #[serde(borrow)]
    pub exe: Option<Str<'a>>,
    #[serde(borrow)]
    pub unit: Option<Str<'a>>,
    #[serde(borrow)]
    pub container: Option<Str<'a>>,
    pub uid: Option<u32>,
    #[serde(borrow)]
    pub userns: Option<Str<'a>>,
    #[serde(borrow)]
    pub mntns: Option<Str<'a>>,
}

/// Of containers' ids only that they are ids: each container has its own, and nothing that is learned depends on it.
impl Hash for Requester<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Requester { confidence, found_by, exe, unit, container, uid, userns, mntns, candidates } = self;
        (confidence, found_by, exe, uid, userns, mntns, candidates).hash(state);
        (of_unit(unit), of_container(container)).hash(state);
    }
}

/// As for a requester.
impl Hash for Task<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Task { exe, unit, container, uid, userns, mntns } = self;
        (exe, uid, userns, mntns, of_unit(unit), of_container(container)).hash(state);
    }
}

/// A unit's name, up to a container's id if it ends with one, and whether it does.
fn of_unit<'a>(unit: &'a Option<Str<'_>>) -> (Option<&'a str>, bool) {
    let unit = text(unit);
    let front = |unit: &'a str| {
        let id = unit::container(unit).filter(|id| unit::is_made_up(id))?;
        unit.strip_suffix(".scope")?.strip_suffix(id)
    };
    unit.and_then(front).map_or((unit, false), |front| (Some(front), true))
}

/// A container's name if it has one, and whether it is an id.
fn of_container<'a>(container: &'a Option<Str<'_>>) -> (Option<&'a str>, bool) {
    let container = text(container);
    if container.is_some_and(unit::is_id) { (None, true) } else { (container, false) }
}

#[derive(Deserialize, Hash)]
pub(super) struct Verdict<'a> {
    #[serde(borrow)]
    pub action: Str<'a>,
    pub enforced: bool,
    #[serde(borrow)]
    pub rule: Option<Str<'a>>,
    #[serde(borrow)]
    pub module: Option<Str<'a>>,
}

#[derive(Deserialize, Hash)]
pub(super) struct Module<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub state: Str<'a>,
    #[serde(borrow)]
    pub needed_as: Str<'a>,
}

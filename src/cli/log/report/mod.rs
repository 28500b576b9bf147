//! `guard log --report`: the entries as one page to look at, which needs nothing but a browser.
//!
//! Names, command lines and all else that somebody else chose come into the page as data alone: JSON in an element that
//! runs nothing, which `page.js` shows as text. The markup holds our own words and numbers, and the page's policy for
//! content ([`page`]) lets nothing run but that script.
#![forbid(unsafe_code)]

mod charts;
mod flows;
mod page;
mod row;
mod timeline;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::people;
use super::summary::Summary;
use crate::audit::Entry;
use crate::host::Host;
use crate::model::{Action, Value};
use row::{Row, cut, shortened};
use timeline::{Counts, Timeline};

pub use page::write;

/// So many entries are rows of the page, the last ones.
const ROWS: usize = 2000;
/// So many groups are, those with the most requests.
const GROUPS: usize = 500;
/// So many settings that were made, the last ones.
const CHANGES: usize = 50;
/// So many hosts are told apart, those that come first.
const HOSTS: usize = 64;

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// A block that was carried out.
    Block,
    /// A block that is not enforced.
    WouldBlock,
    AllowSysctl,
    Allow,
}

/// All there are, in the order of [`Counts`].
pub const VERDICTS: [Word; 4] = [Word::Block, Word::WouldBlock, Word::AllowSysctl, Word::Allow];

impl Word {
    fn of(action: Action, enforced: bool) -> Word {
        match action {
            Action::Block if enforced => Word::Block,
            Action::Block => Word::WouldBlock,
            Action::AllowSysctl => Word::AllowSysctl,
            Action::Allow => Word::Allow,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Word::Block => "block",
            Word::WouldBlock => "would-block",
            Word::AllowSysctl => "allow-sysctl",
            Word::Allow => "allow",
        }
    }
}

/// What the page tells, so far.
#[derive(Default)]
pub struct Report {
    entries: u64,
    counted: u64,
    counts: Counts,
    /// By name, with their numbers.
    hosts: BTreeMap<String, usize>,
    /// There are others.
    more_hosts: bool,
    summary: Summary,
    timeline: Timeline,
    rows: VecDeque<Row>,
    changes: VecDeque<Changed>,
    changes_left: u64,
    table: Option<Table>,
}

/// A setting that a request made, or tried to make.
#[derive(Debug, Serialize)]
struct Changed {
    time: Option<String>,
    host: Option<String>,
    key: String,
    before: Option<String>,
    after: Option<String>,
    error: Option<String>,
}

/// How full the connection tracking table is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Table {
    count: i64,
    max: i64,
}

impl Table {
    /// That of `host` at the moment; `None` where connection tracking is not loaded.
    pub fn of(host: &Host) -> Option<Table> {
        let number = |key: &str| host.number(format!("/proc/sys/net/netfilter/{key}"));
        Some(Table { count: number("nf_conntrack_count")?, max: number("nf_conntrack_max")? })
    }
}

impl Report {
    /// A page that also tells of the table of the host that it is about; `None`: of none, or of several.
    pub fn new(table: Option<Table>) -> Report {
        Report { table, ..Report::default() }
    }

    /// Adds an entry, later than all before.
    pub fn add(&mut self, entry: &Entry) {
        let Some(mut row) = Row::new(entry) else { return };
        self.entries = self.entries.saturating_add(1);
        if matches!(entry, Entry::Thinned(_)) {
            self.counted = self.counted.saturating_add(row.count);
        }
        timeline::raise(&mut self.counts, row.verdict, row.count);
        self.timeline.add(entry.time(), row.verdict, row.count);
        row.host = self.host(entry);
        self.summary.add_of(entry, row.host);
        if let Entry::Record(record) = entry {
            for change in record.outcome.iter().flat_map(|outcome| &outcome.sysctl) {
                let value = |value: &Option<Value>| value.as_ref().map(|value| shortened(value.to_string(), 64));
                self.changes.push_back(Changed {
                    time: row.time.clone(),
                    host: record.host.as_ref().map(|host| cut(host, 64)),
                    key: cut(&people::shown(&change.key), 128),
                    before: value(&change.before),
                    after: value(&change.after),
                    error: change.error.as_deref().map(|error| cut(&people::shown(error), 256)),
                });
            }
            while self.changes.len() > CHANGES {
                self.changes.pop_front();
                self.changes_left = self.changes_left.saturating_add(1);
            }
        }
        self.rows.push_back(row);
        if self.rows.len() > ROWS {
            self.rows.pop_front();
        }
    }

    /// The number of the host that tells of itself in `entry`, unless there are too many.
    fn host(&mut self, entry: &Entry) -> Option<usize> {
        let Entry::Record(record) = entry else { return None };
        let host = cut(record.host.as_ref()?, 64);
        let next = self.hosts.len();
        match self.hosts.get(&host) {
            Some(number) => Some(*number),
            None if next >= HOSTS => {
                self.more_hosts = true;
                None
            }
            None => {
                self.hosts.insert(host, next);
                Some(next)
            }
        }
    }
}

#[cfg(test)]
mod tests;

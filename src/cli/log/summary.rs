//! Who asked for what how often.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::{columns, people};
use crate::audit::who::Who;
use crate::audit::{Entry, Thinned};
use crate::cli::terminal::{Terminal, Tone};
use crate::model::{Action, Verdict};
use crate::text::{Text, printable_json};

/// So many groups are told apart; whoever asks for new names all the time can't make us hold them all.
const GROUPS: usize = 10_000;
/// So many with those that stand for all further names of one requester; beyond that requesters are not told apart.
const GROUPS_OF_OTHERS: usize = 12_000;
/// So many with those that stand for all further requesters; beyond that not even rules are.
const GROUPS_AT_ALL: usize = 13_000;
/// Times are kept so far: a file may hold anything in their place.
const TIME: usize = 32;

/// The groups of requests so far.
#[derive(Default)]
pub struct Summary {
    groups: BTreeMap<Key, Tally>,
}

/// What the requests of a group have in common; groups with as many requests are told in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// `None`: several names.
    request: Option<Text>,
    who: Name,
    uid: Option<u32>,
    action: Action,
    enforced: bool,
    rule: Option<Text>,
}

/// The best name there is for a requester, and what kind of name it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Unit(Text),
    Container(Text),
    Exe(Text),
    Comm(Text),
    /// Nobody was found, or several who have nothing in common.
    Unknown,
    /// Not told apart any more.
    Others,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    span: Span,
    thinned: u64,
    of_hosts: BTreeMap<usize, Span>,
}

/// How many requests, and when the first and the last of them were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub count: u64,
    pub first: Option<String>,
    pub last: Option<String>,
}

/// A group as `--json` prints it.
#[derive(Clone, Serialize)]
pub struct Group<'a> {
    /// Requests.
    pub count: u64,
    /// How many of them were counted instead of written.
    pub thinned: u64,
    /// The best name there is for who asked.
    pub who: Option<&'a Text>,
    /// What kind of name that is.
    pub who_is: &'static str,
    /// Real user id, if it is one.
    pub uid: Option<u32>,
    /// The name asked for; `None`: several.
    pub request: Option<&'a Text>,
    /// The verdict, and whether it was carried out.
    pub action: Action,
    pub enforced: bool,
    /// The rule that decided.
    pub rule: Option<&'a Text>,
    /// When the first and the last were made.
    pub first: Option<&'a str>,
    pub last: Option<&'a str>,
    /// Those of single hosts, by the numbers that these were given.
    #[serde(skip)]
    pub of_hosts: &'a BTreeMap<usize, Span>,
}

impl Name {
    /// Of what is known.
    pub fn of(who: Who) -> Name {
        let Who { uid: _, exe, unit, container, comm } = who;
        let names = [unit.map(Name::Unit), container.map(Name::Container), exe.map(Name::Exe), comm.map(Name::Comm)];
        names.into_iter().flatten().next().unwrap_or(Name::Unknown)
    }

    /// The name itself, if it is one.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Name::Unit(text) | Name::Container(text) | Name::Exe(text) | Name::Comm(text) => Some(text),
            Name::Unknown | Name::Others => None,
        }
    }

    /// What kind of name it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Name::Unit(_) => "unit",
            Name::Container(_) => "container",
            Name::Exe(_) => "exe",
            Name::Comm(_) => "comm",
            Name::Unknown => "unknown",
            Name::Others => "others",
        }
    }

    fn shown(&self) -> String {
        match self.text() {
            Some(text) => text.to_string(),
            None => format!("({})", self.kind()),
        }
    }
}

impl Key {
    fn new(who: Who, request: Option<&Text>, verdict: &Verdict) -> Key {
        let uid = who.uid;
        Key {
            who: Name::of(who),
            uid,
            // As long as in a count, so that both are in one group.
            request: request.map(|name| name.short(128)),
            action: verdict.action,
            enforced: verdict.enforced,
            rule: verdict.rule.as_deref().map(|rule| Text::from(rule).short(64)),
        }
    }

    fn request_shown(&self) -> String {
        self.request.as_ref().map_or("(other names)".to_owned(), ToString::to_string)
    }
}

impl Span {
    fn add(&mut self, requests: u64, first: Option<&str>, last: Option<&str>) {
        self.count = self.count.saturating_add(requests);
        let cut = |time: &str| time.chars().take(TIME).collect::<String>();
        if let Some(time) = first.filter(|time| self.first.as_deref().is_none_or(|first| *time < first)) {
            self.first = Some(cut(time));
        }
        if let Some(time) = last.filter(|time| self.last.as_deref().is_none_or(|last| *time > last)) {
            self.last = Some(cut(time));
        }
    }
}

impl Summary {
    /// Adds the request, or the requests, of an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.add_of(entry, None);
    }

    /// The same, also for the host of that number.
    pub fn add_of(&mut self, entry: &Entry, host: Option<usize>) {
        match entry {
            Entry::Record(record) => {
                let key = Key::new(Who::of(&record.requester), Some(&record.request.name), &record.verdict);
                let time = record.time.as_deref();
                let tally = self.tally(key);
                tally.span.add(1, time, time);
                if let Some(host) = host {
                    tally.of_hosts.entry(host).or_default().add(1, time, time);
                }
            }
            Entry::Thinned(thinned) => {
                let Thinned { time, thinned, since, request, one_name, verdict, requester, .. } = &**thinned;
                let key = Key::new(requester.clone(), Some(&request.name).filter(|_| *one_name), verdict);
                let tally = self.tally(key);
                tally.span.add(*thinned, Some(since), Some(time));
                tally.thinned = tally.thinned.saturating_add(*thinned);
            }
            Entry::Foreign(_) => {}
        }
    }

    /// The place of `key`, or where there are too many, of what it is a part of.
    fn tally(&mut self, mut key: Key) -> &mut Tally {
        for limit in [GROUPS, GROUPS_OF_OTHERS, GROUPS_AT_ALL] {
            if self.groups.len() < limit || self.groups.contains_key(&key) {
                break;
            }
            match limit {
                GROUPS => key.request = None,
                GROUPS_OF_OTHERS => (key.who, key.uid) = (Name::Others, None),
                _ => key.rule = None,
            }
        }
        self.groups.entry(key).or_default()
    }

    /// The groups, the greatest first, then by name.
    fn sorted(&self) -> Vec<(&Key, &Tally)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        // Stable: the map is in order of names.
        groups.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.span.count));
        groups
    }

    /// The groups, the greatest first, then by name.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.sorted().into_iter().map(|(key, tally)| Group {
            count: tally.span.count,
            thinned: tally.thinned,
            who: key.who.text(),
            who_is: key.who.kind(),
            uid: key.uid,
            request: key.request.as_ref(),
            action: key.action,
            enforced: key.enforced,
            rule: key.rule.as_ref(),
            first: tally.span.first.as_deref(),
            last: tally.span.last.as_deref(),
            of_hosts: &tally.of_hosts,
        })
    }

    /// One object a group.
    pub fn json(&self) -> impl Iterator<Item = Result<String, serde_json::Error>> {
        self.groups().map(|group| serde_json::to_string(&group).map(|line| printable_json(&line)))
    }

    /// A head and one line a group, in columns; nothing if there are no groups.
    pub fn people(&self, out: Terminal) -> Vec<String> {
        let seconds = |time: &Option<String>| {
            let text = time.as_deref().map_or("-".to_owned(), |time| people::shown(time).to_string());
            match text.split_once('.') {
                Some((seconds, _)) if text.ends_with('Z') => format!("{seconds}Z"),
                _ => text,
            }
        };
        let rows = self.sorted().into_iter().map(|(key, tally)| {
            let cells = [
                tally.span.count.to_string(),
                people::word(key.action, key.enforced).to_owned(),
                key.request_shown(),
                key.who.shown(),
                key.uid.map_or("-".to_owned(), |uid| uid.to_string()),
                key.rule.as_ref().map_or("-".to_owned(), ToString::to_string),
                seconds(&tally.span.first),
                seconds(&tally.span.last),
            ];
            (cells, Tone::of(key.action, key.enforced))
        });
        if self.groups.is_empty() { Vec::new() } else { columns::lines(rows.collect(), out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::samples::{HOSTILE, record};
    use crate::audit::thinning::Slot;
    use crate::model::{Record, Requester, Task};

    fn asked(name: &str, uid: u32, second: u32) -> Record {
        let mut record = record(name.as_bytes(), uid);
        record.time = Some(format!("2026-11-20T12:00:{second:02}.000000Z"));
        record
    }

    fn counted(records: &[Record]) -> Entry {
        let mut slot = Slot::new(1, 0);
        records.iter().for_each(|record| slot.count(record));
        Entry::Thinned(Box::new(slot.thinned().unwrap()))
    }

    fn of(entries: impl IntoIterator<Item = Entry>) -> Summary {
        let mut summary = Summary::default();
        entries.into_iter().for_each(|entry| summary.add(&entry));
        summary
    }

    fn records(records: impl IntoIterator<Item = Record>) -> impl Iterator<Item = Entry> {
        records.into_iter().map(|record| Entry::Record(Box::new(record)))
    }

    #[test]
    fn requests_are_counted_with_those_that_were_thinned() {
        let mut by_default = asked("b", 1, 40);
        (by_default.verdict.rule, by_default.verdict.action) = (None, Action::Allow);
        by_default.requester = Requester::unknown();
        let written = records([asked("a", 0, 3), asked("a", 0, 1), asked("a", 7, 5), by_default]);
        let thinned = [
            counted(&[asked("a", 0, 10), asked("a", 0, 20)]),
            counted(&[asked("x", 0, 10), asked("a", 0, 20), asked("y", 0, 30)]),
        ];
        let summary = of(written.chain(thinned));
        assert_eq!(
            summary.people(Terminal::default()),
            [
                "COUNT  VERDICT  REQUEST        WHO          UID  RULE          FIRST                 LAST",
                "    4  BLOCK    a              ssh.service  0    no-conntrack  2026-11-20T12:00:01Z  2026-11-20T12:00:20Z",
                "    3  BLOCK    (other names)  ssh.service  0    no-conntrack  2026-11-20T12:00:10Z  2026-11-20T12:00:30Z",
                "    1  BLOCK    a              ssh.service  7    no-conntrack  2026-11-20T12:00:05Z  2026-11-20T12:00:05Z",
                "    1  allow    b              (unknown)    -    -             2026-11-20T12:00:40Z  2026-11-20T12:00:40Z",
            ]
        );
        let json: Vec<String> = summary.json().map(Result::unwrap).collect();
        assert_eq!(
            json.iter().take(2).map(String::as_str).collect::<Vec<_>>(),
            [
                r#"{"count":4,"thinned":2,"who":"ssh.service","who_is":"unit","uid":0,"request":"a","action":"block","enforced":true,"rule":"no-conntrack","first":"2026-11-20T12:00:01.000000Z","last":"2026-11-20T12:00:20.000000Z"}"#,
                r#"{"count":3,"thinned":3,"who":"ssh.service","who_is":"unit","uid":0,"request":null,"action":"block","enforced":true,"rule":"no-conntrack","first":"2026-11-20T12:00:10.000000Z","last":"2026-11-20T12:00:30.000000Z"}"#,
            ]
        );
        assert!(Summary::default().people(Terminal::default()).is_empty());
    }

    #[test]
    fn who_is_the_best_name_there_is() {
        let with = |change: fn(&mut Task)| {
            let mut record = asked("a", 0, 1);
            record.requester.task = Task::default();
            change(&mut record.requester.task);
            let summary = of(records([record]));
            let (key, _) = summary.sorted()[0];
            format!("{} {}", key.who.kind(), key.who.shown())
        };
        assert_eq!(with(|_| {}), "unknown (unknown)");
        assert_eq!(with(|task| task.comm = Some(Text::from("c"))), "comm c");
        let exe = |task: &mut Task| (task.comm, task.exe) = (Some(Text::from("c")), Some(Text::from("/e")));
        assert_eq!(with(exe), "exe /e");
        let container =
            |task: &mut Task| (task.container, task.exe) = (Some(Text::from("4711")), Some(Text::from("/e")));
        assert_eq!(with(container), "container 4711");
        let unit = |task: &mut Task| (task.container, task.unit) = (Some(Text::from("4711")), Some(Text::from("u")));
        assert_eq!(with(unit), "unit u");
    }

    #[test]
    fn new_names_without_end_are_one_group_of_each_requester() {
        let mut summary = of(records((0..GROUPS).map(|number| asked(&format!("crypto-{number}"), 0, 1))));
        for round in 0..3 {
            for number in 0..1000 {
                let name = format!("crypto-{round}-{number}");
                records([asked(&name, 0, 1), asked(&name, 7, 1)]).for_each(|entry| summary.add(&entry));
            }
        }
        // One that is known goes on being told apart.
        records([asked("crypto-5", 0, 1)]).for_each(|entry| summary.add(&entry));
        assert_eq!(summary.groups.len(), GROUPS + 2);
        let lines = summary.people(Terminal::default());
        assert!(lines[1].starts_with(" 3000  BLOCK    (other names)  ssh.service  0 "), "{}", lines[1]);
        assert!(lines[2].starts_with(" 3000  BLOCK    (other names)  ssh.service  7 "), "{}", lines[2]);
        assert!(lines[3].starts_with("    2  BLOCK    crypto-5 "), "{}", lines[3]);
        // Nor are requesters and rules without end.
        for number in 0..20_000_u32 {
            let mut record = asked("x", 1000 + number, 1);
            if number > 10_000 {
                record.verdict.rule = Some(number.to_string());
            }
            records([record]).for_each(|entry| summary.add(&entry));
        }
        assert!(summary.groups.len() < GROUPS_AT_ALL + 10, "{}", summary.groups.len());
        let total: u64 = summary.groups.values().map(|tally| tally.span.count).sum();
        assert_eq!(total, GROUPS as u64 + 6001 + 20_000);
    }

    #[test]
    fn whatever_a_name_holds_columns_are_one_line_each() {
        let hostile = HOSTILE.iter().map(|name| record(&name.repeat(9), 0));
        for line in of(records(hostile)).people(Terminal::default()) {
            assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        }
        let mut record = record(b"x", 0);
        record.time = Some("\u{9b}31m\u{202e}".to_owned());
        for line in of(records([record])).json() {
            let line = line.unwrap();
            assert!(line.is_ascii() && line.contains("\\u009b31m\\u202e"), "{line}");
        }
    }
}

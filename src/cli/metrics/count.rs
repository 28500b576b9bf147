//! What entries of the record add up to, in series whose number is bounded whatever the entries hold.
#![forbid(unsafe_code)]

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::test::word;
use super::series::{Series, Values};
use crate::audit::Entry;
use crate::audit::who::Who;
use crate::model::{Action, Caller, Outcome, Request, Verdict};
use crate::text::Text;

/// So many series of a name are told apart; what would be one more counts as [`OTHER`]. Series that are there stay, so
/// that no counter ends: the first to come have one.
const SERIES: usize = 200;
/// Stands for what has no series of its own.
const OTHER: &str = "(other)";
/// So many of them may tell executables apart, so that there is room for units whatever users run.
const EXECUTABLES: usize = SERIES / 2;
/// Before 2020 no clock was right; seconds since 1970.
const CLOCK_BEGINS: u64 = 1_577_836_800;
/// A label's value is at most so long, bytes.
const VALUE: usize = 128;

/// Adds one entry. `now` stands in for a time that cannot be read or be right; seconds since 1970.
pub fn add(values: &mut Values, entry: &Entry, now: u64) {
    match entry {
        Entry::Record(record) => {
            let about = About { request: &record.request, verdict: &record.verdict, first: record.time.as_deref() };
            about.add(values, &Who::of(&record.requester), 1, now);
            values.add(Series::new("failures_total", &[]), u64::from(!record.failures.is_empty()));
            if let Some(outcome) = &record.outcome {
                add_outcome(values, outcome);
            }
        }
        Entry::Thinned(thinned) => {
            let about = About { request: &thinned.request, verdict: &thinned.verdict, first: Some(&thinned.since) };
            about.add(values, &thinned.requester, thinned.thinned, now);
            values.add(Series::new("requests_thinned_total", &[]), thinned.thinned);
        }
        Entry::Foreign(_) => values.add(Series::new("foreign_lines_total", &[]), 1),
    }
}

/// What is there from the beginning, so that the first event is an increase.
pub fn add_nothing(values: &mut Values) {
    for name in ["requests_thinned_total", "modules_loaded_total", "failures_total", "foreign_lines_total"] {
        values.add(Series::new(name, &[]), 0);
    }
    for result in ["applied", "refused"] {
        values.add(Series::new("sysctls_total", &[("result", result)]), 0);
    }
}

fn add_outcome(values: &mut Values, outcome: &Outcome) {
    values.add(Series::new("modules_loaded_total", &[]), outcome.loaded.len() as u64);
    for change in &outcome.sysctl {
        let result = if change.error.is_none() { "applied" } else { "refused" };
        values.add(Series::new("sysctls_total", &[("result", result)]), 1);
    }
}

/// Requests: all that a count tells of them.
struct About<'a> {
    request: &'a Request,
    verdict: &'a Verdict,
    first: Option<&'a str>,
}

impl About<'_> {
    fn add(&self, values: &mut Values, who: &Who, requests: u64, now: u64) {
        let verdict = self.verdict;
        let enforced = if verdict.enforced { "true" } else { "false" };
        let rule = verdict.rule.as_deref().map_or_else(String::new, |rule| bounded(&Text::from(rule)));
        let request = |rule: &str| {
            let labels = [
                ("action", word(verdict.action)),
                ("enforced", enforced),
                ("rule", rule),
                ("caller", caller(self.request.caller)),
            ];
            Series::new("requests_total", &labels)
        };
        let series = if has_room(values, &request(&rule)) { request(&rule) } else { request(OTHER) };
        values.add(series, requests);
        if verdict.action == Action::Block {
            let mut by = By::of(who);
            while !by.has_room(values, enforced) {
                by = by.wider();
            }
            values.add(by.series("blocks_total", enforced), requests);
            // A clock that was behind or ahead would have it be long ago, or be recent for years.
            let first =
                self.first.and_then(seconds).filter(|first| (CLOCK_BEGINS..=now).contains(first)).unwrap_or(now);
            values.0.entry(by.series("first_block_timestamp_seconds", enforced)).or_insert(first);
        }
    }
}

/// Who was blocked, as labels.
struct By {
    unit: String,
    /// Where a unit does not tell who it is.
    exe: Option<String>,
}

impl By {
    fn of(who: &Who) -> By {
        let unit = unit(who);
        let is_anybody = matches!(unit.as_str(), "session-*.scope" | "user@*.service" | NO_UNIT);
        By { exe: who.exe.as_ref().filter(|_| is_anybody).map(bounded), unit }
    }

    fn series(&self, name: &str, enforced: &str) -> Series {
        let exe = self.exe.as_deref().map(|exe| ("exe", exe));
        let labels: Vec<_> = [("unit", self.unit.as_str()), ("enforced", enforced)].into_iter().chain(exe).collect();
        Series::new(name, &labels)
    }

    /// Whether there may be such a series; the widest is always there.
    fn has_room(&self, values: &Values, enforced: &str) -> bool {
        let series = self.series("blocks_total", enforced);
        match self.exe.as_deref() {
            _ if self.unit == OTHER => true,
            None | Some(OTHER) => has_room(values, &series),
            Some(_) => {
                let all = values.0.keys().filter(|other| other.name == series.name);
                values.0.contains_key(&series)
                    || all.filter(|other| other.labels.contains_key("exe")).count() < EXECUTABLES
            }
        }
    }

    /// The next that takes in more.
    fn wider(self) -> By {
        match self.exe.as_deref() {
            None | Some(OTHER) => By { unit: OTHER.to_owned(), exe: None },
            Some(_) => By { exe: Some(OTHER.to_owned()), ..self },
        }
    }
}

/// Whether a series may be there, as one that is there or one more.
fn has_room(values: &Values, series: &Series) -> bool {
    values.0.contains_key(series) || values.count(&series.name) < SERIES
}

fn caller(caller: Caller) -> &'static str {
    match caller {
        Caller::Kernel => "kernel",
        Caller::Xtables => "xtables",
        Caller::Modprobe => "modprobe",
        Caller::Hook => "hook",
    }
}

/// Whole seconds since 1970 of a record's time.
fn seconds(time: &str) -> Option<u64> {
    u64::try_from(OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp()).ok()
}

fn bounded(text: &Text) -> String {
    text.short(VALUE).to_string()
}

/// Stands for the unit of one who has none.
const NO_UNIT: &str = "(none)";

/// Who asked, as a unit without what makes each of its kind another: sessions, containers and instances come and go, and
/// none is to have series of its own. Where there is no unit, what is known instead, in brackets.
fn unit(who: &Who) -> String {
    match who {
        Who { unit: Some(unit), .. } => bounded(&kind_of_unit(unit)),
        Who { container: Some(_), .. } => "(container)".to_owned(),
        Who { uid: None, exe: None, comm: None, .. } => "(unknown)".to_owned(),
        Who { .. } => NO_UNIT.to_owned(),
    }
}

/// `user@1000.service` is `user@*.service`, `session-3.scope` and `docker-4711….scope` are `session-*.scope` and
/// `docker-*.scope`, and what systemd-run makes up (`run-u7.service`) is `run-*.service`.
fn kind_of_unit(unit: &Text) -> Text {
    let bytes = unit.as_bytes();
    let Some(dot) = bytes.iter().rposition(|&byte| byte == b'.') else { return unit.clone() };
    let (stem, suffix) = bytes.split_at(dot);
    let is_made_up = suffix == b".scope" || stem.starts_with(b"run-");
    let end = stem.iter().position(|&byte| byte == b'@' || (is_made_up && byte == b'-'));
    match end.and_then(|end| stem.get(..=end)) {
        Some(kind) => Text([kind, b"*", suffix].concat()),
        None => unit.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Thinned;
    use crate::audit::entry::samples::{HOSTILE, record};
    use crate::model::{Change, Record};

    /// 2026-12-01.
    const NOW: u64 = 1_796_083_200;

    fn of(entries: &[Entry]) -> Values {
        let mut values = Values::default();
        entries.iter().for_each(|entry| add(&mut values, entry, NOW));
        values
    }

    fn value(values: &Values, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        values.0.get(&Series::new(name, labels)).copied()
    }

    fn entry(record: &Record) -> Entry {
        Entry::Record(Box::new(record.clone()))
    }

    const BLOCK: [(&str, &str); 4] =
        [("action", "block"), ("enforced", "true"), ("rule", "no-conntrack"), ("caller", "kernel")];

    #[test]
    fn requests_add_up_by_verdict_and_who() {
        let mut blocked = record(b"x", 0);
        blocked.time = Some("2026-11-20T12:00:00.123456Z".to_owned());
        let mut later = blocked.clone();
        later.time = Some("2026-11-20T13:00:00.123456Z".to_owned());
        let thinned = Thinned {
            v: 1,
            time: "2026-11-20T14:00:00.000000Z".to_owned(),
            thinned: 7,
            since: "2026-11-20T13:30:00.000000Z".to_owned(),
            kind: "1".to_owned(),
            request: blocked.request.clone(),
            one_name: true,
            verdict: blocked.verdict.clone(),
            requester: Who::of(&blocked.requester),
        };
        let mut allowed = blocked.clone();
        allowed.verdict = Verdict { action: Action::AllowSysctl, rule: None, ..blocked.verdict.clone() };
        allowed.request.caller = Caller::Hook;
        allowed.failures = vec!["one".to_owned(), "two".to_owned()];
        let change = |error: Option<&str>| Change {
            key: "k".to_owned(),
            before: None,
            after: None,
            error: error.map(str::to_owned),
        };
        allowed.outcome = Some(Outcome {
            loaded: vec![Text::from("a"), Text::from("b")],
            sysctl: vec![change(None), change(Some("no")), change(None)],
            ..Outcome::default()
        });
        let values = of(&[
            entry(&blocked),
            entry(&later),
            Entry::Thinned(Box::new(thinned)),
            entry(&allowed),
            Entry::Foreign(Text::from("x")),
        ]);
        let by_ssh = [("unit", "ssh.service"), ("enforced", "true")];
        for (name, labels, expected) in [
            ("requests_total", &BLOCK[..], 9),
            (
                "requests_total",
                &[("action", "allow-sysctl"), ("enforced", "true"), ("rule", ""), ("caller", "hook")],
                1,
            ),
            ("requests_thinned_total", &[], 7),
            ("blocks_total", &by_ssh, 9),
            ("first_block_timestamp_seconds", &by_ssh, 1_795_176_000),
            ("modules_loaded_total", &[], 2),
            ("sysctls_total", &[("result", "applied")], 2),
            ("sysctls_total", &[("result", "refused")], 1),
            ("failures_total", &[], 1),
            ("foreign_lines_total", &[], 1),
        ] {
            assert_eq!(value(&values, name, labels), Some(expected), "{name} {labels:?}");
        }
        assert_eq!(values.count("blocks_total"), 1);
    }

    #[test]
    fn units_of_one_kind_are_one() {
        for (unit, kind) in [
            ("ssh.service", "ssh.service"),
            ("systemd-networkd.service", "systemd-networkd.service"),
            ("user@1000.service", "user@*.service"),
            ("getty@tty-1.service", "getty@*.service"),
            ("session-3.scope", "session-*.scope"),
            ("init.scope", "init.scope"),
            ("docker-0123.scope", "docker-*.scope"),
            ("run-u7.service", "run-*.service"),
            ("run-user-1000.mount", "run-*.mount"),
            ("", ""),
        ] {
            assert_eq!(kind_of_unit(&Text::from(unit)), Text::from(kind), "{unit}");
        }
        let who = |unit: Option<&str>, container: Option<&str>, uid| Who {
            unit: unit.map(Text::from),
            container: container.map(Text::from),
            uid,
            ..Who::default()
        };
        assert_eq!(unit(&who(Some("a.service"), None, None)), "a.service");
        assert_eq!(unit(&who(None, Some("4711"), Some(0))), "(container)");
        assert_eq!(unit(&who(None, None, Some(0))), "(none)");
        assert_eq!(unit(&who(None, None, None)), "(unknown)");
    }

    #[test]
    fn where_a_unit_tells_nothing_the_executable_does() {
        let blocked = |unit: Option<&str>, exe: &str| {
            let mut record = record(b"x", 1000);
            record.requester.task.unit = unit.map(Text::from);
            record.requester.task.exe = Some(Text::from(exe));
            entry(&record)
        };
        let values = of(&[
            blocked(Some("session-3.scope"), "/usr/bin/mount"),
            blocked(Some("session-4.scope"), "/usr/bin/mount"),
            blocked(Some("session-4.scope"), "/tmp/x"),
            blocked(Some("user@1000.service"), "/tmp/x"),
            blocked(None, "/usr/sbin/nft"),
            blocked(Some("ssh.service"), "/tmp/x"),
        ]);
        for (unit, exe, expected) in [
            ("session-*.scope", Some("/usr/bin/mount"), 2),
            ("session-*.scope", Some("/tmp/x"), 1),
            ("user@*.service", Some("/tmp/x"), 1),
            ("(none)", Some("/usr/sbin/nft"), 1),
            ("ssh.service", None, 1),
        ] {
            let exe = exe.map(|exe| ("exe", exe));
            let labels: Vec<_> = [("unit", unit), ("enforced", "true")].into_iter().chain(exe).collect();
            assert_eq!(value(&values, "blocks_total", &labels), Some(expected), "{labels:?}");
            assert!(value(&values, "first_block_timestamp_seconds", &labels).is_some(), "{labels:?}");
        }
        assert_eq!(values.count("blocks_total"), 5);
        // Whatever users run, there is room for units.
        let mut values = Values::default();
        for number in 0..1000 {
            add(&mut values, &blocked(Some("session-3.scope"), &format!("/tmp/{number}")), NOW);
        }
        add(&mut values, &blocked(Some("ssh.service"), "/x"), NOW);
        assert_eq!(values.count("blocks_total"), EXECUTABLES + 2);
        let other = [("unit", "session-*.scope"), ("enforced", "true"), ("exe", OTHER)];
        assert_eq!(value(&values, "blocks_total", &other), Some(1000 - EXECUTABLES as u64));
        assert_eq!(value(&values, "blocks_total", &[("unit", "ssh.service"), ("enforced", "true")]), Some(1));
    }

    #[test]
    fn a_wrong_clock_makes_nobody_new_for_years_or_never() {
        for (time, expected) in [
            ("2026-11-20T12:00:00.000000Z", 1_795_176_000),
            ("2036-01-01T00:00:00.000000Z", NOW),
            ("1970-01-01T00:00:07.000000Z", NOW),
            ("2019-12-31T23:59:59.000000Z", NOW),
            ("2020-01-01T00:00:00.000000Z", CLOCK_BEGINS),
            ("nonsense", NOW),
        ] {
            let mut record = record(b"x", 0);
            record.time = Some(time.to_owned());
            let by = [("unit", "ssh.service"), ("enforced", "true")];
            assert_eq!(value(&of(&[entry(&record)]), "first_block_timestamp_seconds", &by), Some(expected), "{time}");
        }
    }

    #[test]
    fn whatever_records_hold_the_series_are_bounded() {
        let mut values = Values::default();
        for number in 0..1000 {
            for name in HOSTILE {
                let mut record = record(name, number);
                let text = Text([name, number.to_string().as_bytes()].concat());
                record.verdict.rule = Some(text.to_string().repeat(50));
                record.requester.task.unit = Some(text);
                record.time = Some("nonsense".to_owned());
                add(&mut values, &entry(&record), 7);
            }
        }
        for name in ["requests_total", "blocks_total", "first_block_timestamp_seconds"] {
            assert!(values.count(name) <= SERIES + 1, "{name}: {}", values.count(name));
        }
        let sum = |name: &str| -> u64 {
            values.0.iter().filter(|(series, _)| series.name == name).map(|(_, value)| value).sum()
        };
        assert_eq!((sum("requests_total"), sum("blocks_total")), (6000, 6000));
        let is_short = |series: &Series| series.labels.values().all(|value| value.len() <= 4 * VALUE);
        assert!(values.0.keys().all(is_short));
        let other = [("unit", OTHER), ("enforced", "true")];
        assert_eq!(value(&values, "first_block_timestamp_seconds", &other), Some(7));
        assert!(value(&values, "blocks_total", &other).unwrap() > 5000);
        // Who has a series keeps it.
        let before = value(&values, "requests_total", &BLOCK);
        assert_eq!(before, None);
        let first = values.0.keys().find(|series| series.name == "blocks_total").unwrap().clone();
        let unit = Text::unescape(&first.labels["unit"]).unwrap();
        let mut again = record(b"x", 0);
        again.requester.task.unit = Some(unit);
        let count = values.0[&first];
        add(&mut values, &entry(&again), 7);
        assert_eq!(values.0[&first], count + 1);
    }
}

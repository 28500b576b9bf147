//! Which entries are told: all that every option given is for.
//!
//! A count ([`Thinned`]) carries less than a record: the last request's name and verdict, and what all who asked have
//! in common. What an option asks for may be missing there; then it is not told, and the requests are counted, so that
//! a note can say how many could not be judged.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::when;
use crate::audit::{Entry, Thinned};
use crate::model::{Action, Record, Task};
use crate::policy::pattern;
use crate::text::Text;

/// Which entries are told. An option given again means either value; different options must all hold.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Requests that would load such a module, or that one decided; shell pattern, `-` and `_` are the same
    #[arg(long, value_name = "PATTERN", value_parser = pattern_of)]
    module: Vec<String>,
    /// Requests for such a name; shell pattern, `-` and `_` are the same
    #[arg(long, value_name = "PATTERN", value_parser = pattern_of)]
    request: Vec<String>,
    /// Requests with this verdict, enforced or not
    #[arg(long, value_name = "VERDICT")]
    verdict: Vec<Word>,
    /// Requests that this rule decided
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// Requests of such a systemd unit, or of one candidate in it; shell pattern
    #[arg(long, value_name = "PATTERN", value_parser = pattern_of)]
    unit: Vec<String>,
    /// Requests of this user (real user id), or of one candidate that is
    #[arg(long, value_name = "N")]
    uid: Vec<u32>,
    /// Requests of this executable, or of one candidate that is
    #[arg(long, value_name = "PATH")]
    exe: Vec<OsString>,
    /// Not before WHEN: 2026-11-20T12:00:00Z, 2026-11-20, "2026-11-20 12:00[:00]" (these two UTC; a day is its
    /// beginning), today, yesterday, or an age: 90s, 15m, 2h, 3d, 1w
    #[arg(long, value_name = "WHEN", value_parser = time_of)]
    since: Option<String>,
    /// Not after WHEN
    #[arg(long, value_name = "WHEN", value_parser = time_of)]
    until: Option<String>,
}

/// A verdict as it is written in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    Block,
    Allow,
    AllowSysctl,
}

impl Word {
    fn is(self, action: Action) -> bool {
        matches!(
            (self, action),
            (Word::Block, Action::Block) | (Word::Allow, Action::Allow) | (Word::AllowSysctl, Action::AllowSysctl)
        )
    }
}

fn pattern_of(text: &str) -> Result<String, String> {
    pattern::check(text.as_bytes()).map_err(|(found, remedy)| format!("{found}: {remedy}"))?;
    Ok(text.to_owned())
}

fn time_of(text: &str) -> Result<String, String> {
    when::parse(text, OffsetDateTime::now_utc())
}

/// Whether an entry is one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// The entry does not tell.
    Unclear,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Answer {
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// By option, how many requests that were only counted it could not judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclear(BTreeMap<&'static str, u64>);

impl Unclear {
    /// A line for each option.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(option, requests)| match requests {
            1 => format!("1 request that was counted, not written, is left out: its count does not tell {option}"),
            _ => format!(
                "{requests} requests that were counted, not written, are left out: their counts do not tell {option}"
            ),
        })
    }
}

impl Filter {
    /// Why these options can't be met together.
    pub fn contradiction(&self) -> Option<String> {
        let (since, until) = (self.since.as_ref()?, self.until.as_ref()?);
        (since > until).then(|| format!("--since {since} is later than --until {until}; nothing lies between them"))
    }

    /// The options that were given, as one would write them.
    pub fn shown(&self) -> Vec<String> {
        fn all<'a, T: 'a + ToString>(option: &'a str, values: impl IntoIterator<Item = &'a T>) -> Vec<String> {
            values.into_iter().map(|value| format!("{option} {}", Text::from(value.to_string().as_str()))).collect()
        }
        let words: Vec<String> =
            self.verdict.iter().filter_map(|word| Some(word.to_possible_value()?.get_name().to_owned())).collect();
        let paths: Vec<String> = self.exe.iter().map(|path| path.display().to_string()).collect();
        [
            all("--module", &self.module),
            all("--request", &self.request),
            all("--verdict", &words),
            all("--rule", &self.rule),
            all("--unit", &self.unit),
            all("--uid", &self.uid),
            all("--exe", &paths),
            all("--since", &self.since),
            all("--until", &self.until),
        ]
        .concat()
    }

    /// Whether `entry` is to be told; what can't be judged is not, and is added to `unclear`.
    pub fn admits(&self, entry: &Entry, unclear: &mut Unclear) -> bool {
        match entry {
            Entry::Record(record) => self.admits_record(record),
            Entry::Thinned(thinned) => self.admits_thinned(thinned, unclear),
            Entry::Foreign(_) => false,
        }
    }

    fn admits_record(&self, record: &Record) -> bool {
        let verdict = &record.verdict;
        let tasks = || std::iter::once(&record.requester.task).chain(&record.requester.candidates);
        let any_task = |holds: &dyn Fn(&Task) -> bool| tasks().any(holds);
        let time = record.time.as_deref();
        let modules = || record.modules.iter().map(|module| &module.name).chain(&verdict.module);
        self.is_in_time(time, time)
            && any_or_none(&self.module, |pattern| modules().any(|name| matches(pattern, name)))
            && any_or_none(&self.request, |pattern| matches(pattern, &record.request.name))
            && any_or_none(&self.verdict, |word| word.is(verdict.action))
            && any_or_none(&self.rule, |id| verdict.rule.as_ref() == Some(id))
            && any_or_none(&self.unit, |pattern| {
                any_task(&|task| task.unit.as_ref().is_some_and(|unit| matches(pattern, unit)))
            })
            && any_or_none(&self.uid, |uid| any_task(&|task| task.uid == Some(*uid)))
            && any_or_none(&self.exe, |path| any_task(&|task| task.exe.as_ref().is_some_and(|exe| is(path, exe))))
    }

    fn admits_thinned(&self, thinned: &Thinned, unclear: &mut Unclear) -> bool {
        let Thinned { request, verdict, requester, .. } = thinned;
        // A text that was shortened, or is not the same for all, tells nothing.
        let text = |options: bool, text: Option<&Text>, holds: &dyn Fn(&Text) -> bool| match text {
            _ if !options => Answer::Yes,
            Some(text) if !text.is_short() => holds(text).into(),
            _ => Answer::Unclear,
        };
        let name = Some(&request.name).filter(|_| thinned.one_name);
        // Of the modules there is only the one that decided.
        let decided = verdict.module.as_ref().filter(|_| thinned.one_name);
        let module =
            text(!self.module.is_empty(), decided, &|name| any(&self.module, |pattern| matches(pattern, name)));
        let rule = verdict.rule.as_deref().map(Text::from);
        let answers = [
            ("--since or --until", self.is_in_time(Some(&thinned.time), Some(&thinned.since)).into()),
            ("--module", if module == Answer::No { Answer::Unclear } else { module }),
            (
                "--request",
                text(!self.request.is_empty(), name, &|name| any(&self.request, |pattern| matches(pattern, name))),
            ),
            ("--verdict", any_or_none(&self.verdict, |word| word.is(verdict.action)).into()),
            // Absent is the default's verdict, not unknown: kinds differ by rule.
            (
                "--rule",
                match &rule {
                    None => self.rule.is_empty().into(),
                    rule => {
                        text(!self.rule.is_empty(), rule.as_ref(), &|rule| any(&self.rule, |id| rule == id.as_str()))
                    }
                },
            ),
            (
                "--unit",
                text(!self.unit.is_empty(), requester.unit.as_ref(), &|unit| {
                    any(&self.unit, |pattern| matches(pattern, unit))
                }),
            ),
            (
                "--uid",
                match requester.uid {
                    None if !self.uid.is_empty() => Answer::Unclear,
                    uid => any_or_none(&self.uid, |wanted| uid == Some(*wanted)).into(),
                },
            ),
            ("--exe", text(!self.exe.is_empty(), requester.exe.as_ref(), &|exe| any(&self.exe, |path| is(path, exe)))),
        ];
        if answers.iter().any(|(_, answer)| *answer == Answer::No) {
            return false;
        }
        let mut is_clear = true;
        for (option, _) in answers.iter().filter(|(_, answer)| *answer == Answer::Unclear) {
            is_clear = false;
            let requests = unclear.0.entry(*option).or_default();
            *requests = requests.saturating_add(thinned.thinned);
        }
        is_clear
    }

    /// Whether something that went on from `first` to `last` went on between the bounds. What has no time was not.
    fn is_in_time(&self, last: Option<&str>, first: Option<&str>) -> bool {
        // Times in records sort as texts.
        let holds = |bound: &Option<String>, time: Option<&str>, is_within: fn(&str, &str) -> bool| match bound {
            None => true,
            Some(bound) => time.is_some_and(|time| is_within(time, bound)),
        };
        holds(&self.since, last, |time, bound| time >= bound) && holds(&self.until, first, |time, bound| time <= bound)
    }
}

fn any<T>(options: &[T], holds: impl Fn(&T) -> bool) -> bool {
    options.iter().any(holds)
}

/// An option that was not given holds.
fn any_or_none<T>(options: &[T], holds: impl Fn(&T) -> bool) -> bool {
    options.is_empty() || any(options, holds)
}

fn matches(pattern: &str, name: &Text) -> bool {
    pattern::matches(pattern.as_bytes(), name.as_bytes())
}

fn is(path: &OsString, text: &Text) -> bool {
    path.as_encoded_bytes() == text.as_bytes()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::audit::entry::samples::record;
    use crate::audit::thinning::Slot;
    use crate::model::{Module, ModuleState, NeededAs};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(line: &str) -> Filter {
        Line::try_parse_from(std::iter::once("log").chain(line.split(' ').filter(|word| !word.is_empty())))
            .unwrap()
            .filter
    }

    fn sample() -> Record {
        let mut record = record(b"iptable_nat", 7);
        record.time = Some("2026-11-20T12:00:00.123456Z".to_owned());
        record.modules = ["nf_defrag_ipv4", "nf_conntrack", "iptable_nat"]
            .map(|name| Module { name: Text::from(name), state: ModuleState::Absent, needed_as: NeededAs::Target })
            .to_vec();
        record
    }

    const EXE: &str = "--exe /usr/sbin/xtables-legacy-multi";

    #[test]
    fn records_are_judged_by_every_option() {
        let entry = Entry::Record(Box::new(sample()));
        for (line, admitted) in [
            ("", true),
            ("--module nf-defrag*", true),
            ("--module nf_nat", false),
            ("--module nf_nat --module iptable_nat", true),
            ("--request iptable-*", true),
            ("--request nf_conntrack", false),
            ("--verdict block", true),
            ("--verdict allow", false),
            ("--verdict allow --verdict block", true),
            ("--rule no-conntrack", true),
            ("--rule no_conntrack", false),
            ("--unit ssh.*", true),
            ("--unit cron.service", false),
            ("--uid 7", true),
            ("--uid 0", false),
            (EXE, true),
            ("--exe /bin/true", false),
            ("--since 2026-11-20T12:00:00.123456Z --until 2026-11-20T12:00:00.123456Z", true),
            ("--since 2026-11-20T12:00:00.123457Z", false),
            ("--until 2026-11-20", false),
            ("--since 2026-11-20 --until 2026-11-21", true),
            ("--uid 7 --unit ssh.service --request iptable_nat --verdict block", true),
            ("--uid 7 --unit ssh.service --request iptable_nat --verdict allow-sysctl", false),
        ] {
            let mut unclear = Unclear::default();
            assert_eq!(filter(line).admits(&entry, &mut unclear), admitted, "{line}");
            assert_eq!(unclear, Unclear::default());
        }
    }

    #[test]
    fn any_candidate_and_the_module_that_decided_count() {
        let mut record = sample();
        record.modules.clear();
        record.requester.candidates = vec![
            Task { uid: Some(1), unit: Some(Text::from("a.service")), ..Task::default() },
            Task { uid: Some(2), exe: Some(Text::from("/b")), ..Task::default() },
        ];
        record.requester.task = Task::default();
        record.time = None;
        let entry = Entry::Record(Box::new(record));
        for (line, admitted) in [
            ("--module nf_conntrack", true),
            ("--unit a.service", true),
            ("--uid 2", true),
            ("--exe /b", true),
            ("--uid 7", false),
            ("--since 1w", false),
            ("--until today", false),
        ] {
            assert_eq!(filter(line).admits(&entry, &mut Unclear::default()), admitted, "{line}");
        }
    }

    fn count(records: &[Record]) -> Entry {
        let mut slot = Slot::new(1, 0);
        records.iter().for_each(|record| slot.count(record));
        Entry::Thinned(Box::new(slot.thinned().unwrap()))
    }

    #[test]
    fn counts_are_judged_by_what_they_tell() {
        let mut later = sample();
        later.time = Some("2026-11-20T12:00:30.000000Z".to_owned());
        let same = count(&[sample(), later.clone()]);
        later.request.name = Text::from("nf_nat");
        later.requester.task.unit = Some(Text::from("cron.service"));
        let mixed = count(&[sample(), later]);
        let Entry::Thinned(former) = &same else { panic!() };
        let mut former = former.clone();
        (former.one_name, former.requester) = (false, crate::audit::who::Who::default());
        let former = Entry::Thinned(former);
        let (yes, no, unclear) = (Answer::Yes, Answer::No, Answer::Unclear);
        for (line, answers) in [
            ("", [yes, yes, yes]),
            ("--module nf_conntrack", [yes, unclear, unclear]),
            // It may be in the closure.
            ("--module iptable_nat", [unclear, unclear, unclear]),
            ("--request iptable_nat", [yes, unclear, unclear]),
            ("--request nf_nat", [no, unclear, unclear]),
            ("--verdict block", [yes, yes, yes]),
            ("--verdict allow", [no, no, no]),
            ("--rule no-conntrack", [yes, yes, yes]),
            ("--rule x", [no, no, no]),
            ("--unit ssh.service", [yes, unclear, unclear]),
            ("--unit x", [no, unclear, unclear]),
            ("--uid 7", [yes, yes, unclear]),
            ("--uid 0", [no, no, unclear]),
            (EXE, [yes, yes, unclear]),
            ("--exe /x", [no, no, unclear]),
            // What went on for a while is in a time if any of it is.
            ("--since 2026-11-20T12:00:20Z --until 2026-11-21", [yes, yes, yes]),
            ("--since 2026-11-20 --until 2026-11-20T12:00:10Z", [yes, yes, yes]),
            ("--since 2026-11-20T12:00:31Z", [no, no, no]),
            ("--until 2026-11-20T12:00:00Z", [no, no, no]),
            // What is out by one option need not be judged by another.
            ("--unit ssh.service --verdict allow", [no, no, no]),
        ] {
            for (entry, answer) in [&same, &mixed, &former].into_iter().zip(answers) {
                let mut left_out = Unclear::default();
                assert_eq!(filter(line).admits(entry, &mut left_out), answer == yes, "{line} {entry:?}");
                assert_eq!(left_out.0.values().sum::<u64>(), if answer == unclear { 2 } else { 0 }, "{line} {entry:?}");
            }
        }
        let mut left_out = Unclear::default();
        for _ in 0..2 {
            filter("--unit x --uid 7").admits(&former, &mut left_out);
        }
        let notes: Vec<String> = left_out.notes().collect();
        assert!(notes.len() == 2 && notes.iter().all(|note| note.starts_with("4 requests")), "{notes:?}");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_what_can() {
        for (line, remedy) in [
            ("--module [a", "close the set"),
            ("--request a\\", "write `\\\\`"),
            ("--verdict deny", "allow-sysctl"),
            ("--uid root", "invalid digit"),
            ("--since whenever", "yesterday"),
            ("--until 2x", "15m"),
        ] {
            let words = std::iter::once("log").chain(line.split(' '));
            let error = Line::try_parse_from(words).err().unwrap();
            assert!(error.exit_code() == 2 && error.to_string().contains(remedy), "{line}: {error}");
        }
        assert!(filter("--since 2026-11-21 --until 2026-11-20").contradiction().is_some());
        assert!(filter("--since 2026-11-20 --until 2026-11-20").contradiction().is_none());
    }
}

//! What a policy would have done with requests that are past: only where that is something else than was done.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::audit::Entry;
use crate::audit::who::Who;
use crate::model::{Action, Closure, Files, ModuleState, Parent, Record, Requester, Task};
use crate::policy::{Policy, decide};
use crate::text::Text;

use super::tally::Day;

/// So many changes are told apart; of those beyond only the number is kept.
const CHANGES: usize = 20_000;
/// So many hosts are named for each.
const HOSTS: usize = 4;

/// Requests for which something else would be done, and what they have in common. As one object of JSON it is
/// followed by the keys of [`Sum`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// What would be done: `block` or `allow`.
    pub verdict: &'static str,
    /// What was asked for.
    pub request: Text,
    /// The best name there is for who asked, and
    pub who: Option<Text>,
    /// what kind of name it is: `unit`, `container`, `exe`, `comm`, `unknown`.
    pub who_is: &'static str,
    /// Real user id.
    pub uid: Option<u32>,
    /// The rule of the policy that would decide; none: its default.
    pub rule: Option<String>,
    /// Where it stands, or `default`.
    pub source: String,
    /// The module that decides.
    pub module: Option<Text>,
    /// The rule that decided then.
    pub rule_then: Option<Text>,
}

/// What was counted of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests.
    pub count: u64,
    /// The days of the first and the last.
    pub first: Option<String>,
    /// See `first`.
    pub last: Option<String>,
    /// Hosts, the first few in their order.
    pub hosts: BTreeSet<Text>,
}

/// All that would change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// By what they have in common.
    pub changes: BTreeMap<Change, Sum>,
    /// Records that were judged.
    pub judged: u64,
    /// Requests that were counted instead of written: what they would have loaded nobody knows.
    pub counted: u64,
    /// Lines that are no records.
    pub foreign: u64,
    /// Records with a time that is yet to come.
    pub early: u64,
    /// Requests of changes that there was no room for.
    pub left_out: u64,
}

/// Judges past requests by a policy; one for each thread.
pub struct Judge<'a> {
    policy: &'a Policy,
    paths: Vec<&'a str>,
    latest: Day,
    changes: Changes,
}

impl<'a> Judge<'a> {
    /// Nothing yet. A day after `latest` is not believed.
    pub fn new(policy: &'a Policy, latest: Day) -> Judge<'a> {
        Judge { policy, paths: policy.executables(), latest, changes: Changes::default() }
    }

    /// Takes whole lines.
    pub fn read(&mut self, lines: &[u8]) {
        super::lines(lines, |line| match Entry::parse(line) {
            Entry::Record(record) if record.outcome.is_some() => self.judge(*record),
            Entry::Thinned(thinned) => self.changes.counted = self.changes.counted.saturating_add(thinned.thinned),
            Entry::Record(_) | Entry::Foreign(_) => self.changes.foreign = self.changes.foreign.saturating_add(1),
        });
    }

    /// All that was read by `judges` together.
    pub fn together(judges: impl IntoIterator<Item = Judge<'a>>) -> Changes {
        let mut all = Changes::default();
        for Changes { changes, judged, counted, foreign, early, left_out } in
            judges.into_iter().map(|judge| judge.changes)
        {
            all.judged = all.judged.saturating_add(judged);
            all.counted = all.counted.saturating_add(counted);
            all.foreign = all.foreign.saturating_add(foreign);
            all.early = all.early.saturating_add(early);
            all.left_out = all.left_out.saturating_add(left_out);
            changes.into_iter().for_each(|(change, sum)| all.add(change, sum));
        }
        all
    }

    /// Judges by what the record says of the closure, as if nothing of it had been live: what was may be absent the next
    /// time.
    fn judge(&mut self, record: Record) {
        self.changes.judged = self.changes.judged.saturating_add(1);
        let Record { time, host, request, requester, verdict: then, mut modules, .. } = record;
        let day = time.as_deref().and_then(Day::of);
        self.changes.early = self.changes.early.saturating_add(u64::from(day > Some(self.latest)));
        for module in modules.iter_mut().filter(|module| module.state == ModuleState::Live) {
            module.state = ModuleState::Absent;
        }
        let closure = Closure { modules, ..Closure::default() };
        let requester = self.remembered(requester);
        let verdict = decide(self.policy, &request, &closure, &requester);
        let (was_blocked, is_blocked) =
            (then.action == Action::Block && then.enforced, verdict.carried_out == Action::Block);
        // What no policy refused, none permits.
        if was_blocked == is_blocked || (was_blocked && then.rule.is_none() && then.module.is_none()) {
            return;
        }
        let Who { uid, exe, unit, container, comm } = Who::of(&requester);
        let names = [("unit", unit), ("container", container), ("exe", exe), ("comm", comm)];
        let name = names.into_iter().find_map(|(kind, name)| Some((kind, name?)));
        let (who_is, who) = name.map_or(("unknown", None), |(kind, name)| (kind, Some(name)));
        let change = Change {
            verdict: if is_blocked { "block" } else { "allow" },
            request: request.name.short(128),
            who,
            who_is,
            uid,
            rule: verdict.rule,
            source: verdict.source,
            module: verdict.module,
            rule_then: then.rule.map(|rule| Text::from(rule.as_str())),
        };
        let day = day.filter(|day| *day <= self.latest).map(|day| day.to_string());
        let sum = Sum { count: 1, first: day.clone(), last: day, hosts: host.into_iter().collect() };
        self.changes.add(change, sum);
    }

    /// The requester with what rules may ask and no record tells. An executable is taken for the file of the host that
    /// its path names, unless it is a container's.
    fn remembered(&self, mut requester: Requester) -> Requester {
        let Requester { task, candidates, .. } = &mut requester;
        for task in std::iter::once(task).chain(candidates) {
            let Task { euid, exe, container, parents, known, .. } = task;
            // Of one who was not looked at there is what the recorder knows, which is another user id alone.
            let is_read = euid.is_some();
            (known.unit, known.container, known.auid) = (is_read, is_read, is_read);
            known.exe = self.files(exe.iter(), exe.is_some());
            if container.is_some() {
                known.exe.are.clear();
            }
            let reaches_the_top = parents.last().is_some_and(|parent| parent.pid <= 2);
            known.ancestors = self.files(parents.iter().filter_map(|Parent { exe, .. }| exe.as_ref()), reaches_the_top);
        }
        requester
    }

    fn files<'b>(&self, exes: impl Iterator<Item = &'b Text>, complete: bool) -> Files {
        let path = |exe: &'b Text| exe.as_bytes().strip_suffix(b" (deleted)").unwrap_or(exe.as_bytes());
        let named = |exe| self.paths.iter().find(|named| named.as_bytes() == path(exe)).map(|path| (*path).to_owned());
        Files { are: exes.filter_map(named).collect(), complete }
    }
}

impl Changes {
    fn add(&mut self, change: Change, sum: Sum) {
        let is_full = self.changes.len() >= CHANGES;
        if is_full && !self.changes.contains_key(&change) {
            self.left_out = self.left_out.saturating_add(sum.count);
            return;
        }
        let Sum { count, first, last, hosts } = sum;
        let ours = self.changes.entry(change).or_default();
        ours.count = ours.count.saturating_add(count);
        ours.first = [ours.first.take(), first].into_iter().flatten().min();
        ours.last = ours.last.take().max(last);
        ours.hosts.extend(hosts);
        while ours.hosts.len() > HOSTS {
            ours.hosts.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, parse};

    fn line(verdict: &str, unit: &str, exe: &str) -> String {
        format!(
            r#"{{"v":1,"time":"2026-11-20T12:00:00.000000Z","host":"r1","boot_id":null,"kernel":null,
            "request":{{"name":"x-alias","caller":"kernel"}},
            "requester":{{"confidence":"exact","found_by":"recorder","pid":7,"tid":7,"unit":{unit},"exe":"{exe}",
            "uid":0,"parents":[{{"pid":1,"exe":"/sbin/init"}}]}},
            "verdict":{verdict},
            "modules":[{{"name":"x","state":"absent","needed_as":"target"}}],
            "outcome":{{"status":0,"duration_us":1,"loaded":[]}}}}"#
        )
        .replace('\n', "")
            + "\n"
    }

    fn latest() -> Day {
        Day::of("2026-11-30T").unwrap()
    }

    const ALLOWED: &str = r#"{"action":"allow","enforced":true,"source":"default"}"#;
    const BLOCKED: &str = r#"{"action":"block","enforced":true,"rule":"old","source":"p:1","module":"x"}"#;
    const WATCHED: &str = r#"{"action":"block","enforced":false,"rule":"old","source":"p:1","module":"x"}"#;

    #[test]
    fn only_what_would_change_is_told_and_of_whom() {
        let policy = "version = 1\n[defaults]\naction = \"block\"\n[[rule]]\nid = \"r\"\nmodules = [\"x\"]\n\
                      requester = { exe = \"/usr/sbin/nft\", ancestor = \"/sbin/init\" }\naction = \"allow\"\n";
        let policy = parse(&[Source::new("p.toml", policy.into())]).unwrap();
        let nft = "/usr/sbin/nft (deleted)";
        let change = |verdict: &str, exe: &str| {
            let mut judge = Judge::new(&policy, latest());
            judge.read((line(verdict, "null", exe) + "cut o").as_bytes());
            let changes = Judge::together([judge]);
            assert_eq!((changes.judged, changes.foreign), (1, 1));
            changes.changes.into_iter().next()
        };
        assert_eq!(change(ALLOWED, nft), None);
        assert_eq!(change(BLOCKED, "/usr/bin/other"), None);
        let (blocked, sum) = change(WATCHED, "/usr/bin/other").unwrap();
        assert_eq!((blocked.verdict, blocked.who_is, blocked.rule), ("block", "exe", None));
        assert_eq!((blocked.who, blocked.uid), (Some(Text::from("/usr/bin/other")), Some(0)));
        assert_eq!((sum.count, sum.first.as_deref()), (1, Some("2026-11-20")));
        let (permitted, _) = change(BLOCKED, nft).unwrap();
        assert_eq!((permitted.verdict, permitted.rule.as_deref()), ("allow", Some("r")));
        assert_eq!(permitted.rule_then, Some(Text::from("old")));
    }

    #[test]
    fn of_whom_the_recorder_alone_knew_no_unit_is_known() {
        let policy = "version = 1\n[defaults]\nunknown_requester = \"block\"\n[[rule]]\nid = \"r\"\nmodules = [\"x\"]\n\
                      requester = { unit = \"bad.service\" }\naction = \"block\"\n";
        let policy = parse(&[Source::new("p.toml", policy.into())]).unwrap();
        let recorded = line(ALLOWED, "null", "/x");
        for (line, changes) in [(recorded.replace("\"uid\":0,", "\"uid\":0,\"euid\":0,"), 0), (recorded, 1)] {
            let mut judge = Judge::new(&policy, latest());
            judge.read(line.as_bytes());
            assert_eq!(Judge::together([judge]).changes.len(), changes, "{line}");
        }
    }

    #[test]
    fn changes_are_summed_up_in_any_order() {
        let policy = parse(&[Source::new("p", b"version = 1\n[defaults]\naction = \"block\"\n".to_vec())]).unwrap();
        let mut judges = [Judge::new(&policy, latest()), Judge::new(&policy, latest())];
        let [one, other] = &mut judges;
        one.read(line(ALLOWED, "\"a.service\"", "/x").repeat(3).as_bytes());
        other.read(line(ALLOWED, "\"a.service\"", "/x").replace("11-20", "11-21").as_bytes());
        let changes = Judge::together(judges).changes;
        let (change, sum) = changes.first_key_value().unwrap();
        assert_eq!((changes.len(), change.who_is, sum.count), (1, "unit", 4));
        assert_eq!((sum.first.as_deref(), sum.last.as_deref()), (Some("2026-11-20"), Some("2026-11-21")));
    }
}

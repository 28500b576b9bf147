//! Entries as lines for people: when, what was decided, what was asked for, by whom, why, what came of it.
#![forbid(unsafe_code)]

use crate::audit::Thinned;
use crate::audit::who::Who;
use crate::cli::terminal::{Terminal, Tone};
use crate::model::{Action, Change, Confidence, Namespace, Record, Requester, Task, Value, Verdict};
use crate::text::Text;

/// A record's line, without its end.
pub fn record(record: &Record, out: Terminal) -> String {
    // Our own words, but a file of records may hold anything.
    let time = shown(record.time.as_deref().unwrap_or("-"));
    let name = &record.request.name;
    let who = who(&record.requester);
    let mut line = format!("{time} {} {name}  by {who}{}", painted(&record.verdict, out), why(&record.verdict));
    let loaded = record.outcome.as_ref().map(|outcome| outcome.loaded.as_slice()).unwrap_or_default();
    if !loaded.is_empty() {
        line += "  loaded";
        for module in loaded {
            line += &format!(" {module}");
        }
    }
    for change in record.outcome.iter().flat_map(|outcome| &outcome.sysctl) {
        line += &format!("  {}", self::change(change));
    }
    for failure in &record.failures {
        line += &format!("  failure: {}", shown(failure));
    }
    line
}

/// A count's line, without its end.
pub fn thinned(thinned: &Thinned, out: Terminal) -> String {
    let Thinned { time, thinned, since, request, one_name, verdict, requester, .. } = thinned;
    let likeness = if *one_name { "" } else { ", for this name or others," };
    let mut line = format!(
        "{} {} {}  and {thinned} more like it{likeness} since {}",
        shown(time),
        painted(verdict, out),
        request.name,
        shown(since)
    );
    if *requester != Who::default() {
        line += "  by";
        let Who { uid, exe, unit, container, comm } = requester;
        for text in [comm, exe].into_iter().flatten() {
            line += &format!(" {text}");
        }
        line += &uid_unit_container(*uid, unit.as_ref(), container.as_ref());
    }
    line + &why(verdict)
}

/// The verdict in a word. In parentheses stands what is only recorded.
pub fn word(action: Action, enforced: bool) -> &'static str {
    match action {
        Action::Block if enforced => "BLOCK",
        Action::Block => "(block)",
        Action::Allow => "allow",
        Action::AllowSysctl => "allow+",
    }
}

fn painted(verdict: &Verdict, out: Terminal) -> String {
    let word = word(verdict.action, verdict.enforced);
    out.paint(Tone::of(verdict.action, verdict.enforced), &format!("{word:<7}"))
}

/// Any text in the one printable form that users' texts have.
pub fn shown(text: &str) -> Text {
    Text::from(text)
}

/// A setting that was made, or tried.
pub fn change(change: &Change) -> String {
    let value = |value: &Option<Value>| value.as_ref().map_or("-".into(), ToString::to_string);
    format!("{} {} -> {}", shown(&change.key), value(&change.before), value(&change.after))
}

fn why(verdict: &Verdict) -> String {
    match (verdict.rule.as_deref().map(shown), &verdict.module) {
        (Some(rule), Some(module)) => format!("  rule {rule} for {module}"),
        (Some(rule), None) => format!("  rule {rule}"),
        (None, _) => String::new(),
    }
}

/// How well we know who asked, and what we know.
pub fn who(requester: &Requester) -> String {
    let mut text = match requester.confidence {
        Confidence::Unknown => "nobody known".to_owned(),
        Confidence::Ambiguous => {
            let all: Vec<String> = requester.candidates.iter().map(task).collect();
            format!("one of {}", all.join(", "))
        }
        Confidence::Likely => format!("probably {}", task(&requester.task)),
        Confidence::Exact | Confidence::Assumed => task(&requester.task),
    };
    if let Some(place) = &requester.call_site {
        text += &format!(" in {place}");
    }
    text
}

fn task(task: &Task) -> String {
    let comm = task.comm.as_ref().map_or("?".into(), ToString::to_string);
    let pid = task.pid.map_or("?".into(), |pid| pid.to_string());
    let mut text = format!("{comm}[{pid}]");
    if let Some(exe) = &task.exe {
        text += &format!(" {exe}");
    }
    text += &uid_unit_container(task.uid, task.unit.as_ref(), task.container.as_ref());
    // The host's own are the rule, and would only make every line longer.
    let others = [("user", task.userns), ("mount", task.mntns), ("network", task.netns)];
    let others: Vec<&str> =
        others.into_iter().filter(|(_, space)| *space == Some(Namespace::Other)).map(|(name, _)| name).collect();
    if !others.is_empty() {
        text += &format!(" own {} namespace", others.join("+"));
    }
    text
}

fn uid_unit_container(uid: Option<u32>, unit: Option<&Text>, container: Option<&Text>) -> String {
    let mut text = uid.map_or_else(String::new, |uid| format!(" uid {uid}"));
    if let Some(unit) = unit {
        text += &format!(" {unit}");
    }
    if let Some(container) = container {
        text += &format!(" container {container}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::samples::{self, HOSTILE};
    use crate::audit::thinning::Slot;
    use crate::model::Outcome;

    fn sample(name: &[u8]) -> Record {
        let mut record = samples::record(name, 7);
        record.time = Some("T1".to_owned());
        record.requester.task.comm = Some(Text::from("iptables"));
        record
    }

    const START: &str = "T1 BLOCK   iptable_nat  by ";
    const END: &str = "  rule no-conntrack for nf_conntrack";

    #[test]
    fn a_line_tells_how_well_we_know_who() {
        let one = "iptables[101] /usr/sbin/xtables-legacy-multi uid 7 ssh.service";
        for (confidence, who) in [
            (Confidence::Exact, one.to_owned()),
            (Confidence::Likely, format!("probably {one}")),
            (Confidence::Ambiguous, format!("one of {one}, {one}")),
            (Confidence::Unknown, "nobody known".to_owned()),
        ] {
            let mut sample = sample(b"iptable_nat");
            sample.requester.confidence = confidence;
            sample.requester.candidates = vec![sample.requester.task.clone(); 2];
            assert_eq!(record(&sample, Terminal::default()), format!("{START}{who}{END}"));
        }
    }

    #[test]
    fn what_is_not_the_hosts_own_is_told() {
        let mut sample = sample(b"iptable_nat");
        let requester = &mut sample.requester;
        requester.call_site = Some(Text::from("__sock_create+0x1a2/0x2f0"));
        let task = &mut requester.task;
        (task.unit, task.exe, task.container) = (None, None, Some(Text::from("4711")));
        (task.userns, task.mntns, task.netns) = (Some(Namespace::Other), Some(Namespace::Host), Some(Namespace::Other));
        let who = "iptables[101] uid 7 container 4711 own user+network namespace in __sock_create+0x1a2/0x2f0";
        assert_eq!(record(&sample, Terminal::default()), format!("{START}{who}{END}"));
    }

    #[test]
    fn outcome_and_failures_end_the_line() {
        let mut sample = sample(b"x");
        let change = |after| Change { key: "a.b".to_owned(), before: Some(Value::Number(1)), after, error: None };
        sample.outcome = Some(Outcome {
            loaded: vec![Text::from("one"), Text::from("two")],
            sysctl: vec![change(Some(Value::Number(2))), change(None)],
            ..Outcome::default()
        });
        sample.failures = vec!["no\nway".to_owned()];
        let line = record(&sample, Terminal::default());
        assert!(line.ends_with("  loaded one two  a.b 1 -> 2  a.b 1 -> -  failure: no\\x0away"), "{line}");
    }

    #[test]
    fn a_count_tells_what_holds_for_all() {
        let mut slot = Slot::new(1, 0);
        slot.count(&sample(b"iptable_nat"));
        let line = |slot: &Slot| thinned(&slot.thinned().unwrap(), Terminal::default());
        let by = "  by /usr/sbin/xtables-legacy-multi uid 7";
        assert_eq!(line(&slot), format!("T1 BLOCK   iptable_nat  and 1 more like it since T1{by} ssh.service{END}"));
        let mut other = sample(b"nf_nat");
        other.requester.task.unit = None;
        slot.count(&other);
        assert_eq!(
            line(&slot),
            format!("T1 BLOCK   nf_nat  and 2 more like it, for this name or others, since T1{by}{END}")
        );
    }

    #[test]
    fn whatever_the_texts_hold_it_is_one_line() {
        for name in HOSTILE {
            let mut sample = sample(name);
            let text = Some(Text::from(name));
            let string = Some(String::from_utf8_lossy(name).into_owned());
            let task = &mut sample.requester.task;
            (task.comm, task.exe, task.unit, task.container) = (text.clone(), text.clone(), text.clone(), text.clone());
            (sample.requester.call_site, sample.verdict.module) = (text.clone(), text);
            (sample.time, sample.verdict.rule) = (string.clone(), string.clone());
            let mut slot = Slot::new(1, 0);
            slot.count(&sample);
            for line in [record(&sample, Terminal::default()), thinned(&slot.thinned().unwrap(), Terminal::default())] {
                assert!(line.chars().all(|c| !c.is_control() && c != '\u{2028}'), "{line:?}");
            }
        }
    }
}

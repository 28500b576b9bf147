//! Records: one line, whatever is in it, and what is read back is what was written.
//!
//! Input: texts that others chose, each ended by NUL; the rest is a line of a log that was found somewhere.

use modprobe_guard::audit::entry::{self, Entry, Thinned};
use modprobe_guard::audit::line;
use modprobe_guard::audit::who::Who;
use modprobe_guard::model::{
    Action, Caller, Change, Confidence, Module, ModuleState, NeededAs, Outcome, Parent, Record, Request, Requester,
    Setting, Task, Value, Verdict,
};
use modprobe_guard::text::Text;

pub fn check(mut data: &[u8]) {
    let texts: [&[u8]; 6] = std::array::from_fn(|_| super::until_nul(&mut data));
    let record = record(&texts);
    let json = entry::json(&record).unwrap();
    one_line(&json);
    let Entry::Record(back) = Entry::parse(json.trim_ascii_end()) else { panic!("no record: {record:?}") };
    assert_eq!(*back, without_what_is_not_told(&record));
    let thinned = Thinned {
        v: 1,
        time: "2026-11-20T12:00:01.000000Z".into(),
        thinned: texts[0].len() as u64,
        since: "2026-11-20T12:00:00.000000Z".into(),
        kind: "1f".into(),
        request: record.request.clone(),
        one_name: texts[0].is_empty(),
        verdict: back.verdict.clone(),
        requester: Who::of(&record.requester),
    };
    let json = entry::json(&thinned).unwrap();
    one_line(&json);
    assert_eq!(Entry::parse(json.trim_ascii_end()), Entry::Thinned(Box::new(thinned.clone())));

    // The line for syslog: short, and nobody adds a word to it.
    let plain = line::of_record(&self::record(&[b"x"; 6]));
    for said in [line::of_record(&record), line::of_thinned(&thinned)] {
        assert!(said.len() <= line::MAX && super::is_printable(&said), "{said:?}");
    }
    let keys = |said: &str| -> Vec<String> {
        let tokens = said.split(" failure=").next().unwrap().split(' ');
        tokens.map(|token| token.split('=').next().unwrap().to_owned()).collect()
    };
    let (ours, usual) = (keys(&line::of_record(&record)), keys(&plain));
    assert!(ours.iter().all(|key| usual.contains(key)), "{ours:?}");
    assert!(line::of_message(&String::from_utf8_lossy(texts[0])).len() <= line::MAX);

    // A line from elsewhere is what it says or foreign; written again it says the same.
    match Entry::parse(data) {
        Entry::Record(found) => {
            let json = entry::json(&*found).unwrap();
            one_line(&json);
            assert_eq!(Entry::parse(json.trim_ascii_end()), Entry::Record(found));
        }
        Entry::Thinned(found) => {
            let json = entry::json(&*found).unwrap();
            one_line(&json);
            assert_eq!(Entry::parse(json.trim_ascii_end()), Entry::Thinned(found));
        }
        Entry::Foreign(text) => assert_eq!(text, Text::from(data)),
    }
}

fn one_line(json: &[u8]) {
    let text = std::str::from_utf8(json.strip_suffix(b"\n").unwrap()).unwrap();
    assert!(super::is_printable(text), "{text:?}");
}

fn record(texts: &[&[u8]; 6]) -> Record {
    let [name, comm, exe, argument, unit, words] = texts.map(Text::from);
    let words = words.to_string();
    let task = Task {
        pid: Some(101),
        comm: Some(comm.clone()),
        exe: Some(exe.clone()),
        cmdline: Some(vec![argument.clone(), name.clone()]),
        uid: Some(1000),
        unit: Some(unit.clone()),
        container: Some(comm.clone()),
        parents: vec![Parent { pid: 90, comm: Some(argument.clone()), exe: Some(exe) }],
        ..Task::default()
    };
    let candidates = if name.as_bytes().is_empty() { vec![task.clone(), Task::default()] } else { Vec::new() };
    let value = Value::Text(argument);
    Record {
        v: 1,
        time: Some("2026-11-20T12:00:00.123456Z".into()),
        host: Some(unit.clone()),
        boot_id: None,
        kernel: Some(comm.clone()),
        request: Request { name: name.clone(), caller: Caller::Kernel },
        requester: Requester {
            confidence: Confidence::Exact,
            call_site: Some(unit),
            task,
            candidates,
            ..Requester::unknown()
        },
        verdict: Verdict {
            action: Action::Block,
            enforced: true,
            rule: Some(words.clone()),
            source: words.clone(),
            module: Some(comm.clone()),
            reason: Some(words.clone()),
            carried_out: Action::Block,
        },
        modules: vec![Module { name: name.clone(), state: ModuleState::Live, needed_as: NeededAs::Softdep }],
        sysctl: vec![Setting { key: words.clone(), value: value.clone(), source: words.clone(), formula: None }],
        failures: vec![words.clone()],
        shortened: false,
        outcome: Some(Outcome {
            status: 1,
            duration_us: 412,
            loaded: vec![name],
            sysctl: vec![Change { key: words, before: Some(value), after: Some(Value::Number(-1)), error: None }],
        }),
    }
}

/// What rules may ask, and what happened besides the verdict, stands in no record.
fn without_what_is_not_told(record: &Record) -> Record {
    Record { verdict: Verdict { carried_out: Action::Allow, ..record.verdict.clone() }, ..record.clone() }
}

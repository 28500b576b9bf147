//! `guard log`: the records, of this host or from files.

use std::io::Write;
use std::path::PathBuf;

use super::{Common, exit};
use crate::audit::read::{self, Entries};
use crate::audit::{self, Entry, Thinned};
use crate::host::{Host, LOG_DIR, RUN};
use crate::model::{Action, Confidence, Record, Requester, Task, Verdict};

/// Prints the records oldest first, or with `flush` moves those in memory to disk.
pub fn run(host: &Host, common: &Common, files: &[PathBuf], flush: bool) -> u8 {
    if flush {
        return match audit::flush(host) {
            Ok(_) => exit::GOOD,
            Err(error) => {
                eprintln!("guard: {error}");
                exit::BAD
            }
        };
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let entries = match entries(host, files) {
        Ok(entries) => entries,
        Err(error) if files.is_empty() => {
            eprintln!("guard: {RUN}, {LOG_DIR}: read: {error}; records are for root: sudo guard log");
            return exit::CANNOT_TELL;
        }
        Err(error) => {
            eprintln!("guard: {error}");
            return exit::CANNOT_TELL;
        }
    };
    let (mut foreign, mut status) = (0_u64, exit::GOOD);
    for entry in entries {
        let line = match entry {
            Ok(Entry::Foreign(_)) => {
                foreign += 1;
                continue;
            }
            Ok(entry) if common.json => json(&entry),
            Ok(Entry::Record(record)) => people(&record),
            Ok(Entry::Thinned(thinned)) => people_thinned(&thinned),
            Err(error) => {
                eprintln!("guard: {error}");
                status = exit::BAD;
                continue;
            }
        };
        if writeln!(out, "{line}").is_err() {
            return exit::BAD;
        }
    }
    if foreign > 0 {
        eprintln!("guard: {foreign} lines are no records (cut off, or somebody else's)");
    }
    if out.flush().is_err() { exit::BAD } else { status }
}

/// Of this host, or of `files`.
fn entries(host: &Host, files: &[PathBuf]) -> std::io::Result<Entries> {
    if files.is_empty() {
        return read::of_host(host);
    }
    let open = |path: &PathBuf| -> std::io::Result<Box<dyn std::io::Read>> {
        let file = std::fs::File::open(path);
        Ok(Box::new(
            file.map_err(|error| std::io::Error::new(error.kind(), format!("{}: open: {error}", path.display())))?,
        ))
    };
    Ok(read::of_readers(files.iter().map(open).collect::<Result<Vec<_>, _>>()?))
}

fn json(entry: &Entry) -> String {
    let line = match entry {
        Entry::Record(record) => serde_json::to_string(record),
        Entry::Thinned(thinned) => serde_json::to_string(thinned),
        Entry::Foreign(_) => Ok(String::new()),
    };
    line.unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
}

/// One line for people: when, verdict, what was asked for, by whom, why.
fn people(record: &Record) -> String {
    let time = record.time.as_deref().unwrap_or("-");
    let name = &record.request.name;
    let who = who(&record.requester);
    let loaded = record.outcome.as_ref().map(|outcome| outcome.loaded.as_slice()).unwrap_or_default();
    let mut line = format!("{time} {:<7} {name}  by {who}{}", word(&record.verdict), why(&record.verdict));
    if !loaded.is_empty() {
        line += "  loaded";
        for module in loaded {
            line += &format!(" {module}");
        }
    }
    for change in record.outcome.iter().flat_map(|outcome| &outcome.sysctl) {
        let value = |value: &Option<crate::model::Value>| value.as_ref().map_or("-".into(), ToString::to_string);
        line += &format!("  {} {} -> {}", change.key, value(&change.before), value(&change.after));
    }
    for failure in &record.failures {
        line += &format!("  failure: {failure}");
    }
    line
}

fn people_thinned(thinned: &Thinned) -> String {
    let Thinned { time, thinned, since, request, verdict, .. } = thinned;
    format!("{time} {:<7} {}  and {thinned} more like it since {since}{}", word(verdict), request.name, why(verdict))
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict.action {
        Action::Block if verdict.enforced => "BLOCK",
        Action::Block => "(block)",
        Action::Allow => "allow",
        Action::AllowSysctl => "allow+",
    }
}

fn why(verdict: &Verdict) -> String {
    match (&verdict.rule, &verdict.module) {
        (Some(rule), Some(module)) => format!("  rule {rule} for {module}"),
        (Some(rule), None) => format!("  rule {rule}"),
        (None, _) => String::new(),
    }
}

fn who(requester: &Requester) -> String {
    match requester.confidence {
        Confidence::Unknown => "nobody known".to_owned(),
        Confidence::Ambiguous => {
            let all: Vec<String> = requester.candidates.iter().map(one).collect();
            format!("one of {}", all.join(", "))
        }
        Confidence::Likely => format!("probably {}", one(&requester.task)),
        Confidence::Exact | Confidence::Assumed => one(&requester.task),
    }
}

fn one(task: &Task) -> String {
    let comm = task.comm.as_ref().map_or("?".into(), ToString::to_string);
    let pid = task.pid.map_or("?".into(), |pid| pid.to_string());
    let mut text = format!("{comm}[{pid}]");
    for (label, value) in
        [("", task.exe.as_ref().map(ToString::to_string)), ("uid ", task.uid.map(|uid| uid.to_string()))]
    {
        if let Some(value) = value {
            text += &format!(" {label}{value}");
        }
    }
    if let Some(unit) = &task.unit {
        text += &format!(" {unit}");
    }
    text
}

//! What our own records tell of a module.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Case;
use crate::audit::{Entry, entries_of_host};
use crate::model::{Action, Record, Task};

/// How long the records are looked through: there may be millions.
const PATIENCE: Duration = Duration::from_millis(250);

/// The last load that brought `module` in, as evidence.
pub fn last_load(case: &Case, module: &[u8]) -> Option<String> {
    last(case, |record| came_with(record, module)).map(|record| told(&record, "brought it in"))
}

/// When that was, seconds since boot; `None` if it was not since then, or nobody knows.
pub fn loaded_at(case: &Case, module: &[u8]) -> Option<f64> {
    let stat = case.host.read("/proc/stat", 4 << 20).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let booted: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let record = last(case, |record| came_with(record, module))?;
    let time = OffsetDateTime::parse(record.time.as_deref()?, &Rfc3339).ok()?;
    Some(time.unix_timestamp() as f64 - booted).filter(|seconds| *seconds >= 0.0)
}

fn came_with(record: &Record, module: &[u8]) -> bool {
    record.outcome.as_ref().is_some_and(|outcome| outcome.loaded.iter().any(|name| name.as_bytes() == module))
}

/// The last request that was blocked on its account, as evidence.
pub fn last_block(case: &Case) -> Option<String> {
    let is_it = |record: &Record| {
        let about = record.modules.iter().any(|module| module.name.as_bytes() == case.module);
        let target = record.request.name.as_bytes() == case.module;
        record.verdict.action == Action::Block && record.verdict.enforced && (about || target)
    };
    last(case, is_it).map(|record| told(&record, "was blocked"))
}

/// The last record that `is_it`.
fn last(case: &Case, is_it: impl Fn(&Record) -> bool) -> Option<Record> {
    let began = Instant::now();
    let entries = entries_of_host(case.host).ok()?;
    let mut found = None;
    for entry in entries.flatten() {
        if let Entry::Record(record) = entry
            && is_it(&record)
        {
            found = Some(*record);
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    found
}

fn told(record: &Record, what: &str) -> String {
    let time = record.time.as_deref().unwrap_or("at some time");
    format!("record of {time}: {} {what}, asked for by {}", record.request.name, who(&record.requester.task))
}

fn who(task: &Task) -> String {
    let text = |text: &Option<crate::text::Text>| text.as_ref().map(ToString::to_string);
    let Some(name) = text(&task.exe).or_else(|| text(&task.comm)) else { return "somebody unknown".to_owned() };
    let pid = task.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let user = task.uid.map_or_else(String::new, |uid| format!(", user {uid}"));
    let unit = text(&task.unit).map_or_else(String::new, |unit| format!(", {unit}"));
    format!("{name}{pid}{user}{unit}")
}

//! `guard metrics`: numbers for Prometheus, as node_exporter's textfile collector takes them.

mod count;
mod series;
mod state;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::{Common, exit, status};
use crate::audit::spool::SPOOL;
use crate::audit::store::FLUSHING;
use crate::host::{Directory, Host, LOG_DIR, RUN, STATE_DIR};
use crate::model::Action;
use crate::requester::recorder;
use series::{Series, Values};
use state::{State, Store};

/// So many rules of the policy have a series before a request was decided by them.
const RULES: usize = 100;

/// What `guard metrics` can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Write to FILE, whole or not at all, readable for all; node_exporter reads what ends in .prom; `-` is standard
    /// output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints the numbers, or writes them to a file.
pub fn run(host: &Host, common: &Common, options: &Options) -> u8 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let file = options.output.as_deref().filter(|file| *file != Path::new("-"));
    let mut unread = Vec::new();
    let store = Store::open(host);
    let mut values = counted(host, &store, time, &mut unread);
    // Who only looks needs no right to write; for a series that goes on there has to be a state.
    if let Err(error) = &store {
        let told = format!("{}: open: {error}; counters begin anew with every run", host.shown(STATE_DIR).display());
        if file.is_some() { unread.push(told) } else { complain!("guard: {told}") }
    }
    now(host, &mut values);
    values.set("run_timestamp_seconds", &[], time);
    values.set("unreadable_parts", &[], unread.len() as u64);
    let text = if common.json { values.json() } else { values.text() };
    let written = match file {
        None => io::stdout().write_all(text.as_bytes()),
        Some(file) => replace(file, text.as_bytes()),
    };
    if let Some(file) = file.filter(|file| written.is_ok() && file.extension().is_none_or(|end| end != "prom")) {
        complain!("guard: {}: written; node_exporter reads only what ends in .prom", file.display());
    }
    let shown = file.unwrap_or(Path::new("standard output"));
    unread.extend(written.err().map(|error| format!("{}: write: {error}", shown.display())));
    unread.iter().for_each(|line| complain!("guard: {line}"));
    if unread.is_empty() { exit::GOOD } else { exit::BAD }
}

/// What the record adds up to; what of it could not be read is told in `unread`.
fn counted(host: &Host, store: &io::Result<Store>, time: u64, unread: &mut Vec<String>) -> Values {
    let shown = |path: &str| host.shown(path).display().to_string();
    let mut state = match store.as_ref().map(Store::read) {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            unread.push(format!("{}: read: {error}; counters begin anew", shown(STATE_DIR)));
            State::default()
        }
        Err(_) => State::default(),
    };
    match state.go_on(host, time) {
        Ok(_) => {
            if let Ok(store) = store
                && let Err(error) = store.write(&state)
            {
                unread.push(format!("{}: write: {error}", shown(STATE_DIR)));
            }
        }
        Err(error) => {
            unread.push(format!("{}, {}: read: {error}; records are for root", shown(RUN), shown(LOG_DIR)));
        }
    }
    let mut values = state.published().clone();
    count::add_nothing(&mut values);
    values
}

/// The host as it is at the moment.
fn now(host: &Host, values: &mut Values) {
    let in_force = host.policy_in_force();
    let policy = &in_force.policy;
    // A counter that begins with its first event has no increase to show for it.
    for rule in policy.rules.iter().take(RULES) {
        let enforced = rule.action != Action::Block || rule.enforce.unwrap_or(policy.defaults.enforce);
        let labels = [
            ("action", super::test::word(rule.action)),
            ("enforced", if enforced { "true" } else { "false" }),
            ("rule", &rule.id),
            ("caller", "kernel"),
        ];
        values.add(Series::new("requests_total", &labels), 0);
    }
    values.set("info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    values.set("armed", &[], host.is_armed().into());
    values.set("problems", &[], status::problems(host) as u64);
    values.set("policy_sound", &[], in_force.failures.is_empty().into());
    values.set("policy_behind", &[], host.policy_behind(&in_force).is_some().into());
    values.set("policy_rules", &[], policy.rules.len() as u64);
    // The recorder is this machine's.
    let recorder = host.is_this().then(recorder::state).and_then(Result::ok);
    values.set("recorder_works", &[], recorder.is_some().into());
    if let Some(recorder) = recorder {
        values.set("recorder_requests_total", &[], recorder.count);
    }
    for (name, file) in [
        ("conntrack_entries", "nf_conntrack_count"),
        ("conntrack_entries_limit", "nf_conntrack_max"),
        ("conntrack_buckets", "nf_conntrack_buckets"),
    ] {
        let number = host.number(format!("/proc/sys/net/netfilter/{file}"));
        if let Some(number) = number.and_then(|number| u64::try_from(number).ok()) {
            values.set(name, &[], number);
        }
    }
    let size = |name: &str| host.metadata(format!("{RUN}/{name}")).map_or(0, |metadata| metadata.len());
    values.set("spool_bytes", &[], size(SPOOL).saturating_add(size(FLUSHING)));
}

/// Makes `bytes` the file at `path`, which all may read, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Directory::from(File::open(parent)?).replace(name, bytes)
}

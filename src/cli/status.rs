//! `guard status`: armed or not, by which policy, and how the table is used.

use serde::Serialize;

use super::hooks::Hooks;
use super::terminal::{Terminal, Tone};
use super::ways::{self, Way};
use super::{Common, enable, exit, umh};
use crate::conntrack::{self, MAX_NAME, Wanted};
use crate::host::{Divert, HELPER, HOOKS, Host, MODPROBE};
use crate::judge;
use crate::model::{Setting, Value};
use crate::policy::Policy;
use crate::requester::recorder;
use crate::text::counted;

/// So many columns hold a column for what covers a way.
const ALIGNED: usize = 100;

/// What is said, in JSON and in words.
#[derive(Serialize)]
struct Status {
    /// Whether the kernel asks us.
    armed: bool,
    /// What it runs; absent where it loads no modules.
    helper: Option<String>,
    /// Whether the guard stands in modprobe's own place: `no`, `in place`, or `lost` to something else.
    divert: &'static str,
    /// Why it is not armed, or the policy not sound; empty if all is well.
    problems: Vec<String>,
    /// Where the policy in force comes from.
    policy: String,
    /// Number of its rules.
    rules: usize,
    /// The ways in which modules get loaded.
    ways: Vec<Way>,
    /// What writes down in the kernel who asks.
    recorder: Recorder,
    /// The connection tracking table, if there is one.
    conntrack: Option<Table>,
    /// What a load would set its max to, where the policy sizes tables.
    size: Option<Setting>,
}

/// The recorder.
#[derive(Serialize)]
struct Recorder {
    works: bool,
    /// Requests that it has written down.
    requests: Option<u64>,
    /// Why it does not work.
    why: Option<String>,
}

/// Use of the connection tracking table.
#[derive(Serialize)]
struct Table {
    count: i64,
    max: i64,
    buckets: Option<i64>,
}

/// Prints the state of the guard on `host`.
pub fn run(host: &Host, common: &Common) -> u8 {
    let status = look(host);
    if common.json {
        match serde_json::to_string(&status) {
            Ok(line) => say!("{line}"),
            Err(error) => complain!("guard: {error}"),
        }
    } else {
        print(&status);
    }
    if status.armed && status.problems.is_empty() { exit::GOOD } else { exit::BAD }
}

/// How many problems there are.
pub(super) fn problems(host: &Host) -> usize {
    look(host).problems.len()
}

fn look(host: &Host) -> Status {
    let mut problems = Vec::new();
    let helper = enable::current(host).map_err(|error| problems.push(error)).ok();
    let armed = host.is_armed();
    let divert = host.divert();
    problems.extend(helper.as_ref().filter(|_| !armed).map(|helper| not_armed(host, helper)));
    if helper.as_deref() == Some(HELPER) {
        if host.open(HELPER).is_err() {
            problems.push(format!("{HELPER}: not there, and the kernel runs it; run install/install.sh"));
        }
        problems.extend(umh::killed_by_lkrg(host));
    }
    problems.extend(misplaced(host, divert));
    let in_force = host.policy_in_force();
    problems.extend(in_force.failures.iter().cloned());
    problems.extend(host.policy_behind(&in_force));
    problems.extend(enable::unheard(host));
    let hooks = Hooks::of(host);
    match &hooks {
        Ok(hooks) if armed => problems.extend(hooks.problem(host)),
        Ok(_) if host.exists(HOOKS) => {
            problems.push(format!("{HOOKS}: is there though nothing is armed; guard disable takes it away"));
        }
        Ok(_) => {}
        Err(error) => problems.push(error.clone()),
    }
    let number = |key: &str| host.number(format!("/proc/sys/net/netfilter/{key}"));
    let conntrack = number("nf_conntrack_count").zip(number("nf_conntrack_max")).map(|(count, max)| Table {
        count,
        max,
        buckets: number("nf_conntrack_buckets"),
    });
    Status {
        armed,
        helper,
        divert: match divert {
            Divert::No => "no",
            Divert::InPlace => "in place",
            Divert::Lost => "lost",
        },
        problems,
        policy: in_force.origin.to_string(),
        rules: in_force.policy.rules.len(),
        ways: ways::all(host, armed, &hooks),
        recorder: recorder(host),
        conntrack,
        size: size(host, &in_force.policy),
    }
}

/// Why the kernel does not ask us.
fn not_armed(host: &Host, helper: &str) -> String {
    let passes = if host.is_guard(helper) { ", which is the guard and passes everything on" } else { "" };
    format!("not armed: the kernel runs {helper:?}{passes}; guard enable changes that")
}

/// What is wrong with modprobe's place, if the guard was put there.
fn misplaced(host: &Host, divert: Divert) -> Option<String> {
    const AGAIN: &str = "sh /usr/lib/modprobe-guard/divert.sh on";
    const OFF: &str = "sh /usr/lib/modprobe-guard/divert.sh off";
    match (divert, host.real_modprobe()) {
        (Divert::Lost, Some(real)) => {
            Some(format!("{MODPROBE}: is not the guard any more, though the real one lies in {real}; {AGAIN}"))
        }
        (Divert::InPlace, None) => {
            Some(format!("{MODPROBE}: is the guard, and the real one is nowhere; install kmod again, then {OFF}"))
        }
        _ => None,
    }
}

/// What a load of connection tracking would set its max to.
fn size(host: &Host, policy: &Policy) -> Option<Setting> {
    judge::sizes_tables(policy).then(|| {
        let kernel = host.kernel().unwrap_or_default();
        let (config, _) = host.modprobe_config(&kernel);
        conntrack::goals(host, &Wanted::new(policy, &config), &kernel).max.setting(MAX_NAME)
    })
}

fn recorder(host: &Host) -> Recorder {
    let state = if host.is_this() { recorder::state() } else { Err("the host is not this machine".into()) };
    match state {
        Ok(state) => Recorder { works: true, requests: Some(state.count), why: None },
        Err(why) => Recorder { works: false, requests: None, why: Some(why) },
    }
}

fn print(status: &Status) {
    let out = Terminal::stdout();
    // On a terminal a mark, which is seen before anything is read.
    let mark = out.width().map_or("", |_| "\u{25cf} ");
    let (tone, word) = if status.armed { (Tone::Good, "armed") } else { (Tone::Bad, "NOT ARMED") };
    say!("{}", out.paint(tone, &format!("{mark}{word}")));
    let line = |tone, label: &str, text: &str| say!("{}", out.labelled(tone, label, text));
    let is_aligned = out.width().is_none_or(|width| width >= ALIGNED);
    for way in &status.ways {
        let tone = if way.covered { Tone::Good } else { Tone::Warning };
        way.lines(is_aligned).iter().for_each(|(label, text)| line(tone, label, text));
    }
    line(Tone::Quiet, "policy", &format!("{} ({})", status.policy, counted(status.rules, "rule")));
    match &status.recorder {
        Recorder { works: true, requests, .. } => {
            let requests = requests.unwrap_or(0);
            line(Tone::Quiet, "recorder", &format!("works: {requests} requests written down"));
        }
        Recorder { why, .. } => {
            line(Tone::Warning, "recorder", &format!("does not work: {}", why.as_deref().unwrap_or_default()));
            line(Tone::Plain, "", "who asks is looked for among the tasks that wait");
        }
    }
    match &status.conntrack {
        None => line(Tone::Quiet, "table", "connection tracking is not loaded"),
        Some(Table { count, max: 0, .. }) => line(Tone::Quiet, "table", &format!("{count} connections, no limit")),
        Some(Table { count, max, buckets }) => {
            let percent = count.saturating_mul(100).checked_div(*max).unwrap_or(0);
            let buckets = buckets.map_or_else(String::new, |buckets| format!(", {buckets} buckets"));
            let tone = match percent {
                ..75 => Tone::Quiet,
                75..95 => Tone::Warning,
                _ => Tone::Bad,
            };
            line(tone, "table", &format!("{count} of {max} connections, {percent} % full{buckets}"));
        }
    }
    if let Some(Setting { value, source, formula, .. }) = &status.size {
        let formula = formula.as_ref().map_or_else(String::new, |formula| format!(": {formula}"));
        line(Tone::Quiet, "size", &format!("{value} ({source}{formula})"));
        let set = status.conntrack.as_ref().map(|table| table.max);
        match (set, value) {
            (Some(0), _) => line(Tone::Plain, "", "no limit is set, and that stays"),
            (Some(set), Value::Number(size)) if set > *size => {
                line(Tone::Plain, "", &format!("{set} is set, which is more and stays"));
            }
            (Some(set), Value::Number(size)) if set < *size => {
                line(Tone::Plain, "", &format!("{set} is set, which is less; guard enable raises it"));
            }
            _ => {}
        }
        line(Tone::Plain, "", "one table for all network namespaces; each counts for itself against it");
    }
    for problem in &status.problems {
        line(Tone::Bad, "problem", problem);
    }
}

//! Setting what an `allow-sysctl` promises: the table's size, and the sysctls that came into being with a load.

use std::collections::HashSet;
use std::io;

use super::glob::{self, PROC_SYS};
use super::late::{Line, lines, resolve};
use super::loading;
use super::namespace::visit;
use super::size::{Table, most_buckets};
use super::sysctl_d::{SysctlD, dotted};
use super::wanted::{BUCKETS, Goals, HASHSIZE_NAME, MAX, MAX_NAME, OLD_MAX, Wanted};
use super::write::{entries, failure, read, set, value, write};
use crate::host::{Host, apart};
use crate::model::{Change, Closure, Module, ModuleState, Setting, Value};

const MODULE: &str = "nf_conntrack";
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
/// How often half as many buckets are tried when the kernel has no memory for them.
const TRIES: usize = 4;

/// What was there before the load.
#[derive(Debug, Default)]
pub struct Before {
    /// Nothing can come of this request, or what there was is known.
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    conntrack: bool,
    sysctl_d: SysctlD,
    existing: HashSet<String>,
    /// Tells other helpers until we are through.
    _loading: Option<loading::Lock>,
}

impl Before {
    /// Files of sysctl.d that could not be read, lines that are no assignments.
    pub fn failures(&self) -> &[String] {
        self.seen.as_ref().map_or(&[], |seen| &seen.sysctl_d.failures)
    }
}

/// Sees what is there before the load. A request that has nothing to load costs nothing.
pub fn before(host: &Host, wanted: &Wanted, closure: &Closure) -> Before {
    if !may_load(closure) {
        return Before::default();
    }
    // Where the first namespace can't be entered, its sysctls can't be set either: `after` says so.
    let _visit = visit(host, 1);
    let sysctl_d = SysctlD::read(host);
    let existing = resolve(host, wanted, &sysctl_d).into_iter().map(|line| line.key).collect();
    let conntrack = is_live(host);
    let _loading = (!conntrack).then(|| loading::begin(host)).flatten();
    Before { seen: Some(Seen { conntrack, sysctl_d, existing, _loading }) }
}

/// After the load: sizes a table that was not there before, and sets the sysctls that were not. Never fails; what could
/// not be done is in the change's `error`.
///
/// `requester` is the process that asked. Newer kernels keep a max of each network namespace beside the first one's, the
/// lower of both counts, and namespaces that are older than the load have the kernel's default (`net->ct.sysctl_max`,
/// `nf_conntrack_pernet_init`): the requester's is raised too.
pub fn after(host: &Host, wanted: &Wanted, before: Before, requester: Option<i32>) -> Vec<Change> {
    let Some(seen) = before.seen else { return Vec::new() };
    let sized = !seen.conntrack && is_live(host);
    let mut changes = Vec::new();
    {
        let visit = visit(host, 1);
        if sized {
            let _alone = loading::alone(host);
            changes = size(host, wanted, &seen.sysctl_d, false);
        }
        for line in resolve(host, wanted, &seen.sysctl_d) {
            if !seen.existing.contains(&line.key) && !is_of_the_table(&line.key) {
                changes.push(set_sysctl(host, &line));
            }
        }
        if let Err(error) = visit {
            for failure in changes.iter_mut().filter_map(|change| change.error.as_mut()) {
                failure.push_str(&format!("; the first network namespace could not be entered: {error}"));
            }
        }
    }
    if sized {
        changes.extend(raise_in_namespace_of(host, requester, &changes));
    }
    changes
}

/// After a request that found connection tracking live: if that is another request's load which is still under way,
/// its table gets its size now, before this requester runs on. Only what that changed is told.
pub fn join(host: &Host, wanted: &Wanted, closure: &Closure) -> Vec<Change> {
    let is_there = |module: &Module| module.name == *MODULE && module.state == ModuleState::Live;
    if !closure.modules.iter().any(is_there) || !loading::is_under_way(host) {
        return Vec::new();
    }
    let _visit = visit(host, 1);
    let _alone = loading::alone(host);
    let changes = size(host, wanted, &SysctlD::read(host), false);
    changes.into_iter().filter(|change| change.before != change.after || change.error.is_some()).collect()
}

/// Raises the max of a table that is in use, if it is too low; resizes its buckets only if the policy says so. Nothing
/// if there is no table.
pub fn raise(host: &Host, wanted: &Wanted) -> Vec<Change> {
    let _visit = visit(host, 1);
    if !is_live(host) {
        return Vec::new();
    }
    size(host, wanted, &SysctlD::read(host), true)
}

/// What [`after`] would set: the same calculation, on what this kernel (a release, as in `/lib/modules`) would make of
/// the table. Sysctls are those that are not there yet, and patterns that stand for nothing yet: whether the load
/// makes them nobody can know.
pub fn plan(host: &Host, wanted: &Wanted, closure: &Closure, kernel: &str) -> Vec<Setting> {
    if !may_load(closure) {
        return Vec::new();
    }
    let sysctl_d = SysctlD::read(host);
    let mut settings = Vec::new();
    if closure.modules.iter().any(|module| module.name == *MODULE && module.state == ModuleState::Absent) {
        let goals = wanted.table(&sysctl_d, &host.machine(), by_default(host, wanted, kernel));
        settings.extend(goals.buckets.map(|goal| goal.setting(HASHSIZE_NAME)));
        settings.push(goals.max.setting(MAX_NAME));
    }
    let absent = lines(wanted, &sysctl_d).filter(|line| !is_of_the_table(&line.key));
    let absent = absent.filter(|line| match glob::is_pattern(&line.key) {
        true => glob::expand(host, &line.key, 1).is_empty(),
        false => !glob::exists(host, &line.key),
    });
    settings.extend(absent.map(|line| Setting {
        key: dotted(&line.key),
        value: value(line.value),
        source: line.source.to_owned(),
        formula: None,
    }));
    settings
}

/// What a load of connection tracking would make of its table on a kernel of this release.
pub fn goals(host: &Host, wanted: &Wanted, kernel: &str) -> Goals {
    wanted.table(&SysctlD::read(host), &host.machine(), by_default(host, wanted, kernel))
}

/// The max that a load leaves without the guard; `None` if nobody knows the machine's memory.
pub fn default_max(host: &Host, wanted: &Wanted, kernel: &str) -> Option<i64> {
    by_default(host, wanted, kernel).map(|table| table.max.into())
}

/// The table as a load would leave it.
fn by_default(host: &Host, wanted: &Wanted, kernel: &str) -> Option<Table> {
    let hashsize = wanted.hashsize_option.as_ref().map(|(number, _)| *number);
    host.machine().memory.map(|memory| Table::by_default(kernel, memory, hashsize))
}

/// Without an index nobody knows what a request loads, and a command may load anything.
fn may_load(closure: &Closure) -> bool {
    closure.modules.is_empty()
        || !closure.commands.is_empty()
        || closure.modules.iter().any(|module| module.state == ModuleState::Absent)
}

/// A module that is still coming is not there yet; one that is built in has no state.
fn is_live(host: &Host) -> bool {
    match host.line(format!("/sys/module/{MODULE}/initstate")) {
        Some(state) => state == b"live",
        None if host.exists("/sys/module") => host.exists(format!("/sys/module/{MODULE}")),
        None => glob::exists(host, MAX),
    }
}

/// Whether [`size`] sets it.
fn is_of_the_table(key: &str) -> bool {
    matches!(key, MAX | OLD_MAX | BUCKETS)
}

fn set_sysctl(host: &Host, line: &Line) -> Change {
    let path = format!("{PROC_SYS}/{}", line.key);
    let mut change = set(host, &dotted(&line.key), &path, line.value);
    if line.ignore_failure {
        change.error = None;
    }
    change
}

/// Buckets, then max: so chains are never longer than they are to be. `in_use`: max is only raised, and buckets are
/// left alone unless the policy says otherwise, because to resize a table in use is to rehash it.
fn size(host: &Host, wanted: &Wanted, sysctl_d: &SysctlD, in_use: bool) -> Vec<Change> {
    let max_path = format!("{PROC_SYS}/{MAX}");
    let unread = |key: &str, error| Change { key: key.to_owned(), before: None, after: None, error: Some(error) };
    let mut changes = Vec::new();
    let max = match entries(host, &max_path) {
        Ok(max) => max,
        Err(error) => return vec![unread(MAX_NAME, error)],
    };
    let buckets = entries(host, HASHSIZE).map_err(|error| changes.push(unread(HASHSIZE_NAME, error))).ok();
    let left = Table { max, buckets: buckets.unwrap_or(0) };
    let machine = host.machine();
    let goals = wanted.table(sysctl_d, &machine, Some(left));
    if let (Some(goal), Some(buckets)) = (goals.buckets, buckets)
        && (!in_use || (wanted.resize_live && goal.number > buckets))
    {
        changes.push(set_buckets(host, goal.number, buckets, machine.memory));
    }
    let is_higher = left.max != 0 && (goals.max.number == 0 || goals.max.number > left.max);
    let number = if !in_use || is_higher { goals.max.number } else { left.max };
    let mut change = set(host, MAX_NAME, &max_path, number.to_string().as_bytes());
    let errors: Vec<String> = goals.failures.into_iter().chain(change.error).collect();
    change.error = (!errors.is_empty()).then(|| errors.join("; "));
    if change.before != change.after || change.error.is_some() || !in_use {
        changes.push(change);
    }
    changes
}

fn set_buckets(host: &Host, wanted: u32, left: u32, memory: Option<u64>) -> Change {
    let most = memory.map_or(u32::MAX, most_buckets).max(left);
    let mut errors = Vec::new();
    if wanted > most {
        errors.push(format!(
            "{HASHSIZE}: {wanted} buckets would take over a quarter of this machine's memory; {most} at most"
        ));
    }
    let write = |number: u32| write(host, HASHSIZE, number.to_string().as_bytes());
    errors.extend(halve_until_it_fits(wanted.min(most), left, write));
    Change {
        key: HASHSIZE_NAME.to_owned(),
        before: Some(Value::Number(left.into())),
        after: read(host, HASHSIZE),
        error: (!errors.is_empty()).then(|| errors.join("; ")),
    }
}

/// Where the kernel has no memory for so many, half of them are tried, and half of those: long chains are slow, but a
/// full table is worse. The errors met.
fn halve_until_it_fits(wanted: u32, left: u32, mut write: impl FnMut(u32) -> io::Result<()>) -> Vec<String> {
    let mut number = wanted;
    let mut errors = Vec::new();
    while number != left {
        let Err(error) = write(number) else { break };
        errors.push(failure(HASHSIZE, &number.to_string(), &error));
        number /= 2;
        if error.kind() != io::ErrorKind::OutOfMemory || number <= left || errors.len() >= TRIES {
            break;
        }
    }
    errors
}

/// The requester's max, where the kernel keeps one for each network namespace. `changes` are those of the first one.
fn raise_in_namespace_of(host: &Host, requester: Option<i32>, changes: &[Change]) -> Option<Change> {
    let Value::Number(first) = changes.iter().find(|change| change.key == MAX_NAME)?.after.clone()? else {
        return None;
    };
    let raise = || {
        // A requester that is gone needs nothing.
        let _visit = requester.map(|pid| visit(host, pid)).transpose().ok()?;
        let path = format!("{PROC_SYS}/{MAX}");
        let Value::Number(here) = read(host, &path)? else { return None };
        let is_lower = here != 0 && (first == 0 || here < first);
        let key = format!("{MAX_NAME} (requester's network namespace)");
        is_lower.then(|| set(host, &key, &path, first.to_string().as_bytes()))
    };
    match requester {
        // On some kernels the way there leads through a lock of the requester's.
        Some(_) => apart::ask(&host.opened(), raise).flatten(),
        // Our own namespace: libxtables runs us in its caller's.
        None => raise(),
    }
}

#[cfg(test)]
mod tests;

//! Who asked: the task that made the request, and what is known of it.
//!
//! All of that is read where it can be left behind ([`crate::host::apart`]): who asks must not be able to hold up the answer,
//! neither to its own request nor to another's. Only our own parent is looked at directly: it is the kernel's, or waits for
//! us.

mod blocked;
pub mod cgroup;
mod files;
mod parent;
mod recorded;
pub mod recorder;
mod symbols;
pub mod task;
mod waiting;

use std::cell::OnceCell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::host::kernel_config::{KernelConfig, Setting};
use crate::host::{Host, apart};
use crate::invocation::ParentKind;
use crate::model::{Caller, Confidence, Files, FoundBy, Known, Requester, Task};
use crate::text::Text;
use cgroup::Groups;
use files::Executables;

/// How much processor time the search for blocked tasks may take, so that some is left to describe what it found.
const SEARCH: Duration = Duration::from_millis(30);
/// How much of it to find the name of an address.
const SYMBOLS: Duration = Duration::from_millis(200);
/// If more than so many may have asked, these, the youngest, are described, and of the others there is what the recorder
/// knows: each costs some thirty system calls. All are, if rules ask who.
const DESCRIBED: usize = 8;
/// kthreadd. A request that nobody waits for (`request_module_nowait`) is started from there, one that somebody waits
/// for from a kworker (kernel/umh.c).
const KTHREADD: i32 = 2;

/// The process that started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its number; 0 if it lives in another process namespace.
    pub pid: i32,
    /// Its own parent; 0 if that can't be told.
    pub grandparent: i32,
    /// What it is.
    pub kind: ParentKind,
    /// When it was started, clock ticks since boot; only of a program, and only if it certainly is our parent.
    pub started: Option<u64>,
    /// When we were started, clock ticks since boot: whoever asked was there before.
    pub we_started: Option<u64>,
}

impl Parent {
    /// Who started this process.
    pub fn of_ours(host: &Host) -> Parent {
        let pid = nix::unistd::getppid().as_raw();
        let ours = task::Stat::read(host, "self");
        let theirs = task::Stat::read(host, &pid.to_string());
        let kind = match &theirs {
            Some(stat) if stat.is_kernel_thread => ParentKind::KernelThread,
            Some(_) => ParentKind::Program,
            // The kernel's helpers live in the first process namespace, and its threads do not end before their helper:
            // a parent outside of ours, or one that is gone, is a program. One that is merely hidden from us (hidepid,
            // SELinux) may be either.
            None if ours.is_some() && (pid == 0 || nix::unistd::getppid().as_raw() != pid) => ParentKind::Program,
            None => ParentKind::Unknown,
        };
        let we_started = ours.map(|stat| stat.started);
        // A parent that ended while we looked has left us to PID 1, or its number to somebody younger than we are.
        let is_ours = |stat: &&task::Stat| {
            let is_older = we_started.is_none_or(|ours| stat.started <= ours);
            !stat.is_kernel_thread && is_older && nix::unistd::getppid().as_raw() == pid
        };
        let started = theirs.as_ref().filter(is_ours).map(|stat| stat.started);
        let grandparent = theirs.map_or(0, |stat| stat.parent);
        Parent { pid, grandparent, kind, started, we_started }
    }
}

/// What the policy wants to know of the requester.
pub struct Wishes<'a> {
    /// Whether rules ask who.
    pub rules: bool,
    /// Whether command lines are recorded.
    pub command_lines: bool,
    /// Paths of the host that rules ask for as executables.
    pub executables: Vec<&'a str>,
}

/// One that may have asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    pid: i32,
    tid: i32,
    /// It was there at this time, clock ticks since boot: a successor of its number started later.
    started_by: Option<u64>,
    /// It waits for the answer.
    waits: bool,
    /// It has asked for something else since: only what the recorder knows is known of that moment.
    is_past: bool,
    /// When it asked, nanoseconds since boot, if the recorder knows.
    asked: Option<u64>,
    /// What the recorder knows of it, user and name.
    recorded: Option<(u32, Text)>,
    /// Where in the kernel it waits.
    call_site: Option<Text>,
}

impl Wishes<'_> {
    /// How many of those who may have asked are described.
    fn described(&self) -> usize {
        if self.rules { usize::MAX } else { DESCRIBED }
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
struct Searched {
    confidence: Confidence,
    found_by: Option<FoundBy>,
    /// Why the recorder was of no use.
    recorder: Option<String>,
    call_site: Option<Text>,
    /// The same as an address, which no record shows.
    address: Option<u64>,
}

impl Default for Searched {
    fn default() -> Searched {
        Searched { confidence: Confidence::Unknown, found_by: None, recorder: None, call_site: None, address: None }
    }
}

/// Who made the request for `name` that `caller` and `parent` brought.
///
/// What hangs takes no longer than 50 ms, or some 0.2 s if there is a lot of it. What could not be found out is absent.
pub fn identify(host: &Host, name: &[u8], caller: Caller, parent: Parent, wishes: &Wishes<'_>) -> Requester {
    // If describing them hangs, they are not searched for again: a request is served once.
    let found = OnceCell::new();
    let described = apart::ask(&host.opened(), || {
        if found.get().is_none() {
            let _ = found.set(search(host, name, caller, parent));
        }
        let candidates = found.get().map_or(&[][..], |(_, candidates)| candidates);
        describe_all(host, candidates, wishes)
    });
    let (searched, candidates) = found.into_inner().unwrap_or_default();
    let as_recorded = || candidates.into_iter().map(Candidate::into_recorded).collect();
    let mut tasks: Vec<Task> = described.unwrap_or_else(as_recorded);
    let Searched { confidence, found_by, recorder, mut call_site, address } = searched;
    if let (None, Some(address)) = (&call_site, address) {
        call_site = apart::ask(&host.opened(), || symbols::function_at(host, address, SYMBOLS)).flatten();
    }
    let known = Requester { confidence, found_by, recorder, call_site, ..Requester::unknown() };
    match confidence {
        Confidence::Ambiguous => Requester { candidates: tasks, ..known },
        _ => Requester { task: tasks.pop().unwrap_or_default(), ..known },
    }
}

/// Each that may have asked.
fn search(host: &Host, name: &[u8], caller: Caller, parent: Parent) -> (Searched, Vec<Candidate>) {
    match caller {
        Caller::Kernel => recorded::search(host, name, parent).unwrap_or_else(|why| {
            let (searched, candidates) = blocked::search(host, parent, SEARCH);
            (Searched { recorder: Some(why), ..searched }, candidates)
        }),
        _ => parent::search(host, caller, parent),
    }
}

/// What is known of each of `candidates`.
fn describe_all(host: &Host, candidates: &[Candidate], wishes: &Wishes<'_>) -> Vec<Task> {
    let mut describer = task::Describer::new(host);
    let executables = (!wishes.executables.is_empty()).then(|| Executables::new(host, &wishes.executables));
    let described = candidates.iter().enumerate().map(|(at, candidate)| {
        let wanted = at < wishes.described() && !candidate.is_past;
        let task = wanted.then(|| describe(host, &mut describer, executables.as_ref(), candidate, wishes)).flatten();
        // Looked at last: what was read was all read of this one, or it counts for nothing.
        task.filter(|_| is_still(host, candidate)).unwrap_or_else(|| candidate.clone().into_recorded())
    });
    described.collect()
}

fn describe(
    host: &Host,
    describer: &mut task::Describer<'_>,
    executables: Option<&Executables<'_>>,
    candidate: &Candidate,
    wishes: &Wishes<'_>,
) -> Option<Task> {
    let pid = candidate.pid;
    let task = describer.describe(pid, candidate.tid)?;
    let groups = task::groups(host, pid);
    let is_known = groups.is_some();
    let Groups { unit, container } = groups.unwrap_or_default();
    let exe = executables.map_or_else(Files::default, |executables| executables.of(host, pid));
    let ancestors = executables.map_or_else(Files::default, |executables| executables.of_all(host, &task.parents));
    let cmdline = wishes.command_lines.then(|| task::command_line(host, pid)).flatten();
    let known = Known { exe, ancestors, unit: is_known, container: is_known, ..task.known };
    Some(Task { unit, container, cmdline, known, ..task })
}

/// Processor time of this process so far: that of a task apart begins with it.
fn time_used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX)
}

/// Why rules that ask who can't be judged soundly on this host; `None` if they can.
pub fn cannot_tell(host: &Host) -> Option<String> {
    if let Some(why) = one_for_all(host) {
        return Some(why);
    }
    if !host.is_this() || waiting::can_be_seen(host) {
        return None;
    }
    let why = recorder::state().err()?;
    Some(format!("its kernel shows no task's stack, and there is no recorder ({why}); guard enable makes one"))
}

/// Whether the kernel of this host gives all who ask for a name the answer that it gave one of them, in words.
pub fn one_for_all(host: &Host) -> Option<String> {
    const DUPLICATES: &str = "CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS";
    // The parameter is there if the kernel was built so (kernel/module/dups.c).
    let is_built_so = || KernelConfig::of_running(host).get(DUPLICATES) == Setting::Yes;
    (host.exists("/sys/module/module/parameters/enable_dups_trace") || is_built_so())
        .then(|| format!("its kernel gives one answer to all who ask for a name within 60 s ({DUPLICATES})"))
}

impl Candidate {
    /// One of whom nothing is known but that it was there by then.
    fn new(pid: i32, tid: i32, started_by: Option<u64>) -> Candidate {
        Candidate { pid, tid, started_by, waits: false, is_past: false, asked: None, recorded: None, call_site: None }
    }

    /// All that is known of one who is no longer there.
    fn into_recorded(self) -> Task {
        let (uid, comm) = self.recorded.unzip();
        Task { pid: Some(self.pid), tid: Some(self.tid), uid, comm, ..Task::default() }
    }
}

/// Whether it is what was found, not a successor of its number, and if it waits, that it does so still: who goes on may
/// run another program by now.
fn is_still(host: &Host, candidate: &Candidate) -> bool {
    let directory = format!("{}/task/{}", candidate.pid, candidate.tid);
    let is_that = |stat: &task::Stat| candidate.started_by.is_none_or(|time| stat.started <= time);
    if !task::Stat::read(host, &directory).as_ref().is_some_and(is_that) {
        return false;
    }
    if !candidate.waits {
        return true;
    }
    // Who hangs there waits for no module. And while something else hung there was time to become another program, and
    // to wait for another module.
    let was_there_all_the_time = || match candidate.asked {
        Some(time) if apart::has_hung(&format!("/proc/{}/", candidate.pid)) => {
            recorded::is_last_request_of(candidate.tid, time)
        }
        _ => true,
    };
    !apart::has_hung(&format!("/proc/{directory}/"))
        && waiting::still_waits(host, &directory)
        && was_there_all_the_time()
}

#[cfg(test)]
mod tests;

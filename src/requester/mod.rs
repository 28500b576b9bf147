//! Who asked: the task that made the request, and what is known of it.
//!
//! Everything is read in a child process ([`crate::host::child`]), because a read of another process may never
//! end; what came within the time is what is known. It is begun first and waited for last: what the request would load
//! is found out meanwhile, by another processor if there is one.

mod blocked;
pub mod cgroup;
mod files;
mod parent;
mod recorded;
pub mod recorder;
mod symbols;
pub mod task;
mod waiting;

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::host::child::{self, Answers};
use crate::host::kernel_config::{KernelConfig, Setting};
use crate::invocation::ParentKind;
use crate::model::{self, Caller, Confidence, Files, FoundBy, Known, Requester, Task};
use crate::text::Text;
use files::Executables;
use waiting::Waiting;

/// How long finding and describing the requester may hold up a request.
const PATIENCE: Duration = Duration::from_millis(50);
/// How much processor time the search for blocked tasks may take, so that some is left to describe what it found.
const SEARCH: Duration = Duration::from_millis(30);
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
        let grandparent = theirs.map_or(0, |stat| stat.parent);
        Parent { pid, grandparent, kind, we_started: ours.map(|stat| stat.started) }
    }
}

/// What the policy wants to know of the requester.
pub struct Wishes<'a> {
    /// Whether command lines are recorded.
    pub command_lines: bool,
    /// Paths of the host that rules ask for as executables.
    pub executables: Vec<&'a str>,
}

/// One that may have asked.
struct Candidate {
    pid: i32,
    tid: i32,
    /// It was there at this time, clock ticks since boot: a successor of its number started later.
    started_by: Option<u64>,
    /// It waits for the answer.
    waits: bool,
    /// What the recorder knows of it, user and name.
    recorded: Option<(u32, Text)>,
    /// Where in the kernel it waits.
    call_site: Option<Text>,
}

impl Candidate {
    fn finding(&self) -> Finding {
        Finding::Candidate { pid: self.pid, tid: self.tid, recorded: self.recorded.clone() }
    }
}

/// What a search came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Searched {
    confidence: Confidence,
    found_by: Option<FoundBy>,
    /// Why the recorder was of no use.
    recorder: Option<String>,
    call_site: Option<Text>,
    /// The same as an address, which no record shows.
    #[serde(skip)]
    address: Option<u64>,
}

impl Default for Searched {
    fn default() -> Searched {
        Searched { confidence: Confidence::Unknown, found_by: None, recorder: None, call_site: None, address: None }
    }
}

/// What the child tells, one after the other.
#[derive(Serialize, Deserialize)]
enum Finding {
    /// One that may have asked, with what the recorder knows of it; all else may still come.
    Candidate { pid: i32, tid: i32, recorded: Option<(u32, Text)> },
    /// There are no more of them.
    Searched(Searched),
    /// Everything but executables and command line of the task at that place.
    Described(usize, Box<Task>, Known),
    /// Which of the policy's executables it runs, and its parents do.
    Executables(usize, Files, Files),
    /// The command line of the task at that place.
    CommandLine(usize, Vec<Text>),
    /// Where in the kernel the request was made.
    CallSite(Text),
}

/// A search that goes on while something else is done; see [`identify`].
#[must_use]
pub struct Search {
    /// What was known before.
    known: Vec<Finding>,
    told: Option<Answers>,
}

/// Begins to look for who made the request for `name` that `caller` and `parent` brought.
///
/// Never takes longer than about 50 ms, from here on. What could not be found out is absent.
pub fn identify(host: &Host, name: &[u8], caller: Caller, parent: Parent, wishes: &Wishes<'_>) -> Search {
    // What the recorder tells is had at once and from nobody who could hold us up.
    let recorded = (caller == Caller::Kernel).then(|| recorded::search(host, name, parent));
    let mut known = Vec::new();
    match &recorded {
        Some(Ok((searched, candidates))) => {
            known.extend(candidates.iter().map(Candidate::finding));
            known.push(Finding::Searched(searched.clone()));
        }
        Some(Err(why)) => {
            known.push(Finding::Searched(Searched { recorder: Some(why.clone()), ..Searched::default() }));
        }
        None => {}
    }
    let told = child::start(PATIENCE, &host.opened(), |out| {
        // The sooner something is told, the less is lost if the time runs out: first who, then what of them, and last
        // what may hang or takes long.
        let mut described = Vec::new();
        let searched = match recorded {
            Some(Ok((searched, candidates))) => {
                for (at, candidate) in candidates.into_iter().enumerate() {
                    described.extend(describe(host, at, candidate, out));
                }
                searched
            }
            Some(Err(why)) => {
                let mut count = 0;
                let searched = blocked::search(host, parent, SEARCH, &mut |candidate: Candidate| {
                    tell(out, &candidate.finding());
                    described.extend(describe(host, count, candidate, out));
                    count += 1;
                });
                let searched = Searched { recorder: Some(why), ..searched };
                tell(out, &Finding::Searched(searched.clone()));
                searched
            }
            None => {
                let (searched, candidate) = parent::search(host, caller, parent);
                candidate.iter().for_each(|candidate| tell(out, &candidate.finding()));
                tell(out, &Finding::Searched(searched.clone()));
                described.extend(candidate.and_then(|candidate| describe(host, 0, candidate, out)));
                searched
            }
        };
        complete(host, wishes, &searched, &described, out);
    });
    Search { known, told: told.ok() }
}

impl Search {
    /// Who it is.
    pub fn wait(self) -> Requester {
        let told = self.told.map(Answers::wait).unwrap_or_default();
        assemble(self.known, &told)
    }
}

/// A candidate that was described.
struct Described {
    at: usize,
    candidate: Candidate,
    parents: Vec<model::Parent>,
}

/// Tells what hangs never of the candidate at the place `at`.
fn describe(host: &Host, at: usize, candidate: Candidate, out: &mut dyn Write) -> Option<Described> {
    let task = task::describe(host, candidate.pid, candidate.tid).filter(|_| is_still(host, &candidate))?;
    tell(out, &Finding::Described(at, Box::new(task.clone()), task.known.clone()));
    Some(Described { at, candidate, parents: task.parents })
}

/// Tells what seldom hangs, then what may, then what takes long.
fn complete(host: &Host, wishes: &Wishes<'_>, searched: &Searched, described: &[Described], out: &mut dyn Write) {
    if !wishes.executables.is_empty() {
        let executables = Executables::new(host, &wishes.executables);
        for Described { at, candidate, parents } in described {
            let (own, above) = (executables.of(host, candidate.pid), executables.of_all(host, parents));
            // A program that was replaced meanwhile asked under the name that it had.
            if is_still(host, candidate) {
                tell(out, &Finding::Executables(*at, own, above));
            }
        }
    }
    for Described { at, candidate, .. } in described.iter().filter(|_| wishes.command_lines) {
        if let Some(line) = task::command_line(host, candidate.pid) {
            tell(out, &Finding::CommandLine(*at, line));
        }
    }
    if let (None, Some(address)) = (&searched.call_site, searched.address)
        && let Some(function) = symbols::function_at(host, address)
    {
        tell(out, &Finding::CallSite(function));
    }
}

/// Why rules that ask who can't be judged soundly on this host; `None` if they can.
pub fn cannot_tell(host: &Host) -> Option<String> {
    const DUPLICATES: &str = "CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS";
    // The parameter is there if the kernel was built so (kernel/module/dups.c).
    let is_built_so = || KernelConfig::of_running(host).get(DUPLICATES) == Setting::Yes;
    if host.exists("/sys/module/module/parameters/enable_dups_trace") || is_built_so() {
        return Some(format!("its kernel gives one answer to all who ask for a name within 60 s ({DUPLICATES})"));
    }
    if !host.is_this() || waiting::can_be_seen(host) {
        return None;
    }
    let why = recorder::state().err()?;
    Some(format!("its kernel shows no task's stack, and there is no recorder ({why}); guard enable makes one"))
}

fn tell(out: &mut dyn Write, finding: &Finding) {
    if let Ok(bytes) = postcard::to_stdvec_cobs(finding) {
        let _ = out.write_all(&bytes);
    }
}

/// Makes a requester of what was known before and what the child told, however little.
fn assemble(known: Vec<Finding>, answer: &[u8]) -> Requester {
    let mut requester = Requester::unknown();
    let mut tasks: Vec<Task> = Vec::new();
    let frames = answer.split_inclusive(|&byte| byte == 0).filter(|frame| frame.ends_with(&[0]));
    let told = frames.filter_map(|frame| postcard::from_bytes_cobs(&mut frame.to_vec()).ok());
    for finding in known.into_iter().chain(told) {
        match finding {
            Finding::Candidate { pid, tid, recorded } => {
                let (uid, comm) = recorded.unzip();
                tasks.push(Task { pid: Some(pid), tid: Some(tid), uid, comm, ..Task::default() });
                // There may be more.
                requester.confidence = Confidence::Ambiguous;
            }
            Finding::Searched(Searched { confidence, found_by, recorder, call_site, address: _ }) => {
                requester = Requester { confidence, found_by, recorder, call_site, ..requester };
            }
            Finding::Described(at, described, known) => {
                if let Some(task) = tasks.get_mut(at) {
                    *task = Task { known, ..*described };
                }
            }
            Finding::Executables(at, exe, ancestors) => {
                if let Some(task) = tasks.get_mut(at) {
                    (task.known.exe, task.known.ancestors) = (exe, ancestors);
                }
            }
            Finding::CommandLine(at, line) => {
                if let Some(task) = tasks.get_mut(at) {
                    task.cmdline = Some(line);
                }
            }
            Finding::CallSite(function) => requester.call_site = Some(function),
        }
    }
    match requester.confidence {
        Confidence::Ambiguous => requester.candidates = tasks,
        _ => requester.task = tasks.pop().unwrap_or_default(),
    }
    requester
}

/// Whether what was described is what was found, not a successor of its number.
fn is_still(host: &Host, candidate: &Candidate) -> bool {
    let directory = format!("{}/task/{}", candidate.pid, candidate.tid);
    let stat = task::Stat::read(host, &directory);
    let is_that = stat.is_some_and(|stat| candidate.started_by.is_none_or(|time| stat.started <= time));
    is_that && (!candidate.waits || waiting::look(host, &directory) != Waiting::No)
}

#[cfg(test)]
mod tests;

//! Who asked: the task that made the request, and what is known of it.
//!
//! Everything is read in a child process ([`crate::host::child`]), because a read of another process may never
//! end; what came within the time is what is known.

mod blocked;
mod cgroup;
mod task;

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{Host, child};
use crate::invocation::ParentKind;
use crate::model::{Caller, Confidence, Requester, Task};
use crate::text::Text;

/// How long finding and describing the requester may hold up a request.
const PATIENCE: Duration = Duration::from_millis(50);
/// How much processor time the search for blocked tasks may take, so that some is left to describe what it found.
const SEARCH: Duration = Duration::from_millis(30);

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
            // The kernel's helpers live in the first process namespace: a parent outside of ours is a program.
            None if ours.is_some() => ParentKind::Program,
            None => ParentKind::Unknown,
        };
        let grandparent = theirs.map_or(0, |stat| stat.parent);
        Parent { pid, grandparent, kind, we_started: ours.map(|stat| stat.started) }
    }
}

/// What the child tells, one after the other.
#[derive(Serialize, Deserialize)]
enum Finding {
    /// Process and thread of one that may have asked; all else may still come.
    Candidate(i32, i32),
    /// There are no more of them.
    Searched(Confidence),
    /// Everything but the command line of the task at that place.
    Described(usize, Box<Task>),
    /// The command line of the task at that place.
    CommandLine(usize, Vec<Text>),
}

/// Finds who made the request that `caller` and `parent` brought; `with_command_lines` as the policy says.
///
/// Never takes longer than about 50 ms. What could not be found out is absent.
pub fn identify(host: &Host, caller: Caller, parent: Parent, with_command_lines: bool) -> Requester {
    let answer = child::ask(PATIENCE, |out| {
        // The sooner something is told, the less is lost if the time runs out: first who, then what of them, and last
        // what may hang.
        let mut tasks = Vec::new();
        let confidence = search(host, caller, parent, &mut |pid, tid| {
            tell(out, &Finding::Candidate(pid, tid));
            tasks.push((pid, tid));
        });
        tell(out, &Finding::Searched(confidence));
        for (at, &(pid, tid)) in tasks.iter().enumerate() {
            if let Some(task) = task::describe(host, pid, tid).filter(|_| still(host, caller, pid, tid)) {
                tell(out, &Finding::Described(at, Box::new(task)));
            }
        }
        for (at, &(pid, _)) in tasks.iter().enumerate().filter(|_| with_command_lines) {
            if let Some(line) = task::command_line(host, pid) {
                tell(out, &Finding::CommandLine(at, line));
            }
        }
    });
    assemble(&answer.unwrap_or_default())
}

fn tell(out: &mut dyn Write, finding: &Finding) {
    if let Ok(bytes) = postcard::to_stdvec_cobs(finding) {
        let _ = out.write_all(&bytes);
    }
}

/// Makes a requester of what the child told, however little.
fn assemble(answer: &[u8]) -> Requester {
    let mut requester = Requester::unknown();
    let mut tasks: Vec<Task> = Vec::new();
    for frame in answer.split_inclusive(|&byte| byte == 0).filter(|frame| frame.ends_with(&[0])) {
        match postcard::from_bytes_cobs(&mut frame.to_vec()) {
            Ok(Finding::Candidate(pid, tid)) => {
                tasks.push(Task { pid: Some(pid), tid: Some(tid), ..Task::default() });
                // There may be more.
                requester.confidence = Confidence::Ambiguous;
            }
            Ok(Finding::Searched(confidence)) => requester.confidence = confidence,
            Ok(Finding::Described(at, described)) => {
                if let Some(task) = tasks.get_mut(at) {
                    *task = *described;
                }
            }
            Ok(Finding::CommandLine(at, line)) => {
                if let Some(task) = tasks.get_mut(at) {
                    task.cmdline = Some(line);
                }
            }
            Err(_) => {}
        }
    }
    match requester.confidence {
        Confidence::Ambiguous => requester.candidates = tasks,
        _ => requester.task = tasks.pop().unwrap_or_default(),
    }
    requester
}

/// Calls `found` with process and thread of each that may have asked.
fn search(host: &Host, caller: Caller, parent: Parent, found: &mut dyn FnMut(i32, i32)) -> Confidence {
    match caller {
        Caller::Kernel => blocked::search(host, parent, SEARCH, found),
        Caller::Xtables | Caller::Modprobe | Caller::Hook => {
            // A parent that ended meanwhile leaves us to PID 1, or its number to somebody younger than we are.
            let stat = (parent.pid > 0).then(|| task::Stat::read(host, &parent.pid.to_string())).flatten();
            let is_older = stat.is_some_and(|stat| parent.we_started.is_none_or(|ours| stat.started <= ours));
            if !is_older || !still_our_parent(host, parent.pid) {
                return Confidence::Unknown;
            }
            found(parent.pid, parent.pid);
            Confidence::Exact
        }
    }
}

/// Whether what was described is what was found, not a successor of its number.
fn still(host: &Host, caller: Caller, pid: i32, tid: i32) -> bool {
    match caller {
        Caller::Kernel => blocked::waits(host, &format!("{pid}/task/{tid}")),
        Caller::Xtables | Caller::Modprobe | Caller::Hook => still_our_parent(host, pid),
    }
}

/// Asked in the child, whose own parent is the helper.
fn still_our_parent(host: &Host, pid: i32) -> bool {
    let helper = nix::unistd::getppid().as_raw();
    task::Stat::read(host, &helper.to_string()).is_some_and(|stat| stat.parent == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_calls_us_is_known_exactly() {
        let host = Host::this();
        let parent = Parent::of_ours(&host);
        assert_eq!(parent.kind, ParentKind::Program);
        let requester = identify(&host, Caller::Xtables, parent, true);
        assert_eq!(requester.confidence, Confidence::Exact);
        assert_eq!(requester.task.pid, Some(parent.pid));
        assert!(requester.task.cmdline.is_some());
        let requester = identify(&host, Caller::Xtables, parent, false);
        assert_eq!(requester.task.cmdline, None);
    }

    #[test]
    fn an_answer_cut_anywhere_is_what_came_before() {
        let mut answer = Vec::new();
        let task = Task { pid: Some(7), ..Task::default() };
        tell(&mut answer, &Finding::Candidate(7, 7));
        let candidate = answer.len();
        tell(&mut answer, &Finding::Searched(Confidence::Likely));
        let first = answer.len();
        tell(&mut answer, &Finding::Described(0, Box::new(Task { uid: Some(5), ..task })));
        let second = answer.len();
        tell(&mut answer, &Finding::CommandLine(0, vec![Text::from("iptables")]));
        for length in 0..=answer.len() {
            let requester = assemble(&answer[..length]);
            let expected = match length {
                _ if length < candidate => Confidence::Unknown,
                _ if length < first => Confidence::Ambiguous,
                _ => Confidence::Likely,
            };
            assert_eq!(requester.confidence, expected, "{length}");
            assert_eq!(requester.task.uid.is_some(), length >= second, "{length}");
            assert_eq!(requester.task.cmdline.is_some(), length == answer.len(), "{length}");
        }
    }
}

//! Tasks that wait in `__request_module`: who asked, as far as it can be seen from outside.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::host::Host;
use crate::model::Confidence;
use crate::requester::{Parent, task};

/// kthreadd. A request that nobody waits for (`request_module_nowait`) is started from there, one that somebody waits
/// for from a kworker (kernel/umh.c).
const KTHREADD: i32 = 2;
/// More candidates than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c).
const MAX_CANDIDATES: usize = 50;

/// Calls `found` with every task seen waiting, youngest number first, for at most `patience` of processor time: what
/// others take from us on a busy machine does not count.
pub(super) fn search(host: &Host, parent: Parent, patience: Duration, found: &mut dyn FnMut(i32, i32)) -> Confidence {
    if parent.pid == KTHREADD {
        // Whoever waits now waits for something else.
        return Confidence::Unknown;
    }
    let mut count = 0;
    let mut complete = true;
    for pid in task::processes(host) {
        if time_used() >= patience || count >= MAX_CANDIDATES {
            complete = false;
            break;
        }
        for tid in waiting_threads(host, pid, parent) {
            count += 1;
            found(pid, tid);
        }
    }
    match count {
        0 => Confidence::Unknown,
        1 if complete => Confidence::Likely,
        _ => Confidence::Ambiguous,
    }
}

/// Processor time of this process so far: a child's own begins with it.
fn time_used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX)
}

fn waiting_threads(host: &Host, pid: i32, parent: Parent) -> Vec<i32> {
    let older = |stat: &task::Stat| parent.we_started.is_none_or(|ours| stat.started <= ours);
    let Some(leader) = task::Stat::read(host, &pid.to_string()) else { return Vec::new() };
    // One read tells all of a process that has one thread, as most have.
    if leader.threads == 1 && leader.state != b'D' {
        return Vec::new();
    }
    let is_waiting = |tid: &i32| {
        let directory = format!("{pid}/task/{tid}");
        task::Stat::read(host, &directory).is_some_and(|stat| stat.state == b'D' && older(&stat))
            && waits(host, &directory)
    };
    task::threads(host, pid).into_iter().filter(is_waiting).collect()
}

/// Whether the task's kernel stack stands in a module request. Where stacks can't be read, `wchan` tells half of it on
/// 6.1 and later: that the task waits for some helper of user space.
pub(super) fn waits(host: &Host, task: &str) -> bool {
    match host.read(format!("/proc/{task}/stack"), 16384) {
        Ok(stack) if !stack.is_empty() => {
            let has = |function: &[u8]| stack.windows(function.len()).any(|window| window == function);
            has(b" __request_module+")
        }
        _ => host.line(format!("/proc/{task}/wchan")).is_some_and(|function| function == b"call_usermodehelper_exec"),
    }
}

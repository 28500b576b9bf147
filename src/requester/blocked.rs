//! Tasks that wait in `__request_module`: who asked, as far as it can be seen from outside.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::host::Host;
use crate::model::{Confidence, FoundBy};
use crate::requester::waiting::{Waiting, look};
use crate::requester::{Candidate, KTHREADD, Parent, Searched, task};

/// More candidates than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c).
const MAX_CANDIDATES: usize = 50;

/// Calls `found` with every task seen waiting, youngest number first, for at most `patience` of processor time: what
/// others take from us on a busy machine does not count.
pub(super) fn search(host: &Host, parent: Parent, patience: Duration, found: &mut dyn FnMut(Candidate)) -> Searched {
    let mut searched = Searched::default();
    if parent.pid == KTHREADD {
        // Nobody waits for this request: whoever waits now waits for something else.
        return searched;
    }
    let mut count = 0;
    let mut complete = true;
    for pid in task::processes(host) {
        if time_used() >= patience || count >= MAX_CANDIDATES {
            complete = false;
            break;
        }
        for candidate in waiting_threads(host, pid, parent) {
            searched.call_site = candidate.call_site.clone().filter(|_| count == 0);
            count += 1;
            found(candidate);
        }
    }
    if count > 0 {
        searched.found_by = Some(FoundBy::Stack);
        searched.confidence = if count == 1 && complete { Confidence::Likely } else { Confidence::Ambiguous };
    }
    searched
}

/// Processor time of this process so far: a child's own begins with it.
fn time_used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX)
}

fn waiting_threads(host: &Host, pid: i32, parent: Parent) -> Vec<Candidate> {
    let Some(leader) = task::Stat::read(host, &pid.to_string()) else { return Vec::new() };
    // One read tells all of a process that has one thread, as most have.
    if leader.threads == 1 && leader.state != b'D' {
        return Vec::new();
    }
    let candidate = |tid: i32| {
        let directory = format!("{pid}/task/{tid}");
        let stat = task::Stat::read(host, &directory)?;
        let is_older = parent.we_started.is_none_or(|ours| stat.started <= ours);
        if stat.state != b'D' || !is_older {
            return None;
        }
        let Waiting::Yes(call_site) = look(host, &directory) else { return None };
        Some(Candidate { pid, tid, started_by: parent.we_started, waits: true, recorded: None, call_site })
    };
    task::threads(host, pid).into_iter().filter_map(candidate).collect()
}

//! Tasks that wait in `__request_module`: who asked, as far as it can be seen from outside.

use std::time::Duration;

use crate::host::{Host, apart};
use crate::model::{Confidence, FoundBy};
use crate::requester::waiting::{Waiting, look};
use crate::requester::{Candidate, KTHREADD, Parent, Searched, task, time_used};

/// More candidates than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c).
const MAX_CANDIDATES: usize = 50;

/// Finds every task that is seen waiting, youngest number first, for at most `patience` of processor time: what others
/// take from us on a busy machine does not count. `is_another` is whether a thread is known to wait for something else.
pub(super) fn search(
    host: &Host,
    parent: Parent,
    patience: Duration,
    is_another: impl Fn(i32) -> bool,
) -> (Searched, Vec<Candidate>) {
    let (mut searched, mut found) = (Searched::default(), Vec::new());
    if parent.pid == KTHREADD {
        // Nobody waits for this request: whoever waits now waits for something else.
        return (searched, found);
    }
    let mut complete = true;
    for pid in task::processes(host) {
        if time_used() >= patience || found.len() >= MAX_CANDIDATES {
            complete = false;
            break;
        }
        found.extend(waiting_threads(host, pid, parent).into_iter().filter(|found| !is_another(found.tid)));
    }
    // Whom nobody could look at may be the one.
    complete &= !apart::has_hung("/proc/");
    if let Some(first) = found.first() {
        searched.call_site = first.call_site.clone();
        searched.found_by = Some(FoundBy::Stack);
        let is_alone = found.len() == 1 && complete;
        searched.confidence = if is_alone { Confidence::Likely } else { Confidence::Ambiguous };
    }
    (searched, found)
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
        Some(Candidate { waits: true, call_site, ..Candidate::new(pid, tid, parent.we_started) })
    };
    task::threads(host, pid).into_iter().filter_map(candidate).collect()
}

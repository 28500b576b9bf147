//! Tasks that wait in `__request_module`: who asked, as far as it can be seen from outside.

use std::time::Duration;

use crate::host::{Host, apart};
use crate::model::{Confidence, FoundBy};
use crate::requester::waiting::{Waiting, look};
use crate::requester::{Candidate, KTHREADD, Parent, Searched, task, time_used};

/// More candidates than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c).
const MAX_CANDIDATES: usize = 50;

/// What a search came to.
pub(super) struct Blocked {
    pub searched: Searched,
    pub candidates: Vec<Candidate>,
    /// Its time ran out, or there were more than there can be.
    pub is_cut: bool,
}

/// Finds every task that is seen waiting, youngest number first, for at most `patience` of processor time: what others
/// take from us on a busy machine does not count. `is_another` is whether a thread is known to wait for something else.
pub(super) fn search(host: &Host, parent: Parent, patience: Duration, is_another: impl Fn(i32) -> bool) -> Blocked {
    let (mut searched, mut found) = (Searched::default(), Vec::new());
    if parent.pid == KTHREADD {
        // Nobody waits for this request: whoever waits now waits for something else.
        return Blocked { searched, candidates: found, is_cut: false };
    }
    let is_enough = |found: &Vec<_>| time_used() >= patience || found.len() >= MAX_CANDIDATES;
    let mut is_cut = false;
    'search: for pid in task::processes(host) {
        let mut threads = busy_threads(host, pid).into_iter();
        loop {
            if is_enough(&found) {
                is_cut = true;
                break 'search;
            }
            let Some(tid) = threads.next() else { break };
            found.extend(waiting_thread(host, pid, tid, parent).filter(|found| !is_another(found.tid)));
        }
    }
    // Whom nobody could look at may be the one.
    let complete = !is_cut && !apart::has_hung(|what| what.starts_with(b"/proc/"));
    if let Some(first) = found.first() {
        searched.call_site = first.call_site.clone();
        searched.found_by = Some(FoundBy::Stack);
        let is_alone = found.len() == 1 && complete;
        searched.confidence = if is_alone { Confidence::Likely } else { Confidence::Ambiguous };
    }
    Blocked { searched, candidates: found, is_cut }
}

/// The threads of a process of which one may wait.
fn busy_threads(host: &Host, pid: i32) -> Vec<i32> {
    match task::Stat::read(host, &pid.to_string()) {
        // One read tells all of a process that has one thread, as most have.
        Some(leader) if leader.threads > 1 || leader.state == b'D' => task::threads(host, pid),
        _ => Vec::new(),
    }
}

fn waiting_thread(host: &Host, pid: i32, tid: i32, parent: Parent) -> Option<Candidate> {
    let directory = format!("{pid}/task/{tid}");
    let stat = task::Stat::read(host, &directory)?;
    let is_older = parent.we_started.is_none_or(|ours| stat.started <= ours);
    if stat.state != b'D' || !is_older {
        return None;
    }
    let Waiting::Yes(call_site) = look(host, &directory) else { return None };
    Some(Candidate { waits: true, call_site, ..Candidate::new(pid, tid, parent.we_started) })
}

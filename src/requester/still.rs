//! Whether those who may have asked are still there, and wait still.

use std::cell::Cell;

use crate::host::{Host, apart};
use crate::requester::waiting::{self, Progress, Waiting};
use crate::requester::{Candidate, task};

/// Whether one who may have asked is there as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Still {
    /// It is, and if it waited, it does so still.
    Yes,
    /// It is gone, or does something else, or is on its way there.
    No,
    /// It may be either.
    Unsure,
}

/// How to tell whether one that may have asked is still there.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Whether a thread has asked for anything after that time, nanoseconds since boot.
    pub has_asked_since: &'a dyn Fn(i32, u64) -> bool,
    /// How often those who run are looked at again; not at all if rules don't ask who.
    pub further: Option<&'a Cell<usize>>,
}

/// Whether it is what was found, not a successor of its number, and if it waits, that it does so still, for the same answer:
/// who goes on may run another program by now.
pub(super) fn is_still(host: &Host, candidate: &Candidate, look: &Look<'_>) -> Still {
    let directory = format!("{}/task/{}", candidate.pid, candidate.tid);
    // Who becomes another program waits for no module.
    let hangs = task::is_changing(&directory);
    match task::Stat::try_read(host, &directory) {
        Ok(stat) if candidate.started_by.is_some_and(|time| stat.started > time) => return Still::No,
        Ok(_) => {}
        Err(error) if hangs || task::is_absent(&error) => return Still::No,
        Err(_) => return Still::Unsure,
    }
    if !candidate.waits {
        return Still::Yes;
    }
    if hangs {
        return Still::No;
    }
    // While it was looked at there was time to become another program, and to wait for another module.
    match waiting::still_waits(host, &directory) {
        Some(true) if candidate.asked.is_some_and(|time| (look.has_asked_since)(candidate.tid, time)) => Still::No,
        Some(true) => Still::Yes,
        Some(false) => Still::No,
        None => Still::Unsure,
    }
}

/// Looks again at those who run, until it is clear of each whether it is on its way to sleep, or somebody is seen to wait: then it
/// matters little what the others do.
pub(super) fn look_further(host: &Host, candidates: &[Candidate], look: &Look<'_>, stills: &mut [Still]) {
    let mut progress = vec![Progress::default(); candidates.len()];
    let waits = |(still, candidate): (&Still, &Candidate)| *still == Still::Yes && candidate.waits;
    // Where nobody can be looked at, time brings nothing.
    let Some(further) = look.further.filter(|_| !apart::touches_nothing()) else { return };
    while stills.contains(&Still::Unsure) && !stills.iter().zip(candidates).any(waits) {
        let Some(left) = further.get().checked_sub(1) else { return };
        further.set(left);
        waiting::long_nap();
        let open =
            stills.iter_mut().zip(candidates).zip(&mut progress).filter(|((still, _), _)| **still == Still::Unsure);
        for ((still, candidate), progress) in open {
            let directory = format!("{}/task/{}", candidate.pid, candidate.tid);
            *still = match waiting::look(host, &directory) {
                Waiting::CannotTell if progress.goes_on(host, &directory) => Still::No,
                Waiting::CannotTell => Still::Unsure,
                _ => is_still(host, candidate, look),
            };
        }
    }
}

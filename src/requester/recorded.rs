//! Who asked, by what the recorder wrote down.

use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::host::Host;
use crate::model::{Confidence, FoundBy};
use crate::requester::recorder::{Entry, Recorder, since_boot};
use crate::requester::waiting::{Waiting, look};
use crate::requester::{Candidate, KTHREADD, Parent, Searched, task};

/// A request whose task is gone may be ours, its task killed while it waited, or one that was answered and is over: it
/// is taken for the former if it was made at most so long before we were started. Nanoseconds.
const GONE: u64 = 1_000_000_000;
/// A task that has asked and not yet gone to sleep is looked at so many times, so far apart.
const LOOKS: u32 = 20;
const APART: Duration = Duration::from_micros(250);
/// More candidates than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c).
const MAX_CANDIDATES: usize = 50;
/// Nanoseconds of a clock tick as `/proc` counts: USER_HZ is 100 wherever this runs.
const TICK: u64 = 10_000_000;

/// Finds each task that may have asked for `name`.
///
/// # Errors
/// Why the recorder can't tell, in words.
pub(super) fn search(host: &Host, name: &[u8], parent: Parent) -> Result<(Searched, Vec<Candidate>), String> {
    let recorder = Recorder::open()?;
    // A request that nobody waits for is started from kthreadd, any other from a kworker (kernel/umh.c).
    let waited = parent.pid != KTHREADD;
    // A tick is rounded down.
    let started = parent.we_started.map_or_else(since_boot, |ours| ours.saturating_add(1).saturating_mul(TICK));
    let judge = |entry: Entry| {
        let is_young = started.saturating_sub(entry.time) <= GONE;
        judge(host, waited, is_young, entry)
    };
    let open = recorder.open_requests(name, waited).into_iter();
    let found: Vec<(Entry, Candidate)> = open.filter_map(judge).take(MAX_CANDIDATES).collect();
    let mut searched = Searched { found_by: Some(FoundBy::Recorder), ..Searched::default() };
    let Some(((first, candidate), others)) = found.split_first() else {
        return Err("the recorder holds no such request".into());
    };
    if others.is_empty() {
        if !recorder.serve(first, name, waited) {
            return Err("the recorder's only such request was taken by another helper".into());
        }
        searched.confidence = Confidence::Exact;
    } else {
        searched.confidence = Confidence::Ambiguous;
    }
    if others.iter().all(|(other, _)| other.call_site == first.call_site) {
        searched.address = Some(first.call_site);
        searched.call_site = candidate.call_site.clone();
    }
    Ok((searched, found.into_iter().map(|(_, candidate)| candidate).collect()))
}

/// What became of the task that made the request; `None` if it went on, so that this is over.
fn judge(host: &Host, waited: bool, is_young: bool, entry: Entry) -> Option<(Entry, Candidate)> {
    let directory = format!("{}/task/{}", entry.pid, entry.tid);
    // A successor of its number can only have started after it.
    let is_there = || {
        let stat = task::Stat::read(host, &directory);
        stat.is_some_and(|stat| stat.started <= entry.time / TICK && !stat.is_ending)
    };
    let mut candidate = Candidate {
        pid: entry.pid,
        tid: entry.tid,
        started_by: Some(entry.time / TICK),
        waits: waited,
        recorded: Some((entry.uid, entry.comm.clone())),
        call_site: None,
    };
    if !is_there() {
        return is_young.then_some((entry, candidate));
    }
    for _ in 0..LOOKS {
        if !waited {
            break;
        }
        match look(host, &directory) {
            Waiting::Yes(call_site) => {
                candidate.call_site = call_site;
                break;
            }
            // It may have been killed between the two looks.
            Waiting::No if is_there() => return None,
            Waiting::No => return is_young.then_some((entry, candidate)),
            // On its way to sleep; one that runs for long can't be told from one that is about to.
            Waiting::CannotTell => {
                let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &APART.into());
            }
        }
    }
    Some((entry, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The task 70/71 with that state and flags, started at that tick, and its stack.
    fn host(stat: Option<(&str, u64, u64)>, stack: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let task = root.path().join("proc/70/task/71");
        std::fs::create_dir_all(&task).unwrap();
        if let Some((state, flags, started)) = stat {
            let stat = format!("71 (ask) {state} 1 1 1 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 2 0 {started} 0 0");
            std::fs::write(task.join("stat"), stat).unwrap();
            std::fs::write(task.join("stack"), stack).unwrap();
        }
        let host = Host::at(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn who_waits_counts_and_so_does_who_was_killed_a_moment_ago() {
        const WAITS: &str = "[<0>] __request_module+0x1/0x2\n[<0>] f+0x3/0x4\n";
        const ELSEWHERE: &str = "[<0>] do_nanosleep+0x1/0x2\n";
        // It asked at tick 500.
        let time = 500 * TICK + TICK / 2;
        for (stat, stack, waited, young, old) in [
            (Some(("D", 0, 499)), WAITS, true, true, true),
            (Some(("D", 0, 500)), WAITS, true, true, true),
            // A successor of its number, however much it waits: ours is gone.
            (Some(("D", 0, 501)), WAITS, true, true, false),
            (Some(("S", 0, 499)), ELSEWHERE, true, false, false),
            (Some(("S", 0, 499)), ELSEWHERE, false, true, true),
            // On a processor: on its way to sleep, as far as anybody can tell.
            (Some(("R", 0, 499)), "", true, true, true),
            (Some(("Z", 0, 499)), "", true, true, false),
            (Some(("R", 4, 499)), ELSEWHERE, true, true, false),
            (None, "", true, true, false),
            (None, "", false, true, false),
        ] {
            let (_root, host) = host(stat, stack);
            for (is_young, expected) in [(true, young), (false, old)] {
                let found = judge(&host, waited, is_young, Entry::sample(70, 71, time));
                assert_eq!(found.is_some(), expected, "{stat:?} {stack} {waited} {is_young}");
                let Some((_, candidate)) = found else { continue };
                let waits = stack == WAITS && stat.is_some_and(|(_, _, started)| started <= 500);
                assert_eq!(candidate.call_site, waits.then(|| "f+0x3/0x4".into()));
                assert_eq!((candidate.pid, candidate.tid, candidate.started_by), (70, 71, Some(500)));
                assert_eq!(candidate.recorded, Some((1000, "ask".into())));
                // What is told of it is told of nobody else.
                let is_it = stat.is_some_and(|(_, _, started)| started <= 500);
                assert!(is_it || !crate::requester::is_still(&host, &candidate));
            }
        }
    }
}

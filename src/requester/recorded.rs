//! Who asked, by what the recorder wrote down.

use std::cell::Cell;

use crate::host::{Host, apart};
use crate::model::{Confidence, FoundBy};
use crate::requester::recorder::{Entry, Recorder, since_boot};
use crate::requester::waiting::{Waiting, look, nap, waits_within};
use crate::requester::{Candidate, Found, KTHREADD, Parent, Searched, Wishes, task, templates};
use crate::text::Text;

/// A request whose task is gone may be ours, its task killed while it waited, or one that was answered and is over: it
/// is taken for the former if it was made at most so long before we were started. Nanoseconds.
const GONE: u64 = 1_000_000_000;
/// No helper starts so much later than its request that one older than this may be ours, if its task is gone.
const LATE: u64 = 5 * GONE;
/// Tasks that have asked and not yet gone to sleep are looked at again so many times in all. Where fifty
/// ask for one name most of them wait for a processor, and so do we: more looks would take away what they wait for.
const LOOKS: usize = 20;
/// More who wait than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c). Who is killed
/// makes way for another before its helper ends.
const MAX_CANDIDATES: usize = 50;
/// Nanoseconds of a clock tick as `/proc` counts: USER_HZ is 100 wherever this runs.
const TICK: u64 = 10_000_000;

/// Why the recorder could not tell who asked.
pub(super) struct Failed {
    /// In words.
    pub why: String,
    /// The recorder, if it is there and well.
    pub recorder: Option<&'static Recorder>,
    /// It may have been somebody of whom the recorder knows no more, or who is gone for too long.
    pub is_lost: bool,
}

/// Finds each task that may have asked for `name`. If no rules ask who, only some of them are looked at.
pub(super) fn search(host: &Host, name: &[u8], parent: Parent, wishes: &Wishes<'_>) -> Result<Found, Failed> {
    // Unmapping it would make every processor that we ran on forget its translations, a moment before we end.
    let recorder: &'static Recorder = match Recorder::open() {
        Ok(recorder) => Box::leak(Box::new(recorder)),
        Err(why) => return Err(Failed { why, recorder: None, is_lost: false }),
    };
    // A request that nobody waits for is started from kthreadd, any other from a kworker (kernel/umh.c).
    let waited = parent.pid != KTHREADD;
    // A tick is rounded down.
    let started = parent.we_started.map_or_else(since_boot, |ours| ours.saturating_add(1).saturating_mul(TICK));
    let look = |entry: &Entry| match started.saturating_sub(entry.time) <= GONE {
        // Answered or gone: it matters only to rules which of them.
        false if entry.is_past && !wishes.rules => Fate::WentOn,
        is_young => fate(host, waited, is_young, entry),
    };
    let mut open = recorder.open_requests(name, waited);
    // A helper is started after its request.
    open.retain(|entry| entry.time <= started);
    if !wishes.rules {
        open = without_the_old(open, started);
    }
    let is_gone = Cell::new(false);
    let found = settle(open, wishes.described(), look, |over, fate| {
        // Of one who is gone another helper may still have to find out that it was killed.
        match fate {
            Fate::WentOn => _ = recorder.serve(over, name, waited),
            _ => is_gone.set(is_gone.get() || started.saturating_sub(over.time) <= LATE),
        }
    });
    let failed = |why: &str| Failed {
        why: why.into(),
        recorder: recorder.is_well().then_some(recorder),
        is_lost: is_gone.get() || recorder.has_lost(started.saturating_sub(GONE)),
    };
    let (found, has_left_out) = without_those_who_left(found);
    let found: Vec<_> = found.into_iter().map(|(entry, fate)| candidate(entry, fate, waited)).collect();
    let mut searched = Searched { found_by: Some(FoundBy::Recorder), ..Searched::default() };
    let Some(((first, _), others)) = found.split_first() else {
        return Err(failed("the recorder holds no such request"));
    };
    let for_others = found.iter().any(|(entry, _)| templates::works_for_others(&entry.comm));
    let principals = if for_others { principals(host, recorder, name, started) } else { Vec::new() };
    // Last: if something hangs on the way all of it is done anew, and this can be done once. It may be another's request, if
    // ours is one that was left out.
    if others.is_empty() && !has_left_out && !recorder.serve(first, name, waited) {
        return Err(failed("the recorder's only such request was taken by another helper"));
    }
    let is_certain = others.is_empty() && !has_left_out && principals.is_empty();
    searched.confidence = if is_certain { Confidence::Exact } else { Confidence::Ambiguous };
    if others.iter().all(|(other, _)| other.call_site == first.call_site) {
        searched.address = others.is_empty().then_some(first.call_site);
        searched.call_site = found.iter().find_map(|(_, candidate)| candidate.call_site.clone());
    }
    let candidates = found.into_iter().map(|(_, candidate)| candidate).chain(principals).collect();
    Ok(Found { searched, candidates, recorder: Some(recorder) })
}

/// For whom a thread of the kernel's may have asked for `name`, for which a helper was started at that time.
fn principals(host: &Host, recorder: &Recorder, name: &[u8], started: u64) -> Vec<Candidate> {
    let entries = recorder.all_about(|asked| templates::needs(asked, name));
    let looked_at = entries.into_iter().filter(|entry| entry.time <= started).filter_map(|entry| {
        let needs = still_needs(host, &entry, started.saturating_sub(entry.time) <= GONE)?;
        Some((entry, needs))
    });
    let (needing, _) = without_those_who_left(looked_at.take(MAX_CANDIDATES).collect());
    let principal = |entry: Entry| Candidate {
        recorded: Some((entry.uid, entry.comm)),
        is_principal: true,
        ..Candidate::new(entry.pid, entry.tid, Some(entry.time / TICK))
    };
    needing.into_iter().map(|(entry, _)| principal(entry)).collect()
}

/// Whether one that asked for an algorithm waits for it still, or was killed a moment ago, maybe.
fn still_needs(host: &Host, entry: &Entry, is_young: bool) -> Option<Fate> {
    let directory = format!("{}/task/{}", entry.pid, entry.tid);
    let gone = is_young.then_some(Fate::Killed);
    if task::is_changing(&directory) {
        return gone;
    }
    let stat = task::Stat::read(host, &directory);
    let Some(stat) = stat.filter(|stat| stat.started <= entry.time / TICK && !stat.is_ending) else { return gone };
    let waits = !entry.is_past && stat.state == b'D' && waits_within(host, &directory, templates::LOOKUP);
    waits.then_some(Fate::Waits(None))
}

/// Leaves out what was asked for so long before `started` that a helper started then serves something else, if there is anything
/// else: there may be a hundred of those, of whom nobody has told that they were answered.
fn without_the_old(mut open: Vec<Entry>, started: u64) -> Vec<Entry> {
    let is_late = |entry: &Entry| started.saturating_sub(entry.time) > LATE;
    if !open.iter().all(is_late) {
        open.retain(|entry| !is_late(entry));
    }
    open
}

/// Leaves out those who are gone, or do something else, and had asked for more before, and says whether there were any. They may
/// have been killed, and what they ask for on their way out is nobody's business; but most of them were answered, and where
/// somebody else waits for the same, or is about to, they are not to be taken for him: he gets it loaded for himself, or not.
fn without_those_who_left(found: Vec<(Entry, Fate)>) -> (Vec<(Entry, Fate)>, bool) {
    if !found.iter().any(|(_, fate)| matches!(fate, Fate::Waits(_) | Fate::Runs)) {
        return (found, false);
    }
    let count = found.len();
    let found: Vec<_> = found.into_iter().filter(|(entry, fate)| !entry.is_past || *fate != Fate::Killed).collect();
    let has_left_out = found.len() < count;
    (found, has_left_out)
}

/// What became of a task that made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It waits for the answer, asked for at this place, if that could be read; or nobody waits for this request.
    Waits(Option<Text>),
    /// It is gone, a moment ago: killed while it waited, maybe.
    Killed,
    /// It runs, and may be about to wait.
    Runs,
    /// It does something else, so its request was answered.
    WentOn,
    /// It is gone, and was not killed while it waited for this answer.
    Gone,
    /// Nobody looked.
    Unseen,
}

/// Looks at each that has made such a request, youngest first, and keeps those that may be the one. `is_over` is told of all
/// others. If there are more than `enough`, the oldest come first, and once so many wait the others are not looked at.
fn settle(
    mut open: Vec<Entry>,
    enough: usize,
    look: impl Fn(&Entry) -> Fate,
    is_over: impl Fn(&Entry, &Fate),
) -> Vec<(Entry, Fate)> {
    let stays = |(entry, fate): &(Entry, Fate)| {
        let is_over_now = matches!(fate, Fate::WentOn | Fate::Gone);
        if is_over_now {
            is_over(entry, fate);
        }
        !is_over_now
    };
    if enough < open.len() {
        // Who has asked first was answered first, and of that others are told once it was seen.
        open.reverse();
    }
    let mut waiting = 0_usize;
    let looked_at = open.into_iter().map(|entry| {
        // Who has asked for more does not wait: of that one it is soon told whether it went on.
        let fate = if waiting < enough || entry.is_past { look(&entry) } else { Fate::Unseen };
        waiting = waiting.saturating_add(usize::from(matches!(fate, Fate::Waits(_))));
        (entry, fate)
    });
    let mut found: Vec<_> = looked_at.filter(stays).collect();
    // Who waits is not left out for those who were killed, of whom there can be any number.
    found.sort_by_key(|(_, fate)| *fate == Fate::Killed);
    found.truncate(MAX_CANDIDATES);
    let mut looks = if waiting < enough { LOOKS } else { 0 };
    while looks > 0 && found.iter().any(|(_, fate)| *fate == Fate::Runs) {
        nap();
        for (entry, fate) in found.iter_mut().filter(|(_, fate)| *fate == Fate::Runs).take(looks) {
            *fate = look(entry);
            looks = looks.saturating_sub(1);
        }
        found.retain(stays);
    }
    found
}

/// See [`Fate`]; `is_young`: one that is gone may have been killed while it waited for us.
fn fate(host: &Host, waited: bool, is_young: bool, entry: &Entry) -> Fate {
    if apart::touches_nothing() {
        // Whoever it was may be this one.
        return Fate::Killed;
    }
    // Who was not killed asks for one thing at a time; but its number may be that of a program now that another thread became,
    // which killed it.
    if entry.is_past && is_young {
        return Fate::Killed;
    }
    let directory = format!("{}/task/{}", entry.pid, entry.tid);
    // A successor of its number can only have started after it.
    let is_there = || {
        let stat = task::Stat::read(host, &directory);
        stat.is_some_and(|stat| stat.started <= entry.time / TICK && !stat.is_ending)
    };
    let gone = if is_young { Fate::Killed } else { Fate::Gone };
    // Who becomes another program waits for no module, and whoever of that process did was killed before. It may stay so
    // for ever: nobody is to hang on it again.
    if task::is_changing(&directory) {
        return if is_young { Fate::Killed } else { Fate::WentOn };
    }
    if !is_there() {
        return gone;
    }
    if !waited {
        return Fate::Waits(None);
    }
    if entry.is_past {
        return Fate::WentOn;
    }
    match look(host, &directory) {
        Waiting::Yes(call_site) => Fate::Waits(call_site),
        // One that runs for long can't be told from one that is about to wait.
        Waiting::CannotTell | Waiting::Hidden => Fate::Runs,
        // It may have been killed between the two looks.
        Waiting::No if is_there() => Fate::WentOn,
        Waiting::No => gone,
    }
}

fn candidate(entry: Entry, fate: Fate, waits: bool) -> (Entry, Candidate) {
    let candidate = Candidate {
        waits,
        is_past: entry.is_past,
        asked: Some(entry.time),
        recorded: Some((entry.uid, entry.comm.clone())),
        call_site: if let Fate::Waits(call_site) = fate { call_site } else { None },
        ..Candidate::new(entry.pid, entry.tid, Some(entry.time / TICK))
    };
    (entry, candidate)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

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
            // Killed, and held by a debugger.
            (Some(("t", 0x400, 499)), ELSEWHERE, true, true, false),
            (None, "", true, true, false),
            (None, "", false, true, false),
        ] {
            let (_root, host) = host(stat, stack);
            for (is_young, expected) in [(true, young), (false, old)] {
                let entry = Entry::sample(70, 71, time);
                let look = |entry: &Entry| fate(&host, waited, is_young, entry);
                let over = Cell::new(0);
                let found = settle(vec![entry], usize::MAX, look, |_, fate| {
                    over.set(over.get() + u32::from(*fate == Fate::WentOn))
                });
                assert_eq!(!found.is_empty(), expected, "{stat:?} {stack} {waited} {is_young}");
                // Of one who is gone another helper may still have to find out that it was killed.
                let went_on = stat.is_some_and(|(state, flags, _)| state == "S" && flags == 0) && waited;
                assert_eq!(over.get(), u32::from(went_on), "{stat:?} {stack} {waited} {is_young}");
                let Some((entry, fate)) = found.into_iter().next() else { continue };
                let (_, candidate) = candidate(entry, fate, waited);
                let waits = stack == WAITS && stat.is_some_and(|(_, _, started)| started <= 500);
                assert_eq!(candidate.call_site, waits.then(|| "f+0x3/0x4".into()));
                assert_eq!((candidate.pid, candidate.tid, candidate.started_by), (70, 71, Some(500)));
                assert_eq!(candidate.recorded, Some((1000, "ask".into())));
                // What is told of it is told of nobody else.
                let is_it = stat.is_some_and(|(_, _, started)| started <= 500);
                let still = crate::requester::is_still(&host, &candidate, &crate::requester::tests::NEVER);
                assert!(is_it || still == crate::requester::Still::No);
            }
        }
    }

    #[test]
    fn who_asked_for_more_was_answered_or_is_being_killed() {
        const WAITS: &str = "[<0>] __request_module+0x1/0x2\n[<0>] crypto_larval_wait+0x3/0x4\n";
        for (stat, old, needs) in [
            (Some(("D", 0, 499)), Fate::WentOn, None),
            (Some(("R", 0x4, 499)), Fate::Gone, Some(Fate::Killed)),
            (None, Fate::Gone, Some(Fate::Killed)),
        ] {
            let (_root, host) = host(stat, WAITS);
            let mut entry = Entry::sample(70, 71, 500 * TICK);
            entry.is_past = true;
            assert_eq!(
                [true, false].map(|is_young| fate(&host, true, is_young, &entry)),
                [Fate::Killed, old],
                "{stat:?}"
            );
            assert_eq!(still_needs(&host, &entry, true), needs, "{stat:?}");
            let (_, candidate) = candidate(entry, Fate::Killed, true);
            assert!(candidate.is_past);
        }
    }

    #[test]
    fn who_left_is_not_taken_for_one_who_waits() {
        let found = |fates: &[(Fate, bool)]| {
            let entry = |(tid, (fate, is_past)): (i32, &(Fate, bool))| {
                let mut entry = Entry::sample(70, tid, 0);
                entry.is_past = *is_past;
                (entry, fate.clone())
            };
            let (left, has_left_out) = without_those_who_left((0..).zip(fates).map(entry).collect());
            (left.iter().map(|(entry, _)| entry.tid).collect::<Vec<_>>(), has_left_out)
        };
        let waits = (Fate::Waits(None), false);
        for (fates, expected) in [
            (vec![(Fate::Killed, true)], (vec![0], false)),
            (vec![(Fate::Killed, true), (Fate::Killed, false)], (vec![0, 1], false)),
            (vec![(Fate::Killed, true), waits.clone()], (vec![1], true)),
            (vec![(Fate::Killed, true), (Fate::Runs, false)], (vec![1], true)),
            (vec![(Fate::Killed, false), waits.clone()], (vec![0, 1], false)),
            (vec![waits.clone(), waits], (vec![0, 1], false)),
        ] {
            assert_eq!(found(&fates), expected, "{fates:?}");
        }
    }

    #[test]
    fn once_enough_wait_nobody_else_is_looked_at_but_for_who_has_asked_for_more() {
        let entries = || {
            let mut entries: Vec<_> = (0..8).map(|tid| Entry::sample(1, tid, 0)).collect();
            entries[6].is_past = true;
            entries.reverse();
            entries
        };
        let look = |looked: &Cell<usize>, entry: &Entry| {
            looked.set(looked.get() + 1);
            match entry.tid {
                1 => Fate::Runs,
                2 => Fate::Killed,
                6 => Fate::WentOn,
                _ => Fate::Waits(None),
            }
        };
        for (enough, expected, seen) in [(2, 5, &[0, 1, 3][..]), (usize::MAX, 8 + LOOKS, &[0, 1, 3, 4, 5, 7])] {
            let (looked, over) = (Cell::new(0), Cell::new(0));
            let found = settle(entries(), enough, |entry| look(&looked, entry), |_, _| over.set(over.get() + 1));
            assert_eq!((looked.get(), over.get()), (expected, 1), "{enough}");
            // Who was killed comes last.
            let mut expected = vec![0, 1, 3, 4, 5, 7];
            if enough == usize::MAX {
                expected.reverse();
            }
            expected.push(2);
            assert_eq!(found.iter().map(|(entry, _)| entry.tid).collect::<Vec<_>>(), expected);
            let is_seen = |(entry, fate): &(Entry, Fate)| (*fate != Fate::Unseen).then_some(entry.tid);
            let mut told: Vec<_> = found.iter().filter_map(is_seen).filter(|&tid| tid != 2).collect();
            told.sort_unstable();
            assert_eq!(told, seen);
        }
        let kept = |times: &[u64]| {
            let entries = times.iter().map(|&time| Entry::sample(1, 1, time)).collect();
            without_the_old(entries, LATE + 9).iter().map(|entry| entry.time).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[8, 10, 9, 0]), [10, 9]);
        assert_eq!(kept(&[8, 0]), [8, 0]);
        // Nor does any number of those who were killed push out who waits.
        let many: Vec<_> = (0..200).map(|tid| Entry::sample(1, tid, 0)).collect();
        let found = settle(
            many,
            usize::MAX,
            |entry| if entry.tid == 199 { Fate::Waits(None) } else { Fate::Killed },
            |_, _| panic!("none is over"),
        );
        assert_eq!((found.len(), found[0].0.tid), (MAX_CANDIDATES, 199));
    }

    #[test]
    fn where_nobody_can_be_looked_at_it_may_be_anybody() {
        let (_root, host) = host(Some(("S", 0, 499)), "[<0>] do_nanosleep+0x1/0x2\n");
        let entry = Entry::sample(70, 71, 500 * TICK);
        let others: Vec<_> =
            (80..90).map(|pid| CString::new(format!("/proc/{pid}/task/{pid}/stat")).unwrap()).collect();
        for (hanging, expected) in [(1, Fate::WentOn), (10, Fate::Killed)] {
            let work = || {
                others.iter().take(hanging).for_each(|other| _ = apart::hang(other));
                fate(&host, true, false, &entry)
            };
            assert_eq!(apart::ask(&host.opened(), work), Some(expected), "{hanging}");
        }
    }

    #[test]
    fn who_needs_an_algorithm_waits_for_it_or_was_killed_a_moment_ago() {
        let time = 500 * TICK;
        const WAITS: &str = "[<0>] crypto_larval_wait+0x1/0x2\n[<0>] crypto_alg_mod_lookup+0x1/0x2\n";
        for (stat, stack, young, old) in [
            (Some(("D", 0, 499)), WAITS, true, true),
            (Some(("D", 0, 499)), "", true, true),
            (Some(("D", 0, 499)), "[<0>] io_schedule+0x1/0x2\n", false, false),
            (Some(("S", 0, 499)), WAITS, false, false),
            (Some(("D", 0x400, 499)), WAITS, true, false),
            (Some(("D", 0, 501)), WAITS, true, false),
            (None, "", true, false),
        ] {
            let (_root, host) = host(stat, stack);
            let told = [true, false].map(|is_young| still_needs(&host, &Entry::sample(70, 71, time), is_young));
            assert_eq!(told.map(|fate| fate.is_some()), [young, old], "{stat:?} {stack}");
        }
    }

    #[test]
    fn however_many_are_about_to_wait_few_are_looked_at_again() {
        let entries = |count: i32| (0..count).map(|tid| Entry::sample(1, tid, 0)).collect();
        for (count, last) in [(1, 21), (3, 23), (40, 60), (70, 90)] {
            let looks = Cell::new(0);
            let look = |_: &Entry| {
                looks.set(looks.get() + 1);
                Fate::Runs
            };
            let found = settle(entries(count), usize::MAX, look, |_, _| panic!("none is over"));
            assert_eq!((looks.get(), found.len()), (last, usize::try_from(count).unwrap().min(MAX_CANDIDATES)));
        }
        // One that went to sleep, and one that turned out to have been answered.
        let looks = Cell::new(0);
        let look = |entry: &Entry| {
            looks.set(looks.get() + 1);
            match (looks.get() > 3, entry.tid) {
                (false, _) => Fate::Runs,
                (true, 0) => Fate::WentOn,
                (true, _) => Fate::Waits(None),
            }
        };
        let over = Cell::new(None);
        let found = settle(entries(3), usize::MAX, look, |entry, _| over.set(Some(entry.tid)));
        assert_eq!((looks.get(), over.get()), (6, Some(0)));
        assert_eq!(found.iter().map(|(entry, _)| entry.tid).collect::<Vec<_>>(), [1, 2]);
        assert!(found.iter().all(|(_, fate)| *fate == Fate::Waits(None)));
    }
}

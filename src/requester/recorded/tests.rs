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
            let look = |entry: &Entry| fate(&host, waited, is_young, true, entry);
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
            [true, false].map(|is_young| fate(&host, true, is_young, true, &entry)),
            [Fate::Killed, old],
            "{stat:?}"
        );
        // Without rules that ask who nobody is looked at for that.
        assert_eq!(fate(&host, true, false, false, &entry), Fate::Gone, "{stat:?}");
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
    for (enough, expected, order, seen) in [
        (2, 5, [0, 3, 1, 4, 5, 7, 2], &[0, 1, 3][..]),
        (usize::MAX, 8 + LOOKS, [7, 5, 4, 3, 0, 1, 2], &[0, 1, 3, 4, 5, 7]),
    ] {
        let (looked, over) = (Cell::new(0), Cell::new(0));
        let found = settle(entries(), enough, |entry| look(&looked, entry), |_, _| over.set(over.get() + 1));
        assert_eq!((looked.get(), over.get()), (expected, 1), "{enough}");
        // Who waits comes first, who was killed last.
        assert_eq!(found.iter().map(|(entry, _)| entry.tid).collect::<Vec<_>>(), order);
        let is_seen = |(entry, fate): &(Entry, Fate)| (*fate != Fate::Unseen).then_some(entry.tid);
        let mut told: Vec<_> = found.iter().filter_map(is_seen).filter(|&tid| tid != 2).collect();
        told.sort_unstable();
        assert_eq!(told, seen);
    }
    for (fate, age, rules, expected) in [
        (Fate::WentOn, 0, true, true),
        (Fate::WentOn, 0, false, true),
        (Fate::Gone, LATE, false, false),
        (Fate::Gone, LATE + 1, false, true),
        (Fate::Gone, LATE + 1, true, false),
    ] {
        assert_eq!(fate.is_settled(age, rules), expected, "{fate:?} {age} {rules}");
    }
    // Nor does any number of those who run or were killed push out who waits, nor take a place among those who are described.
    for (other, enough, rank) in [(Fate::Killed, usize::MAX, 3), (Fate::Runs, usize::MAX, 1), (Fate::Runs, 2, 1)] {
        let many: Vec<_> = (0..200).map(|tid| Entry::sample(1, tid, 0)).collect();
        let look = |entry: &Entry| if entry.tid == 150 { Fate::Waits(None) } else { other.clone() };
        let found = settle(many, enough, look, |_, _| panic!("none is over"));
        assert_eq!((found.len(), found[0].0.tid, found[1].1.rank()), (MAX_CANDIDATES, 150, rank), "{other:?}");
    }
    // One who goes to sleep while the others run on.
    let looks = Cell::new(0);
    let look = |entry: &Entry| {
        looks.set(looks.get() + 1);
        if entry.tid == 2 && looks.get() > 3 { Fate::Waits(None) } else { Fate::Runs }
    };
    let three = (0..3).map(|tid| Entry::sample(1, tid, 0)).collect();
    let found = settle(three, usize::MAX, look, |_, _| panic!("none is over"));
    assert_eq!(found.iter().map(|(entry, _)| entry.tid).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn where_nobody_can_be_looked_at_it_may_be_anybody() {
    let (_root, host) = host(Some(("S", 0, 499)), "[<0>] do_nanosleep+0x1/0x2\n");
    let entry = Entry::sample(70, 71, 500 * TICK);
    let others: Vec<_> = (80..90).map(|pid| CString::new(format!("/proc/{pid}/task/{pid}/stat")).unwrap()).collect();
    for (hanging, expected) in [(1, Fate::WentOn), (10, Fate::Killed)] {
        let work = || {
            others.iter().take(hanging).for_each(|other| _ = apart::hang(other));
            fate(&host, true, false, true, &entry)
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

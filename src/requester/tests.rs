use std::ffi::CString;
use std::slice;

use super::*;

fn wishes(command_lines: bool) -> Wishes<'static> {
    Wishes { rules: false, command_lines, executables: Vec::new() }
}

/// At somebody who asks for nothing else, by a policy that does not ask who.
pub(super) const NEVER: Look<'static> = Look { has_asked_since: &|_, _| false, further: None };

#[test]
fn a_program_that_calls_us_is_known_exactly() {
    let host = Host::this();
    let parent = Parent::of_ours(&host);
    assert_eq!(parent.kind, ParentKind::Program);
    let requester = identify(&host, b"x", Caller::Xtables, parent, &wishes(true));
    assert_eq!((requester.confidence, requester.found_by), (Confidence::Exact, Some(FoundBy::Parent)));
    assert_eq!(requester.task.pid, Some(parent.pid));
    assert!(requester.task.cmdline.is_some());
    assert!(requester.task.known.unit);
    let requester = identify(&host, b"x", Caller::Xtables, parent, &wishes(false));
    assert_eq!(requester.task.cmdline, None);
}

#[test]
fn what_was_read_of_a_successor_counts_for_nothing() {
    let host = Host::this();
    let pid = i32::try_from(std::process::id()).unwrap();
    let own = task::Stat::read(&host, &pid.to_string()).unwrap().started;
    let uid = nix::unistd::getuid().as_raw();
    for (started_by, waits, is_past, is_it) in [
        (own, false, false, true),
        (own - 1, false, false, false),
        (own, true, false, false),
        (own, false, true, false),
    ] {
        let recorded = Some((uid, "ask".into()));
        let candidate = Candidate { waits, is_past, recorded, ..Candidate::new(pid, pid, Some(started_by)) };
        let (task, still) = describe_all(&host, &[candidate], &wishes(true), &NEVER).remove(0);
        assert_eq!(still == Still::Yes, is_it);
        assert_eq!((task.pid, task.exe.is_some(), task.cmdline.is_some()), (Some(pid), is_it, is_it));
        assert_eq!(task.known.unit, is_it);
        assert_eq!((task.uid, task.comm == Some("ask".into())), (Some(uid), !is_it));
    }
}

#[test]
fn who_goes_on_is_not_who_was_found() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path()).unwrap();
    let directory = root.path().join("proc/7/task/7");
    std::fs::create_dir_all(&directory).unwrap();
    let candidate = Candidate { waits: true, ..Candidate::new(7, 7, Some(5)) };
    let waits = "[<0>] __request_module+0x1/0x2\n";
    for (state, stack, wchan, expected) in [
        ("D", Some(waits), "0", Still::Yes),
        // It was about to be put on a processor.
        ("R", Some(waits), "0", Still::Yes),
        // On one, each time: it may run another program by now, and wait for a page of it now and then.
        ("R", Some(""), "0", Still::Unsure),
        ("D", Some(""), "0", Still::Unsure),
        ("D", Some("[<0>] do_nanosleep+0x1/0x2\n"), "0", Still::No),
        // Nobody may see stacks.
        ("D", None, "call_usermodehelper_exec", Still::Yes),
        ("D", None, "0", Still::Yes),
        ("R", None, "0", Still::Unsure),
        ("S", None, "0", Still::No),
    ] {
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        write("stat", &format!("7 (x) {state} 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0"));
        write("wchan", wchan);
        let _ = std::fs::remove_file(directory.join("stack"));
        if let Some(stack) = stack {
            write("stack", stack);
        }
        assert_eq!(is_still(&host, &candidate, &NEVER), expected, "{state} {stack:?} {wchan}");
    }
    // It waits for the answer to another request by now.
    std::fs::write(directory.join("stack"), waits).unwrap();
    for (asked, expected) in [(None, Still::Yes), (Some(70), Still::No), (Some(71), Still::Yes)] {
        let candidate = Candidate { asked, ..candidate.clone() };
        let has_asked_since = |tid, time| (tid, time) == (7, 70);
        let look = Look { has_asked_since: &has_asked_since, ..NEVER };
        assert_eq!(is_still(&host, &candidate, &look), expected, "{asked:?}");
    }
    // Something that can't be read is not gone.
    std::fs::write(directory.join("stat"), "7 (x").unwrap();
    assert_eq!(is_still(&host, &candidate, &NEVER), Still::Unsure);
    std::fs::remove_file(directory.join("stat")).unwrap();
    assert_eq!(is_still(&host, &candidate, &NEVER), Still::No);
}

#[test]
fn of_whom_something_hung_nobody_can_say_that_he_is_still_there() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path()).unwrap();
    let directory = root.path().join("proc/7/task/7");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("stat"), "7 (x) D 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap();
    std::fs::write(directory.join("stack"), "[<0>] __request_module+0x1/0x2\n").unwrap();
    for (hangs, expected) in [
        (c"/proc/8/exe", Still::Yes),
        (c"/proc/7/exe", Still::Yes),
        // Whose own files hang becomes another program.
        (c"/proc/7/task/7/stack", Still::No),
        (c"/proc/7/task/7/stat", Still::No),
        // For what others hold locks as well.
        (c"/proc/7/task/7/cgroup", Still::Yes),
        (c"/proc/7/task/7/cmdline", Still::Yes),
    ] {
        let candidate = Candidate { waits: true, ..Candidate::new(7, 7, Some(5)) };
        let work = || (apart::hang(hangs), is_still(&host, &candidate, &NEVER)).1;
        assert_eq!(apart::ask(&host.opened(), work), Some(expected), "{hangs:?}");
    }
}

#[test]
fn of_many_who_may_have_asked_the_first_are_described_and_all_if_rules_ask_who() {
    let host = Host::this();
    let pid = i32::try_from(std::process::id()).unwrap();
    let ours = nix::unistd::getuid().as_raw();
    let recorded = Some((ours, "asked".into()));
    let candidates = vec![Candidate { recorded, ..Candidate::new(pid, pid, None) }; 10];
    for (rules, described) in [(false, DESCRIBED), (true, 10)] {
        let wishes = Wishes { rules, ..wishes(true) };
        let tasks = describe_all(&host, &candidates, &wishes, &NEVER);
        for (at, (task, still)) in tasks.iter().enumerate() {
            assert_eq!((task.pid, task.tid), (Some(pid), Some(pid)));
            let has = (task.exe.is_some(), task.cmdline.is_some(), task.known.unit);
            assert_eq!(has, (at < described, at < described, at < described), "{at}");
            assert_eq!((task.uid, task.comm == Some("asked".into())), (Some(ours), at >= described), "{at}");
            assert_eq!(*still == Still::Yes, at < described, "{at}");
        }
        assert_eq!(tasks.len(), 10);
    }
}

#[test]
fn a_parent_that_is_gone_is_nobody() {
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let host = Host::this();
    let started = task::Stat::read(&host, &pid.to_string()).map(|stat| stat.started);
    let parent = Parent { pid, grandparent: 1, kind: ParentKind::Program, started, we_started: None };
    let identified = || identify(&host, b"x", Caller::Modprobe, parent, &wishes(true));
    let found = identified();
    assert_eq!(
        (found.confidence, found.task.pid, found.task.comm),
        (Confidence::Exact, Some(pid), Some("sleep".into()))
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(identified(), Requester::unknown());
}

#[test]
fn of_whom_others_work_for_what_is_missing_was_kept_from_us() {
    for is_principal in [false, true] {
        let candidate = Candidate { is_principal, ..Candidate::new(7, 7, None) };
        assert_eq!(candidate.into_recorded().known.hides, is_principal);
    }
    let lost = Candidate::lost().into_recorded();
    assert_eq!((lost.pid, lost.tid, lost.known.hides), (None, None, true));
}

#[test]
fn beside_whom_everything_hangs_who_asked_is_kept_from_us() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path()).unwrap();
    let directory = root.path().join("proc/7/task/7");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("stat"), "7 (x) D 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap();
    let others: Vec<_> = (80..90).map(|pid| CString::new(format!("/proc/{pid}/task/{pid}/stat")).unwrap()).collect();
    for (asked, hanging, hides) in [(Some(1), 10, true), (None, 10, false), (Some(1), 3, false)] {
        let candidate = Candidate { asked, ..Candidate::new(7, 7, Some(5)) };
        let work = || {
            others.iter().take(hanging).for_each(|other| _ = apart::hang(other));
            describe_all(&host, slice::from_ref(&candidate), &wishes(false), &NEVER).remove(0).0
        };
        assert_eq!(apart::ask(&host.opened(), work).unwrap().known.hides, hides, "{asked:?} {hanging}");
    }
}

#[test]
fn who_runs_is_looked_at_until_he_runs_on_or_somebody_waits() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path()).unwrap();
    let write = |pid: i32, state: &str, stack: &str| {
        let directory = root.path().join(format!("proc/{pid}/task/{pid}"));
        std::fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) {state} 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0");
        for (name, text) in [("stat", &*stat), ("stack", stack), ("schedstat", "7 7 7")] {
            std::fs::write(directory.join(name), text).unwrap();
        }
    };
    let candidates = [7, 8].map(|pid| Candidate { waits: true, ..Candidate::new(pid, pid, Some(5)) });
    let after = |mut stills: [Still; 2]| {
        let further = Cell::new(3);
        still::look_further(&host, &candidates, &Look { further: Some(&further), ..NEVER }, &mut stills);
        (stills, further.get())
    };
    // Neither gets a processor: they may be about to wait.
    write(7, "R", "");
    write(8, "R", "");
    assert_eq!(after([Still::Unsure; 2]), ([Still::Unsure; 2], 0));
    assert_eq!(after([Still::No, Still::Yes]), ([Still::No, Still::Yes], 3));
    assert_eq!(after([Still::Unsure, Still::Yes]), ([Still::Unsure, Still::Yes], 3));
    // One goes to sleep, whatever it does there.
    write(8, "D", "[<0>] __request_module+0x1/0x2\n");
    assert_eq!(after([Still::Unsure; 2]), ([Still::Unsure, Still::Yes], 2));
    write(8, "D", "[<0>] do_nanosleep+0x1/0x2\n");
    assert_eq!(after([Still::Unsure; 2]), ([Still::Unsure, Still::No], 0));
}

#[test]
fn who_runs_on_is_not_about_to_wait() {
    let mut runs = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let pid = i32::try_from(runs.id()).unwrap();
    let candidate = Candidate { waits: true, ..Candidate::new(pid, pid, None) };
    let wishes = Wishes { rules: true, ..wishes(false) };
    // A generous limit against a machine that is busy.
    let further = Cell::new(2000);
    let look = Look { further: Some(&further), ..NEVER };
    let described = || describe_all(&Host::this(), slice::from_ref(&candidate), &wishes, &look).remove(0);
    // It sleeps now and then while it starts.
    let has_run =
        || std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap().split(' ').next().unwrap().len() > 8;
    while !has_run() {
        std::thread::yield_now();
    }
    let (task, still) = described();
    runs.kill().unwrap();
    runs.wait().unwrap();
    assert_eq!((still, task.exe, further.get() > 0), (Still::No, None, true));
    assert_eq!(described().1, Still::No);
}

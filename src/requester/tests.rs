use super::*;

fn wishes(command_lines: bool) -> Wishes<'static> {
    Wishes { rules: false, command_lines, executables: Vec::new() }
}

#[test]
fn a_program_that_calls_us_is_known_exactly() {
    let host = Host::this();
    let parent = Parent::of_ours(&host);
    assert_eq!(parent.kind, ParentKind::Program);
    let requester = identify(&host, b"x", Caller::Xtables, parent, &wishes(true)).wait();
    assert_eq!((requester.confidence, requester.found_by), (Confidence::Exact, Some(FoundBy::Parent)));
    assert_eq!(requester.task.pid, Some(parent.pid));
    assert!(requester.task.cmdline.is_some());
    assert!(requester.task.known.unit);
    let requester = identify(&host, b"x", Caller::Xtables, parent, &wishes(false)).wait();
    assert_eq!(requester.task.cmdline, None);
}

#[test]
fn an_answer_cut_anywhere_is_what_came_before() {
    let files = |path: &str| Files { are: vec![path.to_owned()], complete: true };
    let searched = Searched { confidence: Confidence::Likely, found_by: Some(FoundBy::Stack), ..Searched::default() };
    let candidate = Candidate { pid: 7, tid: 8, started_by: None, waits: true, recorded: None, call_site: None };
    let mut answer = Vec::new();
    let mut ends = Vec::new();
    for finding in [
        Finding::Candidate(candidate.clone()),
        Finding::Searched(searched),
        Finding::Of(0, Fact::Groups(Groups { unit: Some("a.service".into()), container: None })),
        Finding::Of(0, Fact::Executables(files("/a"), files("/b"))),
        Finding::Of(0, Fact::CommandLine(vec![Text::from("iptables")])),
        Finding::CallSite("f+0x1".into()),
    ] {
        tell(&mut answer, &finding);
        ends.push(answer.len());
    }
    for length in 0..=answer.len() {
        let Answer { searched, candidates } =
            assemble(Found::default(), usize::MAX, std::iter::empty(), &answer[..length]);
        let came = ends.iter().filter(|end| **end <= length).count();
        let expected = [Confidence::Unknown, Confidence::Ambiguous, Confidence::Likely];
        assert_eq!(searched.confidence, expected[came.min(2)], "{length}");
        assert_eq!(searched.call_site.is_some(), came >= 6, "{length}");
        let Some((found, told)) = candidates.into_iter().next() else {
            assert_eq!(came, 0);
            continue;
        };
        assert_eq!(found, candidate);
        let task = told.complete(Task { uid: Some(6), ..Task::default() });
        assert_eq!(task.uid, Some(6));
        assert_eq!((task.known.unit, task.unit.is_some()), (came >= 3, came >= 3), "{length}");
        assert_eq!(task.known.ancestors.complete, came >= 4, "{length}");
        assert_eq!(task.cmdline.is_some(), came >= 5, "{length}");
    }
}

#[test]
fn what_was_read_of_a_successor_counts_for_nothing() {
    let host = Host::this();
    let pid = i32::try_from(std::process::id()).unwrap();
    let own = task::Stat::read(&host, &pid.to_string()).unwrap().started;
    for (started_by, is_it) in [(own, true), (own - 1, false)] {
        let recorded = Some((5, "ask".into()));
        let candidate =
            Candidate { pid, tid: pid, started_by: Some(started_by), waits: false, recorded, call_site: None };
        let searched = Searched { confidence: Confidence::Exact, ..Searched::default() };
        let read = read(&host, std::slice::from_ref(&candidate), &wishes(true)).ok();
        let search = Search { host: &host, described: 1, found: (searched, vec![candidate]), read, told: None };
        let task = search.wait().task;
        assert_eq!((task.pid, task.exe.is_some(), task.cmdline.is_some()), (Some(pid), is_it, is_it));
        assert_eq!(task.known.unit, is_it);
        assert_eq!((task.uid == Some(5), task.comm == Some("ask".into())), (!is_it, !is_it));
    }
}

#[test]
fn of_many_who_may_have_asked_the_first_are_described_and_all_if_rules_ask_who() {
    let host = Host::this();
    let pid = i32::try_from(std::process::id()).unwrap();
    let one = |uid| {
        let recorded = Some((uid, "ask".into()));
        Candidate { pid, tid: pid, started_by: None, waits: false, recorded, call_site: None }
    };
    let candidates: Vec<_> = (0..10).map(|at| one(1_000_000 + at)).collect();
    for (rules, described) in [(false, DESCRIBED), (true, 10)] {
        let wishes = Wishes { rules, ..wishes(true) };
        let searched = Searched { confidence: Confidence::Ambiguous, ..Searched::default() };
        let read = read(&host, &candidates, &wishes).ok();
        let found = (searched, candidates.clone());
        let search = Search { host: &host, described: wishes.described(), found, read, told: None };
        let tasks = search.wait().candidates;
        for (at, task) in tasks.iter().enumerate() {
            assert_eq!((task.pid, task.tid), (Some(pid), Some(pid)));
            let has = (task.exe.is_some(), task.cmdline.is_some(), task.known.unit);
            assert_eq!(has, (at < described, at < described, at < described), "{at}");
            assert_eq!(task.uid == Some(1_000_000 + u32::try_from(at).unwrap()), at >= described, "{at}");
        }
        assert_eq!(tasks.len(), 10);
    }
}

use super::*;

fn wishes(command_lines: bool) -> Wishes<'static> {
    Wishes { command_lines, executables: Vec::new() }
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
    let mut answer = Vec::new();
    let mut ends = Vec::new();
    let task = Task { pid: Some(7), uid: Some(6), ..Task::default() };
    let files = |path: &str| Files { are: vec![path.to_owned()], complete: true };
    let searched = Searched { confidence: Confidence::Likely, found_by: Some(FoundBy::Stack), ..Searched::default() };
    for finding in [
        Finding::Candidate { pid: 7, tid: 7, recorded: Some((5, "ask".into())) },
        Finding::Searched(searched),
        Finding::Described(0, Box::new(task), Known { unit: true, ..Known::default() }),
        Finding::Executables(0, files("/a"), files("/b")),
        Finding::CommandLine(0, vec![Text::from("iptables")]),
        Finding::CallSite("f+0x1".into()),
    ] {
        tell(&mut answer, &finding);
        ends.push(answer.len());
    }
    for length in 0..=answer.len() {
        let requester = assemble(Vec::new(), &answer[..length]);
        let came = ends.iter().filter(|end| **end <= length).count();
        let expected = [Confidence::Unknown, Confidence::Ambiguous, Confidence::Likely];
        assert_eq!(requester.confidence, expected[came.min(2)], "{length}");
        let task = requester.candidates.first().unwrap_or(&requester.task);
        assert_eq!(task.uid, [None, Some(5), Some(5), Some(6)][came.min(3)], "{length}");
        assert_eq!(task.known.unit, came >= 3, "{length}");
        assert_eq!(task.known.ancestors.complete, came >= 4, "{length}");
        assert_eq!(task.cmdline.is_some(), came >= 5, "{length}");
        assert_eq!(requester.call_site.is_some(), came >= 6, "{length}");
    }
}

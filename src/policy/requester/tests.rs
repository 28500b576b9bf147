use super::*;
use crate::policy::{Source, parse};

/// The `requester` of a rule.
fn who(value: &str) -> Who {
    let text = format!("[[rule]]\nid = \"r\"\nmodules = [\"*\"]\naction = \"block\"\nrequester = {value}");
    let policy = parse(&[Source::new("p", text.into())]).unwrap_or_else(|findings| panic!("{value}: {findings:?}"));
    policy.rules.into_iter().next().unwrap().requester.unwrap()
}

fn request(caller: Caller) -> Request {
    Request { name: "x".into(), caller }
}

/// What a rule of one key answers of a task, in a letter: y, n, or ? where it cannot be told.
fn answer(value: &str, task: &Task) -> char {
    let Who::All(conditions) = who(value) else { panic!("{value} is no table") };
    match all_of(&conditions, task, &request(Caller::Kernel)) {
        Answer::No => 'n',
        Answer::Unknown => '?',
        Answer::Yes => 'y',
    }
}

/// The facts that are given, all others unknown: `KEY=VALUE` words; a bare `KEY` is known to be absent, and `KEY+` of
/// files that the list is complete; `hides` that what is unknown was kept from us.
fn task(facts: &str) -> Task {
    let mut task = Task::default();
    for fact in facts.split_whitespace() {
        let (key, value) = fact.split_once('=').unwrap_or((fact, ""));
        let text = (!value.is_empty()).then(|| Text::from(value));
        match key {
            "exe" => task.known.exe.are.push(value.into()),
            "exe+" => task.known.exe.complete = true,
            "ancestor" => task.known.ancestors.are.push(value.into()),
            "ancestor+" => task.known.ancestors.complete = true,
            "unit" => (task.unit, task.known.unit) = (text, value.is_empty()),
            "container" => (task.container, task.known.container) = (text, value.is_empty()),
            "uid" => task.uid = Some(value.parse().unwrap()),
            "auid" => (task.auid, task.known.auid) = (value.parse().ok(), value.is_empty()),
            "userns" => task.userns = Some(if value == "host" { Namespace::Host } else { Namespace::Other }),
            "hides" => task.known.hides = true,
            other => panic!("{other}"),
        }
    }
    task
}

#[test]
fn every_key_has_three_answers() {
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";
    let in_id = format!("container={id}");
    for (value, answers) in [
        (
            "{ exe = \"/a\" }",
            &[("exe=/a", 'y'), ("exe=/a exe+", 'y'), ("exe=/b", '?'), ("exe=/b exe+", 'n'), ("exe+", 'n'), ("", '?')][..],
        ),
        ("{ exe = [\"/a\", \"/b\"] }", &[("exe=/b", 'y'), ("exe=/c", '?'), ("exe+", 'n'), ("ancestor=/a exe+", 'n')]),
        ("{ exe = \"!/a\" }", &[("exe=/a", 'n'), ("exe=/b", '?'), ("exe=/b exe+", 'y'), ("", '?')]),
        (
            "{ ancestor = \"/a\" }",
            &[("ancestor=/a", 'y'), ("ancestor=/b", '?'), ("ancestor+", 'n'), ("exe=/a ancestor+", 'n'), ("", '?')],
        ),
        ("{ ancestor = \"!/a\" }", &[("ancestor=/a ancestor=/b", 'n'), ("ancestor=/b ancestor+", 'y'), ("", '?')]),
        (
            "{ unit = \"foo-bar.service\" }",
            &[
                ("unit=foo-bar.service", 'y'),
                ("unit=foo_bar.service", 'n'),
                ("unit=foo-bar.service2", 'n'),
                ("unit", 'n'),
                ("", '?'),
            ],
        ),
        ("{ unit = [\"d*.service\", \"!docker.*\"] }", &[("unit=dbus.service", 'y'), ("unit=docker.service", 'n')]),
        (
            "{ unit = \"!docker.service\" }",
            &[("unit", 'y'), ("unit=a.scope", 'y'), ("unit=docker.service", 'n'), ("", '?')],
        ),
        ("{ container = true }", &[("container=a", 'y'), ("container", 'n'), ("", '?')]),
        ("{ container = false }", &[("container=a", 'n'), ("container", 'y'), ("", '?')]),
        (
            "{ container = \"web-*\" }",
            &[("container=web-1", 'y'), ("container=web_1", 'n'), ("container", 'n'), ("", '?')],
        ),
        ("{ container = \"!web\" }", &[("container=web", 'n'), ("container=x", 'y'), ("container", 'y'), ("", '?')]),
        // Docker's short ids.
        ("{ container = \"0123456789ab\" }", &[(&in_id, 'y'), ("container=0123456789abc", 'n')]),
        ("{ container = \"0123456789a\" }", &[(&in_id, 'n'), ("container=0123456789a", 'y')]),
        ("{ container = \"0123456789ax\" }", &[(&in_id, 'n')]),
        ("{ container = \"123456789abc\" }", &[(&in_id, 'n')]),
        ("{ container = \"!0123456789ab\" }", &[(&in_id, 'n'), ("container=0123456789abc", 'y')]),
        ("{ container = \"0123456789a*\" }", &[(&in_id, 'y')]),
        ("{ uid = 0 }", &[("uid=0", 'y'), ("uid=1", 'n'), ("", '?')]),
        ("{ uid = \"0\" }", &[("uid=0", 'y'), ("uid=1", 'n')]),
        ("{ uid = \"!0\" }", &[("uid=0", 'n'), ("uid=1", 'y'), ("", '?')]),
        ("{ uid = 4294967294 }", &[("uid=4294967294", 'y')]),
        (
            "{ uid = [\"1000-1999\", 5, \"!1500-1501\"] }",
            &[
                ("uid=999", 'n'),
                ("uid=1000", 'y'),
                ("uid=1999", 'y'),
                ("uid=2000", 'n'),
                ("uid=5", 'y'),
                ("uid=1500", 'n'),
                ("uid=1501", 'n'),
                ("uid=1502", 'y'),
            ],
        ),
        ("{ uid = [\"!0\", \"!5\"] }", &[("uid=0", 'n'), ("uid=5", 'n'), ("uid=6", 'y')]),
        ("{ auid = 1000 }", &[("auid=1000", 'y'), ("auid=1", 'n'), ("auid", 'n'), ("", '?')]),
        ("{ auid = \"!1000\" }", &[("auid=1000", 'n'), ("auid", 'y'), ("", '?')]),
        ("{ auid = \"none\" }", &[("auid=1000", 'n'), ("auid", 'y'), ("", '?')]),
        ("{ auid = \"!none\" }", &[("auid=1000", 'y'), ("auid", 'n'), ("", '?')]),
        ("{ auid = [\"none\", \"0\"] }", &[("auid=0", 'y'), ("auid", 'y'), ("auid=7", 'n'), ("", '?')]),
        ("{ userns = \"host\" }", &[("userns=host", 'y'), ("userns=other", 'n'), ("", '?')]),
        ("{ userns = \"other\" }", &[("userns=host", 'n'), ("userns=other", 'y'), ("", '?')]),
        ("{ caller = \"kernel\" }", &[("", 'y')]),
        ("{ caller = [\"xtables\", \"hook\"] }", &[("", 'n')]),
        ("{ caller = \"!modprobe\" }", &[("", 'y')]),
        ("{ caller = [\"!kernel\"] }", &[("", 'n')]),
        // Several keys: all must hold. A certain no weighs more than what nobody knows.
        (
            "{ uid = 0, unit = \"a.service\" }",
            &[("uid=0 unit=a.service", 'y'), ("uid=1", 'n'), ("unit", 'n'), ("uid=0", '?'), ("unit=a.service", '?')],
        ),
        ("{ caller = \"hook\", unit = \"a.service\" }", &[("", 'n')]),
        ("{ caller = \"kernel\", unit = \"a.service\" }", &[("", '?')]),
    ] {
        for (facts, expected) in answers {
            assert_eq!(answer(value, &task(facts)), *expected, "{value} of `{facts}`");
        }
    }
}

#[test]
fn the_way_of_the_request_is_asked_of_the_request() {
    for (word, own) in CALLERS {
        for (_, other) in CALLERS {
            let who = who(&format!("{{ caller = \"{word}\" }}"));
            let is = who.is(Action::Allow, &Defaults::default(), &request(other), &Requester::unknown());
            assert_eq!(is, own == other, "{word} {other:?}");
        }
    }
}

fn found(confidence: Confidence, found_by: Option<FoundBy>, tasks: &[&str]) -> Requester {
    let mut tasks: Vec<Task> = tasks.iter().map(|facts| task(facts)).collect();
    let (task, candidates) = if tasks.len() == 1 { (tasks.remove(0), Vec::new()) } else { (Task::default(), tasks) };
    Requester { confidence, found_by, task, candidates, ..Requester::unknown() }
}

/// Whether a rule of `action` is about `requester`, with `unknown_requester` pass and block, or `trust` exact and
/// likely.
fn both(value: &str, action: Action, requester: &Requester) -> [bool; 2] {
    let who = who(value);
    let lax = Defaults::default();
    let strict = Defaults { unknown_requester: UnknownRequester::Block, trust: Trust::Likely, ..Defaults::default() };
    [lax, strict].map(|defaults| who.is(action, &defaults, &request(Caller::Kernel), requester))
}

#[test]
fn a_block_is_about_any_candidate_and_about_the_unknown_as_the_defaults_say() {
    for (value, tasks, expected) in [
        ("{ uid = 0 }", &["uid=0"][..], [true, true]),
        ("{ uid = 0 }", &["uid=1"], [false, false]),
        ("{ uid = 0 }", &[""], [false, true]),
        ("{ uid = 0 }", &["uid=1", "uid=0"], [true, true]),
        ("{ uid = 0 }", &["uid=1", ""], [false, true]),
        ("{ uid = 0 }", &["", "uid=0"], [true, true]),
        ("{ uid = 0 }", &["uid=1", "uid=2"], [false, false]),
        // What was kept from us counts against whoever did that, and only that.
        ("{ uid = 0 }", &["hides"], [true, true]),
        ("{ uid = \"!0\" }", &["hides"], [true, true]),
        ("{ uid = 0 }", &["uid=1 hides"], [false, false]),
        ("{ uid = 0, unit = \"a.b\" }", &["uid=0 hides"], [true, true]),
        ("{ uid = 0, unit = \"a.b\" }", &["uid=1 hides"], [false, false]),
        ("{ uid = 0 }", &["uid=1", "hides"], [true, true]),
        ("{ uid = 0 }", &["uid=1 hides", ""], [false, true]),
        // Keys must hold of one and the same.
        ("{ uid = 0, unit = \"a.b\" }", &["uid=0 unit", "uid=1 unit=a.b"], [false, false]),
        ("\"unknown\"", &["uid=0"], [false, false]),
        ("\"unknown\"", &[""], [false, false]),
    ] {
        for confidence in [Confidence::Exact, Confidence::Likely, Confidence::Ambiguous, Confidence::Assumed] {
            let requester = found(confidence, None, tasks);
            assert_eq!(both(value, Action::Block, &requester), expected, "{value} {tasks:?} {confidence:?}");
        }
    }
}

#[test]
fn of_nobody_nothing_is_known_but_the_way_of_the_request() {
    let nobody = Requester { task: task("uid=0 unit=a.b"), candidates: vec![task("uid=0")], ..Requester::unknown() };
    for requester in [Requester::unknown(), nobody] {
        for (value, action, expected) in [
            ("{ uid = 0 }", Action::Block, [false, true]),
            ("{ uid = \"!0\" }", Action::Block, [false, true]),
            ("{ uid = 0 }", Action::Allow, [false, false]),
            ("{ uid = 0, caller = \"hook\" }", Action::Block, [false, false]),
            ("{ caller = \"kernel\" }", Action::Block, [true, true]),
            ("{ caller = \"kernel\" }", Action::AllowSysctl, [true, true]),
            ("{ caller = \"hook\" }", Action::Allow, [false, false]),
            ("\"unknown\"", Action::Block, [true, true]),
            ("\"unknown\"", Action::Allow, [true, true]),
        ] {
            assert_eq!(both(value, action, &requester), expected, "{value} {action:?}");
            assert!(Open::of(&rule(value), &request(Caller::Kernel), &requester).is_none());
        }
    }
}

#[test]
fn who_hides_is_whom_a_block_is_about_and_nobody_else() {
    let nobody = Requester { task: task("uid=0 hides"), ..Requester::unknown() };
    for (value, action, expected) in [
        ("{ uid = 0 }", Action::Block, true),
        ("{ uid = \"!0\" }", Action::Block, true),
        ("{ uid = 0, caller = \"hook\" }", Action::Block, false),
        ("\"unknown\"", Action::Block, true),
        ("{ uid = 0 }", Action::Allow, false),
    ] {
        assert_eq!(both(value, action, &nobody), [expected; 2], "{value} {action:?}");
    }
    for value in ["{ uid = 0 }", "{ unit = \"a.b\" }"] {
        let requester = found(Confidence::Exact, Some(FoundBy::Recorder), &["uid=1 hides"]);
        assert_eq!(both(value, Action::Allow, &requester), [false; 2], "{value}");
    }
}

#[test]
fn an_allow_is_about_all_candidates_and_needs_trust() {
    use Confidence::{Ambiguous, Assumed, Exact, Likely};
    let [recorder, parent, stack] = [FoundBy::Recorder, FoundBy::Parent, FoundBy::Stack].map(Some);
    for (confidence, found_by, expected) in [
        (Exact, recorder, [true, true]),
        (Exact, parent, [true, true]),
        (Exact, None, [true, true]),
        (Assumed, None, [true, true]),
        (Ambiguous, recorder, [true, true]),
        (Ambiguous, parent, [true, true]),
        (Ambiguous, stack, [false, true]),
        (Ambiguous, None, [false, true]),
        (Likely, stack, [false, true]),
    ] {
        for action in [Action::Allow, Action::AllowSysctl] {
            for (tasks, all) in [
                (&["uid=0"][..], true),
                (&["uid=0", "uid=0"], true),
                (&["uid=0", "uid=1"], false),
                (&["uid=0", ""], false),
                (&[""], false),
            ] {
                let requester = found(confidence, found_by, tasks);
                let expected = expected.map(|trusted| trusted && all);
                assert_eq!(both("{ uid = 0 }", action, &requester), expected, "{confidence:?} {found_by:?} {tasks:?}");
                // Who only asks how the request came needs no trust.
                assert_eq!(both("{ caller = \"kernel\" }", action, &requester), [true, true]);
            }
        }
    }
}

fn rule(value: &str) -> Rule {
    let text = format!("[[rule]]\nid = \"r\"\nmodules = [\"*\"]\naction = \"block\"\nrequester = {value}");
    parse(&[Source::new("p", text.into())]).unwrap().rules.remove(0)
}

#[test]
fn what_is_open_is_what_nobody_knows() {
    for (value, facts, open) in [
        ("{ unit = \"a.b\" }", "", "unit"),
        ("{ unit = \"a.b\" }", "unit", ""),
        ("{ unit = \"a.b\" }", "unit=a.b", ""),
        ("{ unit = \"a.b\", exe = \"/a\", uid = 0 }", "uid=0", "exe unit"),
        ("{ unit = \"a.b\", exe = \"/a\", uid = 0 }", "uid=1", ""),
        ("{ ancestor = \"/a\", container = true, auid = 0, userns = \"host\" }", "", "ancestor auid container userns"),
        ("{ caller = \"hook\", unit = \"a.b\" }", "", ""),
        ("\"unknown\"", "", ""),
    ] {
        let requester = found(Confidence::Assumed, None, &[facts]);
        let rule = rule(value);
        let found = Open::of(&rule, &request(Caller::Kernel), &requester);
        let mut names: Vec<&str> = found.iter().flat_map(|open| &open.keys).map(|key| key.name()).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), open, "{value} of `{facts}`");
    }
    // What is so of one is so, whatever is open of another.
    let several = found(Confidence::Ambiguous, None, &["unit=a.b", ""]);
    assert!(Open::of(&rule("{ unit = \"a.b\" }"), &request(Caller::Kernel), &several).is_none());
}

#[test]
fn a_policy_tells_what_it_asks() {
    let rules = [
        ("a", ""),
        ("b", "requester = { caller = \"kernel\" }"),
        ("c", "requester = { exe = [\"/b\", \"!/a\"], caller = \"kernel\" }"),
        ("d", "requester = \"unknown\""),
        ("e", "requester = { ancestor = \"/b\", unit = \"x.y\" }"),
        ("f", "requester = { ancestor = \"!/c\" }"),
    ];
    let text: Vec<String> = rules
        .iter()
        .map(|(id, who)| format!("[[rule]]\nid = \"{id}\"\nmodules = [\"x\"]\naction = \"allow\"\n{who}\n"))
        .collect();
    let policy = parse(&[Source::new("p", text.concat().into())]).unwrap();
    assert_eq!(policy.asks_who().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["c", "d", "e", "f"]);
    assert_eq!(policy.executables(), ["/a", "/b", "/c"]);
    assert!(parse(&[]).unwrap().executables().is_empty());
}

#[test]
fn every_key_has_its_name() {
    for name in Key::NAMES {
        let value = match name {
            "exe" | "ancestor" => "\"/a\"",
            "unit" => "\"a.b\"",
            "container" => "true",
            "userns" => "\"host\"",
            "caller" => "\"hook\"",
            _ => "0",
        };
        let Who::All(conditions) = who(&format!("{{ {name} = {value} }}")) else { panic!("{name}") };
        assert_eq!(conditions[0].key.name(), name);
    }
}

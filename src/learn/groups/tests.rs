use super::*;

/// A record's line: confidence, unit, verdict, modules (`name state needed_as`).
fn line(unit: &str, verdict: &str, modules: &[&str]) -> String {
    let modules: Vec<String> = modules
        .iter()
        .map(|module| {
            let mut words = module.split(' ');
            let mut word = || words.next().unwrap();
            format!(r#"{{"name":"{}","state":"{}","needed_as":"{}"}}"#, word(), word(), word())
        })
        .collect();
    let requester = format!(r#"{{"confidence":"exact","found_by":"recorder","unit":"{unit}","parents":[]}}"#);
    r#"{"v":1,"time":"2026-11-20T12:00:00.000000Z","host":"r1","request":{"name":"asked","caller":"kernel"},"#
        .to_owned()
        + &format!(r#""requester":{requester},"#)
        + &format!(r#""verdict":{{{verdict}}},"modules":[{}],"outcome":{{}}}}"#, modules.join(","))
        + "\n"
}

fn latest() -> Day {
    Day::of("2026-11-30T").unwrap()
}

const ALLOW: &str = r#""action":"allow","enforced":true,"rule":null,"module":null"#;

fn read(lines: &[String]) -> Groups {
    let mut learner = Learner::new(false, latest());
    learner.read(lines.concat().as_bytes());
    Learner::together([learner])
}

/// Roles and what they are about.
fn told(lines: &[String]) -> String {
    let groups = read(lines);
    let told = groups.groups.iter().map(|(key, tally)| {
        let (What::Module(name) | What::Request(name)) = &key.what;
        let is_name = if matches!(key.what, What::Request(_)) { "?" } else { "" };
        format!("{:?} {is_name}{name} {}", key.role, tally.requests)
    });
    told.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_would_be_judged_is_what_is_learned() {
    let by_rule = |action: &str, enforced: bool| {
        format!(r#""action":"{action}","enforced":{enforced},"rule":"r","module":"nf_conntrack""#)
    };
    let nat = ["nf_conntrack absent dependency", "iptable_nat absent target"];
    for (verdict, modules, expected) in [
        (ALLOW.to_owned(), &nat[..], "Permitted iptable_nat 1, Needed nf_conntrack 1"),
        (ALLOW.into(), &["a-b absent target", "c absent softdep"], "Permitted a_b 1, Needed c 1"),
        (ALLOW.into(), &["a live target", "c absent softdep"], "Live a 1, Needed c 1"),
        (ALLOW.into(), &["a builtin target"], ""),
        (ALLOW.into(), &["a live target", "b absent target", "c builtin target"], "Permitted b 1, Live a 1"),
        (ALLOW.into(), &["a coming target"], "Permitted a 1"),
        (ALLOW.into(), &[], ""),
        (r#""action":"allow","enforced":true,"rule":null,"module":"bare""#.into(), &[], "Permitted bare 1"),
        (by_rule("allow-sysctl", true), &nat, "Permitted iptable_nat 1, Needed nf_conntrack 1, Sized nf_conntrack 1"),
        (by_rule("block", true), &nat, "BlockedByRule nf_conntrack 1"),
        (by_rule("block", false), &nat, "Permitted iptable_nat 1, Needed nf_conntrack 1"),
        (r#""action":"block","enforced":true,"rule":null,"module":"x""#.into(), &nat, "BlockedByDefault x 1"),
        (r#""action":"block","enforced":true,"rule":"r","module":null"#.into(), &[], "BlockedByRule ?asked 1"),
        (r#""action":"block","enforced":true,"rule":null,"module":null"#.into(), &[], ""),
    ] {
        assert_eq!(told(&[line("a.service", &verdict, modules)]), expected, "{verdict} {modules:?}");
    }
}

#[test]
fn what_is_not_understood_is_counted() {
    let good = line("a.service", ALLOW, &["a absent target"]);
    let lines = [
        good.clone(),
        good.replace("\"v\":1", "\"v\":3"),
        good.replace("\"allow\"", "\"perhaps\""),
        good.replace("\"a\"", "\"a b\""),
        good.replace("exact", "assumed"),
        good.replace("\"modules\"", "\"former\""),
        good.replace("2026", "1970"),
        good.replace("2026", "2027"),
        "{\n".to_owned(),
        "\n\n".to_owned(),
    ];
    let groups = read(&lines);
    let expected = Counts { requests: 6, foreign: 3, newer: 1, unclear: 2, timeless: 1, early: 1, ..Counts::default() };
    assert_eq!((groups.counts, groups.groups.len()), (expected, 1));
    let days = groups.groups.values().next().unwrap().days.unwrap();
    assert_eq!([days.0, days.1].map(|day| day.to_string()), ["2026-11-20", "2026-11-20"]);
}

#[test]
fn memory_is_bounded_by_groups_and_hosts() {
    let of = |unit: usize, module: usize| {
        let line = line(&format!("u{unit}x.service"), ALLOW, &[&format!("m{module} absent target")]);
        line.replace("r1", &format!("host{}", unit * 500 + module))
    };
    let mut learner = Learner::new(false, latest());
    let units = GROUPS / 500 + 1;
    for unit in 0..units {
        learner.read((0..500).map(|module| of(unit, module)).collect::<String>().as_bytes());
    }
    assert!(learner.tallies.len() == GROUPS && learner.shapes.len() <= SHAPES && learner.hosts.len() == HOSTS);
    let groups = Learner::together([learner]);
    assert_eq!((groups.groups.len(), groups.counts.left_out, groups.hosts), (GROUPS, 500, None));
}

#[test]
fn the_threads_that_lines_were_read_by_make_no_difference() {
    let lines: Vec<String> = (0..300)
        .map(|at| {
            let line = line(&format!("u{}.service", at % 7), ALLOW, &[&format!("m{} absent target", at % 11)]);
            line.replace("r1", &format!("host{}", at % 13)).replace("asked", &format!("asked{}", at % 17))
        })
        .collect();
    let whole = read(&lines);
    let mut learners = [(); 3].map(|()| Learner::new(false, latest()));
    for (at, line) in lines.iter().enumerate().rev() {
        learners[at % 5 % 3].read(line.as_bytes());
    }
    assert_eq!(Learner::together(learners), whole);
    assert_eq!(whole.hosts.as_ref().map(Vec::len), Some(13));
}

#[test]
fn an_id_makes_no_kind_of_line_of_its_own() {
    let id = |digit: char| format!("{digit}bcdef01").repeat(8);
    let of = |unit: &str, container: &str| {
        let container = format!("\"container\":{container},\"parents\"");
        line(unit, ALLOW, &["a absent target"]).replace("\"parents\"", &container)
    };
    let quoted = |text: String| format!("\"{text}\"");
    let scope = |kind: &str, digit: char| of(&format!("{kind}-{}.scope", id(digit)), &quoted(id(digit)));
    let candidates = |digit: char| {
        let task = format!("\"candidates\":[{{\"unit\":\"docker-{}.scope\"}}],\"parents\"", id(digit));
        line("", ALLOW, &["a absent target"]).replace("\"parents\"", &task)
    };
    let word = "abcdefab".repeat(8);
    for (lines, kinds) in [
        (vec![scope("docker", '1'), scope("docker", '2'), scope("docker", '3')], 1),
        (vec![of("", &quoted(id('1'))), of("", &quoted(id('2')))], 1),
        (vec![candidates('1'), candidates('2')], 1),
        (vec![scope("docker", '1'), scope("libpod", '1'), of("docker-.scope", &quoted(id('1')))], 3),
        (vec![of("docker-a.scope", "\"web\""), of("docker-a.scope", "\"db\""), of("docker-a.scope", "null")], 3),
        // No number is one without digits; and what stands before it belongs to it.
        (vec![of(&format!("x-{word}.scope"), "null"), scope("x", '1'), of("x-*.scope", "null")], 3),
        (vec![of(&format!("y{}.scope", id('1')), "null"), of(&format!("y{}.scope", id('2')), "null")], 2),
        (vec![of("", &quoted(id('1') + ".scope")), of("", &quoted(id('2') + ".scope"))], 2),
    ] {
        let mut learner = Learner::new(false, latest());
        learner.read(lines.concat().as_bytes());
        assert_eq!(learner.shapes.len(), kinds, "{lines:?}");
        let each = lines.iter().map(|line| {
            let mut learner = Learner::new(false, latest());
            learner.read(line.as_bytes());
            learner
        });
        assert_eq!(Learner::together([learner]), Learner::together(each), "{lines:?}");
    }
}

use super::*;

fn findings(files: &[(&str, &[u8])]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(path, bytes)| Source::new(path, bytes.to_vec())).collect();
    parse(&sources).map_or_else(|findings| findings.iter().map(Finding::to_string).collect(), |_| Vec::new())
}

/// A rule that lacks what `rest` gives.
fn rule(rest: &str) -> String {
    format!("[[rule]]\nid = \"r\"\naction = \"block\"\n{rest}\n")
}

#[test]
fn bad_input_is_told_by_place_and_remedy() {
    let rule_keys = "known in [[rule]]: id, modules, requests, requester, action, reason, enforce";
    let bool_remedy = "write `enforce = true` or `enforce = false`";
    let syntax = "correct the syntax: strings need quotes, lists brackets: `modules = [\"nf_conntrack\"]`";
    let quote_key = "put the whole key in quotes: `\"net.ipv4.ip_forward\" = 1`";
    let cases: &[(String, String)] = &[
        // Keys
        (
            "rules = 1".into(),
            "1:1: unknown key `rules`; did you mean `rule`? known in the file: version, defaults, rule, conntrack, audit, sysctl".into(),
        ),
        (
            rule("modules = [\"a\"]\nresaon = \"x\""),
            format!("5:1: unknown key `resaon`; did you mean `reason`? {rule_keys}"),
        ),
        (rule("modules = [\"a\"]\nunit = [1]"), format!("5:1: unknown key `unit`; {rule_keys}")),
        ("[audit]\n\"a\\u001b\" = 1".into(), "2:1: unknown key `a\\x1b`; known in [audit]: cmdline".into()),
        // Types
        ("[defaults]\nenforce = \"yes\"".into(), format!("2:11: `enforce` is a string, not true or false; {bool_remedy}")),
        ("defaults = 1".into(), "1:12: `defaults` is a number, not a table; write `[defaults]` on a line of its own, its keys beneath".into()),
        ("[rule]\nid = \"x\"".into(), "1:1: `rule` is a table, not a list of tables; write `[[rule]]` with two brackets above each rule".into()),
        (rule("modules = \"nf_nat\""), "4:11: `modules` is a string, not a list of strings; write `modules = [\"...\"]`".into()),
        (rule("modules = [\"a\", 7]"), "4:17: an entry of `modules` is a number, not a string; write `modules = [\"...\"]`".into()),
        (rule("modules = [\"a\"]\nreason = 1979-05-27"), "5:10: `reason` is a date, not a string; write it in quotes: `reason = \"...\"`".into()),
        // Words
        (
            "[[rule]]\nid = \"r\"\nmodules = [\"a\"]\naction = \"deny\"".into(),
            "4:10: `action` is `\"deny\"`, which means nothing here; write `\"allow\"` or `\"allow-sysctl\"` or `\"block\"`".into(),
        ),
        ("[defaults]\non_failure = \"allow-sysctl\"".into(), "2:14: `on_failure` is `\"allow-sysctl\"`, which means nothing here; write `\"allow\"` or `\"block\"`".into()),
        ("[defaults]\ndelegate = \"modprobe\"".into(), "2:12: `delegate` is `modprobe`, not an absolute path of a program; write the path of the real modprobe: `delegate = \"/sbin/modprobe\"`".into()),
        ("[defaults]\ndelegate = \"/sbin/\"".into(), "2:12: `delegate` is `/sbin/`, not an absolute path of a program; write the path of the real modprobe: `delegate = \"/sbin/modprobe\"`".into()),
        // Rules
        ("[[rule]]\naction = \"block\"\nmodules = [\"a\"]".into(), "1:1: a rule without `id`; give it a name of its own: `id = \"...\"`".into()),
        ("[[rule]]\nid = \"r\"\nmodules = [\"a\"]".into(), "1:1: a rule without `action`; write `action = \"allow\"`, `\"allow-sysctl\"` or `\"block\"`".into()),
        (rule(""), "1:1: a rule without `modules` and `requests`; say what it is about; `modules = [\"*\"]` is every module".into()),
        (rule("requests = []"), "4:12: `requests` is empty and would match nothing; name something, or take the key out".into()),
        (
            rule("modules = [\"a\"]").replace("\"r\"", "\"no blanks\""),
            "2:6: the rule id `no blanks` would not stay one word in a log; write 1 to 64 letters, digits and signs, without blanks and quotes".into(),
        ),
        // Patterns
        (rule("modules = [\"\"]"), "4:12: impossible pattern ``: an empty pattern matches no name; write a name or a pattern".into()),
        (rule("modules = [\n \"ok\",\n \"nf_[a\"]"), "6:2: impossible pattern `nf_[a`: `[` without `]`; close the set, or write `\\[` for the bracket itself".into()),
        (rule("modules = [\"a b\"]"), "4:12: impossible pattern `a b`: no module's name holds ` `; write one name to each string".into()),
        (rule("modules = [\"kernel/nf_nat\"]"), "4:12: impossible pattern `kernel/nf_nat`: no module's name holds `/`; write the module's name, without directory and `.ko`".into()),
        (rule("modules = [\"pci:v*\"]"), "4:12: impossible pattern `pci:v*`: no module's name holds `:`; put names that are asked for, such as aliases, under `requests`".into()),
        (
            rule(&format!("requests = [\"{}\"]", "x".repeat(2000))),
            format!("4:13: impossible pattern `{}`: a pattern of 2000 bytes is longer than any name; write at most 1024 bytes", "x".repeat(60)),
        ),
        (rule("modules = [\"nf_nat.ko\"]"), "4:12: impossible pattern `nf_nat.ko`: no module's name holds `.`; write the module's name, without directory and `.ko`".into()),
        (rule("requests = [\"a\\u0000\"]"), "4:13: impossible pattern `a\\x00`: no argument holds a NUL byte; take it out".into()),
        // Numbers
        ("[conntrack]\nmax = -1".into(), "2:7: `max` is -1, out of range; write a number from 0 to 2147483647".into()),
        ("[conntrack]\nmax = 2147483648".into(), "2:7: `max` is 2147483648, out of range; write a number from 0 to 2147483647".into()),
        ("[conntrack]\nmax = 99999999999999999999".into(), "2:7: `max` is 99999999999999999999, out of range; write a number from 0 to 2147483647".into()),
        ("[conntrack]\nmax = \"1000\"".into(), "2:7: `max` is `\"1000\"`, which is no size; write `\"auto\"` or a number without quotes".into()),
        ("[conntrack]\nmemory_percent = 101".into(), "2:18: `memory_percent` is 101, out of range; write a number from 1 to 100".into()),
        ("[conntrack]\nlimit = 0".into(), "2:9: `limit` is 0, out of range; write a number from 1 to 2147483647".into()),
        ("[conntrack]\nlimit = 1.5".into(), "2:9: `limit` is a number with a fraction, not a whole number; write a number without quotes: `limit = 1`".into()),
        // Settings
        ("[sysctl]\n\"../x\" = 1".into(), "2:1: the sysctl key `../x` is impossible: it names no file below /proc/sys; write it as sysctl(8) does: `\"net.ipv4.ip_forward\"`".into()),
        ("[sysctl]\nnet.ipv4.ip_forward = 1".into(), format!("2:1: `net` is a table, not a value; {quote_key}")),
        ("[sysctl]\n\"a.b\" = 1.5".into(), "2:9: the value of `a.b` is a number with a fraction; write a whole number, or what the file takes in quotes".into()),
        ("[sysctl]\n\"a.b\" = \"1\\n2\"".into(), "2:9: the value of `a.b` has more than one line; write one line".into()),
        ("[sysctl]\n\"a.b\" = 1\n\"a/b\" = 2".into(), "3:1: `a.b` is set twice, also at p:2; take one of the two out".into()),
        // The file
        ("version = 2\nwhatever = 1".into(), "1:11: this is no policy of version 1; write `version = 1`".into()),
        ("version = \"1\"".into(), "1:11: `version` is a string, not a whole number; write a number without quotes: `version = 1`".into()),
        ("# ü\nx = \"abc\n".into(), format!("2:9: invalid basic string, expected `\"`; {syntax}")),
        ("x = 1\nx = 2".into(), format!("2:1: duplicate key; {syntax}")),
    ];
    for (text, finding) in cases {
        assert_eq!(findings(&[("p", text.as_bytes())]), [format!("p:{finding}")], "{text}");
    }
    assert_eq!(
        findings(&[("p", b"# ok\nversion = 1 # \xff")]),
        ["p:2:15: bytes that are not UTF-8; save the file as UTF-8 text"]
    );
}

#[test]
fn everything_wrong_is_told_at_once_and_in_order() {
    let first = format!("{}[conntrack]\nmax = -1\nlmit = 1\n", rule("modules = [\"[\"]"));
    let second = rule("modules = [\"a\"]");
    let all = findings(&[("b", first.as_bytes()), ("broken", b"="), ("a", second.as_bytes())]);
    let places: Vec<&str> = all.iter().map(|finding| finding.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["b:4:12", "b:6:7", "b:7:1", "broken:1:1", "a:2:6"]);
    assert_eq!(all[4], "a:2:6: the rule id `r` is used already, at b:1; give one of the two rules another id");
}

#[test]
fn of_very_many_findings_the_first_are_told() {
    let all = findings(&[("p", "=\n".repeat(1000).as_bytes())]);
    assert_eq!((all.len(), all[99].starts_with("p:100:1: ")), (101, true));
    assert_eq!(all[100], "p: 900 more findings are not shown; correct these and check again");
}

#[test]
fn rules_count_in_order_and_the_first_key_wins() {
    let drop_in = "[[rule]]\nid = \"one\"\nrequests = [\"x\"]\naction = \"allow\"\n\
        [conntrack]\nmax = 10\n[sysctl]\n\"a.b\" = true\n[defaults]\nenforce = false";
    let main = "version = 1\n\n[[rule]]\nid = \"two\"\nmodules = [\"x\"]\naction = \"block\"\nreason = \"why\"\nenforce = true\n\
        [conntrack]\nmax = \"auto\"\nlimit = 5\n[sysctl]\n\"a/b\" = 7\n\"c.d\" = \"1 2\"\n[defaults]\nenforce = true\n\
        action = \"block\"\nunknown_requester = \"block\"\ntrust = \"likely\"\ndelegate = \"/opt/modprobe\"\n\
        on_failure = \"block\"\n[audit]\ncmdline = false";
    let sources = [Source::new("drop-in", drop_in.into()), Source::new("main", main.into())];
    let policy = parse(&sources).unwrap();
    let rules: Vec<_> =
        policy.rules.iter().map(|rule| (rule.id.as_str(), rule.source.as_str(), rule.enforce)).collect();
    assert_eq!(rules, [("one", "drop-in:1", None), ("two", "main:3", Some(true))]);
    assert_eq!(policy.rules[1].reason.as_deref(), Some("why"));
    assert_eq!(policy.conntrack.max, Max::Number { entries: 10, source: "drop-in:6".into() });
    assert_eq!((policy.conntrack.limit, policy.conntrack.memory_percent), (5, 5));
    let sysctl: Vec<_> =
        policy.sysctl.iter().map(|one| (one.key.as_str(), one.value.as_str(), one.source.as_str())).collect();
    assert_eq!(sysctl, [("a.b", "1", "drop-in:8"), ("c.d", "1 2", "main:14")]);
    let expected = Defaults {
        action: Action::Block,
        enforce: false,
        on_failure: Action::Block,
        unknown_requester: UnknownRequester::Block,
        trust: Trust::Likely,
        delegate: "/opt/modprobe".into(),
    };
    assert_eq!((policy.defaults, policy.audit.cmdline), (expected, false));
}

#[test]
fn findings_show_paths_as_the_reader_knows_them_and_rules_as_their_host_does() {
    let source = |text: String| Source { path: "/etc/p".into(), shown: "/mnt/etc/p".into(), bytes: text.into() };
    let finding = parse(&[source(rule(""))]).unwrap_err().remove(0);
    assert_eq!(finding.path, "/mnt/etc/p");
    let policy = parse(&[source(rule("modules = [\"a\"]"))]).unwrap();
    assert_eq!(policy.rules[0].source, "/etc/p:1");
}

#[test]
fn nothing_at_all_is_the_defaults() {
    assert_eq!(parse(&[]), Ok(Policy::default()));
    assert_eq!(parse(&[Source::new("p", b"# nothing".to_vec())]), Ok(Policy::default()));
}

#[test]
fn no_bytes_make_it_panic() {
    let valid = crate::policy::BUILT_IN.replace("\n#", "\n").into_bytes();
    let long = include_bytes!("../../../conf/profiles/container-host.toml");
    // A fixed generator (xorshift): the same inputs on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..3000 {
        let mut bytes = if round % 2 == 0 { valid.clone() } else { long.to_vec() };
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"[]{}=\"'\\\n#.,*-0\xff\0"[random(17)],
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let part = bytes[at..bytes.len().min(at + random(200))].to_vec();
                    let to = random(bytes.len());
                    drop(bytes.splice(to..to, part));
                }
            }
        }
        if let Err(findings) = parse(&[Source::new("p", bytes)]) {
            assert!(findings.iter().all(|finding| !finding.to_string().contains('\n')));
        }
    }
    for hostile in [
        "[".repeat(100_000),
        "a=[".repeat(100_000),
        "a.".repeat(100_000),
        "=\n".repeat(100_000),
        "x=1\n".repeat(50_000),
        "a\0".repeat(500_000),
    ] {
        assert!(parse(&[Source::new("p", hostile.into())]).is_err());
    }
}

use super::*;
use crate::model::{Blacklisted, Caller, Confidence, FoundBy, Known, Task};
use crate::policy::{Source, parse};

/// `MODULE` is a dependency to load, `MODULE!` a target; `@live` or `@builtin` after it, that it is there already.
fn closure(modules: &str) -> Closure {
    let module = |word: &str| {
        let (word, state) = match word.split_once('@') {
            Some((word, "live")) => (word, ModuleState::Live),
            Some((word, _)) => (word, ModuleState::Builtin),
            None => (word, ModuleState::Absent),
        };
        let needed_as = if word.ends_with('!') { NeededAs::Target } else { NeededAs::Dependency };
        Module { name: word.trim_end_matches('!').into(), state, needed_as }
    };
    Closure { modules: modules.split_whitespace().map(module).collect(), ..Closure::default() }
}

/// `DEFAULTS | ID MODULES REQUESTS ACTION [false|true]; ...`, `.` for an absent key, commas between names.
fn policy(text: &str) -> Policy {
    let (defaults, rules) = text.split_once('|').unwrap();
    let list = |key: &str, names: &str| match names {
        "." => String::new(),
        names => {
            format!("{key} = [{}]\n", names.split(',').map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "))
        }
    };
    let mut toml = format!("[defaults]\n{}\n", defaults.trim().replace(' ', "\n"));
    for rule in rules.split(';').filter(|rule| !rule.trim().is_empty()) {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let enforce = words.get(4).map_or(String::new(), |enforce| format!("enforce = {enforce}\n"));
        let (modules, requests) = (list("modules", words[1]), list("requests", words[2]));
        toml += &format!("[[rule]]\nid = \"{}\"\n{modules}{requests}action = \"{}\"\n{enforce}", words[0], words[3]);
    }
    parse(&[Source::new("p", toml.clone().into())]).unwrap_or_else(|findings| panic!("{toml}\n{findings:?}"))
}

fn verdict(policy_text: &str, asked: &str, closure: &Closure) -> Verdict {
    let request = Request { name: asked.into(), caller: Caller::Kernel };
    decide(&policy(policy_text), &request, closure, &Requester::unknown())
}

/// `ACTION RULE MODULE`, and for a block that is not enforced what happens instead.
fn words(policy_text: &str, asked: &str, closure: &Closure) -> String {
    let verdict = verdict(policy_text, asked, closure);
    let name = |action| match action {
        Action::Allow => "allow",
        Action::AllowSysctl => "sysctl",
        Action::Block => "block",
    };
    let instead = if verdict.enforced {
        assert_eq!(verdict.carried_out, verdict.action);
        String::new()
    } else {
        format!(" not-enforced:{}", name(verdict.carried_out))
    };
    let module = verdict.module.map_or(".".into(), |module| module.to_string());
    format!("{} {} {module}{instead}", name(verdict.action), verdict.rule.unwrap_or(verdict.source))
}

#[test]
fn modules_are_judged_one_by_one_and_the_strictest_word_wins() {
    let nat = "nf_defrag_ipv4 nf_conntrack nf_nat iptable_nat!";
    for (policy, asked, modules, expected) in [
        // The first rule that matches a module counts.
        (
            "| a nf_conntrack . allow; b nf_* . block",
            "iptable_nat",
            "nf_conntrack iptable_nat!",
            "allow a nf_conntrack",
        ),
        ("| a nf_conntrack . allow; b nf_* . block", "iptable_nat", nat, "block b nf_defrag_ipv4"),
        // Over the closure the strictest wins, of equal ones the first in load order.
        ("| a iptable_nat . allow; b nf_conntrack . block", "iptable_nat", nat, "block b nf_conntrack"),
        ("| a iptable_nat . allow; b nf_conntrack . allow-sysctl", "iptable_nat", nat, "sysctl b nf_conntrack"),
        ("| a nf_nat . block; b nf_conntrack . block", "iptable_nat", nat, "block b nf_conntrack"),
        ("| a nf_nat . allow-sysctl; b iptable_nat . block", "iptable_nat", nat, "block b iptable_nat"),
        // `-` and `_` are the same, on both sides.
        ("| a nf-conntrack . block", "iptable_nat", nat, "block a nf_conntrack"),
        ("| a . net-pf_1? block", "net_pf-16", "", "block a ."),
        // The default is for targets that no rule matches, and cannot cancel what a rule says.
        ("action=\"block\" | a iptable_nat . allow", "iptable_nat", nat, "allow a iptable_nat"),
        ("action=\"block\" | a nf_* . allow", "iptable_nat", nat, "block default iptable_nat"),
        ("action=\"block\" |", "iptable_nat", nat, "block default iptable_nat"),
        ("action=\"block\" |", "x", "dependency", "allow default ."),
        ("action=\"allow\" | a nf_conntrack . allow-sysctl", "iptable_nat", nat, "sysctl a nf_conntrack"),
        ("action=\"allow-sysctl\" |", "iptable_nat", nat, "sysctl default iptable_nat"),
        ("|", "iptable_nat", nat, "allow default iptable_nat"),
        // What is there is not judged, nor what is not there at all.
        (
            "action=\"block\" | a nf_conntrack . block",
            "iptable_nat",
            "nf_conntrack@live iptable_nat!@builtin",
            "allow default .",
        ),
        ("| a nf_conntrack . block", "iptable_nat", "nf_conntrack@builtin iptable_nat!", "allow default iptable_nat"),
        ("action=\"block\" | a * . block", "unknown", "", "allow default ."),
        // Both keys must match; a rule of requests alone is judged even if nothing would be loaded.
        ("| a nf_conntrack iptable* block", "iptable_nat", nat, "block a nf_conntrack"),
        ("| a nf_conntrack nft* block", "iptable_nat", nat, "allow default iptable_nat"),
        ("| a . crypto-* block", "crypto-x", "", "block a ."),
        ("| a . crypto-* block", "crypto-x", "x!@live", "block a ."),
        ("| a . crypto-* block", "crypto-x", "x!", "block a ."),
        ("| a * crypto-* block", "crypto-x", "", "allow default ."),
        ("| a . crypto-x allow; b . crypto-* block", "crypto-x", "", "allow a ."),
        ("| a x . allow; b . crypto-* block", "crypto-x", "dep x!", "block b ."),
        ("| a x,dep . allow; b . crypto-* block", "crypto-x", "dep x!", "allow a dep"),
    ] {
        assert_eq!(words(policy, asked, &closure(modules)), expected, "{policy} / {asked} / {modules}");
    }
}

#[test]
fn a_block_that_is_not_enforced_is_told_and_not_carried_out() {
    for (policy, modules, expected) in [
        ("| a x . block false", "x!", "block a x not-enforced:allow"),
        ("enforce=false | a x . block", "x!", "block a x not-enforced:allow"),
        ("enforce=false | a x . block true", "x!", "block a x"),
        ("enforce=false action=\"block\" |", "x!", "block default x not-enforced:allow"),
        // The next rule that matches counts, or another module's.
        ("| a x . block false; b x . allow-sysctl", "x!", "block a x not-enforced:sysctl"),
        ("| a x . block false; b y . allow-sysctl", "y x!", "block a x not-enforced:sysctl"),
        ("enforce=false action=\"block\" | b y . allow-sysctl", "y x!", "block default x not-enforced:sysctl"),
        ("enforce=false action=\"allow-sysctl\" | a x . block", "x!", "block a x not-enforced:sysctl"),
        // An enforced block beats it, whichever comes first.
        ("| a y . block false; b x . block", "y x!", "block b x"),
        ("| a x . block; b y . block false", "x y!", "block a x"),
        ("| a x . block false; b x . block", "x!", "block b x"),
        ("action=\"block\" | a x . block false", "x!", "block default x"),
        // Only blocks can be held back.
        ("enforce=false | a x . allow-sysctl", "x!", "sysctl a x"),
        ("| a x . allow-sysctl false", "x!", "sysctl a x"),
        // By the name alone.
        ("| a . x block false; b . x allow-sysctl", "", "block a . not-enforced:sysctl"),
    ] {
        assert_eq!(words(policy, "x", &closure(modules)), expected, "{policy} / {modules}");
    }
}

#[test]
fn without_an_index_the_name_asked_for_is_judged() {
    let missing = |modules| Closure { index: IndexHealth::Missing("no modules.dep.bin".into()), ..closure(modules) };
    let partial =
        |modules| Closure { index: IndexHealth::Partial(vec!["cut".into(), "short".into()]), ..closure(modules) };
    for (policy, closure, expected) in [
        ("| a nf-conntrack . block", missing(""), "block a ."),
        ("| a nf_conntrack . block", partial(""), "block a ."),
        ("| a nf_conntrack other block; b . nf* allow-sysctl", missing(""), "sysctl b ."),
        ("| a other . block", missing(""), "allow default ."),
        ("on_failure=\"block\" | a other . block", missing(""), "block default ."),
        ("on_failure=\"block\" | a nf_conntrack . allow", missing(""), "allow a ."),
        ("on_failure=\"block\" enforce=false |", missing(""), "block default . not-enforced:allow"),
        ("action=\"block\" |", missing(""), "allow default ."),
        // What intact files resolve is judged as ever.
        ("on_failure=\"block\" |", partial("nf_conntrack!"), "allow default nf_conntrack"),
        ("| a dep . block", partial("dep nf_conntrack!"), "block a dep"),
        ("on_failure=\"block\" |", partial("nf_conntrack!@live"), "allow default ."),
    ] {
        assert_eq!(words(policy, "nf_conntrack", &closure), expected, "{policy}");
    }
    let reason = |closure| verdict("on_failure=\"block\" |", "x", &closure).reason.unwrap();
    assert_eq!(reason(missing("")), "defaults.on_failure: the module index could not be read: no modules.dep.bin");
    assert_eq!(reason(partial("")), "defaults.on_failure: the module index could not be read: cut, short");
}

#[test]
fn an_install_line_is_judged_by_its_name() {
    let with = |name: &str, mut closure: Closure| {
        closure.commands.push(Command { module: name.into(), command: "true".into(), source: "f:1".into() });
        closure
    };
    let missing = Closure { index: IndexHealth::Missing("gone".into()), ..Closure::default() };
    for (policy, closure, expected) in [
        ("| a bare . block", with("bare", closure("")), "block a bare"),
        ("action=\"block\" |", with("bare", closure("")), "block default bare"),
        ("action=\"block\" |", with("b-c", closure("b_c!@live")), "allow default ."),
        ("action=\"block\" | a b_c . allow", with("b-c", closure("b_c!")), "allow a b_c"),
        ("| a bare . block", with("bare", missing), "block a bare"),
    ] {
        assert_eq!(words(policy, "asked", &closure), expected, "{policy}");
    }
}

#[test]
fn what_a_blacklist_keeps_out_is_not_judged() {
    let blacklisted = vec![Blacklisted { module: "pcspkr".into(), source: "f:1".into() }];
    let closure = Closure { blacklisted, index: IndexHealth::Partial(Vec::new()), ..Closure::default() };
    assert_eq!(words("action=\"block\" on_failure=\"block\" | a pcspkr . block", "alias", &closure), "allow default .");
}

#[test]
fn a_verdict_says_where_its_rule_stands_and_why() {
    let text = "\n[[rule]]\nid = \"a\"\nmodules = [\"x\"]\naction = \"block\"\nreason = \"because\"";
    let policy = parse(&[Source::new("/etc/p", text.into())]).unwrap();
    let request = Request { name: "x".into(), caller: Caller::Kernel };
    let verdict = decide(&policy, &request, &closure("x!"), &Requester::unknown());
    assert_eq!((verdict.source.as_str(), verdict.reason.as_deref()), ("/etc/p:2", Some("because")));
}

#[test]
fn an_allow_list_of_a_whole_kernel_is_cheap() {
    let names: Vec<String> = (0..6500).map(|number| format!("\"module-{number}\"")).collect();
    let text = format!(
        "defaults.action = \"block\"\n[[rule]]\nid = \"a\"\naction = \"allow\"\nmodules = [{}]",
        names.join(",")
    );
    let policy = parse(&[Source::new("p", text.into())]).unwrap();
    let request = Request { name: "module_6499".into(), caller: Caller::Kernel };
    let allowed = decide(&policy, &request, &closure("dep module_6499!"), &Requester::unknown());
    assert_eq!(allowed.action, Action::Allow);
    assert_eq!(decide(&policy, &request, &closure("module_6500!"), &Requester::unknown()).action, Action::Block);
}

#[test]
fn what_was_asked_for_and_is_there_brings_nothing_else_in() {
    for (modules, expected) in [
        ("soft target!@live", "allow default ."),
        ("soft target!@builtin", "allow default ."),
        ("soft target!", "block a soft"),
    ] {
        assert_eq!(words("| a soft . block", "target", &closure(modules)), expected, "{modules}");
    }
}

/// Two rules after the design's example: who may have NAT, and that nobody else may.
const DOCKER: &str = "[[rule]]\nid = \"docker\"\nmodules = [\"nf_*\", \"iptable_nat\"]\naction = \"allow-sysctl\"\n\
    requester = { unit = \"docker.service\" }\n[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\n";

fn in_unit(unit: Option<&str>) -> Task {
    let known = Known { unit: true, ..Known::default() };
    Task { unit: unit.map(Text::from), uid: Some(1000), known, ..Task::default() }
}

fn asked_by(text: &str, requester: &Requester, closure: &Closure) -> String {
    let policy = parse(&[Source::new("p", text.into())]).unwrap_or_else(|findings| panic!("{text}\n{findings:?}"));
    let request = Request { name: "iptable_nat".into(), caller: Caller::Kernel };
    let verdict = decide(&policy, &request, closure, requester);
    let instead = if verdict.carried_out == verdict.action { "" } else { " held back" };
    format!("{}{instead}", verdict.rule.unwrap_or(verdict.source))
}

#[test]
fn who_asks_decides_which_rule_is_first() {
    let nat = closure("nf_conntrack nf_nat iptable_nat!");
    let missing = Closure { index: IndexHealth::Missing("gone".into()), ..Closure::default() };
    let docker = || in_unit(Some("docker.service"));
    let exact = |task| Requester { confidence: Confidence::Exact, task, ..Requester::unknown() };
    let several = |found_by, candidates| Requester {
        confidence: Confidence::Ambiguous,
        found_by: Some(found_by),
        candidates,
        ..Requester::unknown()
    };
    let likely = |trust: &str| format!("[defaults]\ntrust = \"{trust}\"\n{DOCKER}");
    let [recorder, stack] = [FoundBy::Recorder, FoundBy::Stack];
    for (text, requester, expected) in [
        (DOCKER.to_owned(), exact(docker()), "docker"),
        (DOCKER.to_owned(), exact(in_unit(Some("ssh.service"))), "no"),
        (DOCKER.to_owned(), exact(in_unit(None)), "no"),
        (DOCKER.to_owned(), exact(Task::default()), "no"),
        (DOCKER.to_owned(), Requester::unknown(), "no"),
        (DOCKER.to_owned(), several(recorder, vec![docker(), docker()]), "docker"),
        (DOCKER.to_owned(), several(recorder, vec![docker(), in_unit(None)]), "no"),
        (DOCKER.to_owned(), several(stack, vec![docker(), docker()]), "no"),
        (likely("likely"), several(stack, vec![docker(), docker()]), "docker"),
        (likely("likely"), Requester { confidence: Confidence::Likely, ..exact(docker()) }, "docker"),
        (likely("exact"), Requester { confidence: Confidence::Likely, ..exact(docker()) }, "no"),
    ] {
        assert_eq!(asked_by(&text, &requester, &nat), expected, "{text} {requester:?}");
        // Without an index, rules that name what was asked for.
        let by_name = text.replace("nf_conntrack", "iptable_nat");
        assert_eq!(asked_by(&by_name, &requester, &missing), expected, "{by_name} {requester:?}");
    }
}

#[test]
fn blocks_that_ask_who_and_nobody_knows() {
    let rule = "[[rule]]\nid = \"a\"\nmodules = [\"x\"]\naction = \"block\"\nrequester = { uid = \"!0\" }\n";
    let strict = "[defaults]\nunknown_requester = \"block\"\n";
    let unknown = Requester::unknown();
    let user = Requester { confidence: Confidence::Likely, task: in_unit(None), ..Requester::unknown() };
    for (text, requester, expected) in [
        (rule.to_owned(), &unknown, "default"),
        (format!("{strict}{rule}"), &unknown, "a"),
        (rule.to_owned(), &user, "a"),
        (format!("{strict}{rule}enforce = false\n"), &unknown, "a held back"),
        (format!("{rule}enforce = false\n"), &user, "a held back"),
        (rule.replace("modules = [\"x\"]", "requests = [\"iptable*\"]"), &user, "a"),
        (rule.replace("{ uid = \"!0\" }", "\"unknown\""), &user, "default"),
        (rule.replace("{ uid = \"!0\" }", "\"unknown\""), &unknown, "a"),
    ] {
        assert_eq!(asked_by(&text, requester, &closure("x!")), expected, "{text} {requester:?}");
    }
    let by_name = rule.replace("modules = [\"x\"]", "requests = [\"iptable*\"]");
    assert_eq!(asked_by(&by_name, &user, &closure("")), "a");
    assert_eq!(asked_by(&by_name, &unknown, &closure("")), "default");
}

#[test]
fn rules_that_might_have_decided_otherwise_are_told() {
    let rule = |id: &str, rest: &str| format!("[[rule]]\nid = \"{id}\"\n{rest}\n");
    let asks = "requester = { unit = \"a.service\" }";
    let allow = |id: &str, module: &str| rule(id, &format!("modules = [\"{module}\"]\naction = \"allow\""));
    let block = |id: &str, module: &str| rule(id, &format!("modules = [\"{module}\"]\naction = \"block\"\n{asks}"));
    for (text, modules, expected) in [
        (block("a", "x"), "x!", "a"),
        (block("a", "y"), "x!", ""),
        (block("a", "x"), "x!@live", ""),
        (block("a", "x"), "", ""),
        (block("a", "x"), "missing", "a"),
        (block("a", "y"), "missing", ""),
        // What comes after the rule that decides has no say, unless on another module.
        (allow("a", "x") + &block("b", "x"), "x!", ""),
        (allow("a", "x") + &block("b", "*"), "y x!", "b"),
        (block("a", "x") + &block("b", "x"), "x!", "a b"),
        (block("a", "x") + &allow("b", "x") + &block("c", "x"), "x!", "a"),
        // A block that is held back lets the next rule decide.
        (allow("a", "x").replace("allow", "block") + "enforce = false\n" + &block("b", "x"), "x!", "b"),
        (format!("[defaults]\nunknown_requester = \"block\"\n{}{}", block("a", "x"), block("b", "x")), "x!", "a b"),
        (rule("a", &format!("requests = [\"x\"]\naction = \"block\"\n{asks}")), "", "a"),
        (rule("a", "requests = [\"x\"]\naction = \"block\"\nrequester = { uid = 0 }"), "", ""),
    ] {
        let policy = parse(&[Source::new("p", text.clone().into())]).unwrap_or_else(|found| panic!("{text} {found:?}"));
        let request = Request { name: "x".into(), caller: Caller::Kernel };
        let closure = match modules {
            "missing" => Closure { index: IndexHealth::Missing("gone".into()), ..Closure::default() },
            modules => closure(modules),
        };
        let task = Task { uid: Some(0), ..Task::default() };
        let requester = Requester { confidence: Confidence::Assumed, task, ..Requester::unknown() };
        let open = open_rules(&policy, &request, &closure, &requester);
        let ids: Vec<&str> = open.iter().map(|open| open.rule.id.as_str()).collect();
        assert_eq!(ids.join(" "), expected, "{text} / {modules}");
    }
}

#[test]
fn who_asks_matters_where_a_rule_about_it_asks_that() {
    let asks = |rest: &str, requester: &str| {
        format!("[[rule]]\nid = \"a\"\n{rest}\naction = \"block\"\nrequester = {requester}\n")
    };
    let (unit, names) = ("{ unit = \"a.service\" }", "modules = [\"x\"]");
    for (text, modules, expected) in [
        (String::new(), "x!", false),
        (asks(names, unit), "x!", true),
        (asks(names, unit), "x y!", true),
        (asks(names, "\"unknown\""), "x!", true),
        (asks(names, "{ caller = \"kernel\" }"), "x!", false),
        (asks(names, unit), "y!", false),
        (asks(names, unit), "x!@live", false),
        (asks(names, unit), "", false),
        (asks(names, unit), "missing", true),
        (asks("requests = [\"x\"]", unit), "", true),
        (asks("requests = [\"x\"]", unit), "y!@live", true),
        (asks("requests = [\"z\"]", unit), "x!", false),
        // One before it decides: it may be one that is only recorded.
        ("[[rule]]\nid = \"b\"\nmodules = [\"x\"]\naction = \"allow\"\n".to_owned() + &asks(names, unit), "x!", true),
    ] {
        let policy = parse(&[Source::new("p", text.clone().into())]).unwrap_or_else(|found| panic!("{text} {found:?}"));
        let request = Request { name: "x".into(), caller: Caller::Kernel };
        let closure = match modules {
            "missing" => Closure { index: IndexHealth::Missing("gone".into()), ..Closure::default() },
            modules => closure(modules),
        };
        assert_eq!(is_asked_who(&policy, &request, &closure), expected, "{text} / {modules}");
    }
}

//! Lints on policies as text: `LEVEL LINT RULE LINE`, one a finding.

use super::facts::{Executable, File, Line, Loss, Modules, Past, Says, Setting, Unhooked};
use super::*;
use crate::policy::parse;

fn files(texts: &[&str], facts: &Facts) -> Vec<Lint> {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Source::new(&format!("p{at}"), format!("version = 1\n{text}").into_bytes()))
        .collect();
    let policy = parse(&sources).unwrap_or_else(|findings| panic!("{findings:?}"));
    lints(&policy, &sources, facts)
}

fn short(lint: &Lint) -> String {
    let line = lint.finding.position.map_or(0, |position| position.line);
    let level = serde_json::to_string(&lint.level).unwrap().replace('"', "");
    format!("{level} {} {} {line}", lint.lint, lint.rule.as_deref().unwrap_or("-"))
}

fn found(text: &str, facts: &Facts) -> Vec<String> {
    files(&[text], facts).iter().map(short).collect()
}

/// Rules on three lines each: `[[rule]]`, id (a, b, ...) and action, the rest.
fn rules(all: &[(&str, &str)]) -> String {
    let one = |(at, (action, rest)): (usize, &(&str, &str))| {
        let id = char::from(b'a' + u8::try_from(at).unwrap());
        format!("[[rule]]\nid = \"{id}\"\naction = \"{action}\"\n{rest}\n")
    };
    all.iter().enumerate().map(one).collect()
}

#[test]
fn a_rule_that_an_earlier_one_takes_is_found() {
    let wide = "modules = [\"nf_*\", \"x_tables\"]";
    let narrow = "modules = [\"nf-conntrack\", \"nf_nat*\"]";
    let who = |who: &str| format!("{narrow}\nrequester = {{ {who} }}");
    let with = |rest: &str, who: &str| format!("{rest}\nrequester = {{ {who} }}");
    for (first, second, expected) in [
        (("block", wide.to_owned()), ("allow", narrow.to_owned()), "warning shadowed b 6"),
        (("allow", wide.to_owned()), ("block", narrow.to_owned()), "warning shadowed b 6"),
        (("allow", wide.to_owned()), ("block", who("uid = 0")), "warning shadowed b 6"),
        (("block", narrow.to_owned()), ("allow", wide.to_owned()), ""),
        (("block", format!("{wide}\nenforce = false")), ("allow", narrow.to_owned()), ""),
        (
            ("block", format!("{wide}\nenforce = false")),
            ("block", format!("{narrow}\nenforce = false")),
            "warning shadowed b 7",
        ),
        (("block", format!("{wide}\nrequests = [\"a*\"]")), ("allow", narrow.to_owned()), ""),
        (
            ("block", format!("{wide}\nrequests = [\"a*\"]")),
            ("allow", format!("{narrow}\nrequests = [\"ab\"]")),
            "warning shadowed b 7",
        ),
        (
            ("block", "requests = [\"net-*\"]".to_owned()),
            ("allow", "requests = [\"net_pf_1\"]".to_owned()),
            "warning shadowed b 6",
        ),
        // With nothing to load, only the second is about it.
        (("block", "modules = [\"*\"]".to_owned()), ("allow", "requests = [\"net-pf-1\"]".to_owned()), ""),
        // Who asks.
        (("block", with(wide, "uid = [\"0-99\"]")), ("allow", who("uid = 7")), "warning shadowed b 7"),
        (("block", with(wide, "uid = 7")), ("allow", who("uid = [\"0-99\"]")), ""),
        (("block", with(wide, "uid = 7")), ("allow", narrow.to_owned()), ""),
        (("block", with(wide, "uid = 7")), ("allow", who("uid = 7, unit = \"a.service\"")), "warning shadowed b 7"),
        (("block", with(wide, "uid = 7, userns = \"host\"")), ("allow", who("uid = 7")), ""),
        (("block", with(wide, "container = true")), ("allow", who("container = [\"web\"]")), "warning shadowed b 7"),
        (("block", with(wide, "uid = [\"!0\"]")), ("allow", who("uid = [\"!0-9\"]")), "warning shadowed b 7"),
        (("block", with(wide, "uid = [\"!0-9\"]")), ("allow", who("uid = [\"!0\"]")), ""),
        (
            ("block", with(wide, "unit = \"ssh*.service\"")),
            ("allow", who("unit = \"ssh.service\"")),
            "warning shadowed b 7",
        ),
        (("block", with(wide, "unit = \"ssh.service\"")), ("allow", who("unit = \"ssh*.service\"")), ""),
        (
            ("block", with(wide, "unit = [\"!a.service\"]")),
            ("allow", who("unit = [\"!*.service\"]")),
            "warning shadowed b 7",
        ),
        (("block", with(wide, "unit = [\"!*.service\"]")), ("allow", who("unit = [\"!a.service\"]")), ""),
        (
            ("block", with(wide, "container = [\"web-*\"]")),
            ("allow", who("container = [\"web-1\"]")),
            "warning shadowed b 7",
        ),
        // What permits has to be certain, what blocks has not.
        (("allow", with(wide, "uid = 7")), ("block", who("uid = 7")), ""),
        (("allow", with(wide, "caller = \"hook\"")), ("block", who("caller = \"hook\"")), "warning shadowed b 7"),
        (("block", with(wide, "uid = 7")), ("block", with(narrow, "uid = 7")), "warning shadowed b 7"),
    ] {
        let text = rules(&[(first.0, &first.1), (second.0, &second.1)]);
        assert_eq!(found(&text, &Facts::default()).join("\n"), expected, "{text}");
    }
}

#[test]
fn what_is_meant_to_be_hidden_is_no_warning() {
    let nf = "modules = [\"nf_conntrack\"]";
    assert_eq!(found(&rules(&[("block", nf), ("allow-sysctl", nf)]), &Facts::default()), ["note shadowed b 6"]);
    let mine = "modules = [\"nf_conntrack\"]\nrequester = { uid = 7 }";
    assert_eq!(found(&rules(&[("block", nf), ("allow", mine)]), &Facts::default()), ["warning shadowed b 6"]);
    let other = "[[rule]]\nid = \"z\"\naction = \"block\"\nmodules = [\"nf_conntrack\"]\n";
    let of_two = files(&[other, &rules(&[("allow", "modules = [\"nf_conntrack\"]")])], &Facts::default());
    assert_eq!(of_two.iter().map(short).collect::<Vec<_>>(), ["note shadowed a 2"]);
    assert_eq!(of_two[0].finding.path, "p1");
    // That a file before takes a part is how it is overridden.
    let part = rules(&[("allow", "modules = [\"nf_conntrack\", \"sctp\"]")]);
    assert_eq!(files(&[other, &part], &Facts::default()), []);
    let all = rules(&[("block", "modules = [\"sctp\"]"), ("block", "modules = [\"a\",\n \"sctp\"]")]);
    assert_eq!(found(&all, &Facts::default()), ["warning shadowed b 10"]);
    let by_two =
        rules(&[("block", "modules = [\"a\"]"), ("block", "modules = [\"b\"]"), ("allow", "modules = [\"a\", \"b\"]")]);
    assert_eq!(found(&by_two, &Facts::default()), ["warning shadowed c 10"]);
}

#[test]
fn a_requester_whom_nobody_can_be_is_found() {
    for (who, is_never) in [
        ("uid = [0, \"!0\"]", true),
        ("uid = [\"5-9\", \"!0-6\", \"!7-20\"]", true),
        ("uid = [\"5-9\", \"!0-6\", \"!8-20\"]", false),
        ("uid = [0, 1, \"!0\"]", false),
        ("uid = [\"!0-4294967294\"]", true),
        ("auid = [\"!0-4294967294\"]", false),
        ("auid = [\"!0-4294967294\", \"!none\"]", true),
        ("auid = [\"none\", \"!none\"]", true),
        ("unit = [\"a.service\", \"!*.service\"]", true),
        ("unit = [\"*.service\", \"!a.service\"]", false),
        ("unit = [\"foo-bar.service\", \"!foo_bar.service\"]", false),
        ("exe = [\"/a\", \"!/a\"]", true),
        ("caller = [\"!kernel\", \"!hook\", \"!modprobe\", \"!xtables\"]", true),
        ("caller = [\"!kernel\", \"!hook\"]", false),
        ("container = false", false),
    ] {
        let text = rules(&[("block", &format!("modules = [\"a\"]\nrequester = {{ {who} }}"))]);
        let expected = if is_never { "warning contradictory a 6" } else { "" };
        assert_eq!(found(&text, &Facts::default()).join("\n"), expected, "{who}");
    }
    let never = rules(&[("block", "modules = [\"a\"]\nrequester = { uid = [0, \"!0\"] }")]);
    let unknown = "[defaults]\nunknown_requester = \"block\"\n";
    assert_eq!(found(&format!("{unknown}{never}"), &Facts::default()), [""; 0]);
    let permits = never.replace("block", "allow");
    assert_eq!(found(&format!("{unknown}{permits}"), &Facts::default()), ["warning contradictory a 8"]);
}

#[test]
fn blocks_that_are_only_recorded_are_told_once() {
    let two = rules(&[("block", "modules = [\"a\"]"), ("block", "modules = [\"b\"]\nenforce = true")]);
    let watch = "[defaults]\nenforce = false\n";
    assert_eq!(found(&format!("{watch}{two}"), &Facts::default()), ["note watch-only - 3"]);
    assert_eq!(found(watch, &Facts::default()), [""; 0]);
    let one = files(&[&format!("{watch}{}", rules(&[("block", "modules = [\"a\"]")]))], &Facts::default());
    assert!(one[0].finding.message.starts_with("1 block rule is only recorded"), "{}", one[0].finding.message);
    assert_eq!(found("[defaults]\nenforce = false\naction = \"block\"\n", &Facts::default()), ["note watch-only - 3"]);
}

fn kernel() -> Facts {
    let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
    let modules = Modules {
        kernel: "6.1".into(),
        names: names(&[
            "br_netfilter",
            "e100",
            "iptable_nat",
            "l2tp_eth",
            "l2tp_ip",
            "nf_conntrack",
            "nf_nat",
            "nfs",
            "sctp",
            "snd_seq",
            "tun",
            "veth",
            "xt_MASQUERADE",
        ]),
        builtins: names(&["ext4", "unix"]),
        aliases: names(&["net-pf-1*", "crypto-aes", "fs_btrfs", "fs_nfs", "fs_ext4"]),
        stands_for: [("ip_conntrack".to_owned(), vec!["nf_conntrack".into()]), ("dccp".to_owned(), vec![])].into(),
    };
    Facts { modules: Some(modules), ..Facts::default() }
}

#[test]
fn names_that_this_kernel_does_not_know_are_told_apart() {
    for (action, rest, expected) in [
        ("block", "modules = [\"nf-conntrack\", \"nf_*\", \"snd_seq\"]", ""),
        ("block", "modules = [\"sctp\", \"nf_contrack\"]", "warning unknown-module a 5: did you mean `nf_conntrack`?"),
        (
            "block",
            "modules = [\"sctp\", \"ip_conntrack\"]",
            "warning alias a 5: write `nf_conntrack`, or the name under `requests`",
        ),
        (
            "block",
            "modules = [\"sctp\", \"dccp\", \"efs\", \"e1000\"]",
            "note unknown-module a 5: leave what other kernels have",
        ),
        ("block", "modules = [\"sctp\", \"tun2\"]", "warning unknown-module a 5: did you mean `tun`?"),
        (
            "block",
            "modules = [\"tunn\", \"sctp\", \"dccp\",\n\"vet\", \"efs\"]",
            "warning unknown-module a 5: did you mean `tun`?\nnote unknown-module a 5: leave what other kernels have\n\
             warning unknown-module a 6: did you mean `veth`?",
        ),
        (
            "block",
            "modules = [\"sctp\", \"xt-masquerad\"]",
            "warning unknown-module a 5: did you mean `xt_MASQUERADE`?",
        ),
        ("block", "modules = [\"xt_masquerade\"]", "warning unknown-module a 5: did you mean `xt_MASQUERADE`?"),
        ("block", "modules = [\"conntrack\"]", "warning unknown-module a 5: did you mean `nf_conntrack`?"),
        (
            "block",
            "modules = [\"sctp\", \"l2tp\", \"netfilter\"]",
            "note unknown-module a 5: did you mean `l2tp_ip` or `l2tp_eth`?\n\
             note unknown-module a 5: did you mean `br_netfilter`?",
        ),
        ("allow", "modules = [\"sctp\", \"netfilter\"]", "warning unknown-module a 5: did you mean `br_netfilter`?"),
        ("block", "requests = [\"fs-btrf\"]", "warning unknown-request a 5: did you mean `fs-btrfs`?"),
        ("block", "requests = [\"iptable_natt\"]", "warning unknown-request a 5: did you mean `iptable_nat`?"),
        (
            "block",
            "requests = [\"fs-efs\", \"fs-ext5\", \"crypto-des\"]",
            "note unknown-request a 5: leave what other kernels have",
        ),
        ("block", "modules = [\"dccp\"]", "warning unknown-module a 5: take it out if no other kernel is meant"),
        ("block", "modules = [\"dccp\", \"ebt_*\"]", "note unknown-module a 5: leave what other kernels have"),
        (
            "allow",
            "modules = [\"dccp\", \"ebt_*\"]",
            "warning unknown-module a 5: take it out if no other kernel is meant",
        ),
        ("block", "modules = [\"ext4\"]", "warning builtin a 5: take it out if no other kernel is meant"),
        ("allow", "modules = [\"ext4\"]", ""),
        (
            "block",
            "requests = [\"net-pf-10\", \"net_pf_[12]*\", \"crypto-*\", \"cry*\", \"nf_nat\", \"ip_conntrack\"]",
            "",
        ),
        ("block", "requests = [\"net-pf-9\", \"fs-*\"]", "note unknown-request a 5: leave what other kernels have"),
    ] {
        let lints = files(&[&rules(&[(action, rest)])], &kernel());
        let found: Vec<_> = lints.iter().map(|lint| format!("{}: {}", short(lint), lint.finding.remedy)).collect();
        assert_eq!(found.join("\n"), expected, "{rest}");
    }
    let lints = files(&[&rules(&[("block", "modules = [\"sctp\", \"x-y\", \"dccp\"]")])], &kernel());
    assert_eq!(lints[0].finding.message, "no module of 6.1: dccp, x-y");
}

#[test]
fn who_may_run_a_program_is_asked() {
    let is = |path: &str, is| Executable { path: path.into(), is };
    let executables = vec![
        is("/a", File::Plain),
        is("/gone", File::Missing),
        is("/script", File::Script),
        is("/sbin/iptables", File::Link("/usr/sbin/xtables-nft-multi".into())),
        is("/usr/bin/python3", File::Link("/usr/bin/python3.11".into())),
        is("/usr/bin/dockerd", File::Link("/opt/dockerd".into())),
    ];
    let facts = Facts { executables, ..Facts::default() };
    for (action, who, expected) in [
        ("allow", "exe = \"/a\"", "warning anybody a 6"),
        ("allow", "ancestor = \"/a\", caller = \"kernel\"", "warning anybody a 6"),
        ("allow", "exe = \"!/a\"", ""),
        ("block", "exe = \"/a\"", "note copy a 6"),
        ("block", "ancestor = [\"/a\", \"/unknown\"], caller = \"kernel\"", "note copy a 6"),
        ("block", "exe = [\"!/a\"]", ""),
        ("block", "exe = \"/a\", uid = 7", ""),
        ("allow", "exe = \"/a\", uid = 0", ""),
        ("allow", "exe = \"/gone\", uid = 0", "warning no-executable a 6"),
        ("block", "ancestor = \"/script\", uid = 7", "warning script a 6"),
        ("block", "exe = \"/sbin/iptables\", uid = 7", "warning many-programs a 6"),
        ("allow", "exe = \"/usr/bin/python3\", uid = 0", "warning interpreter a 6"),
        ("block", "exe = \"/usr/bin/python3\", uid = 7", "note link a 6"),
        ("allow", "exe = \"/usr/bin/dockerd\", uid = 0", "note link a 6"),
        ("allow", "exe = \"/unknown\", uid = 0", ""),
    ] {
        let text = rules(&[(action, &format!("modules = [\"a\"]\nrequester = {{ {who} }}"))]);
        assert_eq!(found(&text, &facts).join("\n"), expected, "{who}");
    }
}

#[test]
fn what_would_be_lost_is_told_by_its_cause() {
    let loss = |rule: Option<&str>, module: &str, name: &str, is_softdep, used: &str| Loss {
        rule: rule.map(str::to_owned),
        module: module.into(),
        name: name.into(),
        is_softdep,
        is_by_name: false,
        is_for_some: false,
        used: used.into(),
    };
    let losses = vec![
        loss(Some("a"), "nf_nat", "nf_nat", false, "loaded"),
        loss(Some("a"), "crc", "fs-ext4", true, "mounted on /"),
        loss(None, "sctp", "sctp", false, "loaded"),
        loss(None, "tipc", "tipc", false, "loaded"),
    ];
    let past = vec![Past { rule: Some("a".into()), requests: 3, by: vec![("nf_nat by a.service".into(), 3)] }];
    let facts = Facts { losses, past, past_unread: Some(("no".into(), "r")), ..Facts::default() };
    let text = rules(&[("block", "modules = [\"nf-nat\",\n\"crc*\"]")]) + "[defaults]\naction = \"block\"\n";
    let lints = files(&[&text], &facts);
    let told: Vec<_> = lints.iter().map(|lint| format!("{}: {}", short(lint), lint.finding.message)).collect();
    assert_eq!(
        told,
        [
            "note log-unread - 0: past requests were not looked at: no",
            "warning blocks-past-requests a 2: would block 3 requests that this host's log has as permitted: nf_nat by a.service (3)",
            "warning in-use a 5: rule \"a\" blocks nf_nat, which this host uses: loaded",
            "warning in-use a 6: rule \"a\" blocks crc, which this host uses: as a soft dependency of fs-ext4 (mounted on /)",
            "warning in-use - 8: the default blocks what this host uses: sctp (loaded), tipc (loaded)",
        ]
    );
    let by_name =
        |name: &str, module: &str| Loss { is_by_name: true, ..loss(Some("a"), module, name, false, "loaded") };
    let asked = Loss { is_for_some: true, ..loss(Some("b"), "nf_nat", "nf_nat", false, "loaded") };
    let losses = vec![by_name("nf_nat", "nf_nat"), by_name("fs_ext4", "ext4"), asked];
    let text = rules(&[
        ("block", "requests = [\n\"nf_nat\", \"fs-ext4\"]"),
        ("block", "modules = [\"nf_*\"]\nrequester = { uid = 0 }"),
    ]);
    let lints = files(&[&text], &Facts { losses, ..Facts::default() });
    let told: Vec<_> = lints.iter().map(|lint| format!("{}: {}", short(lint), lint.finding.message)).collect();
    assert_eq!(
        told,
        [
            "warning in-use a 6: rule \"a\" blocks requests for what this host uses: nf_nat (loaded), fs_ext4, which leads to ext4 (loaded)",
            "note in-use b 10: rule \"b\" blocks nf_nat, which this host uses, for those it asks for: loaded",
        ]
    );
}

#[test]
fn what_else_on_the_host_says_otherwise_is_told() {
    let line = |says| Line { rule: "a".into(), module: "nf_conntrack".into(), says, source: "m.conf:1".into() };
    let facts = Facts {
        lines: vec![line(Says::Blacklist), line(Says::Install("/bin/false".into())), line(Says::AliasTo("off".into()))],
        unhooked: vec![
            Unhooked { module: "x".into(), installed_by: None },
            Unhooked { module: "y".into(), installed_by: Some("m.conf:2".into()) },
        ],
        unheard: ["b", "c"].map(|id| (id.into(), "why".into(), "remedy".into())).into(),
        settings: vec![Setting {
            key: ("sysctl", "net.a".into()),
            ours: "1".into(),
            theirs: "2".into(),
            source: "s.conf:1".into(),
        }],
        hashsize: Some((1000, "m.conf:3".into())),
        ..Facts::default()
    };
    let text = rules(&[
        ("allow-sysctl", "modules = [\"nf-conntrack\"]"),
        ("block", "modules = [\"b\"]\nrequester = { uid = 7 }"),
        ("block", "modules = [\"c\"]\nrequester = { uid = 7 }"),
    ]) + "[sysctl]\n\"net.a\" = 1\n[conntrack]\nmax = 8001\n";
    assert_eq!(
        found(&text, &facts),
        [
            "note unhooked - 0",
            "warning modprobe-d a 5",
            "warning modprobe-d a 5",
            "warning modprobe-d a 5",
            "warning cannot-tell b 10",
            "warning cannot-tell c 15",
            "warning set-twice - 17",
            "warning few-buckets - 19",
        ]
    );
    let enough = text.replace("8001", "8000");
    assert!(!found(&enough, &facts).iter().any(|lint| lint.contains("few-buckets")));
}

#[test]
fn a_lint_is_a_finding_with_more_keys() {
    let lint = &files(&["[defaults]\nenforce = false\naction = \"block\""], &Facts::default())[0];
    assert_eq!(
        serde_json::to_string(lint).unwrap(),
        "{\"lint\":\"watch-only\",\"level\":\"note\",\"path\":\"p0\",\"line\":3,\"column\":1,\
         \"message\":\"the default's block is only recorded: `enforce` is false for all that do not say otherwise\",\
         \"remedy\":\"see `guard log --verdict block`, then take it out\"}"
    );
}

//! What rules are made of requests.

use super::*;

#[test]
fn rules_are_those_that_a_person_would_write() {
    let kernel = Kernel::unpacked();
    let hosts = [docker(&kernel, "d1"), router(&kernel, "r1"), laptop(&kernel, "l1")];
    let all: Vec<Vec<String>> = hosts.iter().map(|recorded| lines(recorded)).collect();
    let all: Vec<&[String]> = all.iter().map(Vec::as_slice).collect();
    let policy = learned(&["--default=block"], &all);
    let rules = rules(&policy);
    let rule = |id: &str| {
        let (modules, who, action) = rules.get(id).unwrap_or_else(|| panic!("no rule {id}:\n{policy}"));
        (modules.join(" "), who.as_str(), action.as_str())
    };
    let docker = rule("docker-service");
    assert_eq!((docker.1, docker.2), ("{ unit = [\"docker.service\"] }", "allow"));
    assert!(docker.0.contains("iptable_nat") && !docker.0.contains("nf_nat") && !docker.0.contains("xt_addrtype"));
    assert_eq!(rule("size-nf_conntrack"), ("nf_conntrack".to_owned(), "", "allow-sysctl"));
    assert!(rule("unknown-requesters").0.contains("xt_addrtype"));
    assert!(rule("many-requesters-root-host").0.contains("algif_hash"));
    assert_eq!(rule("many-requesters-root-host").1, "{ uid = [0], userns = \"host\" }");
    assert_eq!(rule("usr-sbin-nft").1, "{ exe = [\"/usr/sbin/nft\"], uid = [0] }");
    assert_eq!(rule("usr-sbin-nft-users-host").1, "{ exe = [\"/usr/sbin/nft\"], userns = \"host\" }");
    // Root may have what every user may.
    assert_eq!(rule("session-scope").0, "xfs");
    assert_eq!(rule("session-scope-users-host").0, "algif_skcipher");
    assert_eq!(rule("one-service-two-service").1, "{ unit = [\"one.service\", \"two.service\"] }");
    assert_eq!(rule("wg-quick-service").1, "{ unit = [\"wg-quick@*.service\"] }");
    assert!(policy.contains("\"overlay\",  # 1 request, d1, 2024-11-0"), "{policy}");
    assert!(policy.contains("; asked for as fs-overlay\n"), "{policy}");
    let bare = learned(&["--default=block", "--bare"], &all);
    assert!(!bare.contains("2024") && !bare.contains("d1"), "{bare}");
    assert_eq!(parsed(&bare).rules.len(), parsed(&policy).rules.len());
}

#[test]
fn who_is_likely_counts_where_that_is_asked_for() {
    let kernel = Kernel::unpacked();
    let recorded = router(&kernel, "r1");
    let policy = learned(&["--default=block", "--trust=likely"], &[&lines(&recorded)]);
    assert!(policy.contains("trust = \"likely\""), "{policy}");
    assert!(rules(&policy)["wg-quick-service"].0.contains(&"wireguard".to_owned()), "{policy}");
    holds(&kernel, &policy, &recorded, true);
    let policy = learned(&["--default=block"], &[&lines(&recorded)]);
    assert!(rules(&policy)["unknown-requesters"].0.contains(&"wireguard".to_owned()), "{policy}");
}

#[test]
fn the_order_of_lines_and_files_is_nothing() {
    let kernel = Kernel::unpacked();
    let hosts = [docker(&kernel, "d1"), router(&kernel, "r1"), laptop(&kernel, "l1"), refusing(&kernel, "s1")];
    let mut all: Vec<String> = hosts.iter().flat_map(|recorded| lines(recorded)).collect();
    all.extend(all.clone());
    let forth = learned(&[], &[&all]);
    let (front, back) = all.split_at(all.len() / 3);
    assert_eq!(learned(&[], &[back, front]), forth);
    all.reverse();
    assert_eq!(learned(&[], &[&all]), forth);
}

#[test]
fn hosts_with_different_kernels_each_get_their_own() {
    let line = |host: &str, modules: &str| {
        format!(
            r#"{{"v":1,"time":"2024-11-20T12:00:00.000000Z","host":"{host}","boot_id":null,"kernel":null,"request":{{"name":"alias","caller":"kernel"}},"requester":{{"confidence":"exact","found_by":"recorder","pid":7,"uid":0,"unit":"a.service","parents":[]}},"verdict":{{"action":"allow","enforced":true,"rule":null,"source":"default","module":null,"reason":null}},"modules":[{modules}],"outcome":{{"status":0,"duration_us":1,"loaded":[]}}}}"#
        ) + "\n"
    };
    let module = |name: &str, state: &str, needed_as: &str| {
        format!(r#"{{"name":"{name}","state":"{state}","needed_as":"{needed_as}"}}"#)
    };
    let joined = |modules: &[String]| modules.join(",");
    let lines = [
        line("old", &joined(&[module("dep", "absent", "dependency"), module("old_one", "absent", "target")])),
        line("new", &joined(&[module("soft", "absent", "softdep"), module("new_one", "absent", "target")])),
        // A part of the kernel stays there; what was there already may be missing the next time.
        line("built", &module("built_in", "builtin", "target")),
        line("live", &module("lives", "live", "target")),
        line("half", &joined(&[module("one_half", "live", "target"), module("other_half", "absent", "target")])),
    ];
    let policy = learned(&["--default=block"], &[&lines]);
    assert_eq!(rules(&policy)["a-service"].0, ["lives", "new_one", "old_one", "one_half", "other_half"]);
    let policy = parsed(&policy);
    for line in &lines {
        let mut record: Record = serde_json::from_str(line).unwrap();
        record.requester.task.known.unit = true;
        for module in record.modules.iter_mut().filter(|module| module.state == ModuleState::Live) {
            module.state = ModuleState::Absent;
        }
        let closure = Closure { modules: record.modules, ..Closure::default() };
        assert_eq!(decide(&policy, &record.request, &closure, &record.requester).carried_out, Action::Allow, "{line}");
    }
}

#[test]
fn what_was_counted_is_learned_as_far_as_it_is_known() {
    let kernel = Kernel::unpacked();
    let mut recorder = Recorder::new(&kernel, "r1", BUILT_IN);
    recorder.ask(&["algif-hash"], Caller::Kernel, &service("a.service"));
    let count = |name: &str, rule: &str, module: &str, unit: &str| {
        let of = [("NAME", name), ("RULE", rule), ("MODULE", module), ("UNIT", unit)];
        of.iter().fold(COUNT.to_owned(), |text, (key, value)| text.replace(key, value)) + "\n"
    };
    let (a, b) = ("\"a.service\"", "\"b.service\"");
    let mut all = lines(&recorder.recorded);
    // The same count twice, the second time grown.
    let known = count("algif-hash", "null", "\"algif_hash\"", a);
    all.push(known.clone());
    all.push(known.replace("\"thinned\":35", "\"thinned\":40"));
    all.push(count("fs-xfs", "null", "\"xfs\"", a));
    all.push(count("nothing", "null", "null", a));
    all.push(count("net-pf-[*\\\\xff", "\"sized\"", "\"nf_conntrack\"", a));
    // No record tells how certain it is that it was they.
    all.push(count("fs-btrfs", "null", "\"btrfs\"", b));
    let policy = learned(&["--default=block"], &[&all]);
    let rules = rules(&policy);
    assert_eq!(rules["a-service"].0, ["algif_hash", "xfs"]);
    assert!(policy.contains("\"algif_hash\",  # 41 requests"), "{policy}");
    assert_eq!(rules["a-service-requests"].0, [r"net-pf-\[\*?"]);
    assert_eq!(
        (&rules["unknown-requesters"].0[..], &rules["unknown-requesters"].1[..]),
        (&["btrfs".to_owned()][..], "")
    );
    holds(&kernel, &policy, &recorder.recorded, false);
}

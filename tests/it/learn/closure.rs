//! What came along with what was asked for stands with it.

use super::*;

/// The lines of a rule's modules.
fn modules_of(policy: &str, id: &str) -> Vec<String> {
    let (_, rule) = policy.split_once(&format!("id = \"{id}\"\nmodules = [\n")).unwrap();
    rule.split_once("\n]").unwrap().0.lines().map(str::to_owned).collect()
}

/// What the kernel's index says that `module` needs, in the order of names.
fn needs(kernel: &Kernel, module: &str) -> Vec<String> {
    let mut recorder = Recorder::new(kernel, "d1", "version = 1\n");
    recorder.ask(&[module], Caller::Modprobe, &service("a.service"));
    let modules = &recorder.recorded[0].record.modules;
    let needed = modules.iter().filter(|module| module.needed_as != NeededAs::Target);
    let mut needed: Vec<String> = needed.map(|module| module.name.to_string()).collect();
    needed.sort_unstable();
    needed
}

#[test]
fn what_was_asked_for_by_itself_stands_below_what_needs_it() {
    let kernel = Kernel::unpacked();
    let mut recorder = Recorder::new(&kernel, "d1", "version = 1\n");
    let docker = service("docker.service");
    let names = ["nf_nat", "fs-overlay", "x_tables", "iptable_nat", "iptable_nat", "xt_MASQUERADE"];
    recorder.ask(&names, Caller::Kernel, &docker);
    // By somebody else it stands in their rule, with what it needs itself.
    recorder.ask(&["nf_nat"], Caller::Kernel, &service("ufw.service"));
    let recorded = &recorder.recorded;
    let policy = learned(&["--default=block"], &[&lines(recorded)]);
    holds(&kernel, &policy, recorded, true);
    let needs = |module: &str| format!("  # {module} needs {}", needs(&kernel, module).join(", "));
    assert!(needs("iptable_nat").contains("nf_conntrack, nf_defrag_ipv4, nf_defrag_ipv6, nf_nat, x_tables"));
    let expected = [
        needs("iptable_nat"),
        "  \"iptable_nat\",  # 2 requests, d1, 2024-11-04 to 2024-11-05".to_owned(),
        "    \"nf_nat\",  # 1 request, d1, 2024-11-01".to_owned(),
        "    \"x_tables\",  # 1 request, d1, 2024-11-03".to_owned(),
        "  \"overlay\",  # 1 request, d1, 2024-11-02; asked for as fs-overlay".to_owned(),
        needs("xt_MASQUERADE"),
        "  \"xt_MASQUERADE\",  # 1 request, d1, 2024-11-06".to_owned(),
    ];
    assert_eq!(modules_of(&policy, "docker-service"), expected, "{policy}");
    let expected = [needs("nf_nat"), "  \"nf_nat\",  # 1 request, d1, 2024-11-07".to_owned()];
    assert_eq!(modules_of(&policy, "ufw-service"), expected, "{policy}");
    // The same rules without the counts.
    let bare = learned(&["--default=block", "--bare"], &[&lines(recorded)]);
    let expected =
        ["  \"iptable_nat\",", "    \"nf_nat\",", "    \"x_tables\",", "  \"overlay\",", "  \"xt_MASQUERADE\","];
    assert_eq!(modules_of(&bare, "docker-service"), expected, "{bare}");
    assert_eq!(super::rules(&bare), super::rules(&policy));
}

#[test]
fn what_only_came_along_is_in_no_rule() {
    let kernel = Kernel::unpacked();
    let mut recorder = Recorder::new(&kernel, "d1", "version = 1\n");
    recorder.ask(&["iptable_nat"], Caller::Kernel, &service("docker.service"));
    let policy = learned(&["--default=block"], &[&lines(&recorder.recorded)]);
    let all: Vec<Vec<String>> = super::rules(&policy).into_values().map(|(modules, _, _)| modules).collect();
    assert_eq!(all, [["iptable_nat"]], "{policy}");
    // A rule behind these still decides on it.
    let sized = policy + "[[rule]]\nid = 'size'\nmodules = ['nf_conntrack']\naction = 'allow-sysctl'\n";
    let host = Host::at(&kernel.root).unwrap();
    let (policy, one) = (parsed(&sized), &recorder.recorded[0]);
    let judge = Judge::new(&host, &kernel.release, &policy).of_policy_alone();
    let verdict = judge.judge(one.record.request.clone(), &one.requester).verdict;
    assert_eq!(verdict.carried_out, Action::AllowSysctl, "{sized}");
}

#[test]
fn which_of_several_modules_needs_what_is_not_guessed() {
    let kernel = Kernel::unpacked();
    let mut recorder = Recorder::new(&kernel, "d1", "version = 1\n");
    recorder.ask(&["iptable_nat"], Caller::Kernel, &service("docker.service"));
    let Recorded { record, .. } = &mut recorder.recorded[0];
    let other = record.modules.iter_mut().find(|module| module.name == *"nf_nat").unwrap();
    other.needed_as = NeededAs::Target;
    let policy = learned(&["--default=block"], &[&lines(&recorder.recorded)]);
    assert_eq!(modules_of(&policy, "docker-service").len(), 2, "{policy}");
    assert!(!policy.contains(" needs "), "{policy}");
}

//! `guard learn`: recordings of hosts of several kinds, and that what is learned of them holds on a whole kernel.
//!
//! The recordings are made by the code that judges requests; what is learned is judged by it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use modprobe_guard::audit::entry;
use modprobe_guard::host::Host;
use modprobe_guard::judge::Judge;
use modprobe_guard::model::{
    Action, Caller, Closure, Confidence, Files, FoundBy, Known, ModuleState, Namespace, NeededAs, Outcome, Parent,
    Record, Request, Requester, Task,
};
use modprobe_guard::policy::{self, BUILT_IN, Policy, Source};
use modprobe_guard::text::Text;
use modprobe_guard::{modules, policy::decide};

use crate::kernel::Kernel;

mod tight;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Names that stand for nothing on this kernel.
const NOTHING: [&str; 3] = ["no-such-name", "crypto-nothing\n\"", "net-pf-9"];

/// A task of the host, as rules see it.
fn task(unit: Option<&str>, exe: Option<&str>, uid: u32) -> Task {
    let path = exe.map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe).to_owned());
    Task {
        pid: Some(7),
        tid: Some(7),
        comm: Some(Text::from("x")),
        exe: exe.map(Text::from),
        uid: Some(uid),
        euid: Some(uid),
        unit: unit.map(Text::from),
        userns: Some(Namespace::Host),
        mntns: Some(Namespace::Host),
        parents: vec![Parent { pid: 1, comm: None, exe: Some(Text::from("/usr/lib/systemd/systemd")) }],
        known: Known {
            exe: Files { are: path.into_iter().collect(), complete: true },
            ancestors: Files { are: Vec::new(), complete: true },
            unit: true,
            container: true,
            auid: true,
        },
        ..Task::default()
    }
}

fn service(unit: &str) -> Requester {
    exact(task(Some(unit), Some("/usr/bin/x"), 0))
}

fn exact(task: Task) -> Requester {
    Requester { confidence: Confidence::Exact, found_by: Some(FoundBy::Recorder), task, ..Requester::unknown() }
}

/// In a container, whose executables are none of the host's.
fn container(unit: Option<&str>, userns: Namespace) -> Requester {
    let mut task = task(unit, Some("/usr/sbin/nft"), 0);
    (task.container, task.userns, task.mntns) = (Some(Text::from(ID)), Some(userns), Some(Namespace::Other));
    task.known.exe.are.clear();
    exact(task)
}

fn several(found_by: FoundBy, candidates: Vec<Task>) -> Requester {
    Requester { confidence: Confidence::Ambiguous, found_by: Some(found_by), candidates, ..Requester::unknown() }
}

/// A request, and all that came of it.
#[derive(Clone)]
struct Recorded {
    record: Record,
    /// With what the record does not tell.
    requester: Requester,
}

/// A host whose requests are recorded.
struct Recorder<'a> {
    kernel: &'a Kernel,
    host: &'a str,
    policy: Policy,
    recorded: Vec<Recorded>,
}

impl Recorder<'_> {
    fn new<'a>(kernel: &'a Kernel, host: &'a str, policy: &str) -> Recorder<'a> {
        Recorder { kernel, host, policy: parsed(policy), recorded: Vec::new() }
    }

    fn ask(&mut self, names: &[&str], caller: Caller, requester: &Requester) {
        let host = Host::at(&self.kernel.root).unwrap();
        let judge = Judge::new(&host, &self.kernel.release, &self.policy).of_policy_alone();
        for name in names {
            let judged = judge.judge(Request { name: Text::from(*name), caller }, requester);
            assert!(judged.failures.is_empty(), "{:?}", judged.failures);
            let is_known = !judged.closure.modules.is_empty();
            assert_eq!(is_known, !NOTHING.contains(name), "{name} for {}", self.kernel.release);
            let day = 1 + self.recorded.len() % 20;
            let record = Record {
                v: 1,
                time: Some(format!("2024-11-{day:02}T12:00:00.000000Z")),
                host: Some(Text::from(self.host)),
                boot_id: None,
                kernel: Some(Text::from(self.kernel.release.as_str())),
                request: judged.request,
                requester: requester.clone(),
                verdict: judged.verdict,
                modules: judged.closure.modules,
                sysctl: Vec::new(),
                failures: Vec::new(),
                outcome: Some(Outcome::default()),
            };
            self.recorded.push(Recorded { record, requester: requester.clone() });
        }
    }
}

fn parsed(text: &str) -> Policy {
    policy::parse(&[Source::new("p.toml", text.into())]).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"))
}

fn docker<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let mut recorder = Recorder::new(kernel, host, BUILT_IN);
    let iptables = exact(task(Some("docker.service"), Some("/usr/sbin/xtables-nft-multi"), 0));
    recorder.ask(&["iptable_nat", "xt_MASQUERADE", "xt_addrtype", "xt_conntrack"], Caller::Kernel, &iptables);
    recorder.ask(&["ip_tables", "iptable_filter"], Caller::Xtables, &iptables);
    recorder.ask(&["br_netfilter"], Caller::Hook, &service("docker.service"));
    recorder.ask(&["fs-overlay", "rtnl-link-veth", "rtnl-link-bridge"], Caller::Kernel, &service("docker.service"));
    let scope = format!("docker-{ID}.scope");
    recorder.ask(&["algif-hash"], Caller::Kernel, &container(Some(&scope), Namespace::Host));
    recorder.ask(&["xt_addrtype"], Caller::Kernel, &Requester::unknown());
    // Nothing of these is ever loaded; the last is a part of the kernel.
    recorder.ask(&["no-such-name", "crypto-nothing\n\"", "net-pf-1"], Caller::Kernel, &service("docker.service"));
    recorder.recorded
}

fn kubernetes<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let mut recorder = Recorder::new(kernel, host, BUILT_IN);
    recorder.ask(&["ip_vs", "ip_vs_rr", "nf_conntrack"], Caller::Hook, &container(None, Namespace::Host));
    let scope = format!("cri-containerd-{ID}.scope");
    recorder.ask(&["xt_statistic", "ip_set_hash_ip"], Caller::Kernel, &container(Some(&scope), Namespace::Host));
    recorder.ask(&["nft-chain-2-nat", "nft-expr-masq"], Caller::Kernel, &container(None, Namespace::Other));
    recorder.ask(&["fs-overlay", "rtnl-link-vxlan"], Caller::Kernel, &service("kubelet.service"));
    recorder.recorded
}

fn router<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let mut recorder = Recorder::new(kernel, host, BUILT_IN);
    let without_unit = |exe, uid| exact(task(None, exe, uid));
    let nft = without_unit(Some("/usr/sbin/nft (deleted)"), 0);
    recorder.ask(&["nft-chain-2-nat", "nft-expr-ct"], Caller::Kernel, &nft);
    recorder.ask(&["nft-expr-ct"], Caller::Kernel, &without_unit(Some("/usr/sbin/nft"), 1000));
    recorder.ask(&["sch_fq_codel", "sch-htb"], Caller::Kernel, &without_unit(Some("/sbin/tc"), 0));
    let wg =
        Requester { confidence: Confidence::Likely, found_by: Some(FoundBy::Stack), ..service("wg-quick@wg0.service") };
    recorder.ask(&["rtnl-link-wireguard"], Caller::Kernel, &wg);
    recorder.ask(&["rtnl-link-gre"], Caller::Kernel, &service("wg-quick@wg0.service"));
    // A thread of the kernel's, and one that was killed before anybody looked.
    recorder.ask(&["nfs"], Caller::Kernel, &without_unit(None, 0));
    let gone = Task { uid: Some(1000), pid: Some(9), ..Task::default() };
    recorder.ask(&["net-pf-15"], Caller::Kernel, &exact(gone));
    recorder.recorded
}

fn laptop<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let mut recorder = Recorder::new(kernel, host, BUILT_IN);
    let person = |unit, uid| exact(task(Some(unit), Some("/home/u/bin/x"), uid));
    recorder.ask(&["net-pf-31"], Caller::Kernel, &service("bluetooth.service"));
    recorder.ask(&["snd-seq", "fs-fuse"], Caller::Kernel, &person("user@1000.service", 1000));
    recorder.ask(&["algif-skcipher"], Caller::Kernel, &person("session-3.scope", 1000));
    recorder.ask(&["algif-skcipher", "fs-xfs"], Caller::Kernel, &person("session-c4.scope", 0));
    recorder.ask(&["fs-vfat"], Caller::Modprobe, &service("udisks2.service"));
    for unit in ["a.service", "b.service", "c@1.service", "run-u17.service"] {
        recorder.ask(&["net-pf-38", "algif-hash"], Caller::Kernel, &service(unit));
    }
    let of = |unit| task(Some(unit), Some("/usr/bin/x"), 0);
    recorder.ask(
        &["algif-rng"],
        Caller::Kernel,
        &several(FoundBy::Recorder, vec![of("one.service"), of("two.service")]),
    );
    recorder.ask(&["algif-aead"], Caller::Kernel, &several(FoundBy::Stack, vec![of("one.service"), of("one.service")]));
    let mixed = vec![of("one.service"), task(None, Some("/usr/bin/y"), 0)];
    recorder.ask(&["fs-btrfs"], Caller::Kernel, &several(FoundBy::Recorder, mixed));
    recorder.recorded
}

/// Everything is blocked there, and nothing of that carried out.
fn watched<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let policy = "version = 1\n[defaults]\naction = 'block'\nenforce = false\n\
                  [[rule]]\nid = 'watch'\nmodules = ['sctp']\naction = 'block'\n";
    let mut recorder = Recorder::new(kernel, host, policy);
    recorder.ask(&["fs-xfs", "net-pf-2-proto-132"], Caller::Kernel, &service("watched.service"));
    recorder.recorded
}

/// Where some is refused already.
fn refusing<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let policy = "version = 1\n\
                  [[rule]]\nid = 'no-mpls'\nmodules = ['mpls*']\naction = 'block'\n\
                  [[rule]]\nid = 'ssh'\nmodules = ['algif_*']\nrequester = { unit = 'ssh.service' }\naction = 'block'\n\
                  [[rule]]\nid = 'name'\nrequests = ['net-pf-9']\naction = 'block'\n";
    let mut recorder = Recorder::new(kernel, host, policy);
    recorder.ask(&["net-pf-28", "net-pf-9"], Caller::Kernel, &service("ssh.service"));
    recorder.ask(&["algif-hash", "algif-aead"], Caller::Kernel, &service("ssh.service"));
    recorder.recorded
}

fn lines(recorded: &[Recorded]) -> Vec<String> {
    recorded.iter().map(|one| String::from_utf8(entry::json(&one.record).unwrap()).unwrap()).collect()
}

fn guard(arguments: &[&str], files: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
    command.arg("learn").args(arguments).args(files).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is learned of the recordings, each a file.
fn learned(arguments: &[&str], recordings: &[&[String]]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let write = |(at, lines): (usize, &&[String])| {
        let path = directory.path().join(format!("{at}.jsonl"));
        fs::write(&path, lines.concat()).unwrap();
        path
    };
    let files: Vec<PathBuf> = recordings.iter().enumerate().map(write).collect();
    let output = guard(arguments, &files);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn is_permitted(recorded: &Recorded) -> bool {
    let verdict = &recorded.record.verdict;
    verdict.action != Action::Block || !verdict.enforced
}

/// Judges what was recorded, and all else that the kernel has, by what was learned.
fn holds(kernel: &Kernel, learned: &str, recorded: &[Recorded], is_allow_list: bool) {
    let policy = parsed(learned);
    let host = Host::at(&kernel.root).unwrap();
    let judge = Judge::new(&host, &kernel.release, &policy).of_policy_alone();
    let mut named: BTreeSet<Vec<u8>> = BTreeSet::new();
    for one in recorded {
        let Record { request, verdict, modules, .. } = &one.record;
        let now = judge.judge(request.clone(), &one.requester).verdict;
        let who = &one.requester;
        if is_permitted(one) {
            assert_ne!(now.carried_out, Action::Block, "{} by {who:?}: {now:?}\n{learned}", request.name);
            if verdict.action == Action::AllowSysctl {
                assert_eq!(now.carried_out, Action::AllowSysctl, "{} by {who:?}\n{learned}", request.name);
                named.insert(verdict.module.clone().unwrap().0);
            }
            let targets = modules.iter().filter(|module| module.needed_as == NeededAs::Target);
            named.extend(targets.map(|module| module.name.0.clone()));
        } else {
            assert_eq!(now.carried_out, Action::Block, "{} by {who:?}\n{learned}", request.name);
        }
    }
    if !is_allow_list {
        return;
    }
    let mut root = task(None, None, 0);
    root.known.exe.complete = true;
    let root = exact(root);
    let all = modules::names(&host.modules(&kernel.release)).unwrap();
    let mut others = 0;
    for module in all.into_iter().filter(|module| !named.contains(module)) {
        let request = Request { name: Text(module), caller: Caller::Modprobe };
        let judged = judge.judge(request, &root);
        let module = &judged.request.name;
        assert_eq!(judged.verdict.carried_out, Action::Block, "{module}: {:?}\n{learned}", judged.verdict);
        others += 1;
    }
    assert!(others > 1000, "only {others} other modules");
}

#[test]
fn what_was_recorded_passes_and_nothing_else() {
    let kernel = Kernel::unpacked();
    let hosts = [
        docker(&kernel, "d1"),
        kubernetes(&kernel, "k1"),
        router(&kernel, "r1"),
        laptop(&kernel, "l1"),
        watched(&kernel, "w1"),
    ];
    for recorded in &hosts {
        for default in ["block", "allow"] {
            let policy = learned(&["--default", default], &[&lines(recorded)]);
            holds(&kernel, &policy, recorded, default == "block");
        }
    }
    let all = hosts.concat();
    let fleet: Vec<Vec<String>> = hosts.iter().map(|recorded| lines(recorded)).collect();
    let fleet: Vec<&[String]> = fleet.iter().map(Vec::as_slice).collect();
    let policy = learned(&["--default=block"], &fleet);
    holds(&kernel, &policy, &all, true);
    // With those of another host that refuses, for whom it was refused as well.
    let refusing = refusing(&kernel, "s1");
    assert!(refusing.iter().all(|one| !is_permitted(one)), "all of it is refused there");
    let refused = lines(&refusing);
    for default in ["--default=block", "--default=allow"] {
        let policy = learned(&[default], &[fleet.as_slice(), &[refused.as_slice()]].concat());
        let kept: Vec<Recorded> = all.iter().chain(&refusing).cloned().collect();
        // Whom the same was permitted to without it being certain who they were is not told apart from ssh.service.
        let is_lost = |one: &Recorded| !is_permitted(one) && one.record.request.name == *"algif-aead";
        let kept: Vec<Recorded> = kept.into_iter().filter(|one| !is_lost(one)).collect();
        holds(&kernel, &policy, &kept, default == "--default=block");
        assert!(policy.contains("#   algif_aead to ssh.service by rule ssh\n"), "{policy}");
    }
}

/// The rules by their ids: what they are about, and who.
fn rules(policy: &str) -> BTreeMap<String, (Vec<String>, String, String)> {
    let document: toml::Table = policy.parse().unwrap();
    let mut whose: BTreeMap<&str, &str> = BTreeMap::new();
    let mut id = "";
    for line in policy.lines() {
        id = line.strip_prefix("id = \"").and_then(|rest| rest.strip_suffix('"')).unwrap_or(id);
        whose.extend(line.strip_prefix("requester = ").map(|who| (id, who)));
    }
    let rules = document.get("rule").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let rule = |rule: &toml::Value| {
        let patterns = rule.get("modules").or_else(|| rule.get("requests")).unwrap().as_array().unwrap();
        let patterns = patterns.iter().map(|pattern| pattern.as_str().unwrap().to_owned()).collect();
        let id = rule["id"].as_str().unwrap();
        let who = whose.get(id).copied().unwrap_or_default().to_owned();
        assert_eq!(rule.get("requester").is_some(), !who.is_empty());
        (id.to_owned(), (patterns, who, rule["action"].as_str().unwrap().to_owned()))
    };
    rules.iter().map(rule).collect()
}

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

const COUNT: &str = r#"{"v":1,"time":"2024-11-20T12:00:50.000000Z","thinned":35,"since":"2024-11-20T12:00:30.000000Z","kind":"1f","request":{"name":"NAME","caller":"kernel"},"one_name":true,"verdict":{"action":"allow","enforced":true,"rule":RULE,"source":"default","module":MODULE,"reason":null},"requester":{"uid":0,"exe":"/usr/bin/x","unit":UNIT,"container":null,"comm":null}}"#;

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

#[test]
fn nobody_writes_a_rule_of_their_own() {
    let kernel = Kernel::unpacked();
    let hostile = [
        "\"]\naction = \"allow\"\n[[rule]]\nid = \"evil\"\nmodules = [\"*\"]\n#",
        "\n[[rule]]\nid = 'evil'\nmodules = ['*']\naction = 'allow'\n",
        "'''\n\"\"\"\n",
        "\\\" \\",
        "# \u{2028}\u{85}\u{7f}\0\t",
        "*",
        "!x",
    ];
    let mut all = Vec::new();
    for text in hostile {
        let mut recorder = Recorder::new(&kernel, text, BUILT_IN);
        let mut task = task(Some(text), Some(text), 0);
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        task.exe = Some(Text::from(format!("/{text}").as_str()));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        task.container = Some(Text::from(text));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        (task.container, task.unit) = (None, Some(Text::from(format!("{text}.service").as_str())));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task));
        for one in lines(&recorder.recorded) {
            let mut value: serde_json::Value = serde_json::from_str(&one).unwrap();
            value["verdict"]["rule"] = text.into();
            let shown = Text::from(text).to_string();
            value["request"]["name"] = shown.as_str().into();
            all.push(value.to_string() + "\n");
            value["verdict"]["action"] = "block".into();
            all.push(value.to_string() + "\n");
            value["verdict"]["enforced"] = false.into();
            all.push(value.to_string() + "\n");
            if let Some(module) = value["modules"].get_mut(0) {
                module["name"] = text.into();
            }
            value["verdict"]["module"] = text.into();
            all.push(value.to_string() + "\n");
            let name = serde_json::to_string(&shown).unwrap();
            value["modules"] = serde_json::json!([]);
            value["verdict"]["module"] = serde_json::Value::Null;
            all.push(value.to_string() + "\n");
            let count = COUNT.replace("\"NAME\"", &name).replace("MODULE", &name).replace("UNIT", &name);
            all.push(count.replace("RULE", &name) + "\n");
        }
    }
    for default in ["--default=block", "--default=allow"] {
        let policy = learned(&[default], &[&all]);
        for (id, (patterns, who, action)) in rules(&policy) {
            assert!(id != "evil" && !patterns.contains(&"*".to_owned()), "{id} {action} {who}\n{policy}");
        }
        parsed(&policy);
        let is_ours = |line: &&str| {
            let heads = [
                "#",
                "version = 1",
                "[defaults]",
                "action = ",
                "[[rule]]",
                "id = ",
                "modules = [",
                "requests = [",
                "  \"",
                "  '",
                "]",
                "requester = {",
            ];
            line.is_empty() || heads.iter().any(|head| line.starts_with(head))
        };
        let foreign: Vec<&str> = policy.lines().filter(|line| !is_ours(line)).collect();
        assert!(foreign.is_empty(), "{foreign:?}\n{policy}");
        assert!(policy.chars().all(|sign| sign == '\n' || !sign.is_control()), "{policy:?}");
    }
}

#[test]
fn lines_that_are_no_records_are_told_and_harm_nothing() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let expected = learned(&[], &[&all]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let first = &all[0];
    let newer = first.replacen("\"v\":1", "\"v\":2,\"color\":{\"x\":[1]}", 1);
    let strange = newer.replace("\"action\":\"allow-sysctl\"", "\"action\":\"ask\"");
    assert_ne!(strange, newer);
    let timeless = first.replace("2024-11-", "1970-01-");
    let cut = first.get(..first.len() / 2).unwrap();
    let dry_run = first.replace("\"exact\"", "\"assumed\"");
    let text_of = all[1..].concat() + "\nfriday\n" + &newer + &strange + &timeless + &dry_run + "\u{fffd}\n" + cut;
    fs::write(file.path(), text_of).unwrap();
    let output = guard(&[], &[file.path().to_owned()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0));
    for told in [
        "4 lines are no records",
        "2 records are of a newer",
        "1 request was passed over",
        "1 record is without a time",
    ] {
        assert!(errors.contains(told), "{told}: {errors}");
    }
    let (mut learned, mut expected) = (rules(&text(&output.stdout)), rules(&expected));
    assert_eq!(std::mem::take(&mut learned), std::mem::take(&mut expected));
}

/// `bytes` packed by the tool that people use.
fn packed(tool: &str, file: &Path) -> PathBuf {
    let packed = file.with_extension("packed");
    let output = Command::new(tool).arg("-c").arg(file).output().unwrap();
    assert!(output.status.success());
    fs::write(&packed, output.stdout).unwrap();
    packed
}

#[test]
fn packed_files_and_standard_input_are_read_alike() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let expected = learned(&[], &[&all]);
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("records");
    fs::write(&plain, all.concat()).unwrap();
    let log = |file: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_guard"))
            .args(["log", file.to_str().unwrap()])
            .env_clear()
            .output()
            .unwrap();
        text(&output.stdout)
    };
    for tool in ["gzip", "zstd", "xz"] {
        let packed = packed(tool, &plain);
        assert_eq!(text(&guard(&[], std::slice::from_ref(&packed)).stdout), expected, "{tool}");
        assert_eq!(log(&packed), log(&plain), "{tool}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(["learn", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(all.concat().as_bytes()).unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
}

#[test]
fn this_hosts_records_are_learned_wherever_they_are() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let root = tempfile::tempdir().unwrap();
    let (front, back) = all.split_at(3);
    for (path, lines) in [("var/log/modprobe-guard/audit.jsonl", front), ("run/modprobe-guard/audit.jsonl", back)] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.concat()).unwrap();
    }
    let output = guard(&["--root", root.path().to_str().unwrap()], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), learned(&[], &[&all])));
}

#[test]
fn what_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("records");
    fs::write(&file, b"\xff\0no record\n").unwrap();
    let records = directory.path().join("a record");
    fs::write(&records, lines(&watched(&Kernel::unpacked(), "w1")).concat()).unwrap();
    let nowhere = PathBuf::from("/no/such/file");
    for (arguments, files, status, told) in [
        (&[][..], vec![nowhere.clone()], 2, "/no/such/file: open: "),
        (&["--json"], vec![file.clone()], 2, "--json goes with --against"),
        (&["--against", "/no/such/policy"], vec![file.clone()], 2, "/no/such/policy: "),
        (&["--default=ask"], vec![file.clone()], 2, "possible values: allow, block"),
        (&[], vec![file], 2, "no records found in "),
    ] {
        let output = guard(arguments, &files);
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{arguments:?}: {errors}");
        assert!(errors.contains(told), "{errors}");
    }
    let output = guard(&[], &[records, nowhere]);
    assert_eq!(output.status.code(), Some(1), "what could be read is told");
    assert!(text(&output.stderr).contains("/no/such/file: open: ") && !output.stdout.is_empty());
    // Of which nothing is understood: there is no policy in that either.
    let strange = directory.path().join("strange");
    let line = lines(&watched(&Kernel::unpacked(), "w1"))[0].replace("\"block\"", "\"ask\"");
    fs::write(&strange, line).unwrap();
    let output = guard(&["--default=block"], &[strange]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{}", text(&output.stderr));
    let output = guard(&["--root", directory.path().to_str().unwrap()], &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no records found in "), "{}", text(&output.stderr));
}

#[test]
fn against_a_policy_only_what_would_change_is_told() {
    let kernel = Kernel::unpacked();
    let recorded = [docker(&kernel, "d1"), refusing(&kernel, "s1")].concat();
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records");
    fs::write(&records, lines(&recorded).concat()).unwrap();
    let against = |policy: &str, options: &[&str], status: i32| {
        let file = directory.path().join("p.toml");
        fs::write(&file, policy).unwrap();
        let output = guard(&[options, &["--against", file.to_str().unwrap()]].concat(), std::slice::from_ref(&records));
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let total = recorded.len();
    // What was learned of it changes nothing.
    let own = learned(&["--default=block"], &[&lines(&recorded)]);
    assert_eq!(against(&own, &[], 0), format!("{total} requests: 0 would be blocked that were not, 0 no longer\n"));
    let policy = "version = 1\n[[rule]]\nid = 'no-overlay'\nmodules = ['overlay']\naction = 'block'\n\
                  requester = { unit = 'docker.service' }\n";
    let shown = against(policy, &[], 1);
    let mut words = shown.lines();
    assert!(
        words.next().unwrap().starts_with(
            "allow algif-aead  by ssh.service uid 0  the default for algif_aead; then by rule ssh  1 time, "
        ),
        "{shown}"
    );
    assert!(shown.contains("\nBLOCK fs-overlay  by docker.service uid 0  rule no-overlay ("), "{shown}");
    assert!(shown.ends_with(&format!("{total} requests: 1 would be blocked that were not, 4 no longer\n")), "{shown}");
    let rows: Vec<serde_json::Value> =
        against(policy, &["--json"], 1).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let blocked: Vec<&serde_json::Value> = rows.iter().filter(|row| row["verdict"] == "block").collect();
    assert_eq!((rows.len(), blocked.len()), (5, 1));
    assert_eq!((&blocked[0]["request"], &blocked[0]["who_is"]), (&"fs-overlay".into(), &"unit".into()));
    assert_eq!((&blocked[0]["count"], &blocked[0]["hosts"]), (&1.into(), &serde_json::json!(["d1"])));
}

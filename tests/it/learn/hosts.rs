//! Recordings of hosts of several kinds, made by the code that judges requests.

use modprobe_guard::audit::entry;
use modprobe_guard::host::Host;
use modprobe_guard::judge::Judge;
use modprobe_guard::model::{
    Action, Caller, Confidence, Files, FoundBy, Known, Namespace, Outcome, Parent, Record, Request, Requester, Task,
};
use modprobe_guard::policy::{self, BUILT_IN, Policy, Source};
use modprobe_guard::text::Text;

use crate::kernel::Kernel;

pub const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Names that stand for nothing on this kernel.
pub const NOTHING: [&str; 3] = ["no-such-name", "crypto-nothing\n\"", "net-pf-9"];

/// A task of the host, as rules see it.
pub fn task(unit: Option<&str>, exe: Option<&str>, uid: u32) -> Task {
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
            hides: false,
        },
        ..Task::default()
    }
}

pub fn service(unit: &str) -> Requester {
    exact(task(Some(unit), Some("/usr/bin/x"), 0))
}

pub fn exact(task: Task) -> Requester {
    Requester { confidence: Confidence::Exact, found_by: Some(FoundBy::Recorder), task, ..Requester::unknown() }
}

/// In a container, whose executables are none of the host's.
pub fn container(unit: Option<&str>, userns: Namespace) -> Requester {
    let mut task = task(unit, Some("/usr/sbin/nft"), 0);
    (task.container, task.userns, task.mntns) = (Some(Text::from(ID)), Some(userns), Some(Namespace::Other));
    task.known.exe.are.clear();
    exact(task)
}

pub fn several(found_by: FoundBy, candidates: Vec<Task>) -> Requester {
    Requester { confidence: Confidence::Ambiguous, found_by: Some(found_by), candidates, ..Requester::unknown() }
}

/// A request, and all that came of it.
#[derive(Clone)]
pub struct Recorded {
    pub record: Record,
    /// With what the record does not tell.
    pub requester: Requester,
}

/// A host whose requests are recorded.
pub struct Recorder<'a> {
    pub kernel: &'a Kernel,
    pub host: &'a str,
    pub policy: Policy,
    pub recorded: Vec<Recorded>,
}

impl Recorder<'_> {
    pub fn new<'a>(kernel: &'a Kernel, host: &'a str, policy: &str) -> Recorder<'a> {
        Recorder { kernel, host, policy: parsed(policy), recorded: Vec::new() }
    }

    pub fn ask(&mut self, names: &[&str], caller: Caller, requester: &Requester) {
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
                shortened: false,
                outcome: Some(Outcome::default()),
            };
            self.recorded.push(Recorded { record, requester: requester.clone() });
        }
    }
}

pub fn parsed(text: &str) -> Policy {
    policy::parse(&[Source::new("p.toml", text.into())]).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"))
}

pub fn docker<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
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

pub fn kubernetes<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let mut recorder = Recorder::new(kernel, host, BUILT_IN);
    recorder.ask(&["ip_vs", "ip_vs_rr", "nf_conntrack"], Caller::Hook, &container(None, Namespace::Host));
    let scope = format!("cri-containerd-{ID}.scope");
    recorder.ask(&["xt_statistic", "ip_set_hash_ip"], Caller::Kernel, &container(Some(&scope), Namespace::Host));
    recorder.ask(&["nft-chain-2-nat", "nft-expr-masq"], Caller::Kernel, &container(None, Namespace::Other));
    recorder.ask(&["fs-overlay", "rtnl-link-vxlan"], Caller::Kernel, &service("kubelet.service"));
    recorder.recorded
}

pub fn router<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
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

pub fn laptop<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
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
pub fn watched<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let policy = "version = 1\n[defaults]\naction = 'block'\nenforce = false\n\
                  [[rule]]\nid = 'watch'\nmodules = ['sctp']\naction = 'block'\n";
    let mut recorder = Recorder::new(kernel, host, policy);
    recorder.ask(&["fs-xfs", "net-pf-2-proto-132"], Caller::Kernel, &service("watched.service"));
    recorder.recorded
}

/// Where some is refused already.
pub fn refusing<'a>(kernel: &'a Kernel, host: &'a str) -> Vec<Recorded> {
    let policy = "version = 1\n\
                  [[rule]]\nid = 'no-mpls'\nmodules = ['mpls*']\naction = 'block'\n\
                  [[rule]]\nid = 'ssh'\nmodules = ['algif_*']\nrequester = { unit = 'ssh.service' }\naction = 'block'\n\
                  [[rule]]\nid = 'name'\nrequests = ['net-pf-9']\naction = 'block'\n";
    let mut recorder = Recorder::new(kernel, host, policy);
    recorder.ask(&["net-pf-28", "net-pf-9"], Caller::Kernel, &service("ssh.service"));
    recorder.ask(&["algif-hash", "algif-aead"], Caller::Kernel, &service("ssh.service"));
    recorder.recorded
}

pub fn lines(recorded: &[Recorded]) -> Vec<String> {
    recorded.iter().map(|one| String::from_utf8(entry::json(&one.record).unwrap()).unwrap()).collect()
}

pub fn is_permitted(recorded: &Recorded) -> bool {
    let verdict = &recorded.record.verdict;
    verdict.action != Action::Block || !verdict.enforced
}

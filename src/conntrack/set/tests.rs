use super::*;
use crate::model::{Command, Module, NeededAs};
use crate::text::Text;
use std::fs;

/// A host of 1 GiB and two processors.
struct Fake {
    root: tempfile::TempDir,
    host: Host,
}

impl Fake {
    fn new() -> Fake {
        // In memory, as `/run` is.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let host = Host::at(root.path()).unwrap();
        let fake = Fake { root, host };
        fake.put("/proc/meminfo", "MemTotal: 1008640 kB\n");
        fake.put("/sys/devices/system/cpu/online", "0-1\n");
        fake.put("/proc/sys/net/ipv4/ip_forward", "0\n");
        fs::create_dir_all(fake.root.path().join("sys/module")).unwrap();
        fake
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self) {
        self.put("/sys/module/nf_conntrack/initstate", "live\n");
        self.put(HASHSIZE, "8192\n");
        for (key, value) in [("buckets", "8192"), ("max", "8192"), ("tcp_loose", "1"), ("acct", "0"), ("count", "0")] {
            self.put(&format!("{PROC_SYS}/net/netfilter/nf_conntrack_{key}"), &format!("{value}\n"));
        }
        self.put(&format!("{PROC_SYS}/{OLD_MAX}"), "8192\n");
    }

    /// What a load with `sysctl_d` changes, as text.
    fn changes(&self, wanted: &Wanted, sysctl_d: &str) -> Vec<String> {
        self.put("/etc/sysctl.d/50-x.conf", sysctl_d);
        let before = before(&self.host, wanted, &conntrack(ModuleState::Absent));
        self.load();
        shown(after(&self.host, wanted, before, None))
    }
}

fn wanted() -> Wanted {
    Wanted { limit: 2_097_152, memory_percent: 5, ..Wanted::default() }
}

fn conntrack(state: ModuleState) -> Closure {
    let module = Module { name: Text::from("nf_conntrack"), state, needed_as: NeededAs::Target };
    Closure { modules: vec![module], ..Closure::default() }
}

fn shown(changes: Vec<Change>) -> Vec<String> {
    let text = |value: Option<Value>| match value {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Text(text)) => text.to_string(),
        None => "-".to_owned(),
    };
    let line = |c: Change| format!("{} {} {} {:?}", c.key, text(c.before), text(c.after), c.error);
    changes.into_iter().map(line).collect()
}

const SIZED: [&str; 2] =
    ["module.nf_conntrack.hashsize 8192 131072 None", "net.netfilter.nf_conntrack_max 8192 131072 None"];

#[test]
fn a_new_table_is_sized() {
    let fake = Fake::new();
    assert_eq!(fake.changes(&wanted(), ""), SIZED);
    assert_eq!(fake.host.number(HASHSIZE), Some(131_072));
    assert_eq!(fake.host.number(format!("{PROC_SYS}/{MAX}")), Some(131_072));
}

#[test]
fn an_administrators_number_may_be_lower() {
    let wanted = Wanted { max: Some((4096, "p:1".to_owned())), ..wanted() };
    assert_eq!(
        Fake::new().changes(&wanted, "net.nf_conntrack_max = 99"),
        ["module.nf_conntrack.hashsize 8192 8192 None", "net.netfilter.nf_conntrack_max 8192 4096 None"]
    );
    assert_eq!(
        Fake::new().changes(&self::wanted(), "net.nf_conntrack_max = 99"),
        ["module.nf_conntrack.hashsize 8192 8192 None", "net.netfilter.nf_conntrack_max 8192 99 None"]
    );
}

#[test]
fn a_table_that_another_request_is_loading_is_sized_and_one_that_was_there_is_not() {
    let fake = Fake::new();
    fs::create_dir(fake.root.path().join("run")).unwrap();
    let before = before(&fake.host, &wanted(), &conntrack(ModuleState::Absent));
    fake.load();
    let join = |state| shown(super::join(&fake.host, &wanted(), &conntrack(state)));
    assert_eq!(join(ModuleState::Absent), [""; 0]);
    assert_eq!(join(ModuleState::Live), SIZED);
    // Once is enough, for this one and for the one who loads.
    assert_eq!(join(ModuleState::Live), [""; 0]);
    let again: Vec<String> = SIZED.map(|line| line.replace(" 8192 ", " 131072 ")).to_vec();
    assert_eq!(shown(after(&fake.host, &wanted(), before, None)), again);
    fake.load();
    assert_eq!(join(ModuleState::Live), [""; 0]);
}

#[test]
fn a_table_that_was_there_is_not_touched() {
    let fake = Fake::new();
    fake.load();
    assert_eq!(fake.changes(&wanted(), "net.netfilter.nf_conntrack_acct = 1"), [""; 0]);
    assert_eq!(fake.host.number(HASHSIZE), Some(8192));
}

#[test]
fn one_that_is_coming_is_not_there_yet_and_one_built_in_always_was() {
    let fake = Fake::new();
    fake.put("/sys/module/nf_conntrack/initstate", "coming\n");
    assert_eq!(fake.changes(&wanted(), ""), SIZED);
    let fake = Fake::new();
    fake.put(HASHSIZE, "8192\n");
    assert_eq!(fake.changes(&wanted(), ""), [""; 0]);
}

#[test]
fn a_load_that_fails_changes_nothing() {
    let fake = Fake::new();
    let before = before(&fake.host, &wanted(), &conntrack(ModuleState::Absent));
    assert_eq!(after(&fake.host, &wanted(), before, None), []);
}

#[test]
fn what_came_with_the_load_is_set_and_nothing_else() {
    let fake = Fake::new();
    fake.put("/proc/sys/net/netfilter/nf_log/2", "NONE\n");
    let sysctl_d = "net.ipv4.ip_forward = 1\nnet.netfilter.nf_log.2 = x\nnet.netfilter.nf_conntrack_c* = 3\nnet.netfilter.nf_conntrack_* = 7\n\
        net.netfilter.nf_conntrack_acct = 1\n-net.netfilter.nf_conntrack_tcp_loose\n-net.netfilter.nf_conntrack_max\n\
        -net.netfilter.nf_conntrack_buckets\nnet.bridge.never = 1\n";
    let policy = [("net.netfilter.nf_conntrack_acct", "0"), ("net/netfilter/nf_conntrack_tcp_loose", "0")];
    let sysctl = policy.map(|(key, value)| (key.to_owned(), value.to_owned(), "p:1".to_owned())).to_vec();
    assert_eq!(
        fake.changes(&Wanted { sysctl, ..wanted() }, sysctl_d),
        [
            SIZED[0],
            SIZED[1],
            "net.netfilter.nf_conntrack_count 0 7 None",
            "net.netfilter.nf_conntrack_acct 0 0 None",
            "net.netfilter.nf_conntrack_tcp_loose 1 0 None",
        ]
    );
    assert_eq!(fake.host.number("/proc/sys/net/ipv4/ip_forward"), Some(0));
}

#[test]
fn what_cannot_be_read_is_an_error_and_the_rest_is_set() {
    let fake = Fake::new();
    let before = before(&fake.host, &wanted(), &conntrack(ModuleState::Absent));
    fake.load();
    fake.put(HASHSIZE, "many\n");
    assert_eq!(
        shown(after(&fake.host, &wanted(), before, None)),
        [
            "module.nf_conntrack.hashsize - - Some(\"/sys/module/nf_conntrack/parameters/hashsize: read: many is no number\")",
            SIZED[1],
        ]
    );
}

#[test]
fn a_wrong_number_is_an_error_and_auto_counts() {
    let changes = Fake::new().changes(&wanted(), "net.nf_conntrack_max = lots");
    assert_eq!(changes[0], SIZED[0]);
    assert!(
        changes[1].starts_with("net.netfilter.nf_conntrack_max 8192 131072 Some(\"/etc/sysctl.d/50-x.conf:1: lots")
    );
}

#[test]
fn the_old_kernel_shows_a_huge_max_as_negative() {
    let fake = Fake::new();
    let before = before(&fake.host, &wanted(), &conntrack(ModuleState::Absent));
    fake.load();
    fake.put(&format!("{PROC_SYS}/{MAX}"), "-2147483648\n");
    assert!(shown(after(&fake.host, &wanted(), before, None))[1].contains("max -2147483648 2147483647 None"));
}

#[test]
fn less_is_tried_where_memory_is_short() {
    for (left, fits, kind, tried) in [
        (8192, 131_072, libc::ENOMEM, &[131_072][..]),
        (8192, 40_000, libc::ENOMEM, &[131_072, 65_536, 32_768]),
        (8192, 0, libc::ENOMEM, &[131_072, 65_536, 32_768, 16_384]),
        (1024, 0, libc::ENOMEM, &[131_072, 65_536, 32_768, 16_384]),
        (40_000, 0, libc::ENOMEM, &[131_072, 65_536]),
        (8192, 0, libc::EINVAL, &[131_072]),
    ] {
        let mut seen = Vec::new();
        let errors = halve_until_it_fits(131_072, left, |number| {
            seen.push(number);
            if number <= fits { Ok(()) } else { Err(io::Error::from_raw_os_error(kind)) }
        });
        assert_eq!(seen, tried);
        assert_eq!(errors.len(), tried.iter().filter(|number| **number > fits).count());
    }
    assert_eq!(halve_until_it_fits(8192, 8192, |_| unreachable!()), [""; 0]);
}

#[test]
fn nobody_is_asked_for_more_memory_than_there_is() {
    // 1 GiB of buckets on a machine of 1 GiB.
    let changes = Fake::new().changes(&wanted(), "net.netfilter.nf_conntrack_buckets = 134217728");
    assert!(changes[0].starts_with("module.nf_conntrack.hashsize 8192 32276480 Some(\"/sys/module"), "{changes:?}");
    assert!(changes[0].contains("134217728 buckets would take over a quarter"), "{changes:?}");
    assert_eq!(changes[1], SIZED[1]);
}

#[test]
fn a_request_with_nothing_to_load_looks_at_nothing() {
    let host = Fake::new().host;
    let command = Command { module: Text::from("x"), command: Text::from("y"), source: "m:1".to_owned() };
    let commanded = Closure { commands: vec![command], ..conntrack(ModuleState::Live) };
    for (closure, looks) in [
        (conntrack(ModuleState::Live), false),
        (conntrack(ModuleState::Builtin), false),
        (conntrack(ModuleState::Absent), true),
        (Closure::default(), true),
        (commanded, true),
    ] {
        assert_eq!(before(&host, &wanted(), &closure).seen.is_some(), looks, "{closure:?}");
    }
}

#[test]
fn a_table_in_use_is_only_raised() {
    let resize = Wanted { resize_live: true, ..wanted() };
    for (wanted, set, expected) in [
        (wanted(), "8192", &[SIZED[1]][..]),
        (resize, "8192", &SIZED),
        (wanted(), "300000", &[]),
        (wanted(), "0", &[]),
        (Wanted { max: Some((10, "p:1".to_owned())), ..wanted() }, "8192", &[]),
        (Wanted { max: Some((10, "p:1".to_owned())), ..wanted() }, "0", &[]),
    ] {
        let fake = Fake::new();
        fake.load();
        fake.put(&format!("{PROC_SYS}/{MAX}"), &format!("{set}\n"));
        assert_eq!(shown(raise(&fake.host, &wanted)), expected, "{set}");
    }
    assert_eq!(raise(&Fake::new().host, &wanted()), []);
}

#[test]
fn the_plan_is_what_is_done() {
    let fake = Fake::new();
    let sysctl_d = "net.netfilter.nf_conntrack_acct = 1\nnet.ipv4.ip_forward = 1\nnet.b.* = a b\nnet.i*.ip* = 1\n";
    fake.put("/etc/sysctl.d/50-x.conf", sysctl_d);
    let plan = |closure: &Closure| plan(&fake.host, &wanted(), closure, "6.1.0-56-amd64");
    let planned = plan(&conntrack(ModuleState::Absent));
    let text: Vec<_> = planned.iter().map(|s| format!("{} {:?} {}", s.key, s.value, s.source)).collect();
    assert_eq!(
        text,
        [
            "module.nf_conntrack.hashsize Number(131072) auto",
            "net.netfilter.nf_conntrack_max Number(131072) auto",
            "net.netfilter.nf_conntrack_acct Number(1) /etc/sysctl.d/50-x.conf:1",
            "net.b.* Text(\"a b\") /etc/sysctl.d/50-x.conf:3",
        ]
    );
    assert!(planned[1].formula.as_ref().unwrap().starts_with("greatest of the kernel's own 8192, 131072, "));
    assert_eq!(plan(&conntrack(ModuleState::Live)), []);
}

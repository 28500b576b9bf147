//! Setting what an `allow-sysctl` promises: the table's size, and the sysctls that came into being with a load.

use std::collections::HashSet;
use std::io;

use super::glob::{self, PROC_SYS};
use super::late::{Line, lines, resolve};
use super::namespace::visit;
use super::size::Table;
use super::sysctl_d::{SysctlD, dotted};
use super::wanted::{BUCKETS, HASHSIZE_NAME, MAX, MAX_NAME, OLD_MAX, Wanted};
use super::write::{entries, failure, read, set, value, write};
use crate::host::Host;
use crate::model::{Change, Closure, ModuleState, Setting, Value};

const MODULE: &str = "nf_conntrack";
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
/// How often half as many buckets are tried when the kernel has no memory for them.
const TRIES: usize = 4;

/// What was there before the load.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Nothing can come of this request, or what there was is known.
    seen: Option<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    conntrack: bool,
    sysctl_d: SysctlD,
    existing: HashSet<String>,
}

impl Before {
    /// Files of sysctl.d that could not be read, lines that are no assignments.
    pub fn failures(&self) -> &[String] {
        self.seen.as_ref().map_or(&[], |seen| &seen.sysctl_d.failures)
    }
}

/// Sees what is there before the load. A request that has nothing to load costs nothing.
pub fn before(host: &Host, wanted: &Wanted, closure: &Closure) -> Before {
    if !may_load(closure) {
        return Before::default();
    }
    // Where the first namespace can't be entered, its sysctls can't be set either: `after` says so.
    let _visit = visit(host, 1);
    let sysctl_d = SysctlD::read(host);
    let existing = resolve(host, wanted, &sysctl_d).into_iter().map(|line| line.key).collect();
    Before { seen: Some(Seen { conntrack: is_live(host), sysctl_d, existing }) }
}

/// After the load: sizes a table that was not there before, and sets the sysctls that were not. Never fails; what could
/// not be done is in the change's `error`.
///
/// `requester` is the process that asked. Newer kernels keep a max of each network namespace beside the first one's, the
/// lower of both counts, and namespaces that are older than the load have the kernel's default (`net->ct.sysctl_max`,
/// `nf_conntrack_pernet_init`): the requester's is raised too.
pub fn after(host: &Host, wanted: &Wanted, before: &Before, requester: Option<i32>) -> Vec<Change> {
    let Some(seen) = &before.seen else { return Vec::new() };
    let sized = !seen.conntrack && is_live(host);
    let mut changes = Vec::new();
    {
        let visit = visit(host, 1);
        if sized {
            changes = size(host, wanted, &seen.sysctl_d, false);
        }
        for line in resolve(host, wanted, &seen.sysctl_d) {
            if !seen.existing.contains(&line.key) && !is_of_the_table(&line.key) {
                changes.push(set_sysctl(host, &line));
            }
        }
        if let Err(error) = visit {
            for failure in changes.iter_mut().filter_map(|change| change.error.as_mut()) {
                failure.push_str(&format!("; the first network namespace could not be entered: {error}"));
            }
        }
    }
    if sized {
        changes.extend(raise_in_namespace_of(host, requester, &changes));
    }
    changes
}

/// Raises the max of a table that is in use, if it is too low; resizes its buckets only if the policy says so. Nothing
/// if there is no table.
pub fn raise(host: &Host, wanted: &Wanted) -> Vec<Change> {
    let _visit = visit(host, 1);
    if !is_live(host) {
        return Vec::new();
    }
    size(host, wanted, &SysctlD::read(host), true)
}

/// What [`after`] would set: the same calculation, on what this kernel (a release, as in `/lib/modules`) would make of
/// the table. Sysctls are those that are not there yet, and patterns that stand for nothing yet: whether the load
/// makes them nobody can know.
pub fn plan(host: &Host, wanted: &Wanted, closure: &Closure, kernel: &str) -> Vec<Setting> {
    if !may_load(closure) {
        return Vec::new();
    }
    let sysctl_d = SysctlD::read(host);
    let mut settings = Vec::new();
    if closure.modules.iter().any(|module| module.name == *MODULE && module.state == ModuleState::Absent) {
        let machine = host.machine();
        let hashsize = wanted.hashsize_option.as_ref().map(|(number, _)| *number);
        let left = machine.memory.map(|memory| Table::by_default(kernel, memory, hashsize));
        let goals = wanted.table(&sysctl_d, &machine, left);
        settings.extend(goals.buckets.map(|goal| goal.setting(HASHSIZE_NAME)));
        settings.push(goals.max.setting(MAX_NAME));
    }
    let absent = lines(wanted, &sysctl_d).filter(|line| !is_of_the_table(&line.key));
    let absent = absent.filter(|line| match glob::is_pattern(&line.key) {
        true => glob::expand(host, &line.key, 1).is_empty(),
        false => !glob::exists(host, &line.key),
    });
    settings.extend(absent.map(|line| Setting {
        key: dotted(&line.key),
        value: value(line.value),
        source: line.source.to_owned(),
        formula: None,
    }));
    settings
}

/// Without an index nobody knows what a request loads, and a command may load anything.
fn may_load(closure: &Closure) -> bool {
    closure.modules.is_empty()
        || !closure.commands.is_empty()
        || closure.modules.iter().any(|module| module.state == ModuleState::Absent)
}

/// A module that is still coming is not there yet; one that is built in has no state.
fn is_live(host: &Host) -> bool {
    match host.line(format!("/sys/module/{MODULE}/initstate")) {
        Some(state) => state == b"live",
        None if host.exists("/sys/module") => host.exists(format!("/sys/module/{MODULE}")),
        None => glob::exists(host, MAX),
    }
}

/// Whether [`size`] sets it.
fn is_of_the_table(key: &str) -> bool {
    matches!(key, MAX | OLD_MAX | BUCKETS)
}

fn set_sysctl(host: &Host, line: &Line) -> Change {
    let path = format!("{PROC_SYS}/{}", line.key);
    let mut change = set(host, &dotted(&line.key), &path, line.value);
    if line.ignore_failure {
        change.error = None;
    }
    change
}

/// Buckets, then max: so chains are never longer than they are to be. `in_use`: max is only raised, and buckets are
/// left alone unless the policy says otherwise, because to resize a table in use is to rehash it.
fn size(host: &Host, wanted: &Wanted, sysctl_d: &SysctlD, in_use: bool) -> Vec<Change> {
    let max_path = format!("{PROC_SYS}/{MAX}");
    let unread = |key: &str, error| Change { key: key.to_owned(), before: None, after: None, error: Some(error) };
    let mut changes = Vec::new();
    let max = match entries(host, &max_path) {
        Ok(max) => max,
        Err(error) => return vec![unread(MAX_NAME, error)],
    };
    let buckets = entries(host, HASHSIZE).map_err(|error| changes.push(unread(HASHSIZE_NAME, error))).ok();
    let left = Table { max, buckets: buckets.unwrap_or(0) };
    let goals = wanted.table(sysctl_d, &host.machine(), Some(left));
    if let (Some(goal), Some(buckets)) = (goals.buckets, buckets)
        && (!in_use || (wanted.resize_live && goal.number > buckets))
    {
        changes.push(set_buckets(host, goal.number, buckets));
    }
    let is_higher = left.max != 0 && (goals.max.number == 0 || goals.max.number > left.max);
    let number = if !in_use || is_higher { goals.max.number } else { left.max };
    let mut change = set(host, MAX_NAME, &max_path, number.to_string().as_bytes());
    let errors: Vec<String> = goals.failures.into_iter().chain(change.error).collect();
    change.error = (!errors.is_empty()).then(|| errors.join("; "));
    if change.before != change.after || change.error.is_some() || !in_use {
        changes.push(change);
    }
    changes
}

fn set_buckets(host: &Host, wanted: u32, left: u32) -> Change {
    let errors = halve_until_it_fits(wanted, left, |number| write(host, HASHSIZE, number.to_string().as_bytes()));
    Change {
        key: HASHSIZE_NAME.to_owned(),
        before: Some(Value::Number(left.into())),
        after: read(host, HASHSIZE),
        error: (!errors.is_empty()).then(|| errors.join("; ")),
    }
}

/// Where the kernel has no memory for so many, half of them are tried, and half of those: long chains are slow, but a
/// full table is worse. The errors met.
fn halve_until_it_fits(wanted: u32, left: u32, mut write: impl FnMut(u32) -> io::Result<()>) -> Vec<String> {
    let mut number = wanted;
    let mut errors = Vec::new();
    while number != left {
        let Err(error) = write(number) else { break };
        errors.push(failure(HASHSIZE, &number.to_string(), &error));
        number /= 2;
        if error.kind() != io::ErrorKind::OutOfMemory || number <= left || errors.len() >= TRIES {
            break;
        }
    }
    errors
}

/// The requester's max, where the kernel keeps one for each network namespace. `changes` are those of the first one.
fn raise_in_namespace_of(host: &Host, requester: Option<i32>, changes: &[Change]) -> Option<Change> {
    let first = changes.iter().find(|change| change.key == MAX_NAME)?.after.clone()?;
    // Without a requester this is our own namespace: libxtables runs us in its caller's. A requester that is gone
    // needs nothing.
    let _visit = requester.map(|pid| visit(host, pid)).transpose().ok()?;
    let path = format!("{PROC_SYS}/{MAX}");
    let (Value::Number(here), Value::Number(first)) = (read(host, &path)?, first) else { return None };
    let is_lower = here != 0 && (first == 0 || here < first);
    let key = format!("{MAX_NAME} (requester's network namespace)");
    is_lower.then(|| set(host, &key, &path, first.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
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
            let root = tempfile::tempdir().unwrap();
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
            for (key, value) in
                [("buckets", "8192"), ("max", "8192"), ("tcp_loose", "1"), ("acct", "0"), ("count", "0")]
            {
                self.put(&format!("{PROC_SYS}/net/netfilter/nf_conntrack_{key}"), &format!("{value}\n"));
            }
            self.put(&format!("{PROC_SYS}/{OLD_MAX}"), "8192\n");
        }

        /// What a load with `sysctl_d` changes, as text.
        fn changes(&self, wanted: &Wanted, sysctl_d: &str) -> Vec<String> {
            self.put("/etc/sysctl.d/50-x.conf", sysctl_d);
            let before = before(&self.host, wanted, &conntrack(ModuleState::Absent));
            self.load();
            shown(after(&self.host, wanted, &before, None))
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
            Fake::new().changes(&super::tests::wanted(), "net.nf_conntrack_max = 99"),
            ["module.nf_conntrack.hashsize 8192 8192 None", "net.netfilter.nf_conntrack_max 8192 99 None"]
        );
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
        assert_eq!(after(&fake.host, &wanted(), &before, None), []);
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
            shown(after(&fake.host, &wanted(), &before, None)),
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
        assert!(shown(after(&fake.host, &wanted(), &before, None))[1].contains("max -2147483648 2147483647 None"));
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
}

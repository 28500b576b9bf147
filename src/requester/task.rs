//! What `/proc` tells of one task. See proc_pid_*(5).
//!
//! Any of it may never come back: control groups wait for a lock that all of them have in common (`cgroup_mutex`), a command
//! line for the process's memory lock, and all the rest on one kernel or another for a task that is becoming another
//! program. So all of it are glimpses ([`Host::glimpse`]), taken [`apart`].

use std::cell::OnceCell;
use std::io;

use crate::host::{Host, apart};
use crate::model::{Known, Namespace, Task};
use crate::requester::ancestors::Ancestors;
use crate::requester::cgroup::Groups;
use crate::text::Text;

/// At most so many bytes of a path are kept, and of a command line; a record stays small whatever a process writes there.
pub const MAX_PATH: usize = 512;
const MAX_CMDLINE: usize = 4096;
/// The kernel shows at most 4096 bytes a hierarchy (`proc_cgroup_show`, kernel/cgroup/cgroup.c), and knows some fourteen. Of a
/// longer path it shows the beginning, and nothing at all in 5.10.
const MAX_GROUPS: usize = 64 << 10;
/// Mostly they need less: what a task reads into was not touched before.
const MOST_GROUPS: usize = 2048;
/// PF_KTHREAD, and PF_EXITING or PF_SIGNALED, include/linux/sched.h: one that was killed may wait, for a debugger or for
/// its core to be written, before it is exiting.
const KERNEL_THREAD: u64 = 0x0020_0000;
const ENDING: u64 = 0x0000_0404;
/// SIGKILL among the signals that are pending: it will be killed as soon as it runs.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// Where all processes are.
pub const ALL: &str = "/proc";
/// The first namespaces' numbers never change (PROC_USER_INIT_INO, PROC_PID_INIT_INO, include/linux/proc_ns.h).
const FIRST_USER_NAMESPACE: &[u8] = b"user:[4026531837]";
const FIRST_PID_NAMESPACE: &[u8] = b"pid:[4026531836]";

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name the task gave itself.
    pub comm: Text,
    /// `D` is a wait that only the kernel or a kill can end.
    pub state: u8,
    /// Parent process; 0 for none.
    pub parent: i32,
    /// A thread of the kernel's.
    pub is_kernel_thread: bool,
    /// It is over, or about to be.
    pub is_ending: bool,
    /// Threads of the process.
    pub threads: u64,
    /// Start, in clock ticks since boot.
    pub started: u64,
}

impl Stat {
    /// Reads the text of a `stat` file. The name may hold anything, brackets and newlines too: it ends at the last one.
    pub fn parse(text: &[u8]) -> Option<Stat> {
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let comm = Text::from(text.get(open + 1..close)?);
        // What follows the blank behind the name is field 3 of the manual page. None is parsed in vain: a search reads
        // thousands of these.
        let mut fields = text.get(close + 2..)?.split(|byte| byte.is_ascii_whitespace());
        let state = *fields.next()?.first()?;
        let mut number = |skipped: usize| std::str::from_utf8(fields.nth(skipped)?).ok()?.parse::<u64>().ok();
        let (parent, flags) = (number(0)?, number(9 - 5)?);
        let (threads, started) = (number(20 - 10)?, number(22 - 21)?);
        let pending = number(31 - 23).unwrap_or(0);
        Some(Stat {
            comm,
            state,
            parent: i32::try_from(parent).ok()?,
            is_kernel_thread: flags & KERNEL_THREAD != 0,
            is_ending: flags & ENDING != 0 || pending & KILL != 0 || matches!(state, b'Z' | b'X'),
            threads,
            started,
        })
    }

    /// Of a process or, as `PID/task/TID`, of a thread.
    pub fn read(host: &Host, task: &str) -> Option<Stat> {
        Stat::try_read(host, task).ok()
    }

    /// The same. If there is no such task the error is one for which [`is_absent`] holds.
    ///
    /// # Errors
    /// Those of [`Host::glimpse`]; `InvalidData` if that is no `stat` file.
    pub fn try_read(host: &Host, task: &str) -> io::Result<Stat> {
        Stat::parse(&host.glimpse(format!("/proc/{task}/stat"), 1024)?).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Of a process whose first thread has ended while others run: it has no files to show any more.
    fn is_headless(&self) -> bool {
        self.state == b'Z' && self.threads > 1
    }
}

/// Describes tasks of one moment: what they have in common is read once.
pub struct Describer<'a> {
    host: &'a Host,
    /// Mount and network namespace of PID 1, if the processes that we see are the host's: then these are the host's too.
    of_host: OnceCell<[Option<Text>; 2]>,
    ancestors: Ancestors<'a>,
}

impl Describer<'_> {
    /// Reads nothing yet.
    pub fn new(host: &Host) -> Describer<'_> {
        Describer { host, of_host: OnceCell::new(), ancestors: Ancestors::new(host) }
    }

    /// Everything but command line and control groups of thread `tid` of process `pid`. `None` if it is gone.
    pub fn describe(&mut self, pid: i32, tid: i32) -> Option<Task> {
        let host = self.host;
        if is_changing(&format!("{pid}/task/{tid}")) || is_changing(&pid.to_string()) {
            return None;
        }
        // All of it is the thread's own: of a process whose first thread has ended its files tell little.
        let directory = format!("{pid}/task/{tid}");
        let stat = Stat::read(host, &directory)?;
        let directory = if stat.is_headless() { some_thread(host, pid, &stat) } else { directory };
        // The ids stand in the first lines.
        let (uid, euid) = user_ids(&host.glimpse(format!("/proc/{directory}/status"), 1024).unwrap_or_default());
        let login = |file: &str| login(host, &directory, file);
        let [mount, network] = self.of_host.get_or_init(|| match sees_the_host(host) {
            true => ["mnt", "net"].map(|kind| host.glimpse_link(format!("/proc/1/ns/{kind}"))),
            false => [None, None],
        });
        let namespace = |kind: &str, of_host: &Option<Text>| {
            let of_host = of_host.as_ref()?;
            host.glimpse_link(format!("/proc/{directory}/ns/{kind}")).map(|theirs| of_host_or_other(theirs == *of_host))
        };
        let (auid, auid_is_known) = login("loginuid");
        let [mntns, netns] = [namespace("mnt", mount), namespace("net", network)];
        let (parents, hides) = self.ancestors.of(&directory, &stat);
        let known = Known { auid: auid_is_known, hides, ..Known::default() };
        Some(Task {
            pid: Some(pid),
            tid: Some(tid),
            comm: Some(stat.comm),
            exe: executable(host, &directory).map(|path| path.short(MAX_PATH)),
            uid,
            euid,
            auid,
            // Both are set at once (`audit_set_loginuid`, kernel/audit.c).
            session: auid.and_then(|_| login("sessionid").0),
            userns: host
                .glimpse_link(format!("/proc/{directory}/ns/user"))
                .map(|theirs| of_host_or_other(theirs.as_bytes() == FIRST_USER_NAMESPACE)),
            mntns,
            netns,
            parents,
            known,
            ..Task::default()
        })
    }
}

/// Whether one of the files of this process or, as `PID/task/TID`, of this thread did hang that do so while it becomes another
/// program: so would the others. The rest wait for locks that others hold as well.
pub fn is_changing(task: &str) -> bool {
    let directory = format!("/proc/{task}/");
    let is_one =
        |file: &[u8]| [&b"stat"[..], b"stack", b"wchan", b"exe", b"ns/"].iter().any(|one| file.starts_with(one));
    apart::has_hung(|what| what.strip_prefix(directory.as_bytes()).is_some_and(is_one))
}

/// The command line of a task, bounded; kernel threads have none.
pub fn command_line(host: &Host, task: &str) -> Option<Vec<Text>> {
    // No rule asks for it, and all threads of a process have one lock for it: it is not to use up what may hang.
    if apart::has_hung(|what| what.ends_with(b"/cmdline")) {
        return None;
    }
    let text = host.glimpse(format!("/proc/{task}/cmdline"), MAX_CMDLINE).ok()?;
    let text = text.strip_suffix(&[0]).unwrap_or(&text);
    (!text.is_empty()).then(|| text.split(|&byte| byte == 0).map(Text::from).collect())
}

/// The control groups of a process or, as `PID/task/TID`, of a thread.
///
/// # Errors
/// Those of [`Host::glimpse`], among them ENAMETOOLONG if the path of one is too long for this kernel to show; `TimedOut` if
/// those of any task have hung before.
pub fn groups(host: &Host, task: &str) -> io::Result<Groups> {
    // One lock keeps all of them.
    if apart::has_hung(|what| what.ends_with(b"/cgroup")) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let path = format!("/proc/{task}/cgroup");
    let mut groups = host.glimpse(&path, MOST_GROUPS)?;
    if groups.len() == MOST_GROUPS {
        groups = host.glimpse(&path, MAX_GROUPS)?;
    }
    Ok(Groups::parse(&groups))
}

/// Path of a task's executable as the kernel knows it; kernel threads have none.
pub fn executable(host: &Host, task: &str) -> Option<Text> {
    host.glimpse_link(format!("/proc/{task}/exe"))
}

/// Where to look for what all threads of a process have in common: `PID` or, if its first thread has ended,
/// `PID/task/TID` of another one.
pub fn some_thread(host: &Host, pid: i32, stat: &Stat) -> String {
    let others = if stat.is_headless() { threads(host, pid) } else { Vec::new() };
    let others = others.into_iter().filter(|&tid| tid != pid).map(|tid| format!("{pid}/task/{tid}"));
    others.into_iter().find(|task| executable(host, task).is_some()).unwrap_or_else(|| pid.to_string())
}

/// Whether that was said of something that is not there, of a task too.
pub fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn user_ids(status: &[u8]) -> (Option<u32>, Option<u32>) {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"));
    let mut ids = line.and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default().split_ascii_whitespace();
    let mut next = || ids.next()?.parse().ok();
    (next(), next())
}

/// `-1` stands for a task that descends from no login, and a kernel that keeps no logins has no such file. The other half is
/// whether that could be told.
fn login(host: &Host, task: &str, file: &str) -> (Option<u32>, bool) {
    match host.glimpse(format!("/proc/{task}/{file}"), 32) {
        Ok(id) => {
            let id = std::str::from_utf8(&id).ok().and_then(|id| id.trim().parse().ok());
            (id.filter(|&id| id != u32::MAX), id.is_some())
        }
        Err(error) => (None, error.kind() == io::ErrorKind::NotFound),
    }
}

fn of_host_or_other(is_host: bool) -> Namespace {
    if is_host { Namespace::Host } else { Namespace::Other }
}

/// Whether the processes that we see are the host's: a program in a container may have run us.
pub fn sees_the_host(host: &Host) -> bool {
    host.glimpse_link("/proc/self/ns/pid").is_some_and(|ours| ours.as_bytes() == FIRST_PID_NAMESPACE)
}

/// The processes there are, youngest number first: who asks is mostly young.
pub fn processes(host: &Host) -> Vec<i32> {
    numbers(host, ALL)
}

/// The threads of a process.
pub fn threads(host: &Host, pid: i32) -> Vec<i32> {
    numbers(host, &format!("/proc/{pid}/task"))
}

fn numbers(host: &Host, directory: &str) -> Vec<i32> {
    let mut numbers = host.glimpse_numbers(directory);
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pass_for_other_fields() {
        let line = b"42 (a) R 1 (\nb)) D 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 12345 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, Text::from("a) R 1 (\nb)"));
        assert_eq!((stat.state, stat.parent, stat.threads, stat.started), (b'D', 7, 3, 12345));
        assert!(!stat.is_kernel_thread);
        // Killed while it waits, killed and held by a debugger, and neither.
        for (flags, pending, is_ending) in [(0, 256, true), (1024, 0, true), (0, 0, false), (0, 16384, false)] {
            let line = format!("7 (x) D 1 1 1 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 0 0 0 0 0 {pending} 0 0");
            assert_eq!(Stat::parse(line.as_bytes()).unwrap().is_ending, is_ending, "{line}");
        }
        let thread = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 2 0 0";
        assert!(Stat::parse(thread).unwrap().is_kernel_thread);
    }

    #[test]
    fn a_stat_cut_short_is_none() {
        let line = b"42 (a) D 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 12345 0 0";
        for length in 0..line.len() - 8 {
            assert_eq!(Stat::parse(&line[..length]), None, "{length}");
        }
    }

    /// A host with these processes: path below `/proc`, state, threads, parent.
    pub fn host(tasks: &[(&str, &str, u32, i32)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, state, threads, parent) in tasks {
            let directory = root.path().join("proc").join(path);
            std::fs::create_dir_all(&directory).unwrap();
            let stat = format!("7 (x) {state} {parent} 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 5 0 0");
            std::fs::write(directory.join("stat"), stat).unwrap();
            // One that has ended has none.
            if *state != "Z" {
                std::os::unix::fs::symlink(format!("/bin/{}", path.replace('/', ".")), directory.join("exe")).unwrap();
            }
        }
        let host = Host::at(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn a_process_without_its_first_thread_is_known_by_another() {
        let (_root, host) = host(&[
            ("70", "Z", 2, 60),
            ("70/task/70", "Z", 2, 60),
            ("70/task/71", "D", 2, 60),
            ("60", "Z", 3, 1),
            ("60/task/60", "Z", 3, 1),
            ("60/task/62", "S", 3, 1),
            ("1", "S", 1, 0),
        ]);
        for tid in [70, 71] {
            let task = Describer::new(&host).describe(70, tid).unwrap();
            assert_eq!((task.tid, task.exe), (Some(tid), Some("/bin/70.task.71".into())));
            let exes: Vec<_> = task.parents.into_iter().map(|parent| parent.exe.unwrap()).collect();
            assert_eq!(exes, [Text::from("/bin/60.task.62"), Text::from("/bin/1")]);
            assert!(!task.known.hides);
        }
    }

    #[test]
    fn control_groups_that_hang_are_not_asked_for_again() {
        let (root, host) = host(&[("9", "S", 1, 0)]);
        std::fs::write(root.path().join("proc/9/cgroup"), "0::/a.service\n").unwrap();
        for (hangs, is_known) in [(c"/proc/8/cgroup", false), (c"/proc/8/cmdline", true)] {
            let groups = apart::ask(&host.opened(), || (apart::hang(hangs), groups(&host, "9").is_ok()).1);
            assert_eq!(groups, Some(is_known), "{hangs:?}");
        }
    }

    #[test]
    fn control_groups_are_read_to_their_end() {
        let (root, host) = host(&[("9", "S", 1, 0)]);
        for length in [10, MOST_GROUPS - 20, MOST_GROUPS, 3 * MOST_GROUPS] {
            let text = format!("1:cpu:/{}\n0::/a.service\n", "x".repeat(length));
            std::fs::write(root.path().join("proc/9/cgroup"), text).unwrap();
            assert_eq!(groups(&host, "9").unwrap().unit, Some("a.service".into()), "{length}");
        }
    }

    #[test]
    fn who_has_no_login_has_no_session() {
        let (root, host) = host(&[("7", "S", 1, 0), ("7/task/7", "S", 1, 0)]);
        for (login, expected) in [("1000", Some(5)), ("4294967295", None)] {
            for (file, text) in [("loginuid", login), ("sessionid", "5")] {
                std::fs::write(root.path().join("proc/7/task/7").join(file), text).unwrap();
            }
            assert_eq!(Describer::new(&host).describe(7, 7).unwrap().session, expected);
        }
    }

    #[test]
    fn no_login_is_one_that_can_be_told() {
        let (root, host) = host(&[("7/task/7", "S", 1, 0)]);
        let file = root.path().join("proc/7/task/7/loginuid");
        let told = || login(&host, "7/task/7", "loginuid");
        assert_eq!(told(), (None, true));
        for (text, expected) in [("4294967295", (None, true)), ("1000", (Some(1000), true)), ("", (None, false))] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(told(), expected, "{text:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(told(), (None, false));
    }

    #[test]
    fn we_can_describe_ourselves() {
        let host = Host::this();
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut describer = Describer::new(&host);
        let task = describer.describe(pid, pid).unwrap();
        assert!(groups(&host, &pid.to_string()).is_ok());
        let exe = std::env::current_exe().unwrap();
        assert_eq!(task.exe, Some(Text::from(exe.as_os_str().as_encoded_bytes())));
        assert_eq!(task.uid, Some(nix::unistd::getuid().as_raw()));
        assert_eq!(task.parents.first().unwrap().pid, nix::unistd::getppid().as_raw());
        assert!(!command_line(&host, &pid.to_string()).unwrap().is_empty());
        assert!(processes(&host).contains(&pid));
        // What is known already is told of others as well.
        let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let theirs = i32::try_from(other.id()).unwrap();
        let their_task = describer.describe(theirs, theirs).unwrap();
        let (first, others) = their_task.parents.split_first().unwrap();
        assert_eq!((first.pid, others), (pid, &task.parents[..]));
        assert_eq!((their_task.mntns, their_task.netns), (task.mntns, task.netns));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

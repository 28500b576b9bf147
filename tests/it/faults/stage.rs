//! What a fault is played on: a root in memory with the helper, an index, a policy in force and a modprobe that leaves
//! a mark, seen by one thread and its children alone.

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use modprobe_guard::policy::applied::{Applied, encode};
use modprobe_guard::policy::{Source, parse};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::look::{Expected, expect};
use super::tracer::{self, Followed, Interruption, What};
use super::{Verdict, loader};
use crate::helper::{libraries, spawn, write_program};
use crate::index::write_indexes;

pub const HELPER: &str = "/usr/sbin/modprobe-guard";
pub const POLICY: &str = "/etc/modprobe-guard/policy.toml";
pub const IN_FORCE: &str = "/etc/modprobe-guard/policy.bin";
pub const RUN: &str = "/run/modprobe-guard";
pub const SPOOL: &str = "/run/modprobe-guard/audit.jsonl";
pub const LOG: &str = "/var/log/modprobe-guard/audit.jsonl";
/// Before and after it was loaded.
const UNSIZED: &str = "1024\n";
/// Two seconds are what our own work may take; the rest is for a machine that has other things to do.
const HANGS: Duration = Duration::from_secs(20);

pub const RULES: &str = "version = 1\n\
    [[rule]]\nid = \"no-b\"\nmodules = [\"b\"]\naction = \"block\"\nreason = \"because\"\n\
    [[rule]]\nid = \"size\"\nmodules = [\"nf_conntrack\"]\naction = \"allow-sysctl\"\n";

/// How a request ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; 128 + N for signal N; `None` if it did not end in time.
    pub status: Option<i32>,
    /// What was seen of it on the way, where it was followed.
    pub followed: Followed,
    /// What it wrote to its standard streams.
    pub said: String,
}

/// One that runs.
pub struct Started {
    pid: i32,
    streams: fs::File,
    followed: Followed,
}

type Prepare = Box<dyn FnMut() -> io::Result<()> + Send + Sync>;
type Look = Box<dyn Fn(&Stage, &Ran) -> Result<(), String>>;
/// Called when the helper runs, with its process id.
type Meanwhile = Box<dyn Fn(&Stage, i32)>;

/// A root, and what is to become of the helper in it.
pub struct Stage {
    root: tempfile::TempDir,
    pub verdict: Verdict,
    pub expected: Expected,
    /// Who listens on `/dev/log`.
    pub syslog: Option<UnixDatagram>,
    /// What has to last as long as the stage.
    pub kept: Vec<Box<dyn Any>>,
    /// What the helper's process does just before it becomes the helper, below the root.
    pub prepare: Option<Prepare>,
    pub interruption: Option<Interruption>,
    is_interrupted: Cell<bool>,
    pub meanwhile: Option<Meanwhile>,
    /// Changes elsewhere are the fault's own.
    pub changes_elsewhere: bool,
    /// Judges what came of it, in place of [`Stage::as_expected`].
    pub look: Option<Look>,
}

/// Mounts of the calling thread are its own from here on, and end with it.
pub fn own_mounts() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
}

/// Mounts of the file system `kind` at `path`.
pub fn mount_at(path: &Path, kind: &str, options: &str) {
    mount(Some("test"), path, Some(kind), MsFlags::empty(), Some(options)).unwrap();
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// The policy in force as `guard apply` would write it.
pub fn in_force() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let sources = [Source::new(POLICY, RULES.into())];
        encode(&Applied::new(parse(&sources).unwrap(), &sources)).unwrap()
    })
}

/// The files of `/lib/modules`, with enough beside ours to fill some pages.
pub fn index() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
        let many = |line: fn(usize) -> String| (0..200).map(line).collect::<String>();
        write(
            "modules.dep",
            "a.ko: b.ko\nb.ko:\nc.ko:\nnf_conntrack.ko:\n".to_owned() + &many(|at| format!("m{at}.ko:\n")),
        );
        write("modules.alias", "alias net-pf-9 a\n".to_owned() + &many(|at| format!("alias x{at}-* m{at}\n")));
        write("modules.symbols", many(|at| format!("alias symbol:s{at} m{at}\n")));
        write("modules.builtin", many(|at| format!("built{at}.ko\n")));
        write("modules.builtin.alias", many(|at| format!("alias y{at}-* built{at}\n")));
        write("modules.softdep", many(|at| format!("softdep m{at} pre: m0\n")));
        write_indexes(directory.path());
        let entries = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    })
}

fn loader() -> &'static Path {
    static LOADER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LOADER.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loader");
        write_program(&path, &loader::program());
        (directory, path)
    });
    path
}

/// Where the index of the running kernel lies.
pub fn modules() -> String {
    format!("/lib/modules/{}", nix::sys::utsname::uname().unwrap().release().to_str().unwrap())
}

impl Stage {
    /// A whole host.
    pub fn new(verdict: Verdict) -> Stage {
        let mut stage = Stage {
            root: tempfile::tempdir().unwrap(),
            verdict,
            expected: Expected {
                rules: true,
                index: true,
                delegate: (loader::STATUS, true),
                spool: true,
                syslog: true,
                kernel_log: true,
                sized: true,
                sizes: true,
                says: "",
            },
            syslog: None,
            kept: Vec::new(),
            prepare: None,
            interruption: None,
            is_interrupted: Cell::new(false),
            meanwhile: None,
            changes_elsewhere: false,
            look: None,
        };
        mount_at(stage.root.path(), "tmpfs", "mode=755");
        for directory in ["proc", "sys/module", "dev", "run", "etc", "tmp", "var/log/modprobe-guard"] {
            fs::create_dir_all(stage.path(directory)).unwrap();
        }
        stage.mount("/kernel", "mode=777");
        fs::create_dir(stage.path("/kernel/module")).unwrap();
        fs::create_dir(stage.path("/kernel/net")).unwrap();
        fs::set_permissions(stage.path("/var/log/modprobe-guard"), fs::Permissions::from_mode(0o750)).unwrap();
        stage.put_program(HELPER, Path::new(env!("CARGO_BIN_EXE_modprobe-guard")));
        for library in libraries() {
            stage.put_program(&library, Path::new(&library));
        }
        stage.put_program("/sbin/modprobe", loader());
        stage.file(POLICY, RULES.as_bytes());
        stage.file(IN_FORCE, in_force());
        for (name, bytes) in index() {
            stage.file(&format!("{}/{name}", modules()), bytes);
        }
        if verdict == Verdict::Sized {
            stage.file("/kernel/loads/nf_conntrack/initstate", b"live\n");
            stage.file("/kernel/loads/nf_conntrack/parameters/hashsize", UNSIZED.as_bytes());
            stage.file("/kernel/loads/netfilter/nf_conntrack_max", UNSIZED.as_bytes());
        }
        bind(Path::new("/proc"), &stage.path("/proc"));
        // Whatever is set is set here, not on this machine.
        bind(&stage.path("/kernel/net"), &stage.path("/proc/sys/net"));
        bind(&stage.path("/kernel/module"), &stage.path("/sys/module"));
        stage.file("/dev/kmsg", b"");
        nix::sys::stat::mknod(
            &stage.path("/dev/null"),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            nix::sys::stat::makedev(1, 3),
        )
        .unwrap();
        let syslog = UnixDatagram::bind(stage.path("/dev/log")).unwrap();
        syslog.set_nonblocking(true).unwrap();
        fs::set_permissions(stage.path("/dev/log"), fs::Permissions::from_mode(0o666)).unwrap();
        stage.syslog = Some(syslog);
        stage
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Writes a program that may be run in the place of modprobe.
    pub fn program(&self, path: &str, bytes: &[u8]) {
        write_program(&self.path(path), bytes);
    }

    /// The program `from` of this machine as `path`.
    pub fn put_program(&self, path: &str, from: &Path) {
        self.file(path, b"");
        bind(from, &self.path(path));
    }

    /// Takes away what is mounted at `path`.
    pub fn unmount(&self, path: &str) {
        umount2(&self.path(path), MntFlags::MNT_DETACH).unwrap();
    }

    /// A file system in memory of its own at `path`, with what was there.
    pub fn mount(&self, path: &str, options: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
        mount_at(&self.path(path), "tmpfs", options);
    }

    /// Makes what is mounted at `path` unwritable.
    pub fn read_only(&self, path: &str) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let end = Instant::now() + Duration::from_secs(60);
        // A child of another test's that is not its program yet may have a copy of a file that was written here.
        while let Err(error) = mount(None::<&str>, &self.path(path), None::<&str>, flags, None::<&str>) {
            assert!(error == Errno::EBUSY && Instant::now() < end, "{path}: {error}");
            std::thread::yield_now();
        }
    }

    /// As it would be if there were no other place for a record: `/dev` is empty.
    pub fn without_dev(&mut self) {
        self.syslog = None;
        fs::remove_dir_all(self.path("/dev")).unwrap();
        (self.expected.syslog, self.expected.kernel_log) = (false, false);
    }

    /// Whether a whole host, with what is expected of the policy here, blocks the request.
    pub fn is_blocked(&self) -> bool {
        let Expected { rules, index, .. } = self.expected;
        rules && (self.verdict == Verdict::Blocked || (self.verdict == Verdict::Dependency && index))
    }

    /// Runs the helper once, as the kernel would.
    pub fn ask(&mut self) -> Ran {
        let prepare = self.prepare.take();
        let mut started = self.start(prepare);
        if let Some(interruption) = self.interruption {
            started.followed = tracer::follow(started.pid, interruption).unwrap();
        }
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile(self, started.pid);
        }
        if let (Some(Interruption { what: What::Pause, .. }), None) = (self.interruption, started.followed.status) {
            tracer::go_on(started.pid).unwrap();
        }
        self.finish(started)
    }

    /// Starts the helper.
    pub fn start(&self, mut prepare: Option<Prepare>) -> Started {
        let streams = tempfile::tempfile().unwrap();
        let mut command = Command::new(HELPER);
        command.args(["-q", "--", self.verdict.name()]).env_clear().env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin");
        command.stdin(Stdio::null()).stdout(streams.try_clone().unwrap()).stderr(streams.try_clone().unwrap());
        let root = std::ffi::CString::new(self.root.path().to_str().unwrap()).unwrap();
        let traced = self.interruption.is_some() && !self.is_interrupted.replace(true);
        // SAFETY: system calls only, in the child.
        unsafe {
            command.pre_exec(move || {
                if libc::chroot(root.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0 {
                    return Err(io::Error::last_os_error());
                }
                if traced {
                    tracer::trace_me()?;
                }
                prepare.as_mut().map_or(Ok(()), |prepare| prepare())
            });
        }
        Started { pid: spawn(&mut command).id() as i32, streams, followed: Followed::default() }
    }

    /// Waits for the end of one that was started.
    pub fn finish(&self, mut started: Started) -> Ran {
        let status =
            started.followed.status.or_else(|| end_of(started.pid)).map(|status| match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status),
                false => 128 + libc::WTERMSIG(status),
            });
        let mut said = String::new();
        started.streams.rewind().unwrap();
        let _ = started.streams.read_to_string(&mut said);
        Ran { status, followed: started.followed, said }
    }

    /// Runs the helper, and judges what came of it.
    pub fn ask_and_look(&mut self) -> Result<(), String> {
        let before = self.elsewhere();
        let ran = self.ask();
        let looked = match self.look.take() {
            Some(look) => look(self, &ran),
            None => self.as_expected(&ran),
        };
        let after = self.elsewhere();
        let changed = before
            .iter()
            .filter(|entry| !after.contains(entry))
            .chain(after.iter().filter(|entry| !before.contains(entry)));
        let changed: Vec<_> = changed.collect();
        if self.changes_elsewhere {
            return looked;
        }
        looked.and_then(|()| expect("what changed elsewhere", &changed, &Vec::new()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is frozen is thawed first.
        self.kept.clear();
        let _ = umount2(self.root.path(), MntFlags::MNT_DETACH);
    }
}

/// The status of a child when it has ended; one that does not end in time is killed.
pub fn end_of(pid: i32) -> Option<i32> {
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    // SAFETY: a system call on a child of ours, whose descriptor is nobody else's.
    let child = unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32) };
    let deadline = Instant::now() + HANGS;
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() as u16;
        let mut wanted = [nix::poll::PollFd::new(child.as_fd(), nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut wanted, left) {
            Ok(0) => break false,
            Ok(_) => break true,
            Err(_) => {}
        }
    };
    let mut status = 0;
    // SAFETY: as above. One that waits for a disk does not end by that, and is waited for by nobody.
    unsafe {
        if !ended {
            libc::kill(pid, libc::SIGKILL);
            return None;
        }
        libc::waitpid(pid, &mut status, 0);
    }
    Some(status)
}

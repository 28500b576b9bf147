//! The helper itself, in a root directory of its own: what it needs of a host is what is put there.

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::RwLock;
use std::time::Duration;

use crate::index::write_indexes;

const HELPER: &str = "/usr/sbin/modprobe-guard";
/// Says on `/delegated` how it was called; the kernel's callers see its status.
const DELEGATE: &str = "#!/bin/sh\necho \"$0 $*\" >> /delegated\nexit 7\n";
const BLOCKING: &str =
    "version = 1\n[[rule]]\nid = \"no-b\"\nmodules = [\"b\"]\naction = \"block\"\nreason = \"because\"\n";

/// A program that is still open for writing, in a child of another test's, can't be run (ETXTBSY).
static SPAWNING: RwLock<()> = RwLock::new(());

/// Starts `command`, which may be a program that [`write_program`] wrote.
pub fn spawn(command: &mut Command) -> Child {
    let _nobody_writes = SPAWNING.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    command.spawn().unwrap()
}

/// Writes a program that [`spawn`] can run at once.
pub fn write_program(path: &Path, bytes: &[u8]) {
    let _alone = SPAWNING.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the helper is linked with, where it is not static: `tests/sanitizer` names that.
pub fn libraries() -> Vec<String> {
    let named = std::env::var("MODPROBE_GUARD_TEST_LIBRARIES").unwrap_or_default();
    named.split_whitespace().map(str::to_owned).collect()
}

/// A root directory with the helper, a shell, and a module `a` that needs `b`.
pub struct Root(tempfile::TempDir);

impl Root {
    pub fn new() -> Root {
        let root = Root(tempfile::tempdir().unwrap());
        root.program(HELPER, &fs::read(env!("CARGO_BIN_EXE_modprobe-guard")).unwrap());
        for library in libraries() {
            root.program(&library, &fs::read(&library).unwrap());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
        root.program("/bin/sh", &fs::read(busybox.expect("busybox-static is needed")).unwrap());
        root.program("/sbin/modprobe", DELEGATE.as_bytes());
        let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
        let modules = format!("/lib/modules/{release}");
        root.file(&format!("{modules}/modules.dep"), b"a.ko: b.ko\nb.ko:\n");
        root.file(&format!("{modules}/modules.alias"), b"alias net-pf-9 a\n");
        for empty in ["symbols", "builtin", "builtin.alias", "softdep"] {
            root.file(&format!("{modules}/modules.{empty}"), b"");
        }
        write_indexes(&root.path(&modules));
        fs::create_dir(root.path("/run")).unwrap();
        root
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub fn program(&self, path: &str, bytes: &[u8]) {
        write_program(&self.path(path), bytes);
    }

    /// Runs `program` below this root.
    pub fn run(
        &self,
        program: &str,
        arguments: &[&[u8]],
        prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Output {
        use std::os::unix::ffi::OsStrExt;
        let mut command = Command::new("chroot");
        command.arg(self.0.path()).arg(program).args(arguments.iter().map(|bytes| std::ffi::OsStr::from_bytes(bytes)));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        // SAFETY: what the tests hand in makes system calls only.
        unsafe { command.pre_exec(prepare) };
        spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).wait_with_output().unwrap()
    }

    /// As the kernel calls it: `-q -- NAME`.
    pub fn request(&self, name: &[u8]) -> i32 {
        let output = self.run(HELPER, &[b"-q", b"--", name], || Ok(()));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        output.status.code().unwrap_or(-1)
    }

    /// As [`Root::run`], but it runs on; it is the helper already, or its end.
    fn start(&self, arguments: &[&str], prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Child {
        let mut command = Command::new("chroot");
        command.arg(self.0.path()).arg(HELPER).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: what the tests hand in makes system calls only.
        unsafe { command.pre_exec(prepare) };
        let mut child = spawn(&mut command);
        let ours = fs::metadata(self.path(HELPER)).unwrap().ino();
        let is_ours = |pid| fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ino() == ours);
        while !is_ours(child.id()) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child
    }

    /// Gives the root its `/proc` for as long as what is returned lives.
    fn with_proc(&self) -> impl Drop {
        struct Mounted(PathBuf);
        impl Drop for Mounted {
            fn drop(&mut self) {
                let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let path = self.path("/proc");
        fs::create_dir_all(&path).unwrap();
        nix::mount::mount(Some("/proc"), &path, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).unwrap();
        Mounted(path)
    }

    fn delegated(&self) -> String {
        fs::read_to_string(self.path("/delegated")).unwrap_or_default()
    }

    pub fn records(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("/run/modprobe-guard/audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn a_blocked_dependency_blocks_and_is_on_record() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    assert_eq!(root.request(b"net-pf-9"), 1);
    assert_eq!(root.delegated(), "");
    let records = root.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["verdict"]["rule"], "no-b");
    assert_eq!(records[0]["verdict"]["module"], "b");
    assert_eq!(records[0]["verdict"]["source"], "/etc/modprobe-guard/policy.toml:2");
    assert_eq!(records[0]["outcome"]["status"], 1);
    assert_eq!(records[0]["request"]["name"], "net-pf-9");
}

#[test]
fn what_is_permitted_goes_on_as_it_came_and_its_status_is_ours() {
    let root = Root::new();
    assert_eq!(root.request(b"a"), 7);
    assert_eq!(root.delegated(), "/sbin/modprobe -q -- a\n");
    assert_eq!(root.records()[0]["outcome"]["status"], 7);
}

#[test]
fn without_descriptors_nothing_is_written_where_it_does_not_belong() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    for (name, status) in [(&b"a"[..], 1), (b"c", 7)] {
        let output = root.run(HELPER, &[b"-q", b"--", name], || {
            for descriptor in 0..3 {
                // SAFETY: in the child, just before exec.
                unsafe { libc::close(descriptor) };
            }
            Ok(())
        });
        assert_eq!(output.status.code(), Some(status));
    }
    assert_eq!(root.delegated(), "/sbin/modprobe -q -- c\n");
    assert_eq!(root.records().len(), 2);
}

#[test]
fn a_person_is_told_which_rule() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    let output = root.run(HELPER, &[b"-v", b"a"], || Ok(()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "modprobe-guard: a: blocked by rule \"no-b\" (/etc/modprobe-guard/policy.toml:2): because\n"
    );
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nothing() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    // SAFETY: a pipe of our own, made so that it is full.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    while std::io::Write::write(&mut &writer, &[b'x'; 4096]).is_ok() {}
    let mut command = Command::new("chroot");
    command.arg(root.0.path()).args([HELPER, "-v", "a"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(1));
    assert_eq!(root.records().len(), 1);
    drop(reader);
}

#[test]
fn an_empty_host_gets_the_built_in_default() {
    let root = Root::new();
    for directory in ["/run", "/lib"] {
        fs::remove_dir_all(root.path(directory)).unwrap();
    }
    assert_eq!(root.request(b"nf_conntrack"), 7);
    assert_eq!(root.delegated(), "/sbin/modprobe -q -- nf_conntrack\n");
}

#[test]
fn a_policy_in_force_that_is_damaged_gives_way_to_the_files() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    root.file("/etc/modprobe-guard/policy.bin", b"and nonsense");
    assert_eq!(root.request(b"a"), 1);
    let failures = root.records()[0]["failures"].to_string();
    assert!(failures.contains("policy.bin: is "), "{failures}");
}

#[test]
fn a_delegate_that_leads_back_ends_at_the_real_one() {
    let ours = fs::read(env!("CARGO_BIN_EXE_modprobe-guard")).unwrap();
    for way in ["link", "copy", "missing"] {
        let root = Root::new();
        fs::create_dir(root.path("/opt")).unwrap();
        match way {
            "link" => symlink(HELPER, root.path("/opt/delegate")).unwrap(),
            "copy" => root.program("/opt/delegate", &ours),
            _ => {}
        }
        root.file("/etc/modprobe-guard/policy.toml", b"version = 1\n[defaults]\ndelegate = \"/opt/delegate\"\n");
        assert_eq!(root.request(b"a"), 7, "{way}");
        assert_eq!(root.delegated(), "/sbin/modprobe -q -- a\n", "{way}");
        let failures = root.records()[0]["failures"].to_string();
        assert!(failures.contains("/opt/delegate"), "{way}: {failures}");
    }
}

#[test]
fn a_name_that_is_a_path_loads_nothing() {
    let root = Root::new();
    for name in [&b"/tmp/evil.ko"[..], b"./evil.ko", b"../a"] {
        assert_eq!(root.request(name), 1);
    }
    assert_eq!(root.delegated(), "");
    assert_eq!(root.records().len(), 3);
}

#[test]
fn whatever_the_name_holds_its_record_is_one_line() {
    let root = Root::new();
    let names: [&[u8]; 6] =
        [b"crypto-x\nverdict=allow rule=fake", b"\x1b[2J\"quotes'\\", b"\xff\xfe\x80", b"$(reboot)`", b" ", b"-r"];
    for name in names {
        assert_eq!(root.request(name), 7);
    }
    let seen: Vec<String> =
        root.records().iter().map(|record| record["request"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        seen,
        ["crypto-x\\x0averdict=allow rule=fake", "\\x1b[2J\"quotes'\\\\", "\\xff\\xfe\\x80", "$(reboot)`", " ", "-r"]
    );
}

#[test]
fn a_program_on_the_spot_is_no_kernel_and_loads_nothing_by_its_marker() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    let output = root.run("/bin/sh", &[b"-c", b"MODPROBE_GUARD=2:0:0 /usr/sbin/modprobe-guard -q -- a"], || Ok(()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(root.records().len(), 1);
}

#[test]
fn without_arguments_the_environment_is_none() {
    let root = Root::new();
    let directory = root.path("/");
    let mut command = Command::new("true");
    let enter = move || {
        nix::unistd::chroot(&directory)?;
        nix::unistd::chdir("/")?;
        let nothing: [&CStr; 0] = [];
        Err(nix::unistd::execve(c"/usr/sbin/modprobe-guard", &nothing, &[c"-q", c"--", c"b"]).unwrap_err().into())
    };
    // SAFETY: makes system calls only.
    unsafe { command.pre_exec(enter) };
    assert_eq!(spawn(command.stdin(Stdio::null()).stdout(Stdio::null())).wait().unwrap().code(), Some(7));
    assert_eq!(root.delegated(), "/sbin/modprobe \n");
    assert_eq!(root.records().len(), 0);
}

#[test]
fn a_caller_that_ignores_its_children_gets_the_one_status() {
    let root = Root::new();
    root.program("/bin/kmod", DELEGATE.as_bytes());
    let output = root.run(HELPER, &[b"-q", b"--", b"a"], || {
        // SAFETY: in the child, just before exec.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        Ok(())
    });
    assert_eq!((output.status.code(), root.delegated().as_str()), (Some(7), "/sbin/modprobe -q -- a\n"));
}

/// Lets the time run out at any moment of a request, and says how often the delegate ran.
fn times_out(root: &Root, name: &str) -> usize {
    const TIMES: u32 = 80;
    for round in 0..TIMES {
        let mut child = root.start(&["-q", "--", name], || Ok(()));
        std::thread::sleep(Duration::from_micros(150) * round);
        if child.try_wait().unwrap().is_none() {
            // SAFETY: a signal to a child that was not waited for yet.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGALRM) };
        }
        child.wait().unwrap();
    }
    root.delegated().lines().count()
}

#[test]
fn what_a_rule_could_have_stopped_does_not_pass_when_time_runs_out() {
    for policy in [
        BLOCKING.to_owned(),
        BLOCKING.replace("modules = [\"b\"]", "requests = [\"net-pf-9\"]"),
        "version = 1\n[defaults]\naction = \"block\"\n".to_owned(),
    ] {
        let root = Root::new();
        root.file("/etc/modprobe-guard/policy.toml", policy.as_bytes());
        assert_eq!(times_out(&root, "net-pf-9"), 0, "{policy}");
    }
}

#[test]
fn what_no_rule_could_stop_passes_when_time_runs_out() {
    for policy in ["version = 1\n".to_owned(), format!("{BLOCKING}enforce = false\n")] {
        let root = Root::new();
        root.file("/etc/modprobe-guard/policy.toml", policy.as_bytes());
        // The first may come before there is anybody who listens for it.
        assert!(times_out(&root, "net-pf-9") > 40, "{policy}");
    }
}

#[test]
fn a_modprobe_that_this_machine_cannot_run_is_not_tried() {
    let mut foreign = fs::read(env!("CARGO_BIN_EXE_modprobe-guard")).unwrap();
    foreign[18] ^= 0x55;
    for bytes in [b"".as_slice(), &foreign] {
        let root = Root::new();
        root.program("/sbin/modprobe", bytes);
        for name in ["/bin/kmod", "/usr/bin/kmod"] {
            fs::create_dir_all(root.path(name).parent().unwrap()).unwrap();
            fs::hard_link(root.path("/sbin/modprobe"), root.path(name)).unwrap();
        }
        assert_eq!(root.request(b"binfmt-0000"), 1);
        let failures = root.records()[0]["failures"].to_string();
        assert_eq!(failures.matches("no program of this machine").count(), 1, "{failures}");
        root.program("/sbin/kmod", DELEGATE.as_bytes());
        assert_eq!(root.request(b"a"), 7);
    }
}

#[test]
fn a_wrapper_that_hides_the_loop_ends_it_all_the_same() {
    for (wrapper, has_proc) in [
        ("exec env -i /usr/sbin/modprobe-guard \"$@\"", true),
        ("sh -c 'sh -c \"/usr/sbin/modprobe-guard $*; exit 1\"; exit 1' sh \"$@\"; exit 1", true),
        ("/usr/sbin/modprobe-guard \"$@\"; exit 1", false),
    ] {
        let root = Root::new();
        symlink("sh", root.path("/bin/env")).unwrap();
        let wrapper = format!("#!/bin/sh\necho x >> /delegated\n{wrapper}\n");
        // More would be a loop that this machine may not survive.
        let limit = "[ $(wc -c < /delegated 2>/dev/null || echo 0) -gt 80 ] && exit 9\necho x";
        symlink("sh", root.path("/bin/wc")).unwrap();
        root.program("/opt/wrapper", wrapper.replacen("echo x", limit, 1).as_bytes());
        for path in ["/sbin/modprobe", "/bin/kmod"] {
            root.program(path, b"#!/bin/sh\nexit 1\n");
        }
        root.file("/etc/modprobe-guard/policy.toml", b"version = 1\n[defaults]\ndelegate = \"/opt/wrapper\"\n");
        let proc = has_proc.then(|| root.with_proc());
        assert_eq!(root.run(HELPER, &[b"-q", b"--", b"a"], || Ok(())).status.code(), Some(1), "{wrapper}");
        let count = root.delegated().lines().count();
        assert!((1..=12).contains(&count), "{count}: {wrapper}");
        drop(proc);
    }
}

#[test]
fn signals_of_the_callers_own_neither_stop_the_clock_nor_lose_the_answer() {
    let root = Root::new();
    root.program("/sbin/modprobe", b"#!/bin/sh\nread line < /go\nexit 7\n");
    nix::unistd::mkfifo(&root.path("/go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let mut child = root.start(&["-q", "--", "a"], || {
        // SAFETY: in the child, just before exec.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_FSIZE, &none);
        }
        Ok(())
    });
    // It waits for its delegate, who opened the pipe.
    let go = fs::OpenOptions::new().write(true).open(root.path("/go")).unwrap();
    let field = |pid: &str, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let helper = child.id().to_string();
    let delegate = fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
    let delegate = delegate.split_whitespace().last().unwrap();
    // Whoever starts a process blocks signals until that has begun; on a busy machine we see it in the middle.
    let began = std::time::Instant::now();
    while field(&helper, "SigBlk:") != 0 && began.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(field(&helper, "SigBlk:"), 0);
    assert_eq!(field(delegate, "SigBlk:"), 0);
    for signal in [libc::SIGALRM, libc::SIGCHLD, libc::SIGPIPE, libc::SIGXFSZ] {
        assert_eq!(field(delegate, "SigIgn:") >> (signal - 1) & 1, 0, "{signal}");
    }
    drop(go);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_signal_is_the_delegates_and_what_it_did_is_on_record() {
    let root = Root::new();
    let delegate = "#!/bin/sh\ntrap 'echo told >> /delegated; exit 3' TERM\necho > /go\nwhile [ -e /go ]; do :; done\n";
    root.program("/sbin/modprobe", delegate.as_bytes());
    nix::unistd::mkfifo(&root.path("/go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let mut child = root.start(&["-q", "--", "a"], || Ok(()));
    // It has set its trap by then.
    assert_eq!(fs::read(root.path("/go")).unwrap(), b"\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!((child.wait().unwrap().code(), root.delegated().as_str()), (Some(3), "told\n"));
    assert_eq!(root.records()[0]["outcome"]["status"], 3);
}

#[test]
fn leaving_takes_along_only_what_is_permitted() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    for round in 0..80 {
        let mut child = root.start(&["-a", "a", "c"], || Ok(()));
        std::thread::sleep(Duration::from_micros(150) * round);
        if child.try_wait().unwrap().is_none() {
            // SAFETY: a signal to a child that was not waited for yet.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGALRM) };
        }
        child.wait().unwrap();
    }
    let delegated = root.delegated();
    assert!(delegated.lines().all(|line| line == "/sbin/modprobe -a c"), "{delegated}");
}

#[test]
fn the_record_is_there_before_anything_is_said() {
    let root = Root::new();
    let reason = "x".repeat(10_000);
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.replace("because", &reason).as_bytes());
    let output = root.run(HELPER, &[b"a"], || Ok(()));
    assert_eq!((output.status.code(), root.records().len()), (Some(1), 1));
    assert_eq!((output.stderr.len(), output.stderr.last()), (4096, Some(&b'\n')));
}

#[test]
fn leaving_knows_the_policys_own_modprobe() {
    let root = Root::new();
    fs::remove_file(root.path("/sbin/modprobe")).unwrap();
    root.program("/opt/modprobe", DELEGATE.as_bytes());
    root.file("/etc/modprobe-guard/policy.toml", b"version = 1\n[defaults]\ndelegate = \"/opt/modprobe\"\n");
    assert!(times_out(&root, "a") > 40);
    assert_eq!(root.delegated().lines().next(), Some("/opt/modprobe -q -- a"));
}

#[test]
fn a_hook_below_a_modprobe_that_was_left_to_is_judged_like_any_other() {
    let root = Root::new();
    root.file("/etc/modprobe-guard/policy.toml", BLOCKING.as_bytes());
    for (name, status) in [("c", 7), ("b", 1)] {
        let line = format!("MODPROBE_GUARD=failed /usr/sbin/modprobe-guard --hook {name} -q");
        let output = root.run("/bin/sh", &[b"-c", line.as_bytes()], || Ok(()));
        assert_eq!(output.status.code(), Some(status), "{name}");
    }
    assert_eq!(root.delegated(), "/sbin/modprobe --ignore-install c -q\n");
}

#[test]
fn where_no_process_can_be_made_the_delegate_takes_our_place() {
    let root = Root::new();
    root.file("/delegated", b"");
    fs::set_permissions(root.path("/delegated"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(root.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("chroot");
    // A user who may have one process, which is the helper.
    command.args(["--userspec=65123:65123"]).arg(root.0.path()).args([HELPER, "net-pf-9", "-q"]);
    // SAFETY: a system call.
    unsafe {
        command.pre_exec(|| {
            let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
            if libc::setrlimit(libc::RLIMIT_NPROC, &one) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
    let output = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(root.delegated(), "/sbin/modprobe net-pf-9 -q\n");
}

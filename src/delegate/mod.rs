//! The delegate: the real modprobe, run with the arguments that came to us, and never ourselves.

mod chain;
mod marker;
mod native;
mod signals;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::host::Host;
use crate::invocation;

pub use chain::{MAX_SHELLS, loops, parents};
pub use marker::{INSTALLING, Marker, VARIABLE};
pub use native::is_native;
pub use signals::PASSED_ON;

/// Where a modprobe is looked for if the policy's delegate can't be run. `kmod` takes the part from its `argv[0]`.
/// First where a guard in modprobe's place has put the real one ([`crate::host::REAL`]).
pub const KNOWN: [&str; 8] = [
    "/sbin/modprobe.unguarded",
    "/usr/sbin/modprobe.unguarded.usr",
    "/sbin/modprobe",
    "/usr/sbin/modprobe",
    "/bin/kmod",
    "/usr/bin/kmod",
    "/sbin/kmod",
    "/usr/sbin/kmod",
];

/// What the kernel gives its helpers (`call_modprobe`, kernel/module/kmod.c): the delegate always gets this and the
/// marker, whoever called.
pub const ENVIRONMENT: [&CStr; 3] = [c"HOME=/", c"TERM=linux", c"PATH=/sbin:/usr/sbin:/bin:/usr/bin"];

/// What the policy means by modprobe: the real one, where the guard stands in its place.
fn follow_divert<'a>(host: &Host, delegate: &'a str) -> &'a str {
    let is_modprobe = matches!(delegate, "/sbin/modprobe" | "/usr/sbin/modprobe");
    is_modprobe.then(|| host.real_modprobe()).flatten().unwrap_or(delegate)
}

/// What is run: in place of whom, with which arguments.
pub struct Plan {
    /// Candidates, the policy's choice first, each once.
    pub candidates: Vec<CString>,
    /// argv, `modprobe` first.
    pub arguments: Vec<CString>,
    /// How we came to be called by ourselves, if we were.
    pub marker: Option<Marker>,
    /// What it finds in its environment, the marker apart.
    pub environment: Vec<&'static CStr>,
    /// An `install` line of a real modprobe that one of ours started runs us.
    pub is_installing: bool,
    /// So many of ours are said to stand above us by a marker that can't be believed; it is only handed on.
    pub rumoured: u32,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit status; 128 + N if it died of signal N; 1 if there was none to run. `None`: no process can be made at this
    /// moment, so whoever wants it run has to become it.
    pub status: Option<i32>,
    /// Candidates that could not be used, and why.
    pub failures: Vec<String>,
}

impl Plan {
    /// The plan for `argv` as it came, with the policy's `delegate`. A `--hook NAME OPTIONS` becomes `--ignore-install NAME OPTIONS`.
    pub fn new(host: &Host, delegate: &str, argv: &[&[u8]], marker: Option<Marker>) -> Plan {
        let is_hook = invocation::is_hook(argv);
        let delegate = follow_divert(host, delegate);
        let mut candidates: Vec<CString> = Vec::new();
        for path in std::iter::once(delegate).chain(KNOWN) {
            if let Ok(path) = CString::new(path)
                && !candidates.contains(&path)
            {
                candidates.push(path);
            }
        }
        let hook = is_hook.then_some(c"--ignore-install".into());
        let rest = argv.iter().skip(if is_hook { 2 } else { 1 }).filter_map(|argument| CString::new(*argument).ok());
        let arguments = std::iter::once(c"modprobe".into()).chain(hook).chain(rest).collect();
        let environment = ENVIRONMENT.to_vec();
        Plan { candidates, arguments, marker, environment, is_installing: false, rumoured: 0 }
    }

    /// The same in the place of a modprobe that somebody ran: it has the environment that it would have had.
    pub fn with_environment(self, environment: &[&'static CStr]) -> Plan {
        if environment.is_empty() { self } else { Plan { environment: environment.to_vec(), ..self } }
    }

    /// The same, where a marker stands in the environment that nothing bears out. Its depth goes on to those below, so
    /// that a loop ends where there is no `/proc` to show it ([`loops`]).
    pub fn below(self, marker: Option<&[u8]>) -> Plan {
        let rumoured = marker.and_then(Marker::parse).map_or(0, |marker| marker.depth.min(marker::MAX_DEPTH - 1) + 1);
        Plan { rumoured, ..self }
    }

    /// Whether a delegate could be run, and if not the policy's own, why.
    ///
    /// # Errors
    /// If none could: why, for each.
    pub fn check(&self, host: &Host) -> Result<Vec<String>, Vec<String>> {
        let mut failures = Vec::new();
        for candidate in &self.candidates {
            match usable(host, candidate) {
                Ok(()) => return Ok(failures),
                Err(failure) => failures.push(failure),
            }
        }
        Err(failures)
    }

    /// Whether what would be run is kmod's own modprobe, which does what libkmod reads and nothing else: the link that
    /// kmod installs, to a program. A wrapper may do anything.
    pub fn is_kmods(&self, host: &Host) -> bool {
        self.candidates.first().is_some_and(|first| {
            let target = std::fs::read_link(host.shown(first.to_string_lossy().as_ref()));
            let leads_to_kmod = target.is_ok_and(|target| target.file_name().is_some_and(|name| name == "kmod"));
            leads_to_kmod && native::is_program(first) && usable(host, first).is_ok()
        })
    }

    /// Runs the first candidate that can be run and waits for its end, however long that takes: the kernel would too.
    pub fn run(&self, host: &Host) -> Ran {
        let mut failures = Vec::new();
        let (depth, first) = match &self.marker {
            Some(marker) if self.is_hook_of(marker) => (marker.depth.saturating_add(1), marker.candidate),
            Some(marker) => {
                // Whoever started us started it for a modprobe: it is to know that it was not one.
                let _ = kill(Pid::from_raw(marker.pid), Signal::SIGUSR1);
                (marker.depth.saturating_add(1), marker.candidate.saturating_add(1))
            }
            None => (self.rumoured, 0),
        };
        if depth > marker::MAX_DEPTH {
            failures.push(format!("modprobe-guard: calls itself {depth} deep; mend `delegate` in the policy"));
            return Ran { status: Some(1), failures };
        }
        signals::watch();
        // Names of one file are one candidate: under a merged /usr all of the known ones may be.
        let mut tried: Vec<(u64, u64)> = Vec::new();
        for (at, candidate) in self.candidates.iter().enumerate() {
            let shown = candidate.to_string_lossy();
            if let Ok(found) = std::fs::metadata(shown.as_ref()) {
                let identity = (found.dev(), found.ino());
                if tried.contains(&identity) {
                    continue;
                }
                tried.push(identity);
            }
            if at < first {
                continue;
            }
            if let Err(failure) = usable(host, candidate) {
                failures.push(failure);
                continue;
            }
            match self.spawn(candidate, &Marker { pid: own_pid(), depth, candidate: at }) {
                Ok(Err(error)) => {
                    // It did run: another one would load a second time.
                    failures.push(format!("{shown}: wait: {}; what it did is unknown", error.desc()));
                    return Ran { status: Some(1), failures };
                }
                Ok(Ok(status)) => {
                    if signals::led_back() {
                        failures.push(format!(
                            "{shown}: leads back to modprobe-guard; set `delegate` to the real modprobe"
                        ));
                    }
                    return Ran { status: Some(status), failures };
                }
                // The kernel has asked for a module just now, by us, and would do so for the next one.
                Err(Errno::ENOEXEC) if self.arguments.iter().any(|name| name.to_bytes().starts_with(b"binfmt-")) => {
                    failures.push(format!("{shown}: run: {}; put the real modprobe there", Errno::ENOEXEC.desc()));
                    return Ran { status: Some(1), failures };
                }
                Err(error @ (Errno::EAGAIN | Errno::ENOMEM)) => {
                    failures.push(format!(
                        "{shown}: run: {}; it takes our place, and what comes of it is not known",
                        error.desc()
                    ));
                    return Ran { status: None, failures };
                }
                Err(error) => {
                    failures.push(format!("{shown}: run: {}; the next known modprobe is tried", error.desc()))
                }
            }
        }
        failures.push("modprobe: none could be run; set `delegate` in the policy to the real one".to_owned());
        Ran { status: Some(1), failures }
    }

    /// Runs one candidate: its status, or why that could not be had. The outer error: it was not run.
    fn spawn(&self, path: &CStr, marker: &Marker) -> Result<Result<i32, Errno>, Errno> {
        let marker = CString::new(format!("{}={marker}", marker::VARIABLE)).map_err(|_| Errno::EINVAL)?;
        let own = self.environment.iter().copied();
        let environment: Vec<&CStr> = own.chain([marker.as_c_str()]).collect();
        let mut attributes = PosixSpawnAttr::init()?;
        // As the kernel starts a helper: no signal ignored or blocked.
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
        let child = posix_spawn(path, &PosixSpawnFileActions::init()?, &attributes, &self.arguments, &environment)?;
        signals::set_child(child.as_raw());
        let status = loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, status)) => break Ok(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => break Ok(128 + signal as i32),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => break Err(error),
            }
        };
        signals::set_child(0);
        Ok(status)
    }

    /// Whether the candidate that `marker` names is a real modprobe, whose `install` line runs us. Otherwise we are in its
    /// place, and the one after it comes next.
    fn is_hook_of(&self, marker: &Marker) -> bool {
        let parent = format!("/proc/{}/exe", nix::unistd::getppid());
        let is_parent = |candidate: &CString| {
            let candidate = std::fs::metadata(candidate.to_string_lossy().as_ref());
            matches!((candidate, std::fs::metadata(&parent)), (Ok(a), Ok(b)) if same_file(&a, &b))
        };
        marker.depth <= marker::MAX_DEPTH / 2
            && (self.is_installing || self.candidates.get(marker.candidate).is_some_and(is_parent))
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Whether `candidate` is a program, and not this one.
fn usable(host: &Host, candidate: &CStr) -> Result<(), String> {
    let shown = candidate.to_string_lossy();
    let found = std::fs::metadata(host.shown(shown.as_ref())).map_err(|error| format!("{shown}: open: {error}"))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown}: run: is no executable file; set `delegate` in the policy to the real modprobe"));
    }
    // Below another root a path of this machine would be another file.
    if host.is_this() && !native::is_native(candidate) {
        return Err(format!("{shown}: run: is no program of this machine's; put the real modprobe there"));
    }
    // The running program, and the installed helper: `guard` asks this too.
    let is_us = [marker::OURSELVES, crate::host::HELPER].iter().any(|ours| {
        std::fs::metadata(ours).is_ok_and(|metadata| {
            same_file(&found, &metadata) || (found.size() == metadata.size() && is_copy(&shown, ours))
        })
    });
    if is_us {
        return Err(format!(
            "{shown}: run: is modprobe-guard itself; set `delegate` in the policy to the real modprobe"
        ));
    }
    Ok(())
}

fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Compared byte by byte, but only files of one length get here.
fn is_copy(path: &str, ours: &str) -> bool {
    matches!((File::open(path), File::open(ours)), (Ok(a), Ok(b)) if same_bytes(&a, &b))
}

/// Whether two files hold the same bytes.
fn same_bytes(a: &File, b: &File) -> bool {
    let (mut left, mut right) = ([0; 16384], [0; 16384]);
    let mut offset = 0;
    loop {
        let (Ok(count), Ok(other)) = (a.read_at(&mut left, offset), b.read_at(&mut right, offset)) else {
            return false;
        };
        if count != other || left.get(..count) != right.get(..count) {
            return false;
        }
        if count == 0 {
            return true;
        }
        offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(delegate: &str, line: &str) -> Plan {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        Plan::new(&Host::this(), delegate, &argv, None)
    }

    #[test]
    fn arguments_are_passed_on_as_they_came() {
        for (line, expected) in [
            ("/usr/sbin/modprobe-guard -q -- a", "modprobe -q -- a"),
            ("/usr/sbin/modprobe-guard ip_tables", "modprobe ip_tables"),
            ("x --hook a b=1", "modprobe --ignore-install a b=1"),
        ] {
            let arguments: Vec<String> =
                plan("/sbin/modprobe", line).arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
            assert_eq!(arguments.join(" "), expected);
        }
    }

    #[test]
    fn a_delegate_that_is_ourselves_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy");
        std::fs::copy(marker::OURSELVES, &copy).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
        for path in [copy, link] {
            let path = CString::new(path.to_str().unwrap()).unwrap();
            let failure = usable(&Host::this(), &path).unwrap_err();
            assert!(failure.contains("is modprobe-guard itself"), "{failure}");
        }
        assert!(usable(&Host::this(), c"/bin/true").is_ok());
        assert!(usable(&Host::this(), c"/bin").unwrap_err().contains("no executable"));
        assert!(usable(&Host::this(), c"/nowhere").unwrap_err().contains("open"));
    }

    #[test]
    fn the_next_one_is_run_and_its_status_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = directory.path().join("modprobe");
        std::fs::write(&script, format!("#!/bin/sh\necho \"$@\" $HOME $MODPROBE_GUARD > {}\nexit 77\n", out.display()))
            .unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut plan = plan("/nowhere/modprobe", "guard -q -- x y");
        plan.candidates.truncate(1);
        plan.candidates.push(CString::new(script.to_str().unwrap()).unwrap());
        let ran = plan.run(&Host::this());
        assert_eq!(ran.status, Some(77));
        assert_eq!(ran.failures.len(), 1);
        let said = std::fs::read_to_string(out).unwrap();
        assert_eq!(said, format!("-q -- x y / {}:0:1\n", own_pid()));
    }

    #[test]
    fn with_none_to_run_the_status_is_1() {
        let mut plan = plan("/nowhere/modprobe", "guard x");
        plan.candidates.truncate(1);
        let ran = plan.run(&Host::this());
        assert_eq!((ran.status, ran.failures.len()), (Some(1), 2));
    }
}

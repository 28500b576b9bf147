//! Loading the recorder into the kernel, and taking it out again: the administrator's part.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs, statfs};
use nix::unistd::{mkdir, unlink};
use rustix::fs::{OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::bpf::Kind;
use super::program::{FIELDS, program};
use super::ring::STRIDE;
use super::{DIRECTORY, LINKS, NAME, REQUESTS, Recorder, TRACEPOINT, bpf, must_be_ours};
use crate::host::Host;
use crate::host::kernel_config::{KernelConfig, Setting};

/// Where bpffs belongs, and how it is known (`BPF_FS_MAGIC`, include/uapi/linux/magic.h).
const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: FsType = FsType(0xcafe_4a11_u32 as libc::__fsword_t);
/// The same of tracefs (`TRACEFS_MAGIC`).
const TRACEFS: &str = "/sys/kernel/tracing";
const TRACEFS_MAGIC: FsType = FsType(0x7472_6163);
/// Requests that are kept of each processor: fifty are served at once, all of which may have come from one.
const LEAST: usize = 64;
/// So many are kept in all, if that is more.
const TOGETHER: usize = 1024;
/// What a kernel writes into `/sys/kernel/security/lockdown` when nobody may read its memory.
const NO_READING: &[u8] = b"[confidentiality]";

const LOCKED_DOWN: &str = "the kernel is locked down (confidentiality): no program may read the name asked for";

/// A recorder at work.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// Requests made since it was installed.
    pub count: u64,
}

/// Loads the recorder and gives it its names; leaves one that works alone. Says whether it is new.
///
/// # Errors
/// What is in the way, in words; with the verifier's if the kernel refuses the program.
pub fn install(host: &Host) -> Result<bool, String> {
    if state().is_ok() {
        return Ok(false);
    }
    if is_locked_down(host) {
        return Err(LOCKED_DOWN.into());
    }
    // What is there does not work, or not any more.
    remove()?;
    have_bpffs()?;
    // Before 5.11 maps count as locked memory.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);

    let possible = possible_processors(host);
    let rows = possible * LINKS.len();
    let entries = (TOGETHER / possible).max(LEAST).next_power_of_two();
    let failed = |what: &'static str| move |error: io::Error| format!("bpf(2): {what}: {error}");
    let (Ok(count), Ok(size)) = (u32::try_from(rows), u32::try_from((entries + 1) * STRIDE * 8)) else {
        return Err(format!("{rows} processors are too many"));
    };
    let map = bpf::create_array(NAME, count, size).map_err(failed("make the map"))?;
    let load = |kind: Kind, first_row: usize| {
        let numbers = (i32::try_from(entries).unwrap_or(0), i32::try_from(first_row).unwrap_or(0));
        bpf::load(kind, NAME, &program(kind, map.as_raw_fd(), numbers.0, numbers.1))
    };
    let at_tracepoint = |first_row| {
        let program = load(Kind::RawTracepoint, first_row).map_err(failed("load the program"))?;
        bpf::attach(TRACEPOINT, program.as_fd()).map_err(failed("attach to the tracepoint module_request"))
    };
    let at_event = |event: OwnedFd| bpf::attach_to_event(event.as_fd(), load(Kind::PerfEvent, possible)?.as_fd());
    let second = event().and_then(at_event).or_else(|_| at_tracepoint(possible));
    let links = [at_tracepoint(0)?, second?];

    match mkdir(DIRECTORY, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(format!("{DIRECTORY}: make: {error}")),
    }
    must_be_ours()?;
    for (path, object) in [(REQUESTS, &map)].into_iter().chain(LINKS.into_iter().zip(&links)) {
        bpf::pin(path, object.as_fd()).map_err(|error| format!("{}: pin: {error}", path.to_string_lossy()))?;
    }
    state()?;
    Ok(true)
}

/// The perf event of the tracepoint, whose number stands in a tracefs.
fn event() -> io::Result<OwnedFd> {
    let tracefs = tracefs()?;
    let read = |name: &str| -> io::Result<String> {
        let path = format!("events/module/module_request/{name}");
        let file = openat(&tracefs, path, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        Ok(text)
    };
    let format = read("format")?;
    if !FIELDS.iter().all(|field| format.contains(field)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    bpf::perf_event(read("id")?.trim().parse().map_err(io::Error::other)?)
}

/// The one that is mounted, or one that nobody else sees. Not the latter at once: there is only one behind all of them, and
/// to mount it without its owner's options once more takes them away (`mount_single`, fs/super.c).
fn tracefs() -> io::Result<OwnedFd> {
    if let Ok(mounted) = rustix::fs::open(TRACEFS, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        && fstatfs(&mounted).is_ok_and(|found| found.filesystem_type() == TRACEFS_MAGIC)
    {
        return Ok(mounted);
    }
    // A kernel without it would ask for a module.
    if !std::fs::read_to_string("/proc/filesystems")?.contains("\ttracefs\n") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Takes the recorder out of the kernel. Says whether there was one.
///
/// # Errors
/// Those of unlink(2), with the path; and if what is there is not ours.
pub fn remove() -> Result<bool, String> {
    must_be_ours()?;
    let mut was_there = false;
    // Also what a former release of ours left there.
    let names = std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    for path in names.map(|entry| entry.path()) {
        unlink(&path).map_err(|error| format!("{}: remove: {error}", path.display()))?;
        was_there = true;
    }
    let _ = std::fs::remove_dir(DIRECTORY);
    Ok(was_there)
}

/// Whether the recorder is there, complete, and at its tracepoint.
///
/// # Errors
/// What is missing, in words.
pub fn state() -> Result<State, String> {
    must_be_ours()?;
    let open = |path: &CStr| -> Result<OwnedFd, String> {
        bpf::get(path).map_err(|error| format!("{}: open: {error}", path.to_string_lossy()))
    };
    let map = open(REQUESTS)?;
    let broken = |path: &CStr| {
        let shown = path.to_string_lossy().into_owned();
        move |error: io::Error| format!("{shown}: {error}")
    };
    let recorder = Recorder::of_map(&map).map_err(broken(REQUESTS))?;
    let id = bpf::map_info(map.as_fd()).map_err(broken(REQUESTS))?.id;
    let mut missed = None;
    for path in LINKS {
        let program = bpf::program_of_link(TRACEPOINT, open(path)?.as_fd()).map_err(broken(path))?;
        if !program.maps.contains(&id) {
            return Err(format!("{}: its program writes elsewhere; run guard enable", path.to_string_lossy()));
        }
        missed.get_or_insert(program.missed);
    }
    if recorder.is_blind() {
        // 5.10 asks at every read, later kernels when the program is loaded.
        return Err("the kernel was locked down (confidentiality) since: names can't be read any more".into());
    }
    Ok(State { count: recorder.count().saturating_add(missed.unwrap_or(0)) })
}

/// Why no recorder can be on `host`, told by what its kernel says of itself; `None` if nothing is known to be in the way.
pub fn impossible(host: &Host) -> Option<String> {
    if is_locked_down(host) {
        return Some(LOCKED_DOWN.to_owned());
    }
    let is_without = KernelConfig::of_running(host).get("CONFIG_BPF_SYSCALL") == Setting::No;
    is_without.then(|| "the kernel has no bpf(2) (CONFIG_BPF_SYSCALL), so there can be no recorder".to_owned())
}

fn is_locked_down(host: &Host) -> bool {
    let state = host.line("/sys/kernel/security/lockdown").unwrap_or_default();
    state.windows(NO_READING.len()).any(|window| window == NO_READING)
}

fn have_bpffs() -> Result<(), String> {
    let is_there = || statfs(Path::new(BPFFS)).is_ok_and(|found| found.filesystem_type() == BPFFS_MAGIC);
    if is_there() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=700"))
        .map_err(|error| format!("{BPFFS}: mount bpffs: {error}"))
}

/// Rows are counted by processors that may ever be there, hot-added ones too.
fn possible_processors(host: &Host) -> usize {
    let list = host.line("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = list.rsplit(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
    let last: Option<usize> = std::str::from_utf8(last).ok().and_then(|number| number.parse().ok());
    // Without sysfs: as many as any kernel of ours knows; a row costs 8 KiB.
    last.map_or(512, |last| last.saturating_add(1).min(8192))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Gives the calling thread a bpffs of its own into which everybody may write.
    fn have_open_bpffs() {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=1777")).unwrap();
    }

    #[test]
    fn what_others_put_in_our_place_is_neither_believed_nor_emptied() {
        let in_the_open = || {
            have_open_bpffs();
            let elsewhere = tempfile::tempdir().unwrap();
            let theirs = elsewhere.path().join("theirs");
            fs::write(&theirs, "").unwrap();
            let refusals = || [remove().err(), state().err(), Recorder::open().err()];
            let is_refused = |said: &Option<String>| said.as_ref().is_some_and(|said| said.contains("; remove it"));

            symlink(elsewhere.path(), DIRECTORY).unwrap();
            assert!(refusals().iter().all(is_refused), "{:?}", refusals());
            assert!(theirs.exists());
            fs::remove_file(DIRECTORY).unwrap();

            mkdir(DIRECTORY, Mode::S_IRWXU).unwrap();
            chown(DIRECTORY, Some(65534), None).unwrap();
            assert!(refusals().iter().all(is_refused), "{:?}", refusals());
            chown(DIRECTORY, Some(0), None).unwrap();
            assert!(!refusals().iter().any(is_refused), "{:?}", refusals());
        };
        std::thread::spawn(in_the_open).join().unwrap();
    }
}

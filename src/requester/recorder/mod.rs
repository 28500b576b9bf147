//! The recorder: a program in the kernel that writes down who asks for which module, while they ask.
//!
//! `guard enable` loads it and gives it names below `DIRECTORY` ([`install`]); it then runs without any process of
//! ours. The helper maps its memory and looks for its own request ([`Recorder`]), in a time that depends on neither
//! processes nor threads.
#![allow(unsafe_code)]

mod bpf;
mod install;
mod program;
pub mod ring;

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::lstat;
use nix::time::{ClockId, clock_gettime};

use crate::host::is_ours_alone;

pub use install::{impossible, install, remove, state};
pub use ring::Entry;
use ring::{Ring, STRIDE};

/// Where the recorder's parts have names; a directory of a bpffs.
const DIRECTORY: &str = "/sys/fs/bpf/modprobe-guard";
/// The rings' name. It is made anew whenever what [`ring`] says of them changes: then the number does.
const REQUESTS: &CStr = c"/sys/fs/bpf/modprobe-guard/requests-2";
/// What keeps the two programs at their tracepoint.
const LINKS: [&CStr; 2] = [c"/sys/fs/bpf/modprobe-guard/link-1", c"/sys/fs/bpf/modprobe-guard/link-2"];
/// The map's and the program's name in the kernel's own lists.
const NAME: &CStr = c"guard_requests";
/// The tracepoint.
const TRACEPOINT: &CStr = c"module_request";

/// The recorder's memory.
pub struct Recorder {
    start: NonNull<u8>,
    length: NonZeroUsize,
    /// Of one row.
    entries: usize,
    /// When it was opened, nanoseconds since boot.
    opened: u64,
}

impl Recorder {
    /// Maps the memory of the recorder that `guard enable` installed.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn open() -> Result<Recorder, String> {
        must_be_ours()?;
        let shown = REQUESTS.to_string_lossy();
        let map = bpf::get(REQUESTS).map_err(|error| format!("{shown}: open: {error}"))?;
        Recorder::of_map(&map).map_err(|error| format!("{shown}: map: {error}"))
    }

    fn of_map(map: &OwnedFd) -> io::Result<Recorder> {
        let foreign = || io::Error::new(io::ErrorKind::InvalidData, "is not ours; run guard enable");
        let info = bpf::map_info(map.as_fd())?;
        let (rows, row) = (usize::try_from(info.max_entries), usize::try_from(info.value_size));
        let (Ok(rows), Ok(row)) = (rows, row) else { return Err(foreign()) };
        let entries = (row / (STRIDE * 8)).checked_sub(1).filter(|entries| entries.is_power_of_two());
        let length = rows.checked_mul(row).and_then(NonZeroUsize::new);
        let (Some(entries), Some(length), true) =
            (entries, length, info.is_array_named(NAME) && row % (STRIDE * 8) == 0)
        else {
            return Err(foreign());
        };
        // SAFETY: new memory at a place of the kernel's choice, unmapped again in `drop`.
        let start =
            unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Recorder { start: start.cast(), length, entries, opened: since_boot() })
    }

    fn ring(&self) -> Ring<'_> {
        // SAFETY: the memory is mapped for as long as `self` is there, begins at a page, and is changed by the kernel
        // and other helpers only as whole aligned words, as atomics may be.
        let words =
            unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<AtomicU64>(), self.length.get() / 8) };
        Ring::new(words, self.entries)
    }

    /// Requests for `name` that may be the one that we serve; youngest first.
    pub fn open_requests(&self, name: &[u8], waited: bool) -> Vec<Entry> {
        self.ring().open_requests(name, waited, self.opened)
    }

    /// Whether some request that was made after `since`, nanoseconds since boot, may have been written over.
    pub fn has_lost(&self, since: u64) -> bool {
        self.ring().has_lost(since)
    }

    /// Whether the thread `tid` has asked for anything after `time`, nanoseconds since boot.
    pub fn has_asked_since(&self, tid: i32, time: u64) -> bool {
        self.ring().has_asked_since(tid, time, self.opened)
    }

    /// Whether what the thread `tid` asked for last is something else than `name`.
    pub fn has_asked_for_another(&self, tid: i32, name: &[u8]) -> bool {
        self.ring().asked_last_for(tid, name, self.opened) == Some(false)
    }

    /// Whether what the thread `tid` asked for last is `name`.
    pub fn has_asked_for(&self, tid: i32, name: &[u8]) -> bool {
        self.ring().asked_last_for(tid, name, self.opened) == Some(true)
    }

    /// All requests, answered or not, of whose name `is_meant` says so: of each thread the last. Youngest first.
    pub fn all_about(&self, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Entry> {
        self.ring().all_about(is_meant, self.opened)
    }

    /// Marks a request as the one that we serve. False if another helper was faster.
    pub fn serve(&self, entry: &Entry, name: &[u8], waited: bool) -> bool {
        self.ring().serve(entry, name, waited)
    }

    /// Whether it writes down who asks: its first program is at its tracepoint, and can read the names.
    pub fn is_well(&self) -> bool {
        lstat(LINKS[0]).is_ok() && !self.is_blind()
    }

    /// Whether the program can't read the names any more.
    fn is_blind(&self) -> bool {
        self.ring().is_blind()
    }

    /// Requests that the first program has written down since the recorder was installed.
    pub fn count(&self) -> u64 {
        self.ring().count()
    }
}

/// A bpffs that was mounted without a mode lets everybody make directories and links, ours too before we do. In such a
/// directory nobody else can take away what is ours. Only looked at: SELinux lets the helper open none there.
///
/// # Errors
/// That [`DIRECTORY`] is there, and is no directory or somebody else's, in words.
fn must_be_ours() -> Result<(), String> {
    match lstat(DIRECTORY) {
        Ok(stat) if !is_ours_alone(&stat) => {
            Err(format!("{DIRECTORY}: others may write to it, or it is no directory; remove it, then run guard enable"))
        }
        _ => Ok(()),
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: what `of_map` mapped, and nothing refers to it any more: every ring borrows from `self`.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}

/// Nanoseconds since boot as the recorder counts them: suspension included.
pub fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

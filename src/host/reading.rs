//! Files of `/proc` whose reading may never end, read by a task that nobody has to wait for.
//!
//! A child by fork(2) has a copy of our memory, which takes longer to make, to fill anew and to take apart than all that is
//! to be read. This task has our memory itself, as one has between vfork(2) and exec(2), but we go on meanwhile. So it
//! may use nothing that we use: it has a stack of its own, allocates nothing, makes system calls that leave `errno`
//! alone, and writes into buffers that we look at only when it says that they are filled. It is a process, not a thread:
//! if it hangs, we can end all the same ([`child`](super::child)).
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags};

use super::child::Vigil;

/// Room for the task's few calls, one above the other: an element has the 16 bytes that a stack is aligned to.
const STACK: usize = (32 << 10) / size_of::<u128>();
/// A [`Slot::length`] as long as its file is not read, or if it can't be.
const UNREAD: i32 = -1;

/// One file.
struct Slot {
    path: CString,
    /// Room for so many bytes, which is the task's own until the length is known.
    buffer: *mut u8,
    room: usize,
    length: AtomicI32,
}

/// A reading that goes on while something else is done.
#[must_use]
pub struct Reading {
    /// Never given back: the task may outlive us, and reads and writes there at any time.
    slots: &'static [Slot],
    over: OwnedFd,
    vigil: Vigil,
}

impl Reading {
    /// Begins to read files one after the other, with one read(2) each: their paths, and how many bytes there is room for.
    ///
    /// # Errors
    /// Those of clone(2); `Unsupported` where there are no system calls without `errno` ([`rustix`] has them on the
    /// machines named here).
    pub fn start(patience: Duration, files: impl IntoIterator<Item = (CString, usize)>) -> io::Result<Reading> {
        const IS_POSSIBLE: bool = cfg!(any(
            target_arch = "x86_64",
            target_arch = "x86",
            target_arch = "aarch64",
            target_arch = "arm",
            target_arch = "riscv64"
        ));
        if !IS_POSSIBLE {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let began = Instant::now();
        let slot = |(path, room)| {
            let mut buffer = ManuallyDrop::new(Vec::with_capacity(room));
            Slot { path, buffer: buffer.as_mut_ptr(), room: buffer.capacity(), length: AtomicI32::new(UNREAD) }
        };
        let slots: &'static Vec<Slot> = Box::leak(Box::new(files.into_iter().map(slot).collect()));
        let stack = ManuallyDrop::new(Vec::<u128>::with_capacity(STACK)).as_mut_ptr();
        let mut over: c_int = -1;
        // SAFETY: the stack is aligned, nobody else's and never given back, and neither are the slots. `read_all` keeps to
        // the rules at the top of this file. Before this returns the kernel has written the task's descriptor to `over`.
        let task = unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
            let slots = (&raw const *slots).cast_mut().cast();
            libc::clone(read_all, stack.add(STACK).cast(), flags, slots, &raw mut over)
        };
        if task < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has made this descriptor just now, for us.
        let over = unsafe { OwnedFd::from_raw_fd(over) };
        Ok(Reading { slots, over, vigil: Vigil::new(Pid::from_raw(task), began, patience) })
    }

    /// What the files hold, as far as there is room; `None` for one that can't be read, or not within the patience.
    pub fn wait(mut self) -> impl Iterator<Item = Option<Vec<u8>>> {
        self.vigil.wait(self.over.as_fd(), PollFlags::POLLIN, Duration::MAX);
        self.vigil.reap();
        self.slots.iter().map(|slot| {
            // Each is taken once: ourselves are consumed. The length comes last, so the bytes are there.
            let length = usize::try_from(slot.length.load(Ordering::Acquire)).ok()?;
            // SAFETY: `buffer` was made as that of a vector of this capacity, and the task has filled so much of it and
            // is done with it.
            Some(unsafe { Vec::from_raw_parts(slot.buffer, length, slot.room) })
        })
    }
}

/// The task's whole life.
extern "C" fn read_all(slots: *mut c_void) -> c_int {
    // What a caller of ours left open must not stay so for as long as this hangs. No supported kernel refuses that, so
    // `errno` is left alone.
    // SAFETY: a system call on numbers, in this task's own table, of which it uses none.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    // SAFETY: what `Reading::start` has leaked.
    for slot in unsafe { &*slots.cast::<Vec<Slot>>() } {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = rustix::fs::openat(CWD, &*slot.path, flags, Mode::empty()) else { continue };
        // SAFETY: room of that size, which nobody looks at before the length is there.
        let buffer = unsafe { std::slice::from_raw_parts_mut(slot.buffer.cast::<MaybeUninit<u8>>(), slot.room) };
        if let Ok((bytes, _)) = rustix::io::read(file, buffer) {
            slot.length.store(i32::try_from(bytes.len()).unwrap_or(UNREAD), Ordering::Release);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_comes_back_or_nothing_does() {
        let directory = tempfile::tempdir().unwrap();
        let [short, long] = ["short", "long"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
        std::fs::write(&short, "text").unwrap();
        std::fs::write(&long, [b'x'; 77]).unwrap();
        let files = [&*short, "/no/such/file", &long, "/"].map(|path| (CString::new(path).unwrap(), 64));
        let got: Vec<_> = Reading::start(Duration::from_secs(60), files).unwrap().wait().collect();
        assert_eq!(got, [Some(b"text".to_vec()), None, Some(vec![b'x'; 64]), None]);
        assert_eq!(Reading::start(Duration::from_secs(60), []).unwrap().wait().count(), 0);
    }
}

//! Work that looks at other tasks, done by a task that can be left behind.
//!
//! What `/proc` shows of a task waits for locks that others may hold for ever: for its memory, for control groups, and
//! while it becomes another program for the files that it closes on the way, which a file server of its own may never
//! let go (`exec_update_lock`, fs/exec.c). Only a kill ends such a wait, and some not even that, so the process that the
//! kernel waits for must never be in one.
//!
//! A child by fork(2) has a copy of our memory, which takes longer to make, to fill anew and to take apart than all that is
//! to be read. This task has our memory itself, as one has between vfork(2) and exec(2), and as there we stand still
//! meanwhile, so it may allocate, and leave its result where we find it. If it hangs it is left behind, but only in the
//! midst of a `touch`, where it changes nothing of what we have in common: to us it is as if all that it had in hand
//! was forgotten ([`std::mem::forget`]). Then the work is begun anew by another task that does not touch what hung.
//!
//! It is a process, not a thread: if it can't be ended, we can end all the same ([`child`](super::child)).
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::child::{close_but, exit_now};
use super::schedstat::{is_runnable, run_delay};

/// How long something that hangs may hold us up.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long something may hang after the first: long enough for whoever only waits for its turn at a lock.
const NEXT: Duration = Duration::from_millis(25);
/// So many things may hang before nothing is touched any more.
const HANGS: usize = 6;
/// Room for the work's calls, less a page at its end that nobody may touch, and [`ALTERNATE`].
const STACK: usize = 288 << 10;
const PAGE: usize = 64 << 10;
/// Room for a signal handler if that overflows: the kernel takes the alternate stack from a task that shares our memory
/// (`sas_ss_reset`, kernel/fork.c), and up to 5.15 whoever dies of a signal for want of one takes all with them who share it.
const ALTERNATE: usize = 32 << 10;

/// [`Common::state`]: the task touches something.
const TOUCHING: u32 = 1;
/// It was left behind.
const LEFT: u32 = 2;
/// Its result is there.
const DONE: u32 = 4;
/// From here on it counts what was touched.
const ONCE: u32 = 8;

/// What we and the task tell each other.
struct Common<'a> {
    /// Changed by the task, and by us only while it touches something.
    state: AtomicU32,
    /// What it touches.
    what: AtomicPtr<CStr0>,
    refused: &'a Refused,
}

/// What a C string begins with.
type CStr0 = std::ffi::c_char;

/// What is not touched.
#[derive(Default)]
struct Refused {
    /// What hung.
    hung: Vec<CString>,
    /// Anything.
    all: bool,
}

thread_local! {
    /// The work that is done here. The task finds the same one, since clone(2) leaves it the thread-local storage of the
    /// thread that made it.
    static CURRENT: Cell<*const Common<'static>> = const { Cell::new(ptr::null()) };
}

/// The task that works for us at the moment; 0 for none.
static TASK: AtomicI32 = AtomicI32::new(0);
/// How long former ones have waited for a processor, as far as that is worth a look. Nanoseconds.
static STARVED: AtomicI64 = AtomicI64::new(0);

/// What one task came to.
enum Ended<T> {
    /// It did the work.
    Done(T),
    /// It touched this, and was left behind.
    Hung(CString),
    /// It crashed.
    Crashed,
}

/// Does `work` in a task of its own. If that hangs for 50 ms in one touch, the work is done anew with that left out, and if
/// there is more and more of it, without touching anything, which takes some 0.2 s in all; one that is only slow, or waits
/// for a processor, is waited for. `opened` is what it needs of what is open. What it opens is not open here.
///
/// Where no task can be made the work is done here, without touching anything. `None` if the task crashed.
pub fn ask<T>(opened: &[BorrowedFd], work: impl Fn() -> T) -> Option<T> {
    ask_for(PATIENCE, opened, work)
}

fn ask_for<T>(patience: Duration, opened: &[BorrowedFd], work: impl Fn() -> T) -> Option<T> {
    if !CURRENT.get().is_null() {
        return Some(work());
    }
    let mut refused = Refused::default();
    loop {
        let patience = if refused.hung.is_empty() { patience } else { NEXT };
        let Ok(ended) = begin(patience, opened, &refused, &work) else {
            refused.all = true;
            return Some(without_touching(&refused, &work));
        };
        match ended {
            Ended::Done(told) => return Some(told),
            Ended::Crashed => return None,
            Ended::Hung(what) => {
                refused.hung.push(what);
                refused.all = refused.hung.len() > HANGS;
            }
        }
    }
}

/// Does the work here, where nothing may hang.
fn without_touching<T>(refused: &Refused, work: impl Fn() -> T) -> T {
    let common = Common { state: AtomicU32::new(0), what: AtomicPtr::new(ptr::null_mut()), refused };
    CURRENT.set((&raw const common).cast());
    let told = work();
    CURRENT.set(ptr::null());
    told
}

/// Ends the task that works for us at the moment, as far as that can be done. Fit for signal handlers.
pub fn abandon() {
    let task = TASK.load(Ordering::SeqCst);
    if task > 0 {
        let _ = kill(Pid::from_raw(task), Signal::SIGKILL);
    }
}

/// How long tasks that worked for us have waited for a processor, nanoseconds: that we waited for them is not our doing. Fit
/// for signal handlers.
pub fn starved() -> i64 {
    let task = TASK.load(Ordering::SeqCst);
    let now = if task == 0 { 0 } else { run_delay(Some(Pid::from_raw(task))) };
    STARVED.load(Ordering::SeqCst).saturating_add(now)
}

/// Whether something like that hung in this work before, and is left out now.
pub fn has_hung(is_it: impl Fn(&[u8]) -> bool) -> bool {
    of_refused(|refused| refused.hung.iter().any(|what| is_it(what.as_bytes())))
}

/// Whether so much hung in this work that nothing is touched any more.
pub fn touches_nothing() -> bool {
    of_refused(|refused| refused.hung.len() > HANGS)
}

fn of_refused(is_so: impl FnOnce(&Refused) -> bool) -> bool {
    // SAFETY: what is current stays there until the work is done or given up.
    let common = unsafe { CURRENT.get().as_ref() };
    common.is_some_and(|common| is_so(common.refused))
}

/// Makes a call that may never come back, of what messages and later work know as `what`. Outside of [`ask`] that is all.
///
/// # Errors
/// Those of the call; `TimedOut` if the same has hung before.
///
/// # Safety
/// `call` makes system calls that write into memory of its own, and does nothing else: above all it allocates nothing.
/// In the midst of it the task may be left behind, and the memory is used on.
pub(super) unsafe fn touch<T>(what: &CStr, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: as above.
    let Some(common) = (unsafe { CURRENT.get().as_ref() }) else { return call() };
    if common.refused.all || common.refused.hung.iter().any(|hung| **hung == *what) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    common.what.store(what.as_ptr().cast_mut(), Ordering::Relaxed);
    let touching = common.state.load(Ordering::Relaxed).wrapping_add(ONCE) | TOUCHING;
    common.state.store(touching, Ordering::Release);
    let result = call();
    let is_left = common.state.compare_exchange(touching, touching & !TOUCHING, Ordering::AcqRel, Ordering::Relaxed);
    if is_left.is_err() {
        exit_now(0);
    }
    result
}

/// What a task is given.
struct Given<'a, T> {
    work: &'a dyn Fn() -> T,
    opened: &'a [BorrowedFd<'a>],
    alternate: *mut c_void,
    common: &'a Common<'a>,
    told: UnsafeCell<Option<T>>,
}

/// Has one task do it, and waits for that.
fn begin<T>(
    patience: Duration,
    opened: &[BorrowedFd],
    refused: &Refused,
    work: &dyn Fn() -> T,
) -> io::Result<Ended<T>> {
    let stack = stack()?;
    // One that is left behind looks there once more on its way out, if it comes back at all before it is killed.
    let common: *mut Common =
        Box::into_raw(Box::new(Common { state: AtomicU32::new(0), what: AtomicPtr::new(ptr::null_mut()), refused }));
    // SAFETY: made just now, and never given back but at the end of this function.
    let shared = unsafe { &*common };
    let given = Given { work, opened, alternate: stack, common: shared, told: UnsafeCell::new(None) };
    let mut over: c_int = -1;
    CURRENT.set(common.cast());
    // SAFETY: the stack is aligned, nobody else's and never given back. The task has all our memory, which is sound since
    // nothing here runs beside it: between this call and the task's end, or its being left, we allocate nothing and change
    // nothing that it may look at. Before this returns the kernel has written the task's descriptor to `over`.
    let task = unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
        libc::clone(live::<T>, stack, flags, (&raw const given).cast_mut().cast(), &raw mut over)
    };
    if task < 0 {
        CURRENT.set(ptr::null());
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has made this descriptor just now, for us.
    let over = unsafe { OwnedFd::from_raw_fd(over) };
    let task = Pid::from_raw(task);
    TASK.store(task.as_raw(), Ordering::SeqCst);
    let has_ended = wait(task, over.as_fd(), &shared.state, patience);
    TASK.store(0, Ordering::SeqCst);
    CURRENT.set(ptr::null());
    if !has_ended {
        // SAFETY: a C string of the task's, which does nothing any more, and so lets go of nothing.
        let what = unsafe { CStr::from_ptr(shared.what.load(Ordering::Relaxed)) };
        return Ok(Ended::Hung(what.to_owned()));
    }
    let _ = waitpid(task, Some(WaitPidFlag::WNOHANG));
    let is_done = shared.state.load(Ordering::Acquire) & DONE != 0;
    // SAFETY: the task is at its end, and nobody else has this.
    drop(unsafe { Box::from_raw(common) });
    let told = given.told.into_inner();
    Ok(told.filter(|_| is_done).map_or(Ended::Crashed, Ended::Done))
}

/// Waits for the task's end, and says whether it came. A task that after `patience` is found twice in the same touch, and
/// could not go on, is left behind and killed. One that takes longer is looked at more seldom: on a machine that busy
/// each look takes away a processor from somebody.
fn wait(task: Pid, over: BorrowedFd, state: &AtomicU32, patience: Duration) -> bool {
    let (mut nap, mut before) = (patience * 4 / 5, None);
    for look in 0_u32.. {
        // Not by the C library, whose `errno` is the task's as well.
        let timeout = Timespec::try_from(nap).ok();
        if let Ok(1..) = poll(&mut [PollFd::from_borrowed_fd(over, PollFlags::IN)], timeout.as_ref()) {
            if look > 0 {
                STARVED.fetch_add(run_delay(Some(task)), Ordering::SeqCst);
            }
            break;
        }
        let now = state.load(Ordering::Acquire);
        if now & TOUCHING == 0 || is_runnable(task) {
            (nap, before) = (patience * (1 << look.min(2)), None);
        } else if before == Some(now) {
            let left = state.compare_exchange(now, now | LEFT, Ordering::AcqRel, Ordering::Relaxed);
            if left.is_ok() {
                STARVED.fetch_add(run_delay(Some(task)), Ordering::SeqCst);
                let _ = kill(task, Signal::SIGKILL);
                return false;
            }
        } else {
            (nap, before) = (patience / 5, Some(now));
        }
    }
    true
}

/// Where a task's stack begins, at its upper end; above that there is [`ALTERNATE`].
fn stack() -> io::Result<*mut c_void> {
    let size = const { NonZero::new(STACK).unwrap() };
    // SAFETY: new memory, of which nobody has a reference; the lower end is left without access.
    unsafe {
        let low = mmap_anonymous(None, size, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK)?;
        mprotect(low.byte_add(PAGE), STACK - PAGE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        Ok(low.byte_add(STACK - ALTERNATE).as_ptr())
    }
}

/// The task's whole life.
extern "C" fn live<T>(given: *mut c_void) -> c_int {
    // SAFETY: what `begin` has passed, and keeps until this ends or is left.
    let given = unsafe { &*given.cast::<Given<T>>() };
    // SAFETY: a system call on numbers. If we are killed nobody needs the answer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let alternate = libc::stack_t { ss_sp: given.alternate, ss_flags: 0, ss_size: ALTERNATE };
    // SAFETY: memory of this task's alone, which is never given back.
    unsafe { libc::sigaltstack(&raw const alternate, ptr::null_mut()) };
    // What a caller of ours left open must not stay so for as long as this hangs.
    close_but(given.opened.iter());
    let told = (given.work)();
    // SAFETY: nobody looks there before the task's end.
    unsafe { *given.told.get() = Some(told) };
    given.common.state.store(DONE, Ordering::Release);
    0
}

/// Touches something that never comes, and says how that went.
#[cfg(test)]
pub fn hang(what: &CStr) -> io::ErrorKind {
    let (reader, _writer) = io::pipe().unwrap();
    let mut byte = [0];
    // SAFETY: one read(2) into a buffer of ours.
    let read = unsafe { touch(what, || rustix::io::read(&reader, &mut byte).map_err(io::Error::from)) };
    read.unwrap_err().kind()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::mem::MaybeUninit;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_the_work_tells_is_ours() {
        let text = "x".repeat(100_000);
        let told = ask_for(LONG, &[], || text.split("").map(str::to_owned).collect::<Vec<_>>()).unwrap();
        assert_eq!((told.len(), told.concat()), (100_002, text.clone()));
        // Work within work is the same work.
        assert_eq!(ask_for(LONG, &[], || ask_for(LONG, &[], || text.len())), Some(Some(100_000)));
    }

    #[test]
    fn what_hangs_is_left_out_and_the_rest_is_done() {
        let short = Duration::from_millis(20);
        let work = || {
            let kept: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
            let first =
                (hang(c"/first/file"), has_hung(|what| what == b"/first/file"), has_hung(|what| what == b"/other"));
            (kept.concat().len(), first, hang(c"/second"), touches_nothing())
        };
        let timed_out = io::ErrorKind::TimedOut;
        assert_eq!(ask_for(short, &[], work), Some((2890, (timed_out, true, false), timed_out, false)));
        assert!(!has_hung(|_| true));
    }

    #[test]
    fn where_everything_hangs_nothing_is_touched() {
        let begun = Cell::new(0);
        let names: Vec<CString> = (0..100).map(|number| CString::new(number.to_string()).unwrap()).collect();
        let work = || {
            begun.set(begun.get() + 1);
            let count = names.iter().map(|name| hang(name)).filter(|kind| *kind == io::ErrorKind::TimedOut).count();
            (count, touches_nothing())
        };
        assert_eq!(ask_for(Duration::from_millis(20), &[], work), Some((100, true)));
        assert_eq!(begun.get(), HANGS + 2);
    }

    #[test]
    fn one_that_crashes_takes_nobody_along_and_one_that_is_slow_is_waited_for() {
        let pid = std::process::id();
        let crash = || {
            if std::process::id() != pid {
                exit_now(1);
            }
        };
        assert_eq!(ask_for(LONG, &[], crash), None);
        // It is never left in the midst of its own work, nor for being slow.
        let slow = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {}
            std::thread::sleep(Duration::from_millis(300));
            let began = Instant::now();
            let busy = || {
                while began.elapsed() < Duration::from_millis(300) {}
                Ok(())
            };
            // SAFETY: no system call that writes anywhere but to the stack.
            unsafe { touch(c"/x", busy) }.is_ok()
        };
        assert_eq!(ask_for(Duration::from_millis(10), &[], slow), Some(true));
    }

    #[test]
    fn a_task_has_a_stack_for_its_signals() {
        let size = || {
            let mut now = MaybeUninit::<libc::stack_t>::uninit();
            // SAFETY: the kernel fills it in.
            let now = unsafe {
                libc::sigaltstack(ptr::null(), now.as_mut_ptr());
                now.assume_init()
            };
            (now.ss_flags, now.ss_size)
        };
        assert_eq!(ask_for(LONG, &[], size), Some((0, ALTERNATE)));
        // Nor is it part of the other one.
        let far =
            || std::hint::black_box([1_u8; (STACK - PAGE - ALTERNATE) / 4]).iter().map(|&one| usize::from(one)).sum();
        assert_eq!(ask_for(LONG, &[], far), Some((STACK - PAGE - ALTERNATE) / 4));
    }

    #[test]
    fn where_no_task_can_be_made_nothing_is_touched() {
        let refused = Refused { hung: Vec::new(), all: true };
        let told = without_touching(&refused, || (hang(c"/x"), touches_nothing()));
        assert_eq!(told, (io::ErrorKind::TimedOut, false));
        assert!(CURRENT.get().is_null());
    }

    #[test]
    fn a_task_has_what_it_needs_and_nothing_else_open() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let work = || ((&reader).read(&mut [0]).unwrap(), rustix::io::fcntl_getfd(&writer).is_ok());
        assert_eq!(ask_for(LONG, &[reader.as_fd()], work), Some((1, false)));
        // Here it is open still.
        writer.write_all(b"x").unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
    }
}

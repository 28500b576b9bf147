//! What happens to a request when we fail ourselves: a panic, a crash, memory that can't be had, time that runs out.
//!
//! Everything needed is laid out before anything can fail, and leaving takes only async-signal-safe calls
//! (signal-safety(7)). Blocked stays blocked; what was permitted is handed to modprobe; before the verdict the policy's
//! `on_failure` counts, with one exception.
//!
//! Time that runs out is no failure of the guard's alone: whoever keeps disk or memory busy can bring it about, and is to
//! get past no rule by it. So before the verdict time that runs out blocks whatever a block that is carried out could
//! still have stopped, `on_failure` or not. Where no such rule concerns the request, as with the shipped default, it
//! passes. What the policy says is waited for longer, and if even that can't be had the answer is 1.

mod clock;
mod say;

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, Ordering::SeqCst};

use crate::delegate::{ENVIRONMENT, VARIABLE, is_native};
use crate::host::apart;
use crate::invocation;

pub use clock::{PATIENCE, policy_is_known, run_clock, stop_clock};

/// Signals by which we crash.
pub const CRASHES: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];
/// More arguments than the kernel or libxtables ever send; with more, leaving means status 1.
const MAX_ARGUMENTS: usize = 64;
/// How far a request has come.
static PHASE: AtomicU8 = AtomicU8::new(Phase::Undecided as u8);
/// `on_failure = "allow"`.
static FAILURE_ALLOWS: AtomicBool = AtomicBool::new(true);
/// No block that is carried out could still come. Before the policy is known, nobody can say so.
static TIME_ALLOWS: AtomicBool = AtomicBool::new(false);
/// The delegate's status, once it ended.
static STATUS: AtomicI32 = AtomicI32::new(1);
/// The process that answers the request; children of ours only end.
static ANSWERING: AtomicI32 = AtomicI32::new(0);
static ARGUMENTS: [AtomicPtr<c_char>; MAX_ARGUMENTS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_ARGUMENTS];
/// `delegate` of the policy, which may be all that is right here; empty before it is known.
static DELEGATE: [AtomicU8; 512] = [const { AtomicU8::new(0) }; 512];
static ALTERNATE_STACK: [AtomicU8; 65536] = [const { AtomicU8::new(0) }; 65536];

/// The value of [`VARIABLE`] in what leaving starts: whoever finds it in its environment is in modprobe's place by
/// mistake and would fail as we did.
pub const LEFT: &[u8] = b"failed";

/// How far a request has come.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No verdict yet.
    Undecided,
    /// The answer is 1, whatever comes.
    Blocked,
    /// The delegate is to be run.
    Permitted,
    /// It was run; its status is the answer.
    Delegated,
}

/// Lays everything out; call it first. Nothing is allocated before it is done.
///
/// # Safety
/// `argv` is the process's own argument vector: `argc` pointers to C strings that nobody frees.
pub unsafe fn launch(argc: c_int, argv: *const *const c_char) {
    ANSWERING.store(own_pid(), SeqCst);
    // SAFETY: each of the first argc pointers leads to a C string.
    take_arguments(&mut (0..usize::try_from(argc).unwrap_or(0)).map(|at| unsafe { CStr::from_ptr(*argv.add(at)) }));
    use_alternate_stack();
    CRASHES.into_iter().for_each(catch);
    catch(libc::SIGALRM);
    take_default_signals();
    std::panic::set_hook(Box::new(|panic| {
        // A child that fails answers nobody.
        if own_pid() == ANSWERING.load(SeqCst) {
            crate::audit::complain(&format!("panic: {panic}; {}", promise()));
        }
        leave()
    }));
    run_clock();
}

/// What leaving runs modprobe with: these, the program's own name included.
pub fn take_arguments(arguments: &mut dyn Iterator<Item = &'static CStr>) {
    let mut stands_in = false;
    for (at, slot) in ARGUMENTS.iter().enumerate() {
        let argument = match (at, arguments.next()) {
            (_, None) => ptr::null_mut(),
            // The last place is for the null that ends them. Too many are none.
            (_, Some(_)) if at.saturating_add(1) == MAX_ARGUMENTS => {
                return drop_arguments(&std::array::from_fn::<usize, MAX_ARGUMENTS, _>(|at| at));
            }
            (0, Some(program)) => {
                stands_in = invocation::is_modprobe(program.to_bytes());
                c"modprobe".as_ptr().cast_mut()
            }
            (1, Some(first)) if first == c"--hook" && !stands_in => c"--ignore-install".as_ptr().cast_mut(),
            (_, Some(argument)) => argument.as_ptr().cast_mut(),
        };
        slot.store(argument, SeqCst);
    }
}

/// The policy's own modprobe comes first. A path too long for the buffer is passed over, as a broken one would be.
pub fn set_delegate(path: &str) {
    if path.len() < DELEGATE.len() {
        // The first byte last: until then the path is an empty one, never half of one.
        for (slot, byte) in DELEGATE.iter().zip(path.bytes()).rev() {
            slot.store(byte, SeqCst);
        }
    }
}

/// What the policy says is to happen if we fail before the verdict.
pub fn set_failure_allows(allows: bool) {
    FAILURE_ALLOWS.store(allows, SeqCst);
}

/// Whether a request may pass if time runs out before the verdict.
pub fn set_time_allows(allows: bool) {
    TIME_ALLOWS.store(allows, SeqCst);
}

/// Takes the arguments at these places, ascending, out of what leaving would run: they are blocked.
pub fn drop_arguments(places: &[usize]) {
    let kept = ARGUMENTS.iter().enumerate().filter(|(at, _)| !places.contains(at)).map(|(_, slot)| slot);
    let mut kept = kept.map(|slot| slot.load(SeqCst));
    for slot in &ARGUMENTS {
        // Each slot is read before it is written: what is kept only moves down.
        slot.store(kept.next().unwrap_or(ptr::null_mut()), SeqCst);
    }
}

/// Says how far the request has come.
pub fn set_phase(phase: Phase) {
    PHASE.store(phase as u8, SeqCst);
}

/// Says what the delegate answered.
pub fn set_status(status: i32) {
    STATUS.store(status, SeqCst);
    set_phase(Phase::Delegated);
}

fn promise() -> &'static str {
    match PHASE.load(SeqCst) {
        phase if phase == Phase::Blocked as u8 => "the request stays blocked",
        phase if phase == Phase::Delegated as u8 => "the load stands",
        phase if phase == Phase::Undecided as u8 && !FAILURE_ALLOWS.load(SeqCst) => "the request is blocked",
        _ => "the request is handed to modprobe",
    }
}

/// Ends this process with the best answer there is.
pub fn leave() -> ! {
    if own_pid() == ANSWERING.load(SeqCst) {
        apart::abandon();
        let phase = PHASE.load(SeqCst);
        if phase == Phase::Delegated as u8 {
            exit(STATUS.load(SeqCst));
        }
        let undecided = phase == Phase::Undecided as u8;
        if phase == Phase::Permitted as u8 || (undecided && FAILURE_ALLOWS.load(SeqCst)) {
            become_modprobe();
        }
    }
    exit(1)
}

/// Replaces this process by the first known modprobe that is not ourselves; returns if there is none.
fn become_modprobe() {
    if ARGUMENTS.first().is_none_or(|first| first.load(SeqCst).is_null()) {
        return;
    }
    stop_clock();
    // VARIABLE=LEFT, spelt out since nothing may be put together here.
    const _: () = assert!(matches!(VARIABLE.as_bytes(), b"MODPROBE_GUARD") && matches!(LEFT, b"failed"));
    let [home, term, path] = ENVIRONMENT;
    let environment =
        [home.as_ptr(), term.as_ptr(), path.as_ptr(), c"MODPROBE_GUARD=failed".as_ptr(), ptr::null::<c_char>()];
    // SAFETY: plain system calls on our own signal state.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_UNBLOCK, &all, ptr::null_mut());
        for signal in [libc::SIGCHLD, libc::SIGPIPE, libc::SIGXFSZ] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    // Not to run this program in modprobe's place.
    let ours = own_identity();
    // SAFETY: a static that ends with a NUL (AtomicU8 has the layout of a byte), and that nothing changes any more.
    let delegate = unsafe { CStr::from_ptr(DELEGATE.as_ptr().cast()) };
    for candidate in [delegate].into_iter().chain(KNOWN_PATHS) {
        let is_other = identity(candidate).is_some_and(|found| Some(found) != ours);
        if is_other && is_native(candidate) {
            // SAFETY: ARGUMENTS is an array of C strings that ends with a null (AtomicPtr has the layout of a pointer),
            // and so is the environment. Returns only if it failed.
            unsafe { libc::execve(candidate.as_ptr(), ARGUMENTS.as_ptr().cast(), environment.as_ptr()) };
        }
    }
}

/// [`crate::delegate::KNOWN`] as C strings: none can be made when memory is what we lack.
pub const KNOWN_PATHS: [&CStr; 8] = [
    c"/sbin/modprobe.unguarded",
    c"/usr/sbin/modprobe.unguarded.usr",
    c"/sbin/modprobe",
    c"/usr/sbin/modprobe",
    c"/bin/kmod",
    c"/usr/bin/kmod",
    c"/sbin/kmod",
    c"/usr/sbin/kmod",
];

extern "C" fn on_signal(signal: c_int) {
    // One that shares our memory is to change nothing in it.
    if own_pid() != ANSWERING.load(SeqCst) {
        exit(1);
    }
    if signal == libc::SIGALRM {
        // What was interrupted may be about to look at errno.
        let errno = nix::errno::Errno::last();
        if clock::goes_on() {
            errno.set();
            return;
        }
    }
    if signal == libc::SIGALRM && !TIME_ALLOWS.load(SeqCst) {
        // As if `on_failure` were "block": what is permitted already still is.
        set_failure_allows(false);
    }
    say::now(match signal {
        libc::SIGALRM => b"own work took over 2 s; answered without its end",
        _ => b"crashed; answered as on_failure says",
    });
    leave()
}

/// So that a stack that overflowed can be left as well.
fn use_alternate_stack() {
    let stack = libc::stack_t {
        ss_sp: ALTERNATE_STACK.as_ptr().cast_mut().cast(),
        ss_flags: 0,
        ss_size: ALTERNATE_STACK.len(),
    };
    // SAFETY: the stack is a static of ours that nothing else uses.
    unsafe { libc::sigaltstack(&stack, ptr::null_mut()) };
}

/// What we need of signals, whatever our caller ignored: exec(2) passes that on to us.
fn take_default_signals() {
    // SAFETY: plain system calls on our own signal state; no handler is involved.
    unsafe {
        // A limit on the size of files (setrlimit(2)) is to lose a record, not the answer.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        // Blocked signals stay so over exec(2): the clock must ring.
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

fn catch(signal: c_int) {
    // SAFETY: the handler makes async-signal-safe calls only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        // A second crash ends us; the clock may ring again.
        let once = if signal == libc::SIGALRM { libc::SA_RESTART } else { libc::SA_RESETHAND };
        action.sa_flags = libc::SA_ONSTACK | once;
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}

fn own_pid() -> i32 {
    // SAFETY: getpid has no preconditions.
    unsafe { libc::getpid() }
}

/// Ends this process at once.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Device and inode of this program.
pub fn own_identity() -> Option<(u64, u64)> {
    identity(c"/proc/self/exe").or_else(|| identity(c"/usr/sbin/modprobe-guard"))
}

/// Device and inode of what `path` leads to.
pub fn identity(path: &CStr) -> Option<(u64, u64)> {
    // SAFETY: stat fills a buffer of ours, which all zeroes is a value of.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        (libc::stat(path.as_ptr(), &mut found) == 0).then_some((found.st_dev, found.st_ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_of_modprobes_are_one() {
        let paths: Vec<&str> = KNOWN_PATHS.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, crate::delegate::KNOWN);
        assert_eq!(paths[..2], crate::host::REAL);
    }
}

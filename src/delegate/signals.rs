//! Signals while the delegate runs. What is meant for the modprobe that somebody thinks we are goes on to it, and we do
//! not end before it does: what it loaded is to be sized and recorded.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};

/// The delegate, while there is one.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// What came before it was there.
static WAITING: AtomicI32 = AtomicI32::new(0);
static LED_BACK: AtomicBool = AtomicBool::new(false);

/// What goes on to the delegate.
pub const PASSED_ON: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// And what one of ours in its place says.
const WATCHED: [Signal; 4] = {
    let [one, other, third] = PASSED_ON;
    [Signal::SIGUSR1, one, other, third]
};

/// From here on signals are taken care of. One that our caller ignores stays ignored, but for the one that tells of a child's
/// end: the delegate would be gone before its status could be read (wait(2)).
pub fn watch() {
    // SAFETY: no handler is involved.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in WATCHED {
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe {
            let before = sigaction(signal, &action);
            if let Ok(before) = before
                && matches!(before.handler(), SigHandler::SigIgn)
            {
                let _ = sigaction(signal, &before);
            }
        }
    }
}

/// The delegate is there; 0: it ended.
pub fn set_child(pid: i32) {
    CHILD.store(pid, SeqCst);
    send(WAITING.swap(0, SeqCst));
}

/// Whether one of ours found itself in the delegate's place, and said so by SIGUSR1.
pub fn led_back() -> bool {
    LED_BACK.load(SeqCst)
}

extern "C" fn on_signal(signal: i32) {
    if signal == libc::SIGUSR1 {
        return LED_BACK.store(true, SeqCst);
    }
    send(signal);
}

fn send(signal: i32) {
    match CHILD.load(SeqCst) {
        0 => WAITING.store(signal, SeqCst),
        child => {
            // SAFETY: a system call. Until it has been waited for the number is the delegate's own.
            unsafe { libc::kill(child, signal) };
        }
    }
}

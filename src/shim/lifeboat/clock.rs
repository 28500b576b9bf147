//! How long our own work may take.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use crate::host::{apart, schedstat};

/// An end to our own work, in microseconds: what the requester waits for beyond that is the delegate's.
pub const PATIENCE: i64 = 2_000_000;
/// Time in which we could run and got no processor does not count, up to this: on a machine that busy nothing hangs.
const MAX_STARVED: i64 = 8_000_000;
/// So much of it was allowed for so far.
static STARVED: AtomicI64 = AtomicI64::new(0);
/// What is left of [`PATIENCE`] while the delegate runs.
static LEFT_OVER: AtomicI64 = AtomicI64::new(PATIENCE);

/// Until the policy is known there is no answer that its author would have expected, so it gets as much longer.
const MAX_UNKNOWN: i64 = 8_000_000;
/// So much of it was taken so far.
static UNKNOWN: AtomicI64 = AtomicI64::new(0);
/// The policy was read.
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// The policy was read: what it took longer is not taken from the rest.
pub fn policy_is_known() {
    if !IS_KNOWN.swap(true, SeqCst) && UNKNOWN.load(SeqCst) > 0 {
        set_timer(PATIENCE);
    }
}

/// From here the time is ours, until [`stop_clock`] or [`PATIENCE`] is over.
pub fn run_clock() {
    set_timer(LEFT_OVER.load(SeqCst));
}

/// From here the time is the delegate's.
pub fn stop_clock() {
    // A little is always left to write the record.
    LEFT_OVER.store(set_timer(0).max(PATIENCE / 8), SeqCst);
}

/// Sets the timer that ends our patience, in microseconds, 0 for never; what was left of the old one.
fn set_timer(microseconds: i64) -> i64 {
    let value = |tv_sec, tv_usec| libc::timeval { tv_sec, tv_usec };
    let mut timer = libc::itimerval {
        it_interval: value(0, 0),
        it_value: value(microseconds / 1_000_000, microseconds % 1_000_000),
    };
    let new = timer;
    // SAFETY: two valid timers.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &new, &mut timer) };
    timer.it_value.tv_sec * 1_000_000 + timer.it_value.tv_usec
}

/// Called when the clock rings: whether it is set once more. Time in which we got no processor is allowed for.
pub fn goes_on() -> bool {
    let unknown = UNKNOWN.load(SeqCst);
    if !IS_KNOWN.load(SeqCst) && unknown < MAX_UNKNOWN {
        UNKNOWN.store(unknown + PATIENCE, SeqCst);
        set_timer(PATIENCE);
        return true;
    }
    let before = STARVED.load(SeqCst);
    let more = starved().min(MAX_STARVED) - before;
    if more < PATIENCE / 8 {
        return false;
    }
    STARVED.store(before + more, SeqCst);
    set_timer(more);
    true
}

/// How long this process, and what works for it while it waits, has waited for a processor in all, microseconds.
fn starved() -> i64 {
    schedstat::run_delay(None).saturating_add(apart::starved()) / 1000
}

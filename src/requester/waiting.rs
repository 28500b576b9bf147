//! Whether a task waits for a module, and where in the kernel it came to that.

use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::host::Host;
use crate::requester::task::Stat;
use crate::text::Text;

/// What a look at a task told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It stands in a module request; made at this place, if that could be read.
    Yes(Option<Text>),
    /// It does something else.
    No,
    /// It sleeps as one does who waits, and nobody may see for what.
    Hidden,
    /// It runs on a processor at this moment.
    CannotTell,
}

/// The function in which a task waits (kernel/module/kmod.c).
const REQUEST: &[u8] = b" __request_module+";
/// The same one call deeper, for any helper of user space; `wchan` of 6.1 and later.
const HELPER: &[u8] = b"call_usermodehelper_exec";

/// So many looks, so far apart, find one asleep that is about to be.
const LOOKS: usize = 8;
const APART: Duration = Duration::from_micros(250);
/// If that is not enough. Time that it has run is counted at every tick of the clock, 1 to 10 ms.
const FURTHER_APART: Duration = Duration::from_millis(10);
/// One that has run on so often is on its way to something else: to sleep takes some microseconds, so few are interrupted in the
/// midst of that, and hardly any a second time.
const RUNS: usize = 5;
/// Bytes of a stack that are read.
const MAX_STACK: usize = 16 << 10;

/// Looks at a process or, as `PID/task/TID`, at a thread.
pub fn look(host: &Host, task: &str) -> Waiting {
    let stack = || host.glimpse(format!("/proc/{task}/stack"), MAX_STACK);
    let first = stack();
    if let Ok(first) = &first
        && !first.is_empty()
    {
        // The stack of a task that begins to run while the kernel walks it comes out as anything: that it waits is sure
        // if the stack says so, that it does not only if it says so twice and the task sleeps.
        return match of_stack(first) {
            Waiting::No if Stat::read(host, task).is_some_and(|stat| stat.state == b'R') => Waiting::CannotTell,
            Waiting::No => match stack() {
                Ok(second) if !second.is_empty() => of_stack(&second),
                _ => Waiting::CannotTell,
            },
            waits => waits,
        };
    }
    // A task on a processor has no stack to show; where nobody may read stacks, `wchan` tells half of it.
    match Stat::read(host, task).map(|stat| stat.state) {
        Some(b'D') => match host.glimpse_line(format!("/proc/{task}/wchan")).as_deref() {
            Some(HELPER) => Waiting::Yes(None),
            Some(b"0" | b"") | None if first.is_err() => Waiting::Hidden,
            Some(b"0" | b"") | None => Waiting::CannotTell,
            Some(_) => Waiting::No,
        },
        Some(b'R') => Waiting::CannotTell,
        _ => Waiting::No,
    }
}

/// Whether a task that was found waiting waits still, as far as anybody may see. `None` if it is on a processor at every look:
/// it may be on its way to sleep, or run another program by now.
pub fn still_waits(host: &Host, task: &str) -> Option<bool> {
    for _ in 0..LOOKS {
        match look(host, task) {
            Waiting::Yes(_) | Waiting::Hidden => return Some(true),
            Waiting::No => return Some(false),
            Waiting::CannotTell => nap(),
        }
    }
    None
}

/// How one that can be on a processor gets on, over several looks.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How long it has run, nanoseconds.
    ran: Option<u64>,
    /// How often that was more than before.
    grew: usize,
}

impl Progress {
    /// Looks once more; whether it has run on, and so is not on its way to sleep. One that gets no processor may be.
    pub fn goes_on(&mut self, host: &Host, task: &str) -> bool {
        // The first number of Documentation/scheduler/sched-stats.rst; without that nobody knows, and it counts.
        let line = host.glimpse_line(format!("/proc/{task}/schedstat")).unwrap_or_default();
        let ran =
            line.split(|&byte| byte == b' ').next().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let has_run = ran.is_none() || self.ran.is_some_and(|before| ran > Some(before));
        self.ran = ran;
        self.grew = self.grew.saturating_add(usize::from(has_run));
        self.grew >= RUNS
    }
}

/// Whether a task sleeps in functions whose names begin like this, as far as anybody may see.
pub fn waits_within(host: &Host, task: &str, functions: &[u8]) -> bool {
    let stack = host.glimpse(format!("/proc/{task}/stack"), MAX_STACK).unwrap_or_default();
    stack.is_empty() || stack.windows(functions.len()).any(|window| window == functions)
}

/// So long a task is left alone between two looks at it.
pub fn nap() {
    sleep(APART);
}

/// The same if it is looked at for long.
pub fn long_nap() {
    sleep(FURTHER_APART);
}

fn sleep(time: Duration) {
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &time.into());
}

/// Whether this kernel shows what tasks wait for, one way or the other.
pub fn can_be_seen(host: &Host) -> bool {
    let stack = host.line("/proc/self/stack").is_some_and(|stack| !stack.is_empty());
    // kthreadd sleeps nearly always.
    stack || host.line("/proc/2/wchan").is_some_and(|function| function.len() > 1)
}

/// Reads a kernel stack, innermost call first: `[<0>] FUNCTION+OFFSET/LENGTH [MODULE]`.
fn of_stack(stack: &[u8]) -> Waiting {
    let mut calls = stack.split(|&byte| byte == b'\n');
    if !calls.any(|call| call.windows(REQUEST.len()).any(|window| window == REQUEST)) {
        return Waiting::No;
    }
    let caller = calls.next().and_then(|call| call.get(call.iter().position(|&byte| byte == b' ')? + 1..));
    Waiting::Yes(caller.filter(|caller| !caller.is_empty()).map(Text::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_stands_below_the_request() {
        let stack = b"[<0>] call_usermodehelper_exec+0x12e/0x160\n[<0>] __request_module+0x1b0/0x3a0\n\
            [<0>] inet_create+0x2e/0x3c0 [ipv6]\n[<0>] __sock_create+0x10/0x20\n";
        assert_eq!(of_stack(stack), Waiting::Yes(Some("inet_create+0x2e/0x3c0 [ipv6]".into())));
        let last = b"[<0>] __request_module+0x1b0/0x3a0\n";
        assert_eq!(of_stack(last), Waiting::Yes(None));
        for other in [&b"[<0>] my__request_module+0x1/0x2\n"[..], b"[<0>] __request_modules+0x1/0x2\n", b"\n", b"x"] {
            assert_eq!(of_stack(other), Waiting::No);
        }
    }

    #[test]
    fn who_gets_no_processor_is_not_who_runs_on() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        let task = root.path().join("proc/7");
        std::fs::create_dir_all(&task).unwrap();
        for (step, expected) in [(1, vec![false, false, false, false, false, true, true]), (0, vec![false; 40])] {
            let mut progress = Progress::default();
            let told = (0..expected.len()).map(|look| {
                std::fs::write(task.join("schedstat"), format!("{} 99 7\n", 1000 + look * step)).unwrap();
                progress.goes_on(&host, "7")
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{step}");
        }
        std::fs::remove_file(task.join("schedstat")).unwrap();
        let mut progress = Progress::default();
        assert_eq!(
            (0..6).map(|_| progress.goes_on(&host, "7")).collect::<Vec<_>>(),
            [false, false, false, false, true, true]
        );
    }

    #[test]
    fn a_host_without_stacks_has_the_half() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        let task = root.path().join("proc/7");
        std::fs::create_dir_all(&task).unwrap();
        let write = |name: &str, text: &str| std::fs::write(task.join(name), text).unwrap();
        for (state, wchan, expected) in [
            ("D", "call_usermodehelper_exec", Waiting::Yes(None)),
            ("D", "0", Waiting::CannotTell),
            ("D", "io_schedule", Waiting::No),
            ("R", "0", Waiting::CannotTell),
            ("S", "call_usermodehelper_exec", Waiting::No),
        ] {
            write("stat", &format!("7 (x) {state} 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0"));
            write("wchan", wchan);
            write("stack", "");
            assert_eq!(look(&host, "7"), expected, "{state} {wchan}");
        }
        for (state, wchan, expected) in [
            ("D", "call_usermodehelper_exec", Waiting::Yes(None)),
            ("D", "0", Waiting::Hidden),
            ("D", "io_schedule", Waiting::No),
            ("R", "0", Waiting::CannotTell),
            ("S", "0", Waiting::No),
        ] {
            let _ = std::fs::remove_file(task.join("stack"));
            write("stat", &format!("7 (x) {state} 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0"));
            write("wchan", wchan);
            assert_eq!(look(&host, "7"), expected, "{state} {wchan}, no stack to read");
        }
        write("stack", "[<0>] do_nanosleep+0x1/0x2\n");
        assert_eq!(look(&host, "7"), Waiting::No);
        // Walked while it began to run.
        write("stat", "7 (x) R 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0");
        assert_eq!(look(&host, "7"), Waiting::CannotTell);
        write("stack", "[<0>] __request_module+0x1/0x2\n[<0>] f+0x1/0x2\n");
        assert_eq!(look(&host, "7"), Waiting::Yes(Some("f+0x1/0x2".into())));
        assert_eq!(look(&host, "8"), Waiting::No);
    }
}

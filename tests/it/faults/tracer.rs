//! Stands between the helper and the kernel (ptrace(2)), to have one of its system calls fail, or to kill it there.

use std::io;

/// What becomes of the helper at its `at`th system call, the first after exec(2) being 1.
#[derive(Clone, Copy, Debug)]
pub struct Interruption {
    pub at: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// It is killed before the call is made.
    Kill,
    /// The call is not made, and gives this error.
    Error(i32),
    /// It stops before the call is made, until [`go_on`].
    Pause,
    /// Nothing: calls are counted.
    Count,
}

/// From here on whoever started this process traces it. Called in the child, before exec(2).
pub fn trace_me() -> io::Result<()> {
    // SAFETY: a system call on ourselves.
    check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0_usize, 0_usize, 0_usize) }).map(drop)
}

/// How far a helper came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Followed {
    /// So many system calls.
    pub calls: usize,
    /// It came to its own `main`, whose first concern is what becomes of it if it fails.
    pub is_launched: bool,
    /// As waitpid(2) tells, if it ended.
    pub status: Option<i32>,
}

/// Follows the child `pid`, which called [`trace_me`], up to its interruption, and lets it go.
pub fn follow(pid: i32, interruption: Interruption) -> io::Result<Followed> {
    let ended = |status: i32| libc::WIFEXITED(status) || libc::WIFSIGNALED(status);
    let mut status = wait(pid)?;
    // Told of another exec(2) we need not pass on the signal that it is without that.
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC;
    // SAFETY: as in all of these: a system call on a child that has stopped.
    check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0_usize, options as usize) })?;
    let (mut calls, mut entered, mut signal, mut is_launched) = (0, false, 0, false);
    let followed = |calls, is_launched, status| Ok(Followed { calls, is_launched, status });
    while !ended(status) {
        // SAFETY: see above.
        check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0_usize, signal as usize) })?;
        status = wait(pid)?;
        signal = 0;
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
            let is_exec = status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8;
            signal = if is_exec { 0 } else { libc::WSTOPSIG(status) };
            continue;
        }
        entered = !entered;
        calls += usize::from(entered);
        if entered && !is_launched {
            is_launched = registers(pid)?.orig_rax == libc::SYS_sigaltstack as u64;
        }
        if !entered || calls < interruption.at {
            continue;
        }
        match interruption.what {
            What::Count => {}
            What::Pause => return followed(calls, is_launched, None),
            What::Kill => {
                // SAFETY: a child of ours that was not waited for yet.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                return followed(calls, is_launched, Some(wait(pid)?));
            }
            What::Error(error) => {
                change(pid, |registers| registers.orig_rax = u64::MAX)?;
                // SAFETY: see above.
                check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0_usize, 0_usize) })?;
                status = wait(pid)?;
                if ended(status) {
                    break;
                }
                change(pid, |registers| registers.rax = i64::from(-error) as u64)?;
                // SAFETY: see above.
                check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0_usize, 0_usize) })?;
                return followed(calls, is_launched, None);
            }
        }
    }
    followed(calls, is_launched, Some(status))
}

/// Lets one go that stands still.
pub fn go_on(pid: i32) -> io::Result<()> {
    // SAFETY: a system call on a child that has stopped.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0_usize, 0_usize) }).map(drop)
}

fn registers(pid: i32) -> io::Result<libc::user_regs_struct> {
    // SAFETY: the kernel fills a structure of ours, of which all zeroes is a value.
    unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        check(libc::ptrace(libc::PTRACE_GETREGS, pid, 0_usize, &mut registers)).map(|_| registers)
    }
}

fn change(pid: i32, change: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
    let mut registers = registers(pid)?;
    change(&mut registers);
    // SAFETY: the kernel reads a structure of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0_usize, &registers) }).map(drop)
}

fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the kernel writes a number of ours.
    check(unsafe { libc::waitpid(pid, &mut status, libc::__WALL) }.into()).map(|_| status)
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

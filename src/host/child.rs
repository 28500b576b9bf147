//! Work that may never end, done in a child process that nobody has to wait for.
//!
//! A thread would not do: a process ends, for the kernel that waits for it, when its last thread has ended, and a
//! thread that reads another process's memory or writes to a frozen disk may never end.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};

use super::schedstat::is_runnable;

/// What a child says on its way; see [`ask`].
struct Answers {
    reader: PipeReader,
    vigil: Vigil,
    bytes: Vec<u8>,
}

/// How long a child is waited for.
struct Vigil {
    child: Pid,
    deadline: Instant,
    /// Also for one that is only slow.
    last: Instant,
}

/// What a wait came to.
enum Seen {
    /// What was awaited.
    Something,
    /// Nothing yet.
    Nothing,
    /// The patience is at its end, and the child is killed, as far as it can be.
    GivenUp,
}

/// So long nobody looks at what a child has said before its end.
const QUICK: Duration = Duration::from_millis(5);
/// How many times its patience a child gets that does not hang, but only waits for its turn on a busy machine.
const TURNS: u32 = 4;

/// Runs `work` in a child, which writes its answer in any number of parts; the answer is what came before it ended or
/// `patience` ran out. A child that has not ended by then is killed, as far as it can be; one that could run and only
/// waits for a processor gets up to four times as long. `opened` is what it needs of what is open.
///
/// # Errors
/// Those of pipe(2) and fork(2).
pub fn ask(patience: Duration, opened: &[BorrowedFd], work: impl FnOnce(&mut dyn Write)) -> io::Result<Vec<u8>> {
    let began = Instant::now();
    let (reader, mut writer) = pipe()?;
    // SAFETY: this program has one thread, so the child has a whole and consistent copy of it.
    match unsafe { fork() }? {
        ForkResult::Child => {
            close_but(opened.iter().chain([&writer.as_fd()]));
            work(&mut writer);
            // Nobody has to wait until this process is taken down.
            drop(writer);
            exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            Ok(Answers { reader, vigil: Vigil::new(child, began, patience), bytes: Vec::new() }.wait())
        }
    }
}

/// Starts `work` in a process of its own, in a session of its own, that is nobody's concern any more. `opened` is what
/// it needs of what is open.
///
/// # Errors
/// Those of fork(2).
pub fn detach(opened: &[BorrowedFd], work: impl FnOnce()) -> io::Result<()> {
    // SAFETY: as above.
    match unsafe { fork() }? {
        ForkResult::Child => {
            // Who waits for the end of our output (a shell's `$(...)`) must not wait for this process.
            close_but(opened.iter());
            let _ = nix::unistd::setsid();
            let _ = nix::unistd::chdir("/");
            if let Ok(nowhere) = File::open("/dev/null").or_else(|_| File::open("/")) {
                for standard in 0..=2 {
                    // SAFETY: dup2 on descriptors 0 to 2, which nothing in this process owns as an object.
                    unsafe { libc::dup2(nowhere.as_raw_fd(), standard) };
                }
            }
            drop_capabilities();
            work();
            exit_now(0)
        }
        ForkResult::Parent { .. } => Ok(()),
    }
}

/// What writing to a disk may take, also one that is full, and where a directory is somebody else's: CAP_CHOWN,
/// CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_RESOURCE (include/uapi/linux/capability.h).
const KEPT_CAPABILITIES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24;

/// Lets go of all other capabilities: what is nobody's concern any more must not load modules, nor change the kernel. A
/// child that is waited for keeps them: of another's kernel stack not even root may see anything without CAP_SYS_ADMIN.
fn drop_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3`: capabilities(7) in two words of 32 bits.
    const VERSION: u32 = 0x2008_0522;
    let mut head = [VERSION, 0];
    // Effective, permitted and inheritable: the lower half, then the upper one.
    let mut sets = [0_u32; 6];
    // SAFETY: a head of two words of which the second means ourselves, and room for the six words of that version.
    if unsafe { libc::syscall(libc::SYS_capget, head.as_mut_ptr(), sets.as_mut_ptr()) } == 0 {
        let [effective, permitted, ..] = sets.map(|set| set & KEPT_CAPABILITIES);
        let kept = [effective, permitted, 0, 0, 0, 0];
        // SAFETY: as above; only read.
        unsafe { libc::syscall(libc::SYS_capset, head.as_mut_ptr(), kept.as_ptr()) };
    }
}

/// Closes all but the standard descriptors and `opened`: a child that hangs must not keep a pipe or a socket open that
/// our caller left to us, nor one of ours. Nothing else is used in a child, nor let go of at its end ([`exit_now`]).
pub(super) fn close_but<'a>(opened: impl Iterator<Item = &'a BorrowedFd<'a>>) {
    let mut kept: Vec<u32> = opened.filter_map(|opened| u32::try_from(opened.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept.into_iter().filter(|&kept| kept > 2) {
        close_range(first, kept - 1);
        first = kept + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: a system call on numbers; no object of those descriptors is used any more, see `close_but`.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Ends this process without running anything on the way out: what is buffered belongs to the parent.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

impl Vigil {
    /// Over `child`, which has been at it since `began`.
    fn new(child: Pid, began: Instant, patience: Duration) -> Vigil {
        Vigil { child, deadline: began + patience, last: began + patience * TURNS }
    }

    /// Waits for `awaited` of a descriptor that the child's end changes, for at most `nap`.
    fn wait(&mut self, descriptor: BorrowedFd, awaited: PollFlags, nap: Duration) -> Seen {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let milliseconds = u16::try_from(left.min(nap).as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            match poll(&mut [PollFd::new(descriptor, awaited)], PollTimeout::from(milliseconds)) {
                Ok(0) if nap < left => return Seen::Nothing,
                Ok(0) => {
                    let now = Instant::now();
                    if now >= self.last || !is_runnable(self.child) {
                        let _ = kill(self.child, Signal::SIGKILL);
                        return Seen::GivenUp;
                    }
                    self.deadline = now + Duration::from_millis(5);
                }
                Ok(_) => return Seen::Something,
                Err(Errno::EINTR) => {}
                Err(_) => return Seen::GivenUp,
            }
        }
    }

    /// Lets go of the child: only if it is over already, an unkillable one is left to PID 1.
    fn reap(self) {
        let _ = nix::sys::wait::waitpid(self.child, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    }
}

impl Answers {
    /// The answer, waited for if it is not there yet.
    fn wait(mut self) -> Vec<u8> {
        // Mostly it is there within a millisecond, and its end is all that is waited for: to be woken by each part
        // takes a processor away from whoever writes the next. Only one who has a lot to say needs to be read meanwhile.
        let mut awaited = PollFlags::empty();
        loop {
            let nap = if awaited.is_empty() { QUICK } else { Duration::MAX };
            match self.vigil.wait(self.reader.as_fd(), awaited, nap) {
                Seen::Nothing => awaited = PollFlags::POLLIN,
                Seen::Something if self.read() => {}
                Seen::Something | Seen::GivenUp => break,
            }
        }
        self.vigil.reap();
        self.bytes
    }

    /// Takes what is there; says no at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.reader.read(&mut buffer) {
            Ok(count) => {
                self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                count > 0
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_whole() {
        let long = vec![b'x'; 200_000];
        let answer = ask(Duration::from_secs(60), &[], |out| out.write_all(&long).unwrap()).unwrap();
        assert_eq!(answer.len(), long.len());
    }

    #[test]
    fn a_child_that_is_only_slow_gets_longer_but_not_for_ever() {
        let busy = |out: &mut dyn Write, turns: u32| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1200) * turns {}
            let _ = out.write_all(b"late");
        };
        assert_eq!(ask(Duration::from_secs(1), &[], |out| busy(out, 1)).unwrap(), b"late");
        assert_eq!(ask(Duration::from_millis(20), &[], |out| busy(out, 100)).unwrap(), b"");
    }

    #[test]
    fn what_is_left_behind_can_write_and_nothing_else() {
        let (mut reader, writer) = pipe().unwrap();
        detach(&[writer.as_fd()], || {
            let status = std::fs::read("/proc/self/status").unwrap_or_default();
            let _ = (&writer).write_all(&status);
        })
        .unwrap();
        drop(writer);
        let mut status = String::new();
        reader.read_to_string(&mut status).unwrap();
        let set = |status: &str, name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
            u64::from_str_radix(line, 16).unwrap()
        };
        let ours = set(&std::fs::read_to_string("/proc/self/status").unwrap(), "CapEff");
        assert_ne!(ours & !u64::from(KEPT_CAPABILITIES), 0, "this test needs root");
        let kept = ours & u64::from(KEPT_CAPABILITIES);
        assert_eq!(["CapInh", "CapPrm", "CapEff"].map(|name| set(&status, name)), [0, kept, kept]);
    }

    #[test]
    fn a_child_keeps_nobodys_pipe_open() {
        let (reader, writer) = pipe().unwrap();
        // SAFETY: a descriptor of our own; now as one that a caller left open.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) };
        let (go, mut hold) = pipe().unwrap();
        detach(&[go.as_fd()], || {
            let _ = (&go).read(&mut [0]);
        })
        .unwrap();
        drop(writer);
        // The child still waits, and yet the pipe is at its end.
        assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
        hold.write_all(b"x").unwrap();
    }

    #[test]
    fn what_came_before_the_deadline_is_kept() {
        let began = Instant::now();
        let answer = ask(Duration::from_secs(1), &[], |out| {
            out.write_all(b"first").unwrap();
            loop {
                std::thread::park();
            }
        });
        assert_eq!(answer.unwrap(), b"first");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

//! Standard descriptors. The kernel starts helpers without any: what is opened first would become our standard output,
//! or the delegate's.

use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;

/// Gives every standard descriptor that is closed a place holder: a path to `/` that can neither be read nor written
/// and that the delegate does not inherit. `/dev/null` would do too, but there may be no `/dev` yet.
pub fn occupy() {
    while let Ok(descriptor) = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        let number = descriptor.as_raw_fd();
        if number <= 2 {
            std::mem::forget(descriptor);
        }
        // The lowest that is free is taken (open(2)): all below are there.
        if number >= 2 {
            break;
        }
    }
}

/// Writes one line to standard error if it takes it at once: a pipe that nobody reads must not hold up a request. A pipe
/// that is ready takes PIPE_BUF bytes without waiting (poll(2), pipe(7)); the rest of a longer line is left out.
pub fn say(line: &str) {
    let mut line = line.as_bytes().to_vec();
    line.truncate(libc::PIPE_BUF - 1);
    line.push(b'\n');
    // Whoever reads it may be gone.
    // SAFETY: no handler is involved.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    let stderr = std::io::stderr();
    let mut wanted = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if matches!(poll(&mut wanted, PollTimeout::ZERO), Ok(ready) if ready > 0) && is_open() {
        let _ = nix::unistd::write(stderr.as_fd(), &line);
    }
}

fn is_open() -> bool {
    fcntl(std::io::stderr().as_fd(), FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() == 0)
}

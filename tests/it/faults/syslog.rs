//! Loggers that are not there, do not listen, or wait for the very request that is to be logged.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::Fault;
use super::stage::Stage;

const LOG: &str = "/dev/log";
const KERNEL_LOG: &str = "/dev/kmsg";

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::new("no syslog", without),
        Fault::new("syslog is a file", |stage| {
            without(stage);
            stage.file(LOG, b"");
        }),
        Fault::new("syslog is a FIFO that nobody reads", |stage| {
            without(stage);
            mkfifo(&stage.path(LOG), Mode::S_IRWXU).unwrap();
        }),
        Fault::new("syslog is a directory", |stage| {
            without(stage);
            fs::create_dir(stage.path(LOG)).unwrap();
        }),
        Fault::new("nobody listens at syslog's socket", |stage| {
            stage.syslog = None;
            stage.expected.syslog = false;
        }),
        // Who asks is the logger itself: it reads nothing before it has its answer.
        Fault::new("syslog hangs, its queue full", |stage| {
            fill(stage);
            stage.expected.syslog = false;
        }),
        Fault::new("syslog hangs, its queue full, and so does the kernel's log", |stage| {
            fill(stage);
            mute_kernel_log(stage);
            stage.expected.syslog = false;
        }),
        Fault::new("syslog is a stream that nobody takes", |stage| {
            without(stage);
            let listener = UnixListener::bind(stage.path(LOG)).unwrap();
            // SAFETY: a socket of ours; now the next connection but one waits.
            unsafe { libc::listen(listener.as_raw_fd(), 0) };
            let mut waiting = Vec::new();
            loop {
                // SAFETY: a system call; the descriptor is closed where nothing comes of it.
                let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) };
                let address = nix::sys::socket::UnixAddr::new(&stage.path(LOG)).unwrap();
                // SAFETY: as above.
                waiting.push(unsafe { <UnixStream as std::os::fd::FromRawFd>::from_raw_fd(socket) });
                if nix::sys::socket::connect(socket, &address).is_err() {
                    break;
                }
            }
            stage.kept.push(Box::new((listener, waiting)));
        }),
        Fault::new("the kernel's log is a FIFO that nobody reads", |stage| {
            without(stage);
            mute_kernel_log(stage);
        }),
        Fault::new("the kernel's log is a directory", |stage| {
            without(stage);
            fs::remove_file(stage.path(KERNEL_LOG)).unwrap();
            fs::create_dir(stage.path(KERNEL_LOG)).unwrap();
            stage.expected.kernel_log = false;
        }),
    ]
}

fn without(stage: &mut Stage) {
    stage.syslog = None;
    fs::remove_file(stage.path(LOG)).unwrap();
    stage.expected.syslog = false;
}

fn fill(stage: &mut Stage) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"<30>filler", stage.path(LOG)).is_ok() {}
    stage.kept.push(Box::new(sender));
}

fn mute_kernel_log(stage: &mut Stage) {
    fs::remove_file(stage.path(KERNEL_LOG)).unwrap();
    mkfifo(&stage.path(KERNEL_LOG), Mode::S_IRWXU).unwrap();
    // Open at both ends, and full.
    let fifo = fs::File::options().read(true).write(true).open(stage.path(KERNEL_LOG)).unwrap();
    // SAFETY: a descriptor of ours.
    unsafe { libc::fcntl(fifo.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    while std::io::Write::write(&mut &fifo, &[b'x'; 4096]).is_ok() {}
    stage.kept.push(Box::new(fifo));
    stage.expected.kernel_log = false;
}

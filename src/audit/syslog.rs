//! journald and syslog, and the kernel's log where there is neither. No call here ever waits.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use syslog::{Facility, Formatter3164, LogFormat, Severity};

use crate::audit::journal;
use crate::audit::line::{self, Loudness};
use crate::host::Host;

/// syslog(3)'s socket.
pub const DEV_LOG: &str = "/dev/log";
/// The kernel's log, for where there is no syslog.
pub const DEV_KMSG: &str = "/dev/kmsg";
/// How we are called there.
const PROCESS: &str = "modprobe-guard";

/// Tells `text`, one line, to the first that takes it at once: journald, if it is the line of `record` (as it stands in
/// the log), for its fields; syslog; the kernel's log. Says whether one of them took it.
pub fn tell(host: &Host, loudness: Loudness, text: &str, record: Option<&[u8]>) -> bool {
    record.is_some_and(|record| to_journal(host, loudness, text, record).is_some())
        || to_syslog(host, loudness, text).is_some()
        || to_kernel_log(host, loudness, text).is_some()
}

/// Tells of something that has no record: a panic, a loop. One line, bounded, whatever `message` holds.
pub fn complain(message: &str) -> bool {
    tell(&Host::this(), Loudness::Error, &line::of_message(message), None)
}

fn severity(loudness: Loudness) -> Severity {
    match loudness {
        Loudness::Info => Severity::LOG_INFO,
        Loudness::Warning => Severity::LOG_WARNING,
        Loudness::Error => Severity::LOG_ERR,
    }
}

fn to_journal(host: &Host, loudness: Loudness, text: &str, record: &[u8]) -> Option<()> {
    let place = socket_at(host, journal::SOCKET)?;
    // Codes of facilities are shifted by those of severities (RFC 3164, 4.1.1).
    let facility = Facility::LOG_AUTHPRIV as u32 >> 3;
    let datagram = journal::datagram(severity(loudness) as u32, facility, PROCESS, text, record);
    send_at_once(&connected(host, &place, journal::SOCKET, SockType::Datagram)?, &datagram)
}

/// Looked at before a socket is made: where AF_UNIX is a module, socket(2) asks for it, and so calls us.
fn socket_at(host: &Host, path: &str) -> Option<File> {
    let place = host.open_with(Path::new(path), OFlag::O_PATH).ok()?;
    place.metadata().ok()?.file_type().is_socket().then_some(place)
}

fn to_syslog(host: &Host, loudness: Loudness, text: &str) -> Option<()> {
    let place = socket_at(host, DEV_LOG)?;
    let formatter = Formatter3164 {
        facility: Facility::LOG_AUTHPRIV,
        hostname: None,
        process: PROCESS.to_owned(),
        pid: std::process::id(),
    };
    let mut message = Vec::with_capacity(1024);
    formatter.format(&mut message, severity(loudness), text).ok()?;
    if let Some(socket) = connected(host, &place, DEV_LOG, SockType::Datagram) {
        return send_at_once(&socket, &message);
    }
    // Some older daemons listen on a stream, where a zero byte ends a message.
    message.push(0);
    send_at_once(&connected(host, &place, DEV_LOG, SockType::Stream)?, &message)
}

fn connected(host: &Host, place: &File, path: &str, kind: SockType) -> Option<OwnedFd> {
    // Below a root the open file is what is meant; on this machine there may be no /proc yet.
    let address = if host.is_this() {
        UnixAddr::new(path)
    } else {
        UnixAddr::new(format!("/proc/self/fd/{}", place.as_raw_fd()).as_str())
    };
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).ok()?;
    connect(socket.as_raw_fd(), &address.ok()?).ok()?;
    Some(socket)
}

fn send_at_once(socket: &OwnedFd, message: &[u8]) -> Option<()> {
    let sent = send(socket.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).ok()?;
    (sent == message.len()).then_some(())
}

fn to_kernel_log(host: &Host, loudness: Loudness, text: &str) -> Option<()> {
    // One write is one message; the number in front is facility and severity (Documentation/ABI/testing/dev-kmsg).
    let priority = Facility::LOG_AUTHPRIV as u32 | severity(loudness) as u32;
    let message = format!("<{priority}>{PROCESS}[{}]: {text}\n", std::process::id());
    let mut log = host.open_with(Path::new(DEV_KMSG), OFlag::O_WRONLY).ok()?;
    let written = log.write(message.as_bytes()).ok()?;
    host.done_with(log);
    (written == message.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::path::PathBuf;

    use super::*;
    use crate::audit::entry::{json, samples};

    fn machine() -> (tempfile::TempDir, Host, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        let host = Host::at(root.path()).unwrap();
        let log = root.path().join("dev/log");
        (root, host, log)
    }

    fn assert_message(message: &[u8], start: &str) {
        let message = String::from_utf8_lossy(message);
        assert!(message.starts_with(start), "{message}");
        let end = format!(" modprobe-guard[{}]: verdict=block", std::process::id());
        assert!(message.ends_with(&end), "{message}");
    }

    #[test]
    fn a_datagram_socket_gets_one_message() {
        let (_root, host, log) = machine();
        let server = UnixDatagram::bind(&log).unwrap();
        for (loudness, start) in [(Loudness::Info, "<86>"), (Loudness::Warning, "<84>"), (Loudness::Error, "<83>")] {
            assert!(tell(&host, loudness, "verdict=block", None));
            let mut buffer = [0; 2048];
            let length = server.recv(&mut buffer).unwrap();
            assert_message(&buffer[..length], start);
        }
    }

    #[test]
    fn a_stream_socket_gets_a_message_that_ends_in_zero() {
        let (_root, host, log) = machine();
        let server = UnixListener::bind(&log).unwrap();
        assert!(tell(&host, Loudness::Warning, "verdict=block", None));
        let mut message = Vec::new();
        server.accept().unwrap().0.read_to_end(&mut message).unwrap();
        assert_eq!(message.pop(), Some(0));
        assert_message(&message, "<84>");
    }

    #[test]
    fn a_full_syslog_is_not_waited_for() {
        let (root, host, log) = machine();
        fs::write(root.path().join("dev/kmsg"), "").unwrap();
        let server = UnixDatagram::bind(&log).unwrap();
        server.set_nonblocking(true).unwrap();
        let kernel_log = || fs::read_to_string(root.path().join("dev/kmsg")).unwrap();
        // Nobody reads: the queue is full after net.unix.max_dgram_qlen messages.
        let sent = (0..100_000)
            .take_while(|_| tell(&host, Loudness::Warning, "verdict=block", None) && kernel_log().is_empty());
        let sent = sent.count();
        assert!(sent < 100_000);
        assert_eq!(kernel_log(), format!("<84>modprobe-guard[{}]: verdict=block\n", std::process::id()));
        assert_eq!((0..).take_while(|_| server.recv(&mut [0; 2048]).is_ok()).count(), sent);
    }

    #[test]
    fn journald_comes_first_and_is_not_waited_for() {
        let (root, host, log) = machine();
        let record = samples::record(b"x", 0);
        let (line, json) = (line::of_record(&record), json(&record).unwrap());
        let tell = || assert!(tell(&host, Loudness::Warning, &line, Some(&json)));
        let syslog = UnixDatagram::bind(&log).unwrap();
        syslog.set_nonblocking(true).unwrap();
        let mut buffer = [0; 8192];
        // There is none.
        tell();
        assert!(syslog.recv(&mut buffer).is_ok());
        let socket = root.path().join(&journal::SOCKET[1..]);
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let journald = UnixDatagram::bind(&socket).unwrap();
        journald.set_nonblocking(true).unwrap();
        tell();
        let length = journald.recv(&mut buffer).unwrap();
        let told = String::from_utf8_lossy(&buffer[..length]);
        assert!(told.starts_with(&format!("MESSAGE={line}\nMESSAGE_ID=")), "{told}");
        assert!(told.contains("\nPRIORITY=4\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=modprobe-guard\n"), "{told}");
        assert!(syslog.recv(&mut buffer).is_err(), "told twice");
        // What has no record has no fields.
        assert!(super::tell(&host, Loudness::Error, "panic", None));
        assert!(journald.recv(&mut buffer).is_err() && syslog.recv(&mut buffer).is_ok());
        // Nobody reads: what its queue does not take goes on.
        let mut told = 0;
        while syslog.recv(&mut buffer).is_err() {
            tell();
            told += 1;
        }
        assert_eq!((0..).take_while(|_| journald.recv(&mut buffer).is_ok()).count(), told - 1);
        // Nobody is there any more.
        drop(journald);
        tell();
        assert!(syslog.recv(&mut buffer).is_ok());
    }

    #[test]
    fn what_no_datagram_takes_is_told_without_fields() {
        let (root, host, log) = machine();
        let syslog = UnixDatagram::bind(&log).unwrap();
        let socket = root.path().join(&journal::SOCKET[1..]);
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _journald = UnixDatagram::bind(&socket).unwrap();
        let line = format!("verdict=block {}", "x".repeat(1 << 20));
        let place = socket_at(&host, journal::SOCKET).unwrap();
        let journald = connected(&host, &place, journal::SOCKET, SockType::Datagram).unwrap();
        assert_eq!(send_at_once(&journald, line.as_bytes()), None);
        assert_eq!(to_journal(&host, Loudness::Info, &line, b"{}"), None);
        drop(syslog);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let (root, host, log) = machine();
        assert!(!tell(&host, Loudness::Info, "verdict=block", None));
        fs::write(&log, "").unwrap();
        assert!(!tell(&host, Loudness::Info, "verdict=block", None));
        fs::write(root.path().join("dev/kmsg"), "").unwrap();
        assert!(tell(&host, Loudness::Info, "verdict=block", None));
        assert!(fs::read(&log).unwrap().is_empty());
    }
}

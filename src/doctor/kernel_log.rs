//! The kernel's log of this boot: `/dev/kmsg`, or where that may not be read, what syslog made of it.

use std::io::Read;

use nix::errno::Errno;

use crate::host::Host;

/// Of a log file at most its last bytes are read.
const TAIL: u64 = 2 << 20;
/// Bytes of one record of /dev/kmsg (`CONSOLE_EXT_LOG_MAX`, kernel/printk/internal.h).
const RECORD: usize = 8192;
/// More records than the kernel keeps by default; whoever writes faster than we read does not hold us up.
const RECORDS: usize = 65_536;
/// Where syslog, or who collects a host's state, puts kernel messages.
const FILES: [&str; 8] = [
    "/sos_commands/logs/journalctl_--no-pager_--boot",
    "/var/log/kern.log",
    "/var/log/messages",
    "/var/log/syslog",
    "/var/log/dmesg",
    "/sos_commands/kernel/dmesg",
    "/sos_commands/kernel/dmesg_-T",
    "/dmesg",
];

/// What the log says.
#[derive(Debug, Default)]
pub struct KernelLog {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Why it could not be read; absent if it was.
    pub unread: Option<String>,
}

/// A line of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Seconds since the kernel began, where the line tells.
    pub seconds: Option<f64>,
    /// What it says, without time and host.
    pub text: String,
    /// Where it stands: `kernel log`, or `FILE:LINE`.
    pub source: String,
}

impl Line {
    /// As evidence.
    pub fn shown(&self) -> String {
        let time = self.seconds.map_or_else(String::new, |seconds| format!(" at {seconds:.0} s"));
        format!("{}{time}: {}", self.source, crate::text::Text::from(self.text.as_str()))
    }
}

impl KernelLog {
    /// Reads it.
    pub fn read(host: &Host) -> KernelLog {
        let ring = ring(host);
        if let Ok(lines) = &ring
            && !lines.is_empty()
        {
            return KernelLog { lines: lines.clone(), unread: None };
        }
        let mut lines = Vec::new();
        let mut any = false;
        for path in FILES {
            if let Some(text) = tail(host, path) {
                any = true;
                lines.extend(of_this_boot(&host.shown(path).display().to_string(), &text));
            }
        }
        let unread = match ring {
            _ if any => None,
            Ok(_) => Some("the kernel's log is empty".to_owned()),
            Err(error) => {
                let remedy =
                    if error.kind() == std::io::ErrorKind::PermissionDenied { "; root can read it" } else { "" };
                Some(format!("{}: open: {error}{remedy}", host.shown("/dev/kmsg").display()))
            }
        };
        KernelLog { lines, unread }
    }

    /// Lines that hold one of `words`.
    pub fn with<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| words.iter().any(|word| line.text.contains(word)))
    }
}

/// The kernel's own ring. Every read(2) gives one record.
fn ring(host: &Host) -> std::io::Result<Vec<Line>> {
    let mut file = host.open("/dev/kmsg")?;
    if file.metadata()?.is_file() {
        // A collected tree, or a container's.
        let text = host.read("/dev/kmsg", 64 << 20)?;
        return Ok(of_this_boot(&host.shown("/dev/kmsg").display().to_string(), &String::from_utf8_lossy(&text)));
    }
    let mut lines = Vec::new();
    let mut buffer = vec![0; RECORD];
    while lines.len() < RECORDS {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let record = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                lines.extend(record.lines().next().map(|text| line(text, "kernel log".to_owned())));
            }
            // The record was overwritten; the next read goes on behind it.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return if lines.is_empty() { Err(error) } else { Ok(lines) },
        }
    }
    Ok(lines)
}

fn tail(host: &Host, path: &str) -> Option<String> {
    use std::os::unix::fs::FileExt;
    let file = host.open(path).ok()?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let start = metadata.len().saturating_sub(TAIL);
    let mut bytes = vec![0; usize::try_from(metadata.len() - start).ok()?];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, start + filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    bytes.truncate(filled);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines since the last kernel began. Those of programs that load modules are taken as well.
fn of_this_boot(path: &str, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, text) in text.lines().enumerate() {
        let line = line(text, format!("{path}:{}", number + 1));
        if line.text.starts_with("Linux version ") {
            lines.clear();
        }
        lines.push(line);
    }
    lines
}

/// Takes a line apart: `6,1234,5678,-;TEXT` (/dev/kmsg), `[   12.345678] TEXT` (dmesg), and syslog's forms around it.
fn line(text: &str, source: String) -> Line {
    let kmsg = text.split_once(';').and_then(|(head, rest)| {
        let mut fields = head.split(',');
        let is_number = |field: Option<&str>| field.is_some_and(|field| field.parse::<u64>().is_ok());
        let micros = (is_number(fields.next()) && is_number(fields.next())).then(|| fields.next())??;
        Some((Some(micros.parse::<f64>().ok()? / 1e6), rest))
    });
    let (seconds, text) = kmsg.unwrap_or_else(|| {
        let text = text.split_once(" kernel: ").map_or(text, |(_, rest)| rest);
        let stamped = text.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match stamped {
            Some((stamp, rest)) => (stamp.trim().parse().ok(), rest.trim_start()),
            None => (None, without_syslog_head(text)),
        }
    });
    Line { seconds, text: text.to_owned(), source }
}

/// What a program wrote by way of syslog, with its name: `modprobe: ERROR: …`.
fn without_syslog_head(text: &str) -> &str {
    for program in ["modprobe", "systemd-modules-load", "insmod", "systemd-udevd", "(udev-worker)"] {
        for end in ["[", ":"] {
            if let Some(at) = text.find(&format!(" {program}{end}")) {
                return text.get(at + 1..).unwrap_or(text);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line_is_understood() {
        for (text, seconds, expected) in [
            ("6,339,5140900,-;NET: Registered", Some(5.1409), "NET: Registered"),
            ("[   12.500000] x: y [z]", Some(12.5), "x: y [z]"),
            ("[Fri Nov 20 12:00:00 2026] x", None, "x"),
            ("Nov 20 12:00:00 r1 kernel: [   12.5] a", Some(12.5), "a"),
            ("2026-11-20T12:00:00.123456+00:00 r1 kernel: a: b", None, "a: b"),
            ("Nov 20 12:00:00 r1 modprobe: ERROR: x", None, "modprobe: ERROR: x"),
            ("Nov 20 12:00:00 r1 systemd-modules-load[99]: x", None, "systemd-modules-load[99]: x"),
            ("a;b", None, "a;b"),
            ("", None, ""),
        ] {
            let line = line(text, String::new());
            assert_eq!((line.seconds, line.text.as_str()), (seconds, expected), "{text}");
        }
    }

    #[test]
    fn only_the_last_boot_counts() {
        let text = "[ 1.0] old\n[ 0.0] Linux version 6.1\n[ 2.0] new\n";
        let lines = of_this_boot("f", text);
        assert_eq!(lines.last().unwrap().shown(), "f:3 at 2 s: new");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn this_machines_log_never_hangs() {
        KernelLog::read(&Host::this());
    }
}

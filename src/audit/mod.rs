//! The record's sinks, none of which can hold up or fail a request.
//!
//! [`Sinks`] is what a helper calls: the [`table`] says whether the record is written or counted ([`thinning`]), the
//! [`spool`] in memory takes it, [`syslog`] hears of it, or [`journal`]. [`store`] moves the spool to the disk in a process that
//! nobody waits for, [`read`] finds every entry wherever it is at the moment, [`follow`] those that come,
//! [`since`] those that came after a position that was written down.

mod bounds;
pub mod entry;
pub mod follow;
mod found;
pub mod journal;
pub mod line;
mod log;
mod mark;
pub mod packed;
pub mod read;
pub mod since;
pub mod spool;
pub mod store;
pub mod syslog;
pub mod table;
pub mod thinning;
mod told;
pub mod who;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use crate::host::{Directory, Host, RUN, child};
use crate::model::Record;
use table::{Kept, Table};

pub use entry::{Entry, Thinned};
pub use read::of_host as entries_of_host;
pub use store::flush;
pub use syslog::complain;

/// How long the table's lock is waited for; it is held for some 50 µs.
const LOCK_PATIENCE: Duration = Duration::from_millis(20);
/// How long it is waited for if the spool has no room for another record.
const FULL_PATIENCE: Duration = Duration::from_secs(1);
/// How long a disk in the place of `/run` may take.
const DISK_PATIENCE: Duration = Duration::from_secs(1);
/// What a child says at its end.
const DONE: &[u8] = b"done";

/// The sinks as a request finds them, looked at once for all that it writes.
pub struct Sinks<'a> {
    host: &'a Host,
    /// The spool's directory; `None` where a disk is in the place of memory.
    run: Option<io::Result<Directory>>,
}

impl<'a> Sinks<'a> {
    /// Opens the spool's directory, unless that could take time.
    pub fn open(host: &'a Host) -> Sinks<'a> {
        Sinks { host, run: host.has_run_in_memory().then(|| spool::directory(host)) }
    }

    /// Writes one record to every sink that takes it at once. Never fails: what a sink does not take is in the others.
    pub fn write(&self, record: &Record) {
        let host = self.host;
        if let Some(run) = &self.run {
            return write_now(host, run.as_ref(), record);
        }
        // A disk in the place of memory may be frozen: a child does the work.
        let answer = child::ask(DISK_PATIENCE, &host.opened(), |out| {
            write_now(host, spool::directory(host).as_ref(), record);
            let _ = out.write_all(DONE);
        });
        if !answer.is_ok_and(|answer| answer == DONE) {
            // Not to journald, whose socket lies on that disk.
            syslog::tell(host, line::loudness(record), &line::of_record(record), None);
        }
    }

    /// Starts a flush in a process of its own if there is enough to flush, or if it is some time since the last.
    ///
    /// Never waits: not for the disk, nor for a flush that is under way or stuck.
    pub fn flush_if_due(&self) {
        match &self.run {
            Some(Ok(run)) => store::flush_if_due(self.host, run),
            Some(Err(_)) => {}
            None => {
                let host = self.host;
                let _ = child::detach(&host.opened(), || {
                    if let Ok(run) = host.own_directory(RUN, None) {
                        store::flush_now_if_due(host, &run);
                    }
                });
            }
        }
    }
}

/// Writes one record as [`Sinks::write`] does.
pub fn write(host: &Host, record: &Record) {
    Sinks::open(host).write(record);
}

/// Memory answers at once.
fn write_now(host: &Host, run: Result<&Directory, &io::Error>, record: &Record) {
    // What was not kept is told, so that it is known somewhere.
    let json = bounds::json(record).ok();
    let kept = run.ok().zip(json.as_deref()).and_then(|(run, json)| keep(run, record, json).ok());
    let kept = kept.unwrap_or(Kept { to_tell: true, passed: None });
    if let Some(thinned) = &kept.passed {
        tell_thinned(host, thinned);
    }
    if kept.to_tell {
        syslog::tell(host, line::loudness(record), &line::of_record(record), json.as_deref());
    }
}

/// Tells of a count that came out.
fn tell_thinned(host: &Host, thinned: &Thinned) {
    let json = entry::json(thinned).ok();
    syslog::tell(host, line::of_verdict(&thinned.verdict), &line::of_thinned(thinned), json.as_deref());
}

fn keep(run: &Directory, record: &Record, line: &[u8]) -> io::Result<Kept> {
    let keep_in = |mut table: Table| table.keep(run, record, line, table::now());
    match Table::lock(run, LOCK_PATIENCE) {
        Ok(table) => keep_in(table),
        // Nobody counts now: rather too long a record than a hole in it. Where it doesn't fit, it has to be counted.
        Err(_) => match spool::append(run, line) {
            Ok(()) => Ok(Kept { to_tell: true, passed: None }),
            Err(_) => Table::lock(run, FULL_PATIENCE).and_then(keep_in),
        },
    }
}

/// The time now as it stands in a record: RFC 3339, UTC, microseconds.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format_time(since)
}

/// A time since 1970 as it stands in a record; what no calendar holds is 1970.
fn format_time(since: Duration) -> String {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (time, microsecond) = match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(time) => (time, since.subsec_micros()),
        Err(_) => (OffsetDateTime::UNIX_EPOCH, 0),
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    // Not by a format description: what interprets those is many times as large, and the helper has to be small.
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z")
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};

    use super::entry::Entry;
    use super::entry::samples::{HOSTILE, record};
    use super::*;
    use crate::host::LOG_DIR;

    /// A host in memory, and one on a disk if the temporary directory is on one.
    fn machines() -> [(tempfile::TempDir, Host); 2] {
        [tempfile::tempdir_in("/dev/shm"), tempfile::tempdir()].map(|root| {
            let root = root.unwrap();
            for directory in ["run", "dev", "var/log"] {
                fs::create_dir_all(root.path().join(directory)).unwrap();
            }
            let host = Host::at(root.path()).unwrap();
            (root, host)
        })
    }

    fn in_child(work: impl FnOnce()) -> Pid {
        // SAFETY: the child does what a helper does, and leaves by exit_now.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // A panic must not unwind into a second run of this test's own end.
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                child::exit_now(i32::from(result.is_err()))
            }
        }
    }

    /// Requests told of by the record: written, and counted.
    fn sums(host: &Host) -> (u64, u64) {
        read::of_host(host).unwrap().fold((0, 0), |(records, counted), entry| match entry.unwrap() {
            Entry::Record(_) => (records + 1, counted),
            Entry::Thinned(thinned) => (records, counted + thinned.thinned),
            Entry::Foreign(line) => panic!("foreign: {line}"),
        })
    }

    #[test]
    fn requests_are_records_and_counts_whatever_goes_on_beside() {
        let (_root, host) = &machines()[0];
        const PROCESSES: u32 = 50;
        const EACH: u32 = 40;
        store::flush(host).unwrap();
        let writers: Vec<Pid> = (0..PROCESSES)
            .map(|process| {
                in_child(|| {
                    for request in 0..EACH {
                        // Some kinds have many requests, some few.
                        let uid = if request % 2 == 0 { 0 } else { process };
                        write(host, &record(HOSTILE[request as usize % HOSTILE.len()], uid));
                        if request % 8 == 0 {
                            Sinks::open(host).flush_if_due();
                        }
                    }
                })
            })
            .collect();
        let flusher = in_child(|| (0..200).for_each(|_| drop(store::flush(host))));
        // Nothing is told twice or wrongly while it moves, and what was told once stays.
        let mut before = 0;
        for _ in 0..100 {
            let (records, counted) = sums(host);
            assert!(records + counted >= before && records + counted <= u64::from(PROCESSES * EACH));
            before = records + counted;
        }
        for pid in writers.into_iter().chain([flusher]) {
            assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
        }
        let (records, counted) = sums(host);
        assert_eq!(records + counted, u64::from(PROCESSES * EACH));
        assert!(counted > 0, "some were thinned");
        store::flush(host).unwrap();
        let (written, _) = sums(host);
        assert_eq!(written, records);
        assert!(host.read(format!("{LOG_DIR}/audit.jsonl"), 1 << 30).unwrap().len() > 100_000);
    }

    #[test]
    fn no_line_is_lost_or_told_twice_on_its_way_to_the_log() {
        let (_root, host) = &machines()[0];
        const LINES: u64 = 5000;
        store::flush(host).unwrap();
        let run = spool::directory(host).unwrap();
        let line = entry::json(&record(b"x", 0)).unwrap();
        let add = || match spool::append(&run, &line) {
            // Faster than the flusher.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => false,
            result => result.is_ok() || panic!("{result:?}"),
        };
        let writers = [(); 3].map(|()| in_child(|| (0..LINES).for_each(|_| while !add() {})));
        let flusher = in_child(|| {
            loop {
                store::flush(host).unwrap();
            }
        });
        let mut before = 0;
        for pid in writers {
            let mut status = WaitStatus::StillAlive;
            while status == WaitStatus::StillAlive {
                let (records, _) = sums(host);
                assert!((before..=3 * LINES).contains(&records), "{records} after {before}");
                before = records;
                status = waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap();
            }
            assert_eq!(status, WaitStatus::Exited(pid, 0));
        }
        // In the middle of a flush, more likely than not.
        kill(flusher, Signal::SIGKILL).unwrap();
        waitpid(flusher, None).unwrap();
        assert_eq!(sums(host), (3 * LINES, 0));
        store::flush(host).unwrap();
        assert_eq!(sums(host), (3 * LINES, 0));
    }

    #[test]
    fn a_killed_helper_leaves_a_sound_record() {
        let (_root, host) = &machines()[0];
        let mut asked = 0;
        for round in 0..200 {
            let counter = tempfile::tempfile_in("/dev/shm").unwrap();
            counter.set_len(0).unwrap();
            let child = in_child(|| {
                for _ in 0..10_000 {
                    let _ = io::Write::write(&mut &counter, b"x");
                    write(host, &record(b"x", 0));
                }
            });
            // Until it has done some, a different number every time.
            while counter.metadata().unwrap().len() < 5 + round % 7 {
                std::hint::spin_loop();
            }
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
            asked += counter.metadata().unwrap().len();
        }
        let mut told = 0;
        for entry in read::of_host(host).unwrap() {
            told += match entry.unwrap() {
                Entry::Record(_) => 1,
                Entry::Thinned(thinned) => thinned.thinned,
                // The kernel leaves a write(2) between two pages if its task was killed.
                Entry::Foreign(line) if line.as_bytes().starts_with(b"{\"v\":1,") => 1,
                Entry::Foreign(line) => panic!("foreign: {line}"),
            };
        }
        // The one under way when it was killed is in or not.
        assert!(told <= asked && told >= asked - 200, "{told}, {asked}");
    }

    #[test]
    fn a_record_goes_to_every_sink() {
        for (root, host) in &machines() {
            let server = UnixDatagram::bind(root.path().join("dev/log")).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for name in HOSTILE {
                write(host, &record(name, 0));
                let mut buffer = [0; 2048];
                let length = server.recv(&mut buffer).unwrap();
                let told = String::from_utf8(buffer[..length].to_vec()).unwrap();
                assert!(told.starts_with("<84>") && told.contains("verdict=block"), "{told}");
                assert!(told.chars().all(|c| !c.is_control()), "{told}");
            }
            assert_eq!(sums(host), (HOSTILE.len() as u64, 0));
        }
    }

    #[test]
    fn without_any_sink_nothing_happens() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        write(&host, &record(b"x", 0));
        Sinks::open(&host).flush_if_due();
        assert!(store::flush(&host).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn times_are_told_alike() {
        for (seconds, nanoseconds, shown) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (1_795_176_000, 123_456_789, "2026-11-20T12:00:00.123456Z"),
            (u64::from(u32::MAX), 999_999_999, "2106-02-07T06:28:15.999999Z"),
            (u64::MAX, 0, "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(format_time(Duration::new(seconds, nanoseconds)), shown);
        }
        assert!(now().as_str() > "2025" && now().len() == 27);
    }
}

//! The store: `/var/log/modprobe-guard/audit.jsonl`, on a disk that may be frozen, full or not there yet.
//!
//! A flush moves the spool there. It is one process at a time, the one that has the lock on `/run/…/flush`, and no
//! request ever waits for it:
//!
//! 1. The spool is renamed to `audit.jsonl.flushing`; helpers begin a new one. ([`spool`] says how the last writers
//!    are waited for.) What a former flush left under that name goes first.
//! 2. The log's inode and length are noted in the file `flush`, which is also the lock: the *mark*.
//! 3. The lines are appended to the log and written to the disk (fsync).
//! 4. `audit.jsonl.flushing` is removed, then the mark.
//!
//! Whatever ends this in between, the next flush finds it: with lines left over and a mark, the log is cut back to
//! the mark before the lines are appended again, so that none is lost and none is there twice. The mark and what it
//! is about live in memory together: after a power cut there is neither, and the log has what reached the disk.
//!
//! A log that somebody else has renamed in the meantime is found by its inode, if it kept one of the usual names.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};

use crate::audit::log::{self, LOGS};
use crate::audit::mark::Mark;
use crate::audit::spool::{self, SPOOL};
use crate::audit::table::{self, Table};
use crate::host::{Directory, Host, LOG_DIR, child};

/// The spool on its way to the log, below [`RUN`](crate::host::RUN).
pub const FLUSHING: &str = "audit.jsonl.flushing";
/// The lock and the mark, below [`RUN`](crate::host::RUN).
pub const FLUSH: &str = "flush";
/// A spool of this size is flushed at once,
const ENOUGH: u64 = 64 << 10;
/// Of the log's directory.
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o750);
/// but not again before this long after the last try: where the disk is full, every request would try.
const PAUSE: Duration = Duration::from_secs(1);
/// Any spool is flushed this long after the last try, the first one after the lock was made.
const LONG_ENOUGH: Duration = Duration::from_secs(5);
/// How long writers, other flushes and the table are waited for by a flush, which itself nobody waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// See [`Sinks::flush_if_due`](super::Sinks::flush_if_due); `run` lives in memory.
pub(super) fn flush_if_due(host: &Host, run: &Directory) {
    if let Ok(lock) = begin_if_due(run) {
        let opened: Vec<BorrowedFd> = host.opened().into_iter().chain([run.as_fd(), lock.as_fd()]).collect();
        // The lock belongs to the open file, which the child has too: it ends with the last of the two.
        let _ = child::detach(&opened, || drop(finish(host, run, &lock, mode_if_pressed(run))));
    }
}

/// The same in this process, which nobody waits for.
pub(super) fn flush_now_if_due(host: &Host, run: &Directory) {
    if let Ok(lock) = begin_if_due(run) {
        let _ = finish(host, run, &lock, mode_if_pressed(run));
    }
}

/// Flushes now, waiting for a flush that is under way. Makes the log's directory if it is missing. Returns the number
/// of entries that went to the disk.
///
/// # Errors
/// Those of the disk; `TimedOut` if another flush is stuck. What did not reach the disk is still in the spool.
pub fn flush(host: &Host) -> io::Result<usize> {
    let run = spool::directory(host)?;
    let lock = open_lock(&run)?;
    spool::lock_alone(&lock, PATIENCE).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "another flush is stuck; is the disk well?")
        }
        _ => error,
    })?;
    let result = finish(host, &run, &lock, Some(DIRECTORY_MODE));
    let _ = lock.unlock();
    result
}

fn open_lock(run: &Directory) -> io::Result<File> {
    run.open(FLUSH, OFlag::O_RDWR | OFlag::O_CREAT, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// The log's directory is made by the installation, so that nothing is written below a `/var` that is yet to be mounted.
/// Where it is missing all the same it is made when the spool is half full, which it is not that early.
fn mode_if_pressed(run: &Directory) -> Option<Mode> {
    let size = run.stat(SPOOL).ok()??.st_size;
    (u64::try_from(size).ok()? >= spool::LIMIT / 2).then_some(DIRECTORY_MODE)
}

/// The lock, if a flush is due and none is under way.
fn begin_if_due(run: &Directory) -> io::Result<File> {
    // Only looked at, and opened when it is time: that is once in seconds.
    let age = match run.stat(FLUSH)? {
        Some(stat) => age_of(&stat),
        None => open_lock(run).map(|_new| Duration::ZERO)?,
    };
    if age < PAUSE {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let waiting = run.stat(SPOOL)?.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default());
    let is_due = waiting > 0 && (age >= LONG_ENOUGH || (waiting >= ENOUGH && age >= PAUSE));
    if !is_due {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let lock = open_lock(run)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    lock.set_modified(SystemTime::now())?;
    Ok(lock)
}

/// How long ago a file was changed. A time in the future says nothing: the clock was set back.
fn age_of(stat: &FileStat) -> Duration {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let changed = Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
    SystemTime::now().duration_since(UNIX_EPOCH + changed).unwrap_or(LONG_ENOUGH)
}

/// The flush itself, by whoever has the lock.
fn finish(host: &Host, run: &Directory, lock: &File, create: Option<Mode>) -> io::Result<usize> {
    if let Ok(passed) = Table::lock(run, PATIENCE).and_then(|mut table| table.bring_out_passed(run, table::now())) {
        for thinned in passed {
            super::tell_thinned(host, &thinned);
        }
    }
    // Before anything is renamed: without this directory everything stays as it is.
    let logs = host.own_directory(LOG_DIR, create)?;
    let mut moved = 0;
    if run.stat(FLUSHING)?.is_some() {
        if let Some(mark) = Mark::read(lock) {
            mark.cut_back(&logs, &LOGS)?;
        }
        moved = move_over(run, &logs, lock)?;
    }
    Mark::clear(lock)?;
    if run.rename(SPOOL, FLUSHING)? {
        moved = move_over(run, &logs, lock)?.saturating_add(moved);
    }
    Ok(moved)
}

/// Appends `audit.jsonl.flushing` to the log and removes it.
fn move_over(run: &Directory, logs: &Directory, lock: &File) -> io::Result<usize> {
    let from = run.open(FLUSHING, OFlag::O_RDWR, Mode::empty())?;
    spool::lock_alone(&from, PATIENCE)?;
    let size = from.metadata()?.size();
    let moved = loop {
        let mut file = log::open(logs, size)?;
        let length = file.metadata()?.size();
        Mark::of(&file)?.write(lock)?;
        match log::append(&from, &mut file) {
            // Somebody else rotated, packed and removed the log under our hands.
            Ok(_) if file.metadata()?.nlink() == 0 => {}
            Ok(moved) => break moved,
            Err(error) => {
                if file.set_len(length).is_ok() {
                    Mark::clear(lock)?;
                }
                return Err(error);
            }
        }
    };
    run.remove(FLUSHING)?;
    Mark::clear(lock)?;
    Ok(moved)
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use super::*;

    struct Machine {
        root: tempfile::TempDir,
        host: Host,
        log: PathBuf,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("run")).unwrap();
            fs::create_dir_all(root.path().join("var/log")).unwrap();
            let host = Host::at(root.path()).unwrap();
            let log = root.path().join("var/log/modprobe-guard/audit.jsonl");
            Machine { root, host, log }
        }

        fn run(&self, name: &str) -> PathBuf {
            self.root.path().join("run/modprobe-guard").join(name)
        }

        fn add(&self, line: &str) {
            spool::append(&spool::directory(&self.host).unwrap(), line.as_bytes()).unwrap();
        }

        fn is_due(&self, since_last_try: Duration) -> bool {
            let lock = File::options().create(true).append(true).open(self.run(FLUSH)).unwrap();
            lock.set_modified(SystemTime::now() - since_last_try).unwrap();
            spool::directory(&self.host).and_then(|run| begin_if_due(&run)).is_ok_and(|lock| lock.unlock().is_ok())
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_go_to_the_log_and_leave_the_spool() {
        let machine = Machine::new();
        assert_eq!(flush(&machine.host).unwrap(), 0);
        for round in ["one\ntwo\n", "three\n"] {
            machine.add(round);
            assert_eq!(flush(&machine.host).unwrap(), round.lines().count());
        }
        assert_eq!(text(&machine.log), "one\ntwo\nthree\n");
        assert!(!machine.run(SPOOL).exists() && !machine.run(FLUSHING).exists());
        assert_eq!(text(&machine.run(FLUSH)), "");
    }

    #[test]
    fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
        for (log, mark) in [
            // Killed before the mark was made, before the first byte, in the middle, at the end.
            ("old\n", false),
            ("old\n", true),
            ("old\none\nt", true),
            ("old\none\ntwo\n", true),
        ] {
            let machine = Machine::new();
            machine.add("old\n");
            flush(&machine.host).unwrap();
            fs::write(machine.run(FLUSHING), "one\ntwo\n").unwrap();
            let inode = fs::metadata(&machine.log).unwrap().ino();
            if mark {
                let lock = File::options().write(true).open(machine.run(FLUSH)).unwrap();
                Mark { inode, length: 4 }.write(&lock).unwrap();
            }
            fs::write(&machine.log, log).unwrap();
            machine.add("three\n");
            assert_eq!(flush(&machine.host).unwrap(), 3);
            assert_eq!(text(&machine.log), "old\none\ntwo\nthree\n");
        }
        // Killed when all was done but for the mark: it says nothing of the next lines.
        let machine = Machine::new();
        machine.add("old\n");
        flush(&machine.host).unwrap();
        let inode = fs::metadata(&machine.log).unwrap().ino();
        fs::write(machine.run(FLUSH), format!("{inode:020} {:020}\n", 0)).unwrap();
        machine.add("one\n");
        flush(&machine.host).unwrap();
        assert_eq!(text(&machine.log), "old\none\n");
    }

    #[test]
    fn a_flush_that_dies_while_it_appends_is_taken_up_again() {
        let machine = Machine::new();
        let old = format!("{}\n", "o".repeat(99)).repeat(4000);
        let new = format!("{}\n", "n".repeat(99)).repeat(4000);
        machine.add(&old);
        flush(&machine.host).unwrap();
        machine.add(&new);
        // SAFETY: the child does what a flush does, and leaves by exit_now or by a signal.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let limit = libc::rlimit { rlim_cur: 500_000, rlim_max: 500_000 };
                // SAFETY: reads a structure that lives until it returns.
                unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) };
                let _ = flush(&machine.host);
                child::exit_now(0)
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(..)), "{status:?}");
            }
        }
        assert!(text(&machine.log).len() > old.len());
        assert_eq!(flush(&machine.host).unwrap(), 4000);
        assert!(text(&machine.log) == old + &new);
    }

    #[test]
    fn the_last_writers_are_waited_for() {
        let machine = Machine::new();
        machine.add("one\n");
        let mut writer = File::options().append(true).open(machine.run(SPOOL)).unwrap();
        writer.lock_shared().unwrap();
        let host = machine.host.clone();
        let flusher = std::thread::spawn(move || flush(&host));
        // It takes away the spool and waits: for longer than it would need to end, if it did not.
        let began = std::time::Instant::now();
        while !flusher.is_finished()
            && (!machine.run(FLUSHING).exists() || began.elapsed() < Duration::from_millis(100))
        {
            std::thread::yield_now();
        }
        writer.write_all(b"late\n").unwrap();
        writer.unlock().unwrap();
        assert_eq!(flusher.join().unwrap().unwrap(), 2);
        assert_eq!(text(&machine.log), "one\nlate\n");
    }

    #[test]
    fn a_mark_that_is_left_over_is_gone_before_the_next_lines_move() {
        let machine = Machine::new();
        machine.add("old\n");
        flush(&machine.host).unwrap();
        let inode = fs::metadata(&machine.log).unwrap().ino();
        fs::write(machine.run(FLUSH), format!("{inode:020} {:020}\n", 0)).unwrap();
        let renamed = machine.log.with_extension("jsonl.1");
        fs::rename(&machine.log, &renamed).unwrap();
        fs::create_dir(&machine.log).unwrap();
        machine.add("one\n");
        flush(&machine.host).unwrap_err();
        fs::remove_dir(&machine.log).unwrap();
        assert_eq!(flush(&machine.host).unwrap(), 1);
        assert_eq!((text(&renamed), text(&machine.log)), ("old\n".to_owned(), "one\n".to_owned()));
    }

    #[test]
    fn a_log_renamed_by_others_is_cut_back_as_well() {
        let machine = Machine::new();
        machine.add("old\n");
        flush(&machine.host).unwrap();
        let inode = fs::metadata(&machine.log).unwrap().ino();
        fs::write(&machine.log, "old\none\nt").unwrap();
        fs::write(machine.run(FLUSHING), "one\ntwo\n").unwrap();
        fs::write(machine.run(FLUSH), format!("{inode:020} {:020}\n", 4)).unwrap();
        let renamed = machine.log.with_extension("jsonl.1");
        fs::rename(&machine.log, &renamed).unwrap();
        assert_eq!(flush(&machine.host).unwrap(), 2);
        assert_eq!((text(&renamed), text(&machine.log)), ("old\n".to_owned(), "one\ntwo\n".to_owned()));
    }

    #[test]
    fn a_full_disk_keeps_the_lines_in_the_spool() {
        let machine = Machine::new();
        let directory = machine.log.parent().unwrap();
        fs::create_dir(directory).unwrap();
        // A disk of 64 KiB, of which 60 are taken.
        let mount = Mount::tmpfs(directory, "size=64k,mode=750");
        fs::write(directory.join("other"), vec![0; 60 << 10]).unwrap();
        let lines = format!("{}\n", "x".repeat(99)).repeat(100);
        machine.add(&lines);
        for _ in 0..2 {
            assert_eq!(flush(&machine.host).unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::metadata(&machine.log).unwrap().len(), 0);
            assert_eq!(text(&machine.run(FLUSHING)), lines);
        }
        machine.add("after\n");
        fs::remove_file(directory.join("other")).unwrap();
        assert_eq!(flush(&machine.host).unwrap(), 101);
        assert_eq!(text(&machine.log), lines + "after\n");
        drop(mount);
    }

    struct Mount(PathBuf);

    impl Mount {
        fn tmpfs(at: &Path, options: &str) -> Mount {
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)).expect("this test needs root");
            Mount(at.to_path_buf())
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn a_flush_is_due_by_size_and_age() {
        let machine = Machine::new();
        let seconds = Duration::from_secs;
        spool::directory(&machine.host).unwrap();
        assert!(!machine.is_due(seconds(60)), "nothing there");
        machine.add("one\n");
        assert!(!machine.is_due(seconds(2)));
        assert!(machine.is_due(seconds(6)));
        machine.add(&"x\n".repeat(40_000));
        assert!(machine.is_due(seconds(2)));
        assert!(!machine.is_due(seconds(0)));
        let held = open_lock(&spool::directory(&machine.host).unwrap()).unwrap();
        held.lock().unwrap();
        assert!(!machine.is_due(seconds(60)), "one is under way");
    }

    #[test]
    fn a_flush_without_a_log_directory_leaves_everything() {
        let machine = Machine::new();
        machine.add("one\n");
        let run = spool::directory(&machine.host).unwrap();
        let lock = open_lock(&run).unwrap();
        assert_eq!(mode_if_pressed(&run), None);
        assert_eq!(finish(&machine.host, &run, &lock, None).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(text(&machine.run(SPOOL)), "one\n");
        // Unless there is soon no room for more.
        machine.add(&"x\n".repeat(usize::try_from(spool::LIMIT).unwrap() / 4));
        assert_eq!(mode_if_pressed(&run), Some(DIRECTORY_MODE));
    }
}

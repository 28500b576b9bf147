//! The spool: `/run/modprobe-guard/audit.jsonl`, where every record is before its request ends.
//!
//! Any number of helpers add lines at a time, each with one write(2) to a file opened for appending, under a shared
//! flock(2). The flusher ([`store`](crate::audit::store)) renames the file away and then takes that lock for itself
//! alone: once it has it, whoever opened the file by its old name has either written or will see, lock in hand, that
//! the name no longer leads there.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};

use crate::host::{Directory, Host, RUN};

/// Name of the file below [`RUN`].
pub const SPOOL: &str = "audit.jsonl";
/// What it may hold: where nothing is flushed, this much memory is what the record costs.
pub const LIMIT: u64 = 4 << 20;
/// Mode of files with records in them.
pub const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);
/// How often a lock or a moving name is tried, a millisecond apart.
const TRIES: u32 = 20;

/// Opens the spool's directory to write there, and makes it if it is missing.
///
/// # Errors
/// Those of [`Host::own_directory`]; `NotFound` if there is no `/run`.
pub fn directory(host: &Host) -> io::Result<Directory> {
    host.own_directory(RUN, Some(Mode::S_IRWXU))
}

/// Adds one line.
///
/// # Errors
/// `StorageFull` if the spool or its file system is full; `WouldBlock` if the file could not be locked. The line is
/// not there then, or cut off.
pub fn append(directory: &Directory, line: &[u8]) -> io::Result<()> {
    for _ in 0..TRIES {
        let mut file = directory.open(SPOOL, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT, FILE_MODE)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let added = add_if_current(directory, &mut file, line);
        // Closing would do, unless a child has the file open as well.
        let _ = file.unlock();
        if added? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Adds to the locked `file`; says no if it is not the spool any more.
fn add_if_current(directory: &Directory, file: &mut File, line: &[u8]) -> io::Result<bool> {
    let metadata = file.metadata()?;
    match directory.stat(SPOOL)? {
        Some(stat) if is_same(&metadata, &stat) => add(file, &metadata, line).map(|()| true),
        _ => Ok(false),
    }
}

/// `metadata` is the file's: nobody else may cut it, and one who adds to it meanwhile ends in a whole line too.
fn add(file: &mut File, metadata: &Metadata, line: &[u8]) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    if metadata.size().saturating_add(line.len() as u64) > LIMIT {
        return Err(io::ErrorKind::StorageFull.into());
    }
    // A line that was cut off by a full file system must not swallow this one. An empty line too many does no harm.
    let written = if ends_in_the_middle(file, metadata.size())? {
        let separated = [b"\n", line].concat();
        write_once(file, &separated)? == separated.len()
    } else {
        write_once(file, line)? == line.len()
    };
    if written { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Whether the last line of `file`, which has `size` bytes, has no end.
pub fn ends_in_the_middle(file: &File, size: u64) -> io::Result<bool> {
    let Some(at) = size.checked_sub(1) else { return Ok(false) };
    let mut last = [0];
    file.read_exact_at(&mut last, at)?;
    Ok(last != *b"\n")
}

fn write_once(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether both are of one file.
pub fn is_same(metadata: &Metadata, stat: &FileStat) -> bool {
    metadata.ino() == stat.st_ino && metadata.dev() == stat.st_dev
}

/// Takes `file`'s lock for this process alone, waiting at most `patience`.
///
/// # Errors
/// `WouldBlock` if others had it all the time.
pub fn lock_alone(file: &File, patience: Duration) -> io::Result<()> {
    let mut deadline = None;
    // Short at first: what is waited for takes microseconds.
    let mut pause = Duration::from_micros(50);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => {}
        }
        // Mostly it is free, and nobody has to know the time. A patience beyond all times is at its end at once.
        let now = Instant::now();
        if now >= *deadline.get_or_insert(now.checked_add(patience).unwrap_or(now)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn machine() -> (tempfile::TempDir, Host, Directory) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        let host = Host::at(root.path()).unwrap();
        let directory = directory(&host).unwrap();
        (root, host, directory)
    }

    #[test]
    fn lines_follow_each_other() {
        let (root, _, directory) = machine();
        let path = root.path().join("run/modprobe-guard/audit.jsonl");
        append(&directory, b"one\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        fs::write(&path, "one\ncut of").unwrap();
        append(&directory, b"two\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ncut of\ntwo\n");
    }

    #[test]
    fn a_full_spool_takes_nothing_more() {
        let (root, _, directory) = machine();
        let path = root.path().join("run/modprobe-guard/audit.jsonl");
        let almost = vec![b'\n'; usize::try_from(LIMIT).unwrap() - 4];
        fs::write(&path, almost).unwrap();
        append(&directory, b"one\n").unwrap();
        assert_eq!(append(&directory, b"\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::metadata(path).unwrap().len(), LIMIT);
    }

    #[test]
    fn a_held_lock_is_not_waited_for_long() {
        let (root, _, directory) = machine();
        append(&directory, b"one\n").unwrap();
        let held = File::open(root.path().join("run/modprobe-guard/audit.jsonl")).unwrap();
        held.lock().unwrap();
        assert_eq!(append(&directory, b"two\n").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        directory.rename(SPOOL, "away").unwrap();
        append(&directory, b"three\n").unwrap();
    }

    #[test]
    fn a_file_that_was_renamed_under_us_gets_nothing() {
        let (root, _, directory) = machine();
        append(&directory, b"one\n").unwrap();
        let path = root.path().join("run/modprobe-guard/audit.jsonl");
        let mut file = File::options().read(true).append(true).open(&path).unwrap();
        assert!(add_if_current(&directory, &mut file, b"two\n").unwrap());
        directory.rename(SPOOL, "away").unwrap();
        assert!(!add_if_current(&directory, &mut file, b"three\n").unwrap());
        append(&directory, b"four\n").unwrap();
        assert!(!add_if_current(&directory, &mut file, b"five\n").unwrap());
        assert_eq!(fs::read_to_string(path.with_file_name("away")).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "four\n");
    }

    #[test]
    fn a_link_or_a_fifo_in_its_place_is_not_written_to() {
        let (root, _, directory) = machine();
        let path = root.path().join("run/modprobe-guard/audit.jsonl");
        let target = root.path().join("target");
        fs::write(&target, "").unwrap();
        symlink(&target, &path).unwrap();
        assert!(append(&directory, b"one\n").is_err());
        assert!(fs::read(target).unwrap().is_empty());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(append(&directory, b"one\n").is_err());
    }
}

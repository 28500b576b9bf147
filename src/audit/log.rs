//! The log itself, `/var/log/modprobe-guard/audit.jsonl`: rotated by size, appended to by one flush at a time.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nix::fcntl::OFlag;

use crate::audit::spool::{self, FILE_MODE};
use crate::host::Directory;

const LOG: &str = "audit.jsonl";
/// The log and what it was before, newest first, below [`LOG_DIR`].
pub const LOGS: [&str; 4] = [LOG, "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"];
/// A log that would be longer is rotated.
const LIMIT: u64 = 32 << 20;

/// The log, made if it is missing, rotated first if `more` bytes are too much for it.
///
/// # Errors
/// Those of open(2) and rename(2); `InvalidInput` if it is no regular file.
pub fn open(logs: &Directory, more: u64) -> io::Result<File> {
    let size = logs.stat(LOG)?.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default());
    if size > 0 && size.saturating_add(more) > LIMIT {
        for (newer, older) in LOGS.iter().zip(LOGS.iter().skip(1)).rev() {
            logs.rename(newer, older)?;
        }
    }
    let log = logs.open(LOG, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT, FILE_MODE)?;
    if !log.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log is no regular file"));
    }
    if log.metadata()?.size() == 0 {
        // Whatever the umask of whoever made it.
        log.set_permissions(Permissions::from_mode(FILE_MODE.bits()))?;
        let _ = logs.sync();
    }
    Ok(log)
}

/// Appends every line of `from` and waits until they are on the disk. Returns their number.
///
/// # Errors
/// Those of write(2) and fsync(2): a part may have been appended.
pub fn append(from: &File, log: &mut File) -> io::Result<usize> {
    // What a power cut left of a line must not swallow the next one.
    if spool::ends_in_the_middle(log, log.metadata()?.size())? {
        log.write_all(b"\n")?;
    }
    let mut bytes = vec![0; 64 << 10];
    let (mut offset, mut lines, mut last) = (0_u64, 0_usize, b'\n');
    loop {
        let count = match from.read_at(&mut bytes, offset) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let part = bytes.get(..count).unwrap_or_default();
        log.write_all(part)?;
        offset = offset.saturating_add(count as u64);
        for &byte in part {
            // Empty lines are no entries.
            if byte == b'\n' && last != b'\n' {
                lines = lines.saturating_add(1);
            }
            last = byte;
        }
    }
    if last != b'\n' {
        log.write_all(b"\n")?;
        lines = lines.saturating_add(1);
    }
    log.sync_all()?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::host::Host;

    fn add(logs: &Directory, root: &Path, text: &str) -> usize {
        fs::write(root.join("from"), text).unwrap();
        append(&File::open(root.join("from")).unwrap(), &mut open(logs, text.len() as u64).unwrap()).unwrap()
    }

    fn machine() -> (tempfile::TempDir, Directory) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("log")).unwrap();
        let logs = Host::at(root.path()).unwrap().directory("/log").unwrap();
        (root, logs)
    }

    #[test]
    fn a_long_log_is_rotated() {
        let (root, logs) = machine();
        let path = |name: &str| root.path().join("log").join(name);
        for round in 0..6 {
            add(&logs, root.path(), &format!("{round}\n"));
            // Grows without taking space.
            File::options().write(true).open(path(LOG)).unwrap().set_len(LIMIT).unwrap();
        }
        assert_eq!(LOGS.map(|name| fs::read(path(name)).unwrap()[0]), *b"5432");
        assert_eq!(fs::read_dir(root.path().join("log")).unwrap().count(), LOGS.len());
        assert_eq!(fs::metadata(path(LOG)).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn every_line_has_an_end() {
        let (root, logs) = machine();
        fs::write(root.path().join("log/audit.jsonl"), "cut of").unwrap();
        assert_eq!(add(&logs, root.path(), "one\n\ntwo\ncut"), 3);
        assert_eq!(add(&logs, root.path(), "three\n"), 1);
        let text = fs::read_to_string(root.path().join("log/audit.jsonl")).unwrap();
        assert_eq!(text, "cut of\none\n\ntwo\ncut\nthree\n");
    }
}

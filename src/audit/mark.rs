//! The mark: where the log ended when a flush began; see [`store`](crate::audit::store).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::host::Directory;

/// Where the log ended before a flush began to append to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The log's inode.
    pub inode: u64,
    /// Its length.
    pub length: u64,
}

impl Mark {
    /// Where `log` ends now.
    pub fn of(log: &File) -> io::Result<Mark> {
        let metadata = log.metadata()?;
        Ok(Mark { inode: metadata.ino(), length: metadata.size() })
    }

    /// The mark in the lock file, if a flush has made one.
    pub fn read(lock: &File) -> Option<Mark> {
        let mut text = [0; 64];
        let count = lock.read_at(&mut text, 0).ok()?;
        let (line, _) = std::str::from_utf8(text.get(..count)?).ok()?.split_once('\n')?;
        let (inode, length) = line.split_once(' ')?;
        Some(Mark { inode: inode.parse().ok()?, length: length.parse().ok()? })
    }

    /// Makes this the mark.
    pub fn write(self, lock: &File) -> io::Result<()> {
        // Fixed width: a shorter mark leaves nothing of a longer one.
        lock.write_all_at(format!("{:020} {:020}\n", self.inode, self.length).as_bytes(), 0)
    }

    /// There is no flush under way any more.
    pub fn clear(lock: &File) -> io::Result<()> {
        lock.set_len(0)
    }

    /// Takes back what a flush that did not come to its end has appended.
    pub fn cut_back(self, logs: &Directory, names: &[&str]) -> io::Result<()> {
        for name in names {
            if logs.stat(name)?.is_some_and(|stat| stat.st_ino == self.inode) {
                let log = logs.open(name, OFlag::O_RDWR, Mode::empty())?;
                let metadata = log.metadata()?;
                if metadata.ino() == self.inode && metadata.size() > self.length {
                    log.set_len(self.length)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_nonsense_is_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Mark::read(&file), None);
        for mark in [Mark { inode: u64::MAX, length: u64::MAX }, Mark { inode: 1, length: 0 }] {
            mark.write(&file).unwrap();
            assert_eq!(Mark::read(&file), Some(mark));
        }
        Mark::clear(&file).unwrap();
        for nonsense in ["x", "1 2", "1\n", "-1 2\n", "\n", "1 2 3\n"] {
            file.set_len(0).unwrap();
            file.write_all_at(nonsense.as_bytes(), 0).unwrap();
            assert_eq!(Mark::read(&file), None, "{nonsense}");
        }
    }
}

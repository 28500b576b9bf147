//! The files of a record as they stand at one moment, although a flush or a rotation may be moving them.
//!
//! Nothing is locked, so that a reader who stops half-way (a pager) holds up nobody. Instead every file is opened, and
//! the names are looked at again afterwards: if any of them has moved, all are to be opened anew. What is open then
//! stays what it is: files are only ever appended to, and the log is read as far as it went.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::audit::log::LOGS;
use crate::audit::mark::Mark;
use crate::audit::spool::{SPOOL, is_same};
use crate::audit::store::{FLUSH, FLUSHING};
use crate::host::Directory;

/// Nothing where there is nothing.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a host as they were found.
pub struct Found<'a> {
    /// In the order of the lines in them, oldest first.
    files: VecDeque<Named<'a>>,
    run: Option<&'a Directory>,
    mark: Option<Mark>,
}

/// A file, or none, and the name that this is about.
struct Named<'a> {
    directory: &'a Directory,
    name: &'static str,
    /// Whether helpers may be writing to it.
    is_live: bool,
    /// With its length.
    file: Option<(File, u64)>,
}

/// One file as far as it is to be read.
pub struct Part {
    /// The file, open at its beginning.
    pub file: File,
    /// Where to stop; a live one is read to its end.
    pub length: u64,
    /// Whether helpers may still be writing to it: a spool. What is none is the log, or was.
    pub is_live: bool,
    /// Whether it is a spool on its way to the log.
    pub is_flushing: bool,
}

impl<'a> Found<'a> {
    /// Opens them all.
    ///
    /// # Errors
    /// Those of open(2), unless a file is not there; `InvalidInput` if one is no regular file.
    pub fn open(run: Option<&'a Directory>, logs: Option<&'a Directory>) -> io::Result<Found<'a>> {
        let mut files = VecDeque::new();
        // What a flush changes first is looked at first, and again last.
        for name in [FLUSHING, SPOOL] {
            files.extend(run.map(|run| Named::open(run, name, true)).transpose()?);
        }
        let mark = mark(run)?;
        for name in LOGS {
            if let Some(logs) = logs {
                files.push_front(Named::open(logs, name, false)?);
            }
        }
        Ok(Found { files, run, mark })
    }

    /// The mark, if the log is to be read no further: what lies behind it is in the file being flushed as well.
    fn end_of_log(&self) -> Option<Mark> {
        self.mark.filter(|_| self.files.iter().any(|named| named.name == FLUSHING && named.file.is_some()))
    }

    /// Whether nothing has moved since.
    pub fn is_current(&self) -> io::Result<bool> {
        for named in &self.files {
            let may_grow = named.is_live || self.end_of_log().is_some();
            let is_current = match (&named.file, named.directory.stat(named.name)?) {
                (Some((file, length)), Some(stat)) => {
                    is_same(&file.metadata()?, &stat) && (may_grow || file.metadata()?.size() == *length)
                }
                (None, None) => true,
                _ => false,
            };
            if !is_current {
                return Ok(false);
            }
        }
        Ok(mark(self.run)? == self.mark)
    }

    /// What is to be read of them, oldest first.
    pub fn into_parts(self) -> io::Result<Vec<Part>> {
        let end = self.end_of_log();
        let mut parts = Vec::new();
        for named in self.files {
            let (is_live, is_flushing) = (named.is_live, named.name == FLUSHING);
            let Some((file, length)) = named.file else { continue };
            let inode = file.metadata()?.ino();
            let length = match end {
                _ if is_live => u64::MAX,
                Some(mark) if mark.inode == inode => mark.length.min(length),
                _ => length,
            };
            parts.push(Part { file, length, is_live, is_flushing });
        }
        Ok(parts)
    }
}

impl<'a> Named<'a> {
    fn open(directory: &'a Directory, name: &'static str, is_live: bool) -> io::Result<Named<'a>> {
        let file = if_there(directory.open(name, OFlag::O_RDONLY, Mode::empty()))?;
        let metadata = file.as_ref().map(File::metadata).transpose()?;
        if metadata.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: is no regular file")));
        }
        Ok(Named { directory, name, is_live, file: file.zip(metadata.map(|metadata| metadata.size())) })
    }
}

fn mark(run: Option<&Directory>) -> io::Result<Option<Mark>> {
    let file = run.map_or(Ok(None), |run| if_there(run.open(FLUSH, OFlag::O_RDONLY, Mode::empty())))?;
    Ok(file.as_ref().and_then(Mark::read))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::host::{Host, LOG_DIR, RUN};

    fn file(root: &Path, path: &str, text: &str) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }

    #[test]
    fn what_moves_meanwhile_is_noticed() {
        let texts = [("var/log/modprobe-guard/audit.jsonl", "1\n"), ("run/modprobe-guard/audit.jsonl", "2\n")];
        let rename = |root: &Path, from: &str, to: &str| {
            let directory = root.join(from).parent().unwrap().to_path_buf();
            fs::rename(root.join(from), directory.join(to)).unwrap();
        };
        type Change<'a> = &'a dyn Fn(&Path);
        let changes: [(Change<'_>, bool); 7] = [
            (&|_| (), true),
            (&|root| file(root, texts[1].0, "3\n"), true),
            (&|root| rename(root, texts[1].0, FLUSHING), false),
            (
                &|root| {
                    rename(root, texts[1].0, "gone");
                    file(root, texts[1].0, "2\n");
                },
                false,
            ),
            (&|root| rename(root, texts[0].0, LOGS[1]), false),
            (&|root| file(root, texts[0].0, "1\n2\n"), false),
            (&|root| file(root, "run/modprobe-guard/flush", "1 2\n"), false),
        ];
        for (at, (change, is_current)) in changes.iter().enumerate() {
            let root = tempfile::tempdir().unwrap();
            let host = Host::at(root.path()).unwrap();
            texts.iter().for_each(|(path, text)| file(root.path(), path, text));
            let (run, logs) = (host.directory(RUN).unwrap(), host.directory(LOG_DIR).unwrap());
            let opened = Found::open(Some(&run), Some(&logs)).unwrap();
            change(root.path());
            assert_eq!(opened.is_current().unwrap(), *is_current, "change {at}");
        }
    }
}

//! What was added to the record since a moment that was written down: by a process that is gone, perhaps boots ago.
//!
//! Only of the log a position is kept. A line moves there from the spool, and never back; so what lies in the spool is
//! told every time, as what is on its way. A file of the log is known by its first bytes, which stay what they are under
//! every name, also where somebody copies a log and empties it in its place; a removed one's inode is soon another's.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::entry::Entry;
use crate::audit::found::{Found, Part, if_there};
use crate::audit::read::{Entries, Lines, TRIES};
use crate::audit::told::Told;
use crate::checksum::crc32;
use crate::host::{Host, LOG_DIR, RUN};

/// So many bytes a file is known by: the first line's time and host are among them.
const HEAD: u64 = 256;

/// How far the log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Checksum of the file's first bytes: [`HEAD`], or as many as `offset`.
    head: u32,
    /// Where the next line begins; 0 is nowhere.
    offset: u64,
}

/// Where an entry was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the log, behind the position; it is told this once.
    Log,
    /// In the spool; it will be told again, here or from the log.
    Spool,
}

/// Tells all that the log of `host` holds behind `from` and all that is on its way there, each of the two oldest first.
/// Returns the position to go on from. Counts that have not come out yet are not among them.
///
/// # Errors
/// Those of open(2) and read(2), unless a file or directory is not there; `WouldBlock` if the files moved all the time.
/// What was told then is not all, and `from` stays the position.
pub fn tell(host: &Host, from: &Position, mut told: impl FnMut(Place, Entry)) -> io::Result<Position> {
    let run = if_there(host.directory(RUN))?;
    let logs = if_there(host.directory(LOG_DIR))?;
    for _ in 0..TRIES {
        let found = Found::open(run.as_ref(), logs.as_ref())?;
        if !found.is_current()? {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let (spools, logs): (Vec<Part>, Vec<Part>) = found.into_parts()?.into_iter().partition(|part| part.is_live);
        let (position, logs) = go_on(logs, from)?;
        let spools = spools.into_iter().map(|part| Lines::new(Box::new(part.file), true)).collect();
        // One after the other through the same entries: a count that came out twice is added up wherever it lies.
        let mut entries = Entries::none();
        for (place, files) in [(Place::Log, logs), (Place::Spool, spools)] {
            entries.go_on(files, Vec::new(), Told::default());
            for entry in &mut entries {
                told(place, entry?);
            }
        }
        return Ok(position);
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "files move all the time; try again"))
}

/// What lies behind `from` in the log's files, oldest first, and where the last of them ends.
fn go_on(parts: Vec<Part>, from: &Position) -> io::Result<(Position, Vec<Lines>)> {
    let mut position = *from;
    let mut files = Vec::new();
    // The newest first, as far back as the one that was read last. Where that is gone, all that is there came later.
    for Part { mut file, length, .. } in parts.into_iter().rev() {
        if length == 0 {
            continue;
        }
        if files.is_empty() {
            position = Position { head: head(&file, length)?, offset: length };
        }
        let known = from.offset.min(HEAD);
        let is_last = from.offset > 0 && known <= length && head(&file, known)? == from.head;
        let start = if is_last { from.offset.min(length) } else { 0 };
        file.seek(SeekFrom::Start(start))?;
        files.push(Lines::new(Box::new(file.take(length.saturating_sub(start))), false));
        if is_last {
            break;
        }
    }
    files.reverse();
    Ok((position, files))
}

/// Checksum of the first bytes of `file`, of which `length` are looked at.
fn head(file: &File, length: u64) -> io::Result<u32> {
    let mut bytes = vec![0; usize::try_from(length.min(HEAD)).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(crc32(&bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::entry::{json, samples};
    use crate::audit::{spool, store};

    struct Machine {
        root: tempfile::TempDir,
        host: Host,
        position: Position,
    }

    const LOG: &str = "var/log/modprobe-guard/audit.jsonl";

    fn line(number: u32) -> String {
        let mut record = samples::record(b"x", 0);
        record.time = Some(number.to_string());
        String::from_utf8(json(&record).unwrap()).unwrap()
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir_in("/dev/shm").unwrap();
            for directory in ["run", "var/log"] {
                fs::create_dir_all(root.path().join(directory)).unwrap();
            }
            let host = Host::at(root.path()).unwrap();
            Machine { root, host, position: Position::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn add(&self, number: u32) {
            spool::append(&spool::directory(&self.host).unwrap(), line(number).as_bytes()).unwrap();
        }

        fn log(&self, number: u32) {
            self.add(number);
            store::flush(&self.host).unwrap();
        }

        /// New in the log, a bar, in the spool; by way of a file, as another process has it.
        fn look(&mut self) -> String {
            let (mut log, mut spool) = (Vec::new(), Vec::new());
            let position = tell(&self.host, &self.position, |place, entry| {
                let word = match entry {
                    Entry::Record(record) => record.time.unwrap(),
                    Entry::Thinned(thinned) => format!("+{}", thinned.thinned),
                    Entry::Foreign(line) => format!("?{}", line.0.len()),
                };
                if place == Place::Log { log.push(word) } else { spool.push(word) }
            });
            let written = serde_json::to_string(&position.unwrap()).unwrap();
            self.position = serde_json::from_str(&written).unwrap();
            format!("{} | {}", log.join(" "), spool.join(" "))
        }
    }

    #[test]
    fn the_log_is_told_once_and_the_spool_every_time() {
        let mut machine = Machine::new();
        assert_eq!(machine.look(), " | ");
        machine.add(1);
        assert_eq!(machine.look(), " | 1");
        assert_eq!(machine.look(), " | 1");
        machine.log(2);
        assert_eq!(machine.look(), "1 2 | ");
        machine.log(3);
        machine.add(4);
        assert_eq!(machine.look(), "3 | 4");
        machine.log(5);
        assert_eq!(machine.look(), "4 5 | ");
        assert_eq!(machine.look(), " | ");
    }

    #[test]
    fn rotations_are_no_end_however_many() {
        let mut machine = Machine::new();
        machine.log(1);
        assert_eq!(machine.look(), "1 | ");
        // Grows without taking space, so that the next flush rotates; the hole is somebody else's line.
        let grow = |machine: &Machine| {
            File::options().write(true).open(machine.path(LOG)).unwrap().set_len(32 << 20).unwrap();
        };
        machine.log(2);
        grow(&machine);
        machine.log(3);
        assert!(machine.path(LOG).with_extension("jsonl.1").exists());
        let shown = machine.look();
        assert!(shown.starts_with("2 ?") && shown.ends_with(" 3 | "), "{shown}");
        machine.log(4);
        assert_eq!(machine.look(), "4 | ");
        // The one that was read last goes with its inode, which is soon another's.
        for number in 5..9 {
            grow(&machine);
            machine.log(number);
        }
        let shown = machine.look();
        let words: Vec<&str> = shown.split(' ').filter(|word| !word.starts_with('?')).collect();
        assert_eq!(words, ["5", "6", "7", "8", "|", ""]);
        assert_eq!(machine.look(), " | ");
    }

    #[test]
    fn a_log_that_was_copied_emptied_or_taken_away_is_not_told_again() {
        let mut machine = Machine::new();
        machine.log(1);
        machine.log(2);
        assert_eq!(machine.look(), "1 2 | ");
        machine.log(3);
        // copytruncate
        fs::copy(machine.path(LOG), machine.path(LOG).with_extension("jsonl.1")).unwrap();
        File::options().write(true).open(machine.path(LOG)).unwrap().set_len(0).unwrap();
        assert_eq!(machine.look(), "3 | ");
        machine.log(4);
        assert_eq!(machine.look(), "4 | ");
        for name in [LOG.to_owned(), format!("{LOG}.1")] {
            fs::remove_file(machine.path(&name)).unwrap();
        }
        assert_eq!(machine.look(), " | ");
        machine.log(5);
        assert_eq!(machine.look(), "5 | ");
        // A power cut took the end.
        let length = fs::metadata(machine.path(LOG)).unwrap().len();
        machine.log(6);
        assert_eq!(machine.look(), "6 | ");
        File::options().write(true).open(machine.path(LOG)).unwrap().set_len(length).unwrap();
        assert_eq!(machine.look(), " | ");
        machine.log(7);
        assert_eq!(machine.look(), "7 | ");
    }

    #[test]
    fn what_a_flush_is_about_to_append_is_still_in_the_spool() {
        let mut machine = Machine::new();
        machine.log(1);
        machine.add(2);
        assert_eq!(machine.look(), "1 | 2");
        // As after SIGKILL in the middle of its writing.
        let run = "run/modprobe-guard";
        fs::rename(machine.path(&format!("{run}/audit.jsonl")), machine.path(&format!("{run}/audit.jsonl.flushing")))
            .unwrap();
        let log = std::os::unix::fs::MetadataExt::ino(&fs::metadata(machine.path(LOG)).unwrap());
        fs::write(machine.path(&format!("{run}/flush")), format!("{log:020} {:020}\n", line(1).len())).unwrap();
        fs::write(machine.path(LOG), line(1) + &line(2)[..20]).unwrap();
        assert_eq!(machine.look(), " | 2");
        machine.log(3);
        assert_eq!(machine.look(), "2 3 | ");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let machine = Machine::new();
        fs::create_dir_all(machine.path(LOG)).unwrap();
        tell(&machine.host, &machine.position, |_, _| ()).unwrap_err();
    }
}

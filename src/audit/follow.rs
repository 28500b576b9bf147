//! Following the record: what was added since the last look, each entry once, wherever it is found first.
//!
//! Every look opens all files as they stand at one moment (`found.rs`) and goes on in each where the last one ended. A
//! file is known by its inode and kept open, so that no other can get that number. A line is met twice by its nature:
//! in the spool and, after a flush, in the log. So the lines told of a spool are remembered until a look finds that
//! spool gone: then all of them are in the log, and are left out of what is new there.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use crate::audit::found::{Found, Part, if_there};
use crate::audit::read::{Entries, Lines, TRIES};
use crate::audit::table;
use crate::audit::told::Told;
use crate::host::{Host, LOG_DIR, RUN};

/// Where the last look at a host's record ended.
pub struct Follower {
    host: Host,
    logs: Vec<Known>,
    spools: Vec<Known>,
    /// Always empty; the others have its key.
    told: Told,
    entries: Entries,
    has_looked: bool,
}

/// A file that was read as far as `position`.
struct Known {
    file: File,
    position: u64,
    /// What was told of it, if it is a spool.
    told: Told,
}

impl Follower {
    /// One that has not looked yet.
    pub fn new(host: &Host) -> Follower {
        Follower {
            host: host.clone(),
            logs: Vec::new(),
            spools: Vec::new(),
            told: Told::default(),
            entries: Entries::none(),
            has_looked: false,
        }
    }

    /// What there is (the first time), or what was added since, oldest first; to be taken to its end before the next
    /// look. `None` if the files moved all the time: look again in a moment.
    ///
    /// Counts that have not come out yet are told the first time only; after that, when they come out, by what they
    /// have grown.
    ///
    /// # Errors
    /// Those of open(2) and read(2), unless a file or directory is not there. There is no going on then.
    pub fn look(&mut self) -> io::Result<Option<&mut Entries>> {
        let run = if_there(self.host.directory(RUN))?;
        let logs = if_there(self.host.directory(LOG_DIR))?;
        for _ in 0..TRIES {
            // The counts first: one that comes out meanwhile is met again in the spool, and known.
            let pending = match &run {
                Some(run) if !self.has_looked => if_there(table::pending(run))?.unwrap_or_default(),
                _ => Vec::new(),
            };
            let found = Found::open(run.as_ref(), logs.as_ref())?;
            if found.is_current()?
                && let Some((files, told)) = self.go_on(found.into_parts()?)?
            {
                self.has_looked = true;
                self.entries.go_on(files, pending, told);
                return Ok(Some(&mut self.entries));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(None)
    }

    /// What is new in `parts`, and what of it was told before.
    fn go_on(&mut self, parts: Vec<Part>) -> io::Result<Option<(Vec<Lines>, Told)>> {
        let is_flushing = parts.iter().any(|part| part.is_flushing);
        let mut files = Vec::new();
        let (mut gone, mut logs, mut spools) = (Vec::new(), Vec::new(), Vec::new());
        for known in std::mem::take(&mut self.logs) {
            let is_there = parts.iter().any(|part| is_same(&part.file, &known.file));
            if is_there { logs.push(known) } else { gone.push(known) }
        }
        // A log that somebody took away from its names is read to its end first, unless that end may be a flush's.
        if is_flushing && !gone.is_empty() {
            logs.extend(gone);
            self.logs = logs;
            return Ok(None);
        }
        for mut known in gone {
            files.push(known.lines_until(u64::MAX)?);
        }
        for Part { file, length, is_live, .. } in parts {
            let all = if is_live { &mut self.spools } else { &mut logs };
            let mut known = match all.iter().position(|known| is_same(&known.file, &file)) {
                Some(at) => all.swap_remove(at),
                None => Known { file, position: 0, told: self.told.clone() },
            };
            if is_live {
                files.push(known.whole_lines()?);
                spools.push(known);
            } else {
                files.push(known.lines_until(length)?);
                self.logs.push(known);
            }
        }
        // The spools that are gone: what was told of them is in the log now.
        let mut told = self.told.emptied();
        for spool in std::mem::replace(&mut self.spools, spools) {
            told.join(spool.told);
        }
        Ok(Some((files, told)))
    }
}

impl Known {
    /// What is new in a log that is to be read no further than `length`.
    fn lines_until(&mut self, length: u64) -> io::Result<Lines> {
        // Somebody emptied it in its place: what it holds now is new.
        let size = self.file.metadata()?.size();
        if size < self.position {
            self.position = 0;
        }
        let length = length.min(size);
        let mut reader = self.file.try_clone()?;
        reader.seek(SeekFrom::Start(self.position))?;
        let lines = Lines::new(Box::new(reader.take(length.saturating_sub(self.position))), false);
        self.position = self.position.max(length);
        Ok(lines)
    }

    /// What is new in a spool, without a last line that is still being written.
    fn whole_lines(&mut self) -> io::Result<Lines> {
        let size = self.file.metadata()?.size();
        let room = usize::try_from(size.saturating_sub(self.position)).unwrap_or_default();
        let mut bytes = vec![0; room];
        let mut filled = 0_usize;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.position.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end.saturating_add(1));
        bytes.truncate(whole);
        self.position = self.position.saturating_add(whole as u64);
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.told.add(line);
        }
        Ok(Lines::new(Box::new(Cursor::new(bytes)), true))
    }
}

/// Whether two open files are one; not so if one of them can't tell.
fn is_same(one: &File, other: &File) -> bool {
    let name = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((name(one), name(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::entry::{Entry, json, samples};
    use crate::audit::{spool, store};

    struct Machine {
        root: tempfile::TempDir,
        host: Host,
        follower: Follower,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir_in("/dev/shm").unwrap();
            for directory in ["run", "var/log"] {
                fs::create_dir_all(root.path().join(directory)).unwrap();
            }
            let host = Host::at(root.path()).unwrap();
            let follower = Follower::new(&host);
            Machine { root, host, follower }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn add(&self, number: u32) {
            spool::append(&spool::directory(&self.host).unwrap(), line(number).as_bytes()).unwrap();
        }

        fn flush(&self) {
            store::flush(&self.host).unwrap();
        }

        fn look(&mut self) -> String {
            let word = |entry: io::Result<Entry>| match entry.unwrap() {
                Entry::Record(record) => record.time.unwrap(),
                Entry::Thinned(thinned) => format!("+{}", thinned.thinned),
                Entry::Foreign(line) => format!("?{line}"),
            };
            self.follower.look().unwrap().unwrap().map(word).collect::<Vec<_>>().join(" ")
        }
    }

    fn line(number: u32) -> String {
        let mut record = samples::record(b"x", 0);
        record.time = Some(number.to_string());
        String::from_utf8(json(&record).unwrap()).unwrap()
    }

    const LOG: &str = "var/log/modprobe-guard/audit.jsonl";
    const SPOOL: &str = "run/modprobe-guard/audit.jsonl";

    #[test]
    fn every_entry_is_told_once_wherever_it_is_found() {
        let mut machine = Machine::new();
        assert_eq!(machine.look(), "");
        machine.add(1);
        assert_eq!(machine.look(), "1");
        assert_eq!(machine.look(), "");
        machine.add(2);
        // Some were told in the spool, some are met in the log first.
        machine.flush();
        assert_eq!(machine.look(), "2");
        machine.add(3);
        assert_eq!(machine.look(), "3");
        machine.flush();
        assert_eq!(machine.look(), "");
        for number in 4..7 {
            machine.add(number);
            machine.flush();
        }
        machine.add(7);
        assert_eq!(machine.look(), "4 5 6 7");
        assert_eq!(machine.look(), "");
        machine.flush();
        machine.add(8);
        assert_eq!(machine.look(), "8");
        // Who comes later sees all.
        machine.follower = Follower::new(&machine.host);
        assert_eq!(machine.look(), "1 2 3 4 5 6 7 8");
        machine.flush();
        assert_eq!(machine.look(), "");
    }

    #[test]
    fn lines_that_are_the_same_are_told_as_often_as_they_are_there() {
        let mut machine = Machine::new();
        machine.add(1);
        assert_eq!(machine.look(), "1");
        machine.flush();
        machine.add(1);
        machine.flush();
        assert_eq!(machine.look(), "1");
    }

    #[test]
    fn a_rotation_is_no_end() {
        let mut machine = Machine::new();
        machine.add(1);
        machine.flush();
        assert_eq!(machine.look(), "1");
        // Grows without taking space, so that the next flush rotates; the hole is somebody else's line.
        File::options().write(true).open(machine.path(LOG)).unwrap().set_len(32 << 20).unwrap();
        machine.add(2);
        machine.flush();
        assert!(machine.path("var/log/modprobe-guard/audit.jsonl.1").exists());
        let shown = machine.look();
        assert!(shown.starts_with("?\\x00") && shown.ends_with(" 2"));
        machine.add(3);
        assert_eq!(machine.look(), "3");
    }

    #[test]
    fn a_log_that_was_taken_away_or_emptied_is_told_to_its_end() {
        let mut machine = Machine::new();
        machine.add(1);
        machine.flush();
        assert_eq!(machine.look(), "1");
        machine.add(2);
        machine.flush();
        fs::rename(machine.path(LOG), machine.path("elsewhere")).unwrap();
        machine.add(3);
        machine.flush();
        assert_eq!(machine.look(), "2 3");
        // copytruncate
        File::options().write(true).open(machine.path(LOG)).unwrap().set_len(0).unwrap();
        assert_eq!(machine.look(), "");
        machine.add(4);
        machine.flush();
        assert_eq!(machine.look(), "4");
    }

    #[test]
    fn a_flush_that_ended_half_way_doubles_nothing() {
        let mut machine = Machine::new();
        machine.add(1);
        machine.flush();
        machine.add(2);
        machine.add(3);
        assert_eq!(machine.look(), "1 2 3");
        // As after SIGKILL in the middle of its writing.
        fs::rename(machine.path(SPOOL), machine.path("run/modprobe-guard/audit.jsonl.flushing")).unwrap();
        let log = fs::metadata(machine.path(LOG)).unwrap();
        let mark = format!("{:020} {:020}\n", log.ino(), log.len());
        fs::write(machine.path("run/modprobe-guard/flush"), mark).unwrap();
        let half = line(1) + &line(2) + &line(3)[..20];
        fs::write(machine.path(LOG), half).unwrap();
        assert_eq!(machine.look(), "");
        machine.add(4);
        assert_eq!(machine.look(), "4");
        machine.flush();
        machine.add(5);
        assert_eq!(machine.look(), "5");
    }

    #[test]
    fn a_line_being_written_is_told_when_it_is_whole() {
        let mut machine = Machine::new();
        machine.add(1);
        let (start, end) = (line(2)[..30].to_owned(), line(2)[30..].to_owned());
        let append = |text: &str| {
            let mut spool = File::options().append(true).open(machine.path(SPOOL)).unwrap();
            io::Write::write_all(&mut spool, text.as_bytes()).unwrap();
        };
        append(&start);
        let mut follower = Follower::new(&machine.host);
        assert_eq!(follower.look().unwrap().unwrap().count(), 1);
        append(&end);
        std::mem::swap(&mut machine.follower, &mut follower);
        assert_eq!(machine.look(), "2");
    }

    #[test]
    fn counts_come_by_what_they_have_grown() {
        let mut machine = Machine::new();
        let ask = |times| (0..times).for_each(|_| crate::audit::write(&machine.host, &samples::record(b"x", 0)));
        // The budget first, so that the rest are counted.
        ask(1000);
        let requests = |follower: &mut Follower| -> u64 {
            let number = |entry: io::Result<Entry>| match entry.unwrap() {
                Entry::Thinned(thinned) => thinned.thinned,
                _ => 1,
            };
            follower.look().unwrap().unwrap().map(number).sum()
        };
        let mut follower = Follower::new(&machine.host);
        assert_eq!(requests(&mut follower), 1000);
        ask(10);
        assert_eq!(requests(&mut follower), 0);
        // A minute later.
        let run = spool::directory(&machine.host).unwrap();
        let mut table = table::Table::lock(&run, Duration::from_secs(5)).unwrap();
        let passed = table.bring_out_passed(&run, table::now() + 2 * crate::audit::thinning::WINDOW).unwrap();
        assert_eq!(passed.len(), 1);
        drop(table);
        assert_eq!(requests(&mut follower), 10);
        machine.flush();
        assert_eq!(requests(&mut follower), 0);
        machine.follower = follower;
        assert_eq!(machine.look(), "");
    }
}

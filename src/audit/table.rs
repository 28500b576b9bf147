//! The table of kinds, `/run/modprobe-guard/thinning`: what the helpers, which live for a millisecond each, know of
//! one another.
//!
//! One place holds the budget, the others a kind each; a place is 1 KiB, read and written by itself, with a checksum.
//! A kind may stand in any place of the one group that it belongs to. Who changes something has the file's lock.
//!
//! The order of steps makes requests = records + counts, also where SIGKILL comes between two of them:
//! - *Written*: the line first, then the number of lines written. In between, the 21st is written too.
//! - *Counted*: one write. Before it, this request was not recorded, as if it had been killed before it came here.
//! - *Brought out*: the line first, then the count goes to nothing. In between, the same count, named by kind and
//!   `since`, comes out again later, perhaps greater; who reads ([`read`](crate::audit::read)) adds the difference.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit::entry::{self, Thinned};
use crate::audit::spool;
use crate::audit::thinning::{self, Budget, Slot};
use crate::checksum::crc32;
use crate::host::Directory;
use crate::model::Record;

/// Name of the file below [`RUN`](crate::host::RUN).
const TABLE: &str = "thinning";
const PLACE: usize = 1024;
/// Checksum and length.
const HEAD: usize = 6;
const GROUP: u64 = 8;
const GROUPS: u64 = 32;

/// The table, locked.
#[derive(Debug)]
pub struct Table(File);

/// What became of a record.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    /// Whether the other sinks are to hear of it: it was not thinned.
    pub to_tell: bool,
    /// A count that came out on this occasion.
    pub passed: Option<Thinned>,
}

/// Now, microseconds since boot: no setting of the clock moves it.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Table {
    /// Opens the table below `run` and locks it; makes it if it is missing.
    ///
    /// # Errors
    /// Those of open(2); `WouldBlock` if others had it for all of `patience`.
    pub fn lock(run: &Directory, patience: Duration) -> io::Result<Table> {
        let file = run.open(TABLE, OFlag::O_RDWR | OFlag::O_CREAT, Mode::S_IRUSR | Mode::S_IWUSR)?;
        spool::lock_alone(&file, patience)?;
        let size = GROUP.saturating_mul(GROUPS).saturating_add(1).saturating_mul(PLACE as u64);
        if file.metadata()?.size() < size {
            // All at once: later a full file system can't keep a request from being counted.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(size).unwrap_or(i64::MAX));
        }
        Ok(Table(file))
    }

    /// Writes `line`, which is `record`'s, to the spool in `run`, or counts it.
    ///
    /// # Errors
    /// If it could be neither written nor counted.
    pub fn keep(&mut self, run: &Directory, record: &Record, line: &[u8], now: u64) -> io::Result<Kept> {
        let bytes = line.len() as u64;
        let mut budget: Budget =
            read_place(&self.0, 0).unwrap_or_else(|| Budget::new(RandomState::new().build_hasher().finish(), now));
        let kind = thinning::kind(record, budget.key);
        let first = kind.checked_rem(GROUPS).unwrap_or_default().saturating_mul(GROUP).saturating_add(1);
        let mut places = read_group(&self.0, first);
        let chosen = Slot::choose(&places, kind, now).unwrap_or_default();
        let place = first.saturating_add(chosen as u64);

        let mut passed = None;
        let mut slot = match places.get_mut(chosen).and_then(Option::take) {
            None => Slot::new(kind, now),
            Some(slot) if slot.kind == kind && !slot.has_passed(now) => slot,
            Some(old) => match bring_out(run, &old) {
                Ok(thinned) => {
                    passed = thinned;
                    Slot::new(kind, now)
                }
                // Its count can't come out now, and must not be lost: this request joins it, whatever its kind.
                Err(_) if old.has_passed(now) => Slot { kind: old.kind, count: old.count, ..Slot::new(kind, now) },
                Err(_) => old,
            },
        };
        // What was loaded stands there by its name, whatever else there is: it is not loaded again and again.
        let has_loaded = record.outcome.as_ref().is_some_and(|outcome| !outcome.loaded.is_empty());
        let to_tell = budget.admits(&slot, bytes, now) || has_loaded;
        if to_tell {
            slot.written = slot.written.saturating_add(1);
            budget.spend(bytes);
        }
        if to_tell && spool::append(run, line).is_ok() {
            // This is only about how much gets written: if it can't be noted the record is longer, not wrong.
            let _ = write_place(&self.0, place, &slot);
        } else {
            slot.count(record);
            write_place(&self.0, place, &slot)?;
        }
        let _ = write_place(&self.0, 0, &budget);
        Ok(Kept { to_tell, passed })
    }

    /// Brings out the counts whose windows have passed, into the spool in `run`.
    ///
    /// # Errors
    /// Those of [`spool::append`]; what had come out before is lost to the caller, not to the spool.
    pub fn bring_out_passed(&mut self, run: &Directory, now: u64) -> io::Result<Vec<Thinned>> {
        let mut all = Vec::new();
        for place in 1..=GROUP.saturating_mul(GROUPS) {
            let Some(slot) = read_place::<Slot>(&self.0, place).filter(|slot| slot.has_passed(now)) else { continue };
            if let Some(thinned) = bring_out(run, &slot)? {
                write_place(&self.0, place, &Slot { count: None, ..slot })?;
                all.push(thinned);
            }
        }
        Ok(all)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Closing would do, unless a child has the file open as well.
        let _ = self.0.unlock();
    }
}

/// All counts that have not come out yet, without touching them.
pub fn pending(run: &Directory) -> io::Result<Vec<Thinned>> {
    let file = run.open(TABLE, OFlag::O_RDONLY, Mode::empty())?;
    let places = 1..=GROUP.saturating_mul(GROUPS);
    Ok(places.filter_map(|place| read_place::<Slot>(&file, place)?.thinned()).collect())
}

/// Writes a slot's count to the spool. The slot is as it was.
fn bring_out(run: &Directory, slot: &Slot) -> io::Result<Option<Thinned>> {
    let Some(thinned) = slot.thinned() else { return Ok(None) };
    spool::append(run, &entry::json(&thinned)?)?;
    Ok(Some(thinned))
}

fn offset(place: u64) -> u64 {
    place.saturating_mul(PLACE as u64)
}

/// What stands in a place: nothing if it is empty or damaged.
fn read_place<T: DeserializeOwned>(file: &File, place: u64) -> Option<T> {
    let mut bytes = [0; PLACE];
    // A reader without the lock may see half of a write: then the checksum is wrong, and a moment later it is right.
    (0..3)
        .find_map(|_| {
            file.read_exact_at(&mut bytes, offset(place)).ok()?;
            let is_empty = bytes.starts_with(&[0; HEAD]);
            if is_empty { Some(None) } else { decode(&bytes).map(Some) }
        })
        .flatten()
}

/// What stands in the places from `first` on, which are one group: with one read, and whoever has the lock needs no more.
fn read_group(file: &File, first: u64) -> Vec<Option<Slot>> {
    let mut bytes = [0; GROUP as usize * PLACE];
    let _ = file.read_exact_at(&mut bytes, offset(first));
    bytes.as_chunks().0.iter().map(decode).collect()
}

fn decode<T: DeserializeOwned>(bytes: &[u8; PLACE]) -> Option<T> {
    let (checksum, rest) = bytes.split_first_chunk::<4>()?;
    let (length, body) = rest.split_first_chunk::<2>()?;
    let body = body.get(..usize::from(u16::from_le_bytes(*length)))?;
    if body.is_empty() || crc32(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

fn write_place(file: &File, place: u64, value: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let length = u16::try_from(body.len()).ok().filter(|_| body.len() <= PLACE.saturating_sub(HEAD));
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    let bytes = [&crc32(&body).to_le_bytes()[..], &length.to_le_bytes(), &body].concat();
    file.write_all_at(&bytes, offset(place))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::entry::Entry;
    use crate::audit::entry::samples::record;
    use crate::audit::thinning::{ALWAYS, WINDOW};
    use crate::host::Host;
    use crate::text::Text;

    const PATIENCE: Duration = Duration::from_millis(20);

    struct Machine {
        _root: tempfile::TempDir,
        path: PathBuf,
        run: Directory,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("run")).unwrap();
            let run = spool::directory(&Host::at(root.path()).unwrap()).unwrap();
            Machine { path: root.path().join("run/modprobe-guard"), _root: root, run }
        }

        /// A record of `size` bytes of user `uid`.
        fn ask(&self, uid: u32, size: usize, now: u64) -> Kept {
            let record = record(b"x", uid);
            let mut line = entry::json(&record).unwrap();
            line.resize(size.max(line.len()), b' ');
            line.push(b'\n');
            Table::lock(&self.run, PATIENCE).unwrap().keep(&self.run, &record, &line, now).unwrap()
        }

        /// Records written, and requests counted in lines and in the table.
        fn sums(&self) -> (u64, u64, u64) {
            let spool = fs::read(self.path.join("audit.jsonl")).unwrap_or_default();
            let (mut records, mut counted) = (0, 0);
            for line in spool.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
                match Entry::parse(line) {
                    Entry::Record(_) => records += 1,
                    Entry::Thinned(thinned) => counted += thinned.thinned,
                    Entry::Foreign(line) => panic!("{line}"),
                }
            }
            let pending = pending(&self.run).unwrap_or_default().iter().map(|thinned| thinned.thinned).sum();
            (records, counted, pending)
        }
    }

    #[test]
    fn beyond_the_first_and_the_budget_requests_are_counted_and_come_out() {
        let machine = Machine::new();
        let told = (0..100).filter(|&now| machine.ask(0, 8192, now).to_tell).count();
        assert_eq!(told, 20);
        assert_eq!(machine.sums(), (20, 0, 80));
        let kept = machine.ask(0, 100, WINDOW);
        assert!(kept.to_tell);
        assert_eq!(kept.passed.unwrap().thinned, 80);
        assert_eq!(machine.sums(), (21, 80, 0));
        // What loaded something is written all the same.
        (0..100).for_each(|_| drop(machine.ask(0, 8192, WINDOW)));
        let mut record = record(b"x", 0);
        for (loaded, is_written) in [(vec![], false), (vec![Text::from("x")], true)] {
            record.outcome.as_mut().unwrap().loaded = loaded;
            let mut line = entry::json(&record).unwrap();
            line.resize(8192, b' ');
            line.push(b'\n');
            let kept = Table::lock(&machine.run, PATIENCE).unwrap().keep(&machine.run, &record, &line, WINDOW).unwrap();
            assert_eq!(kept.to_tell, is_written);
        }
    }

    #[test]
    fn windows_that_have_passed_come_out_by_themselves() {
        let machine = Machine::new();
        for uid in 0..3 {
            (0..30).for_each(|_| drop(machine.ask(uid, 8192, 5)));
        }
        let mut table = Table::lock(&machine.run, PATIENCE).unwrap();
        assert_eq!(table.bring_out_passed(&machine.run, WINDOW).unwrap(), []);
        let mut counts: Vec<u64> =
            table.bring_out_passed(&machine.run, 5 + WINDOW).unwrap().iter().map(|thinned| thinned.thinned).collect();
        counts.sort_unstable();
        assert_eq!(counts, [10, 10, 10]);
        assert_eq!(table.bring_out_passed(&machine.run, 5 + WINDOW).unwrap(), []);
        assert_eq!(machine.sums(), (60, 30, 0));
    }

    #[test]
    fn a_full_table_loses_no_count() {
        let machine = Machine::new();
        let kinds = 2 * u32::try_from(GROUP * GROUPS).unwrap();
        for uid in 0..kinds {
            (0..22).for_each(|_| drop(machine.ask(uid, 3300, 5)));
        }
        let (records, counted, pending) = machine.sums();
        assert_eq!(records + counted + pending, u64::from(kinds) * 22);
        assert!(records < u64::from(kinds * (ALWAYS + 1)) && counted > 0 && pending > 0);
    }

    #[test]
    fn a_full_spool_is_counted_even_among_the_first() {
        let machine = Machine::new();
        fs::write(machine.path.join("audit.jsonl"), vec![b'\n'; usize::try_from(spool::LIMIT).unwrap()]).unwrap();
        let told = (0..30).filter(|&now| machine.ask(0, 8192, now).to_tell).count();
        assert_eq!((told, machine.sums()), (20, (0, 0, 30)));
        // The count can't come out either, of its own kind or of others that need its place.
        (1..1000).for_each(|uid| drop(machine.ask(uid, 100, 2 * WINDOW)));
        assert_eq!(machine.sums(), (0, 0, 1029));
        fs::remove_file(machine.path.join("audit.jsonl")).unwrap();
        (1..1000).for_each(|uid| drop(machine.ask(uid, 100, 4 * WINDOW)));
        let (records, counted, pending) = machine.sums();
        assert_eq!(records + counted + pending, 2028);
        assert!(records > 900);
    }

    #[test]
    fn a_damaged_table_starts_over() {
        let machine = Machine::new();
        let path = machine.path.join("thinning");
        machine.ask(0, 100, 5);
        let good = fs::read(&path).unwrap();
        for at in 0..2 * PLACE {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            fs::write(&path, &bad[..bad.len() - at]).unwrap();
            machine.ask(0, 100, 6);
        }
        for garbage in [vec![0xff; 300_000], vec![], vec![0; 10]] {
            fs::write(&path, garbage).unwrap();
            assert!(machine.ask(0, 100, 6).to_tell);
        }
    }

    #[test]
    fn the_longest_count_fits_into_its_place() {
        let mut record = record(&[0xff; 5000], u32::MAX);
        record.time = Some("ü".repeat(5000));
        record.verdict.rule = Some("r".repeat(5000));
        record.verdict.source = "s".repeat(5000);
        record.verdict.module = Some(Text(vec![0xff; 5000]));
        record.verdict.reason = Some("ü".repeat(5000));
        // This one is not kept.
        record.verdict.carried_out = crate::model::Action::Allow;
        record.requester.task.exe = Some(Text(vec![0xff; 5000]));
        record.requester.task.unit = Some(Text(vec![0xff; 5000]));
        let mut slot = Slot { kind: u64::MAX, began: u64::MAX, written: u32::MAX, count: None };
        slot.count(&record);
        slot.count.as_mut().unwrap().thinned = u64::MAX;
        let machine = Machine::new();
        let table = Table::lock(&machine.run, PATIENCE).unwrap();
        write_place(&table.0, 9, &slot).unwrap();
        assert_eq!(read_place::<Slot>(&table.0, 9).map(|slot| slot.thinned()), Some(slot.thinned()));
        let mut bytes = [0; PLACE];
        table.0.read_exact_at(&mut bytes, offset(9)).unwrap();
        for at in 0..HEAD + usize::from(u16::from_le_bytes([bytes[4], bytes[5]])) {
            bytes[at] ^= 1;
            assert_eq!(decode::<Slot>(&bytes), None, "{at}");
            bytes[at] ^= 1;
        }
        assert_eq!(Table::lock(&machine.run, PATIENCE).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

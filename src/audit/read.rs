//! Reading the record: every entry, wherever it is at the moment, oldest first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use crate::audit::entry::{self, Entry, Thinned};
use crate::audit::found::{Found, Part, if_there};
use crate::audit::table;
use crate::audit::told::Told;
use crate::host::{Host, LOG_DIR, RUN};
use crate::text::Text;

/// A longer line is none of ours, and is taken apart.
const LINE_LIMIT: u64 = 1 << 20;
/// What is kept of a foreign line.
const FOREIGN_LIMIT: usize = 4096;
/// Times and kinds are shorter: what goes by them would keep any number of longer ones.
const WORD_LIMIT: usize = 64;
/// Lines are nearly in order: helpers that wait for their delegate write late. Sorted are so many at a time,
const WINDOW: usize = 4096;
/// as long as they have no more bytes than this.
const WINDOW_BYTES: usize = 16 << 20;
/// How often files that move are opened anew, and the end of a line is waited for.
pub(super) const TRIES: u32 = 20;
/// Counts that are remembered, to add up those that came out twice.
const COUNTS: usize = 65_536;

/// Entries of one or several sources, oldest first.
///
/// An error of reading ends the file that it was met in, not the others.
pub struct Entries {
    sources: Vec<Source>,
    counted: HashMap<(String, String), u64>,
    last: usize,
}

/// All entries of `host`: the log and what it was before, the spool, and the counts that have not come out yet.
///
/// # Errors
/// Those of open(2), unless a file or directory is not there.
pub fn of_host(host: &Host) -> io::Result<Entries> {
    let (parts, pending) = parts_of_host(host)?;
    let files = parts.into_iter().map(|part| Lines::new(Box::new(part.file.take(part.length)), part.is_live));
    Ok(Entries::new(vec![Source { files: files.collect(), pending: pending.into(), ..Source::default() }]))
}

/// The lines of all entries of `host`, file by file, for whom their order is nothing.
///
/// # Errors
/// As with [`of_host`].
pub fn lines_of_host(host: &Host) -> io::Result<Vec<Box<dyn Read + Send>>> {
    let (parts, pending) = parts_of_host(host)?;
    let mut counts = Vec::new();
    for thinned in &pending {
        counts.extend(entry::json(thinned)?);
    }
    let files = parts.into_iter().map(|part| Box::new(part.file.take(part.length)) as Box<dyn Read + Send>);
    Ok(files.chain([Box::new(io::Cursor::new(counts)) as Box<dyn Read + Send>]).collect())
}

fn parts_of_host(host: &Host) -> io::Result<(Vec<Part>, Vec<Thinned>)> {
    let run = if_there(host.directory(RUN))?;
    let logs = if_there(host.directory(LOG_DIR))?;
    let mut last = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        // The counts first: one that comes out meanwhile is met again in the spool, and known.
        let pending = run.as_ref().map_or(Ok(None), |run| if_there(table::pending(run)))?.unwrap_or_default();
        let found = Found::open(run.as_ref(), logs.as_ref())?;
        let is_current = found.is_current()?;
        last = (found.into_parts()?, pending);
        if is_current {
            break;
        }
    }
    Ok(last)
}

/// All entries of files, or of whatever else holds lines; those of several are merged.
pub fn of_readers(readers: impl IntoIterator<Item = Box<dyn Read>>) -> Entries {
    let source = |reader| Source { files: VecDeque::from([Lines::new(reader, false)]), ..Source::default() };
    Entries::new(readers.into_iter().map(source).collect())
}

/// The lines of one file.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read>>,
    /// Somebody may be writing the last line just now.
    is_live: bool,
}

impl Lines {
    pub(super) fn new(reader: Box<dyn Read>, is_live: bool) -> Lines {
        Lines { reader: BufReader::new(reader), is_live }
    }

    /// The next line that is not empty, without its end; `None` behind the last.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut tries = if self.is_live { TRIES } else { 0 };
        loop {
            let room = LINE_LIMIT.saturating_sub(line.len() as u64);
            let count = self.reader.by_ref().take(room).read_until(b'\n', &mut line)?;
            let is_whole = line.last() == Some(&b'\n');
            if is_whole {
                line.pop();
            }
            if is_whole && line.is_empty() {
                continue;
            }
            if is_whole || line.len() as u64 >= LINE_LIMIT || (count == 0 && (line.is_empty() || tries == 0)) {
                return Ok((!line.is_empty()).then_some(line));
            }
            if count == 0 {
                tries = tries.saturating_sub(1);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Files one behind the other, nearly in order.
#[derive(Default)]
struct Source {
    files: VecDeque<Lines>,
    pending: VecDeque<Thinned>,
    /// By time, then by place. A line without a time goes with the one before it.
    sorted: BTreeMap<(String, u64), (usize, io::Result<Entry>)>,
    bytes: usize,
    read: u64,
    time: String,
    /// What was told already and is to be left out of the log.
    told: Told,
}

impl Source {
    /// The time of the next entry.
    fn peek(&mut self) -> Option<&str> {
        while self.sorted.len() < WINDOW && self.bytes < WINDOW_BYTES {
            let is_log = self.files.front().is_some_and(|lines| !lines.is_live);
            let (length, entry) = match self.files.front_mut().map(Lines::next) {
                Some(Ok(Some(line))) if is_log && self.told.meet(&line) => continue,
                Some(Ok(Some(line))) => (line.len(), Ok(parse(&line))),
                Some(Ok(None)) => {
                    self.files.pop_front();
                    continue;
                }
                Some(Err(error)) => {
                    self.files.pop_front();
                    (0, Err(error))
                }
                None => match self.pending.pop_front() {
                    Some(thinned) => (0, Ok(Entry::Thinned(Box::new(thinned)))),
                    None => break,
                },
            };
            if let Some(time) = entry.as_ref().ok().and_then(Entry::time) {
                time.clone_into(&mut self.time);
            }
            self.read = self.read.saturating_add(1);
            self.bytes = self.bytes.saturating_add(length);
            self.sorted.insert((self.time.clone(), self.read), (length, entry));
        }
        self.sorted.first_key_value().map(|((time, _), _)| time.as_str())
    }

    fn next(&mut self) -> Option<io::Result<Entry>> {
        let (_, (length, entry)) = self.sorted.pop_first()?;
        self.bytes = self.bytes.saturating_sub(length);
        Some(entry)
    }
}

fn parse(line: &[u8]) -> Entry {
    let is_ours = |entry: &Entry| {
        let words = match entry {
            Entry::Record(record) => [record.time.as_deref().unwrap_or_default(), "", ""],
            Entry::Thinned(thinned) => [&*thinned.time, &*thinned.since, &*thinned.kind],
            Entry::Foreign(_) => return false,
        };
        words.iter().all(|word| word.len() <= WORD_LIMIT)
    };
    let entry = Entry::parse(line);
    if is_ours(&entry) { entry } else { Entry::Foreign(Text::from(line.get(..FOREIGN_LIMIT).unwrap_or(line))) }
}

impl Entries {
    fn new(sources: Vec<Source>) -> Entries {
        Entries { sources, counted: HashMap::new(), last: 0 }
    }

    /// Which of the readers had the entry that came last.
    pub fn last_reader(&self) -> usize {
        self.last
    }

    /// None yet.
    pub(super) fn none() -> Entries {
        Entries::new(Vec::new())
    }

    /// Goes on with what was added meanwhile. What is in `told` is left out of the log; counts are told by what they
    /// grew since they were met before.
    pub(super) fn go_on(&mut self, files: Vec<Lines>, pending: Vec<Thinned>, told: Told) {
        self.sources = vec![Source { files: files.into(), pending: pending.into(), told, ..Source::default() }];
    }

    /// A count that came out before is told by what has been added since; `None` if nothing has.
    fn only_new(&mut self, mut thinned: Box<Thinned>) -> Option<Entry> {
        if self.counted.len() >= COUNTS {
            self.counted.clear();
        }
        let told = self.counted.entry((thinned.kind.clone(), thinned.since.clone())).or_default();
        let all = thinned.thinned;
        thinned.thinned = all.checked_sub(*told).filter(|&new| new > 0)?;
        *told = all;
        Some(Entry::Thinned(thinned))
    }
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        loop {
            let times = self.sources.iter_mut().enumerate();
            let times = times.filter_map(|(at, source)| Some((source.peek()?.to_owned(), at)));
            let (_, at) = times.min()?;
            self.last = at;
            match self.sources.get_mut(at)?.next()? {
                Ok(Entry::Thinned(thinned)) => {
                    if let Some(entry) = self.only_new(thinned) {
                        return Some(Ok(entry));
                    }
                }
                other => return Some(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::entry::{json, samples};
    use crate::audit::thinning::Slot;
    use crate::model::Record;

    fn line(time: u32) -> String {
        let mut record = samples::record(b"x", 0);
        record.time = Some(time.to_string());
        String::from_utf8(json(&record).unwrap()).unwrap()
    }

    fn thinned(kind: u64, since: &str, count: u32) -> String {
        let mut slot = Slot::new(kind, 0);
        let mut record = samples::record(b"x", 0);
        record.time = Some(since.to_owned());
        (0..count).for_each(|_| slot.count(&record));
        String::from_utf8(json(&slot.thinned().unwrap()).unwrap()).unwrap()
    }

    /// Times of records, counts with a `+`, foreign lines as they are.
    fn told(entries: Entries) -> String {
        let word = |entry: io::Result<Entry>| match entry.unwrap() {
            Entry::Record(record) => record.time.unwrap(),
            Entry::Thinned(thinned) => format!("+{}", thinned.thinned),
            Entry::Foreign(text) => text.to_string(),
        };
        entries.map(word).collect::<Vec<_>>().join(" ")
    }

    fn of_texts(texts: &[String]) -> String {
        told(of_readers(texts.iter().map(|text| Box::new(io::Cursor::new(text.clone())) as Box<dyn Read>)))
    }

    struct Machine {
        root: tempfile::TempDir,
        host: Host,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            let host = Host::at(root.path()).unwrap();
            Machine { root, host }
        }

        fn file(&self, path: &str, text: &str) -> PathBuf {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    #[test]
    fn all_places_are_read_oldest_first() {
        let machine = Machine::new();
        assert_eq!(told(of_host(&machine.host).unwrap()), "");
        for (name, time) in [("audit.jsonl", 4), ("audit.jsonl.1", 3), ("audit.jsonl.2", 2), ("audit.jsonl.3", 1)] {
            machine.file(&format!("var/log/modprobe-guard/{name}"), &line(time));
        }
        machine.file("run/modprobe-guard/audit.jsonl.flushing", &line(5));
        machine.file("run/modprobe-guard/audit.jsonl", &(line(7) + &line(6)));
        assert_eq!(told(of_host(&machine.host).unwrap()), "1 2 3 4 5 6 7");
    }

    #[test]
    fn what_lies_behind_the_mark_is_read_once() {
        let machine = Machine::new();
        let log = machine.file("var/log/modprobe-guard/audit.jsonl", &(line(1) + &line(2) + &line(3)[..20]));
        machine.file("run/modprobe-guard/audit.jsonl.flushing", &(line(2) + &line(3)));
        let mark = format!("{:020} {:020}\n", fs::metadata(log).unwrap().ino(), line(1).len());
        let mark = machine.file("run/modprobe-guard/flush", &mark);
        assert_eq!(told(of_host(&machine.host).unwrap()), "1 2 3");
        // A mark that was left over says nothing.
        fs::remove_file(machine.root.path().join("run/modprobe-guard/audit.jsonl.flushing")).unwrap();
        machine.file("var/log/modprobe-guard/audit.jsonl", &(line(1) + &line(2)));
        assert!(mark.exists());
        assert_eq!(told(of_host(&machine.host).unwrap()), "1 2");
    }

    #[test]
    fn what_goes_by_words_of_a_line_keeps_no_long_ones() {
        let long = "x".repeat(WORD_LIMIT + 1);
        let mut record = samples::record(b"x", 0);
        for (time, is_ours) in [(&long[1..], true), (&long, false)] {
            record.time = Some(time.to_owned());
            assert_eq!(matches!(parse(&json(&record).unwrap()), Entry::Record(_)), is_ours, "{time}");
            let counted = thinned(7, time, 1);
            assert_eq!(matches!(parse(counted.as_bytes()), Entry::Thinned(_)), !counted.contains(&long), "{time}");
        }
        let longest = samples::record(&[b'x'; 4 * FOREIGN_LIMIT], 0);
        let line = json(&Record { time: Some(long), ..longest }).unwrap();
        assert!(matches!(parse(&line), Entry::Foreign(text) if text.as_bytes().len() == FOREIGN_LIMIT));
    }

    #[test]
    fn foreign_and_broken_lines_are_told_where_they_stand() {
        let long = "x".repeat(usize::try_from(LINE_LIMIT).unwrap() + 7);
        let text = format!("{}cut\n\n{}{long}\n{}", line(1), line(2), &line(3)[..9]);
        let shown = format!("1 cut 2 {} xxxxxxx {}", "x".repeat(FOREIGN_LIMIT), &line(3)[..9]);
        assert_eq!(of_texts(&[text]), shown);
    }

    #[test]
    fn several_files_are_merged() {
        let texts = [line(1) + &line(4) + &line(5), line(3) + &line(2), String::new(), line(6)];
        assert_eq!(of_texts(&texts), "1 2 3 4 5 6");
    }

    #[test]
    fn a_count_that_came_out_twice_is_added_up() {
        let text =
            thinned(1, "5", 3) + &thinned(2, "5", 3) + &thinned(1, "5", 3) + &thinned(1, "5", 7) + &thinned(1, "6", 2);
        assert_eq!(of_texts(&[text]), "+3 +3 +4 +2");
    }

    /// What is there, and after two looks that found nothing more, the rest.
    struct BeingWritten(VecDeque<&'static str>);

    impl Read for BeingWritten {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let part = self.0.pop_front().unwrap_or_default();
            into[..part.len()].copy_from_slice(part.as_bytes());
            Ok(part.len())
        }
    }

    #[test]
    fn a_line_being_written_is_waited_for() {
        let all = |is_live| {
            let mut lines = Lines::new(Box::new(BeingWritten(["one\ntw", "", "", "o\n"].into())), is_live);
            std::iter::from_fn(move || lines.next().unwrap().map(|line| String::from_utf8(line).unwrap())).collect()
        };
        let [live, still]: [Vec<String>; 2] = [true, false].map(all);
        assert_eq!(live, ["one", "two"]);
        // What nobody writes to any more ends where it ends.
        assert_eq!(still[..2], ["one", "tw"]);
    }
}

//! What the recorder writes and the helper reads: for every processor a ring of the last requests made on it.
//!
//! One row a processor, since the kernel runs a program there once at a time, and a plain counter then does where 5.10
//! has no atomic one. The first half of the rows is the first program's, the other half the second's: a request stands in
//! both, or in one (program.rs says why). In 64-bit words of the machine's own order:
//!
//! | row | |
//! | --- | --- |
//! | 0 | requests ever written to this row |
//! | 1 to 15 | unused |
//! | 16 and on | entries of 16 words; the next one to be written is the number above modulo their number |
//!
//! | entry | |
//! | --- | --- |
//! | 0 | 0 while it is being written, then twice its number in the row (from 1); the lowest bit is set by the helper that served it, or that saw its task go on |
//! | 1 | time, nanoseconds since boot (CLOCK_BOOTTIME) |
//! | 2 | process << 32 \| thread |
//! | 3 | where in the kernel it was made: the return address |
//! | 4 | group << 32 \| user, both real |
//! | 5 | whether somebody waits for it, 0 or 1 |
//! | 6, 7 | the task's name, ends at a NUL |
//! | 8 to 14 | the name asked for, ends at a NUL |
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::text::Text;

/// Words of a row's head, and of an entry.
pub const STRIDE: usize = 16;
/// Words of an entry, by their meaning; the program has the same numbers.
pub mod word {
    #![allow(missing_docs)]
    pub const SEQUENCE: usize = 0;
    pub const TIME: usize = 1;
    pub const TASK: usize = 2;
    pub const CALL_SITE: usize = 3;
    pub const USER: usize = 4;
    pub const WAITED: usize = 5;
    pub const COMM: usize = 6;
    pub const NAME: usize = 8;
}
/// Set in an entry's first word once it is no longer open.
const SERVED: u64 = 1;
/// Entries older than this are not looked at: no helper starts so late.
const OLDEST: u64 = 60_000_000_000;

/// The rows of all processors.
pub struct Ring<'a> {
    words: &'a [AtomicU64],
    row: usize,
}

/// One request, as its own task wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    at: usize,
    sequence: u64,
    /// Nanoseconds since boot.
    pub time: u64,
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// Return address in the kernel.
    pub call_site: u64,
    /// Real user id.
    pub uid: u32,
    /// The task's own name.
    pub comm: Text,
    /// Its thread has asked for something else since: if it was not killed, this one was answered.
    pub is_past: bool,
}

#[cfg(test)]
impl Entry {
    /// As if `tid` of `pid` had asked `time` nanoseconds after boot.
    pub fn sample(pid: i32, tid: i32, time: u64) -> Entry {
        Entry { at: 0, sequence: 2, time, pid, tid, call_site: 0, uid: 1000, comm: "ask".into(), is_past: false }
    }
}

impl<'a> Ring<'a> {
    /// `words` are rows of `entries` entries each.
    pub fn new(words: &'a [AtomicU64], entries: usize) -> Ring<'a> {
        Ring { words, row: entries.saturating_add(1).saturating_mul(STRIDE) }
    }

    /// Requests that the first program has written since the recorder was made.
    pub fn count(&self) -> u64 {
        let rows = self.words.len().checked_div(self.row).unwrap_or(0);
        let counts = self.words.chunks_exact(self.row).take(rows / 2).filter_map(|row| row.first());
        counts.map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// Whether the name of the last request on some processor could not be read: every request has one.
    pub fn is_blind(&self) -> bool {
        self.words.chunks_exact(self.row).any(|row| {
            let count = row.first().map_or(0, |count| count.load(Ordering::Acquire));
            let entries = (self.row / STRIDE - 1) as u64;
            let last = count.checked_sub(1).and_then(|last| last.checked_rem(entries));
            let at = last.and_then(|last| usize::try_from(last).ok()).map(|last| (last + 1) * STRIDE + word::NAME);
            at.and_then(|at| row.get(at)).is_some_and(|name| name.load(Ordering::Relaxed) == 0)
        })
    }

    /// Requests for `name` of which `now`, nanoseconds since boot, none is known to have been served: of each thread the
    /// last. Youngest first.
    pub fn open_requests(&self, name: &[u8], waited: bool, now: u64) -> Vec<Entry> {
        let name = Name::new(name);
        let found = self.recent(now).filter_map(|at| self.read(at, &name, waited));
        let kept = last_of_each_thread(found.collect());
        if waited { self.with_what_is_past(kept, now) } else { kept }
    }

    /// `entries`, and which of them are past.
    fn with_what_is_past(&self, mut entries: Vec<Entry>, now: u64) -> Vec<Entry> {
        // Mostly there is one, and a thousand others: those are not sorted.
        let mut last: Vec<(i32, u64)> = entries.iter().map(|entry| (entry.tid, 0)).collect();
        last.sort_unstable();
        for at in self.recent(now) {
            let place = self.word(at, word::TASK).map(thread).map(|tid| last.binary_search_by_key(&tid, |one| one.0));
            let Some((tid, time)) = place.and_then(|place| last.get_mut(place.ok()?)) else { continue };
            let asked = self.whole(at, |word| Some((thread(word(word::TASK)?), word(word::TIME)?)));
            *time = asked.filter(|asked| asked.0 == *tid).map_or(*time, |asked| asked.1.max(*time));
        }
        for entry in &mut entries {
            let place = last.binary_search_by_key(&entry.tid, |one| one.0);
            entry.is_past = place.ok().and_then(|place| last.get(place)).is_some_and(|one| one.1 > entry.time);
        }
        entries
    }

    /// Whether a request that was made after `since`, nanoseconds since boot, may have been written over.
    pub fn has_lost(&self, since: u64) -> bool {
        self.words.chunks_exact(self.row).any(|row| {
            let entries = (self.row / STRIDE - 1) as u64;
            let count = row.first().map_or(0, |count| count.load(Ordering::Acquire));
            // The next to be written over, which is a little younger than the last that was.
            let oldest = count.checked_rem(entries).filter(|_| count > entries);
            let at = oldest.and_then(|oldest| usize::try_from(oldest).ok()).map(|oldest| (oldest + 1) * STRIDE);
            let word = |word: usize| at.and_then(|at| row.get(at + word)).map(|word| word.load(Ordering::Relaxed));
            word(word::SEQUENCE).is_some_and(|sequence| sequence != 0)
                && word(word::TIME).is_some_and(|time| time > since)
        })
    }

    /// Whether the thread `tid` has asked for anything after `since`, as far as that is `now`; both nanoseconds since boot.
    pub fn has_asked_since(&self, tid: i32, since: u64, now: u64) -> bool {
        self.times_of(tid, now, |_| Some(())).any(|(time, ())| time > since)
    }

    /// Whether the last request of the thread `tid` was about `name`; `None` if it is not known.
    pub fn asked_last_for(&self, tid: i32, name: &[u8], now: u64) -> Option<bool> {
        let name = Name::new(name);
        self.times_of(tid, now, |word| Some(name.is_in(word))).max().map(|(_, is_it)| is_it)
    }

    /// When the thread `tid` asked, and what `read` takes of that.
    fn times_of<T>(&self, tid: i32, now: u64, read: impl Fn(Words<'_>) -> Option<T>) -> impl Iterator<Item = (u64, T)> {
        let is_its = move |task: u64| thread(task) == tid;
        let entries = self.recent(now).filter(move |&at| self.word(at, word::TASK).is_some_and(is_its));
        entries.filter_map(move |at| {
            let read = |word: Words<'_>| is_its(word(word::TASK)?).then_some((word(word::TIME)?, read(word)?));
            self.whole(at, read)
        })
    }

    /// All requests, answered or not, of whose name `is_meant` says so: of each thread the last. Youngest first.
    pub fn all_about(&self, is_meant: impl Fn(&[u8]) -> bool, now: u64) -> Vec<Entry> {
        let about = |at: usize| {
            let sequence = self.words.get(at)?.load(Ordering::Acquire);
            self.whole(at, |word| {
                let name = text(word, word::NAME..STRIDE - 1)?;
                if is_meant(&name) { entry(at, sequence, word) } else { None }
            })
        };
        self.with_what_is_past(last_of_each_thread(self.recent(now).filter_map(about).collect()), now)
    }

    /// Marks a request as served, by us or by others, so that no later one is taken for it. False if another helper did
    /// that before, or the entry was overwritten meanwhile.
    pub fn serve(&self, entry: &Entry, name: &[u8], waited: bool) -> bool {
        // First its thread's older entries of that name, among them the other program's of this request: until the entry
        // itself is marked, which one helper can do only, nobody takes one of them for a request that is open.
        let name = Name::new(name);
        for older in self.recent(entry.time).filter(|&at| at != entry.at) {
            if let Some(other) = self.read(older, &name, waited)
                && other.tid == entry.tid
                && other.time <= entry.time
            {
                self.mark(&other);
            }
        }
        self.mark(entry)
    }

    fn mark(&self, entry: &Entry) -> bool {
        let Some(word) = self.words.get(entry.at) else { return false };
        word.compare_exchange(entry.sequence, entry.sequence | SERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Where the entries stand that are not too old, by row from the youngest on.
    fn recent(&self, now: u64) -> impl Iterator<Item = usize> {
        let rows = 0..self.words.len().checked_div(self.row).unwrap_or(0);
        rows.flat_map(move |row| {
            let start = row * self.row;
            let entries = self.row / STRIDE - 1;
            let count = usize::try_from(self.words.get(start).map_or(0, |count| count.load(Ordering::Acquire)));
            let count = count.unwrap_or(0);
            // One more than there are is being written over at this moment, maybe.
            let written = (count.saturating_sub(entries)..count).rev();
            written.map(move |number| start + STRIDE + number % entries * STRIDE)
        })
        .filter(move |&at| self.word(at, word::TIME).is_some_and(|time| now.saturating_sub(time) <= OLDEST))
    }

    fn word(&self, at: usize, offset: usize) -> Option<u64> {
        Some(self.words.get(at + offset)?.load(Ordering::Relaxed))
    }

    /// What `read` takes from the words of the entry at that place; nothing if that is written over meanwhile.
    fn whole<T>(&self, at: usize, read: impl FnOnce(&dyn Fn(usize) -> Option<u64>) -> Option<T>) -> Option<T> {
        let sequence = self.words.get(at)?.load(Ordering::Acquire);
        let taken = read(&|offset| self.word(at, offset))?;
        fence(Ordering::Acquire);
        let is_same = (self.words.get(at)?.load(Ordering::Relaxed) ^ sequence) & !SERVED == 0;
        (sequence != 0 && is_same).then_some(taken)
    }

    /// The entry at that place, if it is whole, not served, and about `name`.
    fn read(&self, at: usize, name: &Name, waited: bool) -> Option<Entry> {
        // Most are about another name: those cost no more than this.
        if !name.may_begin_with(self.word(at, word::NAME)?) {
            return None;
        }
        let sequence = self.words.get(at)?.load(Ordering::Acquire);
        if sequence & SERVED != 0 {
            return None;
        }
        self.whole(at, |word| {
            if !name.is_in(word) || (word(word::WAITED)? != 0) != waited {
                return None;
            }
            entry(at, sequence, word)
        })
    }
}

/// The words of one entry, by their offset.
type Words<'a> = &'a dyn Fn(usize) -> Option<u64>;

/// Words of a name.
const NAME_WORDS: usize = STRIDE - 1 - word::NAME;

/// A name as it stands in an entry.
struct Name {
    /// With the NUL at its end; what comes behind that is anything.
    words: [u64; NAME_WORDS],
    /// The bits of these that count; none if no entry has room for it.
    bits: Option<[u64; NAME_WORDS]>,
}

impl Name {
    fn new(name: &[u8]) -> Name {
        let words = |byte: &dyn Fn(usize) -> u8| {
            std::array::from_fn(|word| u64::from_ne_bytes(std::array::from_fn(|at| byte(word * 8 + at))))
        };
        let bits = words(&|at| if at <= name.len() { u8::MAX } else { 0 });
        Name {
            words: words(&|at| name.get(at).copied().unwrap_or(0)),
            bits: (name.len() < NAME_WORDS * 8).then_some(bits),
        }
    }

    /// By its first word alone.
    fn may_begin_with(&self, word: u64) -> bool {
        let ([expected, ..], Some([bits, ..])) = (&self.words, &self.bits) else { return false };
        (word ^ expected) & bits == 0
    }

    fn is_in(&self, word: Words) -> bool {
        let Some(bits) = &self.bits else { return false };
        let mut parts = (word::NAME..).zip(self.words.iter().zip(bits));
        parts.all(|(at, (expected, bits))| word(at).is_some_and(|found| (found ^ expected) & bits == 0))
    }
}

fn entry(at: usize, sequence: u64, word: Words) -> Option<Entry> {
    let task = word(word::TASK)?;
    Some(Entry {
        at,
        sequence,
        time: word(word::TIME)?,
        pid: i32::try_from(task >> 32).ok()?,
        tid: thread(task),
        call_site: word(word::CALL_SITE)?,
        uid: low_half(word(word::USER)?),
        comm: Text::from(&*text(word, word::COMM..word::NAME)?),
        is_past: false,
    })
}

/// What stands in these words before a NUL.
fn text(word: Words, at: Range<usize>) -> Option<Vec<u8>> {
    let words: Option<Vec<[u8; 8]>> = at.map(|offset| Some(word(offset)?.to_ne_bytes())).collect();
    let mut text = words?.concat();
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Some(text)
}

/// Youngest first.
fn last_of_each_thread(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_unstable_by_key(|entry| (entry.tid, std::cmp::Reverse(entry.time)));
    entries.dedup_by_key(|entry| entry.tid);
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.time));
    entries
}

fn thread(task: u64) -> i32 {
    i32::try_from(low_half(task)).unwrap_or(0)
}

fn low_half(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: usize = 4;
    const NOW: u64 = 100_000_000_000;

    /// A ring as the programs write it, of two processors: rows 0 and 1 are the first one's, 2 and 3 the second's.
    struct Written(Vec<AtomicU64>);

    impl Written {
        fn new() -> Written {
            Written((0..4 * (ENTRIES + 1) * STRIDE).map(|_| AtomicU64::new(0)).collect())
        }

        fn write(&self, cpu: usize, name: &str, tid: u64, time: u64, waited: u64) {
            let set = |at: usize, value: u64| self.0[at].store(value, Ordering::Release);
            let start = cpu * (ENTRIES + 1) * STRIDE;
            let number = self.0[start].load(Ordering::Acquire);
            let at = start + STRIDE + number as usize % ENTRIES * STRIDE;
            set(at, 0);
            set(at + word::TIME, time);
            set(at + word::TASK, (tid / 10 * 10) << 32 | tid);
            set(at + word::CALL_SITE, 0xffff_ffff_8100_0000);
            set(at + word::USER, 7 << 32 | 1000);
            set(at + word::WAITED, waited);
            let bytes = |at: usize, text: &str, room: usize| {
                let mut padded = text.as_bytes().to_vec();
                padded.resize(room, 0);
                for (index, word) in padded.chunks_exact(8).enumerate() {
                    set(at + index, u64::from_ne_bytes(word.try_into().unwrap()));
                }
            };
            bytes(at + word::COMM, "ask", 16);
            bytes(at + word::NAME, name, 56);
            set(start, number + 1);
            set(at, (number + 1) * 2);
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.0, ENTRIES)
        }

        fn tids(&self, name: &str, waited: bool) -> Vec<i32> {
            let open = self.ring().open_requests(name.as_bytes(), waited, NOW);
            open.iter().filter(|entry| !entry.is_past).map(|entry| entry.tid).collect()
        }
    }

    #[test]
    fn a_name_ends_where_it_ends() {
        let words = |text: &[u8]| {
            let mut padded = text.to_vec();
            padded.resize(NAME_WORDS * 8, b'?');
            padded.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect::<Vec<_>>()
        };
        let longest = "x".repeat(NAME_WORDS * 8 - 1);
        for name in ["", "a", "seven77", "eight888", "nine99999", "sixteen616161616", &longest] {
            for (written, expected) in [
                (format!("{name}\0"), true),
                (format!("{name}\0\0\0"), true),
                (format!("{name}y"), false),
                (format!("{}\0", name.strip_suffix(|_| true).unwrap_or("z")), false),
            ] {
                let words = words(&written.as_bytes()[..written.len().min(NAME_WORDS * 8)]);
                let word = |at: usize| words.get(at - word::NAME).copied();
                let name = Name::new(name.as_bytes());
                assert_eq!(name.is_in(&word), expected, "{written:?}");
                assert!(!expected || name.may_begin_with(words[0]), "{written:?}");
            }
        }
        let long = Name::new(&[b'x'; NAME_WORDS * 8]);
        assert!(!long.may_begin_with(u64::MAX) && !long.is_in(&|_| Some(0x7878_7878_7878_7878)));
    }

    #[test]
    fn a_request_is_found_by_its_name_and_whether_it_is_waited_for() {
        let written = Written::new();
        assert!(written.tids("net-pf-9", true).is_empty());
        written.write(0, "net-pf-9", 41, NOW - 5, 1);
        written.write(1, "net-pf-9", 42, NOW - 4, 0);
        written.write(1, "net-pf-90", 43, NOW - 3, 1);
        assert_eq!(written.tids("net-pf-9", true), [41]);
        assert_eq!(written.tids("net-pf-9", false), [42]);
        assert!(written.tids("net-pf", true).is_empty());
        assert!(written.tids("", true).is_empty());
        let found = written.ring().open_requests(b"net-pf-9", true, NOW);
        let entry = &found[0];
        assert_eq!((entry.pid, entry.uid, entry.time, entry.call_site), (40, 1000, NOW - 5, 0xffff_ffff_8100_0000));
        assert_eq!(entry.comm, Text::from("ask"));
        assert_eq!(written.ring().count(), 3);
    }

    #[test]
    fn names_that_cannot_be_read_are_noticed() {
        let written = Written::new();
        assert!(!written.ring().is_blind());
        (0..5).for_each(|_| written.write(1, "x", 41, NOW, 1));
        assert!(!written.ring().is_blind());
        written.write(1, "", 41, NOW, 1);
        assert!(written.ring().is_blind());
        written.write(1, "x", 41, NOW, 1);
        assert!(!written.ring().is_blind());
    }

    #[test]
    fn the_longest_name_fits() {
        let written = Written::new();
        let name = "x".repeat(55);
        written.write(0, &name, 41, NOW, 1);
        assert_eq!(written.tids(&name, true), [41]);
        assert!(written.tids(&"x".repeat(54), true).is_empty());
    }

    #[test]
    fn what_was_served_is_not_open() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - 5, 1);
        let found = written.ring().open_requests(b"x", true, NOW);
        assert!(written.ring().serve(&found[0], b"x", true));
        assert!(!written.ring().serve(&found[0], b"x", true));
        assert!(written.tids("x", true).is_empty());
        // The same thread again.
        written.write(0, "x", 41, NOW - 4, 1);
        assert_eq!(written.tids("x", true), [41]);
    }

    #[test]
    fn a_request_that_both_programs_wrote_down_is_one() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - 50, 1);
        written.write(3, "x", 41, NOW - 49, 1);
        // One program missed each of these.
        written.write(2, "x", 42, NOW - 48, 1);
        written.write(1, "x", 43, NOW - 47, 1);
        assert_eq!(written.tids("x", true), [43, 42, 41]);
        let found = written.ring().open_requests(b"x", true, NOW);
        assert!(written.ring().serve(&found[2], b"x", true));
        assert_eq!(written.tids("x", true), [43, 42]);
        assert!(written.ring().serve(&found[1], b"x", true));
        assert_eq!(written.tids("x", true), [43]);
        assert_eq!(written.ring().count(), 2);
    }

    #[test]
    fn an_entry_that_was_written_over_is_not_marked() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - 9, 1);
        let found = written.ring().open_requests(b"x", true, NOW);
        (0..ENTRIES).for_each(|_| written.write(0, "y", 42, NOW - 8, 1));
        assert!(!written.ring().serve(&found[0], b"x", true));
        assert_eq!(written.tids("y", true), [42]);
    }

    #[test]
    fn two_that_ask_at_once_are_two() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - 5, 1);
        written.write(1, "x", 42, NOW - 4, 1);
        assert_eq!(written.tids("x", true), [42, 41]);
        // The place of 41's entry of another time is being written over by somebody else.
        let old = (ENTRIES + 1) * STRIDE + 2 * STRIDE;
        written.write(1, "z", 41, NOW - 9, 1);
        written.0[old].store(0, Ordering::Release);
        written.0[old + word::TIME].store(NOW - 1, Ordering::Release);
        assert_eq!(written.tids("x", true), [42, 41]);
        // 41 went on to something else, on another processor.
        written.write(1, "y", 41, NOW - 3, 1);
        assert_eq!(written.tids("x", true), [42]);
        // It may have been killed, and counts.
        let open = written.ring().open_requests(b"x", true, NOW);
        assert_eq!(open.iter().map(|entry| (entry.tid, entry.is_past)).collect::<Vec<_>>(), [(42, false), (41, true)]);
    }

    #[test]
    fn what_was_written_over_is_noticed() {
        let written = Written::new();
        for number in 0..=ENTRIES as u64 {
            assert!(!written.ring().has_lost(0), "{number}");
            written.write(1, "x", 41, NOW - 9 + number, 1);
        }
        for (since, expected) in [(NOW - 10, true), (NOW - 9, true), (NOW - 8, false), (NOW, false)] {
            assert_eq!(written.ring().has_lost(since), expected);
        }
        // It is being written over.
        written.0[(ENTRIES + 1 + 2) * STRIDE].store(0, Ordering::Release);
        assert!(!written.ring().has_lost(0));
    }

    #[test]
    fn one_that_asks_twice_is_one() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - 5, 1);
        written.write(1, "x", 41, NOW - 4, 1);
        let found = written.ring().open_requests(b"x", true, NOW);
        assert_eq!(found.iter().map(|entry| entry.time).collect::<Vec<_>>(), [NOW - 4]);
        // It went on to something else.
        assert!(!written.ring().has_asked_since(41, NOW - 4, NOW) && written.ring().has_asked_since(41, NOW - 5, NOW));
        written.write(0, "y", 41, NOW - 3, 1);
        assert!(written.ring().has_asked_since(41, NOW - 4, NOW) && !written.ring().has_asked_since(42, 0, NOW));
    }

    #[test]
    fn whom_a_request_was_about_is_known_when_it_was_answered_too() {
        let written = Written::new();
        let about = |name: &str| -> Vec<(i32, u64)> {
            let entries = written.ring().all_about(|asked| asked == name.as_bytes(), NOW);
            entries.iter().map(|entry| (entry.tid, entry.time)).collect()
        };
        written.write(0, "x", 41, NOW - 9, 1);
        written.write(3, "x", 41, NOW - 8, 1);
        written.write(1, "x", 42, NOW - 7, 0);
        written.write(0, "y", 42, NOW - 6, 1);
        let found = written.ring().open_requests(b"x", true, NOW);
        assert!(written.ring().serve(&found[0], b"x", true));
        assert_eq!(
            (about("x"), about("y"), about("z")),
            (vec![(42, NOW - 7), (41, NOW - 8)], vec![(42, NOW - 6)], vec![])
        );
        let last = |tid, name: &str| written.ring().asked_last_for(tid, name.as_bytes(), NOW);
        assert_eq!(
            [last(42, "x"), last(42, "y"), last(41, "x"), last(41, "y")].map(Option::unwrap),
            [false, true, true, false]
        );
        assert_eq!(last(43, "x"), None);
    }

    #[test]
    fn old_and_half_written_entries_are_none() {
        let written = Written::new();
        written.write(0, "x", 41, NOW - OLDEST - 1, 1);
        assert!(written.tids("x", true).is_empty());
        written.write(0, "x", 42, NOW - OLDEST, 1);
        assert_eq!(written.tids("x", true), [42]);
        written.0[2 * STRIDE].store(0, Ordering::Release);
        assert!(written.tids("x", true).is_empty());
        // A clock that is behind.
        written.write(1, "x", 43, NOW + 7, 1);
        assert_eq!(written.tids("x", true), [43]);
    }

    #[test]
    fn nonsense_is_survived() {
        for length in [0, 1, STRIDE, 5 * STRIDE - 1, 5 * STRIDE, 12 * STRIDE] {
            let words: Vec<AtomicU64> = (0..length).map(|_| AtomicU64::new(u64::MAX - 1)).collect();
            let _ = Ring::new(&words, ENTRIES).open_requests(b"x", true, NOW);
            let _ = Ring::new(&words, 0).open_requests(b"x", true, NOW);
            let _ = (Ring::new(&words, ENTRIES).count(), Ring::new(&words, usize::MAX).count());
        }
    }
}

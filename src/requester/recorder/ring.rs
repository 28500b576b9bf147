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
//! | 0 | 0 while it is being written, then twice its number in the row (from 1); the lowest bit is set by the helper that served it, or that saw its task go on, or gone for long |
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

/// What stands in these words before a NUL, which their last byte is in any case: where it is none they are not the recorder's.
fn text(word: Words, at: Range<usize>) -> Option<Vec<u8>> {
    let words: Option<Vec<[u8; 8]>> = at.map(|offset| Some(word(offset)?.to_ne_bytes())).collect();
    let mut text = words?.concat();
    text.pop();
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
mod tests;

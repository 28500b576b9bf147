//! Thinning: what is written and what is only counted when one kind of request comes again and again.
//!
//! Pure: the [`table`](crate::audit::table) keeps these types between processes.
#![forbid(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::audit::entry::Thinned;
use crate::audit::who::{Who, symbol};
use crate::model::{Record, Request, Verdict};

/// Length of a window, microseconds.
pub const WINDOW: u64 = 60_000_000;
/// So many of a kind are written in every window, whatever they cost.
pub const ALWAYS: u32 = 20;
/// So many bytes of records are written in a window before kinds that had their [`ALWAYS`] are counted.
pub const BUDGET: u64 = 64 << 10;

/// What all kinds share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Makes [`kind`] unpredictable: nobody can have their requests counted as those of another.
    pub key: u64,
    /// Beginning of the window, microseconds since boot.
    pub began: u64,
    /// Bytes written in it.
    pub spent: u64,
}

/// What is known of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// See [`kind`].
    pub kind: u64,
    /// Beginning of the window, microseconds since boot.
    pub began: u64,
    /// Records written in it.
    pub written: u32,
    /// Those that were not written, of this window and of former ones that could not be brought out.
    pub count: Option<Count>,
}

/// Requests that were counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub thinned: u64,
    /// Time of the first, as in its record.
    pub since: String,
    /// Time of the last.
    pub time: String,
    /// What the last one asked for.
    pub request: Request,
    /// Whether all asked for that name.
    pub one_name: bool,
    /// What was decided for it.
    pub verdict: Verdict,
    /// What all who asked have in common.
    pub requester: Who,
}

/// Requests of one user, executable, place in the kernel, verdict and rule are of one kind. The name asked for has no
/// part in it: whoever asks for a new one every time would never be thinned.
///
/// Of several candidates all count, so that somebody who asks beside others does not add to the count of the others.
pub fn kind(record: &Record, key: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    for task in std::iter::once(&record.requester.task).chain(&record.requester.candidates) {
        (task.uid, &task.exe).hash(&mut hasher);
    }
    symbol(&record.requester).hash(&mut hasher);
    let verdict = &record.verdict;
    (verdict.action as u8, verdict.enforced, &verdict.rule).hash(&mut hasher);
    hasher.finish()
}

/// Whether a window that began at `began` has passed; one that begins in the future is none.
fn has_passed(began: u64, now: u64) -> bool {
    now.checked_sub(began).is_none_or(|age| age >= WINDOW)
}

impl Budget {
    /// A window that begins now.
    pub fn new(key: u64, now: u64) -> Budget {
        Budget { key, began: now, spent: 0 }
    }

    /// Whether a record of `bytes` bytes and of the kind of `slot` is to be written.
    pub fn admits(&mut self, slot: &Slot, bytes: u64, now: u64) -> bool {
        if has_passed(self.began, now) {
            *self = Budget::new(self.key, now);
        }
        slot.written < ALWAYS || self.spent.saturating_add(bytes) <= BUDGET
    }

    /// It was written.
    pub fn spend(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }
}

impl Slot {
    /// A kind that nothing is known of.
    pub fn new(kind: u64, now: u64) -> Slot {
        Slot { kind, began: now, written: 0, count: None }
    }

    /// Whether its window has passed.
    pub fn has_passed(&self, now: u64) -> bool {
        has_passed(self.began, now)
    }

    /// Counts a request that is not written.
    pub fn count(&mut self, record: &Record) {
        let time = shorten(record.time.as_deref().unwrap_or_default(), 32);
        let mut next = Count {
            thinned: 1,
            since: time.clone(),
            time,
            request: Request { name: record.request.name.short(128), caller: record.request.caller },
            one_name: true,
            verdict: short_verdict(&record.verdict),
            requester: Who::of(&record.requester),
        };
        if let Some(before) = self.count.take() {
            next.thinned = before.thinned.saturating_add(1);
            next.since = before.since;
            next.one_name = before.one_name && before.request.name == next.request.name;
            next.requester = next.requester.common(&before.requester);
        }
        self.count = Some(next);
    }

    /// What comes out for people: nothing if nothing was counted.
    pub fn thinned(&self) -> Option<Thinned> {
        let Count { thinned, since, time, request, one_name, verdict, requester } = self.count.clone()?;
        let kind = format!("{:016x}", self.kind);
        Some(Thinned { v: 1, time, thinned, since, kind, request, one_name, verdict, requester })
    }

    /// Which of these places is for `kind`: its own, a free one, else the one whose loss costs least.
    pub fn choose(places: &[Option<Slot>], kind: u64, now: u64) -> Option<usize> {
        let cost = |place: &Option<Slot>| match place {
            Some(slot) if slot.kind == kind => (0, 0),
            None => (1, 0),
            Some(slot) if slot.has_passed(now) => (2, u64::from(slot.count.is_some())),
            Some(slot) if slot.count.is_none() => (3, slot.began),
            Some(slot) => (4, slot.began),
        };
        places.iter().enumerate().min_by_key(|(_, place)| cost(place)).map(|(at, _)| at)
    }
}

/// Names and texts are bounded so that a count always fits into its place in the table.
fn short_verdict(verdict: &Verdict) -> Verdict {
    Verdict {
        action: verdict.action,
        enforced: verdict.enforced,
        rule: verdict.rule.as_deref().map(|rule| shorten(rule, 64)),
        source: shorten(&verdict.source, 128),
        module: verdict.module.as_ref().map(|module| module.short(64)),
        reason: verdict.reason.as_deref().map(|reason| shorten(reason, 160)),
        carried_out: verdict.carried_out,
    }
}

/// As [`short`]. One copy in the helper is enough.
#[inline(never)]
fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub("…".len()));
    [text.get(..end).unwrap_or_default(), "…"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::samples::{HOSTILE, record};
    use crate::text::Text;

    #[test]
    fn the_first_of_a_kind_are_always_written_the_rest_within_the_budget() {
        let mut budget = Budget::new(1, 1000);
        let mut slot = Slot::new(7, 1000);
        let mut written = 0;
        for _ in 0..1000 {
            if budget.admits(&slot, 1 << 10, 2000) {
                budget.spend(1 << 10);
                slot.written += 1;
                written += 1;
            }
        }
        assert_eq!(written, BUDGET >> 10);
        let mut other = Slot::new(8, 1000);
        for _ in 0..ALWAYS {
            assert!(budget.admits(&other, 1 << 10, 2000));
            other.written += 1;
        }
        assert!(!budget.admits(&other, 1 << 10, 2000));
        assert!(budget.admits(&other, 1 << 10, 1000 + WINDOW));
        assert_eq!(budget, Budget::new(1, 1000 + WINDOW));
    }

    #[test]
    fn a_window_passes_after_a_minute_or_when_the_clock_goes_back() {
        let slot = Slot::new(7, 1000);
        for (now, passed) in
            [(1000, false), (999 + WINDOW, false), (1000 + WINDOW, true), (999, true), (u64::MAX, true)]
        {
            assert_eq!(slot.has_passed(now), passed, "{now}");
        }
    }

    #[test]
    fn a_count_has_the_first_time_and_the_last_request() {
        let mut slot = Slot::new(0x1f, 0);
        assert_eq!(slot.thinned(), None);
        for (name, time) in [("first", "T1"), ("second", "T2"), ("third", "T3")] {
            let mut record = record(name.as_bytes(), 0);
            record.time = Some(time.to_owned());
            slot.count(&record);
        }
        let thinned = slot.thinned().unwrap();
        assert_eq!((thinned.thinned, &thinned.since[..], &thinned.time[..]), (3, "T1", "T3"));
        assert_eq!((thinned.request.name, &thinned.kind[..]), (Text::from("third"), "000000000000001f"));
    }

    #[test]
    fn kinds_differ_by_who_and_verdict_not_by_name() {
        let base = record(b"x", 0);
        let kind_of = |change: fn(&mut Record)| {
            let mut record = base.clone();
            change(&mut record);
            kind(&record, 1)
        };
        let same = kind(&base, 1);
        assert_eq!(kind_of(|record| record.request.name = Text::from("y")), same);
        assert_eq!(kind_of(|record| record.requester.task.pid = Some(7)), same);
        assert_ne!(kind_of(|record| record.requester.task.uid = Some(1)), same);
        assert_ne!(kind_of(|record| record.requester.task.exe = None), same);
        assert_ne!(kind_of(|record| record.verdict.rule = None), same);
        assert_ne!(kind_of(|record| record.verdict.enforced = false), same);
        assert_ne!(kind_of(|record| record.requester.candidates = vec![record.requester.task.clone()]), same);
        assert_ne!(kind(&base, 2), same);
        let site = |site: &str| {
            let mut record = base.clone();
            record.requester.call_site = Some(Text::from(site));
            kind(&record, 1)
        };
        assert_ne!(site("inet_create+0x2a/0x3f0"), same);
        assert_eq!(site("inet_create+0x2a/0x3f0"), site("inet_create+0x31/0x400"));
        assert_ne!(site("inet_create+0x2a/0x3f0"), site("inet6_create+0x2a/0x3f0"));
    }

    #[test]
    fn the_cheapest_place_is_taken() {
        let now = 10 * WINDOW;
        let slot = |kind, began, counted: bool| {
            let mut slot = Slot::new(kind, began);
            if counted {
                slot.count(&record(b"x", 0));
            }
            Some(slot)
        };
        let places = [
            slot(1, now - 1, true),
            slot(2, now - 2, false),
            slot(3, 0, true),
            slot(4, 0, false),
            None,
            slot(5, now, true),
        ];
        for (places, chosen) in
            [(&places[..], 5), (&places[..5], 4), (&places[..4], 3), (&places[..3], 2), (&places[..2], 1)]
        {
            assert_eq!(Slot::choose(places, 5, now), Some(chosen));
        }
        assert_eq!(Slot::choose(&[], 5, now), None);
    }

    #[test]
    fn a_count_says_of_all_only_what_holds_for_all() {
        let mut slot = Slot::new(1, 0);
        let mut count = |name: &str, unit: &str| {
            let mut record = record(name.as_bytes(), 7);
            record.requester.task.unit = Some(Text::from(unit));
            slot.count(&record);
            let thinned = slot.thinned().unwrap();
            (thinned.one_name, thinned.requester.uid, thinned.requester.unit.map(|unit| unit.to_string()))
        };
        assert_eq!(count("x", "a.service"), (true, Some(7), Some("a.service".to_owned())));
        assert_eq!(count("x", "a.service"), (true, Some(7), Some("a.service".to_owned())));
        assert_eq!(count("y", "a.service"), (false, Some(7), Some("a.service".to_owned())));
        assert_eq!(count("y", "b.service"), (false, Some(7), None));
        assert_eq!(count("y", "b.service"), (false, Some(7), None));
    }

    #[test]
    fn a_name_in_a_count_is_bounded() {
        for name in HOSTILE {
            let mut slot = Slot::new(1, 0);
            slot.count(&record(&name.repeat(100), 0));
            assert!(slot.thinned().unwrap().request.name.0.len() <= 128);
        }
    }
}

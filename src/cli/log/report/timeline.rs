//! How many requests there were when: a bar chart's bars, whatever time the records span.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::{VERDICTS, Word};

/// At most so many bars.
const BARS: i64 = 60;
/// While records come, so many are kept apart: the width of a bar is known only at the end.
const KEPT: usize = 4096;
/// What bars are wide, seconds; beyond the last, twice the one before.
const WIDTHS: [i64; 15] =
    [1, 5, 15, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_419_200];

/// Requests by verdict.
pub type Counts = [u64; VERDICTS.len()];

/// Requests so far, by the beginning of a span of time, in seconds of Unix time.
pub struct Timeline {
    width: i64,
    spans: BTreeMap<i64, Counts>,
    /// Requests whose record tells no time that can be read.
    pub without: u64,
}

/// A bar.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its beginning and end as records write times; the end is not a part of it.
    pub from: String,
    pub to: String,
    /// The beginning in short; no two bars have the same.
    pub label: String,
    pub counts: Counts,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { width: 1, spans: BTreeMap::new(), without: 0 }
    }
}

impl Timeline {
    /// Adds so many requests at `time`.
    pub fn add(&mut self, time: Option<&str>, word: Word, requests: u64) {
        let Some(second) = time.and_then(second) else {
            self.without = self.without.saturating_add(requests);
            return;
        };
        let counts = self.spans.entry(start(second, self.width)).or_default();
        raise(counts, word, requests);
        while self.spans.len() > KEPT {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width = WIDTHS.into_iter().find(|&width| width > self.width).unwrap_or(self.width.saturating_mul(2));
        let mut wider: BTreeMap<i64, Counts> = BTreeMap::new();
        for (at, counts) in std::mem::take(&mut self.spans) {
            let into = wider.entry(start(at, self.width)).or_default();
            for (sum, count) in into.iter_mut().zip(counts) {
                *sum = sum.saturating_add(count);
            }
        }
        self.spans = wider;
    }

    /// The bars, those without requests as well, and how wide each is, seconds.
    pub fn bars(mut self) -> (Vec<Bar>, i64) {
        let (first, last) = loop {
            let (Some((&first, _)), Some((&last, _))) = (self.spans.first_key_value(), self.spans.last_key_value())
            else {
                return (Vec::new(), self.width);
            };
            // Both are multiples of the width, which is never below one.
            if last.saturating_sub(first).checked_div(self.width).unwrap_or(0) < BARS {
                break (first, last);
            }
            self.widen();
        };
        let is_one_day = start(first, 86_400) == start(last, 86_400);
        let mut bars = Vec::new();
        let mut at = first;
        while at <= last {
            let end = at.saturating_add(self.width);
            bars.push(Bar {
                from: written(at),
                to: written(end),
                label: label(at, self.width, is_one_day),
                counts: self.spans.get(&at).copied().unwrap_or_default(),
            });
            at = end;
        }
        (bars, self.width)
    }
}

/// Adds to the one of `counts` that is `word`'s.
pub fn raise(counts: &mut Counts, word: Word, requests: u64) {
    for (count, other) in counts.iter_mut().zip(VERDICTS) {
        if other == word {
            *count = count.saturating_add(requests);
        }
    }
}

/// All of them together; a file may hold any numbers.
pub fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

fn second(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    Some(time.unix_timestamp())
}

/// Where the span begins that `second` is in. Days begin at midnight; weeks, as days of 1970 do, on a Thursday.
fn start(second: i64, width: i64) -> i64 {
    second.saturating_sub(second.checked_rem_euclid(width).unwrap_or(0))
}

fn written(second: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(second).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

fn label(second: i64, width: i64, is_one_day: bool) -> String {
    let written = written(second);
    // YYYY-MM-DDTHH:MM:SSZ
    let part = |range| written.get(range).unwrap_or_default();
    match width {
        86_400.. => part(0..10).to_owned(),
        60.. if is_one_day => part(11..16).to_owned(),
        60.. => format!("{} {}", part(5..10), part(11..16)),
        _ => part(11..19).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[&str]) -> (Vec<Bar>, i64) {
        let mut timeline = Timeline::default();
        times.iter().for_each(|time| timeline.add(Some(time), Word::Block, 2));
        timeline.bars()
    }

    #[test]
    fn bars_are_as_wide_as_the_time_asks_for() {
        for (last, width, count, label) in [
            ("2026-11-20T12:00:30.5Z", 1, 31, "12:00:00"),
            ("2026-11-20T12:30:00Z", 60, 31, "12:00"),
            ("2026-11-21T11:00:00Z", 3600, 24, "11-20 12:00"),
            // Sixty-one half days are too many.
            ("2026-12-20T12:00:00Z", 86_400, 31, "2026-11-20"),
            ("2027-02-20T12:00:00Z", 172_800, 47, "2026-11-19"),
        ] {
            let (bars, found) = of(&["2026-11-20T12:00:00Z", last]);
            assert_eq!((found, bars.len(), bars[0].label.as_str()), (width, count, label), "{last}");
            let sum: u64 = bars.iter().flat_map(|bar| bar.counts).sum();
            assert_eq!((sum, bars[0].counts, bars[count - 1].counts), (4, [2, 0, 0, 0], [2, 0, 0, 0]));
        }
        let (bars, _) = of(&["2026-11-20T13:00:07+01:00"]);
        assert_eq!((bars[0].from.as_str(), bars[0].to.as_str()), ("2026-11-20T12:00:07Z", "2026-11-20T12:00:08Z"));
        assert_eq!(of(&[]).0, []);
    }

    #[test]
    fn whatever_the_times_are_there_are_few_bars() {
        let (bars, _) = of(&["0000-01-01T00:00:00Z", "2026-11-20T12:00:00Z", "9999-12-31T23:59:59Z"]);
        assert!(bars.len() as i64 <= BARS && bars.iter().flat_map(|bar| bar.counts).sum::<u64>() == 6);
        let mut timeline = Timeline::default();
        for number in 0..20_000_i64 {
            timeline.add(Some(&written(number * 7919)), Word::Allow, 1);
        }
        assert!(timeline.spans.len() <= KEPT);
        timeline.add(Some("yesterday"), Word::Allow, 3);
        timeline.add(None, Word::Allow, 4);
        assert_eq!(timeline.without, 7);
        let (bars, _) = timeline.bars();
        assert_eq!(bars.iter().map(|bar| bar.counts[3]).sum::<u64>(), 20_000);
    }
}

//! How often, when and where: sums that come out the same in whatever order they are made.

use std::collections::BTreeSet;

use time::Date;

use super::who::Common;

/// So many names asked for are kept of a group: the first in their order.
const NAMES: usize = 8;
/// So many modules that one needs are, likewise.
const NEEDS: usize = 64;

/// Before it no record was made: a clock that says so had not been set.
const FIRST_YEAR: i32 = 2020;

/// What is counted of one group of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests, those that were counted instead of written included.
    pub requests: u64,
    /// The days of the first and the last; absent if no record tells a time that can be believed.
    pub days: Option<(Day, Day)>,
    /// Which hosts.
    pub hosts: Hosts,
    /// Names that were asked for, as patterns, the first few in their order.
    pub names: BTreeSet<String>,
    /// Of a module, those that came along with it: its dependencies on every kernel that it was asked of, as patterns.
    pub needs: BTreeSet<String>,
    /// The rule that blocked, or would have if it were enforced; of several the first in their order.
    pub watched: Option<String>,
    /// What all who asked had in common; none: nobody did.
    pub common: Option<Common>,
}

impl Tally {
    /// Adds what `other` has counted.
    pub fn add(&mut self, other: &Tally) {
        self.count(other.requests, other.days);
        self.hosts.add(&other.hosts);
        other.names.iter().for_each(|name| self.name(name));
        other.needs.iter().for_each(|name| self.need(name));
        if let Some(rule) = &other.watched {
            self.watch(rule);
        }
        if let Some(common) = other.common {
            self.share(common);
        }
    }

    /// Keeps what one who asked has in common with those before.
    pub(super) fn share(&mut self, common: Common) {
        self.common = Some(self.common.map_or(common, |ours| ours.and(common)));
    }

    /// Counts requests that were made on these days.
    pub(super) fn count(&mut self, requests: u64, days: Option<(Day, Day)>) {
        self.requests = self.requests.saturating_add(requests);
        self.days = match (self.days, days) {
            (Some((first, last)), Some((other, latter))) => Some((first.min(other), last.max(latter))),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// Keeps a name that was asked for.
    pub(super) fn name(&mut self, name: &str) {
        keep(&mut self.names, name, NAMES);
    }

    /// Keeps a module that came along.
    pub(super) fn need(&mut self, name: &str) {
        keep(&mut self.needs, name, NEEDS);
    }

    /// Keeps the rule that would have blocked.
    pub(super) fn watch(&mut self, rule: &str) {
        if self.watched.as_deref().is_none_or(|watched| rule < watched) {
            self.watched = Some(rule.to_owned());
        }
    }
}

/// Adds `name` to the first `most` in their order.
fn keep(names: &mut BTreeSet<String>, name: &str, most: usize) {
    if !names.contains(name) {
        names.insert(name.to_owned());
        if names.len() > most {
            names.pop_last();
        }
    }
}

/// A day as a number in its order: 20261120.
///
/// Comments give days rather than times: what is asked for daily changes them once a day, not with every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    /// The last day of which records can tell on `today`: tomorrow, since clocks differ. Any, if our own clock was not
    /// set.
    pub fn latest(today: Date) -> Day {
        let number = |day: Date| {
            u32::try_from(day.year())
                .ok()?
                .checked_mul(10_000)?
                .checked_add(u32::from(u8::from(day.month())) * 100 + u32::from(day.day()))
        };
        let tomorrow = today.next_day().filter(|day| day.year() >= FIRST_YEAR);
        Day(tomorrow.and_then(number).unwrap_or(u32::MAX))
    }

    /// Of a time as records have it. None if no clock that was set can have told it.
    pub fn of(time: &str) -> Option<Day> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', ..] = time.as_bytes() else { return None };
        let day = [y1, y2, y3, y4, m1, m2, d1, d2].into_iter().try_fold(0_u32, |day, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            day.checked_mul(10)?.checked_add(digit)
        })?;
        let (month, of_month) = (day / 100 % 100, day % 100);
        let is_day = (FIRST_YEAR.unsigned_abs()..2100).contains(&(day / 10_000))
            && (1..=12).contains(&month)
            && (1..=31).contains(&of_month);
        is_day.then_some(Day(day))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

/// Hosts by the numbers that the groups gave them, a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<u64>);

impl Hosts {
    /// Adds one.
    pub(super) fn insert(&mut self, host: u32) {
        let (word, bit) = (host as usize / 64, host % 64);
        if self.0.len() <= word {
            self.0.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn add(&mut self, other: &Hosts) {
        other.iter().for_each(|host| self.insert(host));
    }

    /// Their numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.iter().zip((0_u32..).step_by(64));
        words.flat_map(|(word, base)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_believed_if_a_clock_can_have_told_them() {
        for (time, day) in [
            ("2026-11-20T12:00:00.000000Z", Some("2026-11-20")),
            ("2026-11-20T", Some("2026-11-20")),
            ("1970-01-01T00:00:07.000000Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-00T00:00:00Z", None),
            ("9999-11-20T00:00:00Z", None),
            ("2026-11-2xT", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(Day::of(time).map(|day| day.to_string()).as_deref(), day, "{time}");
        }
    }

    #[test]
    fn tomorrow_is_the_latest_day() {
        let date = |year, day| Date::from_ordinal_date(year, day).unwrap();
        assert_eq!(Day::latest(date(2026, 365)).to_string(), "2027-01-01");
        assert!(Day::latest(date(2026, 325)) < Day::of("2026-11-23T").unwrap());
        assert!(Day::latest(date(1970, 1)) > Day::of("2099-12-31T").unwrap(), "a clock that was not set");
    }

    #[test]
    fn sums_do_not_depend_on_their_order() {
        let one = |requests, day: &str, host, name: &str| {
            let mut tally = Tally::default();
            let day = Day::of(&format!("{day}T"));
            tally.count(requests, day.zip(day));
            tally.hosts.insert(host);
            tally.name(name);
            tally.need(name);
            tally.need("always");
            tally.watch(name);
            tally
        };
        let parts: Vec<Tally> = (0..40)
            .map(|part| one(part, &format!("2026-11-{:02}", 1 + part % 30), part as u32 * 7, &format!("n{part}")))
            .collect();
        let sum = |parts: &mut dyn Iterator<Item = &Tally>| {
            let mut sum = Tally::default();
            parts.for_each(|part| sum.add(part));
            sum
        };
        let forth = sum(&mut parts.iter());
        assert_eq!(forth, sum(&mut parts.iter().rev()));
        assert_eq!((forth.requests, forth.names.len(), forth.hosts.iter().count()), (780, NAMES, 40));
        assert_eq!(forth.hosts.iter().last(), Some(39 * 7));
        assert_eq!(forth.needs.len(), 41);
        assert_eq!(forth.watched.as_deref(), Some("n0"));
        let days = forth.days.unwrap();
        assert_eq!((days.0.to_string(), days.1.to_string()), ("2026-11-01".into(), "2026-11-30".into()));
    }
}

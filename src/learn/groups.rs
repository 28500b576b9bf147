//! Lines of records -> groups: who was permitted or refused what, how often, when, on which hosts.
//!
//! Nothing grows with the number of lines, and the groups come out the same in whatever order lines are read and
//! however they are shared out.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::text::Text;

use super::keys::{keys, needs, request_pattern};
use super::line::{Line, text};
use super::tally::{Day, Tally};
use super::who::{Common, Who};

/// So many groups are told apart, and
const GROUPS: usize = 50_000;
/// so many hosts. What is beyond is counted, and left out.
const HOSTS: usize = 16_384;
/// Kinds of lines whose groups are remembered; beyond that all are looked at anew.
const SHAPES: usize = 65_536;
/// Counts that are remembered within a block, to leave out those that came out twice.
const COUNTS: usize = 4096;

/// What a group is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A module, as a pattern.
    Module(String),
    /// A name asked for, as a pattern.
    Request(String),
}

/// What became of the requests of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Permitted; it is what the name stood for.
    Permitted,
    /// As above, and there already: nobody judged it, and the next time it may be absent.
    Live,
    /// Permitted, of counts, which tell less of who asked.
    Counted,
    /// Permitted; something else needed it, or it was sized.
    Needed,
    /// Permitted, and the load of it sized the table.
    Sized,
    /// Refused, by a rule.
    BlockedByRule,
    /// Refused, by the default.
    BlockedByDefault,
}

/// Names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What became of them.
    pub role: Role,
    /// What they are about.
    pub what: What,
    /// Who made them.
    pub who: Who,
}

/// Lines by what could be made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests in records, and counted.
    pub requests: u64,
    /// Of those, what was counted instead of written.
    pub counted: u64,
    /// Lines that are no records: cut off, somebody else's, a dry run's.
    pub foreign: u64,
    /// Records of a newer version.
    pub newer: u64,
    /// Records that say what this version does not know, and that nothing could be learned of.
    pub unclear: u64,
    /// Records without a time, or with one that no clock can have told.
    pub timeless: u64,
    /// Records with a time that is yet to come.
    pub early: u64,
    /// Requests left out because there are too many groups.
    pub left_out: u64,
}

/// All that was learned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The groups.
    pub groups: BTreeMap<Key, Tally>,
    /// Hosts' names by their numbers, in the printable form; none if there are too many to tell apart.
    pub hosts: Option<Vec<String>>,
    /// What the lines were.
    pub counts: Counts,
}

/// Reads lines; one for each thread.
pub struct Learner {
    trusts_likely: bool,
    latest: Day,
    numbers: HashMap<Key, usize>,
    tallies: Vec<Tally>,
    hosts: HashMap<String, u32>,
    too_many_hosts: bool,
    counts: Counts,
    /// What lines of a kind add to, by a number made of all that matters of the line.
    shapes: HashMap<u64, Shape>,
    hasher: RandomState,
}

/// What a line of a kind adds to.
#[derive(Clone)]
enum Shape {
    Groups(Arc<[usize]>),
    /// There was no room for all of its groups.
    LeftOut,
    Unclear,
    Foreign,
}

impl Learner {
    /// Nothing yet. `trusts_likely`: the policy will have `trust = "likely"`. A day after `latest` is not believed.
    pub fn new(trusts_likely: bool, latest: Day) -> Learner {
        Learner {
            trusts_likely,
            latest,
            numbers: HashMap::new(),
            tallies: Vec::new(),
            hosts: HashMap::new(),
            too_many_hosts: false,
            counts: Counts::default(),
            shapes: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes whole lines.
    pub fn read(&mut self, lines: &[u8]) {
        // Within a block, so that it is the same whoever reads what was before.
        let mut met = HashMap::new();
        super::lines(lines, |line| match serde_json::from_slice::<Line<'_>>(line) {
            Ok(line) => self.add(&line, &mut met),
            Err(_) => self.counts.foreign = self.counts.foreign.saturating_add(1),
        });
    }

    fn add(&mut self, line: &Line<'_>, met: &mut HashMap<u64, u64>) {
        let shape = self.shape(line);
        if let Shape::Foreign = shape {
            self.counts.foreign = self.counts.foreign.saturating_add(1);
            return;
        }
        let requests = match line.thinned {
            None => 1,
            Some(count) => self.grown(line, count, met),
        };
        let Counts { requests: all, counted, newer, unclear, timeless, early, left_out, .. } = &mut self.counts;
        *all = all.saturating_add(requests);
        if line.thinned.is_some() {
            *counted = counted.saturating_add(requests);
        }
        *newer = newer.saturating_add(u64::from(line.v > 1));
        let told = [&line.since, &line.time].map(|time| text(time).and_then(Day::of));
        let [first, last] = told.map(|day| day.filter(|day| *day <= self.latest));
        let days = first.or(last).zip(last.or(first));
        let is_early = told.iter().flatten().any(|day| *day > self.latest);
        *early = early.saturating_add(u64::from(is_early));
        *timeless = timeless.saturating_add(u64::from(days.is_none() && !is_early));
        match shape {
            Shape::Groups(groups) => {
                let host = self.host(text(&line.host));
                for number in &*groups {
                    if let Some(tally) = self.tallies.get_mut(*number) {
                        tally.count(requests, days);
                        if let Some(host) = host {
                            tally.hosts.insert(host);
                        }
                    }
                }
            }
            Shape::LeftOut => *left_out = left_out.saturating_add(requests),
            Shape::Unclear | Shape::Foreign => *unclear = unclear.saturating_add(requests),
        }
    }

    /// By how much a count has grown since it came out before: of two with the same names the greater contains the
    /// other.
    fn grown(&self, line: &Line<'_>, count: u64, met: &mut HashMap<u64, u64>) -> u64 {
        if met.len() >= COUNTS {
            met.clear();
        }
        let before = met.entry(self.hasher.hash_one((&line.host, &line.kind, &line.since))).or_default();
        let grown = count.saturating_sub(*before);
        *before = count.max(*before);
        grown
    }

    fn shape(&mut self, line: &Line<'_>) -> Shape {
        let Line { v: _, time: _, host: _, request, requester, verdict, modules, sysctl, thinned, since: _, kind: _ } =
            line;
        let kind = (request, requester, verdict, modules, sysctl.is_empty(), thinned.is_some());
        let number = self.hasher.hash_one(kind);
        if let Some(shape) = self.shapes.get(&number) {
            return shape.clone();
        }
        if self.shapes.len() >= SHAPES {
            self.shapes.clear();
        }
        let shape = self.shape_of(line);
        self.shapes.insert(number, shape.clone());
        shape
    }

    fn shape_of(&mut self, line: &Line<'_>) -> Shape {
        let confidence = line.requester.as_ref().and_then(|requester| text(&requester.confidence));
        if confidence == Some("assumed") || (line.thinned.is_none() && line.modules.is_none()) {
            return Shape::Foreign;
        }
        let Some(keys) = keys(line, self.trusts_likely) else { return Shape::Unclear };
        let name = request_pattern(line.request.name.get());
        let common = Common::of(line.requester.as_ref());
        let needs = needs(line);
        let watched = text(&line.verdict.rule).filter(|_| line.verdict.action.get() == "block");
        let mut numbers = Vec::with_capacity(keys.len());
        for key in keys {
            let is_got = matches!(key.role, Role::Permitted | Role::Live);
            let needed = needs.as_ref().filter(|(what, _)| is_got && *what == key.what);
            let Some(number) = self.number(key) else { return Shape::LeftOut };
            if let Some(tally) = self.tallies.get_mut(number) {
                tally.share(common);
                if let Some(name) = &name {
                    tally.name(name);
                }
                if let Some((_, names)) = needed {
                    names.iter().for_each(|name| tally.need(name));
                }
                if let Some(rule) = watched {
                    tally.watch(rule);
                }
            }
            numbers.push(number);
        }
        Shape::Groups(numbers.into())
    }

    fn number(&mut self, key: Key) -> Option<usize> {
        let next = self.tallies.len();
        match self.numbers.get(&key) {
            Some(number) => Some(*number),
            None if next >= GROUPS => None,
            None => {
                self.numbers.insert(key, next);
                self.tallies.push(Tally::default());
                Some(next)
            }
        }
    }

    fn host(&mut self, host: Option<&str>) -> Option<u32> {
        let host = host?;
        if let Some(number) = self.hosts.get(host) {
            return Some(*number);
        }
        if self.hosts.len() >= HOSTS {
            self.too_many_hosts = true;
            return None;
        }
        let number = u32::try_from(self.hosts.len()).ok()?;
        self.hosts.insert(host.to_owned(), number);
        Some(number)
    }

    /// All that was read by `learners` together.
    pub fn together(learners: impl IntoIterator<Item = Learner>) -> Groups {
        let mut learners = learners.into_iter();
        let Some(mut all) = learners.next() else { return Groups::default() };
        learners.for_each(|learner| all.join(learner));
        // In the order of their names, so that the numbers say nothing of who was read first.
        let mut names: Vec<(String, u32)> = std::mem::take(&mut all.hosts).into_iter().collect();
        names.sort_unstable();
        let renumbered: HashMap<u32, u32> = names.iter().map(|(_, number)| *number).zip(0..).collect();
        let tallies: Vec<Tally> = all.tallies.into_iter().map(|tally| tally.with_hosts(&renumbered)).collect();
        let groups = all.numbers.into_iter().filter_map(|(key, number)| Some((key, tallies.get(number)?.clone())));
        let hosts = names.into_iter().map(|(name, _)| Text::from(name.as_str()).to_string()).collect();
        Groups { groups: groups.collect(), hosts: (!all.too_many_hosts).then_some(hosts), counts: all.counts }
    }

    fn join(&mut self, other: Learner) {
        let Learner { numbers, tallies, hosts, too_many_hosts, counts, .. } = other;
        self.counts.add(counts);
        self.too_many_hosts |= too_many_hosts;
        let renumbered: HashMap<u32, u32> =
            hosts.into_iter().filter_map(|(name, number)| Some((number, self.host(Some(&name))?))).collect();
        let mut numbers: Vec<(Key, usize)> = numbers.into_iter().collect();
        numbers.sort_unstable();
        for (key, number) in numbers {
            let Some(tally) = tallies.get(number).map(|tally| tally.clone().with_hosts(&renumbered)) else { continue };
            match self.number(key).and_then(|number| self.tallies.get_mut(number)) {
                Some(ours) => ours.add(&tally),
                None => self.counts.left_out = self.counts.left_out.saturating_add(tally.requests),
            }
        }
    }
}

impl Tally {
    fn with_hosts(mut self, numbers: &HashMap<u32, u32>) -> Tally {
        let hosts = std::mem::take(&mut self.hosts);
        hosts.iter().filter_map(|host| numbers.get(&host)).for_each(|host| self.hosts.insert(*host));
        self
    }
}

impl Counts {
    fn add(&mut self, other: Counts) {
        let Counts { requests, counted, foreign, newer, unclear, timeless, early, left_out } = other;
        for (ours, theirs) in [
            (&mut self.requests, requests),
            (&mut self.counted, counted),
            (&mut self.foreign, foreign),
            (&mut self.newer, newer),
            (&mut self.unclear, unclear),
            (&mut self.timeless, timeless),
            (&mut self.early, early),
            (&mut self.left_out, left_out),
        ] {
            *ours = ours.saturating_add(theirs);
        }
    }
}

#[cfg(test)]
mod tests;

//! Who asked, by what the recorder wrote down.

use std::cell::Cell;

use crate::host::{Host, apart};
use crate::model::{Confidence, FoundBy};
use crate::requester::recorder::{Entry, Recorder, since_boot};
use crate::requester::waiting::{Waiting, look, nap, waits_within};
use crate::requester::{Candidate, Found, KTHREADD, Parent, Searched, Wishes, task, templates};
use crate::text::Text;

/// A request whose task is gone may be ours, its task killed while it waited, or one that was answered and is over: it
/// is taken for the former if it was made at most so long before we were started. Nanoseconds.
const GONE: u64 = 1_000_000_000;
/// No helper starts so much later than its request that one older than this may be ours, if its task is gone.
const LATE: u64 = 5 * GONE;
/// Tasks that have asked and not yet gone to sleep are looked at again so many times in all. Where fifty
/// ask for one name most of them wait for a processor, and so do we: more looks would take away what they wait for.
const LOOKS: usize = 20;
/// More who wait than the kernel serves at once there cannot be (MAX_KMOD_CONCURRENT, kernel/module/kmod.c). Who is killed
/// makes way for another before its helper ends.
const MAX_CANDIDATES: usize = 50;
/// Nanoseconds of a clock tick as `/proc` counts: USER_HZ is 100 wherever this runs.
const TICK: u64 = 10_000_000;

/// Why the recorder could not tell who asked.
pub(super) struct Failed {
    /// In words.
    pub why: String,
    /// The recorder, if it is there and well.
    pub recorder: Option<&'static Recorder>,
    /// It may have been somebody of whom the recorder knows no more, or who is gone for too long.
    pub is_lost: bool,
}

/// Finds each task that may have asked for `name`. If no rules ask who, only some of them are looked at.
pub(super) fn search(host: &Host, name: &[u8], parent: Parent, wishes: &Wishes<'_>) -> Result<Found, Failed> {
    // Unmapping it would make every processor that we ran on forget its translations, a moment before we end.
    let recorder: &'static Recorder = match Recorder::open() {
        Ok(recorder) => Box::leak(Box::new(recorder)),
        Err(why) => return Err(Failed { why, recorder: None, is_lost: false }),
    };
    // A request that nobody waits for is started from kthreadd, any other from a kworker (kernel/umh.c).
    let waited = parent.pid != KTHREADD;
    // A tick is rounded down.
    let started = parent.we_started.map_or_else(since_boot, |ours| ours.saturating_add(1).saturating_mul(TICK));
    let age = |entry: &Entry| started.saturating_sub(entry.time);
    let look = |entry: &Entry| fate(host, waited, age(entry) <= GONE, wishes.rules, entry);
    let mut open = recorder.open_requests(name, waited);
    // A helper is started after its request.
    open.retain(|entry| entry.time <= started);
    let is_gone = Cell::new(false);
    let found = settle(open, wishes.described(), look, |over, fate| {
        let age = age(over);
        is_gone.set(is_gone.get() || *fate == Fate::Gone && age <= LATE);
        if fate.is_settled(age, wishes.rules) {
            recorder.serve(over, name, waited);
        }
    });
    let failed = |why: &str| Failed {
        why: why.into(),
        recorder: recorder.is_well().then_some(recorder),
        is_lost: is_gone.get() || recorder.has_lost(started.saturating_sub(GONE)),
    };
    let (found, has_left_out) = without_those_who_left(found);
    let found: Vec<_> = found.into_iter().map(|(entry, fate)| candidate(entry, fate, waited)).collect();
    let mut searched = Searched { found_by: Some(FoundBy::Recorder), ..Searched::default() };
    let Some(((first, _), others)) = found.split_first() else {
        return Err(failed("the recorder holds no such request"));
    };
    let for_others = found.iter().any(|(entry, _)| templates::works_for_others(&entry.comm));
    let principals = if for_others { principals(host, recorder, name, started) } else { Vec::new() };
    // Last: if something hangs on the way all of it is done anew, and this can be done once. It may be another's request, if
    // ours is one that was left out.
    if others.is_empty() && !has_left_out && !recorder.serve(first, name, waited) {
        return Err(failed("the recorder's only such request was taken by another helper"));
    }
    let is_certain = others.is_empty() && !has_left_out && principals.is_empty();
    searched.confidence = if is_certain { Confidence::Exact } else { Confidence::Ambiguous };
    if others.iter().all(|(other, _)| other.call_site == first.call_site) {
        searched.address = others.is_empty().then_some(first.call_site);
        searched.call_site = found.iter().find_map(|(_, candidate)| candidate.call_site.clone());
    }
    let candidates = found.into_iter().map(|(_, candidate)| candidate).chain(principals).collect();
    Ok(Found { searched, candidates, recorder: Some(recorder) })
}

/// For whom a thread of the kernel's may have asked for `name`, for which a helper was started at that time.
fn principals(host: &Host, recorder: &Recorder, name: &[u8], started: u64) -> Vec<Candidate> {
    let entries = recorder.all_about(|asked| templates::needs(asked, name));
    let looked_at = entries.into_iter().filter(|entry| entry.time <= started).filter_map(|entry| {
        let needs = still_needs(host, &entry, started.saturating_sub(entry.time) <= GONE)?;
        Some((entry, needs))
    });
    let (needing, _) = without_those_who_left(looked_at.take(MAX_CANDIDATES).collect());
    let principal = |entry: Entry| Candidate {
        recorded: Some((entry.uid, entry.comm)),
        is_principal: true,
        ..Candidate::new(entry.pid, entry.tid, Some(entry.time / TICK))
    };
    needing.into_iter().map(|(entry, _)| principal(entry)).collect()
}

/// Whether one that asked for an algorithm waits for it still, or was killed a moment ago, maybe.
fn still_needs(host: &Host, entry: &Entry, is_young: bool) -> Option<Fate> {
    let directory = format!("{}/task/{}", entry.pid, entry.tid);
    let gone = is_young.then_some(Fate::Killed);
    if task::is_changing(&directory) {
        return gone;
    }
    let stat = task::Stat::read(host, &directory);
    let Some(stat) = stat.filter(|stat| stat.started <= entry.time / TICK && !stat.is_ending) else { return gone };
    let waits = !entry.is_past && stat.state == b'D' && waits_within(host, &directory, templates::LOOKUP);
    waits.then_some(Fate::Waits(None))
}

/// Leaves out those who are gone, or do something else, and had asked for more before, and says whether there were any. They may
/// have been killed, and what they ask for on their way out is nobody's business; but most of them were answered, and where
/// somebody else waits for the same, or is about to, they are not to be taken for him: he gets it loaded for himself, or not.
fn without_those_who_left(found: Vec<(Entry, Fate)>) -> (Vec<(Entry, Fate)>, bool) {
    if !found.iter().any(|(_, fate)| matches!(fate, Fate::Waits(_) | Fate::Runs)) {
        return (found, false);
    }
    let count = found.len();
    let found: Vec<_> = found.into_iter().filter(|(entry, fate)| !entry.is_past || *fate != Fate::Killed).collect();
    let has_left_out = found.len() < count;
    (found, has_left_out)
}

/// What became of a task that made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It waits for the answer, asked for at this place, if that could be read; or nobody waits for this request.
    Waits(Option<Text>),
    /// It is gone, a moment ago: killed while it waited, maybe.
    Killed,
    /// It runs, and may be about to wait.
    Runs,
    /// It does something else, so its request was answered.
    WentOn,
    /// It is gone, and was not killed while it waited for this answer; or nobody has to know which.
    Gone,
    /// Nobody looked.
    Unseen,
}

impl Fate {
    /// Whether nobody else has to look at one that is over, made `age` nanoseconds before we were started: of one who is gone
    /// another helper may still have to find out that it was killed.
    fn is_settled(&self, age: u64, rules: bool) -> bool {
        *self != Fate::Gone || (!rules && age > LATE)
    }

    /// Whom to name, and to describe, before whom: who waits is not left out for those who only may.
    fn rank(&self) -> u8 {
        match self {
            Fate::Waits(_) => 0,
            Fate::Runs => 1,
            Fate::Unseen => 2,
            Fate::Killed | Fate::WentOn | Fate::Gone => 3,
        }
    }
}

/// Looks at each that has made such a request, youngest first, and keeps those that may be the one. `is_over` is told of all
/// others. If there are more than `enough`, the oldest come first, and once so many wait the others are not looked at.
fn settle(
    mut open: Vec<Entry>,
    enough: usize,
    look: impl Fn(&Entry) -> Fate,
    is_over: impl Fn(&Entry, &Fate),
) -> Vec<(Entry, Fate)> {
    let stays = |(entry, fate): &(Entry, Fate)| {
        let is_over_now = matches!(fate, Fate::WentOn | Fate::Gone);
        if is_over_now {
            is_over(entry, fate);
        }
        !is_over_now
    };
    if enough < open.len() {
        // Who has asked first was answered first, and of that others are told once it was seen.
        open.reverse();
    }
    let mut waiting = 0_usize;
    let looked_at = open.into_iter().map(|entry| {
        // Who has asked for more does not wait: of that one it is soon told whether it went on.
        let fate = if waiting < enough || entry.is_past { look(&entry) } else { Fate::Unseen };
        waiting = waiting.saturating_add(usize::from(matches!(fate, Fate::Waits(_))));
        (entry, fate)
    });
    let mut found: Vec<_> = looked_at.filter(stays).collect();
    // Of those who run, or were killed, there can be any number.
    found.sort_by_key(|(_, fate)| fate.rank());
    found.truncate(MAX_CANDIDATES);
    let mut looks = if waiting < enough { LOOKS } else { 0 };
    while looks > 0 && found.iter().any(|(_, fate)| *fate == Fate::Runs) {
        nap();
        for (entry, fate) in found.iter_mut().filter(|(_, fate)| *fate == Fate::Runs).take(looks) {
            *fate = look(entry);
            looks = looks.saturating_sub(1);
        }
        found.retain(stays);
    }
    found.sort_by_key(|(_, fate)| fate.rank());
    found
}

/// See [`Fate`]; `is_young`: one that is gone may have been killed while it waited for us; `rules`: some ask who.
fn fate(host: &Host, waited: bool, is_young: bool, rules: bool, entry: &Entry) -> Fate {
    if apart::touches_nothing() {
        // Whoever it was may be this one.
        return Fate::Killed;
    }
    // Who was not killed asks for one thing at a time; but its number may be that of a program now that another thread became,
    // which killed it.
    if entry.is_past && is_young {
        return Fate::Killed;
    }
    // It was answered or killed: it matters only to rules which of them.
    if entry.is_past && !rules {
        return Fate::Gone;
    }
    let directory = format!("{}/task/{}", entry.pid, entry.tid);
    // A successor of its number can only have started after it.
    let is_there = || {
        let stat = task::Stat::read(host, &directory);
        stat.is_some_and(|stat| stat.started <= entry.time / TICK && !stat.is_ending)
    };
    let gone = if is_young { Fate::Killed } else { Fate::Gone };
    // Who becomes another program waits for no module, and whoever of that process did was killed before. It may stay so
    // for ever: nobody is to hang on it again.
    if task::is_changing(&directory) {
        return if is_young { Fate::Killed } else { Fate::WentOn };
    }
    if !is_there() {
        return gone;
    }
    if !waited {
        return Fate::Waits(None);
    }
    if entry.is_past {
        return Fate::WentOn;
    }
    match look(host, &directory) {
        Waiting::Yes(call_site) => Fate::Waits(call_site),
        // One that runs for long can't be told from one that is about to wait.
        Waiting::CannotTell | Waiting::Hidden => Fate::Runs,
        // It may have been killed between the two looks.
        Waiting::No if is_there() => Fate::WentOn,
        Waiting::No => gone,
    }
}

fn candidate(entry: Entry, fate: Fate, waits: bool) -> (Entry, Candidate) {
    let candidate = Candidate {
        waits,
        is_past: entry.is_past,
        asked: Some(entry.time),
        recorded: Some((entry.uid, entry.comm.clone())),
        call_site: if let Fate::Waits(call_site) = fate { call_site } else { None },
        ..Candidate::new(entry.pid, entry.tid, Some(entry.time / TICK))
    };
    (entry, candidate)
}

#[cfg(test)]
mod tests;

//! Who asked: the task that made the request, and what is known of it.
//!
//! All of that is read where it can be left behind ([`crate::host::apart`]): who asks must not be able to hold up the answer,
//! neither to its own request nor to another's. Only our own parent is looked at directly: it is the kernel's, or waits for
//! us.

mod ancestors;
mod blocked;
pub mod cgroup;
mod files;
mod parent;
mod recorded;
pub mod recorder;
mod still;
mod symbols;
pub mod task;
mod templates;
mod waiting;

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::host::kernel_config::{KernelConfig, Setting};
use crate::host::{Host, apart};
use crate::invocation::ParentKind;
use crate::model::{Caller, Confidence, Files, FoundBy, Known, Requester, Task};
use crate::text::Text;
use blocked::Blocked;
use cgroup::Groups;
use files::Executables;
use recorded::Failed;
use recorder::Recorder;
use still::{Look, Still, is_still};

/// How much processor time the search for blocked tasks may take, so that some is left to describe what it found.
const SEARCH: Duration = Duration::from_millis(30);
/// How much if rules ask who, and nobody was found who waits though somebody must: that nobody does is to be certain.
const SEARCH_ALL: Duration = Duration::from_millis(500);
/// How much of it to find the name of an address.
const SYMBOLS: Duration = Duration::from_millis(200);
/// If more than so many may have asked, these are described, those who wait first, and of the others there is what the recorder
/// knows: each costs some forty system calls. All are, if rules ask who. `guard learn` names as many in one rule.
const DESCRIBED: usize = 8;
/// If rules ask who, and nobody is seen to wait, those who run at each look are looked at so often again, over some 0.5 s: who
/// asks goes to sleep, who became another program runs on.
const FURTHER_LOOKS: usize = 50;
/// For so long everybody is looked at if need be. If that hangs it is begun anew.
const SEARCHES: Duration = Duration::from_secs(1);
/// kthreadd. A request that nobody waits for (`request_module_nowait`) is started from there, one that somebody waits
/// for from a kworker (kernel/umh.c).
const KTHREADD: i32 = 2;

/// The process that started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its number; 0 if it lives in another process namespace.
    pub pid: i32,
    /// Its own parent; 0 if that can't be told.
    pub grandparent: i32,
    /// What it is.
    pub kind: ParentKind,
    /// When it was started, clock ticks since boot; only of a program, and only if it certainly is our parent.
    pub started: Option<u64>,
    /// When we were started, clock ticks since boot: whoever asked was there before. Unknown if [`Parent::started`] is known.
    pub we_started: Option<u64>,
}

impl Parent {
    /// Who started this process.
    pub fn of_ours(host: &Host) -> Parent {
        let pid = nix::unistd::getppid().as_raw();
        let is_ours = || nix::unistd::getppid().as_raw() == pid;
        let theirs = task::Stat::read(host, &pid.to_string());
        let grandparent = theirs.as_ref().map_or(0, |stat| stat.parent);
        // A parent that ended while we looked has left us to another, and its number to anybody.
        if let Some(stat) = theirs.as_ref().filter(|stat| !stat.is_kernel_thread && is_ours()) {
            let (kind, started) = (ParentKind::Program, Some(stat.started));
            return Parent { pid, grandparent, kind, started, we_started: None };
        }
        let ours = task::Stat::read(host, "self");
        let kind = match &theirs {
            Some(stat) if stat.is_kernel_thread => ParentKind::KernelThread,
            Some(_) => ParentKind::Program,
            // The kernel's helpers live in the first process namespace, and its threads do not end before their helper:
            // a parent outside of ours, or one that is gone, is a program. One that is merely hidden from us (hidepid,
            // SELinux) may be either.
            None if ours.is_some() && (pid == 0 || !is_ours()) => ParentKind::Program,
            None => ParentKind::Unknown,
        };
        Parent { pid, grandparent, kind, started: None, we_started: ours.map(|stat| stat.started) }
    }

    /// Whether whoever asked the kernel waits for our answer, and other processes can be seen.
    fn is_waited_for(&self) -> bool {
        self.kind == ParentKind::KernelThread && self.pid != KTHREADD
    }
}

/// What the policy wants to know of the requester.
pub struct Wishes<'a> {
    /// Whether rules that have something to say of what is asked for ask who.
    pub rules: bool,
    /// Whether command lines are recorded.
    pub command_lines: bool,
    /// Paths of the host that rules ask for as executables.
    pub executables: Vec<&'a str>,
}

/// One that may have asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    pid: i32,
    tid: i32,
    /// It was there at this time, clock ticks since boot: a successor of its number started later.
    started_by: Option<u64>,
    /// It waits for the answer.
    waits: bool,
    /// It has asked for something else since: only what the recorder knows is known of that moment.
    is_past: bool,
    /// When it asked, nanoseconds since boot, if the recorder knows.
    asked: Option<u64>,
    /// What the recorder knows of it, user and name.
    recorded: Option<(u32, Text)>,
    /// Where in the kernel it waits.
    call_site: Option<Text>,
    /// It did not ask, as far as anybody knows: a thread of the kernel's did, maybe for it.
    is_principal: bool,
}

impl Wishes<'_> {
    /// How many of those who may have asked are described.
    fn described(&self) -> usize {
        if self.rules { usize::MAX } else { DESCRIBED }
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
struct Searched {
    confidence: Confidence,
    found_by: Option<FoundBy>,
    /// Why the recorder was of no use.
    recorder: Option<String>,
    call_site: Option<Text>,
    /// The same as an address, which no record shows.
    address: Option<u64>,
    /// Nobody waits for the answer, though somebody did: whoever asked was killed.
    nobody_waits: bool,
}

/// What a search found.
#[derive(Default)]
struct Found {
    searched: Searched,
    candidates: Vec<Candidate>,
    /// Of whom these are, if it is the recorder that knows them.
    recorder: Option<&'static Recorder>,
}

impl Default for Searched {
    fn default() -> Searched {
        Searched {
            confidence: Confidence::Unknown,
            found_by: None,
            recorder: None,
            call_site: None,
            address: None,
            nobody_waits: false,
        }
    }
}

/// Who made the request for `name` that `caller` and `parent` brought.
///
/// What hangs takes no longer than 50 ms, or some 0.2 s if there is a lot of it. If rules ask who, and nobody is seen to wait
/// though somebody must, it is searched for some 0.5 s longer. What could not be found out is absent.
pub fn identify(host: &Host, name: &[u8], caller: Caller, parent: Parent, wishes: &Wishes<'_>) -> Requester {
    // If describing them hangs, they are not searched for again: a request is served once.
    let found = OnceCell::new();
    let further = wishes.rules.then(|| Cell::new(FURTHER_LOOKS));
    let until = wishes.rules.then(|| Instant::now() + SEARCHES);
    let described = apart::ask(&host.opened(), || {
        if found.get().is_none() {
            let _ = found.set(search(host, name, caller, parent, wishes, until));
        }
        let Some(Found { candidates, recorder, .. }) = found.get() else { return Vec::new() };
        let has_asked_since = |tid, time| recorder.is_some_and(|recorder| recorder.has_asked_since(tid, time));
        describe_all(host, candidates, wishes, &Look { has_asked_since: &has_asked_since, further: further.as_ref() })
    });
    let Found { searched, candidates, recorder } = found.into_inner().unwrap_or_default();
    let have_asked: Vec<bool> = candidates.iter().map(|one| !one.is_principal).collect();
    let as_recorded = || candidates.into_iter().map(|one| (one.into_recorded(), Still::Unsure)).collect();
    let described: Vec<(Task, Still)> = described.unwrap_or_else(as_recorded);
    // Who ran us and is gone, or another by now, is nobody who could be told.
    if searched.found_by == Some(FoundBy::Parent) && matches!(described[..], [(_, Still::No)]) {
        return Requester::unknown();
    }
    // Whoever waits is answered by us alone, so none of them can have gone on but one that was killed.
    let is_over = |((_, still), has_asked): (&(Task, Still), &bool)| *still == Still::No || !has_asked;
    let are_over = recorder.is_some() && !described.is_empty() && described.iter().zip(&have_asked).all(is_over);
    let nobody_waits = searched.nobody_waits || are_over && parent.is_waited_for();
    // To look up an address takes a hundred times as long as all else: who is killed must not cost that, or anybody could have
    // us do it all day.
    let is_there = described.iter().any(|(_, still)| *still == Still::Yes);
    let mut tasks: Vec<Task> = described.into_iter().map(|(task, _)| task).collect();
    if nobody_waits {
        tasks.iter_mut().for_each(|task| task.known.hides = true);
    }
    let Searched { confidence, found_by, recorder, mut call_site, address, .. } = searched;
    if let (None, Some(address), true) = (&call_site, address, is_there || !parent.is_waited_for()) {
        call_site = apart::ask(&host.opened(), || symbols::function_at(host, address, SYMBOLS)).flatten();
    }
    let known = Requester { confidence, found_by, recorder, call_site, ..Requester::unknown() };
    match confidence {
        Confidence::Ambiguous => Requester { candidates: tasks, ..known },
        _ => {
            let nobody = || Task { known: Known { hides: nobody_waits, ..Known::default() }, ..Task::default() };
            Requester { task: tasks.pop().unwrap_or_else(nobody), ..known }
        }
    }
}

/// Each that may have asked.
///
/// Until `until` all processes are looked at if nobody is found who waits though somebody must.
fn search(
    host: &Host,
    name: &[u8],
    caller: Caller,
    parent: Parent,
    wishes: &Wishes<'_>,
    until: Option<Instant>,
) -> Found {
    if caller != Caller::Kernel {
        let (searched, candidates) = parent::search(host, caller, parent);
        return Found { searched, candidates, recorder: None };
    }
    recorded::search(host, name, parent, wishes).unwrap_or_else(|Failed { why, recorder, is_lost }| {
        let is_another = |tid| recorder.is_some_and(|recorder| recorder.has_asked_for_another(tid, name));
        let search = |patience| blocked::search(host, parent, patience, is_another);
        let Blocked { mut searched, mut candidates, mut is_cut } = search(SEARCH);
        // Whoever waits is seen: by the recorder, or by his stack if that missed him.
        if recorder.is_some() && parent.is_waited_for() {
            if candidates.is_empty() {
                // Somebody may have been on the way to sleep.
                waiting::nap();
                let is_time = until.is_some_and(|until| Instant::now() < until);
                Blocked { searched, candidates, is_cut } = search(if is_time { SEARCH_ALL } else { SEARCH });
            }
            if candidates.is_empty() {
                // Where so much hangs that nobody can be looked at, that was done by whoever asked.
                let is_held_up = apart::touches_nothing() || apart::has_hung(|what| what == task::ALL.as_bytes());
                let is_certain = || !is_cut && !task::processes(host).is_empty() && waiting::can_be_seen(host);
                searched.nobody_waits = is_held_up || is_certain();
            } else if is_lost
                && !candidates.iter().any(|one| recorder.is_some_and(|recorder| recorder.has_asked_for(one.tid, name)))
            {
                candidates.push(Candidate::lost());
                searched.confidence = Confidence::Ambiguous;
            }
        }
        searched.recorder = Some(why);
        Found { searched, candidates, recorder }
    })
}

/// What is known of each of `candidates`, and whether it is still there.
fn describe_all(host: &Host, candidates: &[Candidate], wishes: &Wishes<'_>, look: &Look<'_>) -> Vec<(Task, Still)> {
    let mut describer = task::Describer::new(host);
    let executables = (!wishes.executables.is_empty()).then(|| Executables::new(host, &wishes.executables));
    let described = candidates.iter().enumerate().map(|(at, candidate)| {
        let wanted = at < wishes.described() && !candidate.is_past;
        let task = wanted.then(|| describe(host, &mut describer, executables.as_ref(), candidate, wishes)).flatten();
        // Looked at last: what was read was all read of this one, or it counts for nothing.
        let still = match wanted {
            true => is_still(host, candidate, look),
            false if candidate.is_past => Still::No,
            false => Still::Unsure,
        };
        (task, still)
    });
    let (tasks, mut stills): (Vec<_>, Vec<_>) = described.unzip();
    still::look_further(host, candidates, look, &mut stills);
    let known = candidates.iter().zip(tasks).zip(stills).map(|((candidate, task), still)| {
        let mut task = task.filter(|_| still == Still::Yes).unwrap_or_else(|| candidate.clone().into_recorded());
        // One who asks, as far as the recorder knows, and beside whom so much hangs that nobody can be looked at.
        task.known.hides |= candidate.asked.is_some() && apart::touches_nothing();
        (task, still)
    });
    known.collect()
}

fn describe(
    host: &Host,
    describer: &mut task::Describer<'_>,
    executables: Option<&Executables<'_>>,
    candidate: &Candidate,
    wishes: &Wishes<'_>,
) -> Option<Task> {
    let pid = candidate.pid;
    let task = describer.describe(pid, candidate.tid)?;
    let directory = format!("{pid}/task/{}", candidate.tid);
    let groups = task::groups(host, &directory);
    let has_hidden = groups.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENAMETOOLONG));
    let is_known = groups.is_ok();
    let Groups { unit, container } = groups.unwrap_or_default();
    let exe = executables.map_or_else(Files::default, |executables| executables.of(host, &directory));
    let ancestors = executables.map_or_else(Files::default, |executables| executables.of_all(host, pid, &task.parents));
    let cmdline = wishes.command_lines.then(|| task::command_line(host, &directory)).flatten();
    let hides = task.known.hides || has_hidden;
    let known = Known { exe, ancestors, unit: is_known, container: is_known, hides, ..task.known };
    Some(Task { unit, container, cmdline, known, ..task })
}

/// Processor time of this process so far: that of a task apart begins with it.
fn time_used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX)
}

/// Why rules that ask who can't be judged soundly on this host; `None` if they can.
pub fn cannot_tell(host: &Host) -> Option<String> {
    if let Some(why) = one_for_all(host) {
        return Some(why);
    }
    if !host.is_this() || waiting::can_be_seen(host) {
        return None;
    }
    let why = recorder::state().err()?;
    Some(format!("its kernel shows no task's stack, and there is no recorder ({why}); guard enable makes one"))
}

/// Whether the kernel of this host gives all who ask for a name the answer that it gave one of them, in words.
pub fn one_for_all(host: &Host) -> Option<String> {
    const DUPLICATES: &str = "CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS";
    // The parameter is there if the kernel was built so (kernel/module/dups.c).
    let is_built_so = || KernelConfig::of_running(host).get(DUPLICATES) == Setting::Yes;
    (host.exists("/sys/module/module/parameters/enable_dups_trace") || is_built_so())
        .then(|| format!("its kernel gives one answer to all who ask for a name within 60 s ({DUPLICATES})"))
}

impl Candidate {
    /// One of whom nothing is known but that it was there by then.
    fn new(pid: i32, tid: i32, started_by: Option<u64>) -> Candidate {
        Candidate {
            pid,
            tid,
            started_by,
            waits: false,
            is_past: false,
            asked: None,
            recorded: None,
            call_site: None,
            is_principal: false,
        }
    }

    /// Somebody of whom nothing is known any more, and who may have seen to that.
    fn lost() -> Candidate {
        Candidate { is_principal: true, ..Candidate::new(0, 0, None) }
    }

    /// All that is known of one who is no longer there.
    fn into_recorded(self) -> Task {
        let (uid, comm) = self.recorded.unzip();
        // Who waits for a thread of the kernel's is there as long as that needs modules, if it is not killed.
        let known = Known { hides: self.is_principal, ..Known::default() };
        let number = |id: i32| (id > 0).then_some(id);
        Task { pid: number(self.pid), tid: number(self.tid), uid, comm, known, ..Task::default() }
    }
}

#[cfg(test)]
mod tests;

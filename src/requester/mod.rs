//! Who asked: the task that made the request, and what is known of it.
//!
//! What takes only short locks is read here (of whoever ends at that very moment it may be on us to take down the
//! memory). What waits for a lock that others may hold for ever is read elsewhere, and what came within the time is what
//! is known: control groups and command line by a task of their own ([`crate::host::reading`]), what takes more than a
//! few reads by a child process ([`crate::host::child`]). Both are begun first and waited for last: what the request
//! would load is found out meanwhile, by another processor if there is one.

mod blocked;
pub mod cgroup;
mod files;
mod parent;
mod recorded;
pub mod recorder;
mod symbols;
pub mod task;
mod waiting;

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::host::child::{self, Answers};
use crate::host::kernel_config::{KernelConfig, Setting};
use crate::host::reading::Reading;
use crate::invocation::ParentKind;
use crate::model::{Caller, Confidence, Files, FoundBy, Known, Requester, Task};
use crate::text::Text;
use cgroup::Groups;
use files::Executables;
use waiting::Waiting;

/// How long finding and describing the requester may hold up a request.
const PATIENCE: Duration = Duration::from_millis(50);
/// How much processor time the search for blocked tasks may take, so that some is left to describe what it found.
const SEARCH: Duration = Duration::from_millis(30);
/// If more than so many may have asked, these, the youngest, are described, and of the others there is what the recorder
/// knows: each costs some thirty system calls. All are, if rules ask who.
const DESCRIBED: usize = 8;
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
    /// When we were started, clock ticks since boot: whoever asked was there before.
    pub we_started: Option<u64>,
}

impl Parent {
    /// Who started this process.
    pub fn of_ours(host: &Host) -> Parent {
        let pid = nix::unistd::getppid().as_raw();
        let ours = task::Stat::read(host, "self");
        let theirs = task::Stat::read(host, &pid.to_string());
        let kind = match &theirs {
            Some(stat) if stat.is_kernel_thread => ParentKind::KernelThread,
            Some(_) => ParentKind::Program,
            // The kernel's helpers live in the first process namespace, and its threads do not end before their helper:
            // a parent outside of ours, or one that is gone, is a program. One that is merely hidden from us (hidepid,
            // SELinux) may be either.
            None if ours.is_some() && (pid == 0 || nix::unistd::getppid().as_raw() != pid) => ParentKind::Program,
            None => ParentKind::Unknown,
        };
        let we_started = ours.map(|stat| stat.started);
        // A parent that ended while we looked has left us to PID 1, or its number to somebody younger than we are.
        let is_ours = |stat: &&task::Stat| {
            let is_older = we_started.is_none_or(|ours| stat.started <= ours);
            !stat.is_kernel_thread && is_older && nix::unistd::getppid().as_raw() == pid
        };
        let started = theirs.as_ref().filter(is_ours).map(|stat| stat.started);
        let grandparent = theirs.map_or(0, |stat| stat.parent);
        Parent { pid, grandparent, kind, started, we_started }
    }
}

/// What the policy wants to know of the requester.
pub struct Wishes<'a> {
    /// Whether rules ask who.
    pub rules: bool,
    /// Whether command lines are recorded.
    pub command_lines: bool,
    /// Paths of the host that rules ask for as executables.
    pub executables: Vec<&'a str>,
}

/// One that may have asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    pid: i32,
    tid: i32,
    /// It was there at this time, clock ticks since boot: a successor of its number started later.
    started_by: Option<u64>,
    /// It waits for the answer.
    waits: bool,
    /// What the recorder knows of it, user and name.
    recorded: Option<(u32, Text)>,
    /// Where in the kernel it waits.
    call_site: Option<Text>,
}

impl Wishes<'_> {
    /// How many of those who may have asked are described.
    fn described(&self) -> usize {
        if self.rules { usize::MAX } else { DESCRIBED }
    }
}

/// What a search came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Searched {
    confidence: Confidence,
    found_by: Option<FoundBy>,
    /// Why the recorder was of no use.
    recorder: Option<String>,
    call_site: Option<Text>,
    /// The same as an address, which no record shows.
    #[serde(skip)]
    address: Option<u64>,
}

impl Searched {
    /// The place in the kernel is known by its address alone.
    fn lacks_name(&self) -> bool {
        self.call_site.is_none() && self.address.is_some()
    }
}

impl Default for Searched {
    fn default() -> Searched {
        Searched { confidence: Confidence::Unknown, found_by: None, recorder: None, call_site: None, address: None }
    }
}

/// What the child tells, one after the other.
#[derive(Serialize, Deserialize)]
enum Finding {
    /// One that may have asked; all else may still come.
    Candidate(Candidate),
    /// There are no more of them.
    Searched(Searched),
    /// Something of the one at that place.
    Of(usize, Fact),
    /// Where in the kernel the request was made.
    CallSite(Text),
}

/// What may hang to find out of one.
#[derive(Serialize, Deserialize)]
enum Fact {
    /// Unit and container.
    Groups(Groups),
    /// Which of the policy's executables it runs, and its parents do.
    Executables(Files, Files),
    /// The command line.
    CommandLine(Vec<Text>),
}

/// A search that goes on while something else is done; see [`identify`].
#[must_use]
pub struct Search<'a> {
    host: &'a Host,
    /// How many are described.
    described: usize,
    /// What was had at once.
    found: Found,
    /// Control groups of each that was had at once, then their command lines.
    read: Option<Reading>,
    told: Option<Answers>,
}

/// What a search came to, and each that may have asked.
type Found = (Searched, Vec<Candidate>);

/// Begins to look for who made the request for `name` that `caller` and `parent` brought.
///
/// What may hang takes no longer than about 50 ms from here on. What could not be found out is absent.
pub fn identify<'a>(host: &'a Host, name: &[u8], caller: Caller, parent: Parent, wishes: &Wishes<'_>) -> Search<'a> {
    let at_once = match caller {
        Caller::Kernel => recorded::search(host, name, parent).map_err(Some),
        _ => parent::at_once(host, caller, parent).ok_or(None),
    };
    let anybody = at_once.as_ref().ok().filter(|(_, candidates)| !candidates.is_empty());
    let read = anybody.and_then(|(_, candidates)| read(host, candidates, wishes).ok());
    let is_open = |(searched, _): &Found| !wishes.executables.is_empty() || searched.lacks_name() || read.is_none();
    let told = (at_once.is_err() || anybody.is_some_and(is_open)).then(|| {
        child::start(PATIENCE, &host.opened(), |out| match &at_once {
            Ok((searched, candidates)) => {
                if read.is_none() {
                    tell_groups(host, wishes, candidates, out);
                }
                look_closer(host, wishes, searched, candidates, out);
                if read.is_none() {
                    tell_lines(host, wishes, candidates, out);
                }
            }
            Err(why) => {
                // The sooner something is told, the less is lost if the time runs out: first who, then what rules ask
                // of them, and last what may hang or takes long.
                let mut candidates = Vec::new();
                let mut found = |candidate: Candidate| {
                    tell(out, &Finding::Candidate(candidate.clone()));
                    candidates.push(candidate);
                };
                let searched = match why {
                    Some(why) => {
                        let searched = blocked::search(host, parent, SEARCH, &mut found);
                        Searched { recorder: Some(why.clone()), ..searched }
                    }
                    None => {
                        let (searched, candidates) = parent::search(host, caller, parent);
                        candidates.into_iter().for_each(found);
                        searched
                    }
                };
                tell(out, &Finding::Searched(searched.clone()));
                tell_groups(host, wishes, &candidates, out);
                look_closer(host, wishes, &searched, &candidates, out);
                tell_lines(host, wishes, &candidates, out);
            }
        })
    });
    let nobody = |recorder| (Searched { recorder, ..Searched::default() }, Vec::new());
    let found = at_once.unwrap_or_else(nobody);
    Search { host, described: wishes.described(), found, read, told: told.and_then(Result::ok) }
}

impl Search<'_> {
    /// Who it is.
    pub fn wait(self) -> Requester {
        let mut describer = task::Describer::new(self.host);
        let mut describe = |candidate: &Candidate| describer.describe(candidate.pid, candidate.tid);
        let mut at_once = self.found.1.iter().take(self.described).map(&mut describe).collect::<Vec<_>>().into_iter();
        let read = self.read.into_iter().flat_map(Reading::wait);
        let told = self.told.map(Answers::wait).unwrap_or_default();
        let Answer { searched, candidates } = assemble(self.found, self.described, read, &told);
        let tasks = candidates.into_iter().enumerate().map(|(at, (candidate, told))| {
            if at >= self.described {
                return candidate.into_recorded();
            }
            let task = at_once.next().unwrap_or_else(|| describe(&candidate));
            // Looked at last: what was read was all read of this one, or it counts for nothing.
            match task.filter(|_| is_still(self.host, &candidate)) {
                Some(task) => told.complete(task),
                None => candidate.into_recorded(),
            }
        });
        let mut tasks: Vec<Task> = tasks.collect();
        let Searched { confidence, found_by, recorder, call_site, address: _ } = searched;
        let known = Requester { confidence, found_by, recorder, call_site, ..Requester::unknown() };
        match confidence {
            Confidence::Ambiguous => Requester { candidates: tasks, ..known },
            _ => Requester { task: tasks.pop().unwrap_or_default(), ..known },
        }
    }
}

/// Begins to read what may hang of each of `candidates`.
fn read(host: &Host, candidates: &[Candidate], wishes: &Wishes<'_>) -> std::io::Result<Reading> {
    let of_all = |file: &'static str, room| {
        let path = move |pid: i32| host.shown(format!("/proc/{pid}/{file}")).into_os_string().into_vec();
        let described = candidates.iter().take(wishes.described());
        described.filter_map(move |candidate| Some((CString::new(path(candidate.pid)).ok()?, room)))
    };
    let lines = wishes.command_lines.then(|| of_all("cmdline", task::MAX_CMDLINE));
    Reading::start(PATIENCE, of_all("cgroup", task::MAX_GROUPS).chain(lines.into_iter().flatten()))
}

fn tell_groups(host: &Host, wishes: &Wishes<'_>, candidates: &[Candidate], out: &mut dyn Write) {
    for (at, candidate) in candidates.iter().enumerate().take(wishes.described()) {
        if let Ok(groups) = task::groups(host, candidate.pid) {
            tell(out, &Finding::Of(at, Fact::Groups(groups)));
        }
    }
}

fn tell_lines(host: &Host, wishes: &Wishes<'_>, candidates: &[Candidate], out: &mut dyn Write) {
    let described = if wishes.command_lines { wishes.described() } else { 0 };
    for (at, candidate) in candidates.iter().enumerate().take(described) {
        if let Some(line) = task::command_line(host, candidate.pid) {
            tell(out, &Finding::Of(at, Fact::CommandLine(line)));
        }
    }
}

/// Tells what takes more than a few reads: which executables they run, then where in the kernel the request was made.
fn look_closer(host: &Host, wishes: &Wishes<'_>, searched: &Searched, candidates: &[Candidate], out: &mut dyn Write) {
    if !wishes.executables.is_empty() {
        let executables = Executables::new(host, &wishes.executables);
        for (at, candidate) in candidates.iter().enumerate() {
            let above = executables.of_all(host, &task::parents_of(host, candidate.pid));
            tell(out, &Finding::Of(at, Fact::Executables(executables.of(host, candidate.pid), above)));
        }
    }
    if let (None, Some(address)) = (&searched.call_site, searched.address)
        && let Some(function) = symbols::function_at(host, address)
    {
        tell(out, &Finding::CallSite(function));
    }
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

fn tell(out: &mut dyn Write, finding: &Finding) {
    if let Ok(bytes) = postcard::to_stdvec_cobs(finding) {
        let _ = out.write_all(&bytes);
    }
}

/// What was found at once or told by the child.
struct Answer {
    searched: Searched,
    candidates: Vec<(Candidate, Told)>,
}

/// What the child told of one.
#[derive(Default)]
struct Told {
    groups: Option<Groups>,
    exe: Files,
    ancestors: Files,
    cmdline: Option<Vec<Text>>,
}

impl Told {
    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Groups(groups) => self.groups = Some(groups),
            Fact::Executables(own, above) => (self.exe, self.ancestors) = (own, above),
            Fact::CommandLine(line) => self.cmdline = Some(line),
        }
    }

    /// The same with what was read here.
    fn complete(self, task: Task) -> Task {
        let Told { groups, exe, ancestors, cmdline } = self;
        let is_known = groups.is_some();
        let Groups { unit, container } = groups.unwrap_or_default();
        let known = Known { exe, ancestors, unit: is_known, container: is_known, ..task.known };
        Task { unit, container, cmdline, known, ..task }
    }
}

impl Candidate {
    /// All that is known of one who is no longer there.
    fn into_recorded(self) -> Task {
        let (uid, comm) = self.recorded.unzip();
        Task { pid: Some(self.pid), tid: Some(self.tid), uid, comm, ..Task::default() }
    }
}

/// Puts together what was found at once, what was read ([`read`]) of the first `described`, and what the child told,
/// however little.
fn assemble(
    (mut searched, found): Found,
    described: usize,
    read: impl Iterator<Item = Option<Vec<u8>>>,
    answer: &[u8],
) -> Answer {
    let mut candidates: Vec<_> = found.into_iter().map(|candidate| (candidate, Told::default())).collect();
    let count = candidates.len().min(described);
    for (at, bytes) in read.enumerate() {
        let (Some((_, told)), Some(bytes)) = (candidates.get_mut(at.checked_rem(count).unwrap_or_default()), bytes)
        else {
            continue;
        };
        match at < count {
            true => told.groups = Some(Groups::parse(&bytes)),
            false => told.cmdline = task::arguments(&bytes),
        }
    }
    let frames = answer.split_inclusive(|&byte| byte == 0).filter(|frame| frame.ends_with(&[0]));
    for finding in frames.filter_map(|frame| postcard::from_bytes_cobs(&mut frame.to_vec()).ok()) {
        match finding {
            Finding::Candidate(candidate) => {
                candidates.push((candidate, Told::default()));
                // There may be more.
                searched.confidence = Confidence::Ambiguous;
            }
            Finding::Searched(found) => searched = found,
            Finding::CallSite(function) => searched.call_site = Some(function),
            Finding::Of(at, finding) => {
                if let Some((_, told)) = candidates.get_mut(at) {
                    told.take(finding);
                }
            }
        }
    }
    Answer { searched, candidates }
}

/// Whether it is what was found, not a successor of its number.
fn is_still(host: &Host, candidate: &Candidate) -> bool {
    let directory = format!("{}/task/{}", candidate.pid, candidate.tid);
    let stat = task::Stat::read(host, &directory);
    let is_that = stat.is_some_and(|stat| candidate.started_by.is_none_or(|time| stat.started <= time));
    is_that && (!candidate.waits || waiting::look(host, &directory) != Waiting::No)
}

#[cfg(test)]
mod tests;

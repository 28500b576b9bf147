//! The words of this program as types. Everything above speaks in these; nothing here does anything.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// How a request reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// `-q -- NAME` from a kernel thread (`__request_module`, kernel/module/kmod.c).
    Kernel,
    /// libxtables runs the helper itself: `NAME [-q]` (`xtables_insmod`, iptables' xtables.c).
    Xtables,
    /// We stand in for modprobe(8).
    Modprobe,
    /// An `install` line of modprobe.d ran us (`--hook NAME`).
    Hook,
}

/// One call of the helper: a name or alias that somebody wants loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The name as it came; anybody can choose its bytes.
    pub name: Text,
    /// How it reached us.
    pub caller: Caller,
}

/// How well we know who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Recorded by the kernel, or the process that started us.
    Exact,
    /// The only task that was seen waiting in `__request_module`.
    Likely,
    /// One of several; see [`Requester::candidates`].
    Ambiguous,
    /// Nobody was found.
    Unknown,
    /// Made up for a dry run.
    Assumed,
}

/// How the requester was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// The recorder in the kernel wrote it down.
    Recorder,
    /// The task was seen waiting in `__request_module`.
    Stack,
    /// It is the process that ran us.
    Parent,
}

/// What is known of one process: who asked, or who started the one who asked. What could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Process (thread group) id.
    pub pid: Option<i32>,
    /// Thread id; differs from `pid` if a thread of the process asked.
    pub tid: Option<i32>,
    /// The name the task gave itself; anybody can choose it.
    pub comm: Option<Text>,
    /// Path of the executable as the kernel knows it, `/proc/PID/exe`.
    pub exe: Option<Text>,
    /// Command line, one text an argument; anybody can choose it.
    pub cmdline: Option<Vec<Text>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Effective user id.
    pub euid: Option<u32>,
    /// Login user id, `/proc/PID/loginuid`; absent if the task descends from no login.
    pub auid: Option<u32>,
    /// Login session, `/proc/PID/sessionid`; absent if the task descends from no login.
    pub session: Option<u32>,
    /// systemd unit, from the cgroup.
    pub unit: Option<Text>,
    /// Container id, from the cgroup.
    pub container: Option<Text>,
    /// Whether the task's user namespace is the first one.
    pub userns: Option<Namespace>,
    /// Whether its mount namespace is that of PID 1; a service with PrivateTmp has another.
    pub mntns: Option<Namespace>,
    /// Whether its network namespace is that of PID 1.
    pub netns: Option<Namespace>,
    /// Parents, nearest first, up to PID 1.
    pub parents: Vec<Parent>,
    /// What rules may ask and no record tells.
    #[serde(skip)]
    pub known: Known,
}

/// How far the facts about a task go: an absent one may mean that there is none, or that it could not be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The executable.
    pub exe: Files,
    /// Those of all parents together.
    pub ancestors: Files,
    /// An absent unit means that there is none.
    pub unit: bool,
    /// An absent container means that there is none.
    pub container: bool,
    /// An absent login user id means that there was no login.
    pub auid: bool,
    /// What is absent was kept from us: whoever asked was killed while it waited, or lives where nobody can look. Rules that
    /// block take that for what they ask for.
    #[serde(default)]
    pub hides: bool,
}

/// Which files of the host an executable is, of those that the policy names: the same device and inode as that path
/// seen by PID 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Paths as the policy writes them.
    pub are: Vec<String>,
    /// It is certainly none of the policy's other paths.
    pub complete: bool,
}

/// Whose namespace a task lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// The host's own.
    Host,
    /// Any other.
    Other,
}

/// A parent of the requester.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Process id.
    pub pid: i32,
    /// The name the process gave itself.
    pub comm: Option<Text>,
    /// Path of its executable.
    pub exe: Option<Text>,
}

/// The task that made the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// How well we know.
    pub confidence: Confidence,
    /// How we know; absent if nobody was found, or made up for a dry run.
    #[serde(default)]
    pub found_by: Option<FoundBy>,
    /// Why the recorder did not tell, where it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder: Option<String>,
    /// Where in the kernel the request was made: `SYMBOL+OFFSET/LENGTH`, with the module behind it if it is one's.
    #[serde(default)]
    pub call_site: Option<Text>,
    /// The task; of several candidates none is here.
    #[serde(flatten)]
    pub task: Task,
    /// All who may have asked, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Task>,
}

impl Requester {
    /// Nobody was found.
    pub fn unknown() -> Requester {
        Requester {
            confidence: Confidence::Unknown,
            found_by: None,
            recorder: None,
            call_site: None,
            task: Task::default(),
            candidates: Vec::new(),
        }
    }
}

/// Whether a module is in the kernel already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Not there, or still coming or going.
    Absent,
    /// Loaded and initialised.
    Live,
    /// Part of the kernel image.
    Builtin,
}

/// Why a module is in the closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeededAs {
    /// The name asked for stands for it.
    Target,
    /// A module of the closure needs its symbols (modules.dep).
    Dependency,
    /// A `softdep` line asks for it.
    Softdep,
}

/// One module of a closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its name, with underscores.
    pub name: Text,
    /// Whether it is there already.
    pub state: ModuleState,
    /// Why it is here.
    pub needed_as: NeededAs,
}

/// Every module that a request would load, in load order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// The modules.
    pub modules: Vec<Module>,
    /// Targets that modprobe would leave out because the way to them is an alias and a `blacklist` line names them.
    pub blacklisted: Vec<Blacklisted>,
    /// `install` lines that would run instead of a plain load, by module.
    pub commands: Vec<Command>,
    /// How much of the index could be read.
    pub index: IndexHealth,
}

impl Closure {
    /// Whether the name stands for anything at all: a module, a builtin, a command, or something blacklisted.
    pub fn is_known(&self) -> bool {
        !self.modules.is_empty() || !self.blacklisted.is_empty() || !self.commands.is_empty()
    }

    /// Whether all that was asked for is there already: modprobe then looks no further, not even for soft dependencies
    /// (`kmod_module_probe_insert_module`).
    pub fn is_served(&self) -> bool {
        let mut targets = self.modules.iter().filter(|module| module.needed_as == NeededAs::Target).peekable();
        let is_any = targets.peek().is_some() && self.commands.is_empty();
        is_any && targets.all(|module| module.state != ModuleState::Absent)
    }
}

/// A module kept out by a `blacklist` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blacklisted {
    /// The module.
    pub module: Text,
    /// File and line of the `blacklist`, `FILE:LINE`, or the kernel command line.
    pub source: String,
}

/// A command that a modprobe.d `install` line sets in place of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The module, or the bare name that only the `install` line knows.
    pub module: Text,
    /// What is run.
    pub command: Text,
    /// `FILE:LINE`.
    pub source: String,
}

/// How much of the module index could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexHealth {
    /// Whatever was needed was read.
    #[default]
    Intact,
    /// Some files could not be read; what the others resolve is in the closure. One error text a file.
    Partial(Vec<String>),
    /// There is no index at all for this kernel; why.
    Missing(String),
}

/// What a rule, a default or a verdict says is to be done.
///
/// The order is that of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Hand the request to the delegate.
    Allow,
    /// Hand it to the delegate, then size the table and set the sysctls that came with it.
    AllowSysctl,
    /// Refuse it.
    Block,
}

/// What is done with a request, and why.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The strictest word over the closure.
    pub action: Action,
    /// False: a block that is only recorded; [`Verdict::carried_out`] is what happens.
    pub enforced: bool,
    /// The rule that decided; absent where the default did.
    pub rule: Option<String>,
    /// `FILE:LINE` of that rule, or `default`.
    pub source: String,
    /// The module that decided; absent if the name asked for did.
    pub module: Option<Text>,
    /// The rule's own words.
    pub reason: Option<String>,
    /// What happens: `action`, or where a block is not enforced, what would have been decided without it.
    #[serde(skip, default = "allow")]
    pub carried_out: Action,
}

fn allow() -> Action {
    Action::Allow
}

/// A kernel setting that an `allow-sysctl` would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Dotted sysctl key, or `module.nf_conntrack.hashsize` for the number of buckets.
    pub key: String,
    /// The value as it would be written: a number where it is one.
    pub value: Value,
    /// Where it comes from: `auto`, or `FILE:LINE`.
    pub source: String,
    /// The calculation in words, if it is `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
}

/// A sysctl's value: a number in JSON wherever it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(Text),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            Value::Text(text) => text.fmt(f),
        }
    }
}

/// A kernel setting that was made, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As in [`Setting::key`].
    pub key: String,
    /// As the load left it.
    pub before: Option<Value>,
    /// As read back.
    pub after: Option<Value>,
    /// Why it is not what was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Our exit status; 128 + N if the delegate died of signal N.
    pub status: i32,
    /// From our start until the record was made, microseconds.
    pub duration_us: u64,
    /// Modules of the closure that were absent before and are live now.
    pub loaded: Vec<Text>,
    /// Settings made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctl: Vec<Change>,
}

/// One entry of the audit log, and what a dry run prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form: 1. Keys are only ever added.
    pub v: u32,
    /// RFC 3339, UTC, microseconds; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Host name.
    pub host: Option<Text>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<Text>,
    /// Kernel release.
    pub kernel: Option<Text>,
    /// What was asked for.
    pub request: Request,
    /// Who asked.
    pub requester: Requester,
    /// What was decided.
    pub verdict: Verdict,
    /// The closure's modules.
    pub modules: Vec<Module>,
    /// What an `allow-sysctl` sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctl: Vec<Setting>,
    /// What went wrong on the way and what was done instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// What is told of those who asked was shortened, since it was too long; absent if it was not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
    /// What came of it; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

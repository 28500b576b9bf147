//! Why does a module not load, and why is one here? What `guard doctor` finds, with evidence and what mends it.
//!
//! [`examine`] looks at everything that a load meets on its way, and, once connection tracking is there, at what it does
//! to the host. It only reads; what mends a finding is printed as commands for the administrator to run.
//!
//! A [`Case`] is the module on its host. Each check takes a `&Case`, looks at one thing and says what it saw
//! ([`Seen`]): all well, findings, or that it could not look. No check depends on another one's findings.

mod blocked;
mod capabilities;
mod case;
mod commands;
mod container;
mod dependency;
mod dependents;
mod distribution;
mod file;
mod helper;
mod insertion;
mod kernel_log;
mod libraries;
mod live;
mod modules_disabled;
mod not_loaded;
mod obstacle;
mod policy;
mod records;
mod resources;
mod signature;
mod support;
mod table;
mod table_use;
mod version;

use serde::Serialize;

pub use case::Case;
pub use live::{Live, live_modules};

/// Why a module does not load, or what is wrong now that it is there.
///
/// The order is that in which findings are to be mended: what nothing on this host can mend first, then what has to be
/// in place before a load can work, then what the load itself meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The connection tracking table is full and packets are dropped.
    TableFull,
    /// This is a container, which loads no modules.
    Container,
    /// The kernel, or modprobe, was built without what this module needs.
    NoSupport,
    /// `kernel.modules_disabled`, or `nomodule`.
    ModulesDisabled,
    /// The modules on disk are those of another kernel.
    VersionMismatch,
    /// The kernel's package should have brought the file, or another one would.
    FileMissing,
    /// The file is there and is no module, or not a whole one.
    FileCorrupt,
    /// modprobe.d or the kernel command line keeps it out.
    Blacklisted,
    /// A rule of ours keeps it out.
    GuardPolicy,
    /// Something that it needs can't be loaded, or the index does not know of it.
    Dependency,
    /// The kernel wants a signature, and this file has none that it takes.
    Signature,
    /// The kernel is locked down and takes no unsigned module.
    Lockdown,
    /// No memory for it.
    Resources,
    /// The kernel can't ask: the program that it would run is not there or may do nothing.
    Helper,
    /// The kernel has refused it, in words of its own.
    InsertionError,
    /// It is not there; nothing else is wrong.
    NotLoaded,
    /// The table is filling, too small, or will be after the next boot.
    TableSmall,
    /// It is there and nothing uses it.
    Unused,
    /// It is there, and what builds on it can't follow.
    DependentMissing,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub cause: Cause,
    /// It in one sentence.
    pub summary: String,
    /// What was seen, and where: paths, lines, numbers.
    pub evidence: Vec<String>,
    /// Commands that mend it, in their order, to be run by root on that host; a line that begins with `#` is a remark.
    pub fix: Vec<String>,
    /// Whether this alone keeps the module out; what does not comes after all that does.
    #[serde(skip)]
    pub decisive: bool,
    /// Whether it binds requests by the module's name only, not loads in which it is a dependency.
    #[serde(skip)]
    pub binds_name_only: bool,
    /// What the kernel's log says may be what another check saw itself: evidence for a finding of this cause.
    #[serde(skip)]
    pub echo_of: Option<Cause>,
}

impl Finding {
    /// A decisive finding without evidence and fix as yet.
    pub fn new(cause: Cause, summary: impl Into<String>) -> Finding {
        Finding {
            cause,
            summary: summary.into(),
            evidence: Vec::new(),
            fix: Vec::new(),
            decisive: true,
            binds_name_only: false,
            echo_of: None,
        }
    }

    /// With one more piece of evidence.
    #[must_use]
    pub fn evidence(mut self, what: impl Into<String>) -> Finding {
        self.evidence.push(what.into());
        self
    }

    /// With one more command.
    #[must_use]
    pub fn fix(mut self, command: impl Into<String>) -> Finding {
        let command = command.into();
        if !self.fix.contains(&command) {
            self.fix.push(command);
        }
        self
    }

    /// With one command more for each of `commands`.
    #[must_use]
    pub fn fixes(mut self, commands: impl IntoIterator<Item = String>) -> Finding {
        for command in commands {
            self = self.fix(command);
        }
        self
    }

    /// One that a load may get past.
    #[must_use]
    pub fn minor(mut self) -> Finding {
        self.decisive = false;
        self
    }
}

/// What one check saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All is well; why that is known.
    Well(String),
    /// Something is wrong.
    Wrong(Vec<Finding>),
    /// It could not look; why, and what would let it.
    Nothing(String),
}

impl Seen {
    /// Wrong if there are findings, else well for the reason `why`.
    pub fn of(findings: Vec<Finding>, why: impl Into<String>) -> Seen {
        if findings.is_empty() { Seen::Well(why.into()) } else { Seen::Wrong(findings) }
    }
}

impl From<Finding> for Seen {
    fn from(finding: Finding) -> Seen {
        Seen::Wrong(vec![finding])
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    /// All is well.
    Ok,
    /// There are findings.
    Finding,
    /// It could not look.
    CouldNotLook,
}

/// A check that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub result: Result,
    /// What was seen, in a few words.
    pub detail: String,
}

/// All that was found about one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The module that was examined.
    pub module: String,
    /// Whether it is in the kernel: live, or built in.
    pub loaded: bool,
    /// What is wrong, in the order in which to mend it.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

type Look = fn(&Case) -> Seen;

/// What a load meets on its way; looked at while the module is not there.
const WAY_IN: [(&str, Look); 14] = [
    ("container", container::look),
    ("kernel's support", support::look),
    ("modules_disabled", modules_disabled::look),
    ("kernel and modules", version::look),
    ("module file", file::look),
    ("modprobe.d", blocked::look),
    ("guard's policy", policy::look),
    ("index", dependency::look_at_index),
    ("dependencies", dependency::look),
    ("signature", signature::look),
    ("memory", resources::look),
    ("kernel.modprobe", helper::look),
    ("kernel log", insertion::look),
    ("loaded", not_loaded::look),
];

/// What is looked at once it is there.
const ONCE_THERE: [(&str, Look); 2] = [("loaded", not_loaded::look), ("kernel.modprobe", helper::look)];

/// What is looked at besides once connection tracking is there.
const TRACKING: [(&str, Look); 4] = [
    ("table", table::look),
    ("after a reboot", table::look_at_next_boot),
    ("use", table_use::look),
    ("what builds on it", dependents::look),
];

/// Examines the module of `case`.
pub fn examine(case: &Case) -> Report {
    let is_tracking = case.module == b"nf_conntrack";
    let checks: Vec<&(&'static str, Look)> = match (case.is_there(), is_tracking) {
        (false, _) => WAY_IN.iter().collect(),
        (true, false) => ONCE_THERE.iter().collect(),
        (true, true) => ONCE_THERE.iter().chain(&TRACKING).collect(),
    };
    let mut report = Report { module: case.name(), loaded: case.is_there(), findings: Vec::new(), checks: Vec::new() };
    for (check, look) in checks {
        let (result, detail) = match look(case) {
            Seen::Well(why) => (Result::Ok, why),
            Seen::Nothing(why) => (Result::CouldNotLook, why),
            Seen::Wrong(findings) => {
                let first = findings.first().map(|finding| finding.summary.clone()).unwrap_or_default();
                report.findings.extend(findings);
                (Result::Finding, first)
            }
        };
        report.checks.push(Check { check, result, detail });
    }
    report.findings = in_order(report.findings);
    report
}

/// In the order in which to mend them. What the kernel's log says of a cause that a check saw itself is evidence for it.
fn in_order(findings: Vec<Finding>) -> Vec<Finding> {
    let (echoes, mut findings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.echo_of.is_some());
    for echo in echoes {
        match findings.iter_mut().find(|finding| Some(finding.cause) == echo.echo_of) {
            Some(seen) => seen.evidence.extend(echo.evidence),
            // What names no module may be about another one.
            None if !echo.decisive => {}
            None => findings.push(echo),
        }
    }
    findings.sort_by_key(|finding| {
        let last = match finding.cause {
            Cause::NotLoaded => 2,
            _ => u8::from(!finding.decisive),
        };
        (last, finding.cause)
    });
    findings
}

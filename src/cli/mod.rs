//! `guard`, the administrator's tool: one file a verb.
//!
//! The definitions below are the only ones: parser, `--help` and everything generated come out of them.

/// One line on standard output. That nobody can read it is no reason to leave anything undone.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        if let Err(error) = writeln!(std::io::stdout(), $($words)*) {
            $crate::cli::unsaid(&error);
        }
    }};
}

/// One line on standard error.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod apply;
mod assumed;
mod check;
mod doctor;
mod dry_run;
mod enable;
mod generate;
mod hooks;
mod learn;
mod log;
mod metrics;
mod status;
mod tables;
mod terminal;
mod test;
mod umh;
mod ways;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand};

use crate::host::Host;

/// Exit statuses; their meaning for each verb is in its help.
mod exit {
    /// As asked, or nothing found.
    pub const GOOD: u8 = 0;
    /// Blocked, unsound, findings.
    pub const BAD: u8 = 1;
    /// Usage, or it cannot be told.
    pub const CANNOT_TELL: u8 = 2;
    /// No such module.
    pub const NO_SUCH_MODULE: u8 = 3;
}

/// Options that every verb understands.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print JSON: one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Read the host whose files lie below DIR (DIR/etc, DIR/proc, DIR/sys, DIR/lib/modules)
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Judge for this kernel release instead of the running one
    #[arg(long, global = true, value_name = "VERSION")]
    kernel: Option<String>,
}

/// For what judges.
#[derive(Args, Clone, Debug)]
struct By {
    /// Judge by FILE instead of the policy in force: for --dry-run, check and test
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Decides which kernel modules get loaded on request, and by whom.
#[derive(Parser, Debug)]
#[command(
    name = "guard",
    version,
    override_usage = "guard --dry-run NAME...\n       guard COMMAND [OPTIONS]",
    arg_required_else_help = true
)]
struct Guard {
    /// What a request for NAME would do, and why; loads nothing (`guard --dry-run --help`)
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    by: By,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Is a policy sound, and does it say what is meant? FILE, or the sources installed here; touches nothing. Besides
    /// errors it finds what never counts, what this kernel does not have, and what blocks would take away that this host
    /// uses. Exit status: 0 none (notes do not count), 1 findings, 2 no such file or not readable
    Check {
        /// The policy to look at
        file: Option<PathBuf>,
        #[command(flatten)]
        by: By,
    },
    /// Does a policy do what is expected of it? FILE holds tests: requests, by whom, and what is to come of them
    /// (modprobe-guard.toml(5)). Judged is --policy, else the policy that FILE names, else the files installed here.
    /// Exit status: 0 all passed, 1 some failed, 2 cannot tell
    Test {
        /// The tests
        file: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Check the policy files and put them in force, whole or not at all.
    /// Exit status: 0 done, 1 unsound: what was in force stays
    Apply,
    /// Apply, then make the kernel ask us, and modprobe(8) and libkmod as well. Exit status: 0 armed and sound, 1 not
    Enable {
        /// Take the place of a helper that is neither modprobe nor ours
        #[arg(long)]
        force: bool,
    },
    /// Give the kernel its former helper back, and modprobe(8) its ways
    Disable,
    /// Armed or not, ways covered, policy in force, table use. Exit status: 0 armed and sound, 1 not
    Status,
    /// Why MODULE (by default nf_conntrack) does not load, or what it does now that it is here, with evidence and the
    /// commands that mend it; touches nothing, needs no root. Exit status: 0 healthy, 1 findings, 2 cannot tell
    Doctor {
        /// The module, or an alias that stands for one
        #[arg(default_value = "nf_conntrack")]
        module: OsString,
    },
    /// The records of this host, or of FILEs, oldest first: all, those that options ask for, or what they add up to.
    /// Exit status: 0 told, 1 a part could not be read or a report not written, 2 usage, or nothing could be read
    Log(Box<log::Options>),
    /// Numbers for Prometheus, in the text format that node_exporter's textfile collector takes: requests by verdict, rule
    /// and caller, blocks by unit, table use, and whether all is well. Exit status: 0 told, 1 a part could not be read
    Metrics(metrics::Options),
    /// Records of one host or of many become a policy, on standard output: who asked for what is who may have it, and
    /// what was refused stays refused. Touches nothing.
    /// Exit status: 0 told, 1 a part could not be read, or (--against) a request would be blocked that was not, 2 usage,
    /// or there were no records
    Learn(learn::Options),
}

/// What a request for NAME would do, and why; loads nothing; needs no root.
/// Exit status: 0 would be allowed, 1 blocked, 2 cannot tell, 3 no such module; of several names the worst, in the
/// order 2, 1, 3, 0
#[derive(Parser, Debug)]
#[command(name = "guard", version, override_usage = "guard --dry-run [OPTIONS] NAME...")]
struct DryRun {
    /// What a request for NAME would do, and why
    #[arg(long, required = true)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    by: By,
    /// What is known of whoever asks, besides root on the host by way of the kernel; may be repeated. KEY is exe,
    /// ancestor (paths as the policy writes them), unit, container, uid, auid, userns, caller or confidence
    #[arg(long = "as", value_name = "KEY=VALUE")]
    facts: Vec<String>,
    /// Names or aliases, as the kernel or a person would ask for them; `-` reads names from standard input, one a line
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
}

/// Runs `guard` with the process's arguments.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // For installers: no verb of the definitions, so that what is made of them does not show it.
    if let [_, verb, directory] = arguments.as_slice()
        && verb == "generate"
    {
        return code(generate::run(Path::new(directory)));
    }
    // A name may be the same as a verb's: with --dry-run there are no verbs.
    let before_names = arguments.iter().take_while(|argument| *argument != "--");
    if before_names.into_iter().any(|argument| argument == "--dry-run") {
        end_with_the_reader();
        let DryRun { dry_run: _, common, by, facts, names } = DryRun::parse_from(arguments);
        return code(with_host(&common, |host| dry_run::run(host, &common, by.policy.as_deref(), &facts, &names)));
    }
    let Guard { verb, common, by: By { policy }, dry_run: _ } = Guard::parse_from(arguments);
    let Some(verb) = verb else {
        complain!("guard: no command; see guard --help");
        return ExitCode::from(exit::CANNOT_TELL);
    };
    if policy.is_some() && !matches!(verb, Verb::Check { .. } | Verb::Test { .. }) {
        complain!(
            "guard: --policy: only --dry-run, check and test judge by another file; guard apply puts the installed ones in force"
        );
        return ExitCode::from(exit::CANNOT_TELL);
    }
    let only_tells = matches!(
        verb,
        Verb::Check { .. } | Verb::Test { .. } | Verb::Doctor { .. } | Verb::Status | Verb::Log(_) | Verb::Learn(_)
    );
    if only_tells {
        end_with_the_reader();
    }
    let status = with_host(&common, |host| match verb {
        Verb::Check { file, by } => check::run(host, &common, file.or(by.policy).or(policy).as_deref()),
        Verb::Test { file, by } => test::run(host, &common, by.policy.or(policy).as_deref(), &file),
        Verb::Apply => apply::run(host, &common),
        Verb::Enable { force } => enable::enable(host, &common, force),
        Verb::Disable => enable::disable(host, &common),
        Verb::Status => status::run(host, &common),
        Verb::Doctor { module } => doctor::run(host, &common, &module),
        Verb::Log(options) => log::run(host, &common, &options),
        Verb::Metrics(options) => metrics::run(host, &common, &options),
        Verb::Learn(options) => learn::run(host, &common, &options),
    });
    code(if only_tells { told(status) } else { status })
}

/// Whether something that was to be read was lost.
static IS_UNSAID: AtomicBool = AtomicBool::new(false);

/// Standard output did not take something: says so, once. That a reader left is no failure.
fn unsaid(error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe && !IS_UNSAID.swap(true, Ordering::Relaxed) {
        complain!("guard: standard output: write: {error}");
    }
}

/// The status of what only tells: not good if some of it was lost.
fn told(status: u8) -> u8 {
    let is_lost = status == exit::GOOD && IS_UNSAID.load(Ordering::Relaxed);
    if is_lost { exit::BAD } else { status }
}

/// Written to a pipe whose reader left, who only tells ends quietly as other tools do. Who changes something goes on.
#[allow(unsafe_code)]
fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: a default disposition, set before anything is written.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

fn code(status: u8) -> ExitCode {
    let _ = std::io::stdout().flush();
    ExitCode::from(status)
}

fn with_host(common: &Common, run: impl FnOnce(&Host) -> u8) -> u8 {
    let host = match &common.root {
        None => Ok(Host::this()),
        Some(root) => {
            Host::at(root).map_err(|error| format!("{}: open: {error}; --root takes a directory", root.display()))
        }
    };
    match host {
        Ok(host) => run(&host),
        Err(error) => {
            complain!("guard: {error}");
            exit::CANNOT_TELL
        }
    }
}

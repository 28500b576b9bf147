//! `guard learn`: records become a policy, or what a policy would have changed.

mod share;

use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use time::OffsetDateTime;

use super::{Common, exit};
use crate::audit::packed;
use crate::audit::read;

use crate::host::{Host, LOG_DIR, MAX_SOURCE, RUN};
use crate::learn::{self, Change, Changes, Counts, Day, Judge, Learner};
use crate::model::Action;
use crate::policy::{self, Trust};
use crate::text::Text;
use share::{Open, read_all};

/// So many places are named in which there were no records.
const PLACES: usize = 4;
/// Of records that are ahead of our clock.
const EARLY: &str = " of a day that is yet to come: counted, but not for first and last days; set the clocks right";

/// What `guard learn` can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Files of records, of one host or of many, also packed by gzip, zstd or xz; `-` is standard input. Without any,
    /// the records of this host
    files: Vec<PathBuf>,
    /// What is to become of a target that was not recorded: `block` makes the policy an allow-list
    #[arg(long, value_enum, default_value_t = Default::Allow)]
    default: Default,
    /// How certain it must be who asked for a rule to name them, as `trust` under [defaults]: what others asked for is
    /// permitted to whoever asks
    #[arg(long, value_enum, default_value_t = Certainty::Exact)]
    trust: Certainty,
    /// Leave out counts, hosts, days and what modules need: then a diff of two policies shows rules alone
    #[arg(long)]
    bare: bool,
    /// Print no policy, but which of the recorded requests POLICY would block that were permitted, or permit that were
    /// blocked, by whom they were made, and what decides. With --json one object a change: verdict (what POLICY says),
    /// request, who, who_is (unit, container, exe, comm, unknown), uid, rule, source, module, rule_then, count, first,
    /// last, hosts. Executables are compared by their paths, and what was live is taken for absent. Exit status: 1 if any
    /// would be blocked, for checks before a rollout
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["default", "trust", "bare"])]
    against: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Default {
    Allow,
    Block,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Certainty {
    Exact,
    Likely,
}

impl From<Certainty> for Trust {
    fn from(certainty: Certainty) -> Trust {
        match certainty {
            Certainty::Exact => Trust::Exact,
            Certainty::Likely => Trust::Likely,
        }
    }
}

/// Prints a policy learned from records, or what would change by one.
pub fn run(host: &Host, common: &Common, options: &Options) -> u8 {
    let policy = match options.against.as_deref().map(sound).transpose() {
        Ok(policy) => policy,
        Err(errors) => {
            errors.iter().for_each(|error| complain!("guard: {error}"));
            return exit::CANNOT_TELL;
        }
    };
    if policy.is_none() && common.json {
        complain!("guard: learn: a policy is TOML; --json goes with --against");
        return exit::CANNOT_TELL;
    }
    let bar = bar(&options.files);
    let (files, count) = match opens(host, &options.files, &bar) {
        Ok(files) => files,
        Err(error) => {
            let [run, logs] = [RUN, LOG_DIR].map(|path| host.shown(path));
            complain!(
                "guard: {}, {}: read: {error}; records are for root: sudo guard learn",
                run.display(),
                logs.display()
            );
            return exit::CANNOT_TELL;
        }
    };
    let latest = Day::latest(OffsetDateTime::now_utc().date());
    let (text, would_block, is_any, errors) = match &policy {
        Some(policy) => {
            let (judges, errors) = read_all(files, || Judge::new(policy, latest), Judge::read);
            bar.finish_and_clear();
            let changes = Judge::together(judges);
            notes_of_changes(&changes);
            let would_block = changes.changes.keys().any(|change| change.verdict == "block") || changes.left_out > 0;
            (shown(&changes, common.json), would_block, changes.judged > 0, errors)
        }
        None => {
            let trusts_likely = Trust::from(options.trust) == Trust::Likely;
            let (learners, errors) = read_all(files, || Learner::new(trusts_likely, latest), Learner::read);
            bar.finish_and_clear();
            let default = match options.default {
                Default::Allow => Action::Allow,
                Default::Block => Action::Block,
            };
            let wanted = learn::Options { default, trusts_likely, bare: options.bare };
            let groups = Learner::together(learners);
            let draft = learn::draft(&groups, &wanted);
            notes(&groups.counts, draft.lost.len());
            (learn::render(&draft, &groups, &wanted), false, groups.counts.requests > groups.counts.unclear, errors)
        }
    };
    errors.iter().for_each(|error| complain!("guard: {error}"));
    if !is_any {
        // With an error for each file there is nothing more to say.
        if !errors.is_empty() && errors.len() >= count {
            return exit::CANNOT_TELL;
        }
        let remedy =
            "name files that `guard log` shows records of, or arm the guard (`guard enable`) and wait for requests";
        complain!("guard: no records found in {}; {remedy}", places(host, &options.files));
        return exit::CANNOT_TELL;
    }
    if policy.is_none() && text.len() > MAX_SOURCE {
        let (bytes, most) = (text.len(), MAX_SOURCE);
        let bare = if options.bare { "" } else { "leave out the counts (--bare), or " };
        let remedy = format!("{bare}learn of fewer hosts at once, into several files of policy.d");
        complain!("guard: the policy has {bytes} bytes, and no policy file may have more than {most}; {remedy}");
    }
    let written = io::stdout().write_all(text.as_bytes());
    if errors.is_empty() && written.is_ok() && !would_block { exit::GOOD } else { exit::BAD }
}

/// Where records were looked for.
fn places(host: &Host, files: &[PathBuf]) -> String {
    let own = [RUN, LOG_DIR].map(|path| host.shown(path));
    let all: &[PathBuf] = if files.is_empty() { &own } else { files };
    let shown = all.iter().take(PLACES).map(|path| Text::from(path.as_os_str().as_bytes()).to_string());
    let more = all.len().checked_sub(PLACES).filter(|more| *more > 0).map(|more| format!("{more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

fn sound(file: &Path) -> Result<policy::Policy, Vec<String>> {
    let source = Host::policy_file(file).map_err(|error| vec![error.to_string()])?;
    policy::parse(&[source]).map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

/// How to open each of the files, or each of this host's, and how many they are.
fn opens(host: &Host, files: &[PathBuf], bar: &ProgressBar) -> io::Result<(Vec<Open>, usize)> {
    let opens: Vec<Open> = if files.is_empty() {
        let own = read::lines_of_host(host)?.into_iter();
        own.map(|lines| Box::new(move || Ok((lines, false))) as Open).collect()
    } else {
        let open = |path: &PathBuf| {
            let (path, bar) = (path.clone(), bar.clone());
            let open = move || {
                let opened = packed::open(&path, move |count| bar.inc(count))?;
                Ok((opened.lines, opened.is_packed))
            };
            Box::new(open) as Open
        };
        files.iter().map(open).collect()
    };
    let count = opens.len();
    Ok((opens, count))
}

/// How far it is, with an estimate, for a person who waits.
fn bar(files: &[PathBuf]) -> ProgressBar {
    let lengths = files.iter().map(|file| Some(file.metadata().ok().filter(std::fs::Metadata::is_file)?.len()));
    let length = lengths.sum::<Option<u64>>().filter(|length| *length > 0);
    let Some(length) = length.filter(|_| io::stderr().is_terminal()) else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left");
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn notes(counts: &Counts, lost: usize) {
    let Counts { requests: _, counted, foreign, newer, unclear, timeless, early, left_out } = counts;
    say(*foreign, "line is no record", "lines are no records", " (cut off, somebody else's, or a dry run's)");
    let what = " of a newer version; what this one does not know of it is not learned";
    say(*newer, "record is", "records are", what);
    let what = " passed over: what this version does not know is on record";
    say(*unclear, "request was", "requests were", what);
    let what = " counted instead of written; of those only the last name of each count is known";
    say(*counted, "request was", "requests were", what);
    let what = " without a time that can be believed: counted, but not for first and last days";
    say(*timeless, "record is", "records are", what);
    say(*early, "record is", "records are", EARLY);
    let what = " not learned: too many different requesters and modules; learn of fewer files at once";
    say(*left_out, "request is", "requests are", what);
    let what = " not kept, since others were permitted the same; told at the policy's end";
    say(u64::try_from(lost).unwrap_or(u64::MAX), "refusal of the records is", "refusals of the records are", what);
}

fn notes_of_changes(changes: &Changes) {
    let Changes { changes: _, judged: _, counted, foreign, early, left_out } = changes;
    let what = " (cut off, somebody else's, a dry run's, or of a newer version)";
    say(*foreign, "line is no record", "lines are no records", what);
    let what = " counted instead of written; what would have been loaded is not known";
    say(*counted, "request was", "requests were", what);
    say(*early, "record is", "records are", EARLY);
    let what = " not told though judged otherwise: too many different ones";
    say(*left_out, "request is", "requests are", what);
}

/// Says how many there are, if any.
fn say(count: u64, one: &str, many: &str, what: &str) {
    match count {
        0 => {}
        1 => complain!("guard: 1 {one}{what}"),
        _ => complain!("guard: {count} {many}{what}"),
    }
}

/// The changes one a line.
fn shown(changes: &Changes, json: bool) -> String {
    #[derive(serde::Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        change: &'a Change,
        #[serde(flatten)]
        sum: &'a learn::Sum,
    }
    let mut text = String::new();
    for (change, sum) in &changes.changes {
        if json {
            match serde_json::to_string(&Row { change, sum }) {
                Ok(line) => text += &(line + "\n"),
                Err(error) => complain!("guard: {error}"),
            }
        } else {
            text += &(for_people(change, sum) + "\n");
        }
    }
    if !json {
        let (blocked, permitted) =
            changes.changes.iter().fold((0_u64, 0_u64), |(blocked, permitted), (change, sum)| {
                if change.verdict == "block" {
                    (blocked.saturating_add(sum.count), permitted)
                } else {
                    (blocked, permitted.saturating_add(sum.count))
                }
            });
        let judged = changes.judged;
        let requests = if judged == 1 { "request" } else { "requests" };
        text += &format!("{judged} {requests}: {blocked} would be blocked that were not, {permitted} no longer\n");
    }
    text
}

fn for_people(change: &Change, sum: &learn::Sum) -> String {
    let Change { verdict, request, who, who_is, uid, rule, source, module, rule_then } = change;
    let word = if *verdict == "block" { "BLOCK" } else { "allow" };
    let who = who.as_ref().map_or_else(|| format!("({who_is})"), ToString::to_string);
    let uid = uid.map_or_else(String::new, |uid| format!(" uid {uid}"));
    let rule = match rule {
        Some(rule) => format!("rule {} ({})", Text::from(rule.as_str()), Text::from(source.as_str())),
        None => "the default".to_owned(),
    };
    let module = module.as_ref().map_or_else(String::new, |module| format!(" for {module}"));
    let then = rule_then.as_ref().map_or_else(String::new, |rule| format!("; then by rule {rule}"));
    let days = match (&sum.first, &sum.last) {
        (Some(first), Some(last)) if first == last => format!(", {first}"),
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let hosts: Vec<String> = sum.hosts.iter().map(ToString::to_string).collect();
    let hosts = if hosts.is_empty() { String::new() } else { format!(", {}", hosts.join(" ")) };
    let times = if sum.count == 1 { "1 time".to_owned() } else { format!("{} times", sum.count) };
    format!("{word} {request}  by {who}{uid}  {rule}{module}{then}  {times}{days}{hosts}")
}

//! `guard log`: the records, of this host or from files.

mod columns;
mod filter;
mod follow;
mod people;
mod report;
mod summary;
mod when;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::Terminal;
use super::{Common, exit};
use crate::audit::follow::Follower;
use crate::audit::read::{self, Entries};
use crate::audit::{self, Entry};
use crate::host::{Host, LOG_DIR, RUN};
use crate::text::counted;
use filter::{Filter, Unclear};
use follow::Watch;
use report::{Report, Table};
use summary::Summary;

/// So many files are named in one line.
const NAMED: usize = 3;

/// What `guard log` can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Files of records, as /var/log/modprobe-guard/audit.jsonl, also packed by gzip, zstd or xz; `-` is standard input
    files: Vec<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Who asked for what how often, the most frequent first. With --json one object a group: count (with those that
    /// were thinned), thinned, who, who_is (unit, container, exe, comm, unknown, others), uid, request (null: several
    /// names), action, enforced, rule, first, last
    #[arg(long)]
    summary: bool,
    /// Write one page to look at in a browser, which needs no network: requests over time, who asked for what, verdicts
    /// and rules, the connection tracking table, and the last records, to filter and to search. FILE gets mode 0640; `-`
    /// is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "summary")]
    report: Option<PathBuf>,
    /// Go on with new entries as they come, until Ctrl-C
    #[arg(long, short, conflicts_with_all = ["files", "summary", "report"])]
    follow: bool,
    /// Move the records that are still in memory to disk, print nothing
    #[arg(
        long,
        conflicts_with_all = ["files", "summary", "report", "follow", "module", "request", "verdict", "rule", "unit", "uid",
            "exe", "since", "until"]
    )]
    flush: bool,
}

/// Prints the entries asked for, or what they add up to; or moves those in memory to disk.
pub fn run(host: &Host, common: &Common, options: &Options) -> u8 {
    if options.flush {
        return match audit::flush(host) {
            Ok(_) => exit::GOOD,
            Err(error) => {
                complain!("guard: {error}");
                exit::BAD
            }
        };
    }
    // An option of all verbs is none of this one's definition.
    let both = (common.json && options.report.is_some())
        .then(|| "--report cannot be used with --json, which prints the records themselves".to_owned());
    if let Some(contradiction) = options.filter.contradiction().or(both) {
        complain!("guard: {contradiction}");
        return exit::CANNOT_TELL;
    }
    let mut told = Told::new(common.json, options);
    // Of whom files are, nobody says; their records hold no use of a table.
    let table = options.files.is_empty().then(|| Table::of(host)).flatten();
    told.report = options.report.as_ref().map(|_| Box::new(Report::new(table)));
    if options.follow {
        return follow(host, &mut told);
    }
    match entries(host, &options.files) {
        Ok(mut entries) => {
            if let Err(error) = told.all(&mut entries).and_then(|()| told.end()) {
                super::unsaid(&error);
                return exit::BAD;
            }
            let notes = told.notes();
            if let Some(error) = options.report.as_ref().and_then(|path| told.report(path, &notes).err()) {
                complain!("guard: {error}");
                return exit::BAD;
            }
            told.status
        }
        Err(error) => unreadable(host, &options.files, &error),
    }
}

fn follow(host: &Host, told: &mut Told<'_>) -> u8 {
    let (mut follower, mut watch) = (Follower::new(host), Watch::new(host));
    loop {
        watch.arm();
        match follower.look() {
            Ok(None) => {}
            Ok(Some(entries)) => {
                if let Err(error) = told.all(entries) {
                    super::unsaid(&error);
                    return exit::BAD;
                }
                told.notes();
            }
            Err(error) => return unreadable(host, &[], &error),
        }
        if !watch.wait(&std::io::stdout()) {
            return exit::GOOD;
        }
    }
}

fn unreadable(host: &Host, files: &[PathBuf], error: &io::Error) -> u8 {
    if files.is_empty() {
        let [run, logs] = [RUN, LOG_DIR].map(|path| host.shown(path));
        complain!("guard: {}, {}: read: {error}; records are for root: sudo guard log", run.display(), logs.display());
    } else {
        complain!("guard: {error}");
    }
    exit::CANNOT_TELL
}

/// Of this host, or of `files`.
fn entries(host: &Host, files: &[PathBuf]) -> io::Result<Entries> {
    if files.is_empty() {
        return read::of_host(host);
    }
    let open = |path: &PathBuf| -> io::Result<Box<dyn Read>> { Ok(audit::packed::open(path, |_| ())?.lines) };
    Ok(read::of_readers(files.iter().map(open).collect::<Result<Vec<_>, _>>()?))
}

/// What goes to standard output, and what is said besides.
struct Told<'a> {
    out: BufWriter<io::Stdout>,
    terminal: Terminal,
    json: bool,
    filter: &'a Filter,
    summary: Option<Summary>,
    report: Option<Box<Report>>,
    unclear: Unclear,
    files: &'a [PathBuf],
    foreign: Foreign,
    /// Of a newer version.
    newer: Foreign,
    status: u8,
}

/// Lines that are not told, by the place of their file among those that are read.
#[derive(Debug, Default)]
struct Foreign(BTreeMap<usize, usize>);

impl Foreign {
    fn add(&mut self, at: usize) {
        let count = self.0.entry(at).or_default();
        *count = count.saturating_add(1);
    }

    /// How many, with what they are, and of several files where.
    fn note(&self, files: &[PathBuf], one: &str, more: &str) -> Option<String> {
        let all: usize = self.0.values().sum();
        let named = self
            .0
            .iter()
            .filter(|_| files.len() > 1)
            .filter_map(|(at, count)| Some(format!("{} ({count})", files.get(*at)?.display())));
        let rest = if files.len() > 1 { self.0.len().saturating_sub(NAMED) } else { 0 };
        let rest = (rest > 0).then(|| format!("and {rest} more"));
        let places: Vec<String> = named.take(NAMED).chain(rest).collect();
        let places = if places.is_empty() { String::new() } else { format!(": {}", places.join(", ")) };
        let what = if all == 1 { one } else { more };
        (all > 0).then(|| format!("{} {what}{places}", counted(all, "line")))
    }
}

impl<'a> Told<'a> {
    fn new(json: bool, options: &'a Options) -> Told<'a> {
        Told {
            out: BufWriter::new(io::stdout()),
            terminal: Terminal::stdout(),
            json,
            filter: &options.filter,
            summary: options.summary.then(Summary::default),
            report: None,
            unclear: Unclear::default(),
            files: &options.files,
            foreign: Foreign::default(),
            newer: Foreign::default(),
            status: exit::GOOD,
        }
    }

    /// Tells of `entries`, all of them on their way when this ends.
    fn all(&mut self, entries: &mut Entries) -> io::Result<()> {
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if entry.is_newer() => self.newer.add(entries.last_reader()),
                Ok(Entry::Foreign(_)) => self.foreign.add(entries.last_reader()),
                Ok(entry) => {
                    if self.filter.admits(&entry, &mut self.unclear) {
                        self.one(&entry)?;
                    }
                }
                Err(error) => {
                    complain!("guard: {error}");
                    self.status = exit::BAD;
                }
            }
        }
        self.out.flush()
    }

    fn one(&mut self, entry: &Entry) -> io::Result<()> {
        if let Some(report) = &mut self.report {
            report.add(entry);
            return Ok(());
        }
        match (&mut self.summary, entry) {
            (Some(summary), entry) => summary.add(entry),
            (None, Entry::Record(record)) if self.json => self.json_line(record)?,
            (None, Entry::Thinned(thinned)) if self.json => self.json_line(thinned)?,
            (None, Entry::Record(record)) => writeln!(self.out, "{}", people::record(record, self.terminal))?,
            (None, Entry::Thinned(thinned)) => writeln!(self.out, "{}", people::thinned(thinned, self.terminal))?,
            (None, Entry::Foreign(_)) => {}
        }
        Ok(())
    }

    fn json_line(&mut self, entry: &impl serde::Serialize) -> io::Result<()> {
        let line = audit::entry::json(entry)?;
        self.out.write_all(&line)
    }

    /// What can be told only when all has been seen.
    fn end(&mut self) -> io::Result<()> {
        if let Some(summary) = &self.summary {
            if self.json {
                for line in summary.json() {
                    writeln!(self.out, "{}", line?)?;
                }
            } else {
                for line in summary.people(self.terminal) {
                    writeln!(self.out, "{line}")?;
                }
            }
        }
        self.out.flush()
    }

    /// On standard error: what was left out, and why.
    fn notes(&mut self) -> Vec<String> {
        let foreign = std::mem::take(&mut self.foreign).note(
            self.files,
            "is no record (cut off, or somebody else's)",
            "are no records (cut off, or somebody else's)",
        );
        let newer = std::mem::take(&mut self.newer).note(
            self.files,
            "is of a newer version; read it with that one",
            "are of a newer version; read them with that one",
        );
        let notes: Vec<String> =
            foreign.into_iter().chain(newer).chain(std::mem::take(&mut self.unclear).notes()).collect();
        for note in &notes {
            complain!("guard: {note}");
        }
        notes
    }

    /// Writes the page.
    fn report(&mut self, path: &Path, notes: &[String]) -> Result<(), String> {
        let Some(report) = self.report.take() else { return Ok(()) };
        let page =
            report.page(&self.filter.shown(), notes).map_err(|error| format!("{}: draw: {error}", path.display()))?;
        report::write(path, &page)
    }
}

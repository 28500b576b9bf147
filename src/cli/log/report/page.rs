//! The page itself: template, style, script, data and charts put together, and written.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::people;
use super::super::summary::Span;
use super::flows::Flows;
use super::row::Row;
use super::timeline::{Bar, Counts, total};
use super::{Changed, GROUPS, Report, Table, Word, charts};
use crate::host::Directory;
use crate::text::Text;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Command lines may hold secrets: as the log, for root and its group.
const MODE: u32 = 0o640;

/// What `page.js` reads.
#[derive(Serialize)]
struct Data<'a> {
    entries: u64,
    requests: u64,
    counted: u64,
    counts: Counts,
    hosts: Vec<(&'a String, usize)>,
    more_hosts: bool,
    filters: &'a [String],
    notes: &'a [String],
    width: i64,
    bars: &'a [Bar],
    without_time: u64,
    flows: &'a Flows,
    groups: Vec<Group>,
    groups_left: u64,
    groups_left_requests: u64,
    rows: &'a [Row],
    rows_left: u64,
    changes: &'a [Changed],
    changes_left: u64,
    table: Option<Table>,
}

/// A row of the table of groups, in the words of [`Row`].
#[derive(Serialize)]
struct Group {
    count: u64,
    verdict: Word,
    request: Option<String>,
    who: Option<String>,
    who_is: &'static str,
    uid: Option<u32>,
    rule: Option<String>,
    since: Option<String>,
    time: Option<String>,
    /// Where there are several hosts: number, requests, and the times of those of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<(usize, u64, Option<String>, Option<String>)>,
}

impl Report {
    /// The page. `filters`: what the entries were chosen by; `notes`: what could not be read, or was left out.
    ///
    /// # Errors
    /// What could not be drawn or written as JSON; no records are known that lead there.
    pub fn page(self, filters: &[String], notes: &[String]) -> io::Result<String> {
        let Report {
            entries,
            counted,
            counts,
            hosts,
            more_hosts,
            summary,
            timeline,
            mut rows,
            mut changes,
            changes_left,
            table,
        } = self;
        let without_time = timeline.without;
        let (bars, width) = timeline.bars();
        let all: Vec<_> = summary.groups().collect();
        let flows = Flows::new(all.iter().cloned());
        let text = |text: &Text| text.to_string();
        let when = |time: Option<&str>| time.map(|time| people::shown(time).to_string());
        let of_hosts = |(host, span): (&usize, &Span)| {
            (*host, span.count, when(span.first.as_deref()), when(span.last.as_deref()))
        };
        let groups = all.iter().take(GROUPS).map(|group| Group {
            count: group.count,
            verdict: Word::of(group.action, group.enforced),
            request: group.request.map(text),
            who: group.who.map(text),
            who_is: group.who_is,
            uid: group.uid,
            rule: group.rule.map(text),
            since: when(group.first),
            time: when(group.last),
            hosts: if hosts.len() > 1 { group.of_hosts.iter().map(of_hosts).collect() } else { Vec::new() },
        });
        let left = || all.iter().skip(GROUPS);
        let data = Data {
            entries,
            requests: total(counts),
            counted,
            counts,
            more_hosts,
            hosts: hosts.iter().map(|(name, number)| (name, *number)).collect(),
            filters,
            notes,
            width,
            bars: &bars,
            without_time,
            flows: &flows,
            groups: groups.collect(),
            groups_left: left().count() as u64,
            groups_left_requests: total(left().map(|group| group.count)),
            rows_left: entries.saturating_sub(rows.len() as u64),
            rows: rows.make_contiguous(),
            changes: changes.make_contiguous(),
            changes_left,
            table,
        };
        // With no `<` in it, nothing in the data ends its element, or begins another.
        let json = serde_json::to_string(&data)?.replace('<', "\\u003c");
        let draw = |is_empty: bool, chart: &dyn Fn() -> Result<String, String>| match is_empty {
            true => Ok(String::new()),
            false => chart().map_err(io::Error::other),
        };
        let timeline = draw(bars.is_empty(), &|| charts::timeline(&bars))?;
        let flows = draw(flows.links.is_empty(), &|| charts::flows(&flows))?;
        Ok(fill(&[
            ("policy", &policy()),
            ("style", STYLE),
            ("timeline", &timeline),
            ("flows", &flows),
            ("data", &json),
            ("script", SCRIPT),
        ]))
    }
}

/// What the browser lets the page do: run this script, use this style, nothing else; above all fetch nothing.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    format!("default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'")
}

/// The template with a text in each of its places, `{{name}}`. What is put in is not looked through again.
fn fill(texts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut parts = PAGE.split("{{");
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or_default();
        let text = texts.iter().find(|(other, _)| *other == name).map_or("", |(_, text)| text);
        filled.push_str(text);
        filled.push_str(rest);
    }
    filled
}

/// Writes `page` to `path`, whole or not at all, as a file for its owner and group; `-` is standard output.
///
/// # Errors
/// What the system calls say, with path and remedy.
pub fn write(path: &Path, page: &str) -> Result<(), String> {
    if path == Path::new("-") {
        // A reader who left is not told of it.
        let _ = io::stdout().write_all(page.as_bytes());
        return Ok(());
    }
    let fail = |verb: &str, error: io::Error, remedy: &str| format!("{}: {verb}: {error}; {remedy}", path.display());
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(format!("{}: is no name of a file; --report takes FILE, or - for standard output", path.display()));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let elsewhere = "give a file in a directory that you can write, or - for standard output";
    let directory = File::open(parent).map_err(|error| fail("open its directory", error, elsewhere))?;
    let directory = Directory::from(directory);
    // A device or a pipe in that place would be no more.
    let is_file = |kind: u32| kind & nix::libc::S_IFMT == nix::libc::S_IFREG;
    match directory.stat(name) {
        Ok(Some(stat)) if !is_file(stat.st_mode) => {
            return Err(format!(
                "{}: is there, and is no file; give another name, or - for standard output",
                path.display()
            ));
        }
        Ok(_) => {}
        Err(error) => return Err(fail("stat", error, elsewhere)),
    }
    let mode = Mode::from_bits_truncate(MODE);
    directory.replace_with_mode(name, page.as_bytes(), mode).map_err(|error| fail("write", error, elsewhere))
}

//! What came of a request, against what was expected.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use super::stage::{LOG, Ran, SPOOL, Stage};
use super::{Verdict, loader};

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// What is to come of a request.
#[derive(Clone, Debug)]
pub struct Expected {
    /// [`RULES`] decide; else the built-in default does, which blocks nothing.
    pub rules: bool,
    /// What a name stands for can be told.
    pub index: bool,
    /// The status of a request that is permitted, and whether a mark is left.
    pub delegate: (i32, bool),
    /// A record is in the spool, or in the log.
    pub spool: bool,
    /// Syslog takes a line.
    pub syslog: bool,
    /// The kernel's log takes what syslog does not.
    pub kernel_log: bool,
    /// What connection tracking's size is set by is there.
    pub sized: bool,
    /// The policy wants a size for it.
    pub sizes: bool,
    /// The record says so.
    pub says: &'static str,
}

impl Stage {
    /// Whether the answer, the mark, the record and the table are what [`Expected`] says.
    pub fn as_expected(&self, ran: &Ran) -> Result<(), String> {
        let (status, marks) = self.expected.delegate;
        let blocked = self.is_blocked();
        let status = if blocked { 1 } else { status };
        let shown = || format!("{ran:?}, {:?}, {:?}", self.records(), self.kernel_log());
        expect("status", &ran.status, &Some(status)).map_err(|wrong| format!("{wrong}: {}", shown()))?;
        expect("said", &ran.said.as_str(), &"")?;
        let mark = (!blocked && marks).then(|| self.verdict.name().to_owned());
        expect("marks", &self.marks(), &(mark, false))?;
        self.record_is_there(blocked, status).map_err(|wrong| format!("{wrong}: {}", shown()))?;
        if self.verdict == Verdict::Sized && self.expected.sized && self.expected.sizes && marks {
            let max = fs::read_to_string(self.path(MAX)).unwrap_or_default();
            let max: u32 = max.trim().parse().map_err(|_| format!("max is {max:?}"))?;
            expect("sized", &(max > 100_000), &true)?;
        }
        Ok(())
    }

    /// Whether it ended with `status` and nothing was left twice.
    pub fn ended(&self, ran: &Ran, status: i32) -> Result<(), String> {
        expect("status", &ran.status, &Some(status))?;
        expect("a second mark", &self.marks().1, &false)
    }

    /// Where a fault may or may not have a part in the verdict: whether the answer, the mark and what is on record fit
    /// each other. With `tells`, a block that did not come about must have a reason on record.
    pub fn as_it_says(&self, ran: &Ran, tells: bool) -> Result<(), String> {
        let records = self.records()?;
        let (told, complaints) = (self.told().join("\n"), self.kernel_log());
        let wrong = |what: &str| Err(format!("{what}: {ran:?}, {:?}, {records:?}, {told}, {complaints}", self.marks()));
        let ours = ["crashed", "panic", "own work took"];
        let failed = ours.iter().any(|word| complaints.contains(word) || told.contains(word));
        let (mark, again) = self.marks();
        match (ran.status, &mark) {
            _ if again => return wrong("run twice"),
            (Some(1), None) => {}
            // The kernel could not lay out the program, or its C library its own memory.
            (Some(127 | 134 | 137 | 139), None) if self.interruption.is_some() && !ran.followed.is_launched => {
                return Ok(());
            }
            (Some(loader::STATUS), Some(mark)) if mark == self.verdict.name() => {}
            // What it did is done, and its status could not be had.
            (Some(1), Some(_)) if !self.is_blocked() && records.iter().any(|record| !record["failures"].is_null()) => {}
            _ => return wrong("status and mark"),
        }
        if records.len() > 1 {
            return wrong("too many records");
        }
        let Expected { spool, syslog, kernel_log, .. } = self.expected;
        // Where there is no sink nobody can be told.
        let mut reason = failed || !(spool || syslog || kernel_log);
        for record in &records {
            let is_blocked = record["verdict"]["action"] == "block";
            if is_blocked && mark.is_some() {
                return wrong("blocked on record, and run");
            }
            // Where it was left to modprobe to answer for itself, nobody knows.
            let is_left = record["outcome"].is_null() && record["failures"].to_string().contains("takes our place");
            let status = record["outcome"]["status"].as_i64().map(|status| status as i32);
            if status != ran.status && !failed && !is_left {
                return wrong("status on record");
            }
            reason |= record["failures"].as_array().is_some_and(|failures| !failures.is_empty());
        }
        if records.is_empty() && !reason && !told.contains("verdict=") && !complaints.contains("verdict=") {
            return wrong("nothing on record");
        }
        reason |= told.contains("failure=") || complaints.contains("failure=");
        if tells && self.verdict == Verdict::Blocked && mark.is_some() && !failed {
            return wrong("blocked by its name, and run");
        }
        if tells && self.is_blocked() && mark.is_some() && !reason {
            return wrong("a block that did not come about, without a reason");
        }
        if tells && !self.is_blocked() && mark.is_none() && !reason {
            return wrong("a permitted request that did not come about, without a reason");
        }
        Ok(())
    }

    fn record_is_there(&self, blocked: bool, status: i32) -> Result<(), String> {
        let records = self.records()?;
        expect("records", &records.len(), &usize::from(self.expected.spool))?;
        let action = match self.verdict {
            _ if blocked => "block",
            Verdict::Sized if self.expected.sizes => "allow-sysctl",
            _ => "allow",
        };
        for record in &records {
            expect("name", &record["request"]["name"].as_str(), &Some(self.verdict.name()))?;
            expect("action", &record["verdict"]["action"].as_str(), &Some(action))?;
            expect("status on record", &record["outcome"]["status"].as_i64(), &Some(status.into()))?;
            if !record["failures"].to_string().contains(self.expected.says) {
                return Err(format!("no {:?} on record", self.expected.says));
            }
        }
        let told = format!("verdict={action} ");
        let syslog = self.told();
        let lines = if self.expected.syslog { 1 } else { 0 };
        expect("lines in syslog", &syslog.iter().filter(|line| line.contains(&told)).count(), &lines)?;
        let lines = if self.expected.kernel_log && !self.expected.syslog { 1 } else { 0 };
        expect("lines in the kernel's log", &self.kernel_log().matches(&told).count(), &lines)
    }

    /// The target of the mark, and whether it was left twice.
    pub fn marks(&self) -> (Option<String>, bool) {
        let mark = fs::read_link(self.path(loader::MARK)).ok();
        let again = fs::symlink_metadata(self.path(loader::AGAIN)).is_ok();
        (mark.map(|mark| mark.to_string_lossy().into_owned()), again)
    }

    /// What the spool and the log hold; an error if a line of it is no record. A last one without an end is none: it was
    /// cut, and the next begins a line of its own.
    pub fn records(&self) -> Result<Vec<Value>, String> {
        let mut records = Vec::new();
        for path in [LOG, "/run/modprobe-guard/audit.jsonl.flushing", SPOOL] {
            let path = self.path(path);
            if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines = text.split_inclusive('\n').filter(|line| line.len() > 1 && line.ends_with('\n'));
            for line in lines {
                records.push(serde_json::from_str(line).map_err(|error| format!("{error}: {line:?}"))?);
            }
        }
        Ok(records)
    }

    /// What was sent to syslog since this was asked last.
    pub fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        while let Some(Ok(length)) = self.syslog.as_ref().map(|syslog| syslog.recv(&mut buffer)) {
            lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        lines
    }

    pub fn kernel_log(&self) -> String {
        let path = self.path("/dev/kmsg");
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if is_file { fs::read_to_string(&path).unwrap_or_default() } else { String::new() }
    }

    /// All below the root that a request must not change: paths, kinds and modes, owners, sizes, times.
    pub fn elsewhere(&self) -> Vec<(PathBuf, u32, u32, u64, i64)> {
        let passed = ["proc", "sys", "kernel", "run/modprobe-guard", "var/log/modprobe-guard", "dev/kmsg"];
        let passed = passed.map(|path| self.path(path));
        let mut found = Vec::new();
        let mut left = vec![self.path("/")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if passed.contains(&path) {
                    continue;
                }
                let changed = if metadata.is_dir() { 0 } else { metadata.mtime_nsec() };
                let length = if metadata.is_dir() { 0 } else { metadata.len() };
                if metadata.is_dir() {
                    left.push(path.clone());
                }
                found.push((path, metadata.mode(), metadata.uid(), length, changed));
            }
        }
        found.sort();
        found
    }
}

/// An error that tells both unless they are the same.
pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

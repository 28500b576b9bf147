//! The one line that people and grep read: `verdict=block rule=no-conntrack module=nf_conntrack …`.
//!
//! A value is one token: what users chose is in the printable form of [`Text`](crate::text::Text) with space and comma
//! as `\x20` and `\x2c` besides, so nobody can write a token of their own, and several values can be joined by commas.
//! The quoted texts at the end keep their spaces, but neither `"` nor `=`. A value that was cut ends in `\…`, which the
//! printable form never holds.
#![forbid(unsafe_code)]

use std::fmt::Write;

use serde::Serialize;

use crate::audit::entry::Thinned;
use crate::audit::who::symbol;
use crate::model::{Action, Record, Requester, Task, Verdict};
use crate::text::{escape, plain};

/// What a line takes at most, bytes: the kernel's log takes less than 1024 (LOG_LINE_MAX, kernel/printk/printk.c).
pub const MAX: usize = 900;
/// What a value takes at most unless said otherwise.
const VALUE: usize = 64;
/// What a path may take.
const PATH: usize = 120;
/// What is kept of what may also be left out: a container's id, a symbol.
const SHORT: usize = 48;
/// Room for the words at the end, which what may be left out doesn't take.
const RESERVED: usize = 250;
/// The kernel's names have 55 bytes at most: room for all of them escaped.
const NAME: usize = 220;
/// What is kept for the policy's words, and for each failure.
const QUOTED: usize = 160;
/// Stands at the end of what was cut.
const CUT: &str = "\\…";

/// How loud an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// A permitted request.
    Info,
    /// A block, enforced or not.
    Warning,
    /// Something went wrong on the way.
    Error,
}

/// How loud a record is.
pub fn loudness(record: &Record) -> Loudness {
    if record.failures.is_empty() { of_verdict(&record.verdict) } else { Loudness::Error }
}

/// How loud a verdict alone is.
pub fn of_verdict(verdict: &Verdict) -> Loudness {
    if verdict.action == Action::Block { Loudness::Warning } else { Loudness::Info }
}

/// The line of a record, without its end.
pub fn of_record(record: &Record) -> String {
    let mut line = Line::new(&record.verdict);
    line.judged(&record.verdict, record.request.name.as_bytes());
    line.token("caller", &word(&record.request.caller), VALUE);
    line.requester(&record.requester);
    line.number("status", record.outcome.as_ref().map(|outcome| outcome.status.into()));
    for failure in &record.failures {
        line.quoted("failure", failure);
    }
    line.quoted_reason(&record.verdict);
    line.0
}

/// The line of a count, without its end.
pub fn of_thinned(thinned: &Thinned) -> String {
    let mut line = Line::new(&thinned.verdict);
    line.number("thinned", i64::try_from(thinned.thinned).ok());
    line.token("since", thinned.since.as_bytes(), VALUE);
    line.judged(&thinned.verdict, thinned.request.name.as_bytes());
    line.token("caller", &word(&thinned.request.caller), VALUE);
    line.quoted_reason(&thinned.verdict);
    line.0
}

/// Any words of ours as one bounded line.
pub fn of_message(message: &str) -> String {
    let mut line = String::new();
    push_bounded(&mut line, message.as_bytes(), &[], MAX);
    line
}

/// The word that the policy and JSON have for `value`.
fn word(value: &impl Serialize) -> Vec<u8> {
    let word = serde_json::to_vec(value).unwrap_or_default();
    match word.as_slice() {
        [b'"', word @ .., b'"'] => word.to_vec(),
        _ => b"-".to_vec(),
    }
}

fn digits(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

struct Line(String);

impl Line {
    fn new(verdict: &Verdict) -> Line {
        let mut line = Line(String::with_capacity(MAX));
        line.token("verdict", &word(&verdict.action), VALUE);
        line
    }

    fn judged(&mut self, verdict: &Verdict, name: &[u8]) {
        if verdict.action == Action::Block && !verdict.enforced {
            self.token("enforced", b"no", VALUE);
        }
        self.token("rule", verdict.rule.as_deref().unwrap_or("-").as_bytes(), VALUE);
        self.token("module", verdict.module.as_ref().map_or(&b"-"[..], |module| module.as_bytes()), VALUE);
        self.token("request", name, NAME);
    }

    fn requester(&mut self, requester: &Requester) {
        self.of_tasks("pid", requester, |task| task.pid.map(|pid| digits(pid.into())), VALUE);
        self.of_tasks("exe", requester, |task| Some(task.exe.as_ref()?.0.clone()), PATH);
        self.of_tasks("uid", requester, |task| task.uid.map(|uid| digits(uid.into())), VALUE);
        self.of_tasks("unit", requester, |task| Some(task.unit.as_ref()?.0.clone()), VALUE);
        // What few requests have takes only the room that nothing else needs.
        if self.0.len() <= MAX.saturating_sub(RESERVED) {
            let is_contained = |task: &Task| task.container.is_some();
            if is_contained(&requester.task) || requester.candidates.iter().any(is_contained) {
                self.of_tasks("container", requester, |task| Some(task.container.as_ref()?.0.clone()), SHORT);
            }
            if let Some(symbol) = symbol(requester) {
                self.token("call", symbol, SHORT);
            }
        }
        self.token("confidence", &word(&requester.confidence), VALUE);
    }

    /// Of several candidates every value there is, each once.
    fn of_tasks(&mut self, key: &str, requester: &Requester, of: fn(&Task) -> Option<Vec<u8>>, limit: usize) {
        let mut told: Vec<Vec<u8>> = Vec::new();
        for task in std::iter::once(&requester.task).chain(&requester.candidates) {
            told.extend(of(task).filter(|value| !told.contains(value)));
        }
        self.list(key, &told, limit);
    }

    fn key(&mut self, key: &str) {
        let gap = if self.0.is_empty() { "" } else { " " };
        let _ = write!(self.0, "{gap}{key}=");
    }

    fn number(&mut self, key: &str, number: Option<i64>) {
        self.token(key, &number.map_or_else(|| b"-".to_vec(), digits), VALUE);
    }

    fn token(&mut self, key: &str, value: &[u8], limit: usize) {
        self.list(key, &[value.to_vec()], limit);
    }

    fn list(&mut self, key: &str, values: &[Vec<u8>], limit: usize) {
        self.key(key);
        let limit = self.0.len().saturating_add(limit);
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            if !push_bounded(&mut self.0, value, b" ,", limit) {
                return;
            }
        }
        if values.is_empty() {
            self.0.push('-');
        }
    }

    fn quoted_reason(&mut self, verdict: &Verdict) {
        if let Some(reason) = &verdict.reason {
            self.quoted("reason", reason);
        }
    }

    /// Adds a text in quotes if there is room for a useful part of it.
    fn quoted(&mut self, key: &str, text: &str) {
        let room = MAX.saturating_sub(self.0.len()).saturating_sub(key.len()).saturating_sub(" =\"\"".len());
        if room < 40 {
            return;
        }
        self.key(key);
        self.0.push('"');
        let limit = self.0.len().saturating_add(room.min(QUOTED));
        push_bounded(&mut self.0, text.as_bytes(), b"\"=", limit);
        self.0.push('"');
    }
}

/// Adds `bytes` in their printable form, the bytes `also` as `\xNN` too, until `line` has `limit` bytes. Says whether
/// everything fitted.
fn push_bounded(line: &mut String, bytes: &[u8], also: &[u8], limit: usize) -> bool {
    let limit = limit.saturating_sub(CUT.len());
    let fits = line.len().saturating_add(bytes.len()) <= limit && !bytes.iter().any(|byte| also.contains(byte));
    if let Some(plain) = plain(bytes).filter(|_| fits) {
        line.push_str(plain);
        return true;
    }
    bytes.utf8_chunks().all(|chunk| {
        let mut characters = chunk.valid().chars();
        characters.all(|c| push_if_it_fits(line, c.encode_utf8(&mut [0; 4]).as_bytes(), also, limit))
            && chunk.invalid().chunks(1).all(|byte| push_if_it_fits(line, byte, also, limit))
    })
}

/// Adds one character or byte, or the mark of a cut.
fn push_if_it_fits(line: &mut String, piece: &[u8], also: &[u8], limit: usize) -> bool {
    let before = line.len();
    let _ = match piece {
        [byte] if also.contains(byte) => write!(line, "\\x{byte:02x}"),
        _ => escape(piece, line),
    };
    if line.len() > limit {
        line.truncate(before);
        line.push_str(CUT);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::samples::{HOSTILE, record};
    use crate::model::Confidence;
    use crate::text::Text;

    #[test]
    fn a_record_reads_like_this() {
        let mut record = record(b"iptable_nat", 0);
        assert_eq!(
            of_record(&record),
            "verdict=block rule=no-conntrack module=nf_conntrack request=iptable_nat caller=kernel pid=101 \
             exe=/usr/sbin/xtables-legacy-multi uid=0 unit=ssh.service confidence=exact status=1 \
             reason=\"this router needs no tracking\""
        );
        assert_eq!(loudness(&record), Loudness::Warning);
        record.verdict.enforced = false;
        record.verdict.rule = None;
        record.verdict.module = None;
        record.verdict.reason = None;
        record.outcome = None;
        record.requester = Requester::unknown();
        record.failures = vec!["a \"quoted\" verdict=allow\n".to_owned()];
        assert_eq!(
            of_record(&record),
            "verdict=block enforced=no rule=- module=- request=iptable_nat caller=kernel pid=- exe=- uid=- unit=- \
             confidence=unknown status=- failure=\"a \\x22quoted\\x22 verdict\\x3dallow\\x0a\""
        );
        assert_eq!(loudness(&record), Loudness::Error);
    }

    #[test]
    fn container_and_call_site_stand_there_if_there_are_any() {
        let mut record = record(b"net-pf-9", 0);
        record.requester.call_site = Some(Text::from("__sock_create+0x1a2/0x2f0"));
        record.requester.task.container = Some(Text::from("4711"));
        let line = of_record(&record);
        assert!(line.contains(" unit=ssh.service container=4711 call=__sock_create confidence=exact "), "{line}");
        // Where there is little room they give way to what went wrong.
        record.verdict.rule = Some("r".repeat(64));
        record.verdict.module = Some(Text::from("m".repeat(64).as_str()));
        record.request.name = Text::from("n".repeat(300).as_str());
        record.requester.task.exe = Some(Text::from("e".repeat(200).as_str()));
        record.requester.task.unit = Some(Text::from("u".repeat(200).as_str()));
        record.requester.task.pid = Some(i32::MAX);
        record.requester.candidates =
            (0..20).map(|pid| Task { pid: Some(i32::MAX - pid), uid: Some(u32::MAX - 1), ..Task::default() }).collect();
        record.failures = vec!["f".repeat(400)];
        let line = of_record(&record);
        assert!(!line.contains(" container=") && !line.contains(" call=") && line.contains("failure="), "{line}");
        assert!(line.len() <= MAX);
    }

    #[test]
    fn several_candidates_stand_side_by_side() {
        let mut record = record(b"x", 0);
        let task =
            |pid, exe: &str| Task { pid: Some(pid), exe: Some(Text::from(exe)), uid: Some(7), ..Task::default() };
        record.requester = Requester {
            confidence: Confidence::Ambiguous,
            candidates: vec![task(101, "/a b"), task(102, "/c,d")],
            ..Requester::unknown()
        };
        let line = of_record(&record);
        assert!(line.contains(" pid=101,102 exe=/a\\x20b,/c\\x2cd uid=7 unit=- confidence=ambiguous "), "{line}");
    }

    #[test]
    fn nobody_writes_a_token_of_their_own() {
        let keys = |line: &str| -> Vec<String> {
            let tokens = line.split(" reason=").next().unwrap().split(' ');
            tokens.map(|token| token.split('=').next().unwrap().to_owned()).collect()
        };
        let with_all = |name: &[u8]| {
            let mut record = record(name, 0);
            record.requester.task.exe = Some(Text::from(name));
            record.requester.task.unit = Some(Text::from(name));
            record.requester.task.container = Some(Text::from(name));
            record.requester.call_site = Some(Text::from(name));
            record
        };
        let expected = keys(&of_record(&with_all(b"x")));
        assert!(expected.iter().any(|key| key == "container") && expected.iter().any(|key| key == "call"));
        for name in HOSTILE {
            let line = of_record(&with_all(name));
            assert_eq!(keys(&line), expected, "{line}");
            assert!(line.chars().all(|c| !c.is_control()), "{line}");
            let token = line.split(" request=").nth(1).unwrap().split(' ').next().unwrap();
            assert_eq!(Text::unescape(token), Some(Text::from(name)));
        }
    }

    #[test]
    fn a_line_is_bounded_whatever_it_holds() {
        for byte in [b'a', b'\n', b'\\', 0xff] {
            let long = vec![byte; 5000];
            let mut record = record(&long, u32::MAX);
            let text = Some(Text(long.clone()));
            let task = Task { exe: text.clone(), unit: text.clone(), container: text.clone(), ..Task::default() };
            record.requester.call_site = text;
            record.requester.task = Task { pid: Some(i32::MAX), ..task.clone() };
            record.requester.candidates = vec![task; 20];
            record.verdict.module = Some(Text(long.clone()));
            record.verdict.rule = Some("r".repeat(5000));
            record.verdict.reason = Some("ü".repeat(5000));
            record.failures = vec!["\u{7f}".repeat(5000); 9];
            let line = of_record(&record);
            assert!(line.len() <= MAX, "{} {line}", line.len());
            assert!(line.contains("failure=") && line.contains(CUT), "{line}");
            assert!(of_message(&record.failures.concat()).len() <= MAX);
        }
    }
}

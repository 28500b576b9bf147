//! What a line of the audit log can be.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::audit::who::Who;
use crate::model::{Record, Request, Verdict};
use crate::text::{Text, plain, printable_json};

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// One request.
    Record(Box<Record>),
    /// Requests that were counted instead of written.
    Thinned(Box<Thinned>),
    /// A line that is neither: cut off by a crash, or not ours.
    Foreign(Text),
}

/// How many requests of one kind were counted instead of written, and the last of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thinned {
    /// Version of this form: 1.
    pub v: u32,
    /// When the last of them was made; RFC 3339, UTC.
    pub time: String,
    /// How many.
    pub thinned: u64,
    /// When the first of them was made. Together with `kind` it names this count: of two lines with the same names
    /// the greater contains the other.
    pub since: String,
    /// The kind, as a number that means nothing outside of this boot.
    #[serde(default)]
    pub kind: String,
    /// The last one's request, its name shortened if it is very long.
    pub request: Request,
    /// Whether all of them asked for that name; absent from lines of former versions.
    #[serde(default)]
    pub one_name: bool,
    /// The last one's verdict, its texts shortened if they are very long.
    pub verdict: Verdict,
    /// What all who asked have in common; absent from lines of former versions.
    #[serde(default)]
    pub requester: Who,
}

impl Entry {
    /// Reads one line, without its end.
    pub fn parse(line: &[u8]) -> Entry {
        if let Ok(record) = serde_json::from_slice(line) {
            return Entry::Record(Box::new(record));
        }
        match serde_json::from_slice(line) {
            Ok(thinned) => Entry::Thinned(Box::new(thinned)),
            Err(_) => Entry::Foreign(Text::from(line)),
        }
    }

    /// Whether it is none because it has the form of a later version: one begins with `{"v":N`.
    pub fn is_newer(&self) -> bool {
        let Entry::Foreign(line) = self else { return false };
        let Some(rest) = line.as_bytes().strip_prefix(b"{\"v\":") else { return false };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let version = rest.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        rest.get(digits) == Some(&b',') && version.is_some_and(|version| version > 1)
    }

    /// When it was made; `None` for a line that does not say.
    pub fn time(&self) -> Option<&str> {
        match self {
            Entry::Record(record) => record.time.as_deref(),
            Entry::Thinned(thinned) => Some(&thinned.time),
            Entry::Foreign(_) => None,
        }
    }
}

/// The line of `entry` in the audit log, with its end: one line, and no terminal does anything but show it.
///
/// # Errors
/// None that could be met: strings and numbers always have a form in JSON.
pub fn json(entry: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(2048);
    serde_json::to_writer(&mut line, entry)?;
    // Texts are printable already, but words of a policy or of another host's records need not be.
    if let (None, Ok(json)) = (plain(&line), std::str::from_utf8(&line)) {
        line = printable_json(json).into_bytes();
    }
    line.push(b'\n');
    Ok(line)
}

/// Records and counts for tests.
#[cfg(test)]
pub(crate) mod samples {
    use crate::model::*;
    use crate::text::Text;

    /// Names that try to pass for something else.
    pub const HOSTILE: [&[u8]; 6] = [
        b"crypto-x\nverdict=allow rule=fake \x1b[31m\"'\\\xff\xfe",
        b"a verdict=allow",
        b"\"}\n{\"v\":1,\"thinned\":7}",
        b"\x00\r\n\x85\xe2\x80\xa8",
        b"x\",\"verdict\":{\"action\":\"allow\"}",
        b"",
    ];

    /// A blocked request for `name` by user `uid`.
    pub fn record(name: &[u8], uid: u32) -> Record {
        let task = Task {
            pid: Some(101),
            tid: Some(101),
            exe: Some(Text::from("/usr/sbin/xtables-legacy-multi")),
            uid: Some(uid),
            unit: Some(Text::from("ssh.service")),
            ..Task::default()
        };
        Record {
            v: 1,
            time: Some(crate::audit::now()),
            host: Some(Text::from("r1")),
            boot_id: None,
            kernel: None,
            request: Request { name: Text::from(name), caller: Caller::Kernel },
            requester: Requester { confidence: Confidence::Exact, task, ..Requester::unknown() },
            verdict: Verdict {
                action: Action::Block,
                enforced: true,
                rule: Some("no-conntrack".to_owned()),
                source: "/etc/modprobe-guard/policy.toml:14".to_owned(),
                module: Some(Text::from("nf_conntrack")),
                reason: Some("this router needs no tracking".to_owned()),
                carried_out: Action::Block,
            },
            modules: Vec::new(),
            sysctl: Vec::new(),
            failures: Vec::new(),
            shortened: false,
            outcome: Some(Outcome { status: 1, duration_us: 412, ..Outcome::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let record = samples::record(b"iptable_nat", 0);
        let thinned = Thinned {
            v: 1,
            time: "2026-11-20T12:00:01.000000Z".to_owned(),
            thinned: 7,
            since: "2026-11-20T12:00:00.000000Z".to_owned(),
            kind: "1f".to_owned(),
            request: record.request.clone(),
            one_name: true,
            verdict: record.verdict.clone(),
            requester: Who::of(&record.requester),
        };
        let read = |line: &[u8]| Entry::parse(line.trim_ascii_end());
        let Entry::Record(back) = read(&json(&record).unwrap()) else { panic!("not a record") };
        assert_eq!(back.request, record.request);
        let Entry::Thinned(back) = read(&json(&thinned).unwrap()) else { panic!("not a count") };
        assert_eq!((back.thinned, &back.since, back.one_name), (7, &thinned.since, true));
        assert_eq!(back.requester, thinned.requester);
        let mut former = serde_json::to_value(&thinned).unwrap();
        for key in ["one_name", "requester"] {
            former.as_object_mut().unwrap().remove(key).unwrap();
        }
        let Entry::Thinned(back) = read(&json(&former).unwrap()) else { panic!("not a count") };
        assert_eq!((back.thinned, back.one_name, back.requester), (7, false, Who::default()));
        for foreign in [&b"{\"v\":1"[..], b"", b"\xff", b"null", b"[]", b"{\"v\":1,\"thinned\":-1}"] {
            assert_eq!(read(foreign), Entry::Foreign(Text::from(foreign)));
            assert!(!read(foreign).is_newer());
        }
        for (line, is_newer) in [
            (&b"{\"v\":2,\"time\":7}"[..], true),
            (b"{\"v\":12,\"request\":{\"na", true),
            (b"{\"v\":1,\"time\":7}", false),
            (b"{\"v\":2", false),
            (b"{\"v\":-2,", false),
            (b"{\"v\":99999999999,", false),
            (b"x{\"v\":2,", false),
        ] {
            assert_eq!(read(line).is_newer(), is_newer, "{}", line.escape_ascii());
        }
        assert!(!Entry::Record(Box::new(record)).is_newer());
    }

    #[test]
    fn words_of_others_move_no_cursor() {
        let mut record = samples::record(b"x", 0);
        record.verdict.reason = Some("\u{9b}2J \u{202e}\u{7f}".to_owned());
        let line = json(&record).unwrap();
        assert!(line.trim_ascii_end().iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", line.escape_ascii());
        let Entry::Record(back) = Entry::parse(line.trim_ascii_end()) else { panic!("not a record") };
        assert_eq!(back.verdict.reason, record.verdict.reason);
    }

    #[test]
    fn a_hostile_name_stays_in_its_line() {
        for name in samples::HOSTILE {
            let line = json(&samples::record(name, 1000)).unwrap();
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert!(!line.contains(&b'\x1b'));
            let Entry::Record(back) = Entry::parse(line.trim_ascii_end()) else { panic!("not a record") };
            assert_eq!(back.request.name, Text::from(name));
        }
    }
}

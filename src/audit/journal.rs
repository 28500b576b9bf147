//! An entry as systemd-journald's own protocol has it: fields beside the line (systemd's JOURNAL_NATIVE_PROTOCOL).
//!
//! The fields are the line's tokens, in the line's own form: there is one place that says what is told of an entry.
#![forbid(unsafe_code)]

use std::io::Write;

/// Where journald takes them, one datagram an entry.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// What all our entries have in common for journalctl(1), made up once (sd-id128(3)).
const ID: &str = "a95fdf1b9e8f46109f372726f3437f1e";
/// A record may be longer than a datagram; then it is in the log alone, and its fields are here.
const RECORD: usize = 64 << 10;

/// The datagram for `line`, which is that of `record` (one line of JSON), with the number of its severity and of its
/// facility. No value has a line end in it: both are one line each.
pub fn datagram(severity: u32, facility: u32, process: &str, line: &str, record: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len().saturating_mul(3).saturating_add(record.len()));
    let _ = write!(
        out,
        "MESSAGE={line}\nMESSAGE_ID={ID}\nPRIORITY={severity}\nSYSLOG_FACILITY={facility}\n\
         SYSLOG_IDENTIFIER={process}\nSYSLOG_PID={}\n",
        std::process::id()
    );
    // What has spaces in it comes last, in quotes, and stands in the record.
    let tokens = line.split(' ').map_while(|token| token.split_once('='));
    let tokens = tokens.take_while(|(key, _)| !["failure", "reason"].contains(key));
    for (key, values) in tokens {
        let key = if key == "verdict" { "action" } else { key };
        // Of several candidates each has its value; a field may be there more than once.
        for value in values.split(',').filter(|value| *value != "-") {
            out.extend_from_slice(b"MODPROBE_GUARD_");
            out.extend(key.bytes().map(|byte| byte.to_ascii_uppercase()));
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        }
    }
    if record.len() <= RECORD {
        out.extend_from_slice(b"MODPROBE_GUARD_RECORD=");
        out.extend_from_slice(record.trim_ascii_end());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::samples::{HOSTILE, record};
    use crate::audit::entry::{Entry, json};
    use crate::audit::line;
    use crate::model::{Confidence, Record, Requester, Task};
    use crate::text::Text;

    fn fields(record: &Record) -> Vec<(String, String)> {
        let datagram = datagram(4, 10, "modprobe-guard", &line::of_record(record), &json(record).unwrap());
        let text = String::from_utf8(datagram).unwrap();
        assert!(text.ends_with('\n'));
        let field = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
        text.lines().map(field).collect()
    }

    fn all(fields: &[(String, String)], key: &str) -> Vec<String> {
        fields.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    #[test]
    fn a_record_has_these_fields() {
        let record = record(b"iptable_nat", 0);
        let fields = fields(&record);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names.join(" ").replace("MODPROBE_GUARD", ""),
            "MESSAGE MESSAGE_ID PRIORITY SYSLOG_FACILITY SYSLOG_IDENTIFIER SYSLOG_PID _ACTION _RULE _MODULE _REQUEST \
             _CALLER _PID _EXE _UID _UNIT _CONFIDENCE _STATUS _RECORD"
        );
        for (name, value) in [
            ("MESSAGE", line::of_record(&record).as_str()),
            ("PRIORITY", "4"),
            ("MODPROBE_GUARD_ACTION", "block"),
            ("MODPROBE_GUARD_RULE", "no-conntrack"),
            ("MODPROBE_GUARD_UNIT", "ssh.service"),
            ("MODPROBE_GUARD_RECORD", String::from_utf8(json(&record).unwrap()).unwrap().trim_end()),
        ] {
            assert_eq!(all(&fields, name), [value]);
        }
    }

    #[test]
    fn several_candidates_are_several_values_and_unknowns_none() {
        let mut record = record(b"x", 0);
        let task = |pid, exe: &str| Task { pid: Some(pid), exe: Some(Text::from(exe)), ..Task::default() };
        record.requester = Requester {
            confidence: Confidence::Ambiguous,
            candidates: vec![task(101, "/a b"), task(102, "/c,d")],
            ..Requester::unknown()
        };
        let fields = fields(&record);
        assert_eq!(all(&fields, "MODPROBE_GUARD_PID"), ["101", "102"]);
        assert_eq!(all(&fields, "MODPROBE_GUARD_EXE"), ["/a\\x20b", "/c\\x2cd"]);
        assert!(all(&fields, "MODPROBE_GUARD_UNIT").is_empty());
    }

    #[test]
    fn nobody_writes_a_field_of_their_own() {
        let names = |fields: &[(String, String)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let with_all = |name: &[u8]| {
            let mut record = record(name, 0);
            let text = Text([name, b"\nMODPROBE_GUARD_ACTION=allow \nX=".as_slice()].concat());
            record.requester.task.exe = Some(text.clone());
            record.requester.task.unit = Some(text.clone());
            record.verdict.reason = Some(format!("{text:?}\nMODPROBE_GUARD_ACTION=allow"));
            record.failures = vec!["a MODPROBE_GUARD_ACTION=allow\nX=y z=0".to_owned()];
            record
        };
        let expected = names(&fields(&with_all(b"x")));
        for name in HOSTILE {
            let record = with_all(name);
            let fields = fields(&record);
            assert_eq!(names(&fields), expected);
            assert_eq!(all(&fields, "MODPROBE_GUARD_ACTION"), ["block"]);
            let [line] = &all(&fields, "MODPROBE_GUARD_RECORD")[..] else { panic!("not one record") };
            let Entry::Record(back) = Entry::parse(line.as_bytes()) else { panic!("no record: {line}") };
            assert_eq!(back.request, record.request);
        }
    }

    #[test]
    fn a_very_long_record_leaves_its_fields() {
        let mut record = record(b"x", 0);
        record.requester.task.cmdline = Some(vec![Text(vec![b'x'; RECORD])]);
        let fields = fields(&record);
        assert!(all(&fields, "MODPROBE_GUARD_RECORD").is_empty());
        assert_eq!(all(&fields, "MODPROBE_GUARD_REQUEST"), ["x"]);
    }
}

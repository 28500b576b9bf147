//! `sysctl.d`: what an administrator wants of the kernel's settings, as systemd-sysctl would apply it.
//!
//! Facts from systemd's sysctl.c, sysctl-util.c and sysctl.d(5). `/etc/sysctl.conf` is not among the files; where it
//! counts, a link in `/etc/sysctl.d` leads to it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::glob;
use crate::host::Host;

/// In the order of precedence: a file hides those of its name in later directories.
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// Longest file that is read.
const LONGEST: usize = 1 << 20;

/// One line that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The sysctl as a path below `/proc/sys`, or a pattern over them (`glob::is_pattern`).
    pub key: String,
    /// What to write; `None` keeps the key out of what patterns stand for.
    pub value: Option<Vec<u8>>,
    /// `FILE:LINE`.
    pub source: String,
    /// The line begins with `-`: that it can't be written is no failure.
    pub ignore_failure: bool,
}

/// The effective assignments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SysctlD {
    /// One a key, in the order in which they are applied.
    pub assignments: Vec<Assignment>,
    /// Files that could not be read and lines that are no assignments, one text each.
    pub failures: Vec<String>,
}

impl SysctlD {
    /// Reads the host's files.
    pub fn read(host: &Host) -> SysctlD {
        let mut paths = BTreeMap::new();
        for directory in DIRECTORIES {
            for name in host.list(directory).unwrap_or_default() {
                let path = Path::new(directory).join(&name);
                // A directory hides nothing, anything else does: a link to /dev/null masks.
                if path.extension().is_some_and(|extension| extension == "conf") && !paths.contains_key(&name) {
                    if host.is_directory(&path) {
                        continue;
                    }
                    paths.insert(name, path);
                }
            }
        }
        let mut read = SysctlD::default();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths.into_values() {
            match host.read(&path, LONGEST) {
                Ok(bytes) => files.push((path.display().to_string(), bytes)),
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput) => {}
                Err(error) => read.failures.push(format!("{}: read: {error}", path.display())),
            }
        }
        let parsed = SysctlD::parse(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        read.assignments = parsed.assignments;
        read.failures.extend(parsed.failures);
        read
    }

    /// Pure: what the files say together, given as path and bytes in name order.
    ///
    /// A later line for a key takes the earlier one's place and goes to the end, unless it says the same.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> SysctlD {
        let mut failures = Vec::new();
        let mut order: BTreeMap<usize, Assignment> = BTreeMap::new();
        let mut place: HashMap<String, usize> = HashMap::new();
        for (path, bytes) in files {
            for (number, line) in (1usize..).zip(bytes.split(|&byte| byte == b'\n')) {
                // A carriage return and a NUL end a line too.
                for line in line.split(|&byte| matches!(byte, b'\r' | 0)) {
                    let source = format!("{path}:{number}");
                    let assignment = match parse_line(line, source) {
                        Line::Empty => continue,
                        Line::Not(source) => {
                            failures.push(format!("{source}: is no assignment: write KEY = VALUE"));
                            continue;
                        }
                        Line::Assignment(assignment) => assignment,
                    };
                    let earlier = place.get(&assignment.key).and_then(|at| order.get_mut(at));
                    if let Some(earlier) = earlier.filter(|earlier| earlier.value == assignment.value) {
                        earlier.ignore_failure |= assignment.ignore_failure;
                        continue;
                    }
                    let next = order.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
                    if let Some(replaced) = place.insert(assignment.key.clone(), next) {
                        order.remove(&replaced);
                    }
                    order.insert(next, assignment);
                }
            }
        }
        SysctlD { assignments: order.into_values().collect(), failures }
    }

    /// The assignment that decides what `key` (a path below `/proc/sys`) is set to: its own, else that of the last
    /// pattern that matches it.
    pub fn lookup(&self, key: &str) -> Option<&Assignment> {
        if let Some(own) = self.explicit(key) {
            return own.value.is_some().then_some(own);
        }
        let mut patterns = self.assignments.iter().rev().filter(|assignment| glob::is_pattern(&assignment.key));
        patterns.find(|assignment| assignment.value.is_some() && glob::matches(&assignment.key, key))
    }

    /// The line that names `key` itself, be it to set it or to keep patterns off it.
    pub fn explicit(&self, key: &str) -> Option<&Assignment> {
        self.assignments.iter().find(|assignment| assignment.key == key)
    }
}

enum Line {
    Empty,
    Not(String),
    Assignment(Assignment),
}

fn parse_line(line: &[u8], source: String) -> Line {
    let line = line.trim_ascii();
    if matches!(line.first(), None | Some(b'#' | b';')) {
        return Line::Empty;
    }
    let (dash, rest) = line.strip_prefix(b"-").map_or((false, line), |rest| (true, rest));
    let equals = rest.iter().position(|&byte| byte == b'=');
    let (key, value) = match equals.and_then(|at| Some((rest.get(..at)?, rest.get(at.checked_add(1)?..)?))) {
        Some((key, value)) => (key, Some(value.trim_ascii().to_vec())),
        None if dash => (rest, None),
        None => return Line::Not(source),
    };
    match std::str::from_utf8(key).ok().and_then(normalize) {
        Some(key) => Line::Assignment(Assignment { key, ignore_failure: dash && value.is_some(), value, source }),
        None => Line::Not(source),
    }
}

/// A key as a path below `/proc/sys`: `net.ipv4.conf.eth0/1.mtu` is `net/ipv4/conf/eth0.1/mtu`. If its first separator
/// is a slash it is one already. `None` if it would lead elsewhere (`..`) or nowhere.
pub fn normalize(key: &str) -> Option<String> {
    let swapped: String = match key.trim_ascii().chars().find(|c| matches!(c, '.' | '/')) {
        Some('.') => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            };
            key.trim_ascii().chars().map(swap).collect()
        }
        _ => key.trim_ascii().to_owned(),
    };
    let parts: Vec<&str> = swapped.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// A path below `/proc/sys` as sysctl(8) prints it.
pub fn dotted(key: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        c => c,
    };
    key.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn effective(files: &[(&str, &str)]) -> Vec<(String, Option<String>, String, bool)> {
        let parsed = SysctlD::parse(files.iter().map(|(path, text)| (*path, text.as_bytes())));
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        parsed.assignments.into_iter().map(|a| (a.key, a.value.map(text), a.source, a.ignore_failure)).collect()
    }

    #[test]
    fn keys_are_paths() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("/net//ipv4/./ip_forward/", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/1.mtu", Some("net/ipv4/conf/eth0.1/mtu")),
            ("net/ipv4/conf/eth0.1/mtu", Some("net/ipv4/conf/eth0.1/mtu")),
            ("net.*.x", Some("net/*/x")),
            ("single", Some("single")),
            ("", None),
            ("///", None),
            ("net/../../etc/passwd", None),
            ("...", None),
        ] {
            assert_eq!(normalize(key).as_deref(), path, "{key}");
        }
        assert_eq!(dotted("net/ipv4/conf/eth0.1/mtu"), "net.ipv4.conf.eth0/1.mtu");
    }

    #[test]
    fn lines_are_read_as_systemd_reads_them() {
        let own = |key: &str, value: &str, line: usize, dash| {
            (key.to_owned(), Some(value.to_owned()), format!("f:{line}"), dash)
        };
        let text = "# comment\n ; comment\n\n a.b =  1 2 \n-c.d=3\n - e.f = 4\nno assignment\n-g.*\nh.i=a=b\r\nj=\0k=\r\n-/../x=1\n";
        let expected = [
            own("a/b", "1 2", 4, false),
            own("c/d", "3", 5, true),
            own("e/f", "4", 6, true),
            ("g/*".to_owned(), None, "f:8".to_owned(), false),
            own("h/i", "a=b", 9, false),
            own("j", "", 10, false),
            own("k", "", 10, false),
        ];
        assert_eq!(effective(&[("f", text)]), expected);
        let failures = SysctlD::parse([("f", text.as_bytes())]).failures;
        assert_eq!(failures, ["f:7: is no assignment: write KEY = VALUE", "f:11: is no assignment: write KEY = VALUE"]);
    }

    #[test]
    fn the_later_line_wins_and_goes_last() {
        let files = [("1", "a.x = 1\nb.x = 1\nc.x = 1"), ("2", "a/x = 2\n-b.x = 1\n-c.x\n")];
        let got = effective(&files);
        let keys: Vec<_> =
            got.iter().map(|(key, value, source, _)| (key.as_str(), value.as_deref(), source.as_str())).collect();
        assert_eq!(keys, [("b/x", Some("1"), "1:2"), ("a/x", Some("2"), "2:1"), ("c/x", None, "2:3")]);
        assert!(got[0].3, "one of two equal lines has the dash");
    }

    #[test]
    fn one_key_is_looked_up() {
        let text = "net.netfilter.* = 1\nnet.netfilter.x = 2\nnet.*.z* = 3\n-net.netfilter.y\nnet.n{e,o}*.z = 4";
        let read = SysctlD::parse([("f", text.as_bytes())]);
        let value = |key| read.lookup(key).and_then(|found| found.value.clone());
        for (key, expected) in [
            ("net/netfilter/x", Some("2")),
            ("net/netfilter/y", None),
            ("net/netfilter/w", Some("1")),
            ("net/netfilter/z", Some("4")),
            ("net/bridge/z", Some("3")),
            ("net/netfilter", None),
        ] {
            assert_eq!(value(key), expected.map(|text| text.as_bytes().to_vec()), "{key}");
        }
    }

    #[test]
    fn directories_hide_one_another() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("usr/lib/sysctl.d/10-a.conf", "a.vendor = 1\n");
        put("usr/local/lib/sysctl.d/10-a.conf", "a.local = 1\n");
        put("run/sysctl.d/10-a.conf", "a.run = 1\n");
        put("etc/sysctl.d/10-a.conf", "a.etc = 1\n");
        put("usr/lib/sysctl.d/20-masked.conf", "b.vendor = 1\n");
        put("usr/lib/sysctl.d/30-empty.conf", "c.vendor = 1\n");
        put("run/sysctl.d/30-empty.conf", "");
        put("usr/lib/sysctl.d/05-first.conf", "d.vendor = 1\na.etc = 0\n");
        put("usr/lib/sysctl.d/README", "e.vendor = 1\n");
        put("usr/lib/sysctl.d/40-directory.conf", "f.vendor = 1\n");
        put("etc/sysctl.conf", "g.linked = 1\n");
        fs::create_dir(root.path().join("etc/sysctl.d/40-directory.conf")).unwrap();
        symlink("/dev/null", root.path().join("etc/sysctl.d/20-masked.conf")).unwrap();
        symlink("../sysctl.conf", root.path().join("etc/sysctl.d/99-sysctl.conf")).unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        let read = SysctlD::read(&Host::at(root.path()).unwrap());
        let keys: Vec<_> = read.assignments.iter().map(|a| (a.key.as_str(), a.source.as_str())).collect();
        assert_eq!(
            keys,
            [
                ("d/vendor", "/usr/lib/sysctl.d/05-first.conf:1"),
                ("a/etc", "/etc/sysctl.d/10-a.conf:1"),
                ("f/vendor", "/usr/lib/sysctl.d/40-directory.conf:1"),
                ("g/linked", "/etc/sysctl.d/99-sysctl.conf:1"),
            ]
        );
        assert_eq!(read.failures, [""; 0]);
    }

    #[test]
    fn nothing_panics_on_garbage() {
        let garbage: [&[u8]; 6] = [b"\xff=1", b"=", b"-", b"-=", b"==\0-\0=\r=", b"a.\xc3=\xff"];
        for bytes in garbage {
            assert_eq!(SysctlD::parse([("f", bytes)]).assignments, [], "{bytes:?}");
        }
    }
}

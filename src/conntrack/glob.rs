//! Shell patterns over `/proc/sys`, as glob(3) with `GLOB_BRACE` understands them.
#![allow(unsafe_code)]

use std::ffi::CString;

use crate::host::Host;

/// Where every sysctl is a file.
pub const PROC_SYS: &str = "/proc/sys";
/// Most alternatives that one pattern's braces are multiplied into.
const MOST_ALTERNATIVES: usize = 64;

/// Whether a key is a pattern. Braces alone make none (`string_is_glob`, systemd's glob-util.c).
pub fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// Whether `key` is one that `pattern` stands for; both with slashes.
pub fn matches(pattern: &str, key: &str) -> bool {
    alternatives(pattern).iter().any(|pattern| {
        let (mut patterns, mut names) = (pattern.split('/'), key.split('/'));
        loop {
            match (patterns.next(), names.next()) {
                (None, None) => return true,
                (Some(pattern), Some(name)) if name_matches(pattern, name) => {}
                _ => return false,
            }
        }
    })
}

/// The sysctls that `pattern` stands for now, at most `most`: what there is on a host with very many interfaces is
/// not worth the time of somebody who waits for a module. No order.
pub fn expand(host: &Host, pattern: &str, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    for pattern in alternatives(pattern) {
        let mut keys = vec![String::new()];
        for part in pattern.split('/') {
            keys = if is_pattern(part) {
                keys.iter().flat_map(|directory| children(host, directory, part)).take(most).collect()
            } else {
                keys.into_iter().map(|directory| join(&directory, part)).collect()
            };
        }
        found.extend(keys.into_iter().filter(|key| exists(host, key)));
    }
    found.sort();
    found.dedup();
    found.truncate(most);
    found
}

/// Whether the sysctl is there, readable or not.
pub fn exists(host: &Host, key: &str) -> bool {
    !is_of_another_file_system(key) && host.exists(format!("{PROC_SYS}/{key}"))
}

/// Below this directory another file system is mounted, by an automount of systemd's: who enters waits for PID 1, which
/// may be waiting for us.
fn is_of_another_file_system(key: &str) -> bool {
    key == "fs/binfmt_misc" || key.starts_with("fs/binfmt_misc/")
}

fn children(host: &Host, directory: &str, pattern: &str) -> Vec<String> {
    if is_of_another_file_system(directory) {
        return Vec::new();
    }
    let names = host.list(format!("{PROC_SYS}/{directory}")).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.to_str()).filter(|name| name_matches(pattern, name));
    names.map(|name| join(directory, name)).collect()
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// Whether the name of one directory entry fits a pattern without braces.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (Ok(pattern), Ok(name)) = (CString::new(pattern), CString::new(name)) else { return false };
    // SAFETY: both are strings that end in NUL and live until fnmatch, which keeps neither, returns.
    unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), libc::FNM_PERIOD) == 0 }
}

/// A pattern's alternatives, braces resolved, nested ones too: `{a,b{c,d}}` is `a`, `bc`, `bd`.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut pending = vec![pattern.to_owned()];
    while let Some(pattern) = pending.pop() {
        match outermost_braces(&pattern) {
            Some((before, choices, after)) if done.len() + pending.len() + choices.len() <= MOST_ALTERNATIVES => {
                pending.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
            _ => done.push(pattern),
        }
    }
    done
}

/// What stands before, in and after the first pair of braces, what is in it parted at its own commas; `None` if there
/// is no such pair. `{}` is no pair (glob(3)).
fn outermost_braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let mut open = pattern.find('{')?;
    if pattern.get(open..)?.starts_with("{}") {
        open = open.checked_add(2)?.checked_add(pattern.get(open.checked_add(2)?..)?.find('{')?)?;
    }
    let inside = open.checked_add(1)?;
    let (mut depth, mut start, mut choices) = (0usize, inside, Vec::new());
    for (at, c) in pattern.char_indices().skip_while(|(at, _)| *at < inside) {
        match c {
            '{' => depth = depth.saturating_add(1),
            ',' if depth == 0 => {
                choices.push(pattern.get(start..at)?);
                start = at.checked_add(1)?;
            }
            '}' if depth == 0 => {
                choices.push(pattern.get(start..at)?);
                return Some((pattern.get(..open)?, choices, pattern.get(at.checked_add(1)?..)?));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn braces_are_alternatives() {
        for (pattern, expected) in [
            ("a", &["a"][..]),
            ("{a,b}c", &["ac", "bc"]),
            ("x{a,b{c,d}}y{1,2}", &["xay1", "xay2", "xbcy1", "xbcy2", "xbdy1", "xbdy2"]),
            ("{a}", &["a"]),
            ("{,a}*", &["*", "a*"]),
            ("{}*", &["{}*"]),
            ("{}{a,b}", &["{}a", "{}b"]),
            ("{a,b", &["{a,b"]),
            ("a}b", &["a}b"]),
            ("ü{ä,ö}", &["üä", "üö"]),
        ] {
            assert_eq!(alternatives(pattern), expected, "{pattern}");
        }
        assert!(alternatives(&"{a,b}".repeat(40)).len() <= MOST_ALTERNATIVES);
    }

    #[test]
    fn a_pattern_matches_name_by_name() {
        for (pattern, key, expected) in [
            ("net/*/x", "net/a/x", true),
            ("net/*", "net/a/x", false),
            ("net/*/x", "net/a", false),
            ("net/netfilter/nf_conntrack_*", "net/netfilter/nf_conntrack_max", true),
            ("net/netfilter/nf_conntrack_{max,buckets}*", "net/netfilter/nf_conntrack_max", true),
            ("net/[!a-m]etfilter/*", "net/netfilter/x", true),
            ("net/n?tfilter/*", "net/netfilter/x", true),
            ("*", ".hidden", false),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn a_pattern_is_expanded_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        for key in ["net/a/one", "net/a/two", "net/b/one", "net/c/three"] {
            let path = root.path().join("proc/sys").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "0\n").unwrap();
        }
        let host = Host::at(root.path()).unwrap();
        assert_eq!(expand(&host, "net/*/one", 10), ["net/a/one", "net/b/one"]);
        assert_eq!(expand(&host, "net/{a,c}/t*", 10), ["net/a/two", "net/c/three"]);
        assert_eq!(expand(&host, "net/*/*", 2).len(), 2);
        assert_eq!(expand(&host, "no/*/one", 10), [""; 0]);
        assert!(exists(&host, "net/a/one") && !exists(&host, "net/a/four"));
    }

    #[test]
    fn nobody_enters_an_automount() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        for key in ["fs/binfmt_misc/status", "fs/binfmt_miscellany/status", "fs/file-max"] {
            let path = root.path().join("proc/sys").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert!(!exists(&host, "fs/binfmt_misc/status") && exists(&host, "fs/file-max"));
        assert_eq!(expand(&host, "fs/*/status", 9), ["fs/binfmt_miscellany/status"]);
        assert!(expand(&host, "fs/binfmt_misc/*", 9).is_empty() && expand(&host, "fs/binfmt_misc", 9).is_empty());
    }
}

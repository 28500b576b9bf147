//! sysctl.d: every key stays below /proc/sys, and what was read says the same when it is written down again.
//!
//! Input: a key, ended by NUL; the files, each ended by a form feed.

use std::collections::BTreeSet;

use modprobe_guard::conntrack::sysctl_d::{SysctlD, dotted, normalize};

pub fn check(mut data: &[u8]) {
    let key = super::until_nul(&mut data);
    if let Some(path) = std::str::from_utf8(key).ok().and_then(normalize) {
        assert!(stays_below(&path), "{path}");
        assert!(path.trim_ascii() != path || normalize(&format!("/{path}")).as_ref() == Some(&path), "{path}");
        assert_eq!(dotted(&dotted(&path)), path);
    }
    let files: Vec<(String, &[u8])> = (0..)
        .zip(data.split(|&byte| byte == 0x0c))
        .map(|(at, bytes): (usize, _)| (format!("/etc/sysctl.d/{at}.conf"), bytes))
        .collect();
    let read = SysctlD::parse(files.iter().map(|(path, bytes)| (path.as_str(), *bytes)));
    let keys: BTreeSet<&str> = read.assignments.iter().map(|assignment| assignment.key.as_str()).collect();
    assert_eq!(keys.len(), read.assignments.len(), "each key once");
    let mut written = String::new();
    for assignment in &read.assignments {
        assert!(stays_below(&assignment.key), "{}", assignment.key);
        let (path, line) = assignment.source.rsplit_once(':').unwrap();
        let (_, bytes) = files.iter().find(|(file, _)| file == path).unwrap();
        assert!(line.parse::<usize>().unwrap() <= bytes.split(|&byte| byte == b'\n').count());
        let own = read.lookup(&assignment.key).map(|found| &found.value);
        assert_eq!(own, assignment.value.is_some().then_some(&assignment.value), "{}", assignment.key);
        let dash = if assignment.ignore_failure || assignment.value.is_none() { "-" } else { "" };
        let Some(value) = assignment.value.as_ref().map(|value| std::str::from_utf8(value)) else {
            written += &format!("-/{}\n", assignment.key);
            continue;
        };
        // What is no text cannot stand in a text; nothing else is left out.
        written += &format!("{dash}/{} = {}\n", assignment.key, value.unwrap_or_default());
    }
    assert!(read.failures.iter().all(|failure| failure.starts_with("/etc/sysctl.d/")));
    // A key may end in a blank: `a .`.
    if read.assignments.iter().all(|one| one.key.trim_ascii() == one.key) {
        let again = SysctlD::parse([("again", written.as_bytes())]);
        let say = |read: &SysctlD| -> Vec<_> {
            let text = |value: &Option<Vec<u8>>| {
                value.as_ref().map(|value| std::str::from_utf8(value).unwrap_or_default().to_owned())
            };
            read.assignments.iter().map(|one| (one.key.clone(), text(&one.value), one.ignore_failure)).collect()
        };
        assert_eq!((say(&again), again.failures.len()), (say(&read), 0), "{written}");
    }
    let asked = std::str::from_utf8(key).unwrap_or_default();
    let _ = read.lookup(asked.get(..64).unwrap_or(asked));
}

fn stays_below(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

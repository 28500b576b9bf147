//! Policy files: a policy, or findings that lead somewhere; and what is put in force is what was read.
//!
//! Input: the files, each ended by NUL.

use modprobe_guard::policy::applied::{self, Applied};
use modprobe_guard::policy::{Finding, Source, canonical_key, expectations, parse, path_of_key};

pub fn check(mut data: &[u8]) {
    let mut sources = Vec::new();
    while !data.is_empty() && sources.len() < 4 {
        let bytes = super::until_nul(&mut data).to_vec();
        sources.push(Source::new(&format!("/etc/modprobe-guard/policy.d/{}.toml", sources.len()), bytes));
    }
    let read = parse(&sources);
    assert_eq!(read, parse(&sources));
    match &read {
        Err(findings) => check_findings(findings, &sources),
        Ok(policy) => {
            for (at, rule) in policy.rules.iter().enumerate() {
                assert!(policy.rules[..at].iter().all(|other| other.id != rule.id), "{}", rule.id);
                assert!(rule.modules.is_some() || rule.requests.is_some(), "{}", rule.id);
                assert!(leads_somewhere(&rule.source, &sources), "{}", rule.source);
            }
            for sysctl in &policy.sysctl {
                assert_eq!(canonical_key(&sysctl.key).as_deref(), Ok(sysctl.key.as_str()));
                let path = path_of_key(&sysctl.key);
                assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
            }
            assert!(policy.defaults.delegate.starts_with('/') && (1..=100).contains(&policy.conntrack.memory_percent));
            super::applied::judge(policy);
            let applied = Applied::new(policy.clone(), &sources);
            let file = applied::encode(&applied).unwrap();
            super::applied::decoded(&file, |read| assert_eq!(read.as_ref(), Ok(&applied)));
            let sum = sources.iter().flat_map(|source| &source.bytes).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            super::applied::damage(&file, sum, sum.wrapping_mul(7), sum.wrapping_mul(31));
            // A file that says nothing says nothing.
            let silent = Source::new("/etc/modprobe-guard/policy.d/silent.toml", "version = 1\n".into());
            assert_eq!(parse(&[&[silent], sources.as_slice()].concat()).as_ref(), Ok(policy));
        }
    }
    if let [tests, ..] = sources.as_slice() {
        match expectations(tests) {
            Ok(read) => assert!(
                read.tests.iter().all(|test| leads_somewhere(&test.source, &sources) && !test.requests.is_empty())
            ),
            Err(findings) => check_findings(&findings, &sources),
        }
    }
}

fn check_findings(findings: &[Finding], sources: &[Source]) {
    assert!(!findings.is_empty());
    for finding in findings {
        let text = finding.to_string();
        assert!(super::is_printable(&text), "{text:?}");
        assert!(!finding.remedy.is_empty() && !finding.message.is_empty(), "{text}");
        let source = sources.iter().find(|source| source.path == finding.path).unwrap();
        if let Some(position) = finding.position {
            assert!(position.column >= 1 && (1..=lines(source)).contains(&position.line), "{text}");
        }
    }
}

/// Whether `FILE:LINE` is a line that there is.
fn leads_somewhere(place: &str, sources: &[Source]) -> bool {
    let (path, line) = place.rsplit_once(':').unwrap();
    let source = sources.iter().find(|source| source.path == path);
    source.is_some_and(|source| (1..=lines(source)).contains(&line.parse().unwrap()))
}

fn lines(source: &Source) -> usize {
    source.bytes.iter().filter(|&&byte| byte == b'\n').count() + 1
}

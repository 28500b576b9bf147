//! The sysctls that an administrator wants set, and which of them are there.

use std::collections::HashSet;

use super::glob;
use super::sysctl_d::{SysctlD, normalize};
use super::wanted::Wanted;
use crate::host::Host;

/// Most sysctls that one pattern is taken to stand for.
const MOST_MATCHES: usize = 4096;

/// A sysctl and what it is to be.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) key: String,
    pub(super) value: &'a [u8],
    pub(super) source: &'a str,
    pub(super) ignore_failure: bool,
}

/// What the administrator wants set, patterns as they are, in the order of setting: sysctl.d, then the policy. A key of
/// the policy's is not taken from sysctl.d too.
pub(super) fn lines<'a>(wanted: &'a Wanted, sysctl_d: &'a SysctlD) -> impl Iterator<Item = Line<'a>> {
    let policy: Vec<Line<'a>> = wanted
        .sysctl
        .iter()
        .filter_map(|(key, value, source)| {
            Some(Line { key: normalize(key)?, value: value.as_bytes(), source, ignore_failure: false })
        })
        .collect();
    let own: HashSet<String> = policy.iter().map(|line| line.key.clone()).collect();
    let sysctl_d = sysctl_d.assignments.iter().filter_map(|line| {
        let (key, ignore_failure) = (line.key.clone(), line.ignore_failure);
        Some(Line { key, value: line.value.as_deref()?, source: &line.source, ignore_failure })
    });
    sysctl_d.filter(move |line| !own.contains(&line.key)).chain(policy)
}

/// The sysctls of [`lines`] that are there now, patterns resolved. A pattern sets no key that has a line of its own,
/// and of two patterns the later one sets it.
pub(super) fn resolve<'a>(host: &Host, wanted: &'a Wanted, sysctl_d: &'a SysctlD) -> Vec<Line<'a>> {
    let own: HashSet<String> = wanted.sysctl.iter().filter_map(|(key, ..)| normalize(key)).collect();
    let named: HashSet<&str> =
        sysctl_d.assignments.iter().map(|line| line.key.as_str()).chain(own.iter().map(String::as_str)).collect();
    let mut resolved: Vec<Line<'a>> = Vec::new();
    for line in lines(wanted, sysctl_d) {
        if !glob::is_pattern(&line.key) {
            if glob::exists(host, &line.key) {
                resolved.push(line);
            }
            continue;
        }
        let mut matches: HashSet<String> = glob::expand(host, &line.key, MOST_MATCHES).into_iter().collect();
        matches.retain(|key| !named.contains(key.as_str()));
        resolved.retain(|earlier| !matches.contains(&earlier.key));
        let Line { value, source, ignore_failure, .. } = line;
        resolved.extend(matches.into_iter().map(|key| Line { key, value, source, ignore_failure }));
    }
    resolved
}

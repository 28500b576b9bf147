//! `guard check`: is this policy sound?

use std::path::Path;

use super::{Common, exit};
use crate::host::Host;
use crate::policy::{self, Finding, Source};

/// Validates `file`, or the sources installed on `host`; prints findings, touches nothing.
pub fn run(host: &Host, common: &Common, file: Option<&Path>) -> u8 {
    let sources = match file.or(common.policy.as_deref()) {
        Some(file) => match Host::policy_file(file) {
            Ok(source) => Ok(vec![source]),
            Err(error) => {
                complain!("guard: {error}");
                // Too long a file can be read, and something is wrong with it.
                let is_finding = error.kind() == std::io::ErrorKind::FileTooLarge;
                return if is_finding { exit::BAD } else { exit::CANNOT_TELL };
            }
        },
        None => host.policy_sources(),
    };
    let findings = sources.and_then(|sources| policy::parse(&sources).map(|policy| (policy, sources)));
    match findings {
        Ok((policy, sources)) => {
            if !common.json {
                say!("sound: {} rules in {}", policy.rules.len(), names(&sources));
            }
            exit::GOOD
        }
        Err(findings) => {
            print(common, &findings);
            exit::BAD
        }
    }
}

/// Findings one a line: JSON on standard output, for people on standard error.
pub fn print(common: &Common, findings: &[Finding]) {
    for finding in findings {
        match serde_json::to_string(finding) {
            Ok(json) if common.json => say!("{json}"),
            _ => complain!("{finding}"),
        }
    }
}

/// The sources' paths, for messages.
pub fn names(sources: &[Source]) -> String {
    sources.iter().map(|source| source.path.as_str()).collect::<Vec<_>>().join(", ")
}

//! `guard check`: is this policy sound, and does it say what is meant?

mod executables;
pub mod facts;
mod losses;
mod past;
mod surroundings;

use std::path::Path;

use serde::Serialize;

use super::{Common, exit};
use crate::host::Host;
use crate::policy::lint::{self, Level, Lint};
use crate::policy::{self, Finding, Source};
use crate::text;

/// A finding, or a lint, as JSON.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(flatten)]
    finding: &'a T,
    /// Of what makes a policy unsound; a lint says its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    /// The kernel whose modules were looked at, for lints.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
}

/// Validates `file`, or the sources installed on `host`; prints findings, touches nothing.
pub fn run(host: &Host, common: &Common, file: Option<&Path>) -> u8 {
    let sources = match file {
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
    let sound = sources.and_then(|sources| policy::parse(&sources).map(|policy| (policy, sources)));
    let (policy, sources) = match sound {
        Ok(sound) => sound,
        Err(findings) => {
            print(common, &findings);
            return exit::BAD;
        }
    };
    let (facts, looked_at) = facts::of(host, common.kernel.as_deref(), &policy);
    let lints = lint::lints(&policy, &sources, &facts);
    let kernel = facts.modules.as_ref().map(|modules| modules.kernel.as_str());
    lints.iter().for_each(|lint| print_lint(common, lint, kernel));
    if !common.json {
        let rules = text::counted(policy.rules.len(), "rule");
        say!("sound: {rules} in {}; {looked_at}{}", names(&sources), counted(&lints));
    }
    let is_any = lints.iter().any(|lint| lint.level == Level::Warning);
    if is_any { exit::BAD } else { exit::GOOD }
}

/// Findings one a line: JSON on standard output, for people on standard error.
pub fn print(common: &Common, findings: &[Finding]) {
    for finding in findings {
        match serde_json::to_string(&Line { finding, level: Some("error"), kernel: None }) {
            Ok(json) if common.json => say!("{json}"),
            _ => complain!("{finding}"),
        }
    }
}

fn print_lint(common: &Common, lint: &Lint, kernel: Option<&str>) {
    let word = match lint.level {
        Level::Warning => "warning",
        Level::Note => "note",
    };
    match serde_json::to_string(&Line { finding: lint, level: None, kernel }) {
        Ok(json) if common.json => say!("{json}"),
        _ => {
            let message = format!("{word}: {}", lint.finding.message);
            complain!("{}", Finding { message, ..lint.finding.clone() });
        }
    }
}

/// `; 1 warning, 2 notes`, as far as there are any.
fn counted(lints: &[Lint]) -> String {
    let count = |level, word| {
        let count = lints.iter().filter(|lint| lint.level == level).count();
        (count > 0).then(|| text::counted(count, word))
    };
    let counts: Vec<String> =
        [count(Level::Warning, "warning"), count(Level::Note, "note")].into_iter().flatten().collect();
    if counts.is_empty() { String::new() } else { format!("; {}", counts.join(", ")) }
}

/// The sources' paths, for messages.
pub fn names(sources: &[Source]) -> String {
    sources.iter().map(|source| source.path.as_str()).collect::<Vec<_>>().join(", ")
}

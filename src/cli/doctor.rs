//! `guard doctor`: what was found about a module, on one screen or as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::assumed::Assumed;
use super::{Common, exit};
use crate::doctor::{Case, Finding, Report, Result, examine};
use crate::host::Host;

/// Letters of a check's detail that fit on a line beside its name.
const DETAIL: usize = 96;

/// Examines `module` and prints what was found.
pub fn run(host: &Host, common: &Common, module: &OsStr) -> u8 {
    let requester = match Assumed::of(&[]) {
        Ok(assumed) => assumed.requester,
        Err(error) => return cannot_tell(&error),
    };
    let case = match Case::new(host, common.kernel.as_deref(), module.as_bytes(), requester) {
        Ok(case) => case,
        Err(error) => return cannot_tell(&error),
    };
    let report = examine(&case);
    if common.json {
        match serde_json::to_string(&report) {
            Ok(line) => say!("{line}"),
            Err(error) => return cannot_tell(&error.to_string()),
        }
    } else {
        print(&report, &case.kernel);
    }
    match (report.findings.is_empty(), report.checks.iter().all(|check| check.result == Result::CouldNotLook)) {
        (false, _) => exit::BAD,
        (true, true) => exit::CANNOT_TELL,
        (true, false) => exit::GOOD,
    }
}

fn cannot_tell(error: &str) -> u8 {
    complain!("guard: {error}");
    exit::CANNOT_TELL
}

fn print(report: &Report, kernel: &str) {
    let state = if report.loaded { "in the kernel" } else { "not loaded" };
    say!("{}: {state} (kernel {kernel})", report.module);
    for check in &report.checks {
        let mark = match check.result {
            Result::Ok => "ok",
            Result::Finding => "FINDING",
            Result::CouldNotLook => "?",
        };
        say!("  {mark:<8} {:<19} {}", check.check, shortened(&check.detail));
    }
    for (number, finding) in report.findings.iter().enumerate() {
        say!("");
        say!("{}. {}", number + 1, headline(finding));
        finding.evidence.iter().for_each(|line| say!("   seen  {line}"));
        for (at, command) in finding.fix.iter().enumerate() {
            say!("   {}   {command}", if at == 0 { "fix" } else { "   " });
        }
    }
    if report.findings.is_empty() {
        say!("nothing is wrong with it");
    }
}

fn headline(finding: &Finding) -> String {
    let cause = serde_json::to_string(&finding.cause).unwrap_or_default();
    format!("{} ({})", finding.summary, cause.trim_matches('"'))
}

fn shortened(detail: &str) -> String {
    match detail.char_indices().nth(DETAIL) {
        Some((at, _)) => format!("{}…", detail.get(..at).unwrap_or_default()),
        None => detail.to_owned(),
    }
}

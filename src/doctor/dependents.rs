//! The way up: with connection tracking there, whether what builds on it can follow.

use super::commands::load_module;
use super::obstacle::obstacle;
use super::{Case, Cause, Finding, Seen, version};

/// What rules use to get at connection tracking.
const ABOVE: [&str; 4] = ["xt_conntrack", "xt_state", "nft_ct", "nf_nat"];

pub fn look(case: &Case) -> Seen {
    if !case.host.is_directory(case.directory()) {
        // Whatever is not loaded yet can't come any more; whether it is needed, nobody knows.
        return match version::look(case) {
            Seen::Wrong(findings) if findings.iter().all(|finding| finding.cause == Cause::VersionMismatch) => {
                Seen::Wrong(findings.into_iter().map(Finding::minor).collect())
            }
            _ => Seen::Nothing(format!("{}: not there", case.shown(&case.directory()))),
        };
    }
    if let Some(why) = case.no_files() {
        return Seen::Nothing(why);
    }
    let mut findings = Vec::new();
    let mut said = Vec::new();
    for name in ABOVE {
        match () {
            () if case.is_in_kernel(name.as_bytes()) => said.push(format!("{name} is there")),
            () => match cannot_follow(case, name) {
                Some(finding) => findings.push(finding),
                None if case.path_of(name.as_bytes()).is_some() => said.push(format!("{name} can follow")),
                None => {}
            },
        }
    }
    Seen::of(findings, if said.is_empty() { "nothing builds on it here".to_owned() } else { said.join(", ") })
}

/// What keeps `name` from being loaded; `None` if nothing does, or if this kernel never had it.
fn cannot_follow(case: &Case, name: &str) -> Option<Finding> {
    let module = name.as_bytes();
    case.path_of(module).or_else(|| case.indexed_path(module))?;
    let summary = format!("nf_conntrack is there, but {name} can't follow");
    let found = obstacle(case, module, Cause::DependentMissing, &summary, |_| true)?;
    Some(found.fix(load_module(module)))
}

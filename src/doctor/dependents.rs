//! The way up: with connection tracking there, whether what builds on it can follow.

use super::case::Unpacked;
use super::distribution::{quoted, quoted_name};
use super::{Case, Cause, Finding, Seen, blocked, version};

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
            () => match obstacle(case, name) {
                Some(finding) => findings.push(finding),
                None if case.path_of(name.as_bytes()).is_some() => said.push(format!("{name} can follow")),
                None => {}
            },
        }
    }
    Seen::of(findings, if said.is_empty() { "nothing builds on it here".to_owned() } else { said.join(", ") })
}

/// What keeps `name` from being loaded; `None` if nothing does, or if this kernel never had it.
fn obstacle(case: &Case, name: &str) -> Option<Finding> {
    let module = name.as_bytes();
    let finding =
        |what: &str| Finding::new(Cause::DependentMissing, format!("nf_conntrack is there, but {name} {what}"));
    let load = format!("modprobe {}", quoted_name(module));
    let depmod = format!("depmod {}", quoted(&case.kernel));
    match &*case.object(module) {
        Unpacked::Absent => {
            let indexed = case.indexed_path(module)?;
            return Some(
                finding("can't be loaded: its file is missing")
                    .evidence(format!("{}: not there, and the index names it", case.shown(&indexed)))
                    .fixes(case.distribution.bring(case.host, &case.kernel, Some(&indexed), true))
                    .fix(depmod)
                    .fix(load),
            );
        }
        Unpacked::There(path, Err(error)) => {
            return Some(
                finding("can't be loaded: its file is damaged")
                    .evidence(format!("{}: {error}", case.shown(path)))
                    .fixes(case.distribution.bring(case.host, &case.kernel, Some(path), true))
                    .fix(depmod)
                    .fix(load),
            );
        }
        Unpacked::There(path, Ok(object)) => {
            if let Some((reason, by)) = version::built_for_another(case, path, object) {
                return Some(
                    finding("can't be loaded: its file was built for another kernel")
                        .evidence(format!("{}: {reason}", case.shown(path)))
                        .evidence(by)
                        .fixes(case.distribution.bring(case.host, &case.kernel, Some(path), true))
                        .fix(load),
                );
            }
        }
    }
    let mut found = finding("is kept out");
    for block in blocked::of(case, module).into_iter().filter(|block| block.decisive) {
        found.evidence.extend(block.evidence);
        found.fix.extend(block.fix);
    }
    (!found.evidence.is_empty()).then(|| found.fix(load))
}

//! What keeps a module from being loaded for another one's sake: its file, or a line of modprobe.d.

use super::case::Unpacked;
use super::{Case, Cause, Finding, blocked, file, version};

/// All that keeps `module` out, as one finding of `cause` that begins with `summary`; only what `counts` of the lines of
/// modprobe.d. `None` if nothing does. Without the command that loads it.
pub fn obstacle(
    case: &Case,
    module: &[u8],
    cause: Cause,
    summary: &str,
    counts: fn(&Finding) -> bool,
) -> Option<Finding> {
    let of_file = match &*case.object(module) {
        Unpacked::Absent => Some(file::missing(case, module)),
        Unpacked::There(path, Err(error)) => Some(file::damaged(case, module, path, error)),
        Unpacked::There(path, Ok(object)) => version::built_for_another(case, path, object)
            .map(|(reason, by)| version::wrong_file(case, module, path, &reason, by)),
    };
    let lines = blocked::of(case, module).into_iter().filter(|line| line.decisive && counts(line));
    let all = of_file.into_iter().chain(lines);
    let joined = all.reduce(|mut first, other| {
        first.evidence.extend(other.evidence);
        first.fixes(other.fix)
    })?;
    let what = joined.summary.clone();
    Some(Finding { evidence: joined.evidence, fix: joined.fix, ..Finding::new(cause, format!("{summary}: {what}")) })
}

//! The running kernel against what lies in `/lib/modules`, and against what the module's file says it was built for.

use super::case::Unpacked;
use super::support::load;
use super::{Case, Cause, Finding, Seen};
use crate::modules::Object;

/// Modules whose files are looked at to learn what this kernel's modules are built for.
const SAMPLES: usize = 3;

pub fn look(case: &Case) -> Seen {
    let directory = case.shown(&case.directory());
    let releases = match case.host.list("/lib/modules") {
        Ok(releases) => releases,
        // A host without any; of what was collected, nothing can be said.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && case.is_whole() => Vec::new(),
        Err(error) => return Seen::Nothing(format!("{}: list: {error}", case.shown("/lib/modules"))),
    };
    let releases: Vec<String> = releases.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let holds_modules = |release: &String| {
        let directory = format!("/lib/modules/{release}");
        ["modules.dep.bin", "modules.dep", "modules.order", "kernel"]
            .iter()
            .any(|name| case.host.exists(format!("{directory}/{name}")))
    };
    if !releases.contains(&case.kernel) || !holds_modules(&case.kernel) {
        let others: Vec<&String> =
            releases.iter().filter(|release| **release != case.kernel && holds_modules(release)).collect();
        return if others.is_empty() { no_modules(case) } else { other_kernels(case, &others) }.into();
    }
    match &*case.object(&case.module) {
        Unpacked::There(path, Ok(object)) => match built_for_another(case, path, object) {
            Some((reason, by)) => wrong_file(case, path, &reason, by).into(),
            None => Seen::Well(format!("{} runs, {directory} and the file are for it", case.kernel)),
        },
        _ => Seen::Well(format!("{} runs, {directory} is there", case.kernel)),
    }
}

/// There is nothing for this kernel, nor for any other.
fn no_modules(case: &Case) -> Finding {
    let directory = case.shown(&case.directory());
    Finding::new(Cause::FileMissing, format!("there are no modules of kernel {} on this host", case.kernel))
        .evidence(format!("{directory}: holds no modules, nor does any other directory beside it"))
        .fixes(case.distribution.bring_kernel(case.host, &case.kernel))
        .fix(load(case))
}

/// There are modules, of other kernels.
fn other_kernels(case: &Case, others: &[&String]) -> Finding {
    let host = case.host;
    let list = others.iter().map(|release| release.as_str()).collect::<Vec<_>>().join(", ");
    let can_boot = |release: &str| {
        let names = ["vmlinuz", "vmlinux", "Image"].map(|name| format!("/boot/{name}-{release}"));
        names.iter().any(|path| host.exists(path)) || host.exists(format!("/lib/modules/{release}/vmlinuz"))
    };
    let newer = others.iter().filter(|release| compare(release, &case.kernel).is_gt());
    let newest = newer.max_by(|a, b| compare(a, b)).map(|release| release.as_str());
    let mut finding = Finding::new(
        Cause::VersionMismatch,
        format!("kernel {} runs, and the modules on disk are those of {list}", case.kernel),
    )
    .evidence(format!("{}: {} runs", case.shown("/proc/sys/kernel/osrelease"), case.kernel))
    .evidence(format!("{}: {}", case.shown("/lib/modules"), list));
    // Without any kernel in /boot it says nothing: they are elsewhere, or were not collected.
    let names = host.list("/boot").unwrap_or_default();
    let tells =
        names.iter().any(|name| ["vmlinu", "Image"].iter().any(|kernel| name.to_string_lossy().starts_with(kernel)));
    let boots = |release: &&str| can_boot(release) || !tells;
    match newest.filter(boots) {
        Some(newest) => {
            finding = finding.evidence(format!("{newest} is the newer one: installed since this boot, as it seems"));
            finding.fix("reboot")
        }
        None => finding.fixes(case.distribution.bring_kernel(host, &case.kernel)).fix(load(case)),
    }
}

/// Numbers count as numbers: 6.1.0-9 is older than 6.1.0-10.
fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        for part in text.split(['.', '-', '+', '_', '~']) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            let rest = part.get(digits.len()..).unwrap_or_default().to_owned();
            parts.push((digits.parse().unwrap_or(0), rest));
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

/// What speaks against a module that was built for another kernel, and whose word it is; `None` if nothing does.
pub fn built_for_another(case: &Case, path: &str, object: &Object) -> Option<(String, String)> {
    let vermagic = object.vermagic.as_deref()?;
    let mut words = vermagic.split_ascii_whitespace();
    let release = words.next().unwrap_or_default();
    let flags: Vec<&str> = words.collect();
    let samples = samples(case);
    if let Some((path, sample)) = samples.iter().find(|(_, sample)| sample.machine != object.machine) {
        let reason = format!("was built for {}, others here for {}", object.machine, sample.machine);
        return Some((reason, case.shown(path)));
    }
    let reference = samples.iter().find_map(|(path, sample)| Some((path, sample.vermagic.clone()?)));
    if let Some((path, wanted)) = &reference {
        let wanted_flags: Vec<&str> = wanted.split_ascii_whitespace().skip(1).collect();
        if wanted_flags != flags {
            return Some((format!("was built for \"{vermagic}\""), format!("{}: \"{wanted}\"", case.shown(path))));
        }
    }
    // With symbol versions the kernel passes over the release (`same_magic`, kernel/module/version.c).
    let has_versions = flags.contains(&"modversions");
    // What was built for an earlier kernel of the same interface, and is meant for later ones.
    if has_versions && path.contains("/weak-updates/") {
        return None;
    }
    let is_meant = has_versions
        && reference.as_ref().is_some_and(|(_, wanted)| wanted.split_ascii_whitespace().next() != Some(&case.kernel));
    (release != case.kernel && !is_meant)
        .then(|| (format!("was built for \"{vermagic}\""), format!("kernel {} runs", case.kernel)))
}

/// Files of other modules of this kernel, of live ones first: those were taken.
fn samples(case: &Case) -> Vec<(String, Object)> {
    let live = case.live.iter().flatten().map(|live| live.name.clone());
    let others = case.files().keys().take(SAMPLES).cloned();
    let names = live.chain(others).filter(|name| *name != case.module);
    let mut samples = Vec::new();
    for name in names {
        if let Unpacked::There(path, Ok(object)) = &*case.object(&name) {
            samples.push((path.clone(), object.clone()));
        }
        if samples.len() == SAMPLES {
            break;
        }
    }
    samples
}

/// The module's file is another kernel's.
pub fn wrong_file(case: &Case, path: &str, reason: &str, by: String) -> Finding {
    let fix = if path.contains("/updates/dkms/") || path.contains("/extra/") {
        vec![format!("dkms autoinstall -k {}", super::distribution::quoted(&case.kernel))]
    } else {
        case.distribution.bring(case.host, &case.kernel, Some(path), true)
    };
    Finding::new(Cause::VersionMismatch, format!("the module's file was built for another kernel than {}", case.kernel))
        .evidence(format!("{}: {reason}", case.shown(path)))
        .evidence(by)
        .fixes(fix)
        .fix(load(case))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (a, b) in [
            ("6.1.0-9-amd64", "6.1.0-10-amd64"),
            ("5.10.0", "6.1.0"),
            ("6.1.0-25-amd64", "6.1.0-26-amd64"),
            ("6.9.1", "6.12"),
        ] {
            assert!(compare(a, b).is_lt(), "{a} {b}");
        }
        assert!(compare("6.1.0-1", "6.1.0-1").is_eq());
    }
}

//! The program that the kernel runs to load modules: there, able to run, and allowed to do it.

use std::os::unix::fs::MetadataExt;

use super::capabilities::has_sys_module;
use super::commands::{comment_out, load, quoted};
use super::{Case, Cause, Finding, Seen, libraries};
use crate::host::kernel_config::Setting;
use crate::host::{Divert, HELPER, KERNEL_MODPROBE, LKRG, MODPROBE, REAL};
use crate::modules;
use crate::text::Text;

/// What modprobe is called where distributions put it.
const MODPROBES: [&str; 5] =
    ["/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe", "/usr/local/sbin/modprobe"];
/// Capabilities that helpers of the kernel are started with (`kernel.usermodehelper.*`).
const SETS: [&str; 2] = ["/proc/sys/kernel/usermodehelper/bset", "/proc/sys/kernel/usermodehelper/inheritable"];

pub fn look(case: &Case) -> Seen {
    if !case.runs {
        return Seen::Well(format!("{} does not run", case.kernel));
    }
    let Some(helper) = case.host.line(KERNEL_MODPROBE) else {
        return Seen::Nothing(format!("{}: can't be read", case.shown(KERNEL_MODPROBE)));
    };
    let mut findings: Vec<Finding> =
        [fixed_path(case), wrong(case, &helper), powerless(case), killed(case, &helper), stranded(case), unable(case)]
            .into_iter()
            .flatten()
            .collect();
    if case.is_there() {
        // It is here all the same; others may not come.
        findings = findings.into_iter().map(Finding::minor).collect();
    }
    Seen::of(findings, format!("{}", Text(helper)))
}

/// A kernel that runs one program for everything (CONFIG_STATIC_USERMODEHELPER), whatever the setting says.
fn fixed_path(case: &Case) -> Option<Finding> {
    let config = case.kernel_config();
    if config.get("CONFIG_STATIC_USERMODEHELPER") != Setting::Yes {
        return None;
    }
    let source = config.source.clone().unwrap_or_default();
    let Setting::Text(path) = config.get("CONFIG_STATIC_USERMODEHELPER_PATH") else { return None };
    let finding = |summary: &str| {
        Finding::new(Cause::Helper, summary).evidence(format!("{source}: CONFIG_STATIC_USERMODEHELPER_PATH=\"{path}\""))
    };
    if path.is_empty() {
        return Some(
            finding("this kernel runs no helper of any kind, so nothing gets loaded on request").fix(load(case)),
        );
    }
    (!case.host.exists(path) && case.is_whole()).then(|| {
        finding("this kernel runs one fixed program to load modules, which is not there")
            .evidence(format!("{}: not there", case.shown(path)))
            .fix(format!("# install the program {path}, which hands requests on to modprobe"))
            .fix(load(case))
    })
}

/// `kernel.modprobe` itself.
fn wrong(case: &Case, helper: &[u8]) -> Option<Finding> {
    let path = String::from_utf8_lossy(helper).into_owned();
    let shown = case.shown(KERNEL_MODPROBE);
    let finding = |summary: String, what: String| {
        let mut finding = Finding::new(Cause::Helper, summary).evidence(format!("{shown}: {what}"));
        for line in case.sysctl_lines(&["kernel/modprobe"]) {
            finding = finding.evidence(format!("{}: sets it at boot", line.source));
            finding.fix.extend(comment_out(case, &line.source));
        }
        let modprobe = MODPROBES.iter().find(|path| case.host.exists(path)).unwrap_or(&"/sbin/modprobe");
        let finding = finding.fix(format!("echo {modprobe} >{KERNEL_MODPROBE}"));
        let finding = if case.host.exists(HELPER) { finding.fix("guard enable") } else { finding };
        if case.is_there() { finding } else { finding.fix(load(case)) }
    };
    if helper.is_empty() {
        return Some(finding("the kernel asks nobody to load modules".to_owned(), "is empty".to_owned()));
    }
    let says = format!("is {}", Text::from(helper));
    let is_known = MODPROBES.contains(&path.as_str()) || path == HELPER;
    if !is_known && !path.ends_with("/modprobe") && !path.ends_with("/kmod") {
        let summary =
            format!("the kernel asks {} to load modules, which is neither modprobe nor the guard", Text::from(helper));
        return Some(finding(summary, says));
    }
    if !path.starts_with('/') {
        return Some(finding("the kernel's helper is no absolute path".to_owned(), says));
    }
    if !case.is_whole() {
        return None;
    }
    let what = match case.host.metadata(&path) {
        Err(error) => format!("can't be opened: {error}"),
        Ok(metadata) if metadata.is_dir() => "is a directory".to_owned(),
        Ok(metadata) if metadata.mode() & 0o111 == 0 => {
            format!("is not executable (mode {:04o})", metadata.mode() & 0o7777)
        }
        Ok(_) => return None,
    };
    let mut found = finding(format!("the kernel can't run {path} to load modules"), says);
    found = found.evidence(format!("{}: {what}", case.shown(&path)));
    if what.starts_with("is not executable") {
        found.fix.insert(0, format!("chmod 755 {}", quoted(&path)));
    } else if path != HELPER && !MODPROBES.iter().any(|path| case.host.exists(path)) {
        found.fix.insert(0, case.distribution.install("kmod", "kmod"));
    }
    Some(found)
}

/// A helper that is started without CAP_SYS_MODULE.
fn powerless(case: &Case) -> Option<Finding> {
    for path in SETS {
        let Some(line) = case.host.line(path) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        // Two halves of one set, the low one first.
        let Some(low) = line.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok()) else {
            continue;
        };
        if has_sys_module(low) {
            continue;
        }
        let mut finding =
            Finding::new(Cause::Helper, "helpers of the kernel are started without the right to load modules")
                .evidence(format!(
                    "{}: {line}: lacks CAP_SYS_MODULE (bit 16); it can't be given back",
                    case.shown(path)
                ));
        for line in case.sysctl_lines(&[path.trim_start_matches("/proc/sys/")]) {
            finding = finding.evidence(format!("{}: sets it at boot", line.source));
            finding.fix.extend(comment_out(case, &line.source));
        }
        return Some(finding.fix(format!("# until then: {}", load(case))).fix("reboot"));
    }
    None
}

/// LKRG kills helpers that are not on its own list, of which the guard is not.
fn killed(case: &Case, helper: &[u8]) -> Option<Finding> {
    let level = case.host.lkrg_enforces().filter(|_| helper == HELPER.as_bytes())?;
    Some(
        Finding::new(Cause::Helper, "the Linux Kernel Runtime Guard kills the guard whenever the kernel runs it")
            .evidence(format!("{}: is {level}", case.shown(LKRG)))
            .fix("sysctl -w lkrg.umh_enforce=0")
            .fix(load(case)),
    )
}

/// A guard in modprobe's place that has no real modprobe to hand requests to.
fn stranded(case: &Case) -> Option<Finding> {
    let is_alone = case.is_whole() && case.host.divert() == Divert::InPlace && case.host.real_modprobe().is_none();
    is_alone.then(|| {
        let [real, _] = REAL;
        Finding::new(Cause::Helper, "the guard stands in modprobe's place, and the real modprobe is gone")
            .evidence(format!("{}: leads to {HELPER}; {real}: not there", case.shown(MODPROBE)))
            .fix(case.distribution.install("kmod", "kmod"))
            .fix("sh /usr/lib/modprobe-guard/divert.sh off")
            .fix(load(case))
    })
}

/// A modprobe that can't start, whoever runs it: a shared library is missing.
fn unable(case: &Case) -> Option<Finding> {
    // In modprobe's place may be the guard, which needs none.
    let mut modprobes = case.host.real_modprobe().into_iter().chain(MODPROBES);
    let (path, bytes) = modprobes.find_map(|path| Some((path, case.host.read(path, 16 << 20).ok()?)))?;
    if !libraries::are_collected(case) {
        return None;
    }
    let missing = modules::libraries(&bytes).into_iter().find(|name| libraries::find(case, name).is_none())?;
    Some(
        Finding::new(Cause::Helper, "modprobe can't be started: a shared library of its is missing")
            .evidence(format!("{}: needs {missing}, which is nowhere", case.shown(path)))
            .fix(libraries::bring(case, &missing))
            .fix(load(case)),
    )
}

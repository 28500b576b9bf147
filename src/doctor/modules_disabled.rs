//! `kernel.modules_disabled`, and `nomodule` on the kernel command line: nothing is loaded until the next boot.

use super::commands::{comment_out, load_at_boot};
use super::{Case, Cause, Finding, Seen};

const SYSCTL: &str = "/proc/sys/kernel/modules_disabled";

pub fn look(case: &Case) -> Seen {
    if !case.runs {
        return Seen::Well(format!("{} does not run", case.kernel));
    }
    let Some(value) = case.host.number(SYSCTL) else {
        return Seen::Nothing(format!("{}: not there", case.shown(SYSCTL)));
    };
    if value == 0 {
        return Seen::Well("is 0".to_owned());
    }
    let mut finding = Finding::new(Cause::ModulesDisabled, "the kernel loads no more modules until the next boot")
        .evidence(format!("{}: is {value}; it can't be set back", case.shown(SYSCTL)));
    if case.kernel_command_line().iter().any(|word| word == "nomodule" || word.starts_with("nomodule=")) {
        finding = finding.evidence(format!("{}: nomodule", case.shown("/proc/cmdline")));
        finding.fix.extend(case.distribution.boot_without("nomodule"));
        return finding.into();
    }
    for line in case.sysctl_lines(&["kernel/modules_disabled"]) {
        finding = finding.evidence(format!("{}: kernel.modules_disabled is set at boot", line.source));
        finding.fix.extend(comment_out(case, &line.source));
    }
    finding
        .fix("# have it loaded at boot, before anything sets kernel.modules_disabled:")
        .fix("mkdir -p /etc/modules-load.d")
        .fix(load_at_boot(case))
        .fix("reboot")
        .into()
}

//! `kernel.modules_disabled`, and `nomodule` on the kernel command line: nothing is loaded until the next boot.

use super::{Case, Cause, Finding, Seen};
use crate::conntrack::sysctl_d::SysctlD;

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
    let sysctl_d = SysctlD::read(case.host);
    let lines = sysctl_d.assignments.iter().filter(|line| line.key == "kernel/modules_disabled");
    for line in lines.filter(|line| line.value.as_deref().is_some_and(|value| value != b"0")) {
        finding = finding.evidence(format!("{}: kernel.modules_disabled is set at boot", line.source));
        finding.fix.extend(super::blocked::comment_out(case, &line.source));
    }
    finding
        .fix(format!("# have it loaded at boot, before anything sets {}:", "kernel.modules_disabled"))
        .fix("mkdir -p /etc/modules-load.d")
        .fix(super::not_loaded::load_at_boot(case))
        .fix("reboot")
        .into()
}

//! What the kernel lets be run as its helper: not every host takes the path in `kernel.modprobe` at its word.

use crate::host::kernel_config::{KernelConfig, Setting};
use crate::host::{Divert, HELPER, Host, KERNEL_MODPROBE, LKRG};

/// Why the kernel would not run us, though its setting named us; what to do instead. The guard in modprobe's own place is
/// run by the path that these permit.
pub fn forbids(host: &Host) -> Option<String> {
    let is_in_place = host.divert() == Divert::InPlace;
    killed_by_lkrg(host).filter(|_| !is_in_place).or_else(|| fixed_by_kernel(host, is_in_place))
}

/// The Linux Kernel Runtime Guard kills helpers of the kernel that are not on its own list, of which we are not.
pub fn killed_by_lkrg(host: &Host) -> Option<String> {
    let enforced = host.lkrg_enforces()?;
    Some(format!(
        "{LKRG}: is {enforced}: LKRG would kill us at every request; set lkrg.umh_enforce to 0, or have the guard in \
         modprobe's own place, which LKRG permits: install/install.sh --divert"
    ))
}

/// A kernel that runs one program whatever it wants (CONFIG_STATIC_USERMODEHELPER, kernel/umh.c), with the path as its
/// argv[0]: that program chooses, and may know modprobe alone.
fn fixed_by_kernel(host: &Host, is_in_place: bool) -> Option<String> {
    let config = KernelConfig::of_running(host);
    if config.get("CONFIG_STATIC_USERMODEHELPER") != Setting::Yes {
        return None;
    }
    let path = match config.get("CONFIG_STATIC_USERMODEHELPER_PATH") {
        Setting::Text(path) if host.is_guard(path) => return None,
        Setting::Text(path) => path,
        _ => "",
    };
    let source = config.source.as_deref().unwrap_or_default();
    let fixed = format!("{source}: CONFIG_STATIC_USERMODEHELPER_PATH is {path:?}");
    Some(match path {
        "" => format!("{fixed}: this kernel runs no helper, whatever {KERNEL_MODPROBE} says"),
        _ if is_in_place => return None,
        _ => format!(
            "{fixed}: this kernel runs that, whatever {KERNEL_MODPROBE} says; have the guard in modprobe's own place, \
             install/install.sh --divert, or have that run {HELPER} and take guard enable --force"
        ),
    })
}

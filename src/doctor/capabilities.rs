//! Capabilities of a process, as far as loading modules goes: capabilities(7).

use crate::host::Host;

/// `CAP_SYS_MODULE`.
const SYS_MODULE: u32 = 16;

/// Whether the process described in `status` (a `/proc/PID/status`) could ever load modules: CAP_SYS_MODULE in its
/// bounding set. `None` if the file does not tell.
pub fn may_load_modules(host: &Host, status: &str) -> Option<bool> {
    let text = host.read(status, 64 << 10).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let bounding = text.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    Some(has_sys_module(u64::from_str_radix(bounding.trim(), 16).ok()?))
}

/// Whether a set of capabilities holds CAP_SYS_MODULE.
pub fn has_sys_module(set: u64) -> bool {
    set >> SYS_MODULE & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_decides() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        for (text, expected) in [
            ("Name:\tx\nCapBnd:\t000001ffffffffff\n", Some(true)),
            ("CapBnd:\t00000000a80425fb\n", Some(false)),
            ("CapBnd:\tx\n", None),
            ("", None),
        ] {
            std::fs::write(root.path().join("status"), text).unwrap();
            assert_eq!(may_load_modules(&host, "/status"), expected, "{text}");
        }
    }
}

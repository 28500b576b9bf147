//! Whether this is a container: it has the host's kernel, and the host decides what that loads.

use super::capabilities::may_load_modules;
use super::{Case, Cause, Finding, Seen};

pub fn look(case: &Case) -> Seen {
    let signs = signs(case);
    let may_load = ["/proc/self/status", "/proc/1/status"].iter().find_map(|path| may_load_modules(case.host, path));
    let has_modules = case.host.is_directory(case.directory());
    if signs.is_empty() {
        let what = if may_load == Some(false) {
            "none; but CAP_SYS_MODULE is out of reach of whoever asks this"
        } else {
            "none"
        };
        return Seen::Well(what.to_owned());
    }
    if may_load == Some(true) && has_modules {
        return Seen::Well(format!("{}; it may load modules all the same", signs.join("; ")));
    }
    let mut finding = Finding::new(
        Cause::Container,
        format!("this is a container: {} is loaded by the host, for all its containers", case.name()),
    );
    finding.evidence = signs;
    if may_load == Some(false) {
        finding = finding.evidence("CapBnd lacks CAP_SYS_MODULE (bit 16)");
    }
    if !has_modules {
        finding = finding.evidence(format!("{}: not there", case.shown(&case.directory())));
    }
    let name = super::distribution::quoted_name(&case.module);
    finding.fix("# on the host, not in the container:").fix(format!("modprobe {name}")).into()
}

/// What says that it is one.
fn signs(case: &Case) -> Vec<String> {
    let host = case.host;
    let mut signs = Vec::new();
    // systemd, Docker and podman leave a mark in each; LXC and nspawn say it to PID 1.
    for path in ["/run/systemd/container", "/.dockerenv", "/run/.containerenv", "/run/host/container-manager"] {
        if host.exists(path) {
            let kind = host.line(path).map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default();
            let kind = if kind.is_empty() { String::new() } else { format!(": {kind}") };
            signs.push(format!("{}{kind}", case.shown(path)));
        }
    }
    let environment = host.read("/proc/1/environ", 1 << 20).unwrap_or_default();
    let is_sign =
        |variable: &&[u8]| variable.starts_with(b"container=") || variable.starts_with(b"KUBERNETES_SERVICE_HOST=");
    let container = environment.split(|&byte| byte == 0).find(is_sign);
    if let Some(container) = container {
        signs.push(format!("{}: {}", case.shown("/proc/1/environ"), crate::text::Text::from(container)));
    }
    let cgroup = host.read("/proc/1/cgroup", 64 << 10).unwrap_or_default();
    let cgroup = String::from_utf8_lossy(&cgroup).into_owned();
    let words = ["/docker", "/kubepods", "/lxc", "/libpod", "/machine.slice", "cri-containerd"];
    if let Some(line) = cgroup.lines().find(|line| words.iter().any(|word| line.contains(word))) {
        signs.push(format!("{}: {line}", case.shown("/proc/1/cgroup")));
    }
    // The host's PID 1 has every capability and every user.
    if may_load_modules(host, "/proc/1/status") == Some(false) {
        signs.push(format!("{}: CapBnd lacks CAP_SYS_MODULE", case.shown("/proc/1/status")));
    }
    let users =
        host.line("/proc/1/uid_map").map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default();
    let users: Vec<&str> = users.split_ascii_whitespace().collect();
    if !users.is_empty() && users != ["0", "0", "4294967295"] {
        signs.push(format!("{}: {}: a user namespace of its own", case.shown("/proc/1/uid_map"), users.join(" ")));
    }
    signs
}

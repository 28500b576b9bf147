//! What a task's control groups tell of it: systemd unit and container. Pure.
#![forbid(unsafe_code)]

use crate::text::Text;

/// What `/proc/PID/cgroup` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// What systemd calls what it runs in, see [`unit()`].
    pub unit: Option<Text>,
    /// See [`container()`].
    pub container: Option<Text>,
}

impl Groups {
    /// Of the text of that file.
    pub fn parse(cgroups: &[u8]) -> Groups {
        Groups { unit: unit(cgroups), container: container(cgroups) }
    }
}

/// The systemd unit that `/proc/PID/cgroup` names: the first part of the path, slices left out, that ends like a unit.
///
/// That is the system's unit also for what a user manager runs (`user@1000.service`), as `ps -o unit` has it
/// (systemd's `cg_path_get_unit`). cgroup v2 has one line, `0::PATH`; with v1 it is the line of `name=systemd`.
pub fn unit(cgroups: &[u8]) -> Option<Text> {
    let path = path_of(cgroups, b"name=systemd").or_else(|| path_of(cgroups, b""))?;
    let name = path.split(|&byte| byte == b'/').find(|part| !part.is_empty() && !part.ends_with(b".slice"))?;
    // A leading underscore keeps a name apart from the kernel's own files.
    let name = name.strip_prefix(b"_").unwrap_or(name);
    UNIT_KINDS.iter().any(|kind| name.ends_with(kind)).then(|| Text::from(name))
}

const UNIT_KINDS: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];

/// The container: the id that Docker, containerd, CRI-O and podman put into the path, or the name that LXC and
/// systemd-nspawn do.
pub fn container(cgroups: &[u8]) -> Option<Text> {
    cgroups
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.splitn(3, |&byte| byte == b':').nth(2))
        .find_map(in_path)
}

fn in_path(path: &[u8]) -> Option<Text> {
    let mut parts = path.split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let bare = part.strip_suffix(b".scope").unwrap_or(part);
        // docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, docker/ID, kubepods/…/ID
        let id = bare.rsplit(|&byte| byte == b'-').next().unwrap_or(bare);
        if id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit) {
            return Some(Text::from(id));
        }
        for before in [&b"lxc.payload."[..], b"systemd-nspawn@", b"machine-"] {
            if let Some(name) = bare.strip_prefix(before) {
                return Some(Text::from(name.strip_suffix(b".service").unwrap_or(name)));
            }
        }
        if part == b"lxc" {
            return parts.next().filter(|name| !name.is_empty()).map(Text::from);
        }
    }
    None
}

/// The path in the hierarchy whose controller list is `controllers`.
fn path_of<'a>(cgroups: &'a [u8], controllers: &[u8]) -> Option<&'a [u8]> {
    cgroups.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (_, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        (list == controllers).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (cgroups, expected) in [
            ("0::/system.slice/docker.service\n", Some("docker.service")),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n", Some("user@1000.service")),
            ("0::/system.slice/system-getty.slice/getty@tty1.service\n", Some("getty@tty1.service")),
            ("12:pids:/a\n1:name=systemd:/system.slice/ssh.service\n0::/\n", Some("ssh.service")),
            ("0::/system.slice/_cpu.service", Some("cpu.service")),
            ("0::/\n", None),
            ("0::/docker/0123\n", None),
            ("garbage", None),
        ] {
            assert_eq!(unit(cgroups.as_bytes()), expected.map(Text::from), "{cgroups}");
        }
    }

    #[test]
    fn containers() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (cgroups, expected) in [
            (format!("0::/system.slice/docker-{id}.scope\n"), Some(id)),
            (format!("5:cpu:/docker/{id}\n1:name=systemd:/docker/{id}\n"), Some(id)),
            (format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), Some(id)),
            (format!("0::/kubepods/besteffort/pod1/{id}"), Some(id)),
            (format!("0::/machine.slice/libpod-{id}.scope/container"), Some(id)),
            (format!("0::/kubepods.slice/crio-{id}.scope"), Some(id)),
            ("0::/lxc.payload.web/system.slice/x.service".into(), Some("web")),
            ("4:cpu:/lxc/web/a".into(), Some("web")),
            ("0::/machine.slice/systemd-nspawn@deb.service/payload".into(), Some("deb")),
            ("0::/system.slice/ssh.service".into(), None),
        ] {
            assert_eq!(container(cgroups.as_bytes()), expected.map(Text::from), "{cgroups}");
        }
    }
}

//! Which files of the host the executables are that rules ask for.
//!
//! A path proves nothing: a container has a `/usr/bin/dockerd` of its own, and anybody may mount another file over it
//! in a mount namespace of theirs. So the file is compared, device and inode, with what PID 1 finds under that path.
//! A file that was replaced while it ran (an upgrade) has left its path and its number means nothing any more; its old
//! path counts if it was reached through the very mount that PID 1 has there, which nobody can have but in PID 1's own
//! mount namespace.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use crate::host::Host;
use crate::host::identity::{Identity, identity_of};
use crate::model::{Files, Parent};
use crate::requester::task;

/// What the kernel appends to the path of a file that has none any more (`d_path`, fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";
/// Where PID 1's root is, whatever ours is.
const FIRST_ROOT: &str = "/proc/1/root";

/// The files that the policy names, as PID 1 sees them.
pub struct Executables<'a> {
    files: Vec<Named<'a>>,
    /// Some could not be looked at, or we don't see the host at all.
    incomplete: bool,
}

struct Named<'a> {
    /// As the policy writes it.
    path: &'a str,
    /// What lies there now.
    now: Option<Identity>,
    /// Where that is once all links are followed, and through which mount.
    place: Option<(Vec<u8>, Option<u64>)>,
}

impl<'a> Executables<'a> {
    /// Looks at each of `paths`, which are absolute.
    pub fn new(host: &Host, paths: &[&'a str]) -> Executables<'a> {
        let first = task::sees_the_host(host).then(|| Host::at(&host.shown(FIRST_ROOT)).ok()).flatten();
        let Some(first) = first else { return Executables { files: Vec::new(), incomplete: true } };
        let (mut incomplete, mut files) = (false, Vec::new());
        for path in paths {
            match Named::new(&first, path) {
                Ok(named) => files.push(named),
                Err(error) => {
                    incomplete = true;
                    // Where one hangs others will, each for as long.
                    if error.kind() == std::io::ErrorKind::TimedOut {
                        break;
                    }
                }
            }
        }
        Executables { files, incomplete }
    }

    /// Which of them the executable of a process or, as `PID/task/TID`, of a thread is.
    pub fn of(&self, host: &Host, task: &str) -> Files {
        let Ok(identity) = host.glimpse_identity(format!("/proc/{task}/exe")) else {
            // A kernel thread runs no file.
            let is_none = task::Stat::read(host, task).is_some_and(|stat| stat.is_kernel_thread);
            return Files { are: Vec::new(), complete: is_none };
        };
        // A path that is too long to be shown is none of those that are named.
        let shown = task::executable(host, task).unwrap_or_default();
        let (mut are, mut complete) = (Vec::new(), !self.incomplete);
        for named in &self.files {
            if named.is(shown.as_bytes(), &identity) {
                are.push(named.path.to_owned());
            } else {
                complete &= identity.inode.is_some() || !named.may_be(&identity);
            }
        }
        Files { are, complete }
    }

    /// Which of them the executables of all `parents` of `pid` are.
    pub fn of_all(&self, host: &Host, pid: i32, parents: &[Parent]) -> Files {
        let mut together = Files { are: Vec::new(), complete: reach_the_top(pid, parents) && !self.incomplete };
        for parent in parents {
            let pid = parent.pid.to_string();
            let task = match task::Stat::read(host, &pid) {
                Some(stat) => task::some_thread(host, parent.pid, &stat),
                None => pid,
            };
            let files = self.of(host, &task);
            together.complete &= files.complete;
            together.are.extend(files.are);
        }
        together.are.sort_unstable();
        together.are.dedup();
        together
    }
}

impl Named<'_> {
    fn new<'a>(first: &Host, path: &'a str) -> std::io::Result<Named<'a>> {
        let absent = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        };
        match first.glimpse_handle(path, false) {
            Ok(file) => {
                let now = identity_of(&file)?;
                Ok(Named { path, now: Some(now), place: Some((real_path(&file)?, now.mount)) })
            }
            // Nobody runs it now, but somebody may run what was there.
            Err(error) if absent(&error) => {
                let (directory, name) = path.rsplit_once('/').unwrap_or_default();
                let directory = if directory.is_empty() { "/" } else { directory };
                let place = match first.glimpse_handle(directory, true) {
                    Ok(directory) => {
                        let mut place = real_path(&directory)?;
                        place.extend(if place == b"/" { &b""[..] } else { b"/" });
                        place.extend(name.as_bytes());
                        Some((place, identity_of(&directory)?.mount))
                    }
                    Err(error) if absent(&error) => None,
                    Err(error) => return Err(error),
                };
                Ok(Named { path, now: None, place })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it may be, of one of which only the device is known.
    fn may_be(&self, identity: &Identity) -> bool {
        self.now.is_some_and(|now| now.may_be_same_file(identity))
    }

    /// Whether the executable that the kernel shows as `shown` is this file.
    fn is(&self, shown: &[u8], identity: &Identity) -> bool {
        if self.now.is_some_and(|now| now.is_same_file(identity)) {
            return true;
        }
        let Some((place, mount)) = &self.place else { return false };
        mount.is_some() && *mount == identity.mount && shown.strip_suffix(DELETED) == Some(place)
    }
}

/// Whether these are all parents of `pid`: the last of them is PID 1 or kthreadd.
fn reach_the_top(pid: i32, parents: &[Parent]) -> bool {
    parents.last().map_or(pid, |parent| parent.pid) <= 2
}

fn real_path(file: &std::fs::File) -> std::io::Result<Vec<u8>> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(path.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64, mount: u64) -> Identity {
        Identity { device: (8, 1), inode: Some(inode), mount: Some(mount) }
    }

    #[test]
    fn a_file_is_known_by_its_number_and_a_former_one_by_its_mount() {
        let named = Named {
            path: "/usr/sbin/dockerd",
            now: Some(identity(7, 20)),
            place: Some((b"/usr/bin/dockerd".to_vec(), Some(20))),
        };
        for (shown, other, expected) in [
            // The file itself, by whatever name and mount.
            ("/usr/bin/dockerd", identity(7, 20), true),
            ("/elsewhere/x", identity(7, 99), true),
            // A copy, and a file of that name in another mount namespace.
            ("/home/u/dockerd", identity(8, 20), false),
            ("/usr/bin/dockerd", identity(8, 99), false),
            ("/usr/bin/dockerd", Identity { device: (8, 2), ..identity(7, 99) }, false),
            // What was there before an upgrade; the same from another mount, and of another name.
            ("/usr/bin/dockerd (deleted)", identity(6, 20), true),
            ("/usr/bin/dockerd (deleted)", identity(6, 99), false),
            ("/usr/bin/dockerd (deleted)", Identity { mount: None, ..identity(6, 20) }, false),
            ("/usr/bin/other (deleted)", identity(6, 20), false),
            ("/usr/sbin/dockerd (deleted)", identity(6, 20), false),
        ] {
            assert_eq!(named.is(shown.as_bytes(), &other), expected, "{shown} {other:?}");
        }
        // Of some only the device is known.
        let hidden = |device| Identity { device, inode: None, mount: None };
        assert!(named.may_be(&hidden((8, 1))) && !named.may_be(&hidden((0, 50))));
        assert!(!named.is(b"/usr/bin/dockerd", &hidden((8, 1))));
        let unknown = Named { path: "/x", now: None, place: Some((b"/x".to_vec(), None)) };
        assert!(!unknown.is(b"/x (deleted)", &Identity { mount: None, ..identity(6, 20) }));
    }

    #[test]
    fn a_path_leads_to_its_file_below_the_hosts_root() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("usr/bin/dockerd");
        std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("/usr/bin", root.path().join("bin")).unwrap();
        std::fs::write(&file, "1").unwrap();
        let host = Host::at(root.path()).unwrap();
        let running = Host::this().identity(&file).unwrap();
        let shown = file.as_os_str().as_bytes().to_vec();
        let is = |path: &str, shown: &[u8]| Named::new(&host, path).unwrap().is(shown, &running);
        for (path, expected) in
            [("/usr/bin/dockerd", true), ("/bin/dockerd", true), ("/usr/bin/other", false), ("/no/where", false)]
        {
            assert_eq!(is(path, &shown), expected, "{path}");
        }
        // Replaced, and removed, while it runs.
        let deleted = [&shown, DELETED].concat();
        std::fs::write(root.path().join("new"), "2").unwrap();
        std::fs::rename(root.path().join("new"), &file).unwrap();
        assert!(is("/usr/bin/dockerd", &deleted) && is("/bin/dockerd", &deleted) && !is("/usr/bin/other", &deleted));
        std::fs::remove_file(&file).unwrap();
        assert!(is("/usr/bin/dockerd", &deleted) && is("/bin/dockerd", &deleted));
        assert!(!is("/usr/bin/dockerd", &shown));
    }

    #[test]
    fn our_own_executable_is_found() {
        let host = Host::this();
        let ours = std::env::current_exe().unwrap();
        let ours = ours.to_str().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let executables = Executables::new(&host, &[ours, "/bin/sh", "/no/such/file", "/no"]);
        // In a container nothing is known of the host's files; the guests of tests/vm are hosts.
        let is_host = task::sees_the_host(&host) && Host::at(std::path::Path::new(FIRST_ROOT)).is_ok();
        let expected = if is_host { vec![ours.to_owned()] } else { Vec::new() };
        assert_eq!(executables.of(&host, &pid.to_string()), Files { are: expected.clone(), complete: is_host });
        let parents = [Parent { pid, ..Parent::default() }];
        assert_eq!(executables.of_all(&host, 70, &parents), Files { are: expected, complete: false });
    }

    #[test]
    fn parents_that_could_not_be_read_are_not_all() {
        let parents = |pids: &[i32]| pids.iter().map(|&pid| Parent { pid, ..Parent::default() }).collect::<Vec<_>>();
        for (pid, above, expected) in [
            (1, &[][..], true),
            (2, &[], true),
            (70, &[], false),
            (70, &[60], false),
            (70, &[60, 1], true),
            (70, &[2], true),
            (1, &[60], false),
        ] {
            assert_eq!(reach_the_top(pid, &parents(above)), expected, "{pid} {above:?}");
        }
    }
}

//! How often this program stands above itself: a delegate that leads back to us by way of other programs.

use crate::host::{Host, apart};

use super::marker::{MAX_DEPTH, Marker};

/// A wrapper may put any number of shells between two of ours; a chain of parents longer than this with one of ours in
/// it is a loop. Nobody else's chain is followed that far: sessions are some ten processes deep.
const MAX_PARENTS: usize = 128;

/// Why we must not run a delegate, for this would never end: more of ours stand above us than any `install` lines
/// explain. Only for what a program started: nothing of ours stands above a request of the kernel's.
///
/// `marker` can be forged. Where `/proc` does not tell it is good enough to stop, never to permit.
pub fn loops(host: &Host, marker: Option<&[u8]>) -> Option<String> {
    let said = |depth: &dyn std::fmt::Display| {
        format!("modprobe-guard: calls itself {depth} deep; set `delegate` in the policy to the real modprobe")
    };
    let Ok(ourselves) = host.identity(super::marker::OURSELVES) else {
        let depth = marker.and_then(Marker::parse)?.depth;
        return (depth >= MAX_DEPTH).then(|| said(&depth));
    };
    let is_ours = |pid: i32| {
        let exe = host.glimpse_identity(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe.is_same_file(&ourselves))
    };
    let parent = nix::unistd::getppid().as_raw();
    // Whoever is far above us may be becoming another program for ever.
    let count = apart::ask(&host.opened(), || {
        let (mut count, mut pid) = (0, parent);
        for _ in 0..MAX_PARENTS {
            if pid <= 1 {
                return 0;
            }
            count += u32::from(is_ours(pid));
            if count > MAX_DEPTH {
                break;
            }
            let Some(above) = parent_of(host, pid) else { return 0 };
            pid = above;
        }
        count
    });
    count.filter(|&count| count > 0).map(|count| said(&count))
}

/// So many parents at most stand between an `install` line's modprobe and one of ours that started the real one: shells.
pub const MAX_SHELLS: usize = 4;

/// The parents of `pid`, the nearest first, as many as a marker is looked for among below an `install` line.
pub fn parents(host: &Host, pid: i32) -> Vec<i32> {
    let above = || std::iter::successors(Some(pid), |&pid| parent_of(host, pid)).take_while(|&pid| pid > 1);
    apart::ask(&host.opened(), || above().take(MAX_SHELLS).collect()).unwrap_or_default()
}

/// The parent of a process: the second field behind the name, which may hold anything (proc_pid_stat(5)).
fn parent_of(host: &Host, pid: i32) -> Option<i32> {
    let line = host.glimpse(format!("/proc/{pid}/stat"), 256).ok()?;
    let rest = line.get(line.iter().rposition(|&byte| byte == b')')? + 1..)?;
    // The last number may be cut; the second is not.
    std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_above_whom() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(parent_of(&Host::this(), own), Some(nix::unistd::getppid().as_raw()));
        assert_eq!(loops(&Host::this(), Some(b"7:99:0")), None, "/proc tells otherwise");
    }

    #[test]
    fn without_proc_a_marker_may_stop_us() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        assert!(loops(&host, Some(b"7:8:0")).is_some());
        for marker in [None, Some(&b"7:7:0"[..]), Some(b"failed"), Some(b"x")] {
            assert_eq!(loops(&host, marker), None);
        }
    }
}

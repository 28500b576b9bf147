//! The one environment variable: how we know that we were started by ourselves.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use super::{same_bytes, same_file};

/// Its name. It marks what we start; it never comes with a request of the kernel's.
pub const VARIABLE: &str = "MODPROBE_GUARD";
/// What kmod tells the command of an `install` line: the module that it stands for (`command_do`, libkmod-module.c).
pub const INSTALLING: &str = "MODPROBE_MODULE";
/// This very program, also if its path was replaced meanwhile.
pub const OURSELVES: &str = "/proc/self/exe";
/// Deeper than any chain of `install` lines a person would write; a wrapper around us ends there.
pub const MAX_DEPTH: u32 = 8;

/// What [`VARIABLE`] says: `PID:DEPTH:CANDIDATE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The one of ours that started the delegate.
    pub pid: i32,
    /// How many of ours stand between the request and the delegate.
    pub depth: u32,
    /// Place of the delegate among the candidates.
    pub candidate: usize,
}

impl Marker {
    /// The marker in `value`, if it can be believed: the process it names is among our `ancestors`, the nearest ones, and
    /// one of ours. Anybody can set a variable, and with a believed one a request is not judged again.
    pub fn believed(value: &[u8], ancestors: &[i32]) -> Option<Marker> {
        let marker = Marker::parse(value)?;
        (ancestors.contains(&marker.pid) && is_ours(marker.pid)).then_some(marker)
    }

    pub(super) fn parse(value: &[u8]) -> Option<Marker> {
        let mut fields = std::str::from_utf8(value).ok()?.split(':');
        let marker = Marker {
            pid: fields.next()?.parse().ok().filter(|&pid| pid > 1)?,
            depth: fields.next()?.parse().ok()?,
            candidate: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(marker)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.pid, self.depth, self.candidate)
    }
}

/// Whether a process runs this program, the very file or a copy of it, with our privileges: what one without any started
/// may be a program that has some, and has kept the environment.
fn is_ours(pid: i32) -> bool {
    // The owner of these is the effective user (proc_pid(5)).
    let owner = |pid: &str| fs::metadata(format!("/proc/{pid}")).map(|process| process.uid()).ok();
    if owner(&pid.to_string()) != owner("self") {
        return false;
    }
    let theirs = format!("/proc/{pid}/exe");
    let (Ok(a), Ok(b)) = (fs::metadata(&theirs), fs::metadata(OURSELVES)) else { return false };
    same_file(&a, &b)
        || (a.len() == b.len()
            && matches!((File::open(theirs), File::open(OURSELVES)), (Ok(a), Ok(b)) if same_bytes(&a, &b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marker_of_ours_is_believed() {
        let own = i32::try_from(std::process::id()).unwrap();
        let value = Marker { pid: own, depth: 1, candidate: 2 }.to_string();
        assert_eq!(Marker::believed(value.as_bytes(), &[own, 1]), Some(Marker { pid: own, depth: 1, candidate: 2 }));
        assert_eq!(Marker::believed(value.as_bytes(), &[1, 2]), None, "neither parent nor grandparent");
        let parent = nix::unistd::getppid().as_raw();
        let value = Marker { pid: parent, depth: 1, candidate: 2 }.to_string();
        assert_eq!(Marker::believed(value.as_bytes(), &[parent, 1]), None, "not one of ours");
    }

    #[test]
    fn garbage_is_no_marker() {
        for value in ["", "1", "1:0:0", "-5:0:0", "7:0", "7:0:0:0", "7:x:0", "7:0:-1", "99999999999:0:0"] {
            assert_eq!(Marker::parse(value.as_bytes()), None, "{value}");
        }
    }
}

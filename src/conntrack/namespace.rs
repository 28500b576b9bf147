//! Visits to other network namespaces.
//!
//! The table is one for all of them, and its size can be set in the first one only (`nf_conntrack_set_hashsize` says
//! EOPNOTSUPP elsewhere; nf_conntrack_max is read-only there). A helper that libxtables started is where iptables is.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};

use crate::host::Host;

/// The calling thread is in another network namespace until this is dropped.
#[derive(Debug)]
pub struct Visit {
    home: File,
}

/// Takes the calling thread into the network namespace of the process `pid`; 1 is in the first one. `None` if it is
/// there already, or if `host` is a directory.
///
/// # Errors
/// Those of open(2) and setns(2): no such process, not permitted.
pub fn visit(host: &Host, pid: i32) -> io::Result<Option<Visit>> {
    if !host.is_this() {
        return Ok(None);
    }
    let home = host.open("/proc/thread-self/ns/net")?;
    let there = host.glimpse_file(format!("/proc/{pid}/ns/net"))?;
    let (from, to) = (home.metadata()?, there.metadata()?);
    if (from.dev(), from.ino()) == (to.dev(), to.ino()) {
        return Ok(None);
    }
    setns(there, CloneFlags::CLONE_NEWNET)?;
    Ok(Some(Visit { home }))
}

impl Drop for Visit {
    fn drop(&mut self) {
        // That this fails is not to be expected, and nothing could be done: the privilege was there to come here.
        let _ = setns(&self.home, CloneFlags::CLONE_NEWNET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_at_home_already() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(visit(&Host::this(), pid).unwrap().is_none());
        assert!(visit(&Host::at(std::path::Path::new("/tmp")).unwrap(), 1).unwrap().is_none());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert_eq!(visit(&Host::this(), i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! Which file an open file or a path is, without asking whoever serves it: statx(2) with what is known already.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::NixPath;
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::Host;

/// A file as the kernel tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device of its file system, major and minor.
    pub device: (u32, u32),
    /// Its number there. Absent if that is nobody's business: a FUSE server's user decides who may ask for more than the
    /// device (`fuse_getattr`, fs/fuse/dir.c).
    pub inode: Option<u64>,
    /// The mount that it is reached through, as in `/proc/PID/mountinfo`: no two mount namespaces share one. Absent
    /// before 5.8.
    pub mount: Option<u64>,
}

impl Identity {
    /// Whether both are the same file, whatever way leads there.
    pub fn is_same_file(&self, other: &Identity) -> bool {
        self.inode.is_some() && (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether they may be, as far as anybody may know.
    pub fn may_be_same_file(&self, other: &Identity) -> bool {
        let may_be = self.inode.is_none() || other.inode.is_none() || self.inode == other.inode;
        may_be && self.device == other.device
    }
}

impl Host {
    /// The file that `path` leads to, links followed.
    pub fn identity(&self, path: impl AsRef<Path>) -> io::Result<Identity> {
        // What is below another root is opened there; a link of /proc's leads to its file only directly.
        if self.is_this() {
            return path.as_ref().with_nix_path(|path| identity_at(CWD, path, AtFlags::NO_AUTOMOUNT))?;
        }
        identity_of(&self.open_with(path.as_ref(), nix::fcntl::OFlag::O_PATH)?)
    }
}

/// The file that is open as `file`.
pub fn identity_of(file: &impl AsFd) -> io::Result<Identity> {
    identity_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)
}

fn identity_at(directory: BorrowedFd, path: &CStr, flags: AtFlags) -> io::Result<Identity> {
    let stat = |wanted| rustix::fs::statx(directory, path, flags | AtFlags::STATX_DONT_SYNC, wanted);
    let (stat, has_inode) = match stat(StatxFlags::INO | StatxFlags::MNT_ID) {
        Ok(stat) => (stat, true),
        Err(error) => match stat(StatxFlags::empty()) {
            // What file systems leave out is zero.
            Ok(stat) if (stat.stx_dev_major, stat.stx_dev_minor) != (0, 0) => (stat, false),
            _ => return Err(error.into()),
        },
    };
    let has_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok(Identity {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: has_inode.then_some(stat.stx_ino),
        mount: has_mount.then_some(stat.stx_mnt_id),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_link_is_its_file_and_a_copy_is_not() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        fs::copy(root.path().join("file"), root.path().join("copy")).unwrap();
        fs::hard_link(root.path().join("file"), root.path().join("hard")).unwrap();
        std::os::unix::fs::symlink("/file", root.path().join("link")).unwrap();
        let host = Host::at(root.path()).unwrap();
        let file = Host::this().identity(root.path().join("file")).unwrap();
        for (name, same) in [("/file", true), ("/hard", true), ("/link", true), ("/copy", false)] {
            assert_eq!(host.identity(name).unwrap().is_same_file(&file), same, "{name}");
        }
        assert!(host.identity("/missing").is_err());
        assert_eq!(host.identity("/file").unwrap(), file);
        assert!(file.mount.is_some());
    }
}

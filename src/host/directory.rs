//! A directory of ours: opened and judged once, then what is in it is reached by plain names, so that no link and no
//! rename on the way can lead elsewhere.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs, statfs};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::{Host, RUN};

/// `RAMFS_MAGIC`, include/uapi/linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// Whether it is a directory, and nobody but we may change what is in it.
pub fn is_ours_alone(stat: &FileStat) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    kind == SFlag::S_IFDIR && stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0
}

impl Host {
    /// Opens the directory `path` to read what is in it; its last component is no link.
    pub fn directory(&self, path: &str) -> io::Result<Directory> {
        self.directory_or_new(path, None)
    }

    /// Opens the directory `path` to write into it. Where it is missing and `create` is given it is made with that
    /// mode; its parent is not.
    ///
    /// # Errors
    /// Besides those of open(2) and mkdir(2): `PermissionDenied` if others than we may change what is in it.
    pub fn own_directory(&self, path: &str, create: Option<Mode>) -> io::Result<Directory> {
        let directory = self.directory_or_new(path, create)?;
        if !is_ours_alone(&fstat(&directory.0)?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to this directory"));
        }
        Ok(directory)
    }

    /// Whether what lies below `path` lives in memory, so that no disk can hold up a write there.
    pub fn is_in_memory(&self, path: &str) -> bool {
        let told = match self.is_this() {
            true => statfs(path).ok(),
            false => self.open_with(Path::new(path), OFlag::O_PATH).ok().and_then(|file| fstatfs(&file).ok()),
        };
        told.is_some_and(|fs| is_memory(fs.filesystem_type()))
    }

    /// Whether what lies below [`RUN`] lives in memory: on a disk that is frozen, whoever makes a file waits for ever.
    pub fn has_run_in_memory(&self) -> bool {
        let parent = Path::new(RUN).parent().and_then(Path::to_str);
        *self.has_run_in_memory.get_or_init(|| parent.is_some_and(|parent| self.is_in_memory(parent)))
    }

    fn directory_or_new(&self, path: &str, create: Option<Mode>) -> io::Result<Directory> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        // Mostly it is there.
        let mode = match (self.open_with(Path::new(path), flags), create) {
            (Err(error), Some(mode)) if error.kind() == io::ErrorKind::NotFound => mode,
            (opened, _) => return Ok(Directory(opened?.into())),
        };
        let (parent, name) = path.rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.open_with(Path::new(parent), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        match mkdirat(&parent, name, mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Directory(openat(&parent, name, flags | OFlag::O_CLOEXEC, Mode::empty())?))
    }
}

impl From<File> for Directory {
    fn from(directory: File) -> Directory {
        Directory(directory.into())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Directory {
    /// Opens the file `name`, never a link, never waiting; `mode` is for a new one.
    pub fn open(&self, name: &str, flags: OFlag, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        Ok(File::from(openat(&self.0, name, flags, mode)?))
    }

    /// What is there under `name`, links not followed; `None` if nothing is.
    pub fn stat(&self, name: &str) -> io::Result<Option<FileStat>> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes `bytes` the file `name`, which all may read: whole or not at all, and on the disk when this returns.
    ///
    /// # Errors
    /// Those of the system calls; what was there then stays, and nothing is left behind.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_with_mode(name, bytes, Mode::from_bits_truncate(0o644))
    }

    /// As [`Directory::replace`], for those whom `mode` lets read it.
    ///
    /// # Errors
    /// The same.
    pub fn replace_with_mode(&self, name: &str, bytes: &[u8], mode: Mode) -> io::Result<()> {
        // Processes and threads that do so at the same time do not meet, and the last one wins. The dot in front and the
        // number at the end keep it from being taken for a file of its kind.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let temporary = format!(".{name}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let create = || self.open(&temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, mode);
        let mut file = create().or_else(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Left by a process of our id that died in the middle.
            self.remove(&temporary)?;
            create()
        })?;
        let mut write = || {
            // Whatever the umask.
            nix::sys::stat::fchmod(&file, mode)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.rename(&temporary, name)
        };
        if let Err(error) = write() {
            // The first error is the one to tell.
            let _ = self.remove(&temporary);
            return Err(error);
        }
        self.sync()
    }

    /// Renames within the directory, over what may be there. Says whether there was anything to rename.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<bool> {
        match renameat(&self.0, from, &self.0, to) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file `name`, if there is one.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the names themselves to the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.0)?)
    }
}

fn is_memory(kind: FsType) -> bool {
    kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_is_made_and_judged() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        assert_eq!(host.own_directory("/run/ours", None).unwrap_err().kind(), io::ErrorKind::NotFound);
        host.own_directory("/run/ours", Some(Mode::S_IRWXU)).unwrap();
        assert_eq!(fs::metadata(root.path().join("run/ours")).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(root.path().join("run/ours"), fs::Permissions::from_mode(0o720)).unwrap();
        assert_eq!(host.own_directory("/run/ours", None).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        host.directory("/run/ours").unwrap();
        assert!(host.own_directory("/nowhere/ours", Some(Mode::S_IRWXU)).is_err());
    }

    #[test]
    fn links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        fs::write(root.path().join("target"), "").unwrap();
        symlink("/real", root.path().join("link")).unwrap();
        symlink("/target", root.path().join("real/file")).unwrap();
        assert!(host.own_directory("/link", Some(Mode::S_IRWXU)).is_err());
        let real = host.directory("/real").unwrap();
        assert!(real.open("file", OFlag::O_RDONLY, Mode::empty()).is_err());
        assert!(real.stat("missing").unwrap().is_none());
    }

    #[test]
    fn memory_is_told_from_disk() {
        assert!(Host::this().is_in_memory("/dev/shm"));
        assert!(!Host::this().is_in_memory("/proc"));
        assert!(!Host::this().is_in_memory("/no/such/place"));
    }
}

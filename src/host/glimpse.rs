//! Looks at what others may make hang: files of `/proc/PID`, and files that lie wherever others say.
//!
//! In work that is done [`apart`](super::apart) such a look can be left behind; elsewhere it takes as long as it takes.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, RawDir, ResolveFlags};

use super::Host;
use super::apart::touch;
use super::identity::{Identity, identity_of};
use crate::text::Text;

/// Longest target of a link: PATH_MAX.
const MAX_TARGET: usize = 4096;
/// As [`Host::open`] has it.
const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Host {
    /// What one read gives of a small file: at most `room` bytes.
    ///
    /// # Errors
    /// Those of open(2) and read(2); `TimedOut` if that has hung before, see [`super::apart::ask`].
    pub fn glimpse(&self, path: impl AsRef<Path>, room: usize) -> io::Result<Vec<u8>> {
        let path = c_string(path.as_ref())?;
        let mut bytes = Vec::with_capacity(room);
        // SAFETY: two system calls, the latter into a vector that has the room.
        unsafe {
            touch(&path, || {
                let file = self.open_c(&path, READ)?;
                rustix::io::read(&file, spare_capacity(&mut bytes))?;
                self.done_with(file);
                Ok(())
            })
        }?;
        Ok(bytes)
    }

    /// The first line of a small file, without its end; `None` if it can't be read.
    pub fn glimpse_line(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let mut bytes = self.glimpse(path, 2048).ok()?;
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            bytes.truncate(end);
        }
        Some(bytes)
    }

    /// Where a link leads; it is not followed, so a dead file server behind it does not matter.
    pub fn glimpse_link(&self, path: impl AsRef<Path>) -> Option<Text> {
        let path = c_string(path.as_ref()).ok()?;
        let mut target = Vec::with_capacity(MAX_TARGET);
        // SAFETY: system calls only, the last into a vector that has the room.
        unsafe {
            touch(&path, || {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(match self.is_this() {
                    true => rustix::fs::readlinkat_raw(CWD, &*path, spare_capacity(&mut target))?,
                    false => rustix::fs::readlinkat_raw(self.open_c(&path, flags)?, c"", spare_capacity(&mut target))?,
                })
            })
        }
        .ok()?;
        Some(Text(target))
    }

    /// `path`, opened for reading.
    ///
    /// # Errors
    /// Those of open(2); `TimedOut` if that has hung before.
    pub fn glimpse_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = c_string(path.as_ref())?;
        // SAFETY: one system call.
        Ok(unsafe { touch(&path, || self.open_c(&path, READ)) }?.into())
    }

    /// A handle (`O_PATH`) of what `path` leads to, if it is a `directory` or does not have to be one.
    ///
    /// # Errors
    /// Those of open(2); `TimedOut` if that has hung before.
    pub fn glimpse_handle(&self, path: impl AsRef<Path>, directory: bool) -> io::Result<File> {
        let path = c_string(path.as_ref())?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | if directory { OFlags::DIRECTORY } else { OFlags::empty() };
        // SAFETY: one system call.
        Ok(unsafe { touch(&path, || self.open_c(&path, flags)) }?.into())
    }

    /// Which file `path` leads to, links followed.
    ///
    /// # Errors
    /// Those of open(2) and statx(2); `TimedOut` if that has hung before.
    pub fn glimpse_identity(&self, path: impl AsRef<Path>) -> io::Result<Identity> {
        let path = c_string(path.as_ref())?;
        // SAFETY: two system calls, the latter into a buffer on the stack.
        unsafe { touch(&path, || identity_of(&self.open_c(&path, OFlags::PATH | OFlags::CLOEXEC)?)) }
    }

    /// The names in a directory that are numbers, in no order; none if it can't be read.
    pub fn glimpse_numbers(&self, path: impl AsRef<Path>) -> Vec<i32> {
        let mut numbers = Vec::new();
        let Ok(path) = c_string(path.as_ref()) else { return numbers };
        // SAFETY: one system call.
        let opened = unsafe { touch(&path, || self.open_c(&path, READ | OFlags::DIRECTORY)) };
        let Ok(directory) = opened else { return numbers };
        let mut room = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(directory, room.spare_capacity_mut());
        let mut next = || match entries.next() {
            None => Ok(None),
            Some(Ok(entry)) => Ok(Some(entry.file_name().to_str().ok().and_then(|name| name.parse().ok()))),
            Some(Err(error)) => Err(error.into()),
        };
        // SAFETY: one system call at most, into a buffer that was made before.
        while let Ok(Some(number)) = unsafe { touch(&path, &mut next) } {
            numbers.extend::<Option<i32>>(number);
        }
        numbers
    }

    /// As [`Host::open_with`], without anything but the system call.
    fn open_c(&self, path: &CString, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(match &self.root {
            None => rustix::fs::openat(CWD, &**path, flags, Mode::empty())?,
            Some((_, directory)) => {
                rustix::fs::openat2(directory, &**path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?
            }
        })
    }
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glimpse_is_of_what_lies_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("proc/7");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(inside.join("stat"), "first\nsecond").unwrap();
        std::os::unix::fs::symlink("/proc/7/stat", inside.join("exe")).unwrap();
        for (host, prefix) in [(Host::at(root.path()).unwrap(), ""), (Host::this(), root.path().to_str().unwrap())] {
            let path = |name: &str| format!("{prefix}/proc/7/{name}");
            assert_eq!(host.glimpse(path("stat"), 5).unwrap(), b"first");
            assert_eq!(host.glimpse(path("stat"), 100).unwrap(), b"first\nsecond");
            assert_eq!(host.glimpse_line(path("stat")).unwrap(), b"first");
            assert_eq!(host.glimpse_link(path("exe")), Some("/proc/7/stat".into()));
            assert_eq!(host.glimpse_link(path("stat")), None);
            assert_eq!(host.glimpse_link(path("none")), None);
            assert_eq!(host.glimpse(path("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(host.glimpse_handle(path(""), true).is_ok());
            assert!(host.glimpse_handle(path("stat"), true).is_err());
            let file = host.glimpse_handle(path("stat"), false).unwrap();
            assert_eq!(host.glimpse_identity(path("stat")).unwrap(), identity_of(&file).unwrap());
        }
        let host = Host::at(root.path()).unwrap();
        assert_eq!(host.glimpse("/proc/7/exe", 5).unwrap(), b"first");
        // More than one getdents(2) gives.
        for number in 1..5000 {
            std::fs::write(inside.join(number.to_string()), "").unwrap();
        }
        let mut numbers = host.glimpse_numbers("/proc/7");
        numbers.sort_unstable();
        assert_eq!(numbers, (1..5000).collect::<Vec<_>>());
        assert!(host.glimpse_numbers("/proc/7/stat").is_empty());
    }
}

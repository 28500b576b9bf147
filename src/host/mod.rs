//! The host as files: every path constant, and the only place that opens `/proc`, `/sys`, `/etc` and their like.
//!
//! Everything is read below a root, so a directory can stand for a host (`--root`, `tests/cases`).

pub mod apart;
pub mod child;
mod directory;
mod divert;
mod glimpse;
pub mod identity;
pub mod kernel_config;
pub mod machine;
mod modules;
mod policy;
pub mod schedstat;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlink, readlinkat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::sys::utsname::{UtsName, uname};
use rustix::fs::RawDir;

use crate::text::Text;

pub use directory::{Directory, is_ours_alone};
pub use divert::{ARMED, Divert, MODPROBE, REAL};
pub use policy::{InForce, MAX_SOURCE, Origin};

/// Path of the helper that the kernel runs; `sysctl kernel.modprobe`.
pub const KERNEL_MODPROBE: &str = "/proc/sys/kernel/modprobe";
/// Where the helper is installed; `install` lines name it too.
pub use crate::modules::HELPER;
/// The administrator's part of the configuration.
pub const ETC: &str = "/etc/modprobe-guard";
/// The distribution's part of the configuration.
pub const USR_LIB: &str = "/usr/lib/modprobe-guard";
/// The policy in force, checked and resolved, below [`ETC`].
pub const POLICY_IN_FORCE: &str = "/etc/modprobe-guard/policy.bin";
/// The `install` lines that have modprobe(8) and libkmod ask us. In memory: builders of initramfs images take along what
/// lies in `/etc` and `/usr/lib`, and there a helper that is not there would be run.
pub const HOOKS: &str = "/run/modprobe.d/modprobe-guard.conf";
/// Memory-backed state: records that have not been written to disk yet.
pub const RUN: &str = "/run/modprobe-guard";
/// What is remembered over reboots, of no importance to decisions.
pub const STATE_DIR: &str = "/var/lib/modprobe-guard";
/// The audit log's directory.
pub const LOG_DIR: &str = "/var/log/modprobe-guard";

/// The Linux Kernel Runtime Guard's setting: whether it kills helpers of the kernel that it does not know.
pub const LKRG: &str = "/proc/sys/lkrg/umh_enforce";

/// Descriptors below this may be left open.
const LEFT_OPEN: RawFd = 64;
/// Where there are at least so many: with fewer they could run out.
const ENOUGH: u64 = 256;
/// Bytes of a directory that are listed at once.
const LISTED: usize = 32 << 10;

/// A host below a root directory.
#[derive(Clone, Debug)]
pub struct Host {
    root: Option<(PathBuf, std::sync::Arc<OwnedFd>)>,
    /// Whether `/sys/module` is there, once that was asked.
    has_sysfs: OnceLock<bool>,
    /// The kernel's command line, once it was read: it never changes.
    command_line: OnceLock<Vec<u8>>,
    /// Whether `/run` is in memory, once that was asked.
    has_run_in_memory: OnceLock<bool>,
    /// What uname(2) says, once it was asked.
    names: OnceLock<Option<UtsName>>,
    /// Whether what was read stays open.
    leaves_open: bool,
}

impl Host {
    /// This machine.
    pub fn this() -> Host {
        Host {
            root: None,
            has_sysfs: OnceLock::new(),
            command_line: OnceLock::new(),
            has_run_in_memory: OnceLock::new(),
            names: OnceLock::new(),
            leaves_open: false,
        }
    }

    /// This machine, for a process that ends in a moment: what it has read is closed by that, as far as there are
    /// descriptors to spare. Closing each makes up a sixth of all its system calls.
    pub fn of_helper() -> Host {
        let leaves_open = getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(soft, _)| soft >= ENOUGH);
        Host { leaves_open, ..Host::this() }
    }

    /// Closes what was read or written, now or at the end. Not for what somebody else's file system may be asked to close: in work
    /// that is done [`apart`] the end is nobody's to leave behind.
    pub(crate) fn done_with(&self, file: impl Into<OwnedFd>) {
        let file = file.into();
        if self.leaves_open && file.as_raw_fd() < LEFT_OPEN {
            let _ = file.into_raw_fd();
        }
    }

    /// The host whose files lie below `root`. Absolute links inside lead to places inside.
    ///
    /// # Errors
    /// If `root` is no directory that can be opened.
    pub fn at(root: &Path) -> io::Result<Host> {
        if root == Path::new("/") {
            return Ok(Host::this());
        }
        let directory = File::open(root)?;
        if !directory.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let root = (root.to_path_buf(), std::sync::Arc::new(directory.into()));
        Ok(Host { root: Some(root), ..Host::this() })
    }

    /// What has to stay open for this host to be read.
    pub fn opened(&self) -> Vec<BorrowedFd<'_>> {
        self.root.iter().map(|(_, root)| root.as_fd()).collect()
    }

    /// Whether this is the machine that we run on, not a directory that stands for one.
    pub fn is_this(&self) -> bool {
        self.root.is_none()
    }

    /// The path as a person outside sees it, for messages.
    pub fn shown(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.root {
            None => path.to_path_buf(),
            Some((root, _)) => root.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// Opens the absolute `path` for reading. Never blocks on a FIFO, never becomes a controlling terminal.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_with(path.as_ref(), OFlag::O_RDONLY)
    }

    /// As [`Host::open`], with flags of open(2) of the caller's choice.
    pub(crate) fn open_with(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        // openat2(2) refuses flags that mean nothing to a mere handle (O_PATH).
        let handle_only = flags.contains(OFlag::O_PATH);
        let flags = flags | OFlag::O_CLOEXEC;
        let flags = if handle_only { flags } else { flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY };
        let opened = match &self.root {
            None => nix::fcntl::open(path, flags, Mode::empty()),
            Some((_, directory)) => {
                openat2(directory, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT))
            }
        };
        opened.map(File::from).map_err(io::Error::from)
    }

    /// Whether there is anything at `path`, whoever may read it.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open_with(path.as_ref(), OFlag::O_PATH).is_ok()
    }

    /// Whether `path` is a link, wherever it leads.
    pub fn is_link(&self, path: impl AsRef<Path>) -> bool {
        self.link_target(path).is_some()
    }

    /// What the link `path` says; `None` if it is none.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Option<OsString> {
        let path = path.as_ref();
        let target = match &self.root {
            None => readlink(path),
            Some(_) => readlinkat(self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?, ""),
        };
        target.ok().filter(|target| !target.is_empty())
    }

    /// Whether `path` leads to a directory.
    pub fn is_directory(&self, path: impl AsRef<Path>) -> bool {
        self.open_with(path.as_ref(), OFlag::O_PATH | OFlag::O_DIRECTORY).map(|file| self.done_with(file)).is_ok()
    }

    /// What stat(2) says of what `path` leads to, whoever may read it.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        self.open_with(path.as_ref(), OFlag::O_PATH)?.metadata()
    }

    /// Writes `bytes` with one write(2) to a file that is there: a setting of the kernel's. Creates and cuts nothing.
    ///
    /// # Errors
    /// Those of open(2) and write(2), and `WriteZero` if the kernel took only a part.
    pub fn write_existing(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let written = self.open_with(path.as_ref(), OFlag::O_WRONLY)?.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }

    /// The whole of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// Besides those of open(2) and read(2): `InvalidInput` if it is no regular file, `FileTooLarge` if it is longer.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let bytes = read_file(&file, limit)?;
        self.done_with(file);
        Ok(bytes)
    }

    /// What one read gives of a small file of the kernel's: all of it, as far as `buffer` has room.
    pub fn read_once<'a>(&self, path: impl AsRef<Path>, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut file = self.open(path)?;
        let length = file.read(buffer)?;
        self.done_with(file);
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// The first line of a small file of the kernel's, without its end; `None` if it can't be read.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let path = path.as_ref();
        let mut buffer = [0; 2048];
        let mut bytes = self.read_once(path, &mut buffer).ok()?.to_vec();
        if bytes.len() == buffer.len() {
            bytes = self.read(path, 64 * 1024).ok()?;
        }
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            bytes.truncate(end);
        }
        Some(bytes)
    }

    /// The first line of a small file of the kernel's as a number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<i64> {
        std::str::from_utf8(&self.line(path)?).ok()?.trim().parse().ok()
    }

    /// Names of the entries of a directory, sorted by byte.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let directory = self.open_with(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut room = Vec::with_capacity(LISTED);
        let mut listed = RawDir::new(&directory, room.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = listed.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        self.done_with(directory);
        Ok(names)
    }

    /// The entries of a directory with what each is (links are not followed), sorted by byte.
    pub fn entries(&self, path: impl AsRef<Path>) -> io::Result<Vec<(OsString, fs::FileType)>> {
        let listed = |directory: fs::ReadDir| {
            directory.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?)))).collect()
        };
        // /proc/self/fd lists what was opened below the root, so a link in the path stays inside as well.
        let entries: io::Result<Vec<_>> = match &self.root {
            None => listed(fs::read_dir(path)?),
            Some(_) => {
                let directory = self.open_with(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                listed(fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?)
            }
        };
        let mut entries = entries?;
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }

    /// Release of the kernel that runs (this machine), or that the tree is of.
    ///
    /// # Errors
    /// A text that says what to do, if a tree does not tell.
    pub fn kernel(&self) -> Result<String, String> {
        if self.is_this() {
            // Not from /proc, which may not be mounted yet.
            let names = self.names().ok_or_else(|| String::from("uname: the kernel does not tell its release"))?;
            return Ok(names.release().to_string_lossy().into_owned());
        }
        if let Some(release) = self.line("/proc/sys/kernel/osrelease").and_then(|line| String::from_utf8(line).ok()) {
            return Ok(release);
        }
        // `Linux version RELEASE (`
        let version = self.line("/proc/version").and_then(|line| String::from_utf8(line).ok());
        if let Some(release) = version.as_ref().and_then(|line| line.split(' ').nth(2)).filter(|word| !word.is_empty())
        {
            return Ok(release.to_owned());
        }
        let releases = self.list("/lib/modules").unwrap_or_default();
        match releases.as_slice() {
            [only] => Ok(only.to_string_lossy().into_owned()),
            _ => Err(format!(
                "{}: not there, and {} holds {} kernels: name one with --kernel",
                self.shown("/proc/sys/kernel/osrelease").display(),
                self.shown("/lib/modules").display(),
                releases.len()
            )),
        }
    }

    fn names(&self) -> Option<&UtsName> {
        self.names.get_or_init(|| uname().ok()).as_ref()
    }

    /// The host's name; `None` where a tree does not tell.
    pub fn name(&self) -> Option<Text> {
        if self.is_this() {
            return Some(Text::from(self.names()?.nodename().as_encoded_bytes()));
        }
        self.line("/proc/sys/kernel/hostname").or_else(|| self.line("/etc/hostname")).map(Text)
    }

    /// The number of this boot; `None` without `/proc`.
    pub fn boot_id(&self) -> Option<Text> {
        self.line("/proc/sys/kernel/random/boot_id").map(Text)
    }

    /// What [`LKRG`] is set to, if that is there and not 0.
    pub fn lkrg_enforces(&self) -> Option<i64> {
        self.number(LKRG).filter(|&level| level != 0)
    }

    /// The kernel's command line, `/proc/cmdline`; empty if it can't be read.
    pub fn kernel_command_line(&self) -> &[u8] {
        self.command_line.get_or_init(|| self.line("/proc/cmdline").unwrap_or_default())
    }
}

/// The whole of an open regular file of at most `limit` bytes; see [`Host::read`].
pub fn read_file(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    read_of(file, &file.metadata()?, limit)
}

/// [`read_file`] for those who have looked at the metadata already.
fn read_of(file: &File, metadata: &Metadata, limit: usize) -> io::Result<Vec<u8>> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    // Files of /sys say a page and mostly have less. Those of /proc say 0: one read takes it, one more finds the end.
    // Elsewhere one read does.
    let says = Some(metadata.size()).filter(|&size| size > 0).unwrap_or(u64::MAX);
    let expected = usize::try_from(metadata.size()).unwrap_or(usize::MAX).clamp(2047, 1 << 20).min(limit);
    let mut bytes = Vec::with_capacity(expected + 1);
    file.take(says.min(limit as u64 + 1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/x")).unwrap();
        fs::write(root.path().join("usr/lib/x/file"), "inside\nsecond").unwrap();
        std::os::unix::fs::symlink("/usr/lib", root.path().join("lib")).unwrap();
        let host = Host::at(root.path()).unwrap();
        assert_eq!(host.line("/lib/x/file").unwrap(), b"inside");
        assert_eq!(host.list("/lib/x").unwrap(), ["file"]);
        assert!(host.open("/../../../../etc/passwd").is_err());
    }

    #[test]
    fn what_a_helper_has_read_stays_open_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        let host = Host::at(root.path()).unwrap();
        // Other tests open files as well: the numbers are of our choice.
        for (leaves_open, below, stays) in [(false, true, false), (true, true, true), (true, false, false)] {
            let host = Host { leaves_open, ..host.clone() };
            let at_least = if below { LEFT_OPEN - 1 } else { LEFT_OPEN };
            let file = rustix::io::fcntl_dupfd_cloexec(host.open("/file").unwrap(), at_least).unwrap();
            let number = file.as_raw_fd();
            host.done_with(file);
            let link = fs::read_link(format!("/proc/self/fd/{number}"));
            let is_open = link.is_ok_and(|target| target == root.path().join("file"));
            assert_eq!(is_open, stays && number == at_least, "{leaves_open} {number}");
            if is_open {
                nix::unistd::close(number).unwrap();
            }
        }
        let enough = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 >= ENOUGH;
        assert_eq!((Host::of_helper().leaves_open, Host::this().leaves_open), (enough, false));
    }

    #[test]
    fn a_fifo_a_directory_and_too_much_are_errors() {
        let root = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&root.path().join("fifo"), Mode::S_IRUSR).unwrap();
        fs::write(root.path().join("long"), [b'x'; 11]).unwrap();
        let host = Host::at(root.path()).unwrap();
        assert_eq!(host.read("/fifo", 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(host.read("/", 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(host.read("/long", 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(host.read("/long", 11).unwrap().len(), 11);
    }
}

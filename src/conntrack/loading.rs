//! Loads of connection tracking that are under way, known to all helpers by a lock.
//!
//! Whoever asks for `nft-expr-ct` while another request is loading `nf_conntrack` finds it live and has nothing to
//! load; but its table has no size yet, and this requester would run on before it gets one. A table that was there
//! before all requests is nobody's to touch, so the two have to be told apart: by a lock that a helper holds from
//! before its load until the table is sized. The kernel lets go of it whatever becomes of the helper.
//!
//! Where `/run` is on a disk nobody is told: it may be frozen, and the request is not to wait for it.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

use crate::host::{Host, RUN};

/// Name of the file below [`RUN`].
const FILE: &str = "loading";
/// How long others may take to set a size. It takes them less than a millisecond, but of ten on a busy machine the last
/// waits for nine that wait for a processor.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a byte of the file stands for.
#[derive(Clone, Copy)]
enum Part {
    /// Shared: a load is under way.
    Load = 0,
    /// Exclusive: a size is being set.
    Size = 1,
}

/// A lock on one byte of the file, until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing it lets go of the lock")] File);

/// From here until the result is dropped, others know that a load is under way. `None` where they can't be told.
pub fn begin(host: &Host) -> Option<Lock> {
    let file = open(host, OFlag::O_RDWR | OFlag::O_CREAT).ok()?;
    lock(&file, libc::F_RDLCK, Part::Load).ok()?;
    Some(Lock(file))
}

/// Whether another helper's load is under way.
pub fn is_under_way(host: &Host) -> bool {
    let Ok(file) = open(host, OFlag::O_RDWR) else { return false };
    let mut asked = of(libc::F_WRLCK, Part::Load);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok() && asked.l_type != libc::F_UNLCK as libc::c_short
}

/// Waits until no other helper sets a size, and keeps others from it until the result is dropped. `None` if that takes
/// too long or can't be had: the same numbers come out, only the ratio of buckets may not.
pub fn alone(host: &Host) -> Option<Lock> {
    let file = open(host, OFlag::O_RDWR | OFlag::O_CREAT).ok()?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = lock(&file, libc::F_WRLCK, Part::Size) {
        if !matches!(error, Errno::EAGAIN | Errno::EACCES | Errno::EINTR) || Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Some(Lock(file))
}

fn open(host: &Host, flags: OFlag) -> io::Result<File> {
    if !host.has_run_in_memory() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let create = flags.contains(OFlag::O_CREAT).then_some(Mode::S_IRWXU);
    host.own_directory(RUN, create)?.open(FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

fn lock(file: &File, kind: i32, part: Part) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&of(kind, part))).map(drop)
}

fn of(kind: i32, part: Part) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: part as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        host_in("/dev/shm".as_ref())
    }

    fn host_in(directory: &std::path::Path) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir_in(directory).unwrap();
        std::fs::create_dir(root.path().join("run")).unwrap();
        let host = Host::at(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn a_load_is_known_for_as_long_as_it_lasts() {
        let (_root, host) = host();
        assert!(!is_under_way(&host));
        let first = begin(&host).unwrap();
        assert!(is_under_way(&host));
        let second = begin(&host).unwrap();
        drop(first);
        assert!(is_under_way(&host));
        // To ask is not to hold.
        assert!(is_under_way(&host));
        drop(second);
        assert!(!is_under_way(&host));
    }

    #[test]
    fn one_at_a_time_sets_a_size() {
        let (_root, host) = host();
        let lock = alone(&host).unwrap();
        assert!(!is_under_way(&host));
        assert!(alone(&host).is_none());
        drop(lock);
        assert!(alone(&host).is_some());
        let _load = begin(&host).unwrap();
        assert!(alone(&host).is_some());
    }

    #[test]
    fn without_a_place_for_it_there_is_no_lock() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path()).unwrap();
        assert!(begin(&host).is_none() && alone(&host).is_none() && !is_under_way(&host));
    }

    #[test]
    fn on_a_disk_nothing_is_touched() {
        // What the tests are built to lies on a disk.
        let (root, host) = host_in(std::env::current_exe().unwrap().parent().unwrap());
        assert!(!host.has_run_in_memory());
        assert!(begin(&host).is_none() && alone(&host).is_none() && !is_under_way(&host));
        assert!(!root.path().join("run/modprobe-guard").exists());
    }
}

//! Disks that are full, frozen or read-only: below `/run`, and below the log to which a request has the spool moved.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Fault;
use super::stage::{LOG, RUN, SPOOL, Stage};

const LOGS: &str = "/var/log/modprobe-guard";
/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`, include/uapi/linux/fs.h.
const FIFREEZE: libc::Ioctl = 0xc004_5877;
const FITHAW: libc::Ioctl = 0xc004_5878;

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::new("/run is full", |stage| {
            stage.mount("/run", "size=16k");
            fill(stage, "/run");
            stage.expected.spool = false;
        }),
        Fault::new("/run is full, and no /dev", |stage| {
            stage.without_dev();
            stage.mount("/run", "size=16k");
            fill(stage, "/run");
            stage.expected.spool = false;
        }),
        Fault::new("/run has no inodes left", |stage| {
            // The root itself takes one.
            stage.mount("/run", "nr_inodes=1");
            stage.expected.spool = false;
        }),
        Fault::new("/run has inodes for our directory alone", |stage| {
            stage.mount("/run", "nr_inodes=2");
            stage.expected.spool = false;
        }),
        Fault::new("/run has room for half a record", |stage| {
            stage.mount("/run", "size=4k");
            fs::create_dir(stage.path(RUN)).unwrap();
            // The last page is the spool's own; the end of a line that was cut is nobody's record.
            stage.file(SPOOL, &[&[b'\n'; 4000][..], b"{\"v\":1,\"cut"].concat());
            stage.look = Some(Box::new(|stage, ran| {
                let told = stage.told();
                super::look::expect("lines in syslog", &told.len(), &1)?;
                stage.ended(ran, if stage.is_blocked() { 1 } else { super::loader::STATUS })
            }));
        }),
        Fault::new("the log's disk is full", |stage| {
            stage.mount(LOGS, "size=16k,mode=750");
            fill(stage, LOGS);
            flushes(stage, true);
        }),
        Fault::new("the log's disk has no inodes left", |stage| {
            stage.mount(LOGS, "nr_inodes=1,mode=750");
            flushes(stage, true);
        }),
        Fault::new("the log's disk is read-only", |stage| {
            stage.mount(LOGS, "mode=750");
            stage.read_only(LOGS);
            flushes(stage, true);
        }),
        Fault::new("no place for the log", |stage| {
            fs::remove_dir_all(stage.path("/var")).unwrap();
            flushes(stage, true);
        }),
        Fault::new("the log is a directory", |stage| {
            fs::create_dir(stage.path(LOG)).unwrap();
            flushes(stage, true);
        }),
        Fault::new("the log's disk is frozen", |stage| {
            disk(stage, LOGS);
            fs::write(stage.path(LOG), "").unwrap();
            freeze(stage, LOGS);
            flushes(stage, false);
        }),
        Fault::new("the log's disk is frozen, and there is no log yet", |stage| {
            disk(stage, LOGS);
            freeze(stage, LOGS);
            flushes(stage, false);
        }),
        Fault::new("/run is a disk", |stage| {
            disk(stage, "/run");
        }),
        Fault::new("/run is a disk, and frozen", |stage| {
            disk(stage, "/run");
            freeze(stage, "/run");
            stage.expected.spool = false;
        }),
        Fault::new("/run is a disk with our files, and frozen", |stage| {
            disk(stage, "/run");
            fs::create_dir(stage.path(RUN)).unwrap();
            for name in ["audit.jsonl", "thinning", "flush", "loading"] {
                stage.file(&format!("{RUN}/{name}"), b"");
            }
            freeze(stage, "/run");
            stage.expected.spool = false;
        }),
        Fault::new("/run is a disk, and full", |stage| {
            disk(stage, "/run");
            fill(stage, "/run");
            stage.expected.spool = false;
        }),
    ]
}

/// Fills the file system at `path` with a file.
fn fill(stage: &Stage, path: &str) {
    use std::io::Write;
    let mut file = fs::File::create(stage.path(path).join("filler")).unwrap();
    for size in [65536, 4096, 512, 1] {
        while file.write(&vec![b'x'; size]).is_ok_and(|written| written > 0) {}
    }
}

/// Mounts a disk at `path`.
fn disk(stage: &mut Stage, path: &str) {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(2 << 20).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(image.path()));
    run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(stage.path(path)));
    fs::remove_dir(stage.path(path).join("lost+found")).unwrap();
    fs::set_permissions(stage.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    stage.kept.push(Box::new(image));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Nothing is written to the disk at `path` until the stage ends: who does waits.
fn freeze(stage: &mut Stage, path: &str) {
    struct Frozen(fs::File);
    impl Drop for Frozen {
        fn drop(&mut self) {
            // SAFETY: a system call on a descriptor of ours, without an argument.
            unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW, 0) };
        }
    }
    let directory = fs::File::open(stage.path(path)).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ioctl(directory.as_raw_fd(), FIFREEZE, 0) }, 0, "{}", std::io::Error::last_os_error());
    // Before what it lies on.
    stage.kept.insert(0, Box::new(Frozen(directory)));
}

/// The request has the spool moved to the log, by a process that nobody waits for but we here, if it `ends`.
fn flushes(stage: &mut Stage, ends: bool) {
    fs::create_dir(stage.path(RUN)).unwrap();
    fs::set_permissions(stage.path(RUN), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let lock = stage.path(RUN).join("flush");
    fs::File::create(&lock).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    stage.look = Some(Box::new(move |stage, ran| {
        let began = fs::metadata(&lock).unwrap().modified().unwrap().elapsed().is_ok_and(|age| age.as_secs() < 1800);
        super::look::expect("a flush began", &began, &true)?;
        if ends {
            fs::File::open(&lock).unwrap().lock().unwrap();
        } else {
            while !stage.path(RUN).join("audit.jsonl.flushing").exists() && stage.path(SPOOL).exists() {
                std::thread::yield_now();
            }
        }
        stage.as_expected(ran)
    }));
}

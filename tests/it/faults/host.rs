//! What every program expects of a host: descriptors, `/dev`, `/proc`, `/sys`, a root that can be written, a name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sched::{CloneFlags, unshare};

use super::Fault;
use super::stage::{RUN, Stage};

pub fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::new("nothing", |_| {}),
        Fault::new("no /dev", Stage::without_dev),
        Fault::new("no /proc", without_proc),
        Fault::new("no /sys", without_sys),
        Fault::new("no /dev, /proc, /sys", |stage| {
            stage.without_dev();
            without_proc(stage);
            without_sys(stage);
        }),
        Fault::new("no /dev, /proc, /sys, and no descriptors", |stage| {
            stage.without_dev();
            without_proc(stage);
            without_sys(stage);
            close(stage, 0b111);
        }),
        Fault::new("the root is read-only", |stage| {
            stage.mount("/run", "");
            stage.read_only("/");
        }),
        Fault::new("everything is read-only", |stage| {
            stage.read_only("/");
            stage.expected.spool = false;
        }),
        Fault::new("everything is read-only, and no /dev", |stage| {
            stage.without_dev();
            stage.read_only("/");
            stage.expected.spool = false;
        }),
        Fault::new("no host name", |stage| {
            stage.prepare = Some(Box::new(|| {
                unshare(CloneFlags::CLONE_NEWUTS)?;
                // SAFETY: a system call with no bytes.
                nix::errno::Errno::result(unsafe { libc::sethostname(c"".as_ptr(), 0) })?;
                Ok(())
            }));
        }),
        Fault::new("no /run", |stage| {
            fs::remove_dir(stage.path("/run")).unwrap();
            stage.expected.spool = false;
        }),
        Fault::new("/run is a file", |stage| {
            fs::remove_dir(stage.path("/run")).unwrap();
            stage.file("/run", b"");
            stage.expected.spool = false;
        }),
        Fault::new("our place in /run is a file", |stage| {
            stage.file(RUN, b"");
            stage.expected.spool = false;
        }),
        Fault::new("our place in /run is a link", |stage| {
            fs::create_dir(stage.path("/tmp/elsewhere")).unwrap();
            symlink("/tmp/elsewhere", stage.path(RUN)).unwrap();
            stage.expected.spool = false;
        }),
        Fault::new("our place in /run is somebody else's", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            std::os::unix::fs::chown(stage.path(RUN), Some(65123), None).unwrap();
            stage.expected.spool = false;
        }),
        Fault::new("all may write to our place in /run", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            fs::set_permissions(stage.path(RUN), fs::Permissions::from_mode(0o777)).unwrap();
            stage.expected.spool = false;
        }),
        Fault::new("our files in /run are directories", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            for name in ["audit.jsonl", "thinning", "flush", "loading"] {
                fs::create_dir(stage.path(RUN).join(name)).unwrap();
            }
            stage.expected.spool = false;
        }),
        Fault::new("our files in /run are nonsense", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            for name in ["thinning", "flush", "loading"] {
                stage.file(&format!("{RUN}/{name}"), &[0xff; 5000]);
            }
        }),
        Fault::new("our files in /run are locked", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            for name in ["thinning", "flush", "loading"] {
                let file = fs::File::create(stage.path(RUN).join(name)).unwrap();
                file.lock().unwrap();
                stage.kept.push(Box::new(file));
            }
        }),
        Fault::new("the spool is locked", |stage| {
            fs::create_dir(stage.path(RUN)).unwrap();
            let file = fs::File::create(stage.path(RUN).join("audit.jsonl")).unwrap();
            file.lock().unwrap();
            stage.kept.push(Box::new(file));
            stage.expected.spool = false;
        }),
        Fault::new("the working directory is gone", |stage| {
            fs::create_dir(stage.path("/kernel/gone")).unwrap();
            stage.prepare = Some(Box::new(|| {
                nix::unistd::chdir("/kernel/gone")?;
                nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, "/kernel/gone", nix::unistd::UnlinkatFlags::RemoveDir)?;
                Ok(())
            }));
        }),
        Fault::new("every signal is ignored and blocked", |stage| {
            stage.prepare = Some(Box::new(|| {
                // SAFETY: system calls on our own signal state.
                unsafe {
                    (1..=64).for_each(|signal| {
                        libc::signal(signal, libc::SIG_IGN);
                    });
                    let mut all: libc::sigset_t = std::mem::zeroed();
                    libc::sigfillset(&mut all);
                    libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
                }
                Ok(())
            }));
        }),
    ];
    faults.extend(
        (1..8)
            .map(|closed| Fault::new(format!("descriptors {:03b} closed", closed), move |stage| close(stage, closed))),
    );
    faults
}

/// Closes the standard descriptors whose bits are set.
fn close(stage: &mut Stage, closed: i32) {
    stage.prepare = Some(Box::new(move || {
        for descriptor in (0..3).filter(|bit| closed >> bit & 1 == 1) {
            // SAFETY: in the child, just before exec.
            unsafe { libc::close(descriptor) };
        }
        Ok(())
    }));
}

fn without_proc(stage: &mut Stage) {
    stage.unmount("/proc/sys/net");
    stage.unmount("/proc");
    stage.expected.sized = false;
}

fn without_sys(stage: &mut Stage) {
    stage.unmount("/sys/module");
    fs::remove_dir_all(stage.path("/sys")).unwrap();
    stage.expected.sized = false;
}

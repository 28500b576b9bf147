//! A modprobe that is not there, can't be run, is ourselves, hangs or dies.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::stage::{HELPER, Stage};
use super::{Fault, loader};

const MODPROBE: &str = "/sbin/modprobe";
/// Where the next one is looked for.
const KMOD: &str = "/bin/kmod";

/// A way in which there is no modprobe to run.
type Break = (&'static str, fn(&Stage));

const NOT_TO_RUN: &[Break] = &[
    ("missing", |_| {}),
    ("a directory", |stage| fs::create_dir(stage.path(MODPROBE)).unwrap()),
    ("not executable", |stage| stage.file(MODPROBE, &loader::program())),
    ("empty", |stage| stage.program(MODPROBE, b"")),
    ("text", |stage| stage.program(MODPROBE, b"no program\n")),
    ("cut", |stage| stage.program(MODPROBE, &loader::program()[..70])),
    ("of another machine", |stage| {
        let mut program = loader::program();
        program[18] = 0xfe;
        stage.program(MODPROBE, &program);
    }),
    ("a script of nobody's", |stage| stage.program(MODPROBE, b"#!/nowhere/sh\n")),
    ("a FIFO", |stage| mkfifo(&stage.path(MODPROBE), Mode::S_IRWXU).unwrap()),
    ("a device", |stage| symlink("/dev/null", stage.path(MODPROBE)).unwrap()),
    ("a link that leads nowhere", |stage| symlink("/nowhere", stage.path(MODPROBE)).unwrap()),
    ("a link to us", |stage| symlink(HELPER, stage.path(MODPROBE)).unwrap()),
    ("ourselves under another name", |stage| {
        stage.put_program(MODPROBE, Path::new(env!("CARGO_BIN_EXE_modprobe-guard")));
    }),
    ("a copy of us", |stage| stage.put_program(MODPROBE, copy())),
];

/// What it does, and the status that comes of it.
const SCRIPTS: &[(&str, &str, i32)] = &[
    ("exits 77", "exit 77", 77),
    ("exits 0", "exit 0", 0),
    ("exits 255", "exit 255", 255),
    ("is killed", "kill -9 $$", 137),
    ("crashes", "kill -11 $$", 139),
    ("leaves somebody behind", "read line </go & exit 3", 3),
    ("writes a lot", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxx; done | (read line; exit 4)", 4),
];

pub fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, breaks) in NOT_TO_RUN {
        faults.push(Fault::new(format!("modprobe: {name}"), move |stage| {
            take_away(stage);
            breaks(stage);
            stage.expected.delegate = (1, false);
            stage.expected.sized = false;
            if !stage.is_blocked() {
                stage.expected.says = "none could be run";
            }
        }));
        faults.push(Fault::new(format!("modprobe: {name}, but there is kmod"), move |stage| {
            take_away(stage);
            breaks(stage);
            stage.program(KMOD, &loader::program());
            if !stage.is_blocked() {
                stage.expected.says = "/sbin/modprobe: ";
            }
        }));
    }
    for (name, script, status) in SCRIPTS {
        faults.push(Fault::new(format!("modprobe {name}"), move |stage| {
            runs(stage, script);
            let go = fs::File::options().read(true).write(true).open(stage.path("/go")).unwrap();
            stage.kept.push(Box::new(go));
            stage.expected.delegate = (*status, false);
        }));
    }
    faults.extend([
        Fault::new("modprobe: a wrapper around us", |stage| {
            runs(stage, &format!("exec {HELPER} \"$@\""));
            stage.program(KMOD, &loader::program());
            if !stage.is_blocked() {
                stage.expected.says = "leads back to modprobe-guard";
            }
        }),
        Fault::new("modprobe: a wrapper around us that forgets who it is", |stage| {
            runs(stage, &format!("unset MODPROBE_GUARD; {HELPER} \"$@\"; exit 1"));
            stage.program(KMOD, b"#!/bin/sh\nexit 1\n");
            stage.expected.delegate = (1, false);
            stage.expected.sized = false;
            // Each of us in the loop has a record.
            stage.look = Some(Box::new(|stage, ran| stage.ended(ran, 1)));
        }),
        Fault::new("modprobe hangs, and is killed", |stage| {
            hangs(stage, |helper| {
                let children = fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
                let delegate: i32 = children.split_whitespace().last().unwrap().parse().unwrap();
                kill(Pid::from_raw(delegate), Signal::SIGKILL).unwrap();
            });
            stage.expected.delegate = (137, false);
        }),
        Fault::new("modprobe hangs, and we are to end", |stage| {
            hangs(stage, |helper| kill(Pid::from_raw(helper), Signal::SIGTERM).unwrap());
            stage.expected.delegate = (143, false);
        }),
        Fault::new("modprobe stops, and is killed", |stage| {
            hangs(stage, |helper| {
                let children = fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
                let delegate: i32 = children.split_whitespace().last().unwrap().parse().unwrap();
                kill(Pid::from_raw(delegate), Signal::SIGSTOP).unwrap();
                kill(Pid::from_raw(delegate), Signal::SIGKILL).unwrap();
            });
            stage.expected.delegate = (137, false);
        }),
    ]);
    faults
}

fn take_away(stage: &Stage) {
    stage.unmount(MODPROBE);
    fs::remove_file(stage.path(MODPROBE)).unwrap();
}

/// Puts a shell script in the place of modprobe.
fn runs(stage: &mut Stage, script: &str) {
    take_away(stage);
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    stage.put_program("/bin/sh", Path::new(busybox.expect("busybox-static is needed")));
    stage.program(MODPROBE, format!("#!/bin/sh\n{script}\n").as_bytes());
    mkfifo(&stage.path("/go"), Mode::S_IRWXU).unwrap();
}

/// Puts something there that waits for ever; once it does, `then` gets the helper's process id.
fn hangs(stage: &mut Stage, then: fn(i32)) {
    runs(stage, "echo >/kernel/waits; read line </go");
    mkfifo(&stage.path("/kernel/waits"), Mode::S_IRWXU).unwrap();
    let go = fs::File::options().read(true).write(true).open(stage.path("/go")).unwrap();
    stage.kept.push(Box::new(go));
    if !stage.is_blocked() {
        stage.meanwhile = Some(Box::new(move |stage, helper| {
            assert_eq!(fs::read(stage.path("/kernel/waits")).unwrap(), b"\n");
            then(helper);
        }));
    }
}

fn copy() -> &'static Path {
    static COPY: std::sync::OnceLock<(tempfile::TempDir, std::path::PathBuf)> = std::sync::OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy");
        fs::copy(env!("CARGO_BIN_EXE_modprobe-guard"), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (directory, path)
    });
    path
}

//! The policy in force, and the files that it was made of, damaged in every way; the other one is whole, or neither is.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::Fault;
use super::stage::{IN_FORCE, POLICY, RULES, Stage, in_force};

/// A way to break a file.
type Break = (&'static str, fn(&Stage, &str));

/// What makes any file unfit to be a policy.
const ANY: &[Break] = &[
    ("foreign-owned", |stage, path| chown(stage.path(path), Some(65123), Some(65123)).unwrap()),
    ("world-writable", |stage, path| {
        fs::set_permissions(stage.path(path), fs::Permissions::from_mode(0o666)).unwrap();
    }),
    ("a FIFO", |stage, path| {
        fs::remove_file(stage.path(path)).unwrap();
        mkfifo(&stage.path(path), Mode::from_bits_truncate(0o600)).unwrap();
    }),
    ("a directory", |stage, path| {
        fs::remove_file(stage.path(path)).unwrap();
        fs::create_dir(stage.path(path)).unwrap();
    }),
    ("10 MB of nonsense", |stage, path| stage.file(path, &vec![b'x'; 10_000_000])),
    ("10 MB of nothing", |stage, path| {
        stage.file(path, b"");
        fs::File::options().write(true).open(stage.path(path)).unwrap().set_len(10_000_000).unwrap();
    }),
    ("a link that leads nowhere", |stage, path| {
        fs::remove_file(stage.path(path)).unwrap();
        symlink("/nowhere", stage.path(path)).unwrap();
    }),
    ("a link to itself", |stage, path| {
        fs::remove_file(stage.path(path)).unwrap();
        symlink(stage.path(path).file_name().unwrap(), stage.path(path)).unwrap();
    }),
    ("a device", |stage, path| {
        fs::remove_file(stage.path(path)).unwrap();
        symlink("/dev/null", stage.path(path)).unwrap();
    }),
    ("nonsense", |stage, path| stage.file(path, b"and nonsense \xff\0")),
];

pub fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, breaks) in ANY {
        faults.push(Fault::new(format!("policy in force: {name}"), move |stage| {
            breaks(stage, IN_FORCE);
            stage.expected.says = "the files decide";
        }));
        faults.push(Fault::new(format!("policy file: {name}"), move |stage| breaks(stage, POLICY)));
        faults.push(Fault::new(format!("policy file alone: {name}"), move |stage| {
            fs::remove_file(stage.path(IN_FORCE)).unwrap();
            breaks(stage, POLICY);
            by_default(stage);
        }));
        faults.push(Fault::new(format!("policy in force and file: {name}"), move |stage| {
            breaks(stage, IN_FORCE);
            breaks(stage, POLICY);
            by_default(stage);
        }));
    }
    let bytes = in_force();
    for length in (0..bytes.len()).step_by(16) {
        faults.push(Fault::new(format!("policy in force: cut at {length}"), move |stage| {
            stage.file(IN_FORCE, &bytes[..length]);
            stage.expected.says = "policy.bin: is damaged";
        }));
    }
    for at in (0..bytes.len()).step_by(16) {
        faults.push(Fault::new(format!("policy in force: another byte at {at}"), move |stage| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x10;
            stage.file(IN_FORCE, &bytes);
            stage.expected.says = "policy.bin: is ";
        }));
    }
    faults.extend([
        Fault::new("policy in force: missing", |stage| {
            fs::remove_file(stage.path(IN_FORCE)).unwrap();
            stage.expected.says = "no policy is in force";
        }),
        Fault::new("policy in force: of another version", |stage| {
            let mut bytes = in_force().to_vec();
            bytes[8] = 200;
            stage.file(IN_FORCE, &bytes);
            stage.expected.says = "policy.bin: is of another version: 200";
        }),
        Fault::new("policy in force: something behind it", |stage| {
            stage.file(IN_FORCE, &[in_force(), b"x"].concat());
            stage.expected.says = "policy.bin: is damaged";
        }),
        Fault::new("policy file: missing", |stage| fs::remove_file(stage.path(POLICY)).unwrap()),
        Fault::new("no policy at all", |stage| {
            fs::remove_dir_all(stage.path("/etc/modprobe-guard")).unwrap();
            stage.expected.rules = false;
        }),
        Fault::new("all may write where policies are, and none is in force", |stage| {
            fs::remove_file(stage.path(IN_FORCE)).unwrap();
            fs::set_permissions(stage.path("/etc/modprobe-guard"), fs::Permissions::from_mode(0o777)).unwrap();
            by_default(stage);
        }),
        Fault::new("policy.d: a FIFO, a directory and 10 MB", |stage| {
            fs::remove_file(stage.path(IN_FORCE)).unwrap();
            fs::create_dir_all(stage.path("/etc/modprobe-guard/policy.d/10.toml")).unwrap();
            mkfifo(&stage.path("/etc/modprobe-guard/policy.d/20.toml"), Mode::from_bits_truncate(0o600)).unwrap();
            stage.file("/etc/modprobe-guard/policy.d/30.toml", &vec![b'#'; 10_000_000]);
            by_default(stage);
        }),
    ]);
    // A file that is cut may be a policy too: what it says decides. Only whole lines are one.
    for length in (0..RULES.len()).step_by(16) {
        faults.push(Fault::new(format!("policy file alone: cut at {length}"), move |stage| {
            fs::remove_file(stage.path(IN_FORCE)).unwrap();
            stage.file(POLICY, &RULES.as_bytes()[..length]);
            let source = modprobe_guard::policy::Source::new(POLICY, RULES.as_bytes()[..length].to_vec());
            match modprobe_guard::policy::parse(&[source]) {
                Err(_) => by_default(stage),
                Ok(policy) => {
                    let has = |id: &str| policy.rules.iter().any(|rule| rule.id == id);
                    (stage.expected.rules, stage.expected.sizes) = (has("no-b"), has("size"));
                }
            }
        }));
    }
    faults
}

fn by_default(stage: &mut Stage) {
    stage.expected.rules = false;
    stage.expected.says = "the built-in default decides";
}

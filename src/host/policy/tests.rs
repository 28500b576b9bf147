use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::policy::{applied::behind, applied::encode};

const BIN: &str = "etc/modprobe-guard/policy.bin";

/// A root with files of mode 0644 in directories of mode 0755.
struct Root(tempfile::TempDir);

impl Root {
    fn with(files: &[(&str, &str)]) -> Root {
        let root = Root(tempfile::tempdir().unwrap());
        for (path, text) in files {
            root.write(path, text.as_bytes());
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.set_modes();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Whatever the umask of who runs the tests.
    fn set_modes(&self) {
        for path in ["etc", "usr/lib"]
            .iter()
            .flat_map(|top| ["", "/policy.d"].map(|rest| format!("{top}/modprobe-guard{rest}")))
        {
            if self.path(&path).is_dir() {
                self.chmod(&path, 0o755);
            }
        }
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn host(&self) -> Host {
        Host::at(self.0.path()).unwrap()
    }

    /// Findings without the root's own path.
    fn findings(&self) -> Vec<String> {
        let findings = self.host().policy_sources().map(|sources| panic!("{sources:?}")).unwrap_err();
        findings.iter().map(|finding| self.without_root(&finding.to_string())).collect()
    }

    fn failures(&self) -> Vec<String> {
        self.host().policy_in_force().failures.iter().map(|failure| self.without_root(failure)).collect()
    }

    fn without_root(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "")
    }
}

fn rule(id: &str) -> String {
    format!("[[rule]]\nid = \"{id}\"\nmodules = [\"x\"]\naction = \"block\"\n")
}

fn ids(policy: &Policy) -> Vec<&str> {
    policy.rules.iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn sources_come_in_the_order_in_which_they_count() {
    let root = Root::with(&[
        ("usr/lib/modprobe-guard/policy.toml", "hidden by the one in /etc"),
        ("usr/lib/modprobe-guard/policy.d/20-b.toml", "hidden"),
        ("usr/lib/modprobe-guard/policy.d/30-c.toml", "vendor"),
        ("etc/modprobe-guard/policy.d/20-b.toml", "own"),
        ("etc/modprobe-guard/policy.d/10-a.toml", ""),
        ("etc/modprobe-guard/policy.d/10-a.toml~", "a backup"),
        ("etc/modprobe-guard/policy.d/.#10-a.toml", "a lock"),
        ("etc/modprobe-guard/policy.toml", "main"),
    ]);
    let sources = root.host().policy_sources().unwrap();
    let seen: Vec<_> = sources.iter().map(|source| (source.path.as_str(), source.bytes.as_slice())).collect();
    let expected: &[(&str, &[u8])] = &[
        ("/etc/modprobe-guard/policy.d/10-a.toml", b""),
        ("/etc/modprobe-guard/policy.d/20-b.toml", b"own"),
        ("/usr/lib/modprobe-guard/policy.d/30-c.toml", b"vendor"),
        ("/etc/modprobe-guard/policy.toml", b"main"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(sources[0].shown, root.path("etc/modprobe-guard/policy.d/10-a.toml").to_str().unwrap());
    fs::remove_file(root.path("etc/modprobe-guard/policy.toml")).unwrap();
    assert_eq!(root.host().policy_sources().unwrap()[3].bytes, b"hidden by the one in /etc");
    fs::remove_file(root.path("usr/lib/modprobe-guard/policy.toml")).unwrap();
    assert_eq!(root.host().policy_sources().unwrap()[3], Source::built_in());
}

#[test]
fn files_that_others_could_have_written_are_refused() {
    let root = Root::with(&[("etc/modprobe-guard/policy.d/a.toml", ""), ("etc/modprobe-guard/policy.toml", "")]);
    root.chmod("etc/modprobe-guard/policy.toml", 0o646);
    root.chmod("etc/modprobe-guard/policy.d/a.toml", 0o664);
    root.chmod("etc/modprobe-guard/policy.d", 0o777);
    root.chmod("etc/modprobe-guard", 0o775);
    let found = |path: &str, mode| {
        format!("/etc/modprobe-guard{path}: is writable by group or others (mode {mode}); take that away: `chmod go-w`")
    };
    let expected = [
        found("", "0775"),
        found("/policy.d", "0777"),
        found("/policy.d/a.toml", "0664"),
        found("/policy.toml", "0646"),
    ];
    assert_eq!(root.findings(), expected);
}

#[test]
fn owner_and_mode_are_judged() {
    let foreign = Err(Refusal::Unfit(
        "belongs to user 7, who could change the policy".into(),
        "make it root's: `chown root:root`".into(),
    ));
    for (owner, mode, owner_of_root, judged) in [
        (0, 0o100_644, None, Ok(())),
        (0, 0o100_600, Some(7), Ok(())),
        (7, 0o100_644, Some(7), Ok(())),
        (7, 0o100_644, Some(0), foreign.clone()),
        (7, 0o100_644, None, foreign),
    ] {
        assert_eq!(judge(owner, mode, || owner_of_root), judged, "{owner} {mode:o} {owner_of_root:?}");
    }
    for mode in [0o100_664, 0o100_646, 0o100_622] {
        assert!(judge(0, mode, || None).is_err(), "{mode:o}");
    }
}

#[test]
fn what_is_no_policy_file_is_told() {
    let root = Root::with(&[("etc/modprobe-guard/policy.d/b.toml", "")]);
    fs::create_dir(root.path("etc/modprobe-guard/policy.toml")).unwrap();
    root.chmod("etc/modprobe-guard/policy.toml", 0o755);
    nix::unistd::mkfifo(&root.path("etc/modprobe-guard/policy.d/a.toml"), Mode::S_IRUSR).unwrap();
    symlink("/nowhere", root.path("etc/modprobe-guard/policy.d/c.toml")).unwrap();
    root.write("etc/modprobe-guard/policy.d/d.toml", &vec![b'#'; MAX_SOURCE + 1]);
    root.write("etc/modprobe-guard/policy.d/e.toml", &vec![b'#'; MAX_SOURCE]);
    root.write("usr/lib/modprobe-guard/policy.d", b"");
    let plain = "cannot read: is no regular file; put a plain file there, an empty one in /etc hides one of /usr/lib";
    let expected = [
        "/usr/lib/modprobe-guard/policy.d: cannot read: Not a directory (os error 20); put a directory there, or nothing".into(),
        format!("/etc/modprobe-guard/policy.d/a.toml: {plain}"),
        "/etc/modprobe-guard/policy.d/c.toml: is a link that leads nowhere; mend or remove it".into(),
        "/etc/modprobe-guard/policy.d/d.toml: is longer than 1048576 bytes; make the file shorter".into(),
        format!("/etc/modprobe-guard/policy.toml: {plain}"),
    ];
    assert_eq!(root.findings(), expected);
}

#[test]
fn each_step_down_is_on_record() {
    let not_applied = "/etc/modprobe-guard/policy.bin: no policy is in force; the files decide until `guard apply`";
    // No files at all: a plain setup.
    let root = Root::with(&[]);
    let in_force = root.host().policy_in_force();
    assert_eq!(
        (in_force.origin, in_force.failures, ids(&in_force.policy)),
        (Origin::BuiltIn, vec![], vec!["conntrack-size"])
    );
    // Files that were not applied.
    root.write("etc/modprobe-guard/policy.toml", rule("files").as_bytes());
    let in_force = root.host().policy_in_force();
    assert_eq!((in_force.origin, ids(&in_force.policy)), (Origin::Files, vec!["files"]));
    assert_eq!(in_force.policy.rules[0].source, "/etc/modprobe-guard/policy.toml:1");
    assert_eq!(root.failures(), [not_applied]);
    // Applied; the files move on.
    let sources = root.host().policy_sources().unwrap();
    let bytes = encode(&Applied::new(parse(&sources).unwrap(), &sources)).unwrap();
    root.host().put_in_force(&bytes).unwrap();
    root.write("etc/modprobe-guard/policy.toml", b"nonsense");
    let in_force = root.host().policy_in_force();
    assert_eq!((in_force.origin, in_force.failures, ids(&in_force.policy)), (Origin::Applied, vec![], vec!["files"]));
    let now = root.host().policy_sources().unwrap();
    assert_eq!(behind(&in_force.sources, &now).unwrap(), "/etc/modprobe-guard/policy.toml has changed");
    // Writable by others, though sound.
    root.chmod(BIN, 0o666);
    let in_force = root.host().policy_in_force();
    assert_eq!((in_force.origin, ids(&in_force.policy)), (Origin::BuiltIn, vec!["conntrack-size"]));
    let failures = root.failures();
    assert_eq!(
        failures[0],
        "/etc/modprobe-guard/policy.bin: is writable by group or others (mode 0666); take that away: `chmod go-w`; the files decide"
    );
    assert!(failures[1].starts_with("/etc/modprobe-guard/policy.toml:1:9: key with no value"), "{failures:?}");
    assert!(failures[1].ends_with("; the built-in default decides"), "{failures:?}");
    // Damaged, and the files are sound again.
    root.write(BIN, &bytes[..bytes.len() - 1]);
    root.write("etc/modprobe-guard/policy.toml", rule("again").as_bytes());
    assert_eq!(ids(&root.host().policy_in_force().policy), ["again"]);
    let damaged = format!("is damaged: it holds {} bytes instead of {}", bytes.len() - 25, bytes.len() - 24);
    assert_eq!(
        root.failures(),
        [format!("/etc/modprobe-guard/policy.bin: {damaged}; the files decide until `guard apply`")]
    );
    // Two things wrong with the files.
    fs::remove_file(root.path(BIN)).unwrap();
    root.write("etc/modprobe-guard/policy.toml", b"a = 1\nb = 1");
    let failures = root.failures();
    assert_eq!(failures[0], not_applied);
    assert!(failures[1].ends_with("(and 1 more, see `guard check`); the built-in default decides"), "{failures:?}");
}

#[test]
fn a_policy_comes_into_force_whole_or_not_at_all() {
    let root = Root::with(&[("etc/x", "")]);
    let entries = || {
        let names = fs::read_dir(root.path("etc/modprobe-guard")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    // The directory need not be there.
    root.host().put_in_force(b"one").unwrap();
    root.host().put_in_force(b"two").unwrap();
    assert_eq!((fs::read(root.path(BIN)).unwrap(), entries()), (b"two".to_vec(), vec!["policy.bin".to_owned()]));
    assert_eq!(fs::metadata(root.path(BIN)).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(root.host().put_in_force(&vec![0; MAX_IN_FORCE + 1]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(fs::read(root.path(BIN)).unwrap(), b"two");
    // What can't be replaced stays, and no temporary file does.
    fs::remove_file(root.path(BIN)).unwrap();
    fs::create_dir(root.path(BIN)).unwrap();
    assert_eq!(root.host().put_in_force(b"three").unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(entries(), ["policy.bin"]);
}

#[test]
fn a_file_that_somebody_names_is_taken_as_it_is() {
    let root = Root::with(&[("p.toml", "x")]);
    root.chmod("p.toml", 0o666);
    let path = root.path("p.toml");
    assert_eq!(Host::policy_file(&path).unwrap(), Source::new(path.to_str().unwrap(), b"x".to_vec()));
    for (path, kind, found) in [
        (
            "gone",
            io::ErrorKind::NotFound,
            "/gone: cannot read: No such file or directory (os error 2); name a file of at most 1 MiB",
        ),
        ("", io::ErrorKind::InvalidInput, "/: cannot read: is no regular file; name a file of at most 1 MiB"),
    ] {
        let error = Host::policy_file(&root.path(path)).unwrap_err();
        assert_eq!((error.kind(), root.without_root(&error.to_string()).as_str()), (kind, found));
    }
}

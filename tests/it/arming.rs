//! `guard enable`, `disable` and `apply` on hosts below a directory, and where nobody can read what they say.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HELPER: &str = "/usr/sbin/modprobe-guard";

/// A host that could be armed; not this machine, so no helper is run.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str, mode: u32| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put("proc/sys/kernel/modprobe", "/sbin/modprobe\n", 0o644);
    put("proc/sys/kernel/osrelease", "6.1.0\n", 0o644);
    put("usr/sbin/modprobe-guard", "", 0o755);
    fs::copy("/bin/true", root.path().join("usr/sbin/real-modprobe")).unwrap();
    put("etc/modprobe-guard/policy.toml", "version = 1\n[defaults]\ndelegate = \"/usr/sbin/real-modprobe\"\n", 0o644);
    fs::create_dir(root.path().join("run")).unwrap();
    root
}

fn guard(root: &Path, arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
    command.arg("--root").arg(root).args(arguments).env_clear().stdin(Stdio::null());
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn helper(root: &Path) -> String {
    fs::read_to_string(root.join("proc/sys/kernel/modprobe")).unwrap().lines().next().unwrap_or_default().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn arming_and_disarming_need_no_reader() {
    let root = host();
    for full in [true, false] {
        let out = || -> Stdio {
            if full {
                return OpenOptions::new().write(true).open("/dev/full").unwrap().into();
            }
            // A pipe whose reader is gone.
            std::io::pipe().unwrap().1.into()
        };
        let output = guard(root.path(), &["enable"], out());
        assert_eq!((output.status.code(), helper(root.path()).as_str()), (Some(0), HELPER), "{}", said(&output));
        let output = guard(root.path(), &["disable"], out());
        assert_eq!(
            (output.status.code(), helper(root.path()).as_str()),
            (Some(0), "/sbin/modprobe"),
            "{}",
            said(&output)
        );
    }
    // Who only tells does not break either.
    let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(guard(root.path(), &["status"], full.into()).status.code(), Some(1));
}

#[test]
fn where_the_kernel_runs_one_program_for_all_only_force_arms() {
    let root = host();
    fs::create_dir(root.path().join("boot")).unwrap();
    for (path, said_of_it) in [("/sbin/usermode-helper", "install.sh --divert"), ("", "runs no helper")] {
        let config = format!("CONFIG_STATIC_USERMODEHELPER=y\nCONFIG_STATIC_USERMODEHELPER_PATH=\"{path}\"\n");
        fs::write(root.path().join("boot/config-6.1.0"), config).unwrap();
        let output = guard(root.path(), &["enable"], Stdio::null());
        assert_eq!((output.status.code(), helper(root.path()).as_str()), (Some(1), "/sbin/modprobe"));
        assert!(said(&output).contains(said_of_it), "{}", said(&output));
        let output = guard(root.path(), &["enable", "--force"], Stdio::null());
        assert_eq!((output.status.code(), helper(root.path()).as_str()), (Some(0), HELPER), "{}", said(&output));
        assert_eq!(guard(root.path(), &["disable"], Stdio::null()).status.code(), Some(0));
    }
    // One that is us already, or a kernel without such a thing.
    for config in [
        "CONFIG_STATIC_USERMODEHELPER=y\nCONFIG_STATIC_USERMODEHELPER_PATH=\"/usr/sbin/modprobe-guard\"\n",
        "CONFIG_A=y\n",
    ] {
        fs::write(root.path().join("boot/config-6.1.0"), config).unwrap();
        assert_eq!(guard(root.path(), &["enable"], Stdio::null()).status.code(), Some(0));
        assert_eq!(guard(root.path(), &["disable"], Stdio::null()).status.code(), Some(0));
    }
}

#[test]
fn where_lkrg_kills_helpers_only_force_arms() {
    let root = host();
    fs::create_dir(root.path().join("proc/sys/lkrg")).unwrap();
    let enforce = root.path().join("proc/sys/lkrg/umh_enforce");
    fs::write(&enforce, "1\n").unwrap();
    let output = guard(root.path(), &["enable"], Stdio::null());
    assert_eq!((output.status.code(), helper(root.path()).as_str()), (Some(1), "/sbin/modprobe"));
    assert!(said(&output).contains("set lkrg.umh_enforce to 0"), "{}", said(&output));
    fs::write(&enforce, "0\n").unwrap();
    assert_eq!(guard(root.path(), &["enable"], Stdio::null()).status.code(), Some(0));
    fs::write(&enforce, "2\n").unwrap();
    assert_eq!(guard(root.path(), &["status"], Stdio::null()).status.code(), Some(1));
    assert_eq!(guard(root.path(), &["disable"], Stdio::null()).status.code(), Some(0));
    assert_eq!(guard(root.path(), &["enable", "--force"], Stdio::null()).status.code(), Some(0));
    assert_eq!(helper(root.path()), HELPER);
}

#[test]
fn apply_mends_what_others_may_write_to() {
    let root = host();
    assert_eq!(guard(root.path(), &["apply"], Stdio::null()).status.code(), Some(0));
    let applied = root.path().join("etc/modprobe-guard/policy.bin");
    let mode = || fs::metadata(&applied).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(&applied, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(guard(root.path(), &["apply"], Stdio::null()).status.code(), Some(0));
    assert_eq!(mode(), 0o644);
}

#[test]
fn another_policy_is_not_put_in_force_by_mistake() {
    let root = host();
    let help = |verb: &str| {
        let output = guard(root.path(), &[verb, "--help"], Stdio::piped());
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for verb in ["apply", "enable", "disable", "status", "log"] {
        for arguments in [["--policy", "/x.toml", verb], [verb, "--policy", "/x.toml"]] {
            let output = guard(root.path(), &arguments, Stdio::null());
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(said(&output).contains("--policy"), "{}", said(&output));
        }
        assert!(!help(verb).contains("--policy"), "{}", help(verb));
    }
    for verb in ["check", "test"] {
        assert!(help(verb).contains("--policy <FILE>"), "{}", help(verb));
        for arguments in [["--policy", "/no/file", verb, "/no/test"], [verb, "/no/test", "--policy", "/no/file"]] {
            let output = guard(root.path(), &arguments, Stdio::null());
            assert!(said(&output).contains("cannot read"), "{}", said(&output));
        }
    }
}

#[test]
fn rules_that_ask_who_are_refused_where_one_answer_serves_all() {
    let root = host();
    let policy = root.path().join("etc/modprobe-guard/policy.toml");
    let defaults = fs::read_to_string(&policy).unwrap();
    let rule = |requester: &str| {
        format!("{defaults}[[rule]]\nid = \"x\"\nmodules = [\"x\"]\naction = \"block\"\nrequester = {requester}\n")
    };
    fs::create_dir(root.path().join("boot")).unwrap();
    let config = root.path().join("boot/config-6.1.0");
    for (built, requester, expected) in [
        ("y", "{ uid = \"!0\" }", 1),
        ("y", "\"unknown\"", 1),
        ("y", "{ caller = \"modprobe\" }", 0),
        ("m", "{ uid = \"!0\" }", 0),
    ] {
        fs::write(&config, format!("CONFIG_X=y\nCONFIG_MODULE_DEBUG_AUTOLOAD_DUPS={built}\n")).unwrap();
        fs::write(&policy, rule(requester)).unwrap();
        let output = guard(root.path(), &["enable"], Stdio::null());
        assert_eq!(output.status.code(), Some(expected), "{built} {requester}: {}", said(&output));
        assert_eq!(said(&output).contains("policy.toml:4: rule \"x\" asks who"), expected == 1, "{}", said(&output));
        let _ = fs::remove_file(root.path().join("etc/modprobe-guard/policy.bin"));
    }
}

#[test]
fn in_modprobes_place_the_kernel_keeps_its_path() {
    let root = host();
    let path = |path: &str| root.path().join(path);
    fs::write(path("etc/modprobe-guard/policy.toml"), "version = 1\n").unwrap();
    fs::create_dir_all(path("sbin")).unwrap();
    fs::rename(path("usr/sbin/real-modprobe"), path("sbin/modprobe.unguarded")).unwrap();
    std::os::unix::fs::symlink(HELPER, path("sbin/modprobe")).unwrap();
    // LKRG lets the kernel run that one.
    fs::create_dir(path("proc/sys/lkrg")).unwrap();
    fs::write(path("proc/sys/lkrg/umh_enforce"), "1\n").unwrap();
    let run = |arguments: &[&str]| guard(root.path(), arguments, Stdio::piped());
    let seen = || {
        let status = String::from_utf8(run(&["--json", "status"]).stdout).unwrap();
        let is = |text: &str| status.contains(text);
        (
            helper(root.path()),
            path("run/modprobe-guard.armed").exists(),
            is("\"armed\":true"),
            is("\"divert\":\"in place\""),
        )
    };
    let kernel = |helper: &str| fs::write(path("proc/sys/kernel/modprobe"), format!("{helper}\n")).unwrap();

    assert_eq!(seen(), ("/sbin/modprobe".into(), false, false, true));
    let output = run(&["enable"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(seen(), ("/sbin/modprobe".into(), true, true, true));
    assert_eq!(run(&["disable"]).status.code(), Some(0));
    assert_eq!(seen(), ("/sbin/modprobe".into(), false, false, true));

    // Armed before it was diverted: the kernel gets its own path back, and asks us all the same.
    kernel(HELPER);
    assert_eq!(run(&["enable"]).status.code(), Some(0));
    assert_eq!(seen(), ("/sbin/modprobe".into(), true, true, true));
    assert_eq!(run(&["disable"]).status.code(), Some(0));

    kernel("/opt/another");
    assert_eq!(run(&["enable"]).status.code(), Some(1));
    assert_eq!(seen(), ("/opt/another".into(), false, false, true));
    assert_eq!(run(&["enable", "--force"]).status.code(), Some(0));
    assert_eq!(seen(), ("/sbin/modprobe".into(), true, true, true));
    assert_eq!(run(&["disable"]).status.code(), Some(0));
    assert_eq!(seen(), ("/opt/another".into(), false, false, true));

    // Lost to another one: armed for nobody, and said.
    kernel("/sbin/modprobe");
    assert_eq!(run(&["enable"]).status.code(), Some(0));
    fs::remove_file(path("sbin/modprobe")).unwrap();
    fs::copy("/bin/true", path("sbin/modprobe")).unwrap();
    assert_eq!(seen(), ("/sbin/modprobe".into(), true, false, false));
    let output = run(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/sbin/modprobe: is not the guard any more"), "{text}");
}

//! The `install` lines that `guard enable` and `guard apply` write: on a made-up host, and for a whole kernel as kmod
//! reads them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use modprobe_guard::host::Host;
use modprobe_guard::modules::{Flags, resolve};

use crate::index::write_indexes;
use crate::kernel::Kernel;

const LINES: &str = "run/modprobe.d/modprobe-guard.conf";

/// A host that could be armed; not this machine, so no helper is run.
pub struct Armable {
    root: tempfile::TempDir,
    release: String,
}

impl Armable {
    pub fn new(release: &str) -> Armable {
        let host = Armable { root: tempfile::tempdir().unwrap(), release: release.to_owned() };
        host.put("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        host.put("proc/sys/kernel/osrelease", &format!("{release}\n"));
        for program in ["usr/sbin/modprobe-guard", "usr/sbin/real-modprobe", "bin/sh"] {
            host.put(program, "");
            fs::copy("/bin/true", host.path(program)).unwrap();
        }
        fs::create_dir(host.path("run")).unwrap();
        host
    }

    /// Modules that need each other as those of a kernel do.
    fn small() -> Armable {
        let host = Armable::new("6.1.0");
        let modules = host.path("lib/modules/6.1.0");
        host.put(
            "lib/modules/6.1.0/modules.dep",
            concat!(
                "kernel/iptable_nat.ko: kernel/nf_nat.ko kernel/nf_conntrack.ko kernel/libcrc32c.ko\n",
                "kernel/nf_nat.ko: kernel/nf_conntrack.ko kernel/libcrc32c.ko\n",
                "kernel/nf_conntrack.ko: kernel/libcrc32c.ko\n",
                "kernel/libcrc32c.ko:\nkernel/af_alg.ko:\nkernel/btrfs.ko:\n",
            ),
        );
        host.put("lib/modules/6.1.0/modules.softdep", "softdep btrfs pre: libcrc32c\n");
        host.put("lib/modules/6.1.0/modules.alias", "alias net-pf-38 af_alg\n");
        for file in ["modules.symbols", "modules.builtin", "modules.builtin.alias"] {
            host.put(&format!("lib/modules/6.1.0/{file}"), "");
        }
        write_indexes(&modules);
        host
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn policy(&self, defaults: &str, rules: &[(&str, &str)]) {
        let mut text = format!("version = 1\n[defaults]\ndelegate = \"/usr/sbin/real-modprobe\"\n{defaults}\n");
        for (at, (about, action)) in rules.iter().enumerate() {
            text += &format!("[[rule]]\nid = \"r{at}\"\n{about}\naction = \"{action}\"\n");
        }
        self.put("etc/modprobe-guard/policy.toml", &text);
    }

    fn guard(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
        command.arg("--root").arg(self.root.path()).args(arguments).env_clear().stdin(Stdio::null());
        command.output().unwrap()
    }

    fn status(&self, arguments: &[&str]) -> Option<i32> {
        self.guard(arguments).status.code()
    }

    /// What `guard` says on both streams.
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.guard(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// The modules of the lines, in order; none where there is no file.
    fn hooked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path(LINES)).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

#[test]
fn lines_come_and_go_with_the_guard() {
    let host = Armable::small();
    host.policy("", &[("modules = [\"nf_conntrack\"]", "block")]);
    assert_eq!(host.status(&["apply"]), Some(0));
    assert!(!host.path(LINES).exists(), "not armed");
    assert_eq!(host.status(&["enable"]), Some(0));
    let text = fs::read_to_string(host.path(LINES)).unwrap();
    assert!(text.starts_with("# Written by `guard enable`"), "{text}");
    let line = "\ninstall nf_conntrack exec /usr/sbin/modprobe-guard --hook nf_conntrack $CMDLINE_OPTS\n";
    assert!(text.ends_with(line), "{text}");
    assert_eq!(fs::metadata(host.path(LINES)).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(host.path("run/modprobe.d")).unwrap().count(), 1, "nothing is left over");

    host.policy("", &[("modules = [\"nf_*\"]", "allow-sysctl")]);
    assert_eq!(host.status(&["apply"]), Some(0));
    assert_eq!(host.hooked(), ["nf_conntrack", "nf_nat"]);
    fs::write(host.path(LINES), "install nf_nat true\n").unwrap();
    assert_eq!(host.status(&["status"]), Some(1));
    assert_eq!(host.status(&["apply"]), Some(0));
    assert_eq!(host.status(&["status"]), Some(0), "{}", host.said(&["status"]));
    assert_eq!(host.hooked().len(), 2);
    host.policy("", &[]);
    assert_eq!(host.status(&["apply"]), Some(0));
    assert!(!host.path(LINES).exists());
    host.policy("", &[("modules = [\"nf_*\"]", "block")]);
    host.status(&["apply"]);
    // Also where somebody else has disarmed.
    fs::write(host.path("proc/sys/kernel/modprobe"), "/sbin/modprobe\n").unwrap();
    assert!(host.said(&["status"]).contains("though nothing is armed"));
    assert_eq!((host.status(&["disable"]), host.path(LINES).exists()), (Some(0), false));
}

#[test]
fn which_modules_have_one() {
    let host = Armable::small();
    host.policy("", &[]);
    host.status(&["enable"]);
    let conntrack = "modules = [\"nf-conntrack\"]";
    let by = |who: &str| format!("{conntrack}\nrequester = {who}");
    let block = "action = \"block\"";
    for (defaults, rules, expected, open) in [
        ("", vec![(conntrack, "allow")], &[][..], ""),
        ("", vec![(conntrack, "block")], &["nf_conntrack"], ""),
        ("", vec![(by("{ caller = \"hook\" }").as_str(), "block")], &["nf_conntrack"], ""),
        ("", vec![("modules = [\"btrfs\"]", "block")], &[], "modules with soft dependencies"),
        ("", vec![("requests = [\"af_alg\"]", "block")], &["af_alg"], ""),
        ("", vec![("requests = [\"af_alg\", \"crypto-*\"]", "block")], &["af_alg"], "rules about names"),
        // What is permitted needs it, by whatever name that is asked for.
        ("", vec![("requests = [\"nf_conntrack\"]", "block")], &[], "what permitted requests need"),
        (block, vec![("modules = [\"iptable_nat\"]", "allow")], &["af_alg"], "what permitted requests need"),
        (
            block,
            vec![("modules = [\"iptable_nat\"]", "allow"), (conntrack, "allow-sysctl")],
            &["af_alg", "nf_conntrack"],
            "what permitted requests need",
        ),
        // By an alias, exact or not.
        (
            block,
            vec![("requests = [\"net-pf-38\"]", "allow")],
            &["iptable_nat", "libcrc32c", "nf_conntrack", "nf_nat"],
            "what permitted requests need",
        ),
        (
            block,
            vec![("requests = [\"net-*\"]", "allow")],
            &["iptable_nat", "libcrc32c", "nf_conntrack", "nf_nat"],
            "what permitted requests need",
        ),
        // Where that is blocked, nothing is permitted that needs the rest.
        (
            block,
            vec![("modules = [\"iptable_nat\"]", "allow"), (conntrack, "block")],
            &["af_alg", "libcrc32c", "nf_conntrack", "nf_nat"],
            "modules with soft",
        ),
    ] {
        host.policy(defaults, &rules);
        let said = host.said(&["apply"]);
        assert_eq!(host.hooked(), expected, "{defaults} {rules:?}: {said}");
        assert!(said.contains(open) && (said.contains("  open ") != open.is_empty()), "{defaults} {rules:?}: {said}");
    }
}

#[test]
fn lines_of_others_stay() {
    let host = Armable::small();
    host.policy("", &[("modules = [\"nf_*\"]", "block")]);
    host.put("etc/modprobe.d/zz.conf", "install nf_n?t /bin/false\n");
    let said = host.said(&["enable"]);
    assert_eq!(host.hooked(), ["nf_conntrack"]);
    assert!(said.contains("nf_nat (") && said.contains("etc/modprobe.d/zz.conf:1)"), "{said}");
    // Written by hand, but ours.
    host.put("etc/modprobe.d/zz.conf", "install nf_nat /usr/sbin/modprobe-guard --hook nf_nat\n");
    assert!(host.said(&["status"]).contains("guard apply writes it anew"));
    host.said(&["apply"]);
    assert_eq!(host.hooked(), ["nf_conntrack", "nf_nat"]);
}

#[test]
fn what_cannot_be_written_is_told_and_the_policy_counts() {
    let host = Armable::small();
    host.policy("", &[]);
    assert_eq!(host.status(&["enable"]), Some(0));
    host.policy("", &[("modules = [\"nf_nat\"]", "block")]);
    for (wrong, mend, expected) in [
        ("run/modprobe.d", "run/modprobe.d", "run/modprobe.d/modprobe-guard.conf: write: Not a directory"),
        ("etc/modprobe.d/modprobe-guard.conf", "etc/modprobe.d/modprobe-guard.conf", "hides"),
    ] {
        let _ = fs::remove_dir_all(host.path("run/modprobe.d"));
        host.put(wrong, "");
        let output = host.guard(&["apply"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(expected), "{said}");
        assert_eq!(host.status(&["--dry-run", "nf_nat"]), Some(1));
        assert_eq!(host.status(&["status"]), Some(1));
        fs::remove_file(host.path(mend)).unwrap();
    }
    fs::rename(host.path("bin/sh"), host.path("bin/zsh")).unwrap();
    let _ = fs::remove_dir_all(host.path("run/modprobe.d"));
    assert!(host.said(&["apply"]).contains("/bin/sh: not there"));
    fs::rename(host.path("bin/zsh"), host.path("bin/sh")).unwrap();
    assert_eq!(host.status(&["apply"]), Some(0));
    fs::write(host.path("lib/modules/6.1.0/modules.dep.bin"), "nonsense, and more of it").unwrap();
    assert!(host.said(&["apply"]).contains("modules.dep.bin: is no module index"));
    assert_eq!(host.hooked(), ["nf_nat"], "what was there stays");
}

#[test]
fn what_the_kernel_refuses_to_root_is_told() {
    let host = Armable::small();
    host.policy("", &[]);
    let way = || {
        let said = host.said(&["status", "--json"]);
        said.rsplit_once("{\"way\":\"insmod").unwrap().1.split('}').next().unwrap().to_owned()
    };
    assert!(
        way().contains("\"covered\":false,\"by\":\"nobody can\",\"closed_by\":\"kernel.modules_disabled=1"),
        "{}",
        way()
    );
    host.put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    host.put("sys/module/module/parameters/sig_enforce", "Y\n");
    assert!(way().contains("signed modules only (module.sig_enforce, lockdown=integrity)"), "{}", way());
    host.put("proc/sys/kernel/modules_disabled", "1\n");
    assert!(way().contains("\"covered\":true,\"by\":\"kernel.modules_disabled:"), "{}", way());
    assert!(!way().contains("closed_by"), "{}", way());
}

/// kmod is asked whether it would run each of the lines, and each name still loads what it loads without them.
#[test]
fn a_whole_kernel_as_kmod_reads_it() {
    let kernel = Kernel::unpacked();
    let host = Armable::new(&kernel.release);
    let modules = host.path(&format!("lib/modules/{}", kernel.release));
    fs::create_dir_all(&modules).unwrap();
    for file in fs::read_dir(kernel.directory()).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), modules.join(file.file_name())).unwrap();
        }
    }
    let without = Host::at(host.root.path()).unwrap().modprobe_config(&kernel.release).0;
    host.policy("action = \"block\"", &[]);
    assert_eq!(host.status(&["enable"]), Some(0));
    let hooked = host.hooked();
    assert!(hooked.len() > 3000, "{}", hooked.len());
    assert!(hooked.is_sorted());

    let mut ran = BTreeSet::new();
    for some in hooked.chunks(500) {
        let shown = modprobe_shows(&host, some);
        let names = shown.lines().filter_map(|line| line.strip_prefix("install exec /usr/sbin/modprobe-guard --hook "));
        ran.extend(names.map(|name| name.split(' ').next().unwrap().to_owned()));
    }
    assert!(ran.iter().eq(hooked.iter()), "{} of {}", ran.len(), hooked.len());

    let now = Host::at(host.root.path()).unwrap();
    let (tree, with) = (now.modules(&kernel.release), now.modprobe_config(&kernel.release).0);
    let names = kernel.names();
    for name in names.iter().step_by(7) {
        let [a, b] = [&without, &with].map(|config| resolve(name, Flags::default(), &tree, config, |_| false));
        assert_eq!(a, b, "{}", name.escape_ascii());
    }
    println!("{} install lines that kmod runs", hooked.len());
}

fn modprobe_shows(host: &Armable, names: &[String]) -> String {
    let directory = |path: &Path| path.to_str().unwrap().to_owned();
    let mut command = Command::new("modprobe");
    command.args(["-D", "-a", "-S", &host.release, "-d", &directory(host.root.path())]);
    command.args(["-C", &directory(&host.path("run/modprobe.d"))]).args(names);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

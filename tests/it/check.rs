//! `guard check`: what it finds in sound policies, on a whole kernel; `tests/cases/16-check` is a host that uses what
//! its policy takes away.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::kernel::Kernel;

/// A host that has the index of a whole kernel, and nothing else.
struct Indexed {
    root: tempfile::TempDir,
    release: String,
}

impl Indexed {
    fn new() -> Indexed {
        let kernel = Kernel::unpacked();
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("lib/modules").join(&kernel.release);
        fs::create_dir_all(&directory).unwrap();
        for entry in fs::read_dir(kernel.directory()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
            }
        }
        Indexed { root, release: kernel.release }
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn check(&self, file: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
        command.arg("check").arg(file).arg("--root").arg(self.root.path()).args(["--kernel", &self.release]);
        command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
    }

    /// `LEVEL LINT MESSAGE` of each finding in a policy, and the exit status.
    fn found(&self, policy: &str) -> (Vec<String>, Option<i32>) {
        self.put("p.toml", policy);
        let output = self.check(&self.root.path().join("p.toml"), &["--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
        let short = lines.map(|line| {
            assert!(line["kernel"] == *self.release || line["level"] == "error", "{line}");
            format!("{} {} {}", word(&line, "level"), word(&line, "lint"), word(&line, "message"))
        });
        (short.collect(), output.status.code())
    }
}

#[test]
fn nothing_is_wrong_with_the_shipped_policies() {
    let host = Indexed::new();
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let profiles = fs::read_dir(conf.join("profiles")).unwrap().map(|entry| entry.unwrap().path());
    for policy in profiles.chain([conf.join("policy.toml"), conf.join("local.toml")]) {
        let output = host.check(&policy, &[]);
        let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{told}{errors}");
        assert!(told.starts_with("sound: ") && told.contains(&host.release), "{told}");
        assert!(errors.lines().all(|line| line.contains(": note: ")), "{errors}");
    }
}

#[test]
fn a_blocked_soft_dependency_of_what_is_mounted_is_found() {
    let host = Indexed::new();
    host.put("proc/self/mountinfo", "21 1 8:1 / /data rw shared:1 - ext4 /dev/sda1 rw\n");
    let rule = "version = 1\n[[rule]]\nid = 'no-crc'\nmodules = ['crc32c*']\naction = 'block'\n";
    let (found, status) = host.found(rule);
    let Some(found) = found.first() else { panic!("{found:?}") };
    assert!(found.starts_with("warning in-use rule \"no-crc\" blocks crc32c"), "{found}");
    assert!(found.ends_with("which this host uses: as a soft dependency of fs-ext4 (mounted on /data)"), "{found}");
    assert_eq!(status, Some(1));
    assert_eq!(host.found(&format!("{rule}enforce = false\n")), (vec![], Some(0)));
    // Nobody knows whether that is who asks.
    let (found, status) = host.found(&format!("{rule}requester = {{ uid = ['!0'] }}\n"));
    let Some(found) = found.first() else { panic!("{found:?}") };
    assert!(found.starts_with("note in-use") && found.contains(", for those it asks for: as a soft dep"), "{found}");
    assert_eq!(status, Some(0));
    let before =
        "version = 1\n[[rule]]\nid = 'some'\nmodules = ['crc32c*']\naction = 'allow'\nrequester = { uid = 0 }\n";
    let (found, _) = host.found(&(before.to_owned() + rule.strip_prefix("version = 1\n").unwrap()));
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_block_of_what_is_used_is_found_by_itself() {
    let host = Indexed::new();
    let live = "nf_nat 1 0 - Live 0x0\nnf_conntrack 1 2 nf_nat, Live 0x0\nnf_defrag_ipv4 1 1 nf_conntrack, Live 0x0\n\
                nf_defrag_ipv6 1 1 nf_conntrack, Live 0x0\next4 1 1 - Live 0x0\n";
    host.put("proc/modules", live);
    host.put("proc/self/mountinfo", "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n");
    let rule = |id: &str, entries: &str| format!("[[rule]]\nid = '{id}'\n{entries}\naction = 'block'\n");
    let found = |rules: &[String]| {
        let (found, _) = host.found(&format!("version = 1\n{}", rules.concat()));
        let lines = found.into_iter().filter(|line| line.contains(" in-use "));
        let short = |line: String| line.replace(" which this host uses", "").replace(" in-use rule", "");
        lines.map(short).collect::<Vec<_>>()
    };
    // Its soft dependency is blocked by another rule.
    let both =
        found(&[rule("all-nf", "modules = ['nf_conntrack']"), rule("soft", "modules = ['crc32c*', 'libcrc32c']")]);
    assert_eq!(
        both.iter().filter(|line| *line == "warning \"all-nf\" blocks nf_conntrack,: loaded, used by nf_nat").count(),
        1,
        "{both:?}"
    );
    assert!(both.iter().any(|line| line.starts_with("warning \"soft\" blocks ")), "{both:?}");
    // Its dependencies are blocked by the same.
    let all = found(&[rule("all-nf", "modules = ['nf_*']")]);
    for module in ["nf_nat", "nf_conntrack", "nf_defrag_ipv4", "nf_defrag_ipv6"] {
        let begin = format!("warning \"all-nf\" blocks {module},: loaded");
        assert_eq!(all.iter().filter(|line| line.starts_with(&begin)).count(), 1, "{module}: {all:?}");
    }
    // By the name, and by who asks.
    assert_eq!(
        found(&[rule("names", "requests = ['fs-ext4', 'nf_conntrack', 'ip_conntrack']")]),
        ["warning \"names\" blocks requests for what this host uses: nf_conntrack (loaded, used by nf_nat), \
          fs-ext4, which leads to ext4 (mounted on /), ip_conntrack, which leads to nf_conntrack (loaded, used by nf_nat)"]
    );
    assert_eq!(
        found(&[rule("root", "modules = ['nf_nat']\nrequester = { uid = 0 }")]),
        ["note \"root\" blocks nf_nat,, for those it asks for: loaded"]
    );
    assert_eq!(found(&[rule("other", "requests = ['net-pf-38', 'fs-ext3']\nmodules = ['nf_*']")]), [""; 0]);
}

#[test]
fn a_log_that_cannot_be_read_is_told_where_it_matters() {
    let host = Indexed::new();
    host.put("var/log/modprobe-guard", "no directory");
    let rule = "version = 1\n[[rule]]\nid = 'a'\nmodules = ['sctp']\naction = 'block'\n";
    let (found, status) = host.found(rule);
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert!(found.starts_with("note log-unread past requests were not looked at: the log of this host"), "{found}");
    assert_eq!(status, Some(0));
    assert_eq!(host.found(&rule.replace("block", "allow")), (vec![], Some(0)));
}

#[test]
fn names_are_those_of_the_kernel() {
    let host = Indexed::new();
    let rule = |entries: &str| format!("version = 1\n[[rule]]\nid = 'a'\n{entries}\naction = 'block'\n");
    for (entries, expected) in [
        ("modules = ['nf-conntrack', 'nf_*', 'snd_seq']", vec![]),
        ("requests = ['net-pf-38', 'nft-expr-ct', 'crypto-*', 'symbol:nf_conntrack_*', 'fs-ext*', 'fs-*']", vec![]),
        ("modules = ['sctp', 'nf_contrack']", vec!["warning unknown-module RELEASE has no module nf_contrack"]),
        (
            "modules = ['sctp', 'net-pf-38']",
            vec!["warning alias net-pf-38 is no module of RELEASE, but another name of af_alg"],
        ),
        ("modules = ['sctp', 'unix']", vec!["warning builtin built into RELEASE, where no rule can change it: unix"]),
        ("requests = ['net-pf-99']", vec!["note unknown-request no module and no alias of RELEASE: net-pf-99"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|line| line.replace("RELEASE", &host.release)).collect();
        assert_eq!(host.found(&rule(entries)).0, expected, "{entries}");
    }
}

#[test]
fn an_allow_list_of_all_modules_has_nothing_wrong_with_it() {
    let host = Indexed::new();
    let dep = fs::read_to_string(Kernel::unpacked().directory().join("modules.dep")).unwrap();
    let name =
        |line: &str| line.split('/').find_map(|part| part.split_once(".ko").map(|(name, _)| format!("'{name}'")));
    let names: Vec<String> = dep.lines().filter_map(name).collect();
    assert!(names.len() > 3000, "{}", names.len());
    host.put("proc/modules", "nf_nat 1 0 - Live 0x0\nnf_conntrack 1 1 nf_nat, Live 0x0\n");
    let list = |names: &[String]| {
        let names = names.join(", ");
        format!(
            "version = 1\n[defaults]\naction = 'block'\n[[rule]]\nid = 'all'\nmodules = [{names}]\naction = 'allow'\n"
        )
    };
    let (found, status) = host.found(&list(&names));
    assert!(found.iter().all(|line| line.starts_with("note unhooked")) && status == Some(0), "{found:?}");
    let but_nat: Vec<String> = names.iter().filter(|name| *name != "'nf_nat'").cloned().collect();
    let (found, status) = host.found(&list(&but_nat));
    let lost: Vec<&String> = found.iter().filter(|line| line.starts_with("warning")).collect();
    assert_eq!(lost, ["warning in-use the default blocks what this host uses: nf_nat (loaded)"]);
    assert_eq!(status, Some(1));
    // What is permitted brings along what it needs.
    assert_eq!(host.found(&list(&["'nf_nat'".to_owned()])).1, Some(0));
}

#[test]
fn what_this_host_cannot_tell_or_sizes_otherwise_is_found() {
    let rule = |action: &str| {
        format!(
            "version = 1\n[conntrack]\nmax = 9000\n[[rule]]\nid = 'a'\nmodules = ['nf_conntrack']\naction = '{action}'\n\
             requester = {{ uid = 7 }}\n[[rule]]\nid = 'b'\nmodules = ['nf_conntrack']\naction = 'allow-sysctl'\n"
        )
    };
    let host = Indexed::new();
    assert_eq!(host.found(&rule("allow")), (vec![], Some(0)));
    host.put("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_eq!(host.found(&rule("block")), (vec![], Some(0)));
    let (found, status) = host.found(&rule("allow"));
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert!(found.starts_with("warning cannot-tell rule \"a\" asks who") && found.contains("locked down"), "{found}");
    assert_eq!(status, Some(1));
    let another = "[[rule]]\nid = 'z'\nmodules = ['sctp']\naction = 'allow'\nrequester = { uid = 7 }\n";
    let (found, _) = host.found(&(rule("allow") + another));
    let [one, other] = found.as_slice() else { panic!("{found:?}") };
    assert!(one.contains("rule \"a\" asks who") && other.contains("rule \"z\" asks who"), "{found:?}");
    host.put("sys/module/module/parameters/enable_dups_trace", "N\n");
    host.put("etc/modprobe.d/own.conf", "options nf_conntrack hashsize=1000\n");
    let (found, _) = host.found(&rule("block"));
    let [few, who] = found.as_slice() else { panic!("{found:?}") };
    assert!(who.contains("CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS"), "{who}");
    host.put("etc/sysctl.d/own.conf", "net.netfilter.nf_conntrack_buckets = 65536\n");
    assert!(!host.found(&rule("block")).0.iter().any(|line| line.contains("few-buckets")));
    assert!(
        few.starts_with("warning few-buckets max is 9000") && few.contains("own.conf:1 has hashsize=1000"),
        "{few}"
    );
}

#[test]
fn unsoundness_is_an_error_and_what_is_not_there_cannot_be_told() {
    let host = Indexed::new();
    let (found, status) = host.found("version = 2\n");
    assert_eq!((found, status), (vec!["error - this is no policy of version 1".to_owned()], Some(1)));
    assert_eq!(host.check(&host.root.path().join("nowhere.toml"), &[]).status.code(), Some(2));
}

#[test]
fn lints_do_not_keep_a_policy_from_being_applied() {
    let host = Indexed::new();
    host.put(
        "etc/modprobe-guard/policy.toml",
        "version = 1\n[[rule]]\nid = 'a'\nmodules = ['nf_contrack']\naction = 'block'\n",
    );
    host.put("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
    let guard = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
        command.arg("--root").arg(host.root.path()).arg(verb).env_clear().stdin(Stdio::null()).output().unwrap()
    };
    use std::os::unix::fs::PermissionsExt;
    for path in ["etc/modprobe-guard/policy.toml", "etc/modprobe-guard"] {
        fs::set_permissions(host.root.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(guard("check").status.code(), Some(1));
    let applied = guard("apply");
    assert_eq!(applied.status.code(), Some(0), "{}", String::from_utf8_lossy(&applied.stderr));
    assert!(host.root.path().join("etc/modprobe-guard/policy.bin").exists());
}

//! A host as a directory, with the modules around connection tracking of a real kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::kernel::Kernel;

/// The modules that are there; all of them are live on a healthy host, and used.
pub const MODULES: [&str; 11] = [
    "libcrc32c",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "nf_nat",
    "nfnetlink",
    "nf_tables",
    "nft_ct",
    "x_tables",
    "xt_conntrack",
    "ext4",
];

pub struct Broken {
    root: tempfile::TempDir,
    pub release: String,
}

impl Broken {
    pub fn healthy(family: &str) -> Broken {
        static FIRST: OnceLock<Broken> = OnceLock::new();
        let first = FIRST.get_or_init(Broken::first);
        let host = Broken { root: tempfile::tempdir().unwrap(), release: first.release.clone() };
        let status = Command::new("cp").arg("-a").arg(first.path(".")).arg(host.root.path()).status().unwrap();
        assert!(status.success());
        host.write("etc/os-release", &format!("ID={family}\n"));
        host
    }

    /// The one that all others are copies of.
    fn first() -> Broken {
        let kernel = Kernel::unpacked();
        let host = Broken { root: tempfile::tempdir().unwrap(), release: kernel.release.clone() };
        let (from, to) = (kernel.directory(), host.directory());
        for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            copy(&from.join(name), &to.join(name));
        }
        let listing = fs::read_to_string(from.join("modules.dep")).unwrap();
        let mut lines = String::new();
        for module in MODULES.iter().chain(&["xt_state", "iptable_nat", "ip_tables", "mbcache", "jbd2", "crc16"]) {
            let is_it =
                |path: &&str| Path::new(path).file_stem().unwrap().to_str().unwrap().replace('-', "_") == *module;
            let path = listing.lines().map(|line| line.split(':').next().unwrap()).find(is_it);
            let path = path.unwrap_or_else(|| panic!("{module}: not in {}", from.display()));
            copy(&from.join(path), &to.join(path));
        }
        host.depmod();
        for module in MODULES {
            lines += &format!("{module} 4096 1 - Live 0x0000000000000000\n");
            host.write(&format!("sys/module/{module}/initstate"), "live\n");
        }
        host.write("proc/modules", &lines);
        host.write("proc/sys/kernel/osrelease", &format!("{}\n", host.release));
        host.write("proc/sys/kernel/modules_disabled", "0\n");
        host.write("proc/sys/kernel/modprobe", "/usr/sbin/modprobe-guard\n");
        host.write("proc/cmdline", "root=/dev/sda1 quiet\n");
        host.write("proc/meminfo", "MemTotal: 2000000 kB\nMemFree: 900000 kB\nMemAvailable: 1200000 kB\n");
        host.write("proc/version", "Linux version\n");
        host.write("sys/devices/system/cpu/online", "0-1\n");
        host.write("sys/module/module/parameters/sig_enforce", "N\n");
        for program in ["usr/sbin/modprobe-guard", "sbin/modprobe"] {
            host.write(program, "a program");
            host.chmod(program, 0o755);
        }
        host.write(&format!("boot/vmlinuz-{}", host.release), "");
        host.table(1000, 131_072, 131_072);
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn directory(&self) -> PathBuf {
        self.path("lib/modules").join(&self.release)
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text.as_bytes());
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Not a single module is left, of any kernel.
    pub fn remove_modules(&self) {
        fs::remove_dir_all(self.path("lib/modules")).unwrap();
    }

    /// No programs, and of the modules their lists.
    pub fn keep_only_what_is_collected(&self) {
        for path in ["usr/sbin", "sbin"] {
            fs::remove_dir_all(self.path(path)).unwrap();
        }
        fs::remove_dir_all(self.directory().join("kernel")).unwrap();
        for name in ["modules.dep.bin", "modules.alias.bin", "modules.symbols.bin", "modules.builtin.bin"] {
            fs::remove_file(self.directory().join(name)).unwrap();
        }
    }

    pub fn append(&self, path: &str, text: &str) {
        let old = fs::read_to_string(self.path(path)).unwrap();
        self.write(path, &(old + text));
    }

    pub fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The connection tracking table.
    pub fn table(&self, count: u32, max: u32, buckets: u32) {
        self.write("proc/sys/net/netfilter/nf_conntrack_count", &format!("{count}\n"));
        self.write("proc/sys/net/netfilter/nf_conntrack_max", &format!("{max}\n"));
        self.write("proc/sys/net/netfilter/nf_conntrack_buckets", &format!("{buckets}\n"));
    }

    pub fn policy(&self, rules: &str) {
        self.write("etc/modprobe-guard/policy.toml", &format!("version = 1\n{rules}"));
        for path in ["etc/modprobe-guard", "etc"] {
            self.chmod(path, 0o755);
        }
        self.chmod("etc/modprobe-guard/policy.toml", 0o644);
        self.guard(&["apply"]);
    }

    /// The guard in modprobe's place, armed, where LKRG lets the kernel run no other helper; with the `real` one aside.
    pub fn divert(&self, real: bool) {
        fs::rename(self.path("sbin/modprobe"), self.path(if real { "sbin/modprobe.unguarded" } else { "gone" }))
            .unwrap();
        self.link("/usr/sbin/modprobe-guard", "sbin/modprobe");
        self.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        self.write("proc/sys/lkrg/umh_enforce", "1\n");
        self.write("run/modprobe-guard.armed", "");
    }

    /// Takes modules out of the running kernel.
    pub fn unload(&self, modules: &[&str]) {
        let lines = fs::read_to_string(self.path("proc/modules")).unwrap();
        let stays = |line: &&str| !modules.contains(&line.split(' ').next().unwrap());
        self.write("proc/modules", &lines.lines().filter(stays).map(|line| format!("{line}\n")).collect::<String>());
        for module in modules {
            fs::remove_dir_all(self.path(&format!("sys/module/{module}"))).unwrap();
        }
    }

    /// A record of a load, at that time.
    pub fn record(&self, time: &str, module: &str) {
        let request = format!(r#"{{"name":"{module}","caller":"kernel"}}"#);
        let requester = r#"{"confidence":"exact","found_by":null,"call_site":null,"pid":1,"tid":1,"comm":"x","exe":"/bin/x","cmdline":null,"uid":0,"euid":0,"auid":null,"session":null,"unit":null,"container":null,"userns":"host","mntns":"host","netns":"host","parents":[]}"#;
        let verdict =
            r#"{"action":"allow","enforced":true,"rule":null,"source":"default","module":null,"reason":null}"#;
        let outcome = format!(r#"{{"status":0,"duration_us":1,"loaded":["{module}"]}}"#);
        self.write(
            "var/log/modprobe-guard/audit.jsonl",
            &format!(
                r#"{{"v":1,"time":"{time}","host":"r","boot_id":"x","kernel":"{}","request":{request},"requester":{requester},"verdict":{verdict},"modules":[],"outcome":{outcome}}}"#,
                self.release
            ),
        );
    }

    /// Every file.
    pub fn files(&self) -> Vec<PathBuf> {
        let output = Command::new("find").arg(self.root.path()).args(["-type", "f"]).output().unwrap();
        let mut files: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect();
        files.sort();
        files
    }

    pub fn depmod(&self) {
        let status = Command::new("depmod").arg("-b").arg(self.root.path()).arg(&self.release).status().unwrap();
        assert!(status.success());
    }

    fn module(&self, name: &str) -> PathBuf {
        let mut left = vec![self.directory()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let file = entry.file_name().into_string().unwrap();
                if entry.file_type().unwrap().is_dir() {
                    left.push(entry.path());
                } else if file.split('.').next().unwrap().replace('-', "_") == name && file.contains(".ko") {
                    return entry.path();
                }
            }
        }
        panic!("{name}: no file of it");
    }

    pub fn remove_module(&self, name: &str) {
        fs::remove_file(self.module(name)).unwrap();
    }

    pub fn write_module(&self, name: &str, bytes: &[u8]) {
        write(&self.module(name), bytes);
    }

    pub fn change_module(&self, name: &str, change: fn(&[u8]) -> Vec<u8>) {
        let path = self.module(name);
        let changed = change(&fs::read(&path).unwrap());
        write(&path, &changed);
    }

    pub fn copy_module(&self, from: &str, to: &str) {
        copy(&self.module(from), &self.module(to));
    }

    /// Takes its file away for a while.
    pub fn hide_module(&self, name: &str, hide: bool) {
        let hidden = self.path("hidden");
        if hide {
            let path = self.module(name);
            fs::rename(&path, &hidden).unwrap();
            self.write("hidden.path", path.to_str().unwrap());
        } else {
            fs::rename(hidden, fs::read_to_string(self.path("hidden.path")).unwrap()).unwrap();
        }
    }

    pub fn compress(&self, name: &str, tool: &str) {
        let status = Command::new(tool).arg("-f").arg(self.module(name)).status().unwrap();
        assert!(status.success());
    }

    pub fn remove_index(&self, name: &str) {
        fs::remove_file(self.directory().join(name)).unwrap();
    }

    pub fn write_index(&self, name: &str, bytes: &[u8]) {
        write(&self.directory().join(name), bytes);
    }

    /// The modules are those of another release now.
    pub fn rename_modules(&self, release: &str) {
        fs::rename(self.directory(), self.path("lib/modules").join(release)).unwrap();
        self.write(&format!("boot/vmlinuz-{release}"), "");
    }

    pub fn guard(&self, arguments: &[&str]) -> (i32, String) {
        let guard = Command::new(env!("CARGO_BIN_EXE_guard"))
            .arg("--root")
            .arg(self.root.path())
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&guard.stdout).into_owned();
        (guard.status.code().unwrap_or_else(|| panic!("{arguments:?}: {guard:?}")), text)
    }

    pub fn doctor(&self, module: &str) -> (i32, Value) {
        let (status, text) = self.guard(&["doctor", "--json", "--", module]);
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{module}: {status}: {text}: {error}")))
    }

    /// Runs a command with this host's /etc in the place of the machine's.
    pub fn run(&self, command: &str) {
        let script = format!("mount --bind {}/etc /etc && {command}", self.root.path().display());
        let status = Command::new("unshare").args(["-m", "sh", "-ec", &script]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// Every file with its length and the time it was changed.
    pub fn listing(&self) -> String {
        let output = Command::new("find").arg(self.root.path()).args(["-printf", "%p %s %T@ %m\\n"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    write(to, &fs::read(from).unwrap());
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The causes of a report's findings, in order.
pub fn causes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["cause"].as_str().unwrap()).collect()
}

/// With what follows the first place of `from` written over by `to`, of the same length.
pub fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).expect("not in there");
    [&bytes[..at], to, &bytes[at + to.len()..]].concat()
}

/// With another version of a symbol that it needs: an entry of `__versions` is the version in 8 bytes, then the name.
pub fn change_version(bytes: &[u8], symbol: &[u8]) -> Vec<u8> {
    let entry = [&[0; 4], symbol, &[0]].concat();
    let at = bytes.windows(entry.len()).position(|window| window == entry).expect("not in there") + 4;
    let mut changed = bytes.to_vec();
    changed[at - 8] ^= 0x55;
    changed
}

/// Without its signature: a struct of 12 bytes whose last 4 say how long it is, and a last line.
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let trailer = bytes.len() - b"~Module signature appended~\n".len();
    let length = u32::from_be_bytes(bytes[trailer - 4..trailer].try_into().unwrap());
    bytes[..trailer - 12 - length as usize].to_vec()
}

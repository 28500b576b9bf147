//! Hosts that are broken in one way each, and what the doctor is to find.

use super::host::{self, Broken};

/// What is wrong with a host, and the causes that the doctor finds, in order.
pub type Case = (&'static str, fn(&Broken), &'static [&'static str]);

/// Of a module that is not there.
pub const NOT_THERE: &[Case] = &[
    ("nothing else is wrong", |_| {}, &["not-loaded"]),
    ("hangs in being loaded", |host| host.append("proc/modules", "nf_conntrack 1 0 - Loading 0x0\n"), &["not-loaded"]),
    (
        "install line",
        |host| host.write("etc/modprobe.d/x.conf", "install nf_conntrack /bin/false\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "install line, dashed",
        |host| host.write("etc/modprobe.d/x.conf", "install nf-conntrack /usr/bin/true\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "install pattern",
        |host| host.write("run/modprobe.d/x.conf", "install nf_* /bin/false\n"),
        &["blacklisted", "dependency", "dependency", "not-loaded"],
    ),
    (
        "alias off",
        |host| host.write("etc/modprobe.d/x.conf", "alias nf_conntrack off\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "blacklist",
        |host| host.write("usr/lib/modprobe.d/x.conf", "blacklist nf_conntrack\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "kernel's blacklist",
        |host| host.write("proc/cmdline", "quiet module_blacklist=foo,nf_conntrack\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "modprobe's blacklist",
        |host| host.write("proc/cmdline", "modprobe.blacklist=nf_conntrack\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "a masked line counts for nothing",
        |host| {
            host.write("usr/lib/modprobe.d/x.conf", "install nf_conntrack /bin/false\n");
            host.write("etc/modprobe.d/x.conf", "# nothing\n");
        },
        &["not-loaded"],
    ),
    (
        "a command that loads it keeps nothing out",
        |host| {
            host.write("etc/modprobe.d/x.conf", "install nf_conntrack /sbin/modprobe -i nf_conntrack && logger yes\n")
        },
        &["not-loaded"],
    ),
    (
        "guard's rule",
        |host| host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\n"),
        &["guard-policy", "not-loaded"],
    ),
    (
        "guard's rule about what it needs",
        |host| host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_defrag_*\"]\naction = \"block\"\n"),
        &["guard-policy", "not-loaded"],
    ),
    ("guard's default", |host| host.policy("[defaults]\naction = \"block\"\n"), &["guard-policy", "not-loaded"]),
    (
        "guard's rule is not enforced",
        |host| {
            host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\nenforce = false\n")
        },
        &["not-loaded"],
    ),
    (
        "guard is not asked",
        |host| {
            host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\n");
            host.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        },
        &["not-loaded"],
    ),
    ("file gone", |host| host.remove_module("nf_conntrack"), &["file-missing", "not-loaded"]),
    (
        "file gone, and from the index",
        |host| {
            host.remove_module("nf_conntrack");
            host.depmod();
        },
        &["file-missing", "not-loaded"],
    ),
    ("empty file", |host| host.write_module("nf_conntrack", &[]), &["file-corrupt", "not-loaded"]),
    (
        "cut-off file",
        |host| host.change_module("nf_conntrack", |bytes| bytes[..bytes.len() / 2].to_vec()),
        &["file-corrupt", "not-loaded"],
    ),
    (
        "a text in its place",
        |host| host.write_module("nf_conntrack", b"<html>404</html>"),
        &["file-corrupt", "not-loaded"],
    ),
    (
        "another module in its place",
        |host| host.copy_module("nf_nat", "nf_conntrack"),
        &["file-corrupt", "dependency", "not-loaded"],
    ),
    (
        "built for another release",
        |host| host.change_module("nf_conntrack", |bytes| host::replace(bytes, b"vermagic=6.1.0-", b"vermagic=6.1.9-")),
        &["version-mismatch", "not-loaded"],
    ),
    (
        "built for another configuration",
        |host| {
            host.change_module("nf_conntrack", |bytes| host::replace(bytes, b" SMP preempt mod", b" SMP PREEMPT mod"))
        },
        &["version-mismatch", "not-loaded"],
    ),
    (
        "built for another processor",
        |host| {
            host.change_module("nf_conntrack", |bytes| {
                let mut bytes = bytes.to_vec();
                bytes[18] = 183;
                bytes
            })
        },
        &["version-mismatch", "not-loaded"],
    ),
    ("another kernel was installed", |host| host.rename_modules("6.1.0-99-amd64"), &["version-mismatch", "not-loaded"]),
    (
        "only an older kernel's modules are there",
        |host| host.rename_modules("5.10.0-1-amd64"),
        &["version-mismatch", "not-loaded"],
    ),
    ("a needed file is gone", |host| host.remove_module("nf_defrag_ipv4"), &["dependency", "not-loaded"]),
    (
        "a needed file is gone, and from the index",
        |host| {
            host.remove_module("nf_defrag_ipv4");
            host.depmod();
        },
        &["dependency", "not-loaded"],
    ),
    (
        "a needed file is damaged",
        |host| host.write_module("nf_defrag_ipv6", b"\x7fELF\x02\x01"),
        &["dependency", "not-loaded"],
    ),
    (
        "what it needs is kept out",
        |host| host.write("etc/modprobe.d/x.conf", "install nf_defrag_ipv4 /bin/false\n"),
        &["dependency", "not-loaded"],
    ),
    (
        "a blacklist binds no dependency",
        |host| host.write("etc/modprobe.d/x.conf", "blacklist nf_defrag_ipv4\nalias nf_defrag_ipv4 off\n"),
        &["not-loaded"],
    ),
    ("no index", |host| host.remove_index("modules.dep.bin"), &["dependency", "not-loaded"]),
    ("damaged index", |host| host.write_index("modules.dep.bin", b"nonsense"), &["dependency", "not-loaded"]),
    (
        "index made before the file came",
        |host| {
            host.hide_module("nf_conntrack", true);
            host.depmod();
            host.hide_module("nf_conntrack", false);
        },
        &["dependency", "not-loaded"],
    ),
    ("compressed since the index was made", |host| host.compress("nf_conntrack", "xz"), &["dependency", "not-loaded"]),
    (
        "symbol in another version",
        |host| host.change_module("nf_conntrack", |bytes| host::change_version(bytes, b"nf_defrag_ipv4_enable")),
        &["dependency", "not-loaded"],
    ),
    (
        "no memory",
        |host| host.write("proc/meminfo", "MemTotal: 1000000 kB\nMemFree: 900 kB\nMemAvailable: 3000 kB\n"),
        &["resources", "not-loaded"],
    ),
    (
        "modprobe was killed for want of memory",
        |host| {
            host.write(
                "var/log/kern.log",
                "Nov 20 12:00:00 r kernel: [ 9.1] Out of memory: Killed process 812 (modprobe) total-vm:1kB\n",
            )
        },
        &["resources", "not-loaded"],
    ),
    (
        "memory in pieces",
        |host| host.write("var/log/dmesg", "[    9.1] modprobe: page allocation failure: order:7, mode:0x40dc0\n"),
        &["resources", "not-loaded"],
    ),
    (
        "no more loading",
        |host| host.write("proc/sys/kernel/modules_disabled", "1\n"),
        &["modules-disabled", "not-loaded"],
    ),
    (
        "unsigned and enforced",
        |host| {
            host.write("sys/module/module/parameters/sig_enforce", "Y\n");
            host.change_module("nf_conntrack", host::unsigned);
        },
        &["signature", "not-loaded"],
    ),
    ("signed and enforced", |host| host.write("sys/module/module/parameters/sig_enforce", "Y\n"), &["not-loaded"]),
    ("unsigned and not enforced", |host| host.change_module("nf_conntrack", host::unsigned), &["not-loaded"]),
    (
        "unsigned and locked down",
        |host| {
            host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
            host.change_module("nf_conntrack", host::unsigned);
        },
        &["lockdown", "not-loaded"],
    ),
    ("helper empty", |host| host.write("proc/sys/kernel/modprobe", "\n"), &["helper", "not-loaded"]),
    ("helper gone", |host| host.write("proc/sys/kernel/modprobe", "/opt/modprobe\n"), &["helper", "not-loaded"]),
    (
        "helper is something else",
        |host| host.write("proc/sys/kernel/modprobe", "/bin/true\n"),
        &["helper", "not-loaded"],
    ),
    ("helper can't be run", |host| host.chmod("usr/sbin/modprobe-guard", 0o644), &["helper", "not-loaded"]),
    (
        "helper may not load",
        |host| host.write("proc/sys/kernel/usermodehelper/bset", "4294901759\t511\n"),
        &["helper", "not-loaded"],
    ),
    ("LKRG", |host| host.write("proc/sys/lkrg/umh_enforce", "1\n"), &["helper", "not-loaded"]),
    ("guard in modprobe's place, LKRG", |host| host.divert(true), &["not-loaded"]),
    (
        "guard's rule, in modprobe's place",
        |host| {
            host.divert(true);
            host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\n");
        },
        &["guard-policy", "not-loaded"],
    ),
    (
        "guard in modprobe's place, and no modprobe",
        |host| {
            host.divert(false);
        },
        &["helper", "not-loaded"],
    ),
    (
        "container",
        |host| {
            host.write(".dockerenv", "");
            host.write("proc/self/status", "CapBnd:\t00000000a80425fb\n");
        },
        &["container", "not-loaded"],
    ),
    (
        "left out of the kernel",
        |host| {
            host.remove_module("nf_conntrack");
            host.depmod();
            host.write(
                &format!("boot/config-{}", host.release),
                "CONFIG_MODULES=y\nCONFIG_NETFILTER=y\n# CONFIG_NF_CONNTRACK is not set\n",
            );
        },
        &["no-support", "file-missing", "not-loaded"],
    ),
    (
        "no netfilter",
        |host| {
            host.remove_module("nf_conntrack");
            host.depmod();
            host.write(&format!("boot/config-{}", host.release), "CONFIG_MODULES=y\n");
        },
        &["no-support", "file-missing", "not-loaded"],
    ),
    (
        "modprobe without xz",
        |host| {
            host.compress("nf_conntrack", "xz");
            host.depmod();
            host.write("usr/bin/kmod", "\u{7f}ELF +ZSTD -XZ +ZLIB +OPENSSL\0");
            host.write("sbin/modprobe", "\u{7f}ELF +ZSTD -XZ +ZLIB +OPENSSL\0");
        },
        &["no-support", "not-loaded"],
    ),
    (
        "refused by the kernel",
        |host| host.write("var/log/dmesg", "[    9.1] nf_conntrack: Unknown symbol frobnicate (err -2)\n"),
        &["insertion-error", "not-loaded"],
    ),
    (
        "refused for a parameter",
        |host| {
            host.write("var/log/dmesg", "[    9.1] nf_conntrack: `many' invalid for parameter `hashsize'\n");
            host.write("etc/modprobe.d/x.conf", "options nf_conntrack hashsize=many\n");
        },
        &["insertion-error", "not-loaded"],
    ),
    (
        "refused, and loaded since",
        |host| {
            host.write("proc/stat", "btime 1795160000\n");
            host.write("var/log/dmesg", "[  100.0] nf_conntrack: Unknown symbol frobnicate (err -2)\n");
            host.record("2026-11-20T12:00:00.000000Z", "nf_conntrack");
        },
        &["not-loaded"],
    ),
    (
        "loaded, and refused since",
        |host| {
            host.write("proc/stat", "btime 1795160000\n");
            host.write("var/log/dmesg", "[ 20000.0] nf_conntrack: Unknown symbol frobnicate (err -2)\n");
            host.record("2026-11-20T12:00:00.000000Z", "nf_conntrack");
        },
        &["insertion-error", "not-loaded"],
    ),
    (
        "a command that only speaks of modprobe",
        |host| {
            host.write(
                "etc/modprobe.d/x.conf",
                "install nf_conntrack /bin/echo \"modprobe is off\"; /bin/false # modprobe\n",
            )
        },
        &["blacklisted", "not-loaded"],
    ),
    (
        "a command of somebody's own",
        |host| host.write("etc/modprobe.d/x.conf", "install nf_conntrack /usr/local/sbin/ct\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "an install line that soft dependencies make idle",
        |host| host.write("etc/modprobe.d/x.conf", "install nf_conntrack /bin/false\nsoftdep nf_conntrack pre: ext4\n"),
        &["not-loaded"],
    ),
    (
        "an alias of it off",
        |host| host.write("etc/modprobe.d/x.conf", "alias ip_conntrack off\n"),
        &["blacklisted", "not-loaded"],
    ),
    (
        "masked by a link to /dev/null",
        |host| {
            host.write("usr/lib/modprobe.d/x.conf", "install nf_conntrack /bin/false\n");
            host.link("/dev/null", "etc/modprobe.d/x.conf");
        },
        &["not-loaded"],
    ),
    (
        "container of a cluster",
        |host| {
            host.write("proc/1/environ", "PATH=/bin\0KUBERNETES_SERVICE_HOST=10.0.0.1\0");
            host.write("proc/1/status", "CapBnd:\t00000000a80425fb\n");
        },
        &["container", "not-loaded"],
    ),
    ("no modules of any kernel", |host| host.remove_modules(), &["file-missing", "not-loaded"]),
    (
        "another module was refused",
        |host| {
            host.write("sys/module/module/parameters/sig_enforce", "Y\n");
            host.write("var/log/dmesg", "[    9.1] Loading of unsigned module is rejected\n");
        },
        &["not-loaded"],
    ),
    (
        "somebody was killed long ago",
        |host| {
            host.write("proc/uptime", "2592000.00 1.00\n");
            host.write("var/log/dmesg", "[ 4000.0] Out of memory: Killed process 9 (java) total-vm:1kB\n");
        },
        &["not-loaded"],
    ),
    (
        "a group above has no memory left",
        |host| {
            host.write("proc/self/cgroup", "0::/a.slice/b.service\n");
            host.write("sys/fs/cgroup/a.slice/memory.max", "10000000\n");
            host.write("sys/fs/cgroup/a.slice/memory.current", "9990000\n");
        },
        &["resources", "not-loaded"],
    ),
    (
        "nothing is said of what is built in",
        |host| {
            host.write_index("modules.builtin.bin", b"");
            host.write_index("modules.builtin.alias.bin", b"");
        },
        &["not-loaded"],
    ),
    (
        "two things at once",
        |host| {
            host.write("etc/modprobe.d/x.conf", "install nf_conntrack /bin/false\n");
            host.remove_module("nf_conntrack");
        },
        &["file-missing", "blacklisted", "not-loaded"],
    ),
];

/// Of conntrack once it is there.
pub const THERE: &[Case] = &[
    ("full", |host| host.table(65_536, 65_536, 65_536), &["table-full"]),
    (
        "overflowed, and still well filled",
        |host| {
            host.table(50_000, 65_536, 65_536);
            host.write("var/log/dmesg", "[    9.1] nf_conntrack: nf_conntrack: table full, dropping packet\n");
        },
        &["table-full"],
    ),
    (
        "overflowed once, and has room now",
        |host| {
            host.table(5_000, 262_144, 65_536);
            host.write("var/log/dmesg", "[    9.1] nf_conntrack: nf_conntrack: table full, dropping packet\n");
        },
        &[],
    ),
    ("filling", |host| host.table(55_000, 65_536, 65_536), &["table-small"]),
    ("small", |host| host.table(100, 8_192, 8_192), &["table-small"]),
    (
        "small as somebody wants it",
        |host| {
            host.table(100, 8_192, 8_192);
            host.write("etc/sysctl.d/x.conf", "net.netfilter.nf_conntrack_max = 8192\n");
        },
        &[],
    ),
    ("few buckets", |host| host.table(100, 1_048_576, 65_536), &["table-small"]),
    (
        "the line that sets max comes too early",
        |host| {
            host.table(100, 262_144, 65_536);
            host.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
            host.write("etc/sysctl.d/x.conf", "net.netfilter.nf_conntrack_max = 262144\n");
        },
        &["table-small"],
    ),
    (
        "used more than the next boot allows",
        |host| {
            host.table(100_000, 262_144, 65_536);
            host.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        },
        &["table-small"],
    ),
    (
        "nothing uses it",
        |host| {
            host.table(0, 131_072, 65_536);
            host.write(
                "proc/modules",
                "iptable_nat 1 0 - Live 0x0\nnf_nat 1 1 iptable_nat, Live 0x0\nnf_conntrack 1 1 nf_nat, Live 0x0\n",
            );
        },
        &["unused"],
    ),
    (
        "what builds on it is gone",
        |host| {
            host.unload(&["xt_conntrack"]);
            host.remove_module("xt_conntrack");
        },
        &["dependent-missing"],
    ),
    (
        "what builds on it is kept out",
        |host| {
            host.unload(&["nft_ct"]);
            host.write("etc/modprobe.d/x.conf", "install nft_ct /bin/false\n");
        },
        &["dependent-missing"],
    ),
    (
        "the line that sets max comes too early, and a rule sets it again",
        |host| {
            host.table(100, 262_144, 65_536);
            host.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
            host.write("etc/sysctl.d/x.conf", "net.netfilter.nf_conntrack_max = 262144\n");
            host.write(
                "etc/udev/rules.d/x.rules",
                "ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"nf_conntrack\", RUN+=\"/usr/lib/systemd/systemd-sysctl --prefix=/net\"\n",
            );
        },
        &[],
    ),
    (
        "small, hardly used, and the guard was not to change that",
        |host| {
            host.table(35, 7_680, 7_680);
            host.write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        },
        &[],
    ),
    ("nobody is asked for others", |host| host.write("proc/sys/kernel/modprobe", "\n"), &["helper"]),
    (
        "a blacklist after the fact",
        |host| host.write("etc/modprobe.d/x.conf", "install nf_conntrack /bin/false\n"),
        &[],
    ),
    (
        "built in",
        |host| {
            host.unload(&["nf_conntrack"]);
            host.write("sys/module/nf_conntrack/parameters/hashsize", "65536\n");
        },
        &[],
    ),
];

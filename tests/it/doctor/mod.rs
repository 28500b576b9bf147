//! `guard doctor` on hosts that are healthy but for one thing: directories made of a real kernel's modules.

mod host;

use crate::random::Random;
use host::{Broken, MODULES};

/// What is wrong with a host, and the causes that the doctor finds, in order.
type Case = (&'static str, fn(&Broken), &'static [&'static str]);

#[test]
fn a_healthy_host_has_no_finding() {
    for family in ["debian", "fedora"] {
        let host = Broken::healthy(family);
        let (status, report) = host.doctor("nf_conntrack");
        assert_eq!((status, host::causes(&report)), (0, vec![]), "{report:#}");
        assert_eq!(report["loaded"], true);
        for module in ["xt_conntrack", "nf-nat", "nft_ct", "ext4"] {
            let (status, report) = host.doctor(module);
            assert_eq!((status, host::causes(&report)), (0, vec![]), "{module}: {report:#}");
        }
    }
}

/// Of a module that is not there.
const NOT_THERE: &[Case] = &[
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

#[test]
fn the_cause_of_not_being_loaded_is_found() {
    let mut wrong = Vec::new();
    for family in ["debian", "fedora"] {
        for (what, break_it, expected) in NOT_THERE {
            let host = Broken::healthy(family);
            host.unload(&MODULES);
            break_it(&host);
            let (status, report) = host.doctor("nf_conntrack");
            if (status, host::causes(&report)) != (1, expected.to_vec()) {
                wrong.push(format!("{family}: {what}: {expected:?} expected: {:#}", report["findings"]));
                continue;
            }
            assert_eq!((&report["module"], &report["loaded"]), (&"nf_conntrack".into(), &false.into()));
            for finding in report["findings"].as_array().unwrap() {
                let (evidence, fix) = (finding["evidence"].as_array().unwrap(), finding["fix"].as_array().unwrap());
                assert!(!evidence.is_empty() && !fix.is_empty(), "{family}: {what}: {finding:#}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} broken hosts compared", 2 * NOT_THERE.len());
}

/// Of conntrack once it is there.
const THERE: &[Case] = &[
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

#[test]
fn what_is_wrong_once_it_is_there_is_found() {
    for (what, break_it, expected) in THERE {
        let host = Broken::healthy("debian");
        break_it(&host);
        let (status, report) = host.doctor("nf_conntrack");
        let expected_status = i32::from(!expected.is_empty());
        assert_eq!((status, host::causes(&report)), (expected_status, expected.to_vec()), "{what}: {report:#}");
        assert_eq!(report["loaded"], true, "{what}");
    }
}

#[test]
fn evidence_names_the_line_and_the_fix_mends_it() {
    let host = Broken::healthy("debian");
    host.unload(&MODULES);
    host.write("etc/modprobe.d/a b.conf", "# one\n\ninstall nf_conntrack /bin/false\n");
    let (_, report) = host.doctor("nf_conntrack");
    let finding = &report["findings"][0];
    assert!(
        finding["evidence"][0]
            .as_str()
            .unwrap()
            .contains("/etc/modprobe.d/a b.conf:3: install nf_conntrack /bin/false"),
        "{finding:#}"
    );
    assert_eq!(finding["fix"][0], "sed -i '3s/^/# /' '/etc/modprobe.d/a b.conf'");
    // Run as it is printed, on that host.
    host.run(finding["fix"][0].as_str().unwrap());
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), ["not-loaded"]);

    host.policy("[[rule]]\nid = \"no\"\nmodules = [\"nf_conntrack\"]\naction = \"block\"\n");
    let (_, report) = host.doctor("nf_conntrack");
    for command in report["findings"][0]["fix"].as_array().unwrap().iter().filter_map(|command| command.as_str()) {
        if command.starts_with("mkdir") || command.starts_with("printf") {
            host.run(command);
        }
    }
    host.guard(&["apply"]);
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), ["not-loaded"]);
}

#[test]
fn what_was_not_collected_is_not_missed() {
    let host = Broken::healthy("debian");
    host.keep_only_what_is_collected();
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), [""; 0]);
    host.unload(&MODULES);
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), ["not-loaded"]);
    host.write("etc/modprobe.d/x.conf", "install nf_conntrack /bin/false\n");
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), ["blacklisted", "not-loaded"]);
}

#[test]
fn several_lines_are_all_taken_out() {
    let host = Broken::healthy("debian");
    host.unload(&MODULES);
    host.write("etc/modprobe.d/a.conf", "install nf_conntrack /bin/false\n");
    host.write("etc/modprobe.d/b.conf", "# x\ninstall nf_* /bin/true\nblacklist nf_conntrack\n");
    let (_, report) = host.doctor("nf_conntrack");
    for finding in report["findings"].as_array().unwrap().iter().filter(|finding| finding["cause"] == "blacklisted") {
        for command in finding["fix"].as_array().unwrap().iter().filter_map(|command| command.as_str()) {
            if command.starts_with("sed") {
                host.run(command);
            }
        }
    }
    assert_eq!(host::causes(&host.doctor("nf_conntrack").1), ["not-loaded"]);

    host.write("proc/cmdline", "modprobe.blacklist=nouveau modprobe.blacklist=x,nf_conntrack\n");
    host.write(
        "etc/default/grub",
        "GRUB_CMDLINE_LINUX=\"modprobe.blacklist=nouveau modprobe.blacklist=x,nf_conntrack\"\n",
    );
    let (_, report) = host.doctor("nf_conntrack");
    let command = report["findings"][0]["fix"][0].as_str().unwrap();
    host.run(&command.replace(" /etc/default/grub.d/*.cfg; update-grub", ""));
    assert_eq!(
        host.read("etc/default/grub"),
        "GRUB_CMDLINE_LINUX=\"modprobe.blacklist=nouveau modprobe.blacklist=x\"\n"
    );
}

#[test]
fn a_newer_kernel_is_booted_and_an_older_ones_modules_are_no_help() {
    for (family, release, expected) in [
        ("debian", "6.1.0-99-amd64", "reboot"),
        ("debian", "6.1.0-9-amd64", "apt-get install --reinstall -y linux-image-6.1.0-"),
        ("fedora", "6.1.0-9-amd64", "dnf reinstall -y kernel-core-6.1.0-"),
    ] {
        let host = Broken::healthy(family);
        host.unload(&MODULES);
        host.rename_modules(release);
        let (_, report) = host.doctor("nf_conntrack");
        let fix = report["findings"][0]["fix"][0].as_str().unwrap();
        assert!(fix.starts_with(expected), "{release}: {fix}");
    }
}

#[test]
fn aliases_and_unknown_names_are_answered() {
    let host = Broken::healthy("debian");
    host.unload(&MODULES);
    let (_, report) = host.doctor("ip_conntrack");
    assert_eq!(report["module"], "nf_conntrack");
    let (status, report) = host.doctor("nf_conntrak");
    assert_eq!((status, host::causes(&report)), (1, vec!["file-missing", "not-loaded"]));
    assert!(report["findings"][0].to_string().contains("nf_conntrack"), "{report:#}");
    for name in ["../../etc/passwd", "", "a\nb", "/", ".", "\u{fffd}"] {
        let (status, _) = host.doctor(name);
        assert!(status == 1, "{name:?}: {status}");
    }
}

#[test]
fn nothing_that_is_read_is_the_end_of_it() {
    let mut random = Random::new(7);
    let host = Broken::healthy("debian");
    host.unload(&MODULES);
    host.write(
        "etc/modprobe.d/x.conf",
        "install nf_conntrack /bin/false\nblacklist nf_conntrack\nalias x nf_conntrack\n",
    );
    host.write(
        "var/log/kern.log",
        "Nov 20 12:00:00 r kernel: [ 9.1] nf_conntrack: Unknown symbol frobnicate (err -2)\n",
    );
    host.write("proc/self/cgroup", "0::/x\n");
    host.write("sys/fs/cgroup/x/memory.max", "1000\n");
    host.write("sys/fs/cgroup/x/memory.current", "1000\n");
    host.write("etc/sysctl.d/x.conf", "net.netfilter.nf_conntrack_max = 5\n");
    host.write("proc/net/stat/nf_conntrack", "entries drop early_drop\n1 2 3\n");
    let live = Broken::healthy("fedora");
    live.write("proc/net/stat/nf_conntrack", "entries drop early_drop\n1 2 3\n");
    let mut tried = 0;
    for host in [host, live] {
        let files: Vec<_> = host.files().into_iter().filter(|path| path.metadata().unwrap().len() > 0).collect();
        for _ in 0..200 {
            let path = random.pick(&files);
            let whole = std::fs::read(path).unwrap();
            let mut bytes = whole.clone();
            match random.below(3) {
                0 => bytes.truncate(random.below(bytes.len())),
                1 => (0..=random.below(20)).for_each(|_| {
                    let at = random.below(bytes.len());
                    bytes[at] = random.byte();
                }),
                _ => bytes = (0..random.below(5000)).map(|_| random.byte()).collect(),
            }
            std::fs::write(path, &bytes).unwrap();
            let (status, _) = host.doctor("nf_conntrack");
            assert!((0..=2).contains(&status), "{}: {status}", path.display());
            std::fs::write(path, &whole).unwrap();
            tried += 1;
        }
    }
    println!("{tried} cases of damage");
}

#[test]
fn nothing_is_touched() {
    let host = Broken::healthy("debian");
    host.unload(&MODULES);
    let before = host.listing();
    host.doctor("nf_conntrack");
    assert_eq!(host.listing(), before);
}

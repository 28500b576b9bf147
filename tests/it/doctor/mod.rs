//! `guard doctor` on hosts that are healthy but for one thing: directories made of a real kernel's modules.

mod broken;
mod host;

use crate::random::Random;
use broken::{NOT_THERE, THERE};
use host::{Broken, MODULES};

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

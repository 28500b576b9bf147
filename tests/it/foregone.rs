//! Answers that are given without modprobe, against those that are given with it: for every name of a whole kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use modprobe_guard::host::Host;
use modprobe_guard::judge::Judge;
use modprobe_guard::model::{Caller, Request, Requester};
use modprobe_guard::policy::Policy;
use modprobe_guard::text::Text;

use crate::helper::Root;
use crate::kernel::Kernel;

/// Least number of answers without modprobe for which the comparison counts as one with a whole kernel.
const WHOLE: usize = 1_000;
/// Of so many names one is asked of the helper itself, in all its ways.
const SAMPLE: usize = 50;
/// What the kernel's own tree does not try.
const MODPROBE_D: &[u8] = b"alias char-major-10-200 tun\nalias fs-nothing nothing\nalias off-* off\n\
    install loop true\ninstall nowhere true\nremove nothing-2 true\nblacklist vfat\n\
    softdep ext4 pre: nothing-3\noptions dm_mod x=1\n";
/// Asked for besides the kernel's own.
const STRANGE: &str = "nothing fs-nothing off-1 nowhere nothing-2 nothing-3 vfat fs-vfat loop ext4 dm-mod net-pf-99 [ ] a[-]b a* ? \
    .hidden ./loop.ko /loop.ko x/y symbol:nothing -r --help nf-conntrack.ko";

/// A root with the index of `kernel`, a third of its modules live, and kmod as the distribution installs it. Without
/// its libraries it can't be run, and the record says so.
fn root(kernel: &Kernel, with_libraries: bool, policy: &str) -> Root {
    let root = Root::new();
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    for entry in fs::read_dir(kernel.directory()).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() && name.starts_with("modules.") {
            root.file(&format!("/lib/modules/{release}/{name}"), &fs::read(entry.path()).unwrap());
        }
    }
    for (at, module) in kernel.modules().iter().enumerate() {
        let directory = format!("/sys/module/{}", module.replace('-', "_"));
        match at % 9 {
            0..3 => root.file(&format!("{directory}/initstate"), b"live\n"),
            3 => root.file(&format!("{directory}/initstate"), b"coming\n"),
            _ => {}
        }
    }
    fs::create_dir_all(root.path("/sys/module")).unwrap();
    root.file("/etc/modprobe.d/test.conf", MODPROBE_D);
    root.file("/etc/modprobe-guard/policy.toml", policy.as_bytes());
    let kmod = fs::canonicalize("/sbin/modprobe").unwrap();
    root.program("/bin/kmod", &fs::read(&kmod).unwrap());
    root.program("/opt/modprobe", &fs::read(&kmod).unwrap());
    fs::remove_file(root.path("/sbin/modprobe")).unwrap();
    symlink("/bin/kmod", root.path("/sbin/modprobe")).unwrap();
    if with_libraries {
        let listed = Command::new("ldd").arg(&kmod).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            root.program(library, &fs::read(library).unwrap());
        }
    }
    root
}

impl Kernel {
    fn modules(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory().join("modules.dep")).unwrap();
        let files = text.lines().map(|line| PathBuf::from(line.split(':').next().unwrap()));
        files.map(|file| file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned()).collect()
    }
}

/// One answer of the helper, and its one record without what differs from run to run.
fn answer(root: &Root, name: &[u8]) -> (i32, serde_json::Value) {
    let _ = fs::remove_dir_all(root.path("/run/modprobe-guard"));
    let status = root.request(name);
    let mut records = root.records();
    assert_eq!(records.len(), 1);
    let mut record = records.remove(0);
    assert_eq!(record["outcome"]["status"], status);
    for key in ["time", "requester"] {
        record.as_object_mut().unwrap().remove(key);
    }
    record["outcome"].as_object_mut().unwrap().remove("duration_us");
    (status, record)
}

#[test]
fn what_is_answered_without_modprobe_is_what_modprobe_answers() {
    let kernel = Kernel::unpacked();
    let own_modprobe = "version = 1\n[defaults]\ndelegate = \"/opt/modprobe\"\n";
    let without = root(&kernel, false, "version = 1\n");
    let with = root(&kernel, true, own_modprobe);
    let mut names: Vec<Vec<u8>> = STRANGE.split_whitespace().map(|name| name.as_bytes().to_vec()).collect();
    let strange = names.len();
    let known = kernel.names();
    // A slip makes a name of nothing.
    names.extend(known.iter().step_by(SAMPLE).map(|name| [name, &b"-no"[..]].concat()));
    names.extend(known);

    let next = AtomicUsize::new(0);
    let tally = Mutex::new((Vec::new(), [0; 3]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let host = Host::at(&with.path("/")).unwrap();
                let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
                let policy = Policy::default();
                let judge = Judge::new(&host, &release, &policy);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = names.get(at) else { break };
                    let request = Request { name: Text::from(name.as_slice()), caller: Caller::Modprobe };
                    let foregone = judge.foregone(&judge.judge(request, &Requester::unknown()));
                    let Some(foregone) = foregone else {
                        tally.lock().unwrap().1[2] += 1;
                        continue;
                    };
                    let would = with.run("/opt/modprobe", &[b"-n", b"-v", b"--", name], || Ok(()));
                    let status = would.status.code().unwrap();
                    let mut tally = tally.lock().unwrap();
                    tally.1[usize::from(foregone == 0)] += 1;
                    if foregone != status || !would.stdout.is_empty() {
                        tally.0.push(format!("{}: {foregone}, {would:?}", name.escape_ascii()));
                    }
                }
            });
        }
    });
    let (differences, [unknown, served, left]) = tally.into_inner().unwrap();
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
    assert!(unknown + served > WHOLE && unknown > 0, "{unknown}, {served}");

    let host = Host::at(&with.path("/")).unwrap();
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let policy = Policy::default();
    let judge = Judge::new(&host, &release, &policy);
    let (mut asked, mut short) = (0, 0);
    for (at, name) in names.iter().enumerate().filter(|(at, _)| *at < strange || at % SAMPLE == 0) {
        let request = Request { name: Text::from(name.as_slice()), caller: Caller::Kernel };
        let foregone = judge.foregone(&judge.judge(request, &Requester::unknown()));
        let (mine, theirs) = (answer(&without, name), answer(&with, name));
        let shown = name.escape_ascii();
        asked += 1;
        match foregone {
            Some(status) => {
                assert_eq!(mine, theirs, "{at} {shown}");
                assert_eq!(mine.0, status, "{shown}");
                short += 1;
            }
            // What is blocked needs no modprobe either.
            None if mine.1["verdict"]["action"] == "block" => {}
            None => assert!(mine.1["failures"].to_string().contains("/sbin/modprobe: run:"), "{shown}: {mine:?}"),
        }
    }
    println!(
        "foregone answers: {} names compared with modprobe -n -v ({unknown} unknown, {served} there already), {left} left to it; \
        {asked} names compared with and without modprobe through the helper, {short} of them answered without",
        unknown + served
    );
}

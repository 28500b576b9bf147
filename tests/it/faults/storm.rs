//! Many at once, while policies are applied and logs rotated: every request gets exactly one verdict, by the policy before
//! or after, and is on record, written or counted.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use modprobe_guard::audit::{self, Entry};
use modprobe_guard::host::Host;

use super::stage::{HELPER, LOG, POLICY, RULES, RUN, Stage};
use super::{Verdict, is_long, loader, stage};
use crate::helper::spawn;

const CALLERS: usize = 100;
/// Blocked while this stands in the policy, and only then.
const SOMETIMES: &str = "[[rule]]\nid = \"sometimes\"\nmodules = [\"m7\"]\naction = \"block\"\n";
/// What is asked for, and every answer that there may be.
const REQUESTS: [(&str, &[i32]); 4] =
    [("b", &[1]), ("c", &[loader::STATUS]), ("net-pf-9", &[1]), ("m7", &[1, loader::STATUS])];

/// Requests of each caller, and policies applied meanwhile: with `tests/run --all` a hundred thousand, and a thousand.
fn size() -> (usize, usize) {
    if is_long() { (1000, 1000) } else { (48, 50) }
}

#[test]
fn a_storm_gets_its_verdicts_whatever_goes_on_beside() {
    // Mounts are a thread's own.
    std::thread::spawn(storm).join().unwrap();
}

fn storm() {
    stage::own_mounts();
    let stage = Stage::new(Verdict::Allowed);
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    stage.put_program("/bin/sh", Path::new(busybox.expect("busybox-static is needed")));
    stage.put_program("/usr/sbin/guard", Path::new(env!("CARGO_BIN_EXE_guard")));
    fs::create_dir_all(stage.path("/kernel/answers")).unwrap();
    // Every line counts that the kernel's log gets.
    fs::remove_file(stage.path("/dev/kmsg")).unwrap();
    nix::unistd::mkfifo(&stage.path("/dev/kmsg"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut kernel_log = fs::File::options().read(true).write(true).open(stage.path("/dev/kmsg")).unwrap();
    let (each, applies) = size();
    let before = around(&stage);

    // The policy that sometimes blocks is the first, so that it is met.
    apply(&stage, 0);
    let callers: Vec<Child> = (0..CALLERS).map(|caller| start(&stage, &script(caller, each))).collect();
    let (is_over, deleted, failed) = (AtomicBool::new(false), Mutex::new(0), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        let path = |path: &str| stage.path(path);
        let (log, root) = (path(LOG), path("/"));
        scope.spawn({
            let (is_over, deleted) = (&is_over, &deleted);
            move || {
                while !is_over.load(SeqCst) {
                    *deleted.lock().unwrap() += rotate(&log);
                    let _ = audit::flush(&Host::at(&root).unwrap());
                }
            }
        });
        scope.spawn({
            let (is_over, failed) = (&is_over, &failed);
            move || {
                let mut text = String::new();
                while !is_over.load(SeqCst) {
                    let mut buffer = [0; 65536];
                    let length = kernel_log.read(&mut buffer).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
                *failed.lock().unwrap() = text;
            }
        });
        for round in 1..=applies {
            apply(&stage, round);
        }
        for mut caller in callers {
            assert!(caller.wait().unwrap().success());
        }
        is_over.store(true, SeqCst);
        fs::write(stage.path("/dev/kmsg"), "over\n").unwrap();
    });
    let failed = failed.into_inner().unwrap();
    let own = ["own work took", "panic", "crashed"];
    let without_record = failed.lines().filter(|line| own.iter().any(|word| line.contains(word))).count();

    let mut asked = 0;
    let mut met = [false; 2];
    for caller in 0..CALLERS {
        let answers = fs::read_to_string(stage.path(&format!("/kernel/answers/{caller}"))).unwrap();
        for answer in answers.lines() {
            let (name, status) = answer.split_once(' ').unwrap();
            let status = status.parse().unwrap();
            let (_, expected) = REQUESTS.iter().find(|(other, _)| *other == name).unwrap();
            assert!(expected.contains(&status), "{answer}");
            if name == "m7" {
                met[usize::from(status == 1)] = true;
            }
            asked += 1;
        }
    }
    assert_eq!((asked, met), (CALLERS * each, [true, true]));

    let host = Host::at(&stage.path("/")).unwrap();
    audit::flush(&host).unwrap();
    let on_record = count(audit::entries_of_host(&host).unwrap()) + deleted.into_inner().unwrap();
    assert_eq!(on_record + without_record, asked, "{without_record} said why they have none");
    assert_eq!(around(&stage), before, "files elsewhere");
    let left: Vec<_> = fs::read_dir(stage.path(RUN)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let ours = ["audit.jsonl", "audit.jsonl.flushing", "flush", "thinning", "loading"];
    assert!(left.iter().all(|name| ours.iter().any(|other| name == other)), "{left:?}");
    // A flush that a request began may still run, but not for long.
    let began = std::time::Instant::now();
    while !processes(&stage).is_empty() {
        assert!(began.elapsed().as_secs() < 60, "{:?}", processes(&stage));
        std::thread::yield_now();
    }
    println!("{asked} cases of a storm: {CALLERS} processes, {applies} policies; {on_record} on record");
}

/// Asks for one after the other, and keeps the answers.
fn script(caller: usize, each: usize) -> String {
    let names = REQUESTS.map(|(name, _)| name).join(" ");
    format!(
        "n=0; while :; do for name in {names}; do [ $n -lt {each} ] || exit 0; n=$((n + 1))\n\
         {HELPER} -q -- $name; echo $name $? >> /kernel/answers/{caller}; done; done"
    )
}

fn start(stage: &Stage, script: &str) -> Child {
    spawn(in_stage(stage, "/bin/sh").args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null()))
}

fn in_stage(stage: &Stage, program: &str) -> Command {
    let root = std::ffi::CString::new(stage.path("/").to_str().unwrap()).unwrap();
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    // SAFETY: system calls only, in the child.
    unsafe {
        command.pre_exec(move || {
            nix::errno::Errno::result(libc::chroot(root.as_ptr()) | libc::chdir(c"/".as_ptr()))?;
            Ok(())
        });
    }
    command
}

/// Puts one of the two policies in force.
fn apply(stage: &Stage, round: usize) {
    let policy = if round.is_multiple_of(2) { format!("{RULES}{SOMETIMES}") } else { RULES.to_owned() };
    // As an editor does: whole or not at all.
    let new = format!("{POLICY}.new");
    stage.file(&new, policy.as_bytes());
    fs::rename(stage.path(&new), stage.path(POLICY)).unwrap();
    let output = in_stage(stage, "/usr/sbin/guard").arg("apply").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// As logrotate: each one further, and the last one away. Returns what that held.
fn rotate(log: &Path) -> usize {
    const KEPT: usize = 3;
    let named = |number: usize| log.with_extension(format!("jsonl.{number}"));
    let mut gone = 0;
    if let Ok(file) = fs::File::open(named(KEPT)) {
        fs::remove_file(named(KEPT)).unwrap();
        gone = count(audit::read::of_readers([Box::new(file) as Box<dyn Read>]));
    }
    for number in (1..KEPT).rev() {
        let _ = fs::rename(named(number), named(number + 1));
    }
    let _ = fs::rename(log, named(1));
    gone
}

fn count(entries: audit::read::Entries) -> usize {
    let entries = entries.map(|entry| match entry.unwrap() {
        Entry::Record(_) => 1,
        Entry::Thinned(thinned) => thinned.thinned as usize,
        Entry::Foreign(line) => panic!("no record: {line}"),
    });
    entries.sum()
}

/// Processes whose root is the stage.
fn processes(stage: &Stage) -> Vec<std::ffi::OsString> {
    let root = stage.path("/");
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let here = processes.filter(|process| {
        let theirs = fs::read_link(process.path().join("root"));
        theirs.is_ok_and(|theirs| theirs == root || theirs == root.join(""))
    });
    here.map(|process| process.file_name()).collect()
}

/// Files that no request and no policy adds to.
fn around(stage: &Stage) -> Vec<String> {
    let mut names = Vec::new();
    for directory in ["/tmp", "/etc", "/etc/modprobe-guard", "/run", "/var/log"] {
        let entries = fs::read_dir(stage.path(directory)).unwrap();
        names.extend(entries.map(|entry| format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap())));
    }
    names.retain(|name| name != RUN && name != "/run/modprobe.d");
    names.sort();
    names
}

//! `guard log` on files, on a host below a directory, and while that host's records move.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use modprobe_guard::audit;
use modprobe_guard::host::Host;
use modprobe_guard::model::Record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing here takes long; a machine that is busy with other things may.
const LIMIT: Duration = Duration::from_secs(60);

fn record(name: &str, uid: u32, time: &str) -> Record {
    let text = format!(
        r#"{{"v":1,"time":"{time}","host":"r1","boot_id":null,"kernel":"6.1.0",
        "request":{{"name":"{name}","caller":"kernel"}},
        "requester":{{"confidence":"exact","found_by":"recorder","call_site":"__sock_create+0x1a2/0x2f0","pid":101,
        "tid":101,"comm":"iptables","exe":"/usr/sbin/iptables","cmdline":null,"uid":{uid},"euid":{uid},"auid":null,
        "session":null,"unit":"ssh.service","container":null,"userns":"other","mntns":"host","netns":"host",
        "parents":[]}},
        "verdict":{{"action":"block","enforced":true,"rule":"no-conntrack","source":"/etc/p:14",
        "module":"nf_conntrack","reason":null}},
        "modules":[{{"name":"nf_conntrack","state":"absent","needed_as":"target"}}],
        "outcome":{{"status":1,"duration_us":412,"loaded":[]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

const THINNED: &str = r#"{"v":1,"time":"2026-11-20T12:00:50.000000Z","thinned":35,"since":"2026-11-20T12:00:30.000000Z","kind":"1f","request":{"name":"net-pf-9","caller":"kernel"},"one_name":true,"verdict":{"action":"block","enforced":true,"rule":"no-conntrack","source":"/etc/p:14","module":"nf_conntrack","reason":null},"requester":{"uid":7,"exe":"/usr/sbin/iptables","unit":"ssh.service","container":null,"comm":null}}"#;

fn guard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_guard")).args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn told(arguments: &[&str]) -> (String, String, i32) {
    let output = guard(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

#[test]
fn files_are_filtered_and_summed_up() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("records");
    let records =
        [record("net-pf-9", 7, "2026-11-20T12:00:00.000000Z"), record("iptable_nat", 0, "2026-11-20T12:00:10.000000Z")];
    fs::write(&file, format!("{}{}{THINNED}\ncut o", line(&records[0]), line(&records[1]))).unwrap();
    let file = file.to_str().unwrap();
    let by = |uid| {
        format!(
            "iptables[101] /usr/sbin/iptables uid {uid} ssh.service own user namespace in __sock_create+0x1a2/0x2f0"
        )
    };
    let rule = "rule no-conntrack for nf_conntrack";
    let first = format!("2026-11-20T12:00:00.000000Z BLOCK   net-pf-9  by {}  {rule}\n", by(7));
    let second = format!("2026-11-20T12:00:10.000000Z BLOCK   iptable_nat  by {}  {rule}\n", by(0));
    let count = format!(
        "2026-11-20T12:00:50.000000Z BLOCK   net-pf-9  and 35 more like it since 2026-11-20T12:00:30.000000Z  \
         by /usr/sbin/iptables uid 7 ssh.service  {rule}\n"
    );
    let foreign = "guard: 1 line is no record (cut off, or somebody else's)\n";
    for (options, expected) in [
        (&[][..], format!("{first}{second}{count}")),
        (&["--uid", "0"], second.clone()),
        (&["--request", "net_pf-*", "--until", "2026-11-20 12:00:20"], first.clone()),
        (&["--since", "2026-11-20T13:00:45+01:00"], count.clone()),
        (&["--verdict", "allow", "--verdict", "allow-sysctl"], String::new()),
    ] {
        let arguments = [&["log", file], options].concat();
        assert_eq!(told(&arguments), (expected, foreign.to_owned(), 0), "{options:?}");
    }
    // What a count does not tell is neither taken for granted nor passed over.
    let (out, errors, status) = told(&["log", file, "--module", "iptable_nat"]);
    assert_eq!((out.as_str(), status), ("", 0));
    assert!(errors.contains("guard: 35 requests ") && errors.contains(" --module\n"), "{errors}");
    let (out, _, _) = told(&["log", file, "--summary", "--json"]);
    let rows: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |row: &serde_json::Value| (row["count"].as_u64().unwrap(), row["request"].as_str().unwrap().to_owned());
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), [(36, "net-pf-9".to_owned()), (1, "iptable_nat".to_owned())]);
    let (out, _, _) = told(&["log", file, "--summary"]);
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn lines_that_are_not_told_are_named_with_their_files() {
    let root = tempfile::tempdir().unwrap();
    let whole = line(&record("x", 7, "2026-11-20T12:00:00.000000Z"));
    let newer = whole.replace("\"v\":1", "\"v\":2").replace("\"confidence\"", "\"surety\"");
    assert_ne!(newer, whole);
    let files = [("a", format!("{whole}cut o\n")), ("b", whole.clone()), ("c", format!("x\n{newer}y\n"))];
    let paths = files.map(|(name, text)| {
        let path = root.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let [a, b, c] = paths.each_ref().map(String::as_str);
    let (out, errors, status) = told(&["log", "--json", a, b, c]);
    assert_eq!((out.lines().count(), status), (2, 0));
    let expected = format!(
        "guard: 3 lines are no records (cut off, or somebody else's): {a} (1), {c} (2)\n\
         guard: 1 line is of a newer version; read it with that one: {c} (1)\n"
    );
    assert_eq!(errors, expected);
    let of_one = "guard: 2 lines are no records (cut off, or somebody else's)\n\
                  guard: 1 line is of a newer version; read it with that one\n";
    assert_eq!(told(&["log", c]).1, of_one);
}

#[test]
fn what_a_full_device_does_not_take_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    put("proc/sys/kernel/osrelease", "6.1.0\n");
    let records = put("records", &line(&record("x", 7, "2026-11-20T12:00:00.000000Z")).repeat(3));
    let policy = put("p.toml", "version = 1\n");
    let host = root.path().to_str().unwrap();
    let run = |verb: &[&str], out: Stdio| {
        let mut guard = Command::new(env!("CARGO_BIN_EXE_guard"));
        let output =
            guard.args(verb).args(["--root", host]).env_clear().stdin(Stdio::null()).stdout(out).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status)
    };
    for verb in [
        &["log", &records][..],
        &["log", "--summary", &records],
        &["status"],
        &["status", "--json"],
        &["check", &policy],
        &["--dry-run", "x"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let (errors, status) = run(verb, full.into());
        let lost = errors.lines().filter(|line| line.starts_with("guard: standard output: write: ")).count();
        assert_eq!(lost, 1, "{verb:?}: {errors}");
        assert!(!status.success(), "{verb:?}");
        // Whoever left is not told.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (errors, _) = run(verb, writer.into());
        assert!(!errors.contains("standard output"), "{verb:?}: {errors}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (arguments, remedy) in [
        (&["--since", "noon"][..], "yesterday"),
        (&["--until", "2026-11-31"], "2026-11-20T12:00:00Z"),
        (&["--since", "today", "--until", "yesterday"], "nothing lies between"),
        (&["--verdict", "deny"], "allow-sysctl"),
        (&["--request", ""], "write a name"),
        (&["--follow", "--summary"], "cannot be used with"),
        (&["--follow", "FILE"], "cannot be used with"),
        (&["--flush", "--uid", "7"], "cannot be used with"),
        (&["/no/such/file"], "/no/such/file: open: "),
    ] {
        let (out, errors, status) = told(&[&["log"], arguments].concat());
        assert!(out.is_empty() && status == 2 && errors.contains(remedy), "{arguments:?}: {status} {errors}");
    }
}

fn host(root: &Path) -> Host {
    for directory in ["run", "var/log"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    Host::at(root).unwrap()
}

#[test]
fn a_host_is_read_wherever_its_records_are() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let host = host(root.path());
    let log = |options: &[&str]| told(&[&["--root", root.path().to_str().unwrap(), "log"], options].concat());
    assert_eq!(log(&[]), (String::new(), String::new(), 0));
    audit::write(&host, &record("one", 0, "2026-11-20T12:00:00.000000Z"));
    assert_eq!(log(&["--flush"]), (String::new(), String::new(), 0));
    audit::write(&host, &record("two", 0, "2026-11-20T12:00:01.000000Z"));
    let (out, errors, status) = log(&[]);
    let names: Vec<&str> =
        out.lines().map(|line| line.split(' ').filter(|word| !word.is_empty()).nth(2).unwrap()).collect();
    assert_eq!((names, errors.as_str(), status), (vec!["one", "two"], "", 0));
}

/// A `guard log --follow` and its lines.
struct Followed {
    child: Child,
    lines: Receiver<String>,
}

impl Followed {
    fn start(root: &Path, options: &[&str]) -> Followed {
        let mut child = Command::new(env!("CARGO_BIN_EXE_guard"))
            .args(["--root", root.to_str().unwrap(), "log", "--follow"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Followed { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line in time")
    }

    /// Ends it. What it had said on standard error. Not as Ctrl-C does: what runs in the background may ignore that.
    fn interrupt(mut self) -> String {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        self.child.wait().unwrap();
        errors
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `condition` comes to hold.
fn comes(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn whoever_follows_sees_every_entry_once() {
    const WRITERS: u32 = 4;
    const EACH: u32 = 500;
    // No more than there are names for: what is removed before anybody looks is seen by nobody.
    const ROTATIONS: u32 = 3;
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let host = host(root.path());
    let name = |number: u32| format!("n{number}");
    // Some lie in the log before, some in the spool. Every one is of a user of its own, so that none is thinned.
    let ask = |number: u32| audit::write(&host, &record(&name(number), number, &audit::now()));
    (0..20).for_each(ask);
    audit::flush(&host).unwrap();
    (20..40).for_each(ask);
    let followed = Followed::start(root.path(), &["--json"]);
    let is_over = AtomicBool::new(false);
    let mut seen: HashMap<String, u32> = HashMap::new();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut rotations = 0;
            while !is_over.load(Ordering::Relaxed) || rotations == 0 {
                audit::flush(&host).unwrap();
                // Rotation as others do it.
                let log = |older: u32| match older {
                    0 => root.path().join("var/log/modprobe-guard/audit.jsonl"),
                    _ => root.path().join(format!("var/log/modprobe-guard/audit.jsonl.{older}")),
                };
                let limit = if is_over.load(Ordering::Relaxed) { 0 } else { 200_000 };
                if rotations < ROTATIONS && fs::metadata(log(0)).is_ok_and(|log| log.len() > limit) {
                    (0..=rotations).rev().for_each(|older| fs::rename(log(older), log(older + 1)).unwrap());
                    rotations += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || (0..EACH).for_each(|number| ask(40 + writer * EACH + number))))
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        flusher.join().unwrap();
        // The last one there is comes last; nothing else moves any more.
        audit::write(&host, &record("last", 9999, "2999-01-01T00:00:00.000000Z"));
        loop {
            let entry: serde_json::Value = serde_json::from_str(&followed.next()).unwrap();
            let name = entry["request"]["name"].as_str().unwrap().to_owned();
            assert!(entry.get("thinned").is_none(), "{entry}");
            if name == "last" {
                break;
            }
            *seen.entry(name).or_default() += 1;
        }
    });
    let wrong: Vec<String> = (0..40 + WRITERS * EACH).map(name).filter(|name| seen.get(name) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not once: {wrong:?}");
    assert_eq!(seen.len() as u32, 40 + WRITERS * EACH);
    // What was told from the spool is not told again from the log.
    audit::flush(&host).unwrap();
    audit::write(&host, &record("end", 9998, "2999-01-01T00:00:01.000000Z"));
    assert!(followed.next().contains("\"end\""));
    assert_eq!(followed.interrupt(), "");
}

#[test]
fn following_begins_before_there_is_anything_and_takes_filters() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let host = host(root.path());
    let followed = Followed::start(root.path(), &["--uid", "7"]);
    for (name, uid) in [("a", 0), ("b", 7), ("c", 0), ("d", 7)] {
        audit::write(&host, &record(name, uid, &audit::now()));
        if name == "b" {
            assert!(followed.next().contains(" b  by iptables[101]"));
            audit::flush(&host).unwrap();
        }
    }
    assert!(followed.next().contains(" d  by iptables[101]"));
    assert_eq!(followed.lines.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
    assert_eq!(followed.interrupt(), "");
}

#[test]
fn a_follower_ends_when_nobody_reads() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    host(root.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(["--root", root.path().to_str().unwrap(), "log", "-f"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let has_ended = comes(|| child.try_wait().unwrap().is_some());
    let _ = child.kill();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let _ = child.wait();
    assert!(has_ended && errors.is_empty(), "{errors}");
}

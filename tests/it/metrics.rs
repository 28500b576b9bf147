//! `guard metrics` on a host below a directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

const RECORD: &str = r#"{"v":1,"time":"2026-11-20T12:00:00.000000Z","host":"r1","boot_id":null,"kernel":"6.1.0","request":{"name":"x","caller":"kernel"},"requester":{"confidence":"exact","uid":0,"unit":"ssh.service","parents":[]},"verdict":{"action":"block","enforced":true,"rule":"no","source":"/etc/p:1","module":"m","reason":null},"modules":[],"outcome":{"status":1,"duration_us":400,"loaded":[]}}"#;
const REQUESTS: &str =
    "modprobe_guard_requests_total{action=\"block\",caller=\"kernel\",enforced=\"true\",rule=\"no\"} ";

fn host() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    for directory in ["run/modprobe-guard", "var/log/modprobe-guard", "var/lib", "proc/sys/kernel", "out"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("proc/sys/kernel/modprobe"), "/usr/sbin/modprobe-guard\n").unwrap();
    let log = root.path().join("var/log/modprobe-guard/audit.jsonl");
    fs::write(&log, format!("{RECORD}\n").repeat(3)).unwrap();
    (root, log)
}

fn metrics(root: &Path, arguments: &[&str]) -> (String, String, i32) {
    let mut guard = Command::new(env!("CARGO_BIN_EXE_guard"));
    guard.args(["metrics", "--root"]).arg(root).args(arguments).env_clear().stdin(Stdio::null());
    let output = guard.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

fn requests(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(REQUESTS)).unwrap().parse().unwrap()
}

#[test]
fn it_prints_or_replaces_a_file() {
    let (root, log) = host();
    let (text, errors, status) = metrics(root.path(), &[]);
    assert_eq!((errors.as_str(), status), ("", 0));
    assert_eq!(requests(&text), 3);
    for line in [
        "# TYPE modprobe_guard_requests_total counter",
        "modprobe_guard_armed 1",
        "modprobe_guard_policy_sound 1",
        "modprobe_guard_blocks_total{enforced=\"true\",unit=\"ssh.service\"} 3",
        "modprobe_guard_first_block_timestamp_seconds{enforced=\"true\",unit=\"ssh.service\"} 1795176000",
        "modprobe_guard_unreadable_parts 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    // What was counted stays so when the log goes.
    fs::remove_file(log).unwrap();
    let file = root.path().join("out/guard.prom");
    fs::write(root.path().join("elsewhere"), "").unwrap();
    symlink(root.path().join("elsewhere"), &file).unwrap();
    let (out, errors, status) = metrics(root.path(), &["--output", file.to_str().unwrap()]);
    assert_eq!((out.as_str(), errors.as_str(), status), ("", "", 0));
    assert_eq!(requests(&fs::read_to_string(&file).unwrap()), 3);
    let metadata = fs::symlink_metadata(&file).unwrap();
    assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o644);
    assert_eq!(fs::read(root.path().join("elsewhere")).unwrap(), b"", "a link was followed");
    assert_eq!(fs::read_dir(root.path().join("out")).unwrap().count(), 1);
    let (json, _, _) = metrics(root.path(), &["--json"]);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line =
        lines.iter().find(|line| line["name"] == "modprobe_guard_requests_total" && line["labels"]["rule"] == "no");
    assert_eq!(line.unwrap()["value"], 3);
}

#[test]
fn a_dash_is_standard_output_and_another_ending_is_told() {
    let (root, _) = host();
    let directory = root.path().join("out");
    let mut guard = Command::new(env!("CARGO_BIN_EXE_guard"));
    guard.args(["metrics", "--output", "-", "--root"]).arg(root.path()).current_dir(&directory).env_clear();
    let output = guard.stdin(Stdio::null()).output().unwrap();
    assert_eq!(requests(&String::from_utf8(output.stdout).unwrap()), 3);
    assert_eq!((output.stderr.as_slice(), fs::read_dir(&directory).unwrap().count()), (&b""[..], 0));
    let file = directory.join("guard.txt");
    let (_, errors, status) = metrics(root.path(), &["--output", file.to_str().unwrap()]);
    assert!(errors.contains("guard.txt: written; node_exporter reads only what ends in .prom"), "{errors}");
    assert_eq!((requests(&fs::read_to_string(file).unwrap()), status), (3, 0));
}

#[test]
fn what_cannot_be_read_or_written_is_told() {
    let (root, log) = host();
    let told = metrics(root.path(), &["--output", "/no/such/directory/guard.prom"]);
    assert!(told.2 == 1 && told.1.contains("/no/such/directory/guard.prom: write: "), "{told:?}");
    // Damaged: it begins anew, and says so once.
    let state = root.path().join("var/lib/modprobe-guard/metrics.json");
    fs::write(&state, "{").unwrap();
    let (text, errors, status) = metrics(root.path(), &[]);
    assert!(status == 1 && errors.contains("counters begin anew"), "{errors}");
    assert!(requests(&text) == 3 && text.contains("modprobe_guard_unreadable_parts 1\n"));
    assert_eq!(metrics(root.path(), &[]).2, 0);
    // Others may write there: it is not believed. Whoever only looks gets numbers all the same.
    fs::set_permissions(state.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let (text, errors, status) = metrics(root.path(), &[]);
    assert!(status == 0 && errors.contains("others may write") && requests(&text) == 3, "{errors}");
    let file = root.path().join("out/guard.prom");
    assert_eq!(metrics(root.path(), &["--output", file.to_str().unwrap()]).2, 1);
    // Records that cannot be read: what was told before, and a one.
    fs::set_permissions(state.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let (text, errors, status) = metrics(root.path(), &[]);
    assert!(status == 1 && errors.contains("records are for root"), "{errors}");
    assert!(requests(&text) == 3 && text.contains("modprobe_guard_unreadable_parts 1\n"), "{text}");
}

#[test]
fn runs_at_the_same_time_count_nothing_twice() {
    let (root, log) = host();
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let root = root.path().to_owned();
            thread::spawn(move || requests(&metrics(&root, &[]).0))
        })
        .collect();
    assert!(runs.into_iter().all(|run| run.join().unwrap() == 3));
    let mut file = fs::File::options().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut file, format!("{RECORD}\n").as_bytes()).unwrap();
    assert_eq!(requests(&metrics(root.path(), &[]).0), 4);
}

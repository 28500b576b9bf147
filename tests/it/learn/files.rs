//! Where records are read from.

use std::io::Write;
use std::path::Path;

use super::*;

/// `bytes` packed by the tool that people use.
fn packed(tool: &str, file: &Path) -> PathBuf {
    let packed = file.with_extension("packed");
    let output = Command::new(tool).arg("-c").arg(file).output().unwrap();
    assert!(output.status.success());
    fs::write(&packed, output.stdout).unwrap();
    packed
}

#[test]
fn packed_files_and_standard_input_are_read_alike() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let expected = learned(&[], &[&all]);
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("records");
    fs::write(&plain, all.concat()).unwrap();
    let log = |file: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_guard"))
            .args(["log", file.to_str().unwrap()])
            .env_clear()
            .output()
            .unwrap();
        text(&output.stdout)
    };
    for tool in ["gzip", "zstd", "xz"] {
        let packed = packed(tool, &plain);
        assert_eq!(text(&guard(&[], std::slice::from_ref(&packed)).stdout), expected, "{tool}");
        assert_eq!(log(&packed), log(&plain), "{tool}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(["learn", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(all.concat().as_bytes()).unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
}

#[test]
fn what_is_whole_of_a_packed_file_that_is_cut_off_is_learned() {
    let all = lines(&docker(&Kernel::unpacked(), "d1"));
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("records");
    // Far more than what a decoder holds back.
    fs::write(&plain, all.concat().repeat(100)).unwrap();
    let whole = packed("gzip", &plain);
    let bytes = fs::read(&whole).unwrap();
    fs::write(&whole, &bytes[..bytes.len() - 20]).unwrap();
    let output = guard(&["--bare"], std::slice::from_ref(&whole));
    let errors = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), learned(&["--bare"], &[&all])), "{errors}");
    assert!(errors.contains("records.packed: read: "), "{errors}");
}

#[test]
fn this_hosts_records_are_learned_wherever_they_are() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let root = tempfile::tempdir().unwrap();
    let (front, back) = all.split_at(3);
    for (path, lines) in [("var/log/modprobe-guard/audit.jsonl", front), ("run/modprobe-guard/audit.jsonl", back)] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.concat()).unwrap();
    }
    let output = guard(&["--root", root.path().to_str().unwrap()], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), learned(&[], &[&all])));
}

#[test]
fn what_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("records");
    fs::write(&file, b"\xff\0no record\n").unwrap();
    let records = directory.path().join("a record");
    fs::write(&records, lines(&watched(&Kernel::unpacked(), "w1")).concat()).unwrap();
    let nowhere = PathBuf::from("/no/such/file");
    for (arguments, files, status, told) in [
        (&[][..], vec![nowhere.clone()], 2, "/no/such/file: open: "),
        (&["--json"], vec![file.clone()], 2, "--json goes with --against"),
        (&["--against", "/no/such/policy"], vec![file.clone()], 2, "/no/such/policy: "),
        (&["--default=ask"], vec![file.clone()], 2, "possible values: allow, block"),
        (&[], vec![file], 2, "no records found in "),
    ] {
        let output = guard(arguments, &files);
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{arguments:?}: {errors}");
        assert!(errors.contains(told), "{errors}");
    }
    let output = guard(&[], &[records, nowhere]);
    assert_eq!(output.status.code(), Some(1), "what could be read is told");
    assert!(text(&output.stderr).contains("/no/such/file: open: ") && !output.stdout.is_empty());
    // Of which nothing is understood: there is no policy in that either.
    let strange = directory.path().join("strange");
    let line = lines(&watched(&Kernel::unpacked(), "w1"))[0].replace("\"block\"", "\"ask\"");
    fs::write(&strange, line).unwrap();
    let output = guard(&["--default=block"], &[strange]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{}", text(&output.stderr));
    let output = guard(&["--root", directory.path().to_str().unwrap()], &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no records found in "), "{}", text(&output.stderr));
}

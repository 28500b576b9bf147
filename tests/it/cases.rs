//! Hosts as directories: `tests/cases/NN-name/` holds `root/` (a host), `args` (a command line of `guard`, one argument
//! a line) and `expected` (its output, its errors, its exit status). They are documentation as well.
//!
//! With `UPDATE_EXPECTED=1` in the environment what comes out is written there; read the diff before you commit it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::index::write_indexes;

#[test]
fn hosts_as_directories() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut names: Vec<PathBuf> = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 5, "only {} cases in {}", names.len(), cases.display());
    let wrong: Vec<String> = names.iter().filter_map(|case| run(case).err()).collect();
    println!("{} cases", names.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn run(case: &Path) -> Result<(), String> {
    let host = tempfile::tempdir().unwrap();
    copy(&case.join("root"), host.path());
    for kernel in fs::read_dir(host.path().join("lib/modules")).into_iter().flatten() {
        write_indexes(&kernel.unwrap().path());
    }
    let arguments = fs::read_to_string(case.join("args")).unwrap();
    let input = fs::File::open(case.join("input")).map_or_else(|_| Stdio::null(), Stdio::from);
    let output = Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(["--root", host.path().to_str().unwrap()])
        .args(arguments.lines())
        .current_dir(case)
        .env_clear()
        .stdin(input)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(host.path().to_str().unwrap(), "ROOT");
    let found = format!(
        "{}--- errors\n{}--- exit {}\n",
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap_or(-1)
    );
    let expected_path = case.join("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected_path, &found).unwrap();
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    if found == expected { Ok(()) } else { Err(difference(case, &expected, &found)) }
}

fn difference(case: &Path, expected: &str, found: &str) -> String {
    let mut text = format!("{}:\n", case.file_name().unwrap().display());
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    for at in 0..expected.len().max(found.len()) {
        match (expected.get(at), found.get(at)) {
            (a, b) if a == b => {}
            (a, b) => {
                text += &a.map_or_else(String::new, |line| format!("  - {line}\n"));
                text += &b.map_or_else(String::new, |line| format!("  + {line}\n"));
            }
        }
    }
    text
}

/// With modes that do not depend on the umask of whoever checked the files out: owner and mode of a policy are judged.
fn copy(from: &Path, to: &Path) {
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

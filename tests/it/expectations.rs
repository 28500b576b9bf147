//! `guard test`: what an author expects of a policy, on a whole kernel; the shipped policies among them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::kernel::Kernel;

fn guard(kernel: &Kernel, arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
    command.arg("test").arg(file).arg("--root").arg(&kernel.root).args(["--kernel", &kernel.release]).args(arguments);
    command.env_clear().output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_shipped_policies_do_what_is_expected_of_them() {
    let kernel = Kernel::unpacked();
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let named = |directory: &str| -> Vec<PathBuf> {
        fs::read_dir(conf.join(directory)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    for policy in named("profiles").into_iter().chain([conf.join("policy.toml")]) {
        let tests = conf.join("tests").join(policy.file_name().unwrap());
        let output = guard(&kernel, &[], &tests);
        let last = out(&output).lines().last().unwrap().to_owned();
        assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), errors(&output));
        assert!(last.contains(" 0 failed, 0 skipped") && !last.starts_with("0 passed"), "{last}");
    }
}

#[test]
fn a_file_that_is_missing_is_told_with_the_one_that_names_it() {
    let kernel = Kernel::unpacked();
    let directory = tempfile::tempdir().unwrap();
    let tests = directory.path().join("t.toml");
    let missing = guard(&kernel, &[], &tests);
    assert_eq!(missing.status.code(), Some(2));
    assert!(!errors(&missing).contains("policy"), "{}", errors(&missing));
    fs::write(&tests, "policy = 'gone.toml'\n[[test]]\nrequest = 'x'\nverdict = 'allow'\n").unwrap();
    let output = guard(&kernel, &[], &tests);
    let (named, gone) = (tests.display(), directory.path().join("gone.toml"));
    let begins = format!("guard: {named}: policy: {}: cannot read: ", gone.display());
    assert!(errors(&output).starts_with(&begins), "{}", errors(&output));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_full_device_is_told_once() {
    let kernel = Kernel::unpacked();
    let directory = tempfile::tempdir().unwrap();
    let tests = directory.path().join("t.toml");
    fs::write(directory.path().join("p.toml"), "version = 1\n").unwrap();
    fs::write(&tests, "policy = 'p.toml'\n[[test]]\nrequest = ['sctp', 'nf_nat']\nverdict = 'allow'\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
    command.arg("test").arg(&tests).arg("--root").arg(&kernel.root).args(["--kernel", &kernel.release]).env_clear();
    let output = command.stdout(fs::File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    let told = errors(&output);
    assert!(told.starts_with("guard: standard output: write: ") && told.lines().count() == 1, "{told}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_not_as_expected_is_told_with_what_decided() {
    let kernel = Kernel::unpacked();
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    put(
        "p.toml",
        "version = 1\n[[rule]]\nid = 'no'\nmodules = ['nf_conntrack']\naction = 'block'\nrequester = { uid = ['!0'] }\n\
         [[rule]]\nid = 'watch'\nmodules = ['sctp']\naction = 'block'\nenforce = false\n",
    );
    let tests = put(
        "t.toml",
        "policy = 'p.toml'\n\
         [[test]]\nrequest = ['iptable_nat', 'nowhere']\nrequester = { uid = 7 }\nverdict = 'block'\nrule = 'no'\n\
         [[test]]\nrequest = 'iptable_nat'\nverdict = 'block'\n\
         [[test]]\nrequest = 'nf_conntrack'\nrequester = { uid = 7 }\nverdict = 'block'\nrule = 'other'\n\
         [[test]]\nrequest = 'nowhere'\nverdict = 'allow'\nrule = 'other'\n\
         [[test]]\nrequest = 'sctp'\nverdict = 'block'\n\
         [[test]]\nrequest = ['iptable-nta', 'crypto-md55', 'fs-overlai']\nverdict = 'allow'\n",
    );
    let output = guard(&kernel, &[], &tests);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let (shown, policy) = (tests.display(), directory.path().join("p.toml"));
    let (policy, release) = (policy.display(), &kernel.release);
    // A name that is near to none is no slip of one.
    let meant = |name: &str, meant: &str| {
        format!("skipped {shown}:22: {name}: {release} has no such module, and no rule is about the name{meant}")
    };
    let expected = [
        format!("ok      {shown}:2: iptable_nat uid=7: block by rule \"no\" ({policy}:2) for nf_conntrack"),
        format!("skipped {shown}:2: nowhere uid=7: {release} has no such module, and no rule is about the name"),
        format!("FAILED  {shown}:7: iptable_nat: expected block, found allow by default"),
        format!(
            "FAILED  {shown}:10: nf_conntrack uid=7: expected block by rule \"other\", found block by rule \"no\" \
             ({policy}:2) for nf_conntrack"
        ),
        format!("FAILED  {shown}:15: nowhere: expected allow by rule \"other\", found allow by default"),
        format!(
            "FAILED  {shown}:19: sctp: expected block, found allow by rule \"watch\" ({policy}:7) for sctp, which would \
             block if it were enforced"
        ),
        meant("iptable-nta", "; did you mean `iptable-nat`?"),
        meant("crypto-md55", ""),
        meant("fs-overlai", "; did you mean `fs-overlay`?"),
        format!(
            "1 passed, 4 failed, 4 skipped (no such module in {release}: a slip, or another kernel's), of {policy}"
        ),
    ];
    assert_eq!(out(&output).lines().collect::<Vec<_>>(), expected);

    let output = guard(&kernel, &["--json"], &tests);
    let results: Vec<serde_json::Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = results.iter().map(|result| result["result"].as_str().unwrap()).collect();
    assert_eq!(words, ["passed", "skipped", "failed", "failed", "failed", "failed", "skipped", "skipped", "skipped"]);
    assert_eq!((&results[1]["meant"], &results[6]["meant"]), (&serde_json::Value::Null, &"iptable-nat".into()));
    assert_eq!(results[0]["found"]["rule"], "no");
    assert_eq!(results[0]["expected"]["verdict"], "block");

    // Another policy than the one that is named.
    let other = put("other.toml", "version = 1\n[[rule]]\nid = 'other'\nmodules = ['*']\naction = 'block'\n");
    let output = guard(&kernel, &["--policy", other.to_str().unwrap()], &tests);
    assert!(out(&output).ends_with(&format!("of {}\n", other.display())), "{}", out(&output));
}

#[test]
fn what_cannot_be_told_is_said() {
    let kernel = Kernel::unpacked();
    let directory = tempfile::tempdir().unwrap();
    let test = "[[test]]\nrequest = 'sctp'\nverdict = 'allow'\n";
    for (text, arguments, said) in [
        ("[[test]]\nrequest = 'a'\nverdict = 'no'\n", &[][..], "t.toml:3:11: `verdict`"),
        ("policy = 'nowhere.toml'\n[[test]]\nrequest = 'a'\nverdict = 'block'\n", &[], "nowhere.toml: cannot read"),
        (
            "[[test]]\nrequest = 'a'\nverdict = 'block'\nrequester = { unit = 'x' }\n",
            &[],
            "t.toml:1: requester: unit=x: write",
        ),
        (test, &["--kernel", "0.0.0"], "name a kernel that is installed"),
        ("[[test]]\nrequest = 'nowhere'\nverdict = 'allow'\n", &[], ""),
    ] {
        let file = directory.path().join("t.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
        command.arg("test").arg(&file).arg("--root").arg(&kernel.root);
        let of_tree = ["--kernel", kernel.release.as_str()];
        command.args(if arguments.is_empty() { &of_tree[..] } else { arguments });
        let output = command.env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}: {}", out(&output));
        assert!(errors(&output).contains(said), "{text}: {}", errors(&output));
    }
    let output = guard(&kernel, &[], Path::new("/no/such/file"));
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""));
    assert!(errors(&output).contains("/no/such/file: cannot read"), "{}", errors(&output));
}

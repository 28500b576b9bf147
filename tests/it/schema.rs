//! The schemas that `guard generate` writes, by a validator of its own: it has to take what is shipped, and to refuse
//! what the parser refuses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use modprobe_guard::policy::{Source, expectations, parse};
use serde_json::{Value, json};

/// Debian's, from python3-jsonschema.
const PYTHON: &str = "/usr/bin/python3";
/// Reads a schema and a list of documents; prints of each what is wrong with it.
const VALIDATE: &str = "\
import json, sys
from jsonschema import Draft7Validator
given = json.load(sys.stdin)
Draft7Validator.check_schema(given['schema'])
validator = Draft7Validator(given['schema'])
print(json.dumps([[error.message for error in validator.iter_errors(one)] for one in given['documents']]))
";

/// What is wrong with each of `texts`, which are TOML.
fn errors(schema: &str, texts: &[String]) -> Vec<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let guard = Command::new(env!("CARGO_BIN_EXE_guard")).arg("generate").arg(directory.path()).status().unwrap();
    assert!(guard.success());
    let schema: Value = serde_json::from_slice(&fs::read(directory.path().join(schema)).unwrap()).unwrap();
    let documents: Vec<Value> = texts.iter().map(|text| toml::from_str(text).unwrap()).collect();
    let mut python = Command::new(PYTHON);
    python.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let given = json!({"schema": schema, "documents": documents});
    python.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let errors: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(errors.len(), texts.len());
    errors
}

fn policies_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            policies_below(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "toml") {
            found.push(entry.path());
        }
    }
}

fn is_sound(text: &str) -> bool {
    parse(&[Source::new("p.toml", text.into())]).is_ok()
}

#[test]
fn what_is_shipped_and_what_tests_use_is_taken() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    policies_below(&home.join("conf"), &mut paths);
    policies_below(&home.join("tests/cases"), &mut paths);
    let (tests, policies): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.into_iter().partition(|path| path.parent().unwrap().ends_with("conf/tests"));
    assert!(tests.len() >= 3 && policies.len() >= 10, "{tests:?} {policies:?}");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    // The one with slips is there to be refused.
    let sound: Vec<&PathBuf> = policies.iter().filter(|path| is_sound(&read(path))).collect();
    assert_eq!(sound.len() + 1, policies.len());
    let texts: Vec<String> = sound.iter().map(|path| read(path)).collect();
    for (path, errors) in sound.iter().zip(errors("policy.schema.json", &texts)) {
        assert_eq!(errors, [""; 0], "{}", path.display());
    }
    let texts: Vec<String> = tests.iter().map(read).collect();
    for (path, errors) in tests.iter().zip(self::errors("tests.schema.json", &texts)) {
        assert_eq!(errors, [""; 0], "{}", path.display());
    }
}

/// A rule that is as it should be, but for `rest`.
fn rule(rest: &str) -> String {
    format!("[[rule]]\nid = 'a'\naction = 'block'\n{rest}\n")
}

#[test]
fn what_can_be_meant_is_taken() {
    let texts = [
        String::new(),
        "version = 1\n[sysctl]\n'net.ipv4.ip_forward' = true\n'net/ipv4/tcp_rmem' = '4096 87380'\n'kernel.x' = -1\n".into(),
        "[conntrack]\nmax = 0\nlimit = 1\nmemory_percent = 100\nresize_live = true\n[audit]\ncmdline = false\n".into(),
        "[defaults]\naction = 'allow-sysctl'\ntrust = 'likely'\nunknown_requester = 'block'\ndelegate = '/usr/bin/kmod'\n".into(),
        rule("modules = ['nf-*', '[a-z]?', 'a\\\\*']\nreason = 'x'\nenforce = true"),
        rule("requests = ['symbol:x', 'crypto-*', 'a b/c.d']\nrequester = 'unknown'"),
        rule("modules = ['a']\nrequester = { exe = '/bin/a', ancestor = ['/b', '!/c d'], unit = ['a@*.service', '!b.scope'] }"),
        rule("modules = ['a']\nrequester = { container = true, uid = [0, '!1-9'], auid = ['none', 7], userns = 'host' }"),
        rule("modules = ['a']\nrequester = { container = ['web-*'], caller = ['kernel', '!hook'], uid = '0' }"),
    ];
    for (text, errors) in texts.iter().zip(errors("policy.schema.json", &texts)) {
        assert!(is_sound(text), "{text}");
        assert_eq!(errors, [""; 0], "{text}");
    }
}

#[test]
fn what_the_parser_refuses_is_refused() {
    let with = |rest: &str| rule(&format!("modules = ['a']\n{rest}"));
    let texts = [
        "version = 2\n".into(),
        "actions = 1\n".into(),
        "[defaults]\nenforced = true\n".into(),
        "[defaults]\nenforce = 'yes'\n".into(),
        "[defaults]\naction = 'deny'\n".into(),
        "[defaults]\non_failure = 'allow-sysctl'\n".into(),
        "[defaults]\nunknown_requester = 'allow'\n".into(),
        "[defaults]\ntrust = 'unknown'\n".into(),
        "[defaults]\ndelegate = 'modprobe'\n".into(),
        "[conntrack]\nmax = 'automatic'\n".into(),
        "[conntrack]\nmax = 2147483648\n".into(),
        "[conntrack]\nlimit = 0\n".into(),
        "[conntrack]\nmemory_percent = 101\n".into(),
        "[audit]\ncmdline = 1\n".into(),
        "[sysctl]\nnet = { a = 1 }\n".into(),
        "[sysctl]\n'net.*' = 1\n".into(),
        "[sysctl]\n'net.a' = 1.5\n".into(),
        "[rule]\nid = 'a'\n".into(),
        rule(""),
        "[[rule]]\nid = 'a'\nmodules = ['a']\n".into(),
        "[[rule]]\naction = 'allow'\nmodules = ['a']\n".into(),
        "[[rule]]\nid = 'a b'\naction = 'allow'\nmodules = ['a']\n".into(),
        rule("modules = 'a'"),
        rule("modules = []"),
        rule("modules = ['']"),
        rule("modules = [1]"),
        rule("modules = ['a.ko']"),
        rule("modules = ['a:b']"),
        rule("modules = ['a,b']"),
        with("module = ['b']"),
        with("reason = 1"),
        with("enforce = 'no'"),
        with("requester = 'nobody'"),
        with("requester = {}"),
        with("requester = { comm = 'a' }"),
        with("requester = { exe = 'a' }"),
        with("requester = { exe = '/usr/bin/*' }"),
        with("requester = { ancestor = '/usr/bin/' }"),
        with("requester = { unit = [] }"),
        with("requester = { unit = 'a b.service' }"),
        with("requester = { container = [true] }"),
        with("requester = { uid = -1 }"),
        with("requester = { uid = 4294967295 }"),
        with("requester = { uid = 'none' }"),
        with("requester = { auid = 'nobody' }"),
        with("requester = { userns = 'own' }"),
        with("requester = { caller = ['udev'] }"),
    ];
    for (text, errors) in texts.iter().zip(errors("policy.schema.json", &texts)) {
        assert!(!is_sound(text), "{text}");
        assert!(!errors.is_empty(), "{text}");
    }
}

#[test]
fn tests_of_policies_are_told_apart_as_the_parser_does() {
    let texts = [
        ("[[test]]\nrequest = 'a'\nverdict = 'block'\n", true),
        (
            "policy = 'p'\n[[test]]\nrequest = ['a']\nverdict = 'allow'\nrule = ''\nrequester = { uid = 7, ancestor = ['/a'] }\n",
            true,
        ),
        ("", false),
        ("test = []\n", false),
        ("[[test]]\nverdict = 'block'\n", false),
        ("[[test]]\nrequest = []\nverdict = 'block'\n", false),
        ("[[test]]\nrequest = 'a'\nverdict = 'deny'\n", false),
        ("[[test]]\nrequest = 'a'\nverdict = 'block'\nwho = 1\n", false),
        ("[[test]]\nrequest = 'a'\nverdict = 'block'\nrequester = { uid = 1.5 }\n", false),
    ];
    let documents: Vec<String> = texts.iter().map(|(text, _)| (*text).to_owned()).collect();
    for ((text, is_good), errors) in texts.iter().zip(errors("tests.schema.json", &documents)) {
        assert_eq!(expectations(&Source::new("t", (*text).into())).is_ok(), *is_good, "{text}");
        assert_eq!(errors.is_empty(), *is_good, "{text}: {errors:?}");
    }
}

//! `guard learn`: recordings of hosts of several kinds, and that what is learned of them holds on a whole kernel.
//!
//! The recordings are made by the code that judges requests ([`hosts`]); what is learned is judged by it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use modprobe_guard::host::Host;
use modprobe_guard::judge::Judge;
use modprobe_guard::model::{Action, Caller, Closure, ModuleState, Namespace, NeededAs, Record, Request, Requester};
use modprobe_guard::policy::{BUILT_IN, Source};
use modprobe_guard::text::Text;
use modprobe_guard::{modules, policy::decide};

use crate::kernel::Kernel;
use hosts::*;

mod against;
mod closure;
mod files;
mod hostile;
mod hosts;
mod rules;
mod tight;

/// A count of requests that were not written.
const COUNT: &str = r#"{"v":1,"time":"2024-11-20T12:00:50.000000Z","thinned":35,"since":"2024-11-20T12:00:30.000000Z","kind":"1f","request":{"name":"NAME","caller":"kernel"},"one_name":true,"verdict":{"action":"allow","enforced":true,"rule":RULE,"source":"default","module":MODULE,"reason":null},"requester":{"uid":0,"exe":"/usr/bin/x","unit":UNIT,"container":null,"comm":null}}"#;

fn guard(arguments: &[&str], files: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guard"));
    command.arg("learn").args(arguments).args(files).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is learned of the recordings, each a file.
fn learned(arguments: &[&str], recordings: &[&[String]]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let write = |(at, lines): (usize, &&[String])| {
        let path = directory.path().join(format!("{at}.jsonl"));
        fs::write(&path, lines.concat()).unwrap();
        path
    };
    let files: Vec<PathBuf> = recordings.iter().enumerate().map(write).collect();
    let output = guard(arguments, &files);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Judges what was recorded, and all else that the kernel has, by what was learned.
fn holds(kernel: &Kernel, learned: &str, recorded: &[Recorded], is_allow_list: bool) {
    let policy = parsed(learned);
    let host = Host::at(&kernel.root).unwrap();
    let judge = Judge::new(&host, &kernel.release, &policy).of_policy_alone();
    let mut named: BTreeSet<Vec<u8>> = BTreeSet::new();
    for one in recorded {
        let Record { request, verdict, modules, .. } = &one.record;
        let now = judge.judge(request.clone(), &one.requester).verdict;
        let who = &one.requester;
        if is_permitted(one) {
            assert_ne!(now.carried_out, Action::Block, "{} by {who:?}: {now:?}\n{learned}", request.name);
            if verdict.action == Action::AllowSysctl {
                assert_eq!(now.carried_out, Action::AllowSysctl, "{} by {who:?}\n{learned}", request.name);
                named.insert(verdict.module.clone().unwrap().0);
            }
            let targets = modules.iter().filter(|module| module.needed_as == NeededAs::Target);
            named.extend(targets.map(|module| module.name.0.clone()));
        } else {
            assert_eq!(now.carried_out, Action::Block, "{} by {who:?}\n{learned}", request.name);
        }
    }
    if !is_allow_list {
        return;
    }
    let mut root = task(None, None, 0);
    root.known.exe.complete = true;
    let root = exact(root);
    let all = modules::names(&host.modules(&kernel.release)).unwrap();
    let mut others = 0;
    for module in all.into_iter().filter(|module| !named.contains(module)) {
        let request = Request { name: Text(module), caller: Caller::Modprobe };
        let judged = judge.judge(request, &root);
        let module = &judged.request.name;
        assert_eq!(judged.verdict.carried_out, Action::Block, "{module}: {:?}\n{learned}", judged.verdict);
        others += 1;
    }
    assert!(others > 1000, "only {others} other modules");
}

#[test]
fn what_was_recorded_passes_and_nothing_else() {
    let kernel = Kernel::unpacked();
    let hosts = [
        docker(&kernel, "d1"),
        kubernetes(&kernel, "k1"),
        router(&kernel, "r1"),
        laptop(&kernel, "l1"),
        watched(&kernel, "w1"),
    ];
    for recorded in &hosts {
        for default in ["block", "allow"] {
            let policy = learned(&["--default", default], &[&lines(recorded)]);
            holds(&kernel, &policy, recorded, default == "block");
        }
    }
    let all = hosts.concat();
    let fleet: Vec<Vec<String>> = hosts.iter().map(|recorded| lines(recorded)).collect();
    let fleet: Vec<&[String]> = fleet.iter().map(Vec::as_slice).collect();
    let policy = learned(&["--default=block"], &fleet);
    holds(&kernel, &policy, &all, true);
    // With those of another host that refuses, for whom it was refused as well.
    let refusing = refusing(&kernel, "s1");
    assert!(refusing.iter().all(|one| !is_permitted(one)), "all of it is refused there");
    let refused = lines(&refusing);
    for default in ["--default=block", "--default=allow"] {
        let policy = learned(&[default], &[fleet.as_slice(), &[refused.as_slice()]].concat());
        let kept: Vec<Recorded> = all.iter().chain(&refusing).cloned().collect();
        // Whom the same was permitted to without it being certain who they were is not told apart from ssh.service.
        let is_lost = |one: &Recorded| !is_permitted(one) && one.record.request.name == *"algif-aead";
        let kept: Vec<Recorded> = kept.into_iter().filter(|one| !is_lost(one)).collect();
        holds(&kernel, &policy, &kept, default == "--default=block");
        assert!(policy.contains("#   algif_aead to ssh.service by rule ssh\n"), "{policy}");
    }
}

/// The rules by their ids: what they are about, and who.
fn rules(policy: &str) -> BTreeMap<String, (Vec<String>, String, String)> {
    let document: toml::Table = policy.parse().unwrap();
    let mut whose: BTreeMap<&str, &str> = BTreeMap::new();
    let mut id = "";
    for line in policy.lines() {
        id = line.strip_prefix("id = \"").and_then(|rest| rest.strip_suffix('"')).unwrap_or(id);
        whose.extend(line.strip_prefix("requester = ").map(|who| (id, who)));
    }
    let rules = document.get("rule").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let rule = |rule: &toml::Value| {
        let patterns = rule.get("modules").or_else(|| rule.get("requests")).unwrap().as_array().unwrap();
        let patterns = patterns.iter().map(|pattern| pattern.as_str().unwrap().to_owned()).collect();
        let id = rule["id"].as_str().unwrap();
        let who = whose.get(id).copied().unwrap_or_default().to_owned();
        assert_eq!(rule.get("requester").is_some(), !who.is_empty());
        (id.to_owned(), (patterns, who, rule["action"].as_str().unwrap().to_owned()))
    };
    rules.iter().map(rule).collect()
}

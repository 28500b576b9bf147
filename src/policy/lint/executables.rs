//! Rules that permit whoever runs a program, or block who can run another.

use super::facts::{Facts, File};
use super::{Level, Lint, Subject, Words};
use crate::model::Action;
use crate::policy::requester::{Is, Key, Who};

/// Programs that do what they are told, by their names without a version at the end.
const INTERPRETERS: [&str; 18] = [
    "ash", "awk", "bash", "dash", "env", "fish", "gawk", "ksh", "lua", "mawk", "node", "perl", "php", "python", "ruby",
    "sh", "tclsh", "zsh",
];
/// Programs that are many, told apart by the name that they are run by.
const MANY: [&str; 6] = ["busybox", "toybox", "coreutils", "kmod", "xtables-nft-multi", "xtables-legacy-multi"];

pub(super) fn look(subject: &Subject<'_>, facts: &Facts) -> Vec<Lint> {
    let mut lints = Vec::new();
    for rule in &subject.policy.rules {
        let Some(Who::All(conditions)) = &rule.requester else { continue };
        let is_file = |key| matches!(key, Key::Exe | Key::Ancestor);
        let files = conditions.iter().filter(|condition| is_file(condition.key));
        // How the request came says nothing of who made it.
        let is_alone = conditions.iter().all(|condition| is_file(condition.key) || condition.key == Key::Caller);
        let permits = rule.action != Action::Block;
        for condition in files {
            let key = condition.key.name();
            let entries = condition.entries.iter().filter(|entry| !entry.negated);
            let paths: Vec<&str> = entries.filter_map(|entry| path(&entry.is)).collect();
            if let Some(first) = paths.first().filter(|_| is_alone && permits) {
                let message = format!("rule \"{}\" permits anybody who may run {}", rule.id, super::listed(&paths));
                let remedy = "add who: `uid = 0`, `unit`, or `userns = \"host\"`";
                let words = Words::new("anybody", Level::Warning, message, remedy);
                lints.push(subject.of_rule(rule, key, first, words));
            }
            let is_copied = is_alone && !permits && condition.entries.iter().all(|entry| !entry.negated);
            if let Some(first) = paths.first().filter(|_| is_copied) {
                let message = format!("rule \"{}\" does not block copies of {}", rule.id, super::listed(&paths));
                let remedy =
                    "leave it if nobody evades it; else block all but who may: `exe = \"!...\"`, a unit or a user";
                let words = Words::new("copy", Level::Note, message, remedy);
                lints.push(subject.of_rule(rule, key, first, words));
            }
            for path in condition.entries.iter().filter_map(|entry| path(&entry.is)) {
                let known = facts.executables.iter().find(|executable| executable.path == path);
                if let Some(words) = known.and_then(|known| of_file(path, &known.is, permits)) {
                    lints.push(subject.of_rule(rule, key, path, words));
                }
            }
        }
    }
    lints
}

fn path(is: &Is) -> Option<&str> {
    match is {
        Is::Text(path) => Some(path),
        _ => None,
    }
}

/// What is wrong with a path that a rule names.
fn of_file(path: &str, file: &File, permits: bool) -> Option<Words> {
    let end = match file {
        File::Missing => {
            let message = format!("{path} is not there: nobody runs it on this host");
            return Some(Words::new(
                "no-executable",
                Level::Warning,
                message,
                "correct the path, or leave it for other hosts",
            ));
        }
        File::Script => {
            let message = format!("{path} is a script: what runs then is its interpreter, so this never matches");
            let remedy = "ask for the unit that runs it, or for a compiled program";
            return Some(Words::new("script", Level::Warning, message, remedy));
        }
        File::Link(end) => end,
        File::Plain => path,
    };
    let name = end.rsplit('/').next().unwrap_or(end);
    let leads = if end == path { String::new() } else { format!(", which leads to {end},") };
    let remedy = "ask for the unit or the user as well";
    if MANY.contains(&name) {
        let message = format!("{path}{leads} is one file for many programs: all of them match");
        return Some(Words::new("many-programs", Level::Warning, message, remedy));
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if permits && INTERPRETERS.contains(&stem.trim_end_matches('-')) {
        let message = format!("{path}{leads} does whatever it is told: any script that it runs matches");
        return Some(Words::new("interpreter", Level::Warning, message, remedy));
    }
    (end != path).then(|| {
        let message = format!("{path} is a link to {end}: that file is meant, however it is called");
        Words::new("link", Level::Note, message, "leave it if whoever runs that file is meant")
    })
}

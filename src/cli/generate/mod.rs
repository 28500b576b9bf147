//! `guard generate DIR`: the manual, completions for shells, and schemas of the policy and its tests for editors, out of
//! the definitions that the parsers go by.
//!
//! A call rather than a build script: whoever has the executable has its papers, without sources and without a network.
//! It is for installers, and shown nowhere.

mod facts;
mod guard;
mod helper;
mod policy;
mod roff;

use std::fs;
use std::io;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

use super::{DryRun, Guard, exit};
use crate::policy::schema;

/// Writes all of it into `directory`, which is there already: `guard.8`, `modprobe-guard.8`, `modprobe-guard.toml.5`,
/// `guard.bash`, `_guard` (zsh), `guard.fish`, `policy.schema.json`, `tests.schema.json`.
pub fn run(directory: &Path) -> u8 {
    match write(directory) {
        Ok(()) => exit::GOOD,
        Err(error) => {
            complain!("guard: {}: write: {error}", directory.display());
            exit::BAD
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let pages =
        [("guard.8", guard::page()?), ("modprobe-guard.8", helper::page()), ("modprobe-guard.toml.5", policy::page())];
    for (name, page) in pages {
        fs::write(directory.join(name), page)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut whole(), "guard", directory)?;
    }
    for (name, schema) in [("policy", schema::of_policy()), ("tests", schema::of_tests())] {
        fs::write(directory.join(format!("{name}.schema.json")), serde_json::to_string_pretty(&schema)? + "\n")?;
    }
    Ok(())
}

/// What may stand after `guard` with `--dry-run` or without: for shells one command, for the parser two.
fn whole() -> Command {
    let guard = Guard::command();
    let dry_run = DryRun::command();
    let more = dry_run.get_arguments().filter(|argument| !is_among(argument, &guard));
    let more: Vec<_> = more.cloned().map(|argument| argument.required(false)).collect();
    guard.args(more)
}

fn is_among(argument: &Arg, command: &Command) -> bool {
    command.get_arguments().any(|other| other.get_id() == argument.get_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_complete_what_either_parser_takes() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(run(directory.path()), exit::GOOD);
        for (file, as_option) in [("guard.bash", "--as"), ("_guard", "--as="), ("guard.fish", "-l as")] {
            let script = fs::read_to_string(directory.path().join(file)).unwrap();
            assert!(script.contains(as_option) && script.contains("dry-run") && script.contains("doctor"), "{file}");
        }
        assert_eq!(run(&directory.path().join("nowhere")), exit::BAD);
    }

    /// What mandoc(1) and man(1) would have to say about the pages is for tests/packages.
    #[test]
    fn no_page_has_an_empty_place_or_a_long_line() {
        for page in [guard::page().unwrap(), helper::page(), policy::page()] {
            assert!(page.starts_with(".ie ") || page.starts_with(".TH "), "{page}");
            assert!(!page.contains("{{"), "{page}");
            let is_short = |line: &str| line.len() <= 80 || line.starts_with('.');
            assert_eq!(page.lines().find(|line| !is_short(line)), None);
        }
    }
}

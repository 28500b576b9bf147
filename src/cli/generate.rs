//! `guard generate DIR`: guard(8), completions for shells, and schemas of the policy and its tests for editors, out of the
//! definitions that the parsers go by.
//!
//! A call rather than a build script: whoever has the executable has its papers, without sources and without a network.
//! It is for installers, and shown nowhere.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use super::{DryRun, Guard, exit};
use crate::policy::schema;

/// When what guard(8) says was last changed.
const DATE: &str = "2026-11-21";
/// What of guard(8) no option says.
const REST: &str = include_str!("../../install/man/guard.8.rest");

/// Writes all of it into `directory`, which is there already: `guard.8`, `guard.bash`, `_guard` (zsh), `guard.fish`,
/// `policy.schema.json`, `tests.schema.json`.
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
    fs::write(directory.join("guard.8"), page()?)?;
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

/// guard(8): all verbs on one page.
fn page() -> io::Result<String> {
    let guard = Guard::command();
    // What it does stands among the verbs.
    let man = Man::new(guard.clone().mut_arg("dry_run", |argument| argument.hide(true)));
    let man = man.title("GUARD").section("8").date(DATE).manual("System Administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    commands.to_writer(&mut page)?;
    let dry_run = DryRun::command().mut_args(|argument| {
        let is_told = is_among(&argument, &guard);
        argument.hide(is_told)
    });
    render_verb(&mut page, dry_run)?;
    for verb in guard.get_subcommands() {
        render_verb(&mut page, verb.clone().bin_name(format!("guard {}", verb.get_name())))?;
    }
    Ok(tidied(&String::from_utf8_lossy(&page)) + REST)
}

/// What mandoc(1) has nothing to say about: without empty lines, what is there twice in a row, the preamble that comes with
/// each part but the first, and long lines.
fn tidied(page: &str) -> String {
    let is_preamble = |line: &str| line.starts_with(".ie ") || line.starts_with(".el ");
    let mut before = "";
    let mut tidied = String::new();
    for (at, line) in page.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        if std::mem::replace(&mut before, line) != line && (at < 2 || !is_preamble(line)) {
            tidied.push_str(&folded(line));
        }
    }
    tidied
}

/// A line of text as lines of at most 80 bytes, where its blanks allow it: short ones are what mandoc(1) wants.
fn folded(line: &str) -> String {
    let mut folded = String::new();
    let mut length: usize = 0;
    for word in line.split(' ') {
        // At the beginning of a line a dot or an apostrophe would be a macro's.
        let breaks =
            !line.starts_with('.') && length.saturating_add(word.len()) >= 80 && !word.starts_with(['.', '\'']);
        if breaks {
            folded.push('\n');
            length = 0;
        } else if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
        length = length.saturating_add(word.len()).saturating_add(1);
    }
    folded + "\n"
}

/// One verb: how to call it, what it does, its own options.
fn render_verb(page: &mut Vec<u8>, verb: Command) -> io::Result<()> {
    let mut verb = verb.disable_help_flag(true).disable_version_flag(true);
    let usage = verb.render_usage().to_string();
    let mut heading = Roff::new();
    heading.control("SS", [usage.trim_start_matches("Usage: ").replace('-', r"\-").as_str()]);
    heading.to_writer(page)?;
    let man = Man::new(verb);
    let mut body = Vec::new();
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    // Sections of a page of its own; here they are parts of one.
    for line in String::from_utf8_lossy(&body).lines().filter(|line| !line.starts_with(".SH")) {
        page.extend_from_slice(line.as_bytes());
        page.push(b'\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_and_option() {
        let page = page().unwrap();
        let guard = Guard::command();
        for verb in guard.get_subcommands() {
            let heading = format!("\n.SS \"guard {}", verb.get_name());
            assert!(page.contains(&heading), "{heading}");
        }
        let arguments = guard.get_subcommands().flat_map(Command::get_arguments).chain(guard.get_arguments());
        for long in arguments.filter_map(Arg::get_long).chain(["as"]) {
            let long = format!("\\-\\-{}", long.replace('-', r"\-"));
            assert!(page.contains(&long), "{long}");
        }
        assert!(page.lines().all(|line| line.len() <= 80 || line.starts_with('.')));
    }

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
}

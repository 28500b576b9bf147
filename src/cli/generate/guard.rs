//! guard(8): all verbs on one page.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use super::facts::facts;
use super::is_among;
use super::roff::{DATE, filled, folded};
use crate::cli::{DryRun, Guard};

/// What of it no option says.
pub const REST: &str = include_str!("../../../install/man/guard.8.rest");

/// The page.
pub fn page() -> io::Result<String> {
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
    Ok(tidied(&String::from_utf8_lossy(&page)) + &filled(REST, &facts()))
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
    use clap::Arg;

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
    }
}

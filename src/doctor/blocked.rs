//! What keeps the module out on purpose: modprobe.d and the kernel command line. Each line with what it binds.

mod command;

use super::case::Unpacked;
use super::distribution::quoted;
use super::support::load;
use super::{Case, Cause, Finding, Seen};
use crate::modules::{LineOn, Says, has_softdeps, normalise};
use crate::text::Text;
use command::{Effect, effect};

pub fn look(case: &Case) -> Seen {
    let mut findings = of(case, &case.module);
    findings.extend(by_alias(case));
    let findings: Vec<Finding> = findings.into_iter().map(|finding| finding.fix(load(case))).collect();
    if findings.is_empty() && !case.config_failures.is_empty() {
        return Seen::Nothing(case.config_failures.join("; "));
    }
    Seen::of(findings, "no line keeps it out")
}

/// What keeps `module` out; without the command that loads it.
pub fn of(case: &Case, module: &[u8]) -> Vec<Finding> {
    let lines = case.config.lines_on(module);
    let with = |is_it: fn(&Says) -> bool| lines.iter().filter(move |line| is_it(&line.says)).collect::<Vec<_>>();
    let installs = with(|says| matches!(says, Says::Install(_)));
    let aliases = with(|says| matches!(says, Says::AliasTo(_)));
    let blacklist = with(|says| matches!(says, Says::Blacklist));
    let found = [
        by_kernel(case, module),
        by_install(case, module, &installs),
        by_alias_off(case, module, &aliases),
        by_blacklist(case, module, &blacklist),
    ];
    found.into_iter().flatten().collect()
}

fn shown(module: &[u8]) -> String {
    Text::from(module).to_string()
}

/// A line as it stands there, but for dashes; with a word on whom else it concerns.
fn quoted_line(line: &LineOn, module: &[u8]) -> String {
    let key = shown(&line.key);
    let said = match &line.says {
        Says::Blacklist => format!("blacklist {key}"),
        Says::Install(command) => format!("install {key} {}", shown(command)),
        Says::AliasTo(target) => format!("alias {key} {}", shown(target)),
    };
    let others = if line.key == module { "" } else { " (a pattern: it concerns other modules as well)" };
    format!("{}: {said}{others}", line.source)
}

/// `install`: of several lines the first runs, and once that is gone the next one.
fn by_install(case: &Case, module: &[u8], lines: &[&LineOn]) -> Option<Finding> {
    // modprobe runs none for a module that has soft dependencies.
    if has_softdeps(module, &case.tree, &case.config) {
        return None;
    }
    let name = shown(module);
    let mut found: Option<Finding> = None;
    for line in lines {
        let Says::Install(command) = &line.says else { continue };
        let (summary, is_sure) = match effect(command) {
            Effect::Loads => break,
            Effect::KeepsOut => (format!("modprobe.d runs a command instead of loading {name}"), true),
            Effect::Unknown => {
                (format!("modprobe.d runs a command in place of loading {name}, which may or may not load it"), false)
            }
        };
        let order = if found.is_some() {
            "would run next"
        } else {
            "binds its name, its aliases, and loads in which it is a dependency"
        };
        let finding = found.take().unwrap_or_else(|| {
            let finding = Finding::new(Cause::Blacklisted, summary);
            if is_sure { finding } else { finding.minor() }
        });
        found = Some(
            finding.evidence(format!("{}: {order}", quoted_line(line, module))).fixes(comment_out(case, &line.source)),
        );
        if !is_sure {
            break;
        }
    }
    found
}

/// `alias` for the module's own name, to what does not exist.
fn by_alias_off(case: &Case, module: &[u8], lines: &[&LineOn]) -> Option<Finding> {
    let leads_nowhere = |line: &&&LineOn| match &line.says {
        Says::AliasTo(target) => target != module && !case.is_in_kernel(target) && case.path_of(target).is_none(),
        _ => false,
    };
    // One that leads somewhere is enough.
    if lines.is_empty() || !lines.iter().all(|line| leads_nowhere(&line)) {
        return None;
    }
    let name = shown(module);
    let summary = format!("modprobe.d leads the name {name} to a module that does not exist");
    let mut finding = Finding::new(Cause::Blacklisted, summary);
    for line in lines {
        let binds = "binds requests by this name, not by its other names, nor loads in which it is a dependency";
        finding =
            finding.evidence(format!("{}: {binds}", quoted_line(line, module))).fixes(comment_out(case, &line.source));
    }
    Some(Finding { binds_name_only: true, ..finding })
}

/// `blacklist`, of the files and of the kernel command line.
fn by_blacklist(case: &Case, module: &[u8], lines: &[&LineOn]) -> Option<Finding> {
    let name = shown(module);
    let mut finding =
        Finding::new(Cause::Blacklisted, format!("modprobe.d has {name} on its blacklist, which binds aliases only"))
            .minor();
    for line in lines {
        let fix = match kernel_word(case, &line.source, &name) {
            Some(word) => {
                finding = finding.evidence(format!("{}: {word}", case.shown("/proc/cmdline")));
                case.distribution.boot_without_name(&word, &name)
            }
            None => comment_out(case, &line.source),
        };
        let binds = "binds requests by its aliases; not by its name, nor as a dependency";
        finding = finding.evidence(format!("{}: {binds}", quoted_line(line, module))).fixes(fix);
    }
    (!lines.is_empty()).then_some(finding)
}

/// Aliases of the module, as its file has them, that modprobe.d leads nowhere.
fn by_alias(case: &Case) -> Option<Finding> {
    let object = case.object(&case.module);
    let Unpacked::There(_, Ok(object)) = &*object else { return None };
    let name = case.name();
    let mut finding = Finding::new(
        Cause::Blacklisted,
        format!("modprobe.d leads an alias of {name} to a module that does not exist"),
    )
    .minor();
    for (_, alias) in object.info.iter().filter(|(key, alias)| key == "alias" && !alias.contains('*')) {
        let Some(alias) = normalise(alias.as_bytes()) else { continue };
        let lines = case.config.lines_on(&alias);
        let aliases: Vec<&LineOn> = lines.iter().filter(|line| matches!(line.says, Says::AliasTo(_))).collect();
        if let Some(off) = by_alias_off(case, &alias, &aliases) {
            finding.evidence.extend(off.evidence);
            finding = finding.fixes(off.fix);
        }
    }
    (!finding.evidence.is_empty()).then_some(finding)
}

/// `module_blacklist=`, the kernel's own: whoever tries, and however (`blacklisted`, kernel/module/main.c).
fn by_kernel(case: &Case, module: &[u8]) -> Option<Finding> {
    let name = String::from_utf8_lossy(module).into_owned();
    let words = case.kernel_command_line();
    // Of several the last counts: it is one variable.
    let word = words.iter().rev().find(|word| word.starts_with("module_blacklist="))?;
    let (_, names) = word.split_once('=')?;
    names.split(',').any(|listed| listed == name).then(|| {
        Finding::new(Cause::Blacklisted, format!("the kernel command line keeps {name} out"))
            .evidence(format!("{}: {word}: binds every load, insmod's too", case.shown("/proc/cmdline")))
            .fixes(case.distribution.boot_without_name(word, &name))
    })
}

/// The word of the kernel command line behind a `blacklist` that stands in no file.
fn kernel_word(case: &Case, source: &str, name: &str) -> Option<String> {
    let names_it = |word: &String| {
        let names = word.strip_prefix("modprobe.blacklist=");
        names.is_some_and(|names| names.split(',').any(|listed| listed == name))
    };
    (!source.contains(':')).then(|| case.kernel_command_line().into_iter().find(names_it))?
}

/// Commands that take a line of a configuration file, `FILE:LINE`, away.
pub fn comment_out(case: &Case, source: &str) -> Vec<String> {
    let Some((shown, line)) = source.rsplit_once(':') else { return Vec::new() };
    // The path on that host, whatever root it is read below.
    let root = case.shown("/");
    let path = shown.strip_prefix(root.trim_end_matches('/')).unwrap_or(shown);
    let sed = |path: &str| {
        // A link stays one.
        let follow = if case.host.is_link(path) { " --follow-symlinks" } else { "" };
        format!("sed -i{follow} '{line}s/^/# /' {}", quoted(path))
    };
    if path.starts_with("/etc/") || path.starts_with("/run/") {
        return vec![sed(path)];
    }
    // A package's file comes back with the package: one of the same name in /etc takes its place.
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let place = if directory.ends_with("sysctl.d") { "/etc/sysctl.d" } else { "/etc/modprobe.d" };
    let copy = quoted(&format!("{place}/{name}"));
    vec![
        format!("mkdir -p {place}"),
        format!("test -e {copy} || cp {} {copy}", quoted(path)),
        sed(&format!("{place}/{name}")),
    ]
}

//! What keeps the module out on purpose: modprobe.d and the kernel command line. Each line with what it binds.

use super::distribution::{quoted, quoted_name};
use super::support::load;
use super::{Case, Cause, Finding, Seen};
use crate::modules::{Says, has_softdeps};

pub fn look(case: &Case) -> Seen {
    let findings: Vec<Finding> = of(case, &case.module).into_iter().map(|finding| finding.fix(load(case))).collect();
    if findings.is_empty() && !case.config_failures.is_empty() {
        return Seen::Nothing(case.config_failures.join("; "));
    }
    Seen::of(findings, "no line keeps it out")
}

/// What keeps `module` out; without the command that loads it.
pub fn of(case: &Case, module: &[u8]) -> Vec<Finding> {
    let name = crate::text::Text::from(module).to_string();
    let finding = |summary: String| Finding::new(Cause::Blacklisted, summary);
    let mut findings: Vec<Finding> = by_kernel(case, module).into_iter().collect();
    let lines = case.config.lines_on(module);
    let mut ruled = false;
    for line in &lines {
        let found = match &line.says {
            // The first install line is the one that runs, and so it is with aliases.
            Says::Install(command) if !ruled && keeps_out(command) => {
                ruled = true;
                let command = String::from_utf8_lossy(command).into_owned();
                let binds = if has_softdeps(module, &case.tree, &case.config) {
                    "would bind names, aliases and dependencies, but modprobe runs it for no module with soft dependencies"
                } else {
                    "binds its name, its aliases, and loads in which it is a dependency"
                };
                let found = finding(format!("modprobe.d runs a command instead of loading {name}"));
                let found = found.evidence(format!("{}: install {name} {command}: {binds}", line.source));
                if has_softdeps(module, &case.tree, &case.config) { found.minor() } else { found }
            }
            Says::Install(_) => {
                ruled = true;
                continue;
            }
            Says::AliasTo(target) => {
                let target_is_module = case.is_in_kernel(target) || case.path_of(target).is_some();
                if target_is_module || target == module {
                    continue;
                }
                let target = crate::text::Text::from(target.as_slice());
                let found = finding(format!("modprobe.d leads the name {name} to a module that does not exist")).evidence(format!(
                    "{}: alias {name} {target}: binds requests by this name, not its aliases, nor loads in which it is a dependency",
                    line.source
                ));
                Finding { binds_name_only: true, ..found }
            }
            Says::Blacklist => finding(format!("modprobe.d has {name} on its blacklist, which binds aliases only"))
                .evidence(format!(
                    "{}: blacklist {name}: binds requests by its aliases; not by its name, nor as a dependency",
                    line.source
                ))
                .minor(),
        };
        let fix = match kernel_word(case, &line.source) {
            Some(word) => case.distribution.boot_without_name(&word, &name),
            None => comment_out(case, &line.source),
        };
        let found = found.fixes(fix);
        findings.push(found);
    }
    findings
}

/// Whether a command loads nothing: `/bin/false` and its like, or whatever never calls a loader.
fn keeps_out(command: &[u8]) -> bool {
    let command = String::from_utf8_lossy(command).into_owned();
    let words = command.split(|c: char| c.is_whitespace() || ";&|(){}\"'`$".contains(c));
    let programs = words.filter_map(|word| word.rsplit('/').next());
    let loaders = ["modprobe", "insmod", "kmod", "modprobe-guard", "finit_module"];
    // A script may load it; nobody knows without reading it.
    let mut programs = programs.filter(|word| !word.is_empty());
    let first = programs.next().unwrap_or_default().to_owned();
    if matches!(first.as_str(), "false" | "true" | ":" | "exit" | "echo" | "logger" | "printf") {
        return !programs.any(|word| loaders.contains(&word));
    }
    !loaders.contains(&first.as_str()) && !programs.any(|word| loaders.contains(&word))
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

/// The word of the kernel command line behind a line that has no file.
fn kernel_word(case: &Case, source: &str) -> Option<String> {
    let words = case.kernel_command_line();
    (!source.contains(':')).then(|| words.into_iter().find(|word| word.starts_with("modprobe.blacklist=")))?
}

/// Commands that take a line of a configuration file, `FILE:LINE`, away.
pub fn comment_out(case: &Case, source: &str) -> Vec<String> {
    let Some((shown, line)) = source.rsplit_once(':') else { return Vec::new() };
    // The path on that host, whatever root it is read below.
    let root = case.shown("/");
    let path = shown.strip_prefix(root.trim_end_matches('/')).unwrap_or(shown);
    let sed = |path: &str| format!("sed -i '{line}s/^/# /' {}", quoted(path));
    if path.starts_with("/etc/") || path.starts_with("/run/") {
        return vec![sed(path)];
    }
    // A package's file comes back with the package: one of the same name in /etc takes its place.
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let place = if directory.ends_with("sysctl.d") { "/etc/sysctl.d" } else { "/etc/modprobe.d" };
    let copy = format!("{place}/{name}");
    vec![format!("cp {} {}", quoted_name(path.as_bytes()), quoted(&copy)), sed(&copy)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_load_nothing_are_told_from_those_that_do() {
        for (command, expected) in [
            ("/bin/false", true),
            ("/bin/true", true),
            ("/usr/bin/true # no", true),
            (":", true),
            ("exit 1", true),
            ("echo no modprobe for you; /bin/false", false),
            ("/sbin/modprobe --ignore-install nf_conntrack && sysctl -p", false),
            ("{ /sbin/modprobe --ignore-install x; }", false),
            ("/usr/sbin/modprobe-guard --hook x", false),
            ("/usr/local/bin/deny", true),
        ] {
            assert_eq!(keeps_out(command.as_bytes()), expected, "{command}");
        }
    }
}

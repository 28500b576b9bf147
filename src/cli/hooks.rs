//! The `install` lines that have modprobe(8) and libkmod ask us: which modules get one, and the file they stand in.

use std::collections::BTreeSet;

use nix::sys::stat::Mode;

use crate::host::{HOOKS, Host};
use crate::judge;
use crate::model::{Action, Closure, Module, ModuleState, NeededAs};
use crate::modules::{self, Config, Flags, Tree, install_line, normalise};
use crate::policy::{self, Concern, Patterns, Policy, Rule};
use crate::text::Text;

/// What kmod runs the lines by (system(3)): without it every one of them would fail, and with it the load.
const SHELL: &str = "/bin/sh";
/// What stands above the lines.
const HEADER: &str = "\
# Written by `guard enable` and `guard apply`. `guard disable` takes it away; it does not outlive a reboot either.
# Each line has modprobe(8), udev and systemd ask modprobe-guard before that module is loaded: the policy may block or
# size it. What is changed here is lost: change the policy in /etc/modprobe-guard, then `guard apply`.
";

/// The modules that the policy in force may block or size, each by what can be done about it in modprobe.d.
#[derive(Debug, Default, PartialEq)]
pub struct Hooks {
    /// Those that get an `install` line, sorted, as are the others.
    pub hooked: Vec<Text>,
    /// Those that have soft dependencies: kmod never runs an `install` line of theirs.
    pub with_softdeps: Vec<Text>,
    /// Those with an `install` line that is not ours, and where that stands.
    pub installed_by_others: Vec<(Text, String)>,
    /// Those blocked by name or by default only, and permitted by another name or needed by what is. kmod does not tell for
    /// whom or by which name it runs a line, so theirs would block that as well.
    pub needed: Vec<Text>,
    /// Rules about names that are no modules: `ID (FILE:LINE)`. To kmod an `install` line of an alias is a module of
    /// that name, so that what is permitted could not be loaded by it any more.
    pub about_names: Vec<String>,
}

impl Hooks {
    /// What there is to do on `host` for its running kernel.
    ///
    /// # Errors
    /// If the list of its modules can't be read: the file, what is wrong with it, what to do.
    pub fn of(host: &Host) -> Result<Hooks, String> {
        let kernel = host.kernel()?;
        let tree = host.modules(&kernel);
        // Without any index modprobe knows no module either.
        if judge::is_off(host) || tree.is_absent() {
            return Ok(Hooks::default());
        }
        let (config, _) = host.modprobe_config(&kernel);
        let policy = host.policy_in_force().policy;
        Hooks::sorted(&policy, &modules::names(&tree)?, &tree, &config, &host.shown(HOOKS).display().to_string())
    }

    /// `own`: our file; what somebody else wrote into it has no say.
    fn sorted(policy: &Policy, names: &[Vec<u8>], tree: &Tree, config: &Config, own: &str) -> Result<Hooks, String> {
        let mut hooks = Hooks { about_names: about_names(policy, names), ..Hooks::default() };
        let concerns = names.iter().filter_map(|name| {
            let name = Text(name.clone());
            Some((policy::concern(policy, &name)?, name))
        });
        let concerns: Vec<(Concern, Text)> = concerns.collect();
        let needed = match concerns.iter().any(|(concern, _)| *concern == Concern::IfAskedFor) {
            true => needed_by_permitted(policy, names, tree, config)?,
            false => BTreeSet::new(),
        };
        for (concern, name) in concerns {
            if let Some(source) = config.installed_by(name.as_bytes()).filter(|source| !source.starts_with(own)) {
                hooks.installed_by_others.push((name, source));
            } else if modules::has_softdeps(name.as_bytes(), tree, config) {
                hooks.with_softdeps.push(name);
            } else if concern == Concern::IfAskedFor && needed.contains(&name) {
                hooks.needed.push(name);
            } else if install_line(name.as_bytes()).is_some() {
                hooks.hooked.push(name);
            }
        }
        Ok(hooks)
    }

    /// The file, without end for nothing.
    fn text(&self) -> String {
        let lines = self.hooked.iter().filter_map(|name| install_line(name.as_bytes()));
        let lines: String = lines.map(|line| line + "\n").collect();
        if lines.is_empty() { lines } else { format!("{HEADER}{lines}") }
    }

    /// Why the file does not say what it should, or is not heard; `None` if all is well.
    pub fn problem(&self, host: &Host) -> Option<String> {
        let shown = host.shown(HOOKS).display().to_string();
        let text = self.text();
        let present = match host.exists(HOOKS) {
            false => Some(Vec::new()),
            // What is longer is refused, and is something else as well.
            true => host.read(HOOKS, text.len()).ok(),
        };
        if present.is_none_or(|present| present != text.as_bytes()) {
            return Some(format!(
                "{shown}: is not what policy, modules and modprobe.d ask for; guard apply writes it anew"
            ));
        }
        let (_, name) = parts();
        let hidden_by = format!("/etc/modprobe.d/{name}");
        (!text.is_empty() && host.exists(&hidden_by)).then(|| {
            format!("{}: hides {HOOKS}, so that nobody hears that; move it away", host.shown(hidden_by).display())
        })
    }
}

/// Modules that may be loaded though nobody asked for them by their own names: because another one is that is permitted
/// to somebody, or because a rule permits a name that stands for them.
fn needed_by_permitted(
    policy: &Policy,
    names: &[Vec<u8>],
    tree: &Tree,
    config: &Config,
) -> Result<BTreeSet<Text>, String> {
    let mut needed = BTreeSet::new();
    let mut take = |name: Text| {
        let closure = modules::resolve(name.as_bytes(), Flags::default(), tree, config, |_| false);
        if policy::may_pass(policy, &name, &closure) {
            needed.extend(closure.modules.into_iter().map(|module| module.name).filter(|other| *other != name));
        }
    };
    for name in names {
        let name = Text(name.clone());
        let target = Module { name: name.clone(), state: ModuleState::Absent, needed_as: NeededAs::Target };
        // By itself first: with an allow-list most are blocked by that, and nothing has to be looked up.
        if policy::may_pass(policy, &name, &Closure { modules: vec![target], ..Closure::default() }) {
            take(name);
        }
    }
    let permitted = policy.rules.iter().filter(|rule| rule.action != Action::Block);
    let permitted: Vec<&Patterns> = permitted.filter_map(|rule| rule.requests.as_ref()).collect();
    if !permitted.is_empty() {
        permitted.iter().flat_map(|patterns| patterns.iter()).map(Text::from).for_each(&mut take);
        // An alias is a pattern, and so is what the rule has: where they meet, the alias's own text mostly does as well.
        let aliases = modules::aliases(tree)?.into_iter();
        aliases.filter(|alias| permitted.iter().any(|patterns| patterns.matches(alias))).map(Text).for_each(take);
    }
    Ok(needed)
}

/// Rules that block or size by names which are no modules.
fn about_names(policy: &Policy, names: &[Vec<u8>]) -> Vec<String> {
    let is_module = |pattern: &str| {
        normalise(pattern.as_bytes()).is_some_and(|name| names.binary_search_by(|other| other[..].cmp(&name)).is_ok())
    };
    let is_one = |rule: &&Rule| {
        let requests = rule.requests.as_ref();
        rule.action != Action::Allow && requests.is_some_and(|patterns| !patterns.iter().all(is_module))
    };
    policy.rules.iter().filter(is_one).map(|rule| format!("{} ({})", rule.id, rule.source)).collect()
}

/// Writes the lines for the policy in force, or removes the file where there is none to write. Whether it had to make the
/// directory, which a libkmod that runs already does not look into.
///
/// # Errors
/// A text that says what to do; the file is as it was then, or is not heard.
pub fn write(host: &Host, hooks: &Hooks) -> Result<bool, String> {
    let text = hooks.text();
    let (directory, name) = parts();
    let is_new = !host.exists(directory);
    if text.is_empty() {
        remove(host)?;
    } else if !host.exists(SHELL) {
        return Err(format!("{SHELL}: not there, and kmod runs install lines by it: none was written"));
    } else if host.read(HOOKS, text.len()).ok().is_none_or(|present| present != text.as_bytes()) {
        host.own_directory(directory, Some(Mode::from_bits_truncate(0o755)))
            .and_then(|directory| directory.replace(name, text.as_bytes()))
            .map_err(|error| format!("{}: write: {error}", host.shown(HOOKS).display()))?;
    }
    hooks.problem(host).map_or(Ok(is_new && !text.is_empty()), Err)
}

/// Removes the file; whether it was there.
///
/// # Errors
/// Its path, and those of the system calls.
pub fn remove(host: &Host) -> Result<bool, String> {
    let (directory, name) = parts();
    if !host.exists(HOOKS) {
        return Ok(false);
    }
    let removed = host.directory(directory).and_then(|directory| directory.remove(name));
    removed.map(|()| true).map_err(|error| format!("{}: remove: {error}", host.shown(HOOKS).display()))
}

fn parts() -> (&'static str, &'static str) {
    HOOKS.rsplit_once('/').unwrap_or_default()
}

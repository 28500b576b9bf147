//! What lints have to know of a host.

use std::collections::BTreeMap;

use super::{executables, losses, past, surroundings};
use crate::host::Host;
use crate::model::{IndexHealth, NeededAs};
use crate::modules::{self, Config, Tree};
use crate::policy::lint::Facts;
use crate::policy::lint::facts::Modules;
use crate::policy::{Policy, pattern};

/// What is known of `host`, with the modules of `kernel` (its own, if none is named), and in words which those are.
pub fn of(host: &Host, kernel: Option<&str>, policy: &Policy) -> (Facts, String) {
    let mut facts = Facts {
        executables: executables::of(host, policy),
        unheard: surroundings::unheard(host, policy),
        ..Facts::default()
    };
    let release = kernel.map_or_else(|| host.kernel(), |kernel| Ok(kernel.to_owned()));
    let (config, _) = host.modprobe_config(release.as_deref().unwrap_or_default());
    facts.settings = surroundings::settings(host, policy);
    facts.hashsize = surroundings::hashsize(host, policy, &config);
    past::look(host, policy, &mut facts);
    let looked = release.and_then(|release| {
        let tree = host.modules(&release);
        Ok((modules_of(&release, policy, &tree, &config)?, tree))
    });
    let looked_at = match looked {
        Ok((modules, tree)) => {
            facts.lines = surroundings::lines(policy, &modules.names, &config);
            facts.unhooked = surroundings::unhooked(policy, &modules.names, &tree, &config);
            facts.losses = losses::of(host, &modules.kernel, policy);
            let looked_at = format!("looked at with the modules of {}", modules.kernel);
            facts.modules = Some(modules);
            looked_at
        }
        Err(why) => format!("no kernel's modules were looked at: {why}"),
    };
    (facts, looked_at)
}

/// The modules of `kernel`, and what else the names in `policy` stand for there.
///
/// # Errors
/// Why the index of modules could not be read.
pub fn modules_of(kernel: &str, policy: &Policy, tree: &Tree, config: &Config) -> Result<Modules, String> {
    let names = modules::names(tree)?;
    let mut builtins = modules::builtins(tree)?;
    builtins.sort_unstable();
    let entries = policy.rules.iter().flat_map(|rule| rule.modules.iter().chain(&rule.requests));
    let mut stands_for = BTreeMap::new();
    for entry in entries.flat_map(|patterns| patterns.iter()) {
        let is_known = |names: &[Vec<u8>]| names.binary_search_by(|name| name.as_slice().cmp(entry.as_bytes())).is_ok();
        if !pattern::is_literal(entry.as_bytes()) || is_known(&names) || is_known(&builtins) {
            continue;
        }
        let closure = modules::resolve(entry.as_bytes(), modules::Flags::default(), tree, config, |_| false);
        let targets = closure.modules.iter().filter(|module| module.needed_as == NeededAs::Target);
        let commands = closure.commands.iter().map(|command| &command.module);
        let blacklisted = closure.blacklisted.iter().map(|one| &one.module);
        let names = targets.map(|module| &module.name).chain(commands).chain(blacklisted);
        if closure.index == IndexHealth::Intact {
            stands_for.insert(entry.to_owned(), names.cloned().collect());
        }
    }
    let mut aliases = modules::aliases(tree)?;
    aliases.extend(modules::builtin_aliases(tree)?);
    aliases.extend(config.aliases().map(<[u8]>::to_vec));
    Ok(Modules { kernel: kernel.to_owned(), names, builtins, aliases, stands_for })
}

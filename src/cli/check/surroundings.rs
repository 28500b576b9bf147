//! What else on the host has a say: modprobe.d, sysctl.d, and how well it can tell who asks.

use crate::conntrack::sysctl_d::SysctlD;
use crate::conntrack::{BUCKETS, MAX_NAME, Wanted};
use crate::host::Host;
use crate::judge;
use crate::model::Action;
use crate::modules::{self, Config, Tree};
use crate::policy::lint::facts::{Line, Says, Setting, Unhooked};
use crate::policy::requester::Who;
use crate::policy::{self, Max, Policy, Trust};
use crate::requester::{self, recorder};
use crate::text::Text;

/// Lines of modprobe.d that may keep out a module which a rule permits by name.
pub fn lines(policy: &Policy, names: &[Vec<u8>], config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.action != Action::Block) {
        let entries = rule.modules.iter().flat_map(|patterns| patterns.iter());
        for module in entries.filter(|entry| names.binary_search_by(|name| name[..].cmp(entry.as_bytes())).is_ok()) {
            lines.extend(config.lines_on(module.as_bytes()).into_iter().map(|line| Line {
                rule: rule.id.clone(),
                module: module.to_owned(),
                says: match line.says {
                    modules::Says::Blacklist => Says::Blacklist,
                    modules::Says::Install(command) => Says::Install(Text(command)),
                    modules::Says::AliasTo(other) => Says::AliasTo(Text(other)),
                },
                source: line.source,
            }));
        }
    }
    lines
}

/// Modules that the policy blocks or sizes, and that get no `install` line of ours.
pub fn unhooked(policy: &Policy, names: &[Vec<u8>], tree: &Tree, config: &Config) -> Vec<Unhooked> {
    let concerned = names.iter().map(|name| Text(name.clone())).filter(|name| policy::concern(policy, name).is_some());
    concerned
        .filter_map(|module| {
            let installed_by = config.installed_by(module.as_bytes());
            let is_unhooked = installed_by.is_some() || modules::has_softdeps(module.as_bytes(), tree, config);
            is_unhooked.then_some(Unhooked { module, installed_by })
        })
        .collect()
}

/// What `sysctl.d` says otherwise than the policy.
pub fn settings(host: &Host, policy: &Policy) -> Vec<Setting> {
    let ours = policy.sysctl.iter().map(|line| (("sysctl", line.key.clone()), line.key.as_str(), line.value.clone()));
    let max = match &policy.conntrack.max {
        Max::Number { entries, .. } => Some((("conntrack", "max".to_owned()), MAX_NAME, entries.to_string())),
        Max::Auto => None,
    };
    let mut ours = ours.chain(max).peekable();
    if ours.peek().is_none() {
        return Vec::new();
    }
    let sysctl_d = SysctlD::read(host);
    ours.filter_map(|(key, name, value)| {
        let line = sysctl_d.lookup(&policy::path_of_key(name))?;
        let theirs = String::from_utf8_lossy(line.value.as_deref()?).into_owned();
        let is_same = theirs.split_ascii_whitespace().eq(value.split_ascii_whitespace());
        (!is_same).then(|| Setting { key, ours: value, theirs, source: host.shown(&line.source).display().to_string() })
    })
    .collect()
}

/// The size of its buckets that modprobe.d gives connection tracking, where the policy sizes that and nothing else does.
pub fn hashsize(host: &Host, policy: &Policy, config: &Config) -> Option<(u32, String)> {
    let option = Wanted::new(policy, config).hashsize_option.filter(|_| judge::sizes_tables(policy))?;
    SysctlD::read(host).lookup(BUCKETS).is_none().then_some(option)
}

/// The rules that ask who, why this host can't tell, and what to do.
pub fn unheard(host: &Host, policy: &Policy) -> Vec<(String, String, String)> {
    if policy.asks_who().next().is_none() {
        return Vec::new();
    }
    // Of what only root sees, and of what is made when the host is armed, nothing is said too early.
    let is_seen = host.is_armed() && (!host.is_this() || nix::unistd::geteuid().is_root());
    let why = if is_seen { requester::cannot_tell(host) } else { requester::one_for_all(host) };
    if let Some(why) = why {
        let remedy = "take `requester` out: guard apply refuses the policy here";
        return policy.asks_who().map(|rule| (rule.id.clone(), why.clone(), remedy.to_owned())).collect();
    }
    let permits = |rule: &&policy::Rule| {
        rule.action != Action::Block && rule.requester.as_ref().is_some_and(|who| *who != Who::Unknown)
    };
    let mut rules = policy.asks_who().filter(permits).peekable();
    if policy.defaults.trust != Trust::Exact || rules.peek().is_none() {
        return Vec::new();
    }
    let why = match is_seen && host.is_this() {
        true => recorder::state().err().map(|error| format!("there is no recorder: {error}")),
        false => recorder::impossible(host),
    };
    let remedy = "set defaults.trust = \"likely\", or mend that";
    why.map(|why| rules.map(|rule| (rule.id.clone(), why.clone(), remedy.to_owned())).collect()).unwrap_or_default()
}

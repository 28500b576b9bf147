//! What the host uses now, and a policy would keep out.

use std::collections::BTreeSet;

use crate::doctor::{Live, live_modules};
use crate::host::Host;
use crate::judge::{Judge, Judgement};
use crate::model::{
    Action, Caller, Closure, Confidence, IndexHealth, Module, ModuleState, NeededAs, Request, Requester,
};
use crate::policy::lint::facts::Loss;
use crate::policy::{self, Policy, Rule, pattern};
use crate::text::Text;

/// So many mount points and users of a module are named.
const NAMED: usize = 4;

/// Something that is used: what would be asked for, and how it is used.
struct Use {
    name: Text,
    used: String,
    way: Way,
}

/// How a use is known.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Loaded,
    Mounted,
    /// A rule names a request that leads to what is loaded.
    Requested,
}

/// A policy as it is for everybody, and for those whom its blocks ask for.
struct Sides<'a> {
    policy: &'a Policy,
    everybody: Policy,
    asked_for: Policy,
}

impl Sides<'_> {
    fn of(policy: &Policy) -> Sides<'_> {
        let asks = |rule: &Rule| rule.action == Action::Block && rule.requester.is_some();
        let mut everybody = policy.clone();
        everybody.rules.retain(|rule| !asks(rule));
        let mut asked_for = policy.clone();
        for rule in asked_for.rules.iter_mut().filter(|rule| asks(rule)) {
            rule.requester = None;
        }
        Sides { policy, everybody, asked_for }
    }
}

/// Of what is loaded or mounted, all that would be refused to anybody who asks, or to those whom a rule asks for, were it
/// not there yet.
pub fn of(host: &Host, kernel: &str, policy: &Policy) -> Vec<Loss> {
    if !may_block(policy) {
        return Vec::new();
    }
    let live = live_modules(host).unwrap_or_default();
    let judge = Judge::new(host, kernel, policy).of_policy_alone();
    let judged = |one: Use| {
        let request = Request { name: one.name.clone(), caller: Caller::Kernel };
        let judgement = judge.judge(request, &somebody());
        (one, judgement)
    };
    let uses =
        live.iter().map(|live| Use { name: Text(live.name.clone()), used: loaded(host, live), way: Way::Loaded });
    let mut uses: Vec<(Use, Judgement)> = uses.chain(mounted(host)).map(judged).collect();
    let requested = requested(policy, &uses).into_iter().map(judged).filter_map(|(one, judgement)| {
        let leads_to = |live: &&Live| targets(&judgement).any(|name| name.as_bytes() == live.name);
        let used = loaded(host, live.iter().find(leads_to)?);
        Some((Use { used, ..one }, judgement))
    });
    let requested: Vec<(Use, Judgement)> = requested.collect();
    uses.extend(requested);
    // What only the default keeps out comes along with whatever is permitted and needs it.
    let brought: BTreeSet<&Text> = uses
        .iter()
        .filter(|(_, judgement)| judgement.verdict.carried_out != Action::Block)
        .flat_map(|(_, judgement)| judgement.closure.modules.iter().map(|module| &module.name))
        .collect();
    let is_live = |name: &Text| live.iter().any(|live| live.name == name.as_bytes());
    let sides = Sides::of(policy);
    let mut losses = Vec::new();
    for (one, judgement) in uses.iter().filter(|(_, judgement)| judgement.closure.index == IndexHealth::Intact) {
        // Each module for itself: of several that are blocked, a verdict names one.
        let absent = judgement.closure.modules.iter().filter(|module| module.state == ModuleState::Absent);
        losses.extend(absent.filter_map(|module| loss(&sides, one, module)).filter(|loss| match one.way {
            Way::Requested => loss.is_by_name,
            Way::Mounted => true,
            // A module that is there itself tells who uses it.
            Way::Loaded => loss.is_softdep || loss.name == loss.module || !is_live(&loss.module),
        }));
    }
    losses.retain(|loss| loss.rule.is_some() || !brought.contains(&loss.name));
    losses
}

/// The names that blocks are about, other than those of `uses`.
fn requested(policy: &Policy, uses: &[(Use, Judgement)]) -> Vec<Use> {
    let folded = |name: &[u8]| name.iter().map(|byte| pattern::fold(*byte)).collect::<Vec<u8>>();
    let mut known: BTreeSet<Vec<u8>> = uses.iter().map(|(one, _)| folded(one.name.as_bytes())).collect();
    let rules = policy.rules.iter().filter(|rule| rule.action == Action::Block && rule.modules.is_none());
    let entries = rules.flat_map(|rule| rule.requests.iter()).flat_map(|patterns| patterns.iter());
    let literal = entries.filter(|entry| pattern::is_literal(entry.as_bytes()));
    literal
        .filter(|entry| known.insert(folded(entry.as_bytes())))
        .map(|entry| Use { name: Text::from(entry), used: String::new(), way: Way::Requested })
        .collect()
}

/// What the name asked for stands for.
fn targets(judgement: &Judgement) -> impl Iterator<Item = &Text> {
    let targets = judgement.closure.modules.iter().filter(|module| module.needed_as == NeededAs::Target);
    targets.map(|module| &module.name)
}

/// Whether `policy` carries out any block.
pub fn may_block(policy: &Policy) -> bool {
    let by_rule = policy.rules.iter().any(|rule| rule.action == Action::Block && policy.is_enforced(rule));
    by_rule || (policy.defaults.action == Action::Block && policy.defaults.enforce)
}

/// One who was found, and of whom nothing is known.
fn somebody() -> Requester {
    Requester { confidence: Confidence::Exact, ..Requester::unknown() }
}

/// What `one` would lose by the block of `module`. `None` also where somebody, or another name, may be permitted.
fn loss(sides: &Sides<'_>, one: &Use, module: &Module) -> Option<Loss> {
    let request = Request { name: one.name.clone(), caller: Caller::Kernel };
    let closure = Closure { modules: vec![module.clone()], ..Closure::default() };
    let blocked_by = |policy| {
        let verdict = policy::decide(policy, &request, &closure, &somebody());
        (verdict.carried_out == Action::Block).then_some(verdict)
    };
    let (verdict, is_for_some) = match blocked_by(&sides.everybody) {
        Some(verdict) => (verdict, false),
        None => (blocked_by(&sides.asked_for)?, true),
    };
    let rules = &sides.policy.rules;
    let rule = verdict.rule.as_ref().and_then(|id| rules.iter().find(|rule| rule.id == *id));
    let is_by_name = rule.is_some_and(|rule| rule.modules.is_none());
    let name = one.name.as_bytes();
    // What stands behind the rule that decides has no say.
    let before = rules.iter().take_while(|other| rule.is_none_or(|rule| rule.id != other.id));
    let may_permit = before.filter(|rule| rule.action != Action::Block).any(|rule| {
        let is_about = rule.modules.as_ref().is_none_or(|modules| modules.matches(module.name.as_bytes()));
        let is_asked = rule.requests.as_ref().is_none_or(|requests| requests.matches(name));
        is_about && (if is_by_name { is_asked } else { rule.requester.is_some() || rule.requests.is_some() })
    });
    // A name is about what it stands for, not about all that comes along.
    if may_permit || (is_by_name && module.needed_as != NeededAs::Target) {
        return None;
    }
    Some(Loss {
        rule: verdict.rule,
        module: module.name.clone(),
        name: one.name.clone(),
        is_softdep: module.needed_as == NeededAs::Softdep,
        is_by_name,
        is_for_some,
        used: one.used.clone(),
    })
}

fn loaded(host: &Host, live: &Live) -> String {
    let users: Vec<String> = live.users.iter().map(|user| Text(user.clone()).to_string()).collect();
    let mut used = match (users.len(), live.own_references()) {
        (0, 0) => "loaded".to_owned(),
        (0, 1) => "loaded, held once".to_owned(),
        (0, references) => format!("loaded, held {references} times"),
        (count, _) => {
            let more = if count > NAMED { " and others" } else { "" };
            let named: Vec<&str> = users.iter().take(NAMED).map(String::as_str).collect();
            format!("loaded, used by {}{more}", named.join(", "))
        }
    };
    if live.name == b"nf_conntrack"
        && let Some(count) = host.number("/proc/sys/net/netfilter/nf_conntrack_count")
    {
        used = format!("{used}, {count} connections");
    }
    used
}

/// Mounted file systems by the names that the kernel asks for them (`get_fs_type`, fs/filesystems.c).
fn mounted(host: &Host) -> Vec<Use> {
    let text = host.read("/proc/self/mountinfo", 4 << 20).unwrap_or_default();
    let mut uses: Vec<(Text, Vec<String>)> = Vec::new();
    for (kind, place) in text.split(|&byte| byte == b'\n').filter_map(mount) {
        match uses.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, places)) => places.push(place),
            None => uses.push((kind, vec![place])),
        }
    }
    let shown = |places: &[String]| {
        let more = if places.len() > NAMED { " and elsewhere" } else { "" };
        let named: Vec<&str> = places.iter().take(NAMED).map(String::as_str).collect();
        format!("mounted on {}{more}", named.join(", "))
    };
    uses.into_iter().map(|(name, places)| Use { name, used: shown(&places), way: Way::Mounted }).collect()
}

/// The name asked for and the mount point of a line of mountinfo (proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<(Text, String)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let place = Text(unescaped(fields.nth(4)?)).to_string();
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    // A part after a dot is a matter of the file system's own.
    let kind = kind.split(|&byte| byte == b'.').next()?;
    Some((Text([b"fs-", kind].concat()), place))
}

/// Blanks and backslashes stand there as `\\NNN`, octal.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let meant = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(meant.unwrap_or(byte));
        rest = if meant.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_taken_apart() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - fuse.sshfs /dev/root rw,errors=continue";
        assert_eq!(mount(line), Some((Text::from("fs-fuse"), "/mnt2".to_owned())));
        let line = br"1 2 8:1 / /a\040b\134c\9 rw - ext4 /dev/sda1 rw";
        assert_eq!(mount(line), Some((Text::from("fs-ext4"), r"/a b\\c\\9".to_owned())));
        for garbage in [&b""[..], b"36 35 98:0 / /mnt2 rw master:1 -", b"a b c d e f g"] {
            assert_eq!(mount(garbage), None);
        }
    }
}

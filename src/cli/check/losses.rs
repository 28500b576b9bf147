//! What the host uses now, and a policy would keep out.

use std::collections::BTreeSet;

use crate::doctor::{Live, live_modules};
use crate::host::Host;
use crate::judge::{Judge, Judgement};
use crate::model::{Action, Caller, Confidence, IndexHealth, NeededAs, Request, Requester};
use crate::policy::Policy;
use crate::policy::lint::facts::Loss;
use crate::text::Text;

/// So many mount points and users of a module are named.
const NAMED: usize = 4;

/// Something that is used: what would be asked for, and how it is used.
struct Use {
    name: Text,
    used: String,
}

/// Of what is loaded or mounted, all that would be refused to anybody who asks, were it not there yet.
pub fn of(host: &Host, kernel: &str, policy: &Policy) -> Vec<Loss> {
    if !may_block(policy) {
        return Vec::new();
    }
    let live = live_modules(host).unwrap_or_default();
    let uses = live.iter().map(|live| Use { name: Text(live.name.clone()), used: loaded(host, live) });
    let uses: Vec<Use> = uses.chain(mounted(host)).collect();
    let judge = Judge::new(host, kernel, policy).of_policy_alone();
    let judged: Vec<(Use, Judgement)> = uses
        .into_iter()
        .map(|one| {
            let request = Request { name: one.name.clone(), caller: Caller::Kernel };
            let judgement = judge.judge(request, &somebody());
            (one, judgement)
        })
        .collect();
    // What only the default keeps out comes along with whatever is permitted and needs it.
    let brought: BTreeSet<Text> = judged
        .iter()
        .filter(|(_, judgement)| judgement.verdict.carried_out != Action::Block)
        .flat_map(|(_, judgement)| judgement.closure.modules.iter().map(|module| module.name.clone()))
        .collect();
    let is_live = |name: &Text| live.iter().any(|live| live.name == name.as_bytes());
    let losses = judged.into_iter().filter_map(|(one, judgement)| loss(policy, one, &judgement));
    losses
        .filter(|loss| loss.rule.is_some() || !brought.contains(&loss.name))
        // A module that is there itself tells who uses it.
        .filter(|loss| loss.is_softdep || loss.name == loss.module || !is_live(&loss.module) || is_mount(loss))
        .collect()
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

/// `None` also where somebody, or another name, may be permitted.
fn loss(policy: &Policy, one: Use, judgement: &Judgement) -> Option<Loss> {
    let Judgement { closure, verdict, .. } = judgement;
    if verdict.carried_out != Action::Block || closure.index != IndexHealth::Intact {
        return None;
    }
    let rule = verdict.rule.as_ref().and_then(|id| policy.rules.iter().find(|rule| rule.id == *id));
    let depends = rule.is_some_and(|rule| rule.requester.is_some() || rule.modules.is_none());
    let module = verdict.module.clone()?;
    // What stands behind the rule that decides has no say.
    let before = policy.rules.iter().take_while(|other| rule.is_none_or(|rule| rule.id != other.id));
    let may_permit = before.filter(|rule| rule.action != Action::Block).any(|rule| {
        let is_about = rule.modules.as_ref().is_none_or(|modules| modules.matches(module.as_bytes()));
        is_about && (rule.requester.is_some() || rule.requests.is_some())
    });
    if depends || may_permit {
        return None;
    }
    let decides = closure.modules.iter().find(|other| other.name == module)?;
    let is_softdep = decides.needed_as == NeededAs::Softdep;
    Some(Loss { rule: verdict.rule.clone(), module, name: one.name, is_softdep, used: one.used })
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

const MOUNTED: &str = "mounted on ";

fn is_mount(loss: &Loss) -> bool {
    loss.used.starts_with(MOUNTED)
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
        format!("{MOUNTED}{}{more}", named.join(", "))
    };
    uses.into_iter().map(|(name, places)| Use { name, used: shown(&places) }).collect()
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

//! The verdict on a request, up to the point where something would be done: the helper acts on it, a dry run shows it.

use crate::host::Host;
use crate::model::{
    Action, Caller, Closure, Confidence, IndexHealth, Module, ModuleState, NeededAs, Request, Requester, Verdict,
};
use crate::modules::{self, Config, Flags, Tree};
use crate::policy::requester::Open;
use crate::policy::{self, Policy};
use crate::text::Text;

/// The kernel command line's word that lets everything pass.
pub const OFF: &str = "modprobe_guard=off";

/// All that verdicts on one host, for one kernel, by one policy have in common.
pub struct Judge<'a> {
    host: &'a Host,
    kernel: &'a str,
    policy: &'a Policy,
    tree: Tree,
    config: Config,
    is_off: bool,
    /// Whether modules that are live count as such.
    sees_live: bool,
    failures: Vec<String>,
}

/// What would be done with a request, and why.
pub struct Judgement {
    /// The request.
    pub request: Request,
    /// What it would load.
    pub closure: Closure,
    /// What was decided.
    pub verdict: Verdict,
    /// What could not be read on the way.
    pub failures: Vec<String>,
}

/// How much of a verdict is certain before all is known that it may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    /// No block that is carried out can come any more.
    Permitted,
    /// One may come.
    Open,
    /// It is blocked, unless it turns out who asks, or what the name stands for.
    Blocked,
}

/// What can be said of a request for `name` before anything but the policy was read: by the name alone, as where there
/// is no index, and of a requester of whom nothing is known.
pub fn outlook(policy: &Policy, request: &Request) -> Outlook {
    if is_path(request) {
        return Outlook::Blocked;
    }
    if !policy.may_block(&request.name) {
        return Outlook::Permitted;
    }
    let nothing_read = Closure { index: IndexHealth::Missing(String::new()), ..Closure::default() };
    let verdict = policy::decide(policy, request, &nothing_read, &Requester::unknown());
    // That the default would block is no rule of the index's, but of a failure's.
    let by_rule = verdict.carried_out == Action::Block && verdict.rule.is_some();
    if by_rule { Outlook::Blocked } else { Outlook::Open }
}

/// Whether a load of connection tracking on behalf of anybody is one to size.
pub fn sizes_tables(policy: &Policy) -> bool {
    let request = Request { name: Text::from("nf_conntrack"), caller: Caller::Kernel };
    let module = Module { name: request.name.clone(), state: ModuleState::Absent, needed_as: NeededAs::Target };
    let closure = Closure { modules: vec![module], ..Closure::default() };
    policy::decide(policy, &request, &closure, &Requester::unknown()).carried_out == Action::AllowSysctl
}

/// Whether the kernel command line lets everything pass.
pub fn is_off(host: &Host) -> bool {
    host.kernel_command_line().split(u8::is_ascii_whitespace).any(|word| word == OFF.as_bytes())
}

impl<'a> Judge<'a> {
    /// Reads modprobe.d; files of the index are opened when a name needs them.
    pub fn new(host: &'a Host, kernel: &'a str, policy: &'a Policy) -> Judge<'a> {
        let tree = host.modules(kernel);
        let (config, failures) = host.modprobe_config(kernel);
        let is_off = is_off(host);
        Judge { host, kernel, policy, tree, config, is_off, sees_live: true, failures }
    }

    /// The same whatever state the host is in: with nothing loaded, since what is live is not judged, and not switched
    /// off.
    pub fn of_policy_alone(self) -> Judge<'a> {
        Judge { sees_live: false, is_off: false, ..self }
    }

    /// The release of the kernel that is judged for.
    pub fn kernel(&self) -> &str {
        self.kernel
    }

    /// The policy that is judged by.
    pub fn policy(&self) -> &Policy {
        self.policy
    }

    /// The modprobe.d configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What would be done with `request`, made by `requester`.
    pub fn judge(&self, request: Request, requester: &Requester) -> Judgement {
        if is_path(&request) {
            let verdict =
                fixed(Action::Block, "built in", "a name from the kernel that begins with / or . names no module");
            return Judgement { request, closure: Closure::default(), verdict, failures: self.failures.clone() };
        }
        // What a hook hands on skips the `install` line that ran it.
        let flags = Flags { ignore_install: request.caller == Caller::Hook, use_blacklist: false };
        let name = request.name.as_bytes();
        let closure = modules::resolve(name, flags, &self.tree, &self.config, |module| {
            self.sees_live && self.host.is_live(module)
        });
        let verdict = self.decide(&request, &closure, requester);
        let mut failures = self.failures.clone();
        match &closure.index {
            IndexHealth::Intact => {}
            IndexHealth::Partial(errors) => failures.extend(errors.iter().cloned()),
            IndexHealth::Missing(error) => failures.push(error.clone()),
        }
        Judgement { request, closure, verdict, failures }
    }

    /// Judges once more, now that it is known who asked; what the request would load stays as it was found.
    pub fn judge_again(&self, judgement: &mut Judgement, requester: &Requester) {
        // Where no rule about it asks who, nothing else would come of it.
        if self.is_asked_who(judgement) {
            judgement.verdict = self.decide(&judgement.request, &judgement.closure, requester);
        }
    }

    /// What is certain of a judgement that was made for an unknown requester, as long as nobody knows who asked.
    pub fn outlook(&self, judgement: &Judgement) -> Outlook {
        if judgement.verdict.carried_out == Action::Block {
            return Outlook::Blocked;
        }
        // One who was found, and of whom nothing is known yet: every rule that asks who is open.
        let somebody = Requester { confidence: Confidence::Exact, ..Requester::unknown() };
        let open = self.open_rules(judgement, &somebody);
        let may_block = open.iter().any(|open| open.rule.action == Action::Block && self.policy.is_enforced(open.rule));
        if may_block { Outlook::Open } else { Outlook::Permitted }
    }

    /// What modprobe(8) would answer if it were asked quietly for nothing but this name, where it is certain that it
    /// would do nothing: 1 if the name stands for nothing, 0 if all that it stands for is there already.
    ///
    /// Certain is what an intact index says and no line of modprobe.d has a part in. Whatever was decided but to
    /// permit it takes its usual way.
    pub fn foregone(&self, judgement: &Judgement) -> Option<i32> {
        let Judgement { request, closure, verdict, failures } = judgement;
        let name = request.name.as_bytes();
        let is_name = !name.is_empty() && !name.starts_with(b".") && !name.contains(&b'/');
        let is_clear = failures.is_empty() && closure.blacklisted.is_empty() && closure.commands.is_empty();
        let mut names = closure.modules.iter().map(|module| &module.name).chain([&request.name]);
        let is_permitted = verdict.carried_out == Action::Allow && !self.is_off;
        if !is_permitted || !is_name || !is_clear || names.any(|name| self.config.is_about(name.as_bytes())) {
            return None;
        }
        if closure.modules.is_empty() {
            return Some(1);
        }
        // Without /sys modprobe takes what is live for absent.
        let is_seen = self.host.has_sysfs() || closure.modules.iter().all(|module| module.state != ModuleState::Live);
        (closure.is_served() && is_seen).then_some(0)
    }

    /// Whether it may matter to a judgement who asked, and not only to its record.
    pub fn is_asked_who(&self, judgement: &Judgement) -> bool {
        !self.is_off
            && !is_path(&judgement.request)
            && policy::is_asked_who(self.policy, &judgement.request, &judgement.closure)
    }

    fn decide(&self, request: &Request, closure: &Closure, requester: &Requester) -> Verdict {
        if self.is_off {
            let why = "modprobe_guard=off on the kernel command line: everything passes";
            return fixed(Action::Allow, "/proc/cmdline", why);
        }
        policy::decide(self.policy, request, closure, requester)
    }

    /// The rules that ask of `requester` what nobody knows, and that might have decided otherwise.
    pub fn open_rules(&self, judgement: &Judgement, requester: &Requester) -> Vec<Open<'a>> {
        if self.is_off || is_path(&judgement.request) {
            return Vec::new();
        }
        policy::open_rules(self.policy, &judgement.request, &judgement.closure, requester)
    }
}

/// kmod 31 and later take such a name for a file to load; a person may mean that, whoever made the kernel ask may not.
fn is_path(request: &Request) -> bool {
    matches!(request.caller, Caller::Kernel | Caller::Xtables)
        && matches!(request.name.as_bytes().first(), Some(b'/' | b'.'))
}

fn fixed(action: Action, source: &str, reason: &str) -> Verdict {
    Verdict {
        action,
        enforced: true,
        rule: None,
        source: source.to_owned(),
        module: None,
        reason: Some(reason.to_owned()),
        carried_out: action,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, parse};

    fn policy(text: &str) -> Policy {
        parse(&[Source::new("p.toml", format!("version = 1\n{text}").into_bytes())]).unwrap()
    }

    #[test]
    fn what_is_certain_by_the_name_alone() {
        use Outlook::*;
        let block = "[[rule]]\nid = \"b\"\naction = \"block\"\n";
        for (text, name, expected) in [
            (String::new(), "nf_nat", Permitted),
            (String::new(), "/tmp/evil.ko", Blocked),
            (format!("{block}modules = [\"nf_nat\"]\n"), "nf_nat", Blocked),
            (format!("{block}modules = [\"nf_nat\"]\n"), "iptable_nat", Open),
            (format!("{block}modules = [\"nf_nat\"]\nenforce = false\n"), "nf_nat", Permitted),
            (format!("[defaults]\nenforce = false\n{block}modules = [\"nf_nat\"]\n"), "nf_nat", Permitted),
            (format!("{block}requests = [\"net-pf-38\"]\n"), "net_pf_38", Blocked),
            (format!("{block}requests = [\"net-pf-38\"]\n"), "net-pf-9", Permitted),
            (format!("{block}modules = [\"a\"]\nrequester = {{ uid = [1000] }}\n"), "a", Open),
            (format!("{block}modules = [\"a\"]\nrequester = \"unknown\"\n"), "a", Blocked),
            ("[defaults]\naction = \"block\"\n".to_owned(), "a", Open),
            ("[defaults]\naction = \"block\"\nenforce = false\n".to_owned(), "a", Permitted),
        ] {
            let request = Request { name: name.into(), caller: Caller::Kernel };
            assert_eq!(outlook(&policy(&text), &request), expected, "{text} {name}");
        }
    }
}

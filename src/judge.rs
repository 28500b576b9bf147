//! The verdict on a request, up to the point where something would be done: the helper acts on it, a dry run shows it.

use crate::host::Host;
use crate::model::{Action, Caller, Closure, IndexHealth, Request, Requester, Verdict};
use crate::modules::{self, Config, Flags, Tree};
use crate::policy::requester::Open;
use crate::policy::{self, Policy};

/// The kernel command line's word that lets everything pass.
const OFF: &[u8] = b"modprobe_guard=off";

/// All that verdicts on one host, for one kernel, by one policy have in common.
pub struct Judge<'a> {
    host: &'a Host,
    kernel: &'a str,
    policy: &'a Policy,
    tree: Tree,
    config: Config,
    is_off: bool,
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

impl<'a> Judge<'a> {
    /// Reads modprobe.d; files of the index are opened when a name needs them.
    pub fn new(host: &'a Host, kernel: &'a str, policy: &'a Policy) -> Judge<'a> {
        let tree = host.modules(kernel);
        let (config, failures) = host.modprobe_config(kernel);
        let command_line = host.kernel_command_line();
        let is_off = command_line.split(u8::is_ascii_whitespace).any(|word| word == OFF);
        Judge { host, kernel, policy, tree, config, is_off, failures }
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
        let closure = modules::resolve(name, flags, &self.tree, &self.config, |module| self.host.is_live(module));
        let verdict = if self.is_off {
            fixed(Action::Allow, "/proc/cmdline", "modprobe_guard=off on the kernel command line: everything passes")
        } else {
            policy::decide(self.policy, &request, &closure, requester)
        };
        let mut failures = self.failures.clone();
        match &closure.index {
            IndexHealth::Intact => {}
            IndexHealth::Partial(errors) => failures.extend(errors.iter().cloned()),
            IndexHealth::Missing(error) => failures.push(error.clone()),
        }
        Judgement { request, closure, verdict, failures }
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

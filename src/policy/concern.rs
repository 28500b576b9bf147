//! Which modules a policy has something to say of, whoever asks and whatever for.

use crate::model::{Action, Caller, Closure, Confidence, Module, ModuleState, NeededAs, Request, Requester, Verdict};
use crate::text::Text;

use super::{Policy, UnknownRequester, decide, open_rules};

/// How a policy blocks or sizes a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// Whatever the module is loaded for.
    Always,
    /// By its name having been asked for, as far as the policy goes by that: a rule with `requests`, or the default.
    IfAskedFor,
}

/// How `policy` blocks or sizes `module`, whoever asks; `None` if nobody's load of it is ever either. Rules that ask who
/// count as well, since they may match, and so do blocks of rules that are only recorded; of a default, which may be about
/// all modules there are, only one that is carried out.
pub fn concern(policy: &Policy, module: &Text) -> Option<Concern> {
    let target = Module { name: module.clone(), state: ModuleState::Absent, needed_as: NeededAs::Target };
    let closure = Closure { modules: vec![target], ..Closure::default() };
    let request = Request { name: module.clone(), caller: Caller::Hook };
    let says = |verdict: &Verdict| {
        verdict.carried_out != Action::Allow || (verdict.rule.is_some() && verdict.action != Action::Allow)
    };
    let is_concerned = says(&decide(policy, &request, &closure, &Requester::unknown()))
        || says(&decide(policy, &request, &closure, &somebody()))
        || open_rules(policy, &request, &closure, &somebody()).iter().any(|open| open.rule.action != Action::Allow);
    is_concerned.then(|| {
        let rules = policy.rules.iter().filter(|rule| rule.is_about(Some(module), module));
        let by_name = rules.clone().any(|rule| rule.requests.is_some());
        // Whoever asks, none of them may match; a block that is not carried out ends nothing.
        let by_default = policy.defaults.action != Action::Allow
            && policy.defaults.enforce
            && !rules.clone().any(|rule| rule.requester.is_none() && policy.is_enforced(rule));
        if by_name || by_default { Concern::IfAskedFor } else { Concern::Always }
    })
}

/// Whether there may be somebody for whom what `closure` holds is loaded when it is asked for as `name`.
pub fn may_pass(policy: &Policy, name: &Text, closure: &Closure) -> bool {
    let request = Request { name: name.clone(), caller: Caller::Hook };
    let passes = |requester| decide(policy, &request, closure, &requester).carried_out != Action::Block;
    passes(Requester::unknown())
        || passes(somebody())
        || open_rules(policy, &request, closure, &somebody()).iter().any(|open| {
            // One that blocks was passed over above, unless who is unknown is blocked.
            open.rule.action != Action::Block || policy.defaults.unknown_requester == UnknownRequester::Block
        })
}

/// One who was found, and of whom nothing is known yet.
fn somebody() -> Requester {
    Requester { confidence: Confidence::Exact, ..Requester::unknown() }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse};
    use super::*;

    fn of(text: &str) -> Option<Concern> {
        let policy = parse(&[Source::new("p", format!("version = 1\n{text}").into_bytes())]).unwrap();
        concern(&policy, &Text::from("nf_nat"))
    }

    fn rule(rest: &str) -> String {
        format!("[[rule]]\nid = \"r{}\"\n{rest}\n", rest.bytes().map(u32::from).sum::<u32>())
    }

    #[test]
    fn what_rules_say_of_a_module() {
        use Concern::{Always, IfAskedFor};
        let (modules, block) = ("modules = [\"nf-*\"]\n", "action = \"block\"");
        let block_default = "[defaults]\naction = \"block\"\n";
        for (text, expected) in [
            (String::new(), None),
            (rule(&format!("{modules}action = \"allow\"")), None),
            (rule(&format!("{modules}{block}")), Some(Always)),
            (rule(&format!("{modules}action = \"allow-sysctl\"")), Some(Always)),
            (rule(&format!("{modules}{block}\nenforce = false")), Some(Always)),
            (rule(&format!("modules = [\"x\"]\n{block}")), None),
            // Who asks.
            (rule(&format!("{modules}{block}\nrequester = {{ uid = 7 }}")), Some(Always)),
            (rule(&format!("{modules}{block}\nrequester = \"unknown\"")), Some(Always)),
            (
                rule(&format!("{modules}action = \"allow-sysctl\"\nrequester = {{ unit = \"x.service\" }}")),
                Some(Always),
            ),
            (rule(&format!("{modules}action = \"allow\"\nrequester = {{ unit = \"x.service\" }}")), None),
            (rule(&format!("{modules}{block}\nrequester = {{ caller = \"kernel\" }}")), None),
            (rule(&format!("{modules}{block}\nrequester = {{ caller = \"hook\" }}")), Some(Always)),
            // The order of rules.
            (rule(&format!("{modules}action = \"allow\"")) + &rule(&format!("{modules}{block}")), None),
            (
                rule(&format!("{modules}action = \"allow\"\nrequester = {{ uid = 7 }}"))
                    + &rule(&format!("{modules}{block}")),
                Some(Always),
            ),
            // What was asked for.
            (rule(&format!("requests = [\"nf-nat\"]\n{block}")), Some(IfAskedFor)),
            (rule(&format!("requests = [\"iptable_nat\"]\n{block}")), None),
            (rule(&format!("requests = [\"iptable_nat\"]\n{modules}{block}")), None),
            (block_default.to_owned(), Some(IfAskedFor)),
            (format!("{block_default}enforce = false"), None),
            (block_default.to_owned() + &rule(&format!("{modules}action = \"allow\"")), None),
            (block_default.to_owned() + &rule(&format!("{modules}{block}")), Some(Always)),
            (block_default.to_owned() + &rule(&format!("{modules}action = \"allow-sysctl\"")), Some(Always)),
            (
                block_default.to_owned()
                    + &rule(&format!("{modules}action = \"allow-sysctl\"\nrequester = {{ uid = 7 }}")),
                Some(IfAskedFor),
            ),
            (block_default.to_owned() + &rule(&format!("{modules}{block}\nenforce = false")), Some(IfAskedFor)),
        ] {
            assert_eq!(of(&text), expected, "{text}");
        }
    }

    #[test]
    fn who_may_get_it() {
        let may = |text: &str| {
            let policy = parse(&[Source::new("p", format!("version = 1\n{text}").into_bytes())]).unwrap();
            let module = Module { name: "nf_nat".into(), state: ModuleState::Absent, needed_as: NeededAs::Target };
            may_pass(&policy, &module.name.clone(), &Closure { modules: vec![module], ..Closure::default() })
        };
        let block_default = "[defaults]\naction = \"block\"\n";
        assert!(may(""));
        assert!(!may(block_default));
        assert!(!may(&rule("modules = [\"nf_nat\"]\naction = \"block\"")));
        assert!(may(&rule("modules = [\"nf_nat\"]\naction = \"block\"\nrequester = { uid = 7 }")));
        assert!(may(
            &(block_default.to_owned() + &rule("modules = [\"nf_nat\"]\naction = \"allow\"\nrequester = { uid = 7 }"))
        ));
    }
}

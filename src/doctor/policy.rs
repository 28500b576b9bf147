//! Our own policy: whether a rule keeps the module out.

use super::commands::{load, quoted_name};
use super::{Case, Cause, Finding, Seen};
use crate::host::{ETC, KERNEL_MODPROBE};
use crate::judge::Judge;
use crate::model::{Action, Caller, ModuleState, Request};
use crate::text::Text;

pub fn look(case: &Case) -> Seen {
    let judge = Judge::new(case.host, &case.kernel, &case.policy);
    let request = Request { name: Text(case.module.clone()), caller: Caller::Kernel };
    let judgement = judge.judge(request, &case.requester);
    let verdict = &judgement.verdict;
    let rule = match &verdict.rule {
        Some(rule) => format!("rule \"{rule}\" ({})", verdict.source),
        None => "no rule".to_owned(),
    };
    if verdict.carried_out != Action::Block {
        let word = match verdict.carried_out {
            Action::AllowSysctl => "permitted and sized",
            _ => "permitted",
        };
        let who = if case.policy.asks_who().next().is_some() { ", as far as root on the host asks" } else { "" };
        return Seen::Well(format!("{word}: {rule}{who}"));
    }
    // Where the kernel runs another program, nobody asks us.
    if case.host.line(KERNEL_MODPROBE).is_some() && !case.host.is_armed() {
        return Seen::Well(format!("would block it ({rule}), but the kernel does not ask the guard"));
    }
    let decided = verdict.module.as_ref().map_or_else(|| case.name(), ToString::to_string);
    let mut finding =
        Finding::new(Cause::GuardPolicy, format!("the guard's policy blocks {}", case.name())).evidence(match &verdict
            .rule
        {
            Some(rule) => format!("{}: rule \"{rule}\" blocks {decided}", verdict.source),
            None => format!("defaults.action = \"block\": no rule permits {decided}"),
        });
    if let Some(reason) = &verdict.reason {
        finding = finding.evidence(format!("its author's reason: {reason}"));
    }
    finding.evidence.extend(super::records::last_block(case));
    let absent = judgement.closure.modules.iter().filter(|module| module.state == ModuleState::Absent);
    let mut names: Vec<String> = absent.map(|module| module.name.to_string()).collect();
    if names.is_empty() {
        names.push(case.name());
    }
    let action = if names.iter().any(|name| name == "nf_conntrack") { "allow-sysctl" } else { "allow" };
    let file = format!("{ETC}/policy.d/00-allow-{}.toml", case.name());
    let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let rule = format!(
        "version = 1\\n[[rule]]\\nid = \"allow-{}\"\\nmodules = [{list}]\\naction = \"{action}\"\\n",
        case.name()
    );
    finding
        .fix("# if it is to be permitted after all: a rule that comes before the other one")
        .fix(format!("mkdir -p {ETC}/policy.d"))
        .fix(format!("printf '{rule}' >{}", quoted_name(file.as_bytes())))
        .fix("guard apply")
        .fix(load(case))
        .into()
}

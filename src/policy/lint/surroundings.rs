//! Lines of modprobe.d that have another way in mind, and what this host can't do for a policy.

use super::facts::{Facts, Line, Says};
use super::{Level, Lint, Subject, Words, listed};

pub(super) fn look(subject: &Subject<'_>, facts: &Facts) -> Vec<Lint> {
    let mut lints: Vec<Lint> = facts.lines.iter().filter_map(|line| against(subject, line)).collect();
    lints.extend(unhooked(subject, facts));
    lints.extend(facts.unheard.iter().filter_map(|(id, why, remedy)| {
        let rule = subject.policy.rules.iter().find(|rule| rule.id == *id)?;
        let message = format!("rule \"{id}\" asks who, which this host can't tell: {why}");
        Some(subject.of_rule(rule, "requester", "", Words::new("cannot-tell", Level::Warning, message, remedy)))
    }));
    lints
}

/// A line that keeps out what a rule permits.
fn against(subject: &Subject<'_>, line: &Line) -> Option<Lint> {
    let Line { rule, module, says, source } = line;
    let rule = subject.policy.rules.iter().find(|other| other.id == *rule)?;
    let what = match says {
        Says::Blacklist => "has it on a blacklist: a request by an alias is permitted, and loads nothing".to_owned(),
        Says::Install(command) => format!("runs `{command}` in the place of a load"),
        Says::AliasTo(other) => format!("leads to {other} instead"),
    };
    let message = format!("rule \"{}\" permits {module}, and {source} {what}", rule.id);
    let words = Words::new("modprobe-d", Level::Warning, message, "take that line away, or the module out of the rule");
    Some(subject.of_rule(rule, "modules", module, words))
}

/// Modules that modprobe(8) and libkmod load without asking us.
fn unhooked(subject: &Subject<'_>, facts: &Facts) -> Option<Lint> {
    let named = |unhooked: &super::facts::Unhooked| match &unhooked.installed_by {
        Some(source) => format!("{} ({source})", unhooked.module),
        None => unhooked.module.to_string(),
    };
    let names: Vec<String> = facts.unhooked.iter().map(named).collect();
    if names.is_empty() {
        return None;
    }
    let message = format!(
        "there can be no install line of ours for these, since they have soft dependencies or lines of others: {}",
        listed(&names)
    );
    let words = Words::new(
        "unhooked",
        Level::Note,
        message,
        "see `guard status` for who loads them unasked, and what closes that way",
    );
    Some(subject.of_table("", "", words))
}

//! `guard test`: does a policy do what its author expects?

use std::cell::LazyCell;
use std::path::Path;

use serde::Serialize;

use super::assumed::Assumed;
use super::{Common, check, exit};
use crate::host::Host;
use crate::judge::{Judge, Judgement};
use crate::model::{Action, IndexHealth, Request, Verdict};
use crate::policy::{self, Expectation, Expectations, Policy, Source};
use crate::text::Text;

/// What came of one request.
#[derive(Serialize)]
struct Outcome<'a> {
    /// Where the test stands, `FILE:LINE`.
    test: &'a str,
    request: &'a str,
    /// As for `--as`.
    requester: &'a [String],
    result: Came,
    expected: Expected<'a>,
    found: &'a Verdict,
    /// Of a request that was skipped, the name that may have been meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    meant: Option<&'a str>,
}

#[derive(Serialize)]
struct Expected<'a> {
    verdict: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Came {
    Passed,
    Failed,
    /// This kernel has no such module, and no rule is about the name.
    Skipped,
}

/// Runs the tests in `file`; each as if nothing were loaded yet, since a module that is there is not judged.
pub fn run(host: &Host, common: &Common, by: Option<&Path>, file: &Path) -> u8 {
    match judged(host, common, by, file) {
        Ok(status) => status,
        Err(errors) => {
            errors.iter().for_each(|error| complain!("guard: {error}"));
            exit::CANNOT_TELL
        }
    }
}

fn judged(host: &Host, common: &Common, by: Option<&Path>, file: &Path) -> Result<u8, Vec<String>> {
    let source = Host::policy_file(file).map_err(|error| vec![error.to_string()])?;
    let told = |findings: Vec<policy::Finding>| findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let Expectations { policy, tests } = policy::expectations(&source).map_err(told)?;
    let sources = sources(host, by, file, policy.as_deref())?;
    let policy = policy::parse(&sources).map_err(told)?;
    let kernel = common.kernel.clone().map_or_else(|| host.kernel().map_err(|error| vec![error]), Ok)?;
    let judge = Judge::new(host, &kernel, &policy).of_policy_alone();
    // Read only where something is skipped.
    let modules = LazyCell::new(|| {
        let (config, _) = host.modprobe_config(&kernel);
        check::facts::modules_of(&kernel, &policy, &host.modules(&kernel), &config).ok()
    });
    let (mut passed, mut failed, mut skipped) = (0_usize, 0_usize, 0_usize);
    for test in &tests {
        let assumed = Assumed::of(&test.facts);
        let assumed = assumed.map_err(|error| vec![format!("{}: requester: {error}", test.source)])?;
        for name in &test.requests {
            let request = Request { name: Text::from(name.as_str()), caller: assumed.caller };
            let judgement = judge.judge(request, &assumed.requester);
            if let IndexHealth::Missing(error) = &judgement.closure.index {
                return Err(vec![format!("{error}; name a kernel that is installed with --kernel")]);
            }
            let result = came(test, &judgement, &policy);
            match result {
                Came::Passed => passed = passed.saturating_add(1),
                Came::Failed => failed = failed.saturating_add(1),
                Came::Skipped => skipped = skipped.saturating_add(1),
            }
            let meant = (result == Came::Skipped).then(|| modules.as_ref()?.meant(name)).flatten();
            print(common, test, name, result, &judgement.verdict, &kernel, meant.as_deref());
        }
    }
    if !common.json {
        let why = match skipped {
            0 => String::new(),
            _ => format!(" (no such module in {kernel}: a slip, or another kernel's)"),
        };
        say!("{passed} passed, {failed} failed, {skipped} skipped{why}, of {}", check::names(&sources));
    }
    Ok(match (passed, failed) {
        (_, 1..) => exit::BAD,
        (0, 0) => exit::CANNOT_TELL,
        _ => exit::GOOD,
    })
}

/// `--policy`, else what the tests name, else the files that `guard apply` would put in force.
fn sources(host: &Host, by: Option<&Path>, file: &Path, named: Option<&str>) -> Result<Vec<Source>, Vec<String>> {
    let beside = named.map(|named| file.parent().unwrap_or(Path::new("")).join(named));
    match (by, &beside) {
        (Some(file), _) => Host::policy_file(file).map(|source| vec![source]).map_err(|error| vec![error.to_string()]),
        (None, Some(policy)) => Host::policy_file(policy)
            .map(|source| vec![source])
            .map_err(|error| vec![format!("{}: policy: {error}, or judge by another with --policy", file.display())]),
        (None, None) => host.policy_sources().map_err(|findings| findings.iter().map(ToString::to_string).collect()),
    }
}

fn came(test: &Expectation, judgement: &Judgement, policy: &Policy) -> Came {
    let Judgement { closure, verdict, .. } = judgement;
    // A rule that is not there decides nothing on any kernel.
    let is_rule = |id: &String| id.is_empty() || policy.rules.iter().any(|rule| rule.id == *id);
    if !closure.is_known() && verdict.rule.is_none() && test.rule.iter().all(is_rule) {
        return Came::Skipped;
    }
    let is_rule_as_expected =
        test.rule.as_ref().is_none_or(|rule| *rule == verdict.rule.as_deref().unwrap_or_default());
    let is_as_expected = verdict.carried_out == test.verdict && is_rule_as_expected;
    if is_as_expected { Came::Passed } else { Came::Failed }
}

fn print(
    common: &Common,
    test: &Expectation,
    name: &str,
    result: Came,
    found: &Verdict,
    kernel: &str,
    meant: Option<&str>,
) {
    let Expectation { source, facts, verdict, rule, .. } = test;
    if common.json {
        let expected = Expected { verdict: *verdict, rule: rule.as_deref() };
        let outcome = Outcome { test: source, request: name, requester: facts, result, expected, found, meant };
        match serde_json::to_string(&outcome) {
            Ok(json) => say!("{json}"),
            Err(error) => complain!("guard: {error}"),
        }
        return;
    }
    let asked =
        std::iter::once(Text::from(name).to_string()).chain(facts.iter().map(|fact| Text::from(&**fact).to_string()));
    let asked = asked.collect::<Vec<_>>().join(" ");
    match result {
        Came::Passed => say!("ok      {source}: {asked}: {}", decided(found)),
        Came::Skipped => {
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{}`?", Text::from(meant)));
            say!("skipped {source}: {asked}: {kernel} has no such module, and no rule is about the name{meant}");
        }
        Came::Failed => {
            let by = match rule.as_deref() {
                None => String::new(),
                Some("") => " by no rule".to_owned(),
                Some(rule) => format!(" by rule \"{rule}\""),
            };
            say!("FAILED  {source}: {asked}: expected {}{by}, found {}", word(*verdict), decided(found));
        }
    }
}

/// What was decided, and by what.
fn decided(verdict: &Verdict) -> String {
    let by = match (&verdict.rule, &verdict.module) {
        (Some(rule), Some(module)) => format!(" by rule \"{rule}\" ({}) for {module}", verdict.source),
        (Some(rule), None) => format!(" by rule \"{rule}\" ({})", verdict.source),
        (None, _) => format!(" by {}", verdict.source),
    };
    let watched = if verdict.carried_out == verdict.action { "" } else { ", which would block if it were enforced" };
    format!("{}{by}{watched}", word(verdict.carried_out))
}

/// The policy's word for it.
pub(super) fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::AllowSysctl => "allow-sysctl",
        Action::Block => "block",
    }
}

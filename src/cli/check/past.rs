//! What the log has as permitted, and a policy would refuse.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::losses::may_block;
use crate::audit::{Entry, entries_of_host};
use crate::host::Host;
use crate::model::{Action, Closure, Record, Task};
use crate::policy::lint::Facts;
use crate::policy::lint::facts::Past;
use crate::policy::{self, Policy};

/// How long the log is looked at.
const PATIENCE: Duration = Duration::from_secs(1);

/// Records are for root.
const AS_ROOT: &str = "run guard check as root";

/// What was asked for by whom, with how often.
type Counts = BTreeMap<String, u64>;

/// Reads the log of `host`, as far as it may and as time allows.
pub fn look(host: &Host, policy: &Policy, facts: &mut Facts) {
    if !may_block(policy) {
        return;
    }
    let entries = match entries_of_host(host) {
        Ok(entries) => entries,
        Err(error) => {
            facts.past_unread = Some((format!("the log of this host can't be read: {error}"), AS_ROOT));
            return;
        }
    };
    let begun = Instant::now();
    let mut by_rule: BTreeMap<Option<String>, Counts> = BTreeMap::new();
    for (read, entry) in entries.enumerate() {
        if begun.elapsed() > PATIENCE {
            let why = format!("but for the first {read} records, which took {} s", PATIENCE.as_secs());
            facts.past_unread = Some((why, "see `guard log --summary`"));
            break;
        }
        match entry {
            Ok(Entry::Record(record)) => {
                if let Some((rule, by)) = refused(policy, &record) {
                    let count = by_rule.entry(rule).or_default().entry(by).or_default();
                    *count = count.saturating_add(1);
                }
            }
            Ok(_) => {}
            Err(error) => facts.past_unread = Some((format!("a part of the log can't be read: {error}"), AS_ROOT)),
        }
    }
    facts.past = by_rule.into_iter().map(|(rule, counts)| past(rule, counts)).collect();
}

fn past(rule: Option<String>, counts: Counts) -> Past {
    let mut by: Vec<(String, u64)> = counts.into_iter().collect();
    by.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Past { rule, requests: by.iter().map(|(_, count)| *count).sum(), by }
}

/// Which rule would refuse what `record` has as permitted, and in words what was asked for by whom. `None` also where a
/// record does not hold what a rule asks.
fn refused(policy: &Policy, record: &Record) -> Option<(Option<String>, String)> {
    let was_refused = record.verdict.action == Action::Block && record.verdict.enforced;
    let closure = Closure { modules: record.modules.clone(), ..Closure::default() };
    let Record { request, requester, .. } = record;
    if was_refused || !policy::open_rules(policy, request, &closure, requester).is_empty() {
        return None;
    }
    let verdict = policy::decide(policy, request, &closure, requester);
    (verdict.carried_out == Action::Block)
        .then(|| (verdict.rule, format!("{} by {}", request.name, who(&requester.task))))
}

fn who(task: &Task) -> String {
    let text = task.unit.as_ref().or(task.container.as_ref()).or(task.exe.as_ref()).or(task.comm.as_ref());
    text.map_or_else(|| "somebody".to_owned(), ToString::to_string)
}

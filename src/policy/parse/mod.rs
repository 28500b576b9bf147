//! Policy files -> a policy, or everything that is wrong with them.

pub(super) mod expectations;
mod reader;
pub(super) mod requester;
pub(super) mod rules;
pub(super) mod sysctl;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::Action;
use crate::text::Text;

use self::reader::{Entry, Reader};
pub(super) use self::reader::{Keys, distance};
use super::finding::{Finding, Source};
use super::{Audit, Conntrack, Defaults, Max, Policy, Rule, Sysctl, Trust, UnknownRequester};

pub(super) const FILE: Keys = Keys("the file", &["version", "defaults", "rule", "conntrack", "audit", "sysctl"]);
pub(super) const DEFAULTS: Keys =
    Keys("[defaults]", &["action", "enforce", "on_failure", "unknown_requester", "trust", "delegate"]);
pub(super) const CONNTRACK: Keys = Keys("[conntrack]", &["max", "limit", "memory_percent", "resize_live"]);
pub(super) const AUDIT: Keys = Keys("[audit]", &["cmdline"]);

pub(super) const ACTIONS: &[(&str, Action)] =
    &[("allow", Action::Allow), ("allow-sysctl", Action::AllowSysctl), ("block", Action::Block)];
pub(super) const ON_FAILURE: &[(&str, Action)] = &[("allow", Action::Allow), ("block", Action::Block)];
pub(super) const UNKNOWN: &[(&str, UnknownRequester)] =
    &[("pass", UnknownRequester::Pass), ("block", UnknownRequester::Block)];
pub(super) const TRUST: &[(&str, Trust)] = &[("exact", Trust::Exact), ("likely", Trust::Likely)];

/// The kernel refuses a greater `nf_conntrack_max` (`proc_dointvec_minmax` up to `INT_MAX`).
pub(super) const MAX_ENTRIES: i64 = i32::MAX as i64;
pub(super) const PERCENT: RangeInclusive<i64> = 1..=100;

/// The policy that `sources` say together, in the order in which their rules count: of every other key the first that
/// sets one wins.
///
/// # Errors
/// Everything that was found wrong, in the order of `sources` and of places in them.
pub fn parse(sources: &[Source]) -> Result<Policy, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut draft = Draft::default();
    for source in sources {
        let mut reader = Reader::of(source);
        if let Some(document) = reader.document() {
            draft.add(&mut reader, document.get_ref());
        }
        findings.extend(reader.findings());
    }
    if findings.is_empty() { Ok(draft.policy()) } else { Err(findings) }
}

/// What the sources have said so far.
#[derive(Default)]
struct Draft {
    action: Option<Action>,
    enforce: Option<bool>,
    on_failure: Option<Action>,
    unknown_requester: Option<UnknownRequester>,
    trust: Option<Trust>,
    delegate: Option<String>,
    rules: Vec<Rule>,
    /// Where each rule's id was first used, by id.
    ids: HashMap<String, String>,
    max: Option<Max>,
    limit: Option<i64>,
    memory_percent: Option<i64>,
    resize_live: Option<bool>,
    cmdline: Option<bool>,
    /// By the dotted key.
    sysctl: BTreeMap<String, Sysctl>,
}

/// Of a key other than a rule the first that sets one wins.
fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

impl Draft {
    fn add(&mut self, reader: &mut Reader<'_>, document: &DeTable<'_>) {
        // A file of another version may mean something else by every other key.
        if let Some((_, version)) = document.get_key_value("version").map(Entry::from)
            && reader.number("version", version, i64::MIN..=i64::MAX) != Some(1)
        {
            reader.find_unless_found(version, "this is no policy of version 1", "write `version = 1`");
            return;
        }
        reader.known_only(document, &FILE);
        for (key, value) in document.iter().map(Entry::from) {
            match key {
                "defaults" => self.add_defaults(reader, value),
                "rule" => rules::read(self, reader, value),
                "conntrack" => self.add_conntrack(reader, value),
                "audit" => self.add_audit(reader, value),
                "sysctl" => sysctl::read(&mut self.sysctl, reader, value),
                _ => {}
            }
        }
    }

    fn add_defaults(&mut self, reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(table) = reader.table("defaults", value, &DEFAULTS) else { return };
        for (key, value) in table.iter().map(Entry::from) {
            match key {
                "action" => first(&mut self.action, reader.word(key, value, ACTIONS)),
                "enforce" => first(&mut self.enforce, reader.boolean(key, value)),
                "on_failure" => first(&mut self.on_failure, reader.word(key, value, ON_FAILURE)),
                "unknown_requester" => first(&mut self.unknown_requester, reader.word(key, value, UNKNOWN)),
                "trust" => first(&mut self.trust, reader.word(key, value, TRUST)),
                "delegate" => first(&mut self.delegate, delegate(reader, value)),
                _ => {}
            }
        }
    }

    fn add_conntrack(&mut self, reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(table) = reader.table("conntrack", value, &CONNTRACK) else { return };
        for (key, value) in table.iter().map(Entry::from) {
            match key {
                "max" => first(&mut self.max, max(reader, value)),
                "limit" => first(&mut self.limit, reader.number(key, value, 1..=MAX_ENTRIES)),
                "memory_percent" => first(&mut self.memory_percent, reader.number(key, value, PERCENT)),
                "resize_live" => first(&mut self.resize_live, reader.boolean(key, value)),
                _ => {}
            }
        }
    }

    fn add_audit(&mut self, reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(table) = reader.table("audit", value, &AUDIT) else { return };
        if let Some((key, value)) = table.get_key_value("cmdline").map(Entry::from) {
            first(&mut self.cmdline, reader.boolean(key, value));
        }
    }

    fn policy(self) -> Policy {
        let defaults = Defaults::default();
        let conntrack = Conntrack::default();
        Policy {
            defaults: Defaults {
                action: self.action.unwrap_or(defaults.action),
                enforce: self.enforce.unwrap_or(defaults.enforce),
                on_failure: self.on_failure.unwrap_or(defaults.on_failure),
                unknown_requester: self.unknown_requester.unwrap_or(defaults.unknown_requester),
                trust: self.trust.unwrap_or(defaults.trust),
                delegate: self.delegate.unwrap_or(defaults.delegate),
            },
            rules: self.rules,
            conntrack: Conntrack {
                max: self.max.unwrap_or(conntrack.max),
                limit: self.limit.and_then(|limit| limit.try_into().ok()).unwrap_or(conntrack.limit),
                memory_percent: self
                    .memory_percent
                    .and_then(|percent| percent.try_into().ok())
                    .unwrap_or(conntrack.memory_percent),
                resize_live: self.resize_live.unwrap_or(conntrack.resize_live),
            },
            audit: Audit { cmdline: self.cmdline.unwrap_or(Audit::default().cmdline) },
            sysctl: self.sysctl.into_values().collect(),
        }
    }
}

fn delegate(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<String> {
    let path = reader.string("delegate", value)?;
    if path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control) {
        return Some(path.to_owned());
    }
    let message = format!("`delegate` is `{}`, not an absolute path of a program", Text::from(path));
    reader.find(value, message, "write the path of the real modprobe: `delegate = \"/sbin/modprobe\"`");
    None
}

fn max(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Max> {
    let remedy = "write `\"auto\"` or a number without quotes";
    match value.get_ref() {
        DeValue::Integer(_) => {
            let entries = reader.number("max", value, 0..=MAX_ENTRIES)?.try_into().ok()?;
            Some(Max::Number { entries, source: reader.source_of(value) })
        }
        DeValue::String(word) if word == "auto" => Some(Max::Auto),
        DeValue::String(word) => {
            let message = format!("`max` is `\"{}\"`, which is no size", Text::from(word.as_ref()));
            reader.find(value, message, remedy);
            None
        }
        other => {
            reader.find(value, format!("`max` is {}, which is no size", reader::kind(other)), remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests;

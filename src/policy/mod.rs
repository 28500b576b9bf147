//! The policy: what it says and what it decides. Pure: it gets bytes handed in and opens nothing.
#![forbid(unsafe_code)]

pub mod applied;
mod concern;
mod decide;
mod finding;
pub mod lint;
mod parse;
pub mod pattern;
mod patterns;
pub mod requester;
pub mod schema;

use serde::{Deserialize, Serialize};

use crate::model::{Action, Request, Requester, Value};
use crate::text::Text;

pub use concern::{Concern, concern, may_pass};
pub use decide::{decide, is_asked_who, open_rules};
pub use finding::{Finding, Position, Source};
pub use parse::expectations::{Expectation, Expectations, expectations};
pub use parse::parse;
pub use parse::sysctl::{canonical_key, path_of_key};
pub use patterns::Patterns;

/// The shipped default, `conf/policy.toml`, which is also built in.
pub const BUILT_IN: &str = include_str!("../../conf/policy.toml");

/// A sound policy, resolved from all its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub struct Policy {
    /// What counts where no rule says otherwise.
    pub defaults: Defaults,
    /// The rules, in the order in which they count.
    pub rules: Vec<Rule>,
    /// How the connection tracking table is sized.
    pub conntrack: Conntrack,
    /// What is recorded.
    pub audit: Audit,
    /// Settings written after an `allow-sysctl` load, in the order of their keys.
    pub sysctl: Vec<Sysctl>,
}

/// The table `[defaults]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// For a target that no rule matches.
    pub action: Action,
    /// False: blocks are recorded and not carried out, unless their rule says otherwise.
    pub enforce: bool,
    /// What is done when the guard cannot decide: `Allow` or `Block`.
    pub on_failure: Action,
    /// What a block rule that asks who does when nobody knows.
    pub unknown_requester: UnknownRequester,
    /// The confidence that an allow rule which asks who needs.
    pub trust: Trust,
    /// The real modprobe, an absolute path.
    pub delegate: String,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            action: Action::Allow,
            enforce: true,
            on_failure: Action::Allow,
            unknown_requester: UnknownRequester::Pass,
            trust: Trust::Exact,
            delegate: "/sbin/modprobe".into(),
        }
    }
}

/// The key `defaults.unknown_requester`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownRequester {
    /// The rule does not match.
    Pass,
    /// The rule matches.
    Block,
}

/// The key `defaults.trust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Found by the recorder, or as the parent.
    Exact,
    /// Found otherwise as well.
    Likely,
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub struct Rule {
    /// Its name in verdicts and records; unique over all sources.
    pub id: String,
    /// Names of modules it is about; absent: every module.
    pub modules: Option<Patterns>,
    /// Names asked for that it is about; absent: every name.
    pub requests: Option<Patterns>,
    /// Who it is about; absent: everybody.
    pub requester: Option<requester::Who>,
    /// What it says.
    pub action: Action,
    /// The author's own words on why.
    pub reason: Option<String>,
    /// Whether its block is carried out; absent: as `defaults.enforce` says.
    pub enforce: Option<bool>,
    /// Where it stands, `FILE:LINE`.
    pub source: String,
}

impl Rule {
    /// Whether the rule is about `module` (none: there is nothing to load) when `asked` is asked for.
    fn is_about(&self, module: Option<&Text>, asked: &Text) -> bool {
        let modules = match (&self.modules, module) {
            (None, _) => true,
            (Some(patterns), Some(module)) => patterns.matches(module.as_bytes()),
            (Some(_), None) => false,
        };
        modules && self.requests.as_ref().is_none_or(|patterns| patterns.matches(asked.as_bytes()))
    }

    /// Whether it is about whoever made the request.
    fn is_about_requester(&self, defaults: &Defaults, request: &Request, requester: &Requester) -> bool {
        self.requester.as_ref().is_none_or(|who| who.is(self.action, defaults, request, requester))
    }
}

/// The table `[conntrack]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// The table's size, `net.netfilter.nf_conntrack_max`.
    pub max: Max,
    /// `auto` never goes above this number of entries.
    pub limit: u32,
    /// `auto` never takes more than this share of RAM, in percent.
    pub memory_percent: u8,
    /// Whether the buckets of a table in use may be resized.
    pub resize_live: bool,
}

impl Default for Conntrack {
    fn default() -> Conntrack {
        Conntrack { max: Max::Auto, limit: 2_097_152, memory_percent: 5, resize_live: false }
    }
}

/// The key `conntrack.max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Max {
    /// By CPUs and RAM.
    Auto,
    /// The administrator's own.
    Number {
        /// Entries; 0 is the kernel's word for no limit.
        entries: u32,
        /// Where it stands, `FILE:LINE`.
        source: String,
    },
}

/// The table `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whether command lines are recorded.
    pub cmdline: bool,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { cmdline: true }
    }
}

/// One line of the table `[sysctl]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The key in its dotted form ([`canonical_key`]).
    pub key: String,
    /// What is written, without an end of line.
    pub value: String,
    /// Where it stands, `FILE:LINE`.
    pub source: String,
}

impl Sysctl {
    /// The value as the record has it: a number where it is one.
    pub fn as_value(&self) -> Value {
        self.value.parse().map_or_else(|_| Value::Text(Text::from(self.value.as_str())), Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_sound() {
        for (name, text) in [
            ("policy.toml", BUILT_IN),
            ("no-conntrack.toml", include_str!("../../conf/profiles/no-conntrack.toml")),
            ("container-host.toml", include_str!("../../conf/profiles/container-host.toml")),
        ] {
            let source = Source::new(name, text.into());
            let policy = parse(&[source]).unwrap_or_else(|findings| panic!("{findings:?}"));
            assert!(!policy.rules.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_lines_that_show_the_defaults_do() {
        let uncommented =
            |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
        // The first line is for editors.
        let lines = BUILT_IN.lines().filter(|line| !line.starts_with("#:"));
        let text: Vec<String> = lines.map(uncommented).collect();
        assert!(text.len() > BUILT_IN.lines().filter(|line| !line.starts_with('#')).count());
        let shown = parse(&[Source::new("policy.toml", text.join("\n").into())]).unwrap();
        assert_eq!(shown.sysctl.len(), 1);
        assert_eq!(Policy { sysctl: Vec::new(), rules: Vec::new(), ..shown }, Policy::default());
        assert_eq!(text.iter().filter(|line| line.starts_with("[defaults]") || line.starts_with("max =")).count(), 2);
    }

    #[test]
    fn the_default_changes_nothing_but_the_tables_size() {
        let policy = parse(&[Source::built_in()]).unwrap();
        let [rule] = policy.rules.as_slice() else { panic!("{:?}", policy.rules) };
        assert_eq!((rule.action, rule.id.as_str()), (Action::AllowSysctl, "conntrack-size"));
        assert!(rule.modules.as_ref().unwrap().matches(b"nf_conntrack"));
        assert!(!rule.modules.as_ref().unwrap().matches(b"nf_conntrack_ftp"));
        assert_eq!(Policy { rules: Vec::new(), ..policy }, Policy::default());
    }

    #[test]
    fn a_number_is_a_number_in_the_record() {
        let of = |value: &str| Sysctl { key: "a.b".into(), value: value.into(), source: String::new() }.as_value();
        assert_eq!(of("86400"), Value::Number(86400));
        assert_eq!(of("4096 87380"), Value::Text("4096 87380".into()));
    }
}

//! What is wanted of the table, and whose word counts: pure.
#![forbid(unsafe_code)]

use super::size::{Bounds, LARGEST_MAX, Table, auto};
use super::sysctl_d::{SysctlD, normalize};
use crate::host::machine::Machine;
use crate::model::{Setting, Value};
use crate::modules::Config;
use crate::policy::{Conntrack, Max, Policy};
use crate::text::Text;

/// The sysctl that limits entries.
pub const MAX: &str = "net/netfilter/nf_conntrack_max";
/// Its older name, for the same variable.
pub const OLD_MAX: &str = "net/nf_conntrack_max";
/// The buckets as a sysctl.
pub const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
/// `MAX` as settings and changes name it.
pub const MAX_NAME: &str = "net.netfilter.nf_conntrack_max";
/// The number of buckets as settings and changes name it.
pub const HASHSIZE_NAME: &str = "module.nf_conntrack.hashsize";

/// What the policy and modprobe.d say, with where they say it (`FILE:LINE`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `[conntrack] max`, unless it is `auto`.
    pub max: Option<(u32, String)>,
    /// `[conntrack] limit`.
    pub limit: u32,
    /// `[conntrack] memory_percent`.
    pub memory_percent: u8,
    /// `[conntrack] resize_live`.
    pub resize_live: bool,
    /// `[sysctl]`: key, value, source.
    pub sysctl: Vec<(String, String, String)>,
    /// `options nf_conntrack hashsize=` of modprobe.d.
    pub hashsize_option: Option<(u32, String)>,
}

impl Wanted {
    /// What `policy` and the `options` of modprobe.d in `config` say.
    pub fn new(policy: &Policy, config: &Config) -> Wanted {
        let Conntrack { max, limit, memory_percent, resize_live } = &policy.conntrack;
        let max = match max {
            Max::Auto => None,
            Max::Number { entries, source } => Some((*entries, source.clone())),
        };
        let sysctl = policy.sysctl.iter().map(|line| (line.key.clone(), line.value.clone(), line.source.clone()));
        // Of one option the last counts, as when the kernel reads them.
        let hashsize_option = config.options_of(b"nf_conntrack").filter_map(hashsize).last();
        Wanted {
            max,
            limit: *limit,
            memory_percent: *memory_percent,
            resize_live: *resize_live,
            sysctl: sysctl.collect(),
            hashsize_option,
        }
    }
}

fn hashsize((options, source): (&[u8], String)) -> Option<(u32, String)> {
    let words = std::str::from_utf8(options).ok()?.split_ascii_whitespace();
    let number = words.rev().find_map(|word| word.strip_prefix("hashsize=")?.parse().ok())?;
    Some((number, source))
}

/// A number to set, whose it is, and the calculation if it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The number.
    pub number: u32,
    /// `auto`, or `FILE:LINE`.
    pub source: String,
    /// The calculation in words.
    pub formula: Option<String>,
}

impl Goal {
    /// As a dry run shows it.
    pub fn setting(&self, key: &str) -> Setting {
        Setting {
            key: key.to_owned(),
            value: Value::Number(self.number.into()),
            source: self.source.clone(),
            formula: self.formula.clone(),
        }
    }
}

/// What the table should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goals {
    /// Most entries.
    pub max: Goal,
    /// Buckets; absent where an administrator has chosen them as the module's option.
    pub buckets: Option<Goal>,
    /// Numbers of administrators that are none, and what was done instead.
    pub failures: Vec<String>,
}

impl Wanted {
    /// What a table should become that is `left` as it is; `None` if nobody knows how it would be left.
    ///
    /// Policy beats sysctl.d beats auto; for buckets the module's option stands between the last two, as
    /// systemd-sysctl would have set `nf_conntrack_buckets` after the load.
    pub fn table(&self, sysctl_d: &SysctlD, machine: &Machine, left: Option<Table>) -> Goals {
        let mut failures = Vec::new();
        let own = |number, source| Goal { number, source, formula: None };
        let bounds = Bounds { limit: self.limit, memory_percent: self.memory_percent };
        let automatic = auto(machine, left.map(|table| table.max), bounds);
        let chosen = self.max.clone().or_else(|| self.chosen(sysctl_d, &[MAX, OLD_MAX], 0, &mut failures));
        let max = match chosen {
            Some((number, source)) => own(number, source),
            None => Goal { number: automatic.max, source: "auto".to_owned(), formula: Some(automatic.formula.clone()) },
        };
        let buckets = match self.chosen(sysctl_d, &[BUCKETS], 1, &mut failures) {
            Some((number, source)) => Some(own(number, source)),
            None if self.hashsize_option.is_some() => None,
            None => {
                // A table without a limit gets the buckets that it would have had with one of ours.
                let entries = if max.number > 0 { max.number } else { automatic.max };
                let left = left.unwrap_or(Table { max: 0, buckets: 0 });
                let buckets = left.buckets_for(entries, machine, bounds);
                Some(Goal { number: buckets.number, source: "auto".to_owned(), formula: Some(buckets.formula) })
            }
        };
        Goals { max, buckets, failures }
    }

    /// The last number that the policy's `[sysctl]`, else sysctl.d, gives one of `keys`, which are names of one thing.
    fn chosen(
        &self,
        sysctl_d: &SysctlD,
        keys: &[&str],
        least: u32,
        failures: &mut Vec<String>,
    ) -> Option<(u32, String)> {
        let policy = self.sysctl.iter().rev();
        let policy = policy.filter(|(key, ..)| normalize(key).is_some_and(|key| keys.contains(&key.as_str())));
        let policy = policy.map(|(_, value, source)| (value.as_bytes(), source));
        let mut lines: Vec<_> = keys.iter().filter_map(|key| sysctl_d.lookup(key)).collect();
        lines.sort_by_key(|line| sysctl_d.assignments.iter().position(|assignment| assignment == *line));
        let lines = lines.into_iter().rev();
        let lines = lines.filter_map(|line| Some((line.value.as_deref()?, &line.source)));
        for (value, source) in policy.chain(lines) {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
            match number.filter(|number| (least..=LARGEST_MAX).contains(number)) {
                Some(number) => return Some((number, source.clone())),
                None => failures.push(format!(
                    "{source}: {} is no number from {least} to {LARGEST_MAX}; it does not count",
                    Text::from(value)
                )),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Table = Table { max: 8192, buckets: 8192 };

    fn goals(wanted: Wanted, sysctl_d: &str) -> Goals {
        let wanted = Wanted { limit: 2_097_152, memory_percent: 5, ..wanted };
        let machine = Machine { cpus: Some(2), memory: Some(985 << 20), entry: None };
        wanted.table(&SysctlD::parse([("d", sysctl_d.as_bytes())]), &machine, Some(LEFT))
    }

    fn sysctl(key: &str, value: &str) -> Wanted {
        Wanted { sysctl: vec![(key.to_owned(), value.to_owned(), "p:9".to_owned())], ..Wanted::default() }
    }

    #[test]
    fn policy_beats_sysctl_d_beats_auto() {
        let policy = || Wanted { max: Some((1000, "p:1".to_owned())), ..Wanted::default() };
        let both = "net.netfilter.nf_conntrack_max = 4000\nnet.nf_conntrack_max = 5000";
        for (wanted, sysctl_d, max, source) in [
            (Wanted::default(), "", 131_072, "auto"),
            (policy(), both, 1000, "p:1"),
            (sysctl("net.netfilter.nf_conntrack_max", "3000"), both, 3000, "p:9"),
            (sysctl("net/nf_conntrack_max", "3000"), both, 3000, "p:9"),
            (Wanted::default(), both, 5000, "d:2"),
            (Wanted::default(), "net.nf_conntrack_max=5000\nnet/netfilter/nf_conntrack_max=6000", 6000, "d:2"),
            (Wanted::default(), "net.netfilter.nf_conntrack_m* = 7000", 7000, "d:1"),
            (
                Wanted::default(),
                "net.netfilter.nf_conntrack_m* = 7000\n-net.netfilter.nf_conntrack_max",
                131_072,
                "auto",
            ),
            (Wanted::default(), "net.netfilter.nf_conntrack_max = 0", 0, "d:1"),
            (Wanted::default(), "net.netfilter.nf_conntrack_max = 2147483647", LARGEST_MAX, "d:1"),
        ] {
            let goals = goals(wanted, sysctl_d);
            assert_eq!((goals.max.number, goals.max.source.as_str()), (max, source), "{sysctl_d}");
            assert_eq!(goals.max.formula.is_some(), source == "auto");
            assert_eq!(goals.failures, [""; 0]);
        }
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        for value in ["", "many", "-1", "2147483648", "1 2", "0x10"] {
            let goals = goals(sysctl("net.nf_conntrack_max", value), "net.nf_conntrack_max = 77");
            assert_eq!((goals.max.number, goals.failures.len()), (77, 1), "{value}");
        }
        let goals =
            goals(Wanted::default(), "net.netfilter.nf_conntrack_max = a\x1bb\nnet.netfilter.nf_conntrack_buckets=0");
        assert_eq!((goals.max.number, goals.buckets.unwrap().number), (131_072, 131_072));
        assert_eq!(goals.failures[0], "d:1: a\\x1bb is no number from 0 to 2147483647; it does not count");
        assert_eq!(goals.failures[1], "d:2: 0 is no number from 1 to 2147483647; it does not count");
    }

    #[test]
    fn buckets_are_the_administrators_too() {
        let option = || Wanted { hashsize_option: Some((4096, "m:1".to_owned())), ..Wanted::default() };
        let line = "net.netfilter.nf_conntrack_buckets = 2048";
        for (wanted, sysctl_d, buckets) in [
            (Wanted::default(), "", Some(131_072)),
            (Wanted::default(), "net.netfilter.nf_conntrack_max = 20000", Some(20_480)),
            (Wanted::default(), "net.netfilter.nf_conntrack_max = 100", Some(8192)),
            (Wanted::default(), "net.netfilter.nf_conntrack_max = 0", Some(131_072)),
            (option(), "", None),
            (option(), line, Some(2048)),
            (Wanted::default(), line, Some(2048)),
            (sysctl("net.netfilter.nf_conntrack_buckets", "1024"), line, Some(1024)),
        ] {
            assert_eq!(goals(wanted, sysctl_d).buckets.map(|goal| goal.number), buckets, "{sysctl_d}");
        }
    }
}

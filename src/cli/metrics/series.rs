//! Series and their text form, as Prometheus reads it (exposition format 0.0.4), or as JSON.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Before every name.
const PREFIX: &str = "modprobe_guard_";

/// Name without [`PREFIX`], kind, and what it says; in the order of printing.
pub const FAMILIES: [(&str, &str, &str); 22] = [
    ("info", "gauge", "The guard that wrote this; always 1."),
    ("run_timestamp_seconds", "gauge", "When guard metrics wrote this."),
    ("unreadable_parts", "gauge", "Parts of this that could not be read; guard metrics says which."),
    ("armed", "gauge", "1 while the kernel asks the guard."),
    ("problems", "gauge", "Problems that guard status names."),
    ("policy_sound", "gauge", "1 if what was applied decides, 0 if something had to stand in for it."),
    ("policy_behind", "gauge", "1 if the policy files differ from what is in force, or are unsound."),
    ("policy_rules", "gauge", "Rules in force."),
    ("recorder_works", "gauge", "1 if the kernel writes down who asks."),
    ("recorder_requests_total", "counter", "Requests of the kernel since the recorder was installed."),
    ("conntrack_entries", "gauge", "Connections in the table of the first network namespace."),
    ("conntrack_entries_limit", "gauge", "What that table may hold; 0 is no limit."),
    ("conntrack_buckets", "gauge", "Buckets of the table."),
    ("requests_total", "counter", "Requests on record, thinned ones included."),
    ("requests_thinned_total", "counter", "Requests that were counted instead of written."),
    (
        "blocks_total",
        "counter",
        "Requests that a rule blocks, by who asked: the unit, and for sessions and who has none the executable; enforced=\"false\" passed all the same.",
    ),
    ("first_block_timestamp_seconds", "gauge", "When who asked was blocked for the first time on record."),
    ("modules_loaded_total", "counter", "Modules that permitted requests brought in."),
    ("sysctls_total", "counter", "Kernel settings that came with a load."),
    ("failures_total", "counter", "Requests on whose way something went wrong."),
    ("foreign_lines_total", "counter", "Lines of the log that are no records."),
    ("spool_bytes", "gauge", "Records that are not on disk yet; 4194304 is all that has room."),
];

/// A name of [`FAMILIES`], and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Series {
    /// Without [`PREFIX`].
    pub name: String,
    /// Names and values.
    pub labels: BTreeMap<String, String>,
}

impl Series {
    /// With labels as they stand there.
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Series {
        let own = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
        Series { name: name.to_owned(), labels: labels.iter().map(own).collect() }
    }
}

/// Values of series; all of them are whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Series, u64)>", into = "Vec<(Series, u64)>")]
pub struct Values(pub BTreeMap<Series, u64>);

impl From<Vec<(Series, u64)>> for Values {
    fn from(pairs: Vec<(Series, u64)>) -> Values {
        Values(pairs.into_iter().collect())
    }
}

impl From<Values> for Vec<(Series, u64)> {
    fn from(values: Values) -> Vec<(Series, u64)> {
        values.0.into_iter().collect()
    }
}

impl Values {
    /// Makes it `value`.
    pub fn set(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.insert(Series::new(name, labels), value);
    }

    /// Adds `more`, also if that is nothing: then the series is there.
    pub fn add(&mut self, series: Series, more: u64) {
        let value = self.0.entry(series).or_default();
        *value = value.saturating_add(more);
    }

    /// How many series of a name there are.
    pub fn count(&self, name: &str) -> usize {
        self.0.keys().filter(|series| series.name == name).count()
    }

    /// What Prometheus reads: of every family that there is something of, what it is, and its series.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help) in FAMILIES {
            let mut samples = self.0.iter().filter(|(series, _)| series.name == name).peekable();
            if samples.peek().is_some() {
                let help = help.replace('\\', "\\\\");
                let _ = write!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
            }
            for (series, value) in samples {
                let label = |(label, value): (&String, &String)| format!("{label}=\"{}\"", escaped(value));
                let labels: Vec<String> = series.labels.iter().map(label).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "{PREFIX}{name}{labels} {value}");
            }
        }
        text
    }

    /// One JSON object a line and series: `name`, `labels`, `value`.
    pub fn json(&self) -> String {
        let order = |name: &str| FAMILIES.iter().position(|(known, ..)| *known == name);
        let mut all: Vec<_> =
            self.0.iter().filter_map(|(series, value)| Some((order(&series.name)?, series, value))).collect();
        all.sort_by_key(|(at, ..)| *at);
        let line = |(_, series, value): (usize, &Series, &u64)| {
            let name = format!("{PREFIX}{}", series.name);
            format!("{}\n", serde_json::json!({ "name": name, "labels": series.labels, "value": value }))
        };
        all.into_iter().map(line).collect()
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_explained_once_and_values_are_escaped() {
        let mut values = Values::default();
        values.set("requests_total", &[("rule", "a\\b\"c\nd"), ("action", "block")], 3);
        values.set("requests_total", &[("rule", ""), ("action", "allow")], u64::MAX);
        values.set("armed", &[], 1);
        values.set("of a later version", &[], 1);
        assert_eq!(
            values.text(),
            "# HELP modprobe_guard_armed 1 while the kernel asks the guard.\n# TYPE modprobe_guard_armed gauge\n\
             modprobe_guard_armed 1\n\
             # HELP modprobe_guard_requests_total Requests on record, thinned ones included.\n\
             # TYPE modprobe_guard_requests_total counter\n\
             modprobe_guard_requests_total{action=\"allow\",rule=\"\"} 18446744073709551615\n\
             modprobe_guard_requests_total{action=\"block\",rule=\"a\\\\b\\\"c\\nd\"} 3\n"
        );
        let lines: Vec<serde_json::Value> =
            values.json().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["labels"]["rule"], "a\\b\"c\nd");
        let written = serde_json::to_string(&values).unwrap();
        assert_eq!(serde_json::from_str::<Values>(&written).unwrap(), values);
    }

    #[test]
    fn counters_are_named_as_such() {
        for (name, kind, help) in FAMILIES {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        }
    }
}

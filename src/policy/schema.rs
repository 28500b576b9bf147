//! JSON schemas of the policy and of its tests, so that editors complete and explain them, and modprobe-guard.toml(5)
//! tells of them (src/cli/generate). Keys, words and bounds are those that the parser goes by; here is what they mean.
//!
//! In a description, what stands between backquotes is to be written so; for editors that is Markdown, and the page has it
//! in bold. A title is what people call values of that kind.
//!
//! A schema knows less than the parser: what it takes may still be unsound, what it refuses always is.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::parse::{self, ACTIONS, Keys, MAX_ENTRIES, ON_FAILURE, PERCENT, TRUST, UNKNOWN, expectations};
use super::requester::{CALLERS, MAX_ID};
use super::{Conntrack, Defaults, pattern};

/// Draft 7 is what editors' TOML servers know.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// All tables that have keys of their own.
const TABLES: [&Keys; 8] = [
    &parse::FILE,
    &parse::DEFAULTS,
    &parse::rules::KEYS,
    &parse::requester::KEYS,
    &parse::CONNTRACK,
    &parse::AUDIT,
    &expectations::FILE,
    &expectations::KEYS,
];

/// The keys of a table of these schemas in the order of their definition, which JSON does not keep.
pub fn in_order(properties: &Map<String, Value>) -> Vec<(&'static str, &Value)> {
    let is_it =
        |names: &[&str]| names.len() == properties.len() && names.iter().all(|name| properties.contains_key(*name));
    let names = TABLES.into_iter().map(|Keys(_, names)| *names).find(|names| is_it(names)).unwrap_or_default();
    names.iter().filter_map(|name| Some((*name, properties.get(*name)?))).collect()
}

/// The schema of a policy file.
pub fn of_policy() -> Value {
    file("The policy of modprobe-guard", &parse::FILE, of_file_key)
}

/// The schema of a file of tests.
pub fn of_tests() -> Value {
    let mut schema = file("Tests of a policy of modprobe-guard", &expectations::FILE, of_tests_key);
    if let Value::Object(schema) = &mut schema {
        schema.insert("required".into(), json!(["test"]));
    }
    schema
}

fn file(title: &str, keys: &Keys, of_key: fn(&str) -> Option<Value>) -> Value {
    let mut schema = Map::from_iter([("$schema".to_owned(), json!(DIALECT)), ("title".to_owned(), json!(title))]);
    if let Value::Object(table) = table("", keys, of_key) {
        schema.extend(table);
    }
    Value::Object(schema)
}

/// A table that has these keys and no other. A key that `of_key` does not know may be anything; that there is none is for
/// a test to see.
fn table(words: &str, keys: &Keys, of_key: fn(&str) -> Option<Value>) -> Value {
    let Keys(_, names) = keys;
    let properties = names.iter().map(|name| ((*name).to_owned(), of_key(name).unwrap_or(Value::Bool(true))));
    let properties: Map<String, Value> = properties.collect();
    about(words, json!({"type": "object", "properties": properties, "additionalProperties": false}))
}

/// `schema` with what it means.
fn about(words: &str, mut schema: Value) -> Value {
    if let Value::Object(keys) = &mut schema
        && !words.is_empty()
    {
        keys.insert("description".into(), json!(words));
    }
    schema
}

/// As [`about`], with what counts where the key is absent.
fn defaulting(words: &str, default: impl Into<Value>, schema: Value) -> Value {
    let mut schema = about(words, schema);
    if let Value::Object(keys) = &mut schema {
        keys.insert("default".into(), default.into());
    }
    schema
}

fn one_of<T>(words: &[(&str, T)]) -> Value {
    json!({"enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>()})
}

/// The word for `meaning`.
fn word<T: PartialEq>(words: &[(&'static str, T)], meaning: &T) -> Option<&'static str> {
    words.iter().find(|(_, other)| other == meaning).map(|(word, _)| *word)
}

fn number(range: &RangeInclusive<i64>) -> Value {
    json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn string(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

/// As [`string`], by the name that people have for such strings.
fn named(title: &str, pattern: &str) -> Value {
    json!({"title": title, "type": "string", "pattern": pattern})
}

/// One of these, or a list of some.
fn some(entry: &Value) -> Value {
    json!({"anyOf": [entry, {"type": "array", "items": entry, "minItems": 1}]})
}

fn patterns(of: &str) -> Value {
    let entry = json!({
        "title": "pattern", "type": "string", "minLength": 1, "maxLength": pattern::MAX_LENGTH, "pattern": of
    });
    json!({"type": "array", "items": entry, "minItems": 1})
}

fn of_file_key(key: &str) -> Option<Value> {
    Some(match key {
        "version" => about("The version of this language. There is no other yet.", json!({"enum": [1]})),
        "defaults" => table("What counts where no rule says otherwise.", &parse::DEFAULTS, of_default),
        "rule" => {
            let words = "For each module that a request would load, dependencies too, the first rule that matches counts. \
                         Over all of them the strictest verdict wins: block, then allow-sysctl, then allow. What is \
                         loaded already or built in is not judged. A rule matches if `modules`, `requests` and \
                         `requester` do; one that is absent matches everything, but one of the first two has to be there.";
            let mut rule = table(words, &parse::rules::KEYS, of_rule);
            if let Value::Object(keys) = &mut rule {
                keys.insert("required".into(), json!(["id", "action"]));
                keys.insert("anyOf".into(), json!([{"required": ["modules"]}, {"required": ["requests"]}]));
            }
            about("Rules, in the order in which they count.", json!({"type": "array", "items": rule}))
        }
        "conntrack" => table("How the connection tracking table is sized.", &parse::CONNTRACK, of_conntrack),
        "audit" => table("What is recorded.", &parse::AUDIT, of_audit),
        "sysctl" => about(
            "Written after an allow-sysctl load, if the load made the key exist. Keys as sysctl(8) writes them, whole and \
             in quotes.",
            json!({
                "type": "object",
                "propertyNames": {"pattern": r"^[^\s*?\[]+[./][^\s*?\[]+$"},
                "additionalProperties":
                    {"anyOf": [{"type": "integer"}, boolean(), named("string of one line", r"^[^\n]*$")]},
            }),
        ),
        _ => return None,
    })
}

fn of_default(key: &str) -> Option<Value> {
    let Defaults { action, enforce, on_failure, unknown_requester, trust, delegate } = Defaults::default();
    Some(match key {
        "action" => defaulting(
            "For a target, a module that the name asked for stands for, that no rule matches. A dependency that no rule \
             matches has no say.",
            word(ACTIONS, &action),
            one_of(ACTIONS),
        ),
        "enforce" => defaulting("`false`: blocks are recorded and not carried out.", enforce, boolean()),
        "on_failure" => defaulting(
            "When the guard cannot decide, because the module index cannot be read, or it failed itself.",
            word(ON_FAILURE, &on_failure),
            one_of(ON_FAILURE),
        ),
        "unknown_requester" => defaulting(
            "For a block rule that asks who, when nobody can know who asked: it matches (`\"block\"`) or it does not \
             (`\"pass\"`). It matches in any case if that was kept from us: who asked was killed while it waited, or \
             hides what the rule asks for.",
            word(UNKNOWN, &unknown_requester),
            one_of(UNKNOWN),
        ),
        "trust" => defaulting(
            "How well an allow rule that asks who must know: `\"likely\"` is to take also those found among the tasks that \
             wait.",
            word(TRUST, &trust),
            one_of(TRUST),
        ),
        "delegate" => defaulting("The real modprobe(8).", delegate, named("absolute path", "^/.*[^/]$")),
        _ => return None,
    })
}

fn of_rule(key: &str) -> Option<Value> {
    Some(match key {
        "id" => {
            let mut id = string("^[!#-~]+$");
            if let Value::Object(keys) = &mut id {
                keys.insert("minLength".into(), json!(1));
                keys.insert("maxLength".into(), json!(parse::rules::MAX_ID));
            }
            about(
                "The rule's name in the log, each one once: letters, digits and signs, without blanks and quotes.",
                id,
            )
        }
        "modules" => about(
            "Names of modules: shell patterns (`*`, `?`, `[...]`), in which `-` and `_` are the same. What needs one of \
             them is meant as well.",
            patterns("^[!-+0-9;-~-]+$"),
        ),
        "requests" => about(
            "Names asked for, aliases too (`\"net-pf-38\"`, `\"crypto-*\"`): shell patterns, in which `-` and `_` are the \
             same.",
            patterns(r"^[^\u0000]+$"),
        ),
        "requester" => {
            let words = "Every key has to match. In a list any entry may, and none that begins with `!`; if all do, the \
                         list means all but those. A single value needs no brackets. If several may have asked, a block \
                         rule matches if any of them does, and another rule only if all do. What a process says of \
                         itself, its command line or its name, is no key.";
            let mut who = table(words, &parse::requester::KEYS, of_requester);
            if let Value::Object(keys) = &mut who {
                keys.insert("minProperties".into(), json!(1));
            }
            let schema = json!({"anyOf": [who, {"enum": ["unknown"]}]});
            about("Who asks; `\"unknown\"` matches if nobody was found.", schema)
        }
        "action" => about(
            "`\"allow-sysctl\"` is to allow, then to size the connection tracking table and set the keys of `[sysctl]`.",
            one_of(ACTIONS),
        ),
        "reason" => about("The author's words, for whoever reads the log.", json!({"type": "string"})),
        "enforce" => about(
            "`false`: what this rule blocks is recorded and not carried out. Without it that of `[defaults]` counts.",
            boolean(),
        ),
        _ => return None,
    })
}

fn of_requester(key: &str) -> Option<Value> {
    let path = || some(&named("path", r"^!?/[^*?\[]*[^*?\[/]$"));
    let name = named("pattern", "^!?[!-.0-~]+$");
    let id = number(&(0..=i64::from(MAX_ID)));
    let ids = named("range", "^!?[0-9]+(-[0-9]+)?$");
    Some(match key {
        "exe" => about(
            "The executable: a file of the host, the same device and inode as that path seen by process 1. No patterns.",
            path(),
        ),
        "ancestor" => about("The executable of any parent: what Docker wants, iptables asks for.", path()),
        "unit" => about("systemd units, with their kind: `\"docker.service\"`.", some(&name)),
        "container" => about(
            "Whether it is in a container; or ids (the first 12 digits will do) and names of containers. It goes by the \
             names of control groups, and users can name some of their own so: a rule that permits should ask for the \
             `unit` as well (`\"docker-*.scope\"`), which no unit of theirs can be: to the system those are all \
             `user@UID.service`.",
            json!({"anyOf": [boolean(), some(&name)]}),
        ),
        "uid" => about("Real user ids: `0`, `\"1000-1999\"`, `\"!0\"`.", some(&json!({"anyOf": [id, ids]}))),
        "auid" => about(
            "The login that the task descends from; `\"none\"`: from no login.",
            some(&json!({"anyOf": [id, ids, {"enum": ["none", "!none"]}]})),
        ),
        "userns" => about("The user namespace.", one_of(parse::requester::NAMESPACES)),
        "caller" => {
            let words = CALLERS.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("!{word}")]);
            let words = json!({"enum": words.collect::<Vec<_>>()});
            let means = "How the request came. `\"xtables\"` is libxtables, `\"modprobe\"` somebody who uses the guard as \
                         modprobe, `\"hook\"` an `install` line of modprobe.d(5).";
            about(means, some(&words))
        }
        _ => return None,
    })
}

fn of_conntrack(key: &str) -> Option<Value> {
    let Conntrack { max: _, limit, memory_percent, resize_live } = Conntrack::default();
    Some(match key {
        "max" => defaulting(
            "Entries in the table; 0 is the kernel's word for no limit. `\"auto\"` is the greatest of the kernel's own \
             default, 131072, 32768 for each processor and 32768 for each GiB of memory, within the bounds of `limit` and \
             `memory_percent`, and never less than what is set. A number is taken as it is.",
            "auto",
            json!({"anyOf": [{"enum": ["auto"]}, number(&(0..=MAX_ENTRIES))]}),
        ),
        "limit" => defaulting("`\"auto\"` never goes above it.", limit, number(&(1..=MAX_ENTRIES))),
        "memory_percent" => {
            defaulting("`\"auto\"` never takes more than this share of memory.", memory_percent, number(&PERCENT))
        }
        "resize_live" => defaulting(
            "Whether the buckets of a table in use may be resized. The kernel rehashes every entry meanwhile.",
            resize_live,
            boolean(),
        ),
        _ => return None,
    })
}

fn of_audit(key: &str) -> Option<Value> {
    let words = "Whether command lines are recorded. They can hold passwords.";
    (key == "cmdline").then(|| defaulting(words, super::Audit::default().cmdline, boolean()))
}

fn of_tests_key(key: &str) -> Option<Value> {
    Some(match key {
        "policy" => about(
            "The policy that is judged by, relative to this file. Without it and without `--policy`: the installed files.",
            json!({"type": "string"}),
        ),
        "test" => {
            let mut test = table("What is to come of some requests.", &expectations::KEYS, of_test);
            if let Value::Object(keys) = &mut test {
                keys.insert("required".into(), json!(["request", "verdict"]));
            }
            about("Expectations, at least one.", json!({"type": "array", "items": test, "minItems": 1}))
        }
        _ => return None,
    })
}

fn of_test(key: &str) -> Option<Value> {
    let text = json!({"type": "string"});
    Some(match key {
        "request" => about(
            "Names as somebody would ask for them, each judged on its own, as if no module were loaded yet. One that this \
             kernel has no module for, and that no rule is about, is skipped.",
            some(&text),
        ),
        "requester" => about(
            "What is known of whoever asks, by the keys of `guard --dry-run --as`. Without it: root on the host, by way of \
             the kernel.",
            json!({"type": "object", "additionalProperties": {"anyOf": [boolean(), {"type": "integer"}, some(&text)]}}),
        ),
        "verdict" => about("What is carried out: a block that is not enforced is none.", one_of(ACTIONS)),
        "rule" => about("The id of the rule that decides; `\"\"` if none does.", text),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

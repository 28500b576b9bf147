//! modprobe-guard.toml(5): every table and key out of the schemas, which have them from the parser.

use serde_json::{Map, Value};

use super::facts::facts;
use super::roff::{entry, escaped, filled, listed, words};
use crate::policy::schema;

/// All else.
pub const PAGE: &str = include_str!("../../../install/man/modprobe-guard.toml.5.in");

/// The page.
pub fn page() -> String {
    let mut texts = facts();
    texts.extend([("keys", file(&schema::of_policy(), "SH")), ("tests", file(&schema::of_tests(), "SS"))]);
    filled(PAGE, &texts)
}

/// A file's keys, then its tables, each below a heading of that kind.
fn file(schema: &Value, heading: &str) -> String {
    let (mut keys, mut tables) = (String::new(), String::new());
    for (key, schema) in properties(schema) {
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => tables += &table(heading, &format!("[{key}]"), description(schema), schema),
            Some("array") => {
                let one = &schema["items"];
                let about = format!("{} {}", description(schema), description(one));
                tables += &table(heading, &format!("[[{key}]]"), &about, one);
            }
            _ => keys += &one_key(key, schema, &[]),
        }
    }
    keys + &tables
}

/// A table: what it is for, its keys, then the tables that may be values of these.
fn table(heading: &str, name: &str, about: &str, schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = format!(".{heading} \"{}\"\n{}", escaped(name), words(about));
    let mut tables = String::new();
    for (key, schema) in properties(schema) {
        text += &one_key(key, schema, required);
        let choices = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        for inner in choices.filter(|choice| choice.get("properties").is_some()) {
            tables += &table(heading, &format!("{key} = {{ ... }}"), description(inner), inner);
        }
    }
    // Of a table that may have any keys, what their values are.
    if let Some(value) = schema.get("additionalProperties").filter(|value| value.is_object()) {
        text += &words(&format!("A value is a {}.", listed(&kinds(value), "or")));
    }
    text + &tables
}

/// A key: what may stand there, what counts without it, what it means.
fn one_key(key: &str, schema: &Value, required: &[Value]) -> String {
    let absent = match schema.get("default") {
        Some(default) => format!("; default {default}"),
        None if required.iter().any(|required| required == key) => "; required".to_owned(),
        None => String::new(),
    };
    entry(key, &format!(" ({}{absent})", listed(&kinds(schema), "or")), description(schema))
}

fn properties(schema: &Value) -> Vec<(&'static str, &Value)> {
    schema.get("properties").and_then(Value::as_object).map(schema::in_order).unwrap_or_default()
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What values are taken, in words.
fn kinds(schema: &Value) -> Vec<String> {
    let Some(schema) = schema.as_object() else { return Vec::new() };
    if let Some(Value::Array(choices)) = schema.get("anyOf").filter(|_| !schema.contains_key("properties")) {
        return choices.iter().flat_map(kinds).collect();
    }
    if let Some(Value::Array(words)) = schema.get("enum") {
        // That of each there is the contrary as well, the words about the table say.
        let is_contrary = |word: &&Value| word.as_str().is_some_and(|word| word.starts_with('!'));
        return words.iter().filter(|word| !is_contrary(word)).map(ToString::to_string).collect();
    }
    match (schema.get("type").and_then(Value::as_str), schema.get("items")) {
        (Some("array"), Some(item)) => vec![format!("list of {}", plural(item))],
        (Some("integer"), _) => vec![within("number", " from ", "", schema, ["minimum", "maximum"])],
        (Some("string"), _) => {
            let characters = if schema.contains_key("title") { ["", ""] } else { ["minLength", "maxLength"] };
            vec![within(&name(schema), " of ", " characters", schema, characters)]
        }
        (Some("object"), _) => vec!["table".to_owned()],
        (Some(kind), _) => vec![kind.to_owned()],
        (None, _) => Vec::new(),
    }
}

/// What people call such a string.
fn name(schema: &Map<String, Value>) -> String {
    schema.get("title").and_then(Value::as_str).unwrap_or("string").to_owned()
}

fn within(name: &str, before: &str, behind: &str, schema: &Map<String, Value>, [least, most]: [&str; 2]) -> String {
    match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) => format!("{name}{before}{least} to {most}{behind}"),
        _ => name.to_owned(),
    }
}

/// Several of a kind; where there are several kinds, they stand before it.
fn plural(schema: &Value) -> String {
    match schema.as_object() {
        Some(schema) if schema.get("type").is_some_and(|kind| kind == "string") => name(schema) + "s",
        _ => "such".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::size::{FLOOR, STEP};
    use crate::policy::{Source, parse};

    #[test]
    fn a_key_is_told_with_its_values_and_what_counts_without_it() {
        let page = page();
        for told in [
            "\n.TP\n\\fBversion\\fR (1)\nThe version of this language.",
            "\n.SH \"[defaults]\"\nWhat counts",
            "\n\\fBaction\\fR (\"allow\", \"allow\\-sysctl\" or \"block\"; default \"allow\")\nFor a target",
            "\n\\fBaction\\fR (\"allow\", \"allow\\-sysctl\" or \"block\"; required)\n",
            "\n.SH \"[[rule]]\"\nRules, in the order",
            "\n\\fBid\\fR (string of 1 to 64 characters; required)\n",
            "\n\\fBmodules\\fR (list of patterns)\n",
            "\n\\fBrequester\\fR (table or \"unknown\")\n",
            "\n.SH \"requester = { ... }\"\nEvery key has to match.",
            "\n\\fBuid\\fR (number from 0 to 4294967294, range or list of such)\n",
            "\n\\fBcontainer\\fR (boolean, pattern or list of patterns)\n",
            "\n\\fBcaller\\fR (\"kernel\", \"xtables\", \"modprobe\", \"hook\" or list of such)\n",
            "\n\\fBmax\\fR (\"auto\" or number from 0 to 2147483647; default \"auto\")\n",
            "\n\\fBmemory_percent\\fR (number from 1 to 100; default 5)\n",
            "\n.SH \"[sysctl]\"\nWritten after",
            "\nA value is a number, boolean or string of one line.\n",
            "\n.SS \"[[test]]\"\nExpectations, at least one. What is to come of some requests.\n",
            "\n\\fBrequest\\fR (string or list of strings; required)\n",
            "\\fB\"hook\"\\fR an",
            "\\fBmodprobe.d\\fR(5)",
        ] {
            assert!(page.contains(told), "{told}\n{page}");
        }
        // That of no other module, which the schema can't see.
        assert!(page.contains(&FLOOR.to_string()) && page.contains(&format!("{STEP} for each")), "{page}");
    }

    /// What the parser says that it knows.
    #[test]
    fn every_key_has_an_entry_in_the_section_of_its_table() {
        let page = page();
        let mut keys = 0;
        for (table, heading) in [
            ("[defaults]", "[defaults]"),
            ("[conntrack]", "[conntrack]"),
            ("[audit]", "[audit]"),
            ("[[rule]]", "[[rule]]"),
            ("[[rule]]\nrequester", "requester = { ... }"),
        ] {
            let text =
                if table.ends_with("requester") { format!("{table} = {{ x = 1 }}") } else { format!("{table}\nx = 1") };
            let findings = parse(&[Source::new("p", text.into())]).unwrap_err();
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let known = findings.iter().find_map(|finding| finding.split_once("known in ")?.1.split_once(": "));
            let (_, section) = page.split_once(&format!("\n.SH \"{heading}\"\n")).unwrap();
            let section = section.split("\n.SH ").next().unwrap();
            for key in known.unwrap().1.split(", ") {
                assert!(section.contains(&format!("\n.TP\n\\fB{key}\\fR (")), "{table}: {key}:\n{section}");
                keys += 1;
            }
        }
        assert_eq!(keys, 26);
    }

    #[test]
    fn the_example_is_sound() {
        let (_, example) = PAGE.split_once(".nf\nversion").unwrap();
        let (example, _) = example.split_once(".fi").unwrap();
        let example = format!("version{example}").replace(r"\(dq", "\"").replace(r"\-", "-");
        let policy = parse(&[Source::new("p", example.into())]).unwrap();
        assert_eq!((policy.rules.len(), policy.sysctl.len()), (2, 1));
    }
}

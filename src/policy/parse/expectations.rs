//! What an author expects of a policy: a file of tests beside it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ACTIONS;
use super::reader::{Entry, Keys, Reader, kind};
use crate::model::Action;
use crate::policy::{Finding, Source};
use crate::text::Text;

pub(in crate::policy) const FILE: Keys = Keys("a file of tests", &["policy", "test"]);
pub(in crate::policy) const KEYS: Keys = Keys("[[test]]", &["request", "requester", "verdict", "rule"]);

/// A file of tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// The policy that they are about, relative to the file; absent: whichever the reader judges by.
    pub policy: Option<String>,
    /// At least one.
    pub tests: Vec<Expectation>,
}

/// What is expected of each of some requests by one requester.
#[derive(Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Where it stands, `FILE:LINE`.
    pub source: String,
    /// The names asked for.
    pub requests: Vec<String>,
    /// What is known of whoever asks, each `KEY=VALUE` as for `--as`.
    pub facts: Vec<String>,
    /// What has to be done with the request.
    pub verdict: Action,
    /// The rule that has to decide; `""`: none, the default.
    pub rule: Option<String>,
}

/// Reads a file of tests.
///
/// # Errors
/// Everything that is wrong with it.
pub fn expectations(source: &Source) -> Result<Expectations, Vec<Finding>> {
    let mut reader = Reader::of(source);
    let mut expectations = Expectations::default();
    if let Some(document) = reader.document() {
        read(&mut expectations, &mut reader, &document);
    }
    let findings = reader.findings();
    if findings.is_empty() { Ok(expectations) } else { Err(findings) }
}

fn read(expectations: &mut Expectations, reader: &mut Reader<'_>, document: &Spanned<DeTable<'_>>) {
    let table = document.get_ref();
    reader.known_only(table, &FILE);
    if let Some((key, value)) = table.get_key_value("policy").map(Entry::from) {
        expectations.policy = reader.string(key, value).map(str::to_owned);
    }
    match table.get("test").map(|tests| (tests, tests.get_ref())) {
        Some((_, DeValue::Array(tests))) if !tests.is_empty() => {
            expectations.tests = tests.iter().filter_map(|test| read_one(reader, test)).collect();
        }
        Some((value, other)) => {
            let message = format!("`test` is {}, not a list of tables", kind(other));
            reader.find(value, message, "write `[[test]]` with two brackets above each test");
        }
        None => reader.find(document, "a file of tests without one", "write `[[test]]` above each"),
    }
}

fn read_one(reader: &mut Reader<'_>, test: &Spanned<DeValue<'_>>) -> Option<Expectation> {
    let table = reader.table("[test]", test, &KEYS)?;
    let (mut requests, mut facts, mut verdict, mut rule) = (Vec::new(), Vec::new(), None, None);
    for (key, value) in table.iter().map(Entry::from) {
        match key {
            "request" => requests = strings(reader, key, value),
            "requester" => facts = read_facts(reader, value),
            "verdict" => verdict = reader.word(key, value, ACTIONS),
            "rule" => rule = reader.string(key, value).map(str::to_owned),
            _ => {}
        }
    }
    if !table.contains_key("request") {
        reader.find(test, "a test without `request`", "say what is asked for: `request = \"nf_conntrack\"`");
    }
    if !table.contains_key("verdict") {
        let remedy = "say what is to come of it: `verdict = \"block\"`, `\"allow\"` or `\"allow-sysctl\"`";
        reader.find(test, "a test without `verdict`", remedy);
    }
    Some(Expectation { source: reader.source_of(test), requests, facts, verdict: verdict?, rule })
}

/// One string, or a list of some.
fn strings(reader: &mut Reader<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
    let DeValue::Array(list) = value.get_ref() else {
        return reader.string(key, value).map(str::to_owned).into_iter().collect();
    };
    if list.is_empty() {
        reader.find(value, format!("`{key}` is empty and says nothing"), "name something");
    }
    list.iter().filter_map(|entry| reader.string(key, entry).map(str::to_owned)).collect()
}

/// What `--as` takes, as a table: `{ unit = "docker.service", uid = 0, ancestor = ["/a", "/b"] }`. What each key may be
/// is known to whoever makes a requester of it.
fn read_facts(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Vec<String> {
    let DeValue::Table(table) = value.get_ref() else {
        let message = format!("`requester` is {}, not a table", kind(value.get_ref()));
        reader.find(value, message, "write `requester = { uid = 1000 }`");
        return Vec::new();
    };
    let mut facts = Vec::new();
    for (key, value) in table.iter().map(Entry::from) {
        let shown = Text::from(key);
        match value.get_ref() {
            DeValue::Boolean(is) => facts.push(format!("{key}={is}")),
            DeValue::Integer(number) if number.radix() == 10 => facts.push(format!("{key}={}", number.as_str())),
            DeValue::String(_) | DeValue::Array(_) => {
                facts.extend(strings(reader, key, value).into_iter().map(|text| format!("{key}={text}")));
            }
            other => {
                let message = format!("`{shown}` is {}", kind(other));
                reader.find(value, message, "write a string, a whole number, true or false, or a list of strings");
            }
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Expectations, Vec<String>> {
        let source = Source::new("t.toml", text.into());
        expectations(&source).map_err(|findings| findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_says_what_is_expected() {
        let text = "policy = 'p.toml'\n[[test]]\nrequest = 'a'\nverdict = 'block'\n\n[[test]]\nrequest = ['b', 'c']\n\
                    requester = { uid = 7, container = true, ancestor = ['/x', '/y'], unit = 'u.service' }\n\
                    verdict = 'allow-sysctl'\nrule = 'r'\n";
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = Expectations {
            policy: Some("p.toml".into()),
            tests: vec![
                Expectation {
                    source: "t.toml:2".into(),
                    requests: strings(&["a"]),
                    facts: Vec::new(),
                    verdict: Action::Block,
                    rule: None,
                },
                Expectation {
                    source: "t.toml:6".into(),
                    requests: strings(&["b", "c"]),
                    facts: strings(&["ancestor=/x", "ancestor=/y", "container=true", "uid=7", "unit=u.service"]),
                    verdict: Action::AllowSysctl,
                    rule: Some("r".into()),
                },
            ],
        };
        let mut found = of(text).unwrap();
        found.tests[1].facts.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, found) in [
            ("", "t.toml:1:1: a file of tests without one; write `[[test]]` above each"),
            ("test = 1", "t.toml:1:8: `test` is a number, not a list of tables"),
            ("[[test]]\nverdict = 'block'", "t.toml:1:1: a test without `request`"),
            ("[[test]]\nrequest = 'a'", "t.toml:1:1: a test without `verdict`"),
            ("[[test]]\nrequest = []\nverdict = 'block'", "t.toml:2:11: `request` is empty"),
            ("[[test]]\nrequest = 'a'\nverdict = 'deny'", "t.toml:3:11: `verdict` is `\"deny\"`"),
            ("[[test]]\nrequest = 'a'\nverdict = 'block'\nwho = 1", "t.toml:4:1: unknown key `who`"),
            ("[[test]]\nrequest = 'a'\nverdict = 'block'\nrequester = 'x'", "t.toml:4:13: `requester` is a string"),
            ("[[test]]\nrequest = 'a'\nverdict = 'block'\nrequester = { uid = 1.5 }", "t.toml:4:21: `uid` is a number"),
        ] {
            let findings = of(text).unwrap_err();
            assert!(findings[0].starts_with(found), "{text}: {findings:?}");
        }
    }
}

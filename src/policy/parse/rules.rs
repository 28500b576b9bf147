//! The array `[[rule]]`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::{Patterns, Rule, pattern};
use crate::text::Text;

use super::reader::{Entry, Keys, Reader, kind};
use super::{ACTIONS, Draft};

pub(in crate::policy) const KEYS: Keys =
    Keys("[[rule]]", &["id", "modules", "requests", "requester", "action", "reason", "enforce"]);

/// An id stands in log lines between blanks, and nothing of more bytes is read there.
pub(in crate::policy) const MAX_ID: usize = 64;

/// Whether a pattern is about modules or about names asked for.
#[derive(Clone, Copy, PartialEq)]
enum About {
    Modules,
    Requests,
}

/// Adds the file's rules to `draft`.
pub(super) fn read(draft: &mut Draft, reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) {
    let DeValue::Array(rules) = value.get_ref() else {
        let message = format!("`rule` is {}, not a list of tables", kind(value.get_ref()));
        return reader.find(value, message, "write `[[rule]]` with two brackets above each rule");
    };
    for rule in rules {
        if let Some(table) = reader.table("[rule]", rule, &KEYS)
            && let Some(rule) = read_one(draft, reader, rule, table)
        {
            draft.rules.push(rule);
        }
    }
}

fn read_one(
    draft: &mut Draft,
    reader: &mut Reader<'_>,
    rule: &Spanned<DeValue<'_>>,
    table: &DeTable<'_>,
) -> Option<Rule> {
    let source = reader.source_of(rule);
    let (mut id, mut modules, mut requests, mut requester) = (None, None, None, None);
    let (mut action, mut reason, mut enforce) = (None, None, None);
    for (key, value) in table.iter().map(Entry::from) {
        match key {
            "id" => id = read_id(draft, reader, &source, value),
            "modules" => modules = read_patterns(reader, key, value, About::Modules),
            "requests" => requests = read_patterns(reader, key, value, About::Requests),
            "requester" => requester = super::requester::read(reader, value),
            "action" => action = reader.word(key, value, ACTIONS),
            "reason" => reason = reader.string(key, value).map(str::to_owned),
            "enforce" => enforce = reader.boolean(key, value),
            _ => {}
        }
    }
    if !table.contains_key("id") {
        reader.find(rule, "a rule without `id`", "give it a name of its own: `id = \"...\"`");
    }
    if !table.contains_key("action") {
        let remedy = "write `action = \"allow\"`, `\"allow-sysctl\"` or `\"block\"`";
        reader.find(rule, "a rule without `action`", remedy);
    }
    if !table.contains_key("modules") && !table.contains_key("requests") {
        let remedy = "say what it is about; `modules = [\"*\"]` is every module";
        reader.find(rule, "a rule without `modules` and `requests`", remedy);
    }
    Some(Rule { id: id?, modules, requests, requester, action: action?, reason, enforce, source })
}

fn read_id(draft: &mut Draft, reader: &mut Reader<'_>, source: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
    let id = reader.string("id", value)?;
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        let message = format!("the rule id `{}` would not stay one word in a log", Text::from(id));
        reader.find(value, message, "write 1 to 64 letters, digits and signs, without blanks and quotes");
        return None;
    }
    if let Some(other) = draft.ids.get(id) {
        let message = format!("the rule id `{id}` is used already, at {other}");
        reader.find(value, message, "give one of the two rules another id");
        return None;
    }
    draft.ids.insert(id.to_owned(), source.to_owned());
    Some(id.to_owned())
}

fn read_patterns(reader: &mut Reader<'_>, key: &str, value: &Spanned<DeValue<'_>>, about: About) -> Option<Patterns> {
    let example = format!("write `{key} = [\"...\"]`");
    let DeValue::Array(list) = value.get_ref() else {
        let message = format!("`{key}` is {}, not a list of strings", kind(value.get_ref()));
        reader.find(value, message, example);
        return None;
    };
    if list.is_empty() {
        reader.find(value, format!("`{key}` is empty and would match nothing"), "name something, or take the key out");
        return None;
    }
    let mut patterns = Vec::with_capacity(list.len());
    for entry in list {
        let DeValue::String(text) = entry.get_ref() else {
            let message = format!("an entry of `{key}` is {}, not a string", kind(entry.get_ref()));
            reader.find(entry, message, example.clone());
            continue;
        };
        match possible(text.as_bytes(), about) {
            Ok(()) => patterns.push(text.as_ref()),
            Err((found, remedy)) => impossible(reader, entry, text, &found, remedy),
        }
    }
    Some(Patterns::new(patterns))
}

/// Finds a pattern that no name can match.
pub(super) fn impossible<T>(
    reader: &mut Reader<'_>,
    what: &Spanned<T>,
    pattern: &str,
    found: &str,
    remedy: &'static str,
) {
    // Longer than this, a pattern does not help to find the place.
    let shown: String = pattern.chars().take(60).collect();
    reader.find(what, format!("impossible pattern `{}`: {found}", Text::from(shown.as_str())), remedy);
}

/// Whether a name that this rule is about can match.
fn possible(pattern: &[u8], about: About) -> Result<(), (String, &'static str)> {
    pattern::check(pattern)?;
    if about == About::Requests {
        let remedy = "take it out";
        return if pattern.contains(&0) { Err(("no argument holds a NUL byte".into(), remedy)) } else { Ok(()) };
    }
    // Names of modules come from C identifiers (KBUILD_MODNAME); libkmod cuts a file's name at its first dot.
    let foreign = |byte: &&u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b'.' | b':' | b',');
    let Some(byte) = pattern.iter().find(foreign) else { return Ok(()) };
    let remedy = match byte {
        b'/' | b'.' => "write the module's name, without directory and `.ko`",
        b':' | b',' => "put names that are asked for, such as aliases, under `requests`",
        _ => "write one name to each string",
    };
    Err((format!("no module's name holds `{}`", Text(vec![*byte])), remedy))
}

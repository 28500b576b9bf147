//! A rule's key `requester`.

use toml::Spanned;
use toml::de::DeValue;

use crate::model::Namespace;
use crate::policy::pattern;
use crate::policy::requester::{CALLERS, Condition, Entry, Is, Key, MAX_ID, Who, check_path, range};
use crate::text::Text;

use super::reader::{self, Keys, Reader, kind};

pub(in crate::policy) const KEYS: Keys = Keys("requester", &Key::NAMES);
pub(in crate::policy) const NAMESPACES: &[(&str, Namespace)] =
    &[("host", Namespace::Host), ("other", Namespace::Other)];

/// Who the rule is about; what is wrong becomes a finding.
pub(super) fn read(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Who> {
    let remedy = "write `\"unknown\"`, or whom you mean: `requester = { unit = [\"docker.service\"] }`";
    let table = match value.get_ref() {
        DeValue::Table(table) => table,
        DeValue::String(word) if word == "unknown" => return Some(Who::Unknown),
        DeValue::String(word) => {
            let message = format!("`requester` is `\"{}\"`, which means nothing here", Text::from(word.as_ref()));
            reader.find(value, message, remedy);
            return None;
        }
        other => {
            reader.find(value, format!("`requester` is {}, not a table", kind(other)), remedy);
            return None;
        }
    };
    if table.is_empty() {
        reader.find(value, "`requester` is empty and would match everybody", "say who, or take the key out");
    }
    reader.known_only(table, &KEYS);
    let conditions = table.iter().map(reader::Entry::from).filter_map(|(name, value)| {
        let key = key(name)?;
        Some(Condition { key, entries: read_list(reader, key, value)? })
    });
    Some(Who::All(conditions.collect()))
}

fn key(name: &str) -> Option<Key> {
    use Key::{Ancestor, Auid, Caller, Container, Exe, Uid, Unit, Userns};
    [Exe, Ancestor, Unit, Container, Uid, Auid, Userns, Caller].into_iter().find(|key| key.name() == name)
}

/// The entries of a list; a single value is a list of one.
fn read_list(reader: &mut Reader<'_>, key: Key, value: &Spanned<DeValue<'_>>) -> Option<Vec<Entry>> {
    let name = key.name();
    match (key, value.get_ref()) {
        (Key::Container, DeValue::Boolean(yes)) => Some(vec![Entry { negated: !*yes, is: Is::Any }]),
        (Key::Userns, _) => {
            Some(vec![Entry { negated: false, is: Is::Namespace(reader.word(name, value, NAMESPACES)?) }])
        }
        (_, DeValue::Array(list)) if list.is_empty() => {
            let message = format!("`{name}` is empty and would match nothing");
            reader.find(value, message, "name something, or take the key out");
            None
        }
        (_, DeValue::Array(list)) => Some(list.iter().filter_map(|entry| read_entry(reader, key, entry)).collect()),
        _ => Some(vec![read_entry(reader, key, value)?]),
    }
}

fn read_entry(reader: &mut Reader<'_>, key: Key, value: &Spanned<DeValue<'_>>) -> Option<Entry> {
    let name = key.name();
    match (key, value.get_ref()) {
        (Key::Uid | Key::Auid, DeValue::Integer(_)) => {
            let id = reader.number(name, value, 0..=i64::from(MAX_ID))?.try_into().ok()?;
            return Some(Entry { negated: false, is: Is::Range(id, id) });
        }
        (Key::Container, DeValue::Boolean(_)) => {
            let message = "`container` is true or false in a list";
            reader.find(value, message, "write `container = true` or `container = false`, or name containers");
            return None;
        }
        _ => {}
    }
    let written = reader.string(name, value)?;
    let text = written.strip_prefix('!').unwrap_or(written);
    let negated = text.len() != written.len();
    let is = match key {
        Key::Exe | Key::Ancestor => check_path(text).map(|()| Is::Text(text.to_owned())),
        Key::Unit | Key::Container => match possible(key, text) {
            Ok(()) => Ok(Is::Text(text.to_owned())),
            Err((found, remedy)) => {
                super::rules::impossible(reader, value, text, &found, remedy);
                return None;
            }
        },
        Key::Auid if text == "none" => Ok(Is::None),
        Key::Uid | Key::Auid => range(text).map(|(low, high)| Is::Range(low, high)),
        Key::Userns | Key::Caller => {
            let found = CALLERS.iter().find(|(word, _)| *word == text);
            let remedy = "write `\"kernel\"`, `\"xtables\"`, `\"modprobe\"` or `\"hook\"`";
            found.map(|(_, caller)| Is::Caller(*caller)).ok_or(("is no way for a request to come", remedy))
        }
    };
    match is {
        Ok(is) => Some(Entry { negated, is }),
        Err((found, remedy)) => {
            reader.find(value, format!("`{name}` is `{}`, which {found}", Text::from(text)), remedy);
            None
        }
    }
}

/// Whether a name that the key is about can match.
fn possible(key: Key, text: &str) -> Result<(), (String, &'static str)> {
    pattern::check(text.as_bytes())?;
    if key == Key::Unit && pattern::is_literal(text.as_bytes()) && !text.contains('.') {
        return Err(("a unit's name ends with its kind".into(), "write it whole: `docker.service`"));
    }
    if key == Key::Container && matches!(text, "true" | "false") {
        return Err(("no container is called that".into(), "write `true` and `false` without quotes"));
    }
    match text.bytes().find(|byte| !byte.is_ascii_graphic() || *byte == b'/') {
        Some(byte) => {
            let found = format!("no name of a unit or container holds `{}`", Text(vec![byte]));
            Err((found, "write one name to each string"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

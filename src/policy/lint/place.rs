//! Where everything stands in the files: the parser keeps no more of that than verdicts name.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::finding::{Lines, Position, Source};

/// One place.
pub(super) struct Place {
    /// The file, as the person who asks sees it.
    pub path: String,
    pub position: Position,
    /// What stands there, if it is a string.
    pub written: String,
}

/// Places by rule (empty: none), key or table, and entry of a list or key of a table.
pub(super) struct Places(HashMap<[String; 3], Place>);

impl Places {
    /// Of two places for one thing the first is kept: it is the one that counts.
    pub fn of(sources: &[Source]) -> Places {
        let mut places = Places(HashMap::new());
        for source in sources {
            let Ok(text) = std::str::from_utf8(&source.bytes) else { continue };
            let (document, _) = DeTable::parse_recoverable(text);
            let mut file = File { source, lines: Lines::of(&source.bytes), places: &mut places };
            for (table, value) in document.get_ref() {
                match value.get_ref() {
                    DeValue::Array(rules) if table.get_ref() == "rule" => {
                        rules.iter().for_each(|rule| file.rule(rule));
                    }
                    value => file.entries("", table, value),
                }
            }
        }
        places
    }

    /// The place of just this.
    pub fn exactly(&self, rule: &str, key: &str, entry: &str) -> Option<&Place> {
        self.0.get(&name([rule, key, entry]))
    }

    /// The place of this, or of what it is a part of.
    pub fn nearest(&self, rule: Option<&str>, key: &str, entry: &str) -> Option<&Place> {
        let rule = rule.unwrap_or_default();
        [[rule, key, entry], [rule, key, ""], [rule, "", ""]].into_iter().find_map(|what| self.0.get(&name(what)))
    }
}

/// The policy knows plain names with underscores only.
fn name([rule, key, entry]: [&str; 3]) -> [String; 3] {
    [rule.to_owned(), key.to_owned(), entry.replace('-', "_")]
}

struct File<'a> {
    source: &'a Source,
    lines: Lines<'a>,
    places: &'a mut Places,
}

impl File<'_> {
    fn note<T>(&mut self, what: [&str; 3], at: &Spanned<T>, written: &str) {
        let position = self.lines.position(at.span().start);
        let place = || Place { path: self.source.shown.clone(), position, written: written.to_owned() };
        self.places.0.entry(name(what)).or_insert_with(place);
    }

    fn rule(&mut self, rule: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = rule.get_ref() else { return };
        let Some(DeValue::String(id)) = table.get("id").map(Spanned::get_ref) else { return };
        self.note([id, "", ""], rule, id);
        for (key, value) in table {
            self.entries(id, key, value.get_ref());
            if let DeValue::Table(conditions) = value.get_ref() {
                for (key, value) in conditions {
                    self.entries(id, key, value.get_ref());
                }
            }
        }
    }

    /// A key or table, and what is in its list or beneath it.
    fn entries(&mut self, rule: &str, key: &Spanned<impl AsRef<str>>, value: &DeValue<'_>) {
        let name = key.get_ref().as_ref();
        self.note([rule, name, ""], key, name);
        match value {
            DeValue::Array(list) => {
                for entry in list {
                    if let DeValue::String(text) = entry.get_ref() {
                        self.note([rule, name, text], entry, text);
                    }
                }
            }
            DeValue::Table(table) => {
                for key in table.keys() {
                    self.note([rule, name, key.get_ref()], key, key.get_ref());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keys_and_rules_are_found() {
        let text = "[defaults]\nenforce = false\n[[rule]]\nid = \"a\"\nmodules = [\n  \"x-y\",\n]\n\
                    requester = { unit = [\"b.service\"] }\n[sysctl]\n\"net.a-b\" = 1\n";
        let places = Places::of(&[Source::new("p", text.into())]);
        let at = |rule, key, entry| {
            let place = places.nearest(rule, key, entry).unwrap();
            (place.position.line, place.position.column, place.written.clone())
        };
        assert_eq!(at(None, "defaults", "enforce"), (2, 1, "enforce".into()));
        assert_eq!(at(Some("a"), "modules", "x_y"), (6, 3, "x-y".into()));
        assert_eq!(at(Some("a"), "modules", "other"), (5, 1, "modules".into()));
        assert_eq!(at(Some("a"), "reason", "x"), (3, 1, "a".into()));
        assert_eq!(at(Some("a"), "unit", "b.service"), (8, 23, "b.service".into()));
        assert_eq!(at(None, "sysctl", "net.a-b"), (10, 1, "net.a-b".into()));
        assert!(places.nearest(Some("b"), "", "").is_none());
    }
}

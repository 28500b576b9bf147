//! Typed values out of TOML; what does not fit becomes a finding with its place.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::policy::finding::{Finding, Lines, Source};
use crate::text::Text;

/// A key and its value, as `map(Entry::from)` makes them of a table's own form.
pub(super) struct Entry;

impl Entry {
    pub(super) fn from<'a, 'i>(
        (key, value): (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>),
    ) -> (&'a str, &'a Spanned<DeValue<'i>>) {
        (key.get_ref().as_ref(), value)
    }
}

/// A table's name in messages, and the keys that it may have.
pub(in crate::policy) struct Keys(pub(in crate::policy) &'static str, pub(in crate::policy) &'static [&'static str]);

/// So many findings of a file are told. Nobody reads more, and the helper may be the one that reads the file.
const MAX_FINDINGS: usize = 100;

/// One policy file while it is read.
pub(super) struct Reader<'a> {
    source: &'a Source,
    lines: Lines<'a>,
    findings: Vec<Finding>,
    /// How many were found beyond those.
    untold: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn of(source: &'a Source) -> Reader<'a> {
        Reader { source, lines: Lines::of(&source.bytes), findings: Vec::new(), untold: 0 }
    }

    /// What was found, in the order of places.
    pub(super) fn findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.position);
        if self.untold > 0 {
            self.findings.push(Finding {
                path: self.source.shown.clone(),
                position: None,
                message: format!("{} more findings are not shown", self.untold),
                remedy: "correct these and check again".into(),
            });
        }
        self.findings
    }

    /// The file as TOML, if it is.
    pub(super) fn document(&mut self) -> Option<Spanned<DeTable<'a>>> {
        let text = match std::str::from_utf8(&self.source.bytes) {
            Ok(text) => text,
            Err(error) => {
                self.find_at(error.valid_up_to(), "bytes that are not UTF-8".into(), "save the file as UTF-8 text");
                return None;
            }
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut last_line = 0;
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            // Further errors of a line mostly follow from its first.
            let line = self.lines.line(at);
            if std::mem::replace(&mut last_line, line) != line {
                let message = error.message().replace('\n', ", ");
                let remedy = "correct the syntax: strings need quotes, lists brackets: `modules = [\"nf_conntrack\"]`";
                self.find_at(at, message, remedy);
            }
        }
        errors.is_empty().then_some(document)
    }

    /// Adds a finding about a key or value.
    pub(super) fn find<T>(
        &mut self,
        what: &Spanned<T>,
        message: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) {
        self.find_at(what.span().start, message.into(), remedy);
    }

    /// Adds a finding about a value, unless something has been said of this very place.
    pub(super) fn find_unless_found<T>(&mut self, what: &Spanned<T>, message: &str, remedy: &'static str) {
        let position = Some(self.lines.position(what.span().start));
        if !self.findings.iter().any(|finding| finding.position == position) {
            self.find(what, message, remedy);
        }
    }

    fn find_at(&mut self, offset: usize, message: String, remedy: impl Into<Cow<'static, str>>) {
        if self.findings.len() >= MAX_FINDINGS {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.findings.push(Finding {
            path: self.source.shown.clone(),
            position: Some(self.lines.position(offset)),
            message,
            remedy: remedy.into().into_owned(),
        });
    }

    /// `FILE:LINE` of a key or value, as verdicts name it.
    pub(super) fn source_of<T>(&self, what: &Spanned<T>) -> String {
        format!("{}:{}", self.source.path, self.lines.line(what.span().start))
    }

    fn wrong<T>(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, example: &str) -> Option<T> {
        let message = format!("`{}` is {}, not {wanted}", Text::from(key), kind(value.get_ref()));
        self.find(value, message, format!("write {example}"));
        None
    }

    pub(super) fn table<'v, 'i>(
        &mut self,
        key: &str,
        value: &'v Spanned<DeValue<'i>>,
        keys: &Keys,
    ) -> Option<&'v DeTable<'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong(key, value, "a table", &format!("`[{key}]` on a line of its own, its keys beneath"));
        };
        self.known_only(table, keys);
        Some(table)
    }

    /// Finds the keys of `table` that mean nothing.
    pub(super) fn known_only(&mut self, table: &DeTable<'_>, Keys(place, known): &Keys) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let nearest = known.iter().map(|known| (distance(name, known), known)).min();
            let near = nearest.filter(|(distance, known)| *distance <= known.len().div_ceil(10));
            let list = format!("known in {place}: {}", known.join(", "));
            let remedy = near.map_or_else(|| list.clone(), |(_, near)| format!("did you mean `{near}`? {list}"));
            self.find(key, format!("unknown key `{}`", Text::from(name)), remedy);
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.wrong(key, value, "true or false", &format!("`{key} = true` or `{key} = false`")),
        }
    }

    pub(super) fn string<'v>(&mut self, key: &str, value: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(string) => Some(string.as_ref()),
            _ => self.wrong(key, value, "a string", &format!("it in quotes: `{key} = \"...\"`")),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong(key, value, "a whole number", &format!("a number without quotes: `{key} = 1`"));
        };
        // A number that i64 does not hold is out of every range here.
        let found = i64::from_str_radix(number.as_str(), number.radix()).ok();
        found.filter(|number| range.contains(number)).or_else(|| {
            let remedy = format!("write a number from {} to {}", range.start(), range.end());
            self.find(value, format!("`{}` is {number}, out of range", Text::from(key)), remedy);
            None
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, value: &Spanned<DeValue<'_>>, words: &[(&str, T)]) -> Option<T> {
        let found = self.string(key, value)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == found) {
            return Some(*meaning);
        }
        let list: Vec<String> = words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
        let message = format!("`{key}` is `\"{}\"`, which means nothing here", Text::from(found));
        self.find(value, message, format!("write {}", list.join(" or ")));
        None
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// How many slips of a finger lie between two words: a letter too many, too few, wrong, or swapped with the next.
pub(in crate::policy) fn distance(one: &str, other: &str) -> usize {
    // A long word is near to none of ours, and the effort goes up with the length.
    if one.len() > 64 {
        return usize::MAX;
    }
    let other: Vec<char> = other.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, c) in one.chars().enumerate() {
        let mut current = vec![row.saturating_add(1)];
        let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
        for (column, d) in other.iter().enumerate() {
            let next = column.saturating_add(1);
            let replaced = at(&last, column).saturating_add(usize::from(c != *d));
            let mut least = replaced.min(at(&last, next).saturating_add(1)).min(at(&current, column).saturating_add(1));
            if let Some(before) = column.checked_sub(1)
                && previous == Some(*d)
                && other.get(before) == Some(&c)
            {
                least = least.min(at(&before_last, before).saturating_add(1));
            }
            current.push(least);
        }
        previous = Some(c);
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (one, other, count) in [
            ("action", "action", 0),
            ("acton", "action", 1),
            ("actionn", "action", 1),
            ("actien", "action", 1),
            ("actoin", "action", 1),
            ("", "id", 2),
            ("requester", "requests", 2),
        ] {
            assert_eq!(distance(one, other), count, "{one} {other}");
        }
        assert_eq!(distance(&"x".repeat(65), "id"), usize::MAX);
    }
}

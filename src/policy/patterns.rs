//! A rule's list of patterns, made so that thousands of plain names cost one search.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::pattern::{self, fold};

/// Patterns of which any may match. Those that stand for one name are kept sorted, apart from the others: an
/// allow-list of every module of a kernel has some 6,500.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patterns {
    /// The plain names with underscores, in the order of their bytes, each with [`END`] behind it: one text, which is
    /// searched where it lies in the applied policy. To decode where 6,500 names end took as long as half a request, a
    /// copy of them a sixteenth.
    #[serde(borrow)]
    names: Cow<'static, str>,
    globs: Vec<String>,
}

/// Stands behind each of the plain names. What holds it itself is kept with the patterns.
const END: u8 = b'\n';

impl Patterns {
    /// Takes patterns that [`pattern::check`] found possible.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Patterns {
        let is_plain = |pattern: &&str| pattern::is_literal(pattern.as_bytes()) && !pattern.as_bytes().contains(&END);
        let (literals, globs): (Vec<&str>, Vec<&str>) = patterns.into_iter().partition(is_plain);
        let mut literals: Vec<String> = literals.into_iter().map(|name| name.replace('-', "_")).collect();
        literals.sort_unstable();
        literals.dedup();
        let names: String = literals.into_iter().flat_map(|name| [name, char::from(END).into()]).collect();
        Patterns { names: names.into(), globs: globs.into_iter().map(str::to_owned).collect() }
    }

    /// Whether any of them describes the whole of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.is_listed(name) || self.globs.iter().any(|glob| pattern::matches(glob.as_bytes(), name))
    }

    /// Whether one of them surely describes every name that `pattern` does.
    pub fn covers(&self, pattern: &str) -> bool {
        let covers = |glob: &String| pattern::covers(fold, glob.as_bytes(), pattern.as_bytes());
        pattern::is_literal(pattern.as_bytes()) && self.is_listed(pattern.as_bytes()) || self.globs.iter().any(covers)
    }

    /// All of them: first the plain names (with underscores, sorted), then the others as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.split_terminator(char::from(END)).chain(self.globs.iter().map(String::as_str))
    }

    /// Halves the text at the name in its middle until that is the one, or nothing is left.
    fn is_listed(&self, name: &[u8]) -> bool {
        let mut rest = self.names.as_bytes();
        while !rest.is_empty() {
            let (before, after) = rest.split_at(rest.len() / 2);
            let begin = before.iter().rposition(|&byte| byte == END).map_or(0, |end| end + 1);
            let end = before.len() + after.iter().position(|&byte| byte == END).unwrap_or(after.len());
            let middle = rest.get(begin..end).unwrap_or_default();
            match middle.iter().copied().cmp(name.iter().map(|byte| fold(*byte))) {
                Ordering::Less => rest = rest.get(end + 1..).unwrap_or_default(),
                Ordering::Greater => rest = rest.get(..begin).unwrap_or_default(),
                Ordering::Equal => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_and_patterns_match_alike() {
        let patterns = Patterns::new(["zz-top", "nf_conntrack", "xt_*", "nf-conntrack", "a", "b]c", "x\ny-"]);
        assert_eq!(patterns.iter().collect::<Vec<_>>(), ["a", "b]c", "nf_conntrack", "zz_top", "xt_*", "x\ny-"]);
        for name in ["a", "x\ny_", "nf-conntrack", "nf_conntrack", "zz_top", "xt_NAT", "xt-NAT", "b]c"] {
            assert!(patterns.matches(name.as_bytes()), "{name}");
        }
        for name in
            ["", "aa", "nf_conntrack_ftp", "nf", "zz", "bc", "nf_conntrackzz_top", "x", "y-", "a\nb]c", "\n", "a\n"]
        {
            assert!(!patterns.matches(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_name_of_a_long_list_is_found() {
        let names: Vec<String> = (0..6500).map(|number| format!("module-{number}")).collect();
        let patterns = Patterns::new(names.iter().map(String::as_str));
        assert!(names.iter().all(|name| patterns.matches(name.as_bytes())));
        assert!(!patterns.matches(b"module_6500"));
    }
}

//! A rule's list of patterns, made so that thousands of plain names cost one search.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::pattern::{self, fold};

/// Patterns of which any may match. Those that stand for one name are kept sorted, apart from the others: an
/// allow-list of every module of a kernel has some 6,500.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patterns {
    /// The plain names with underscores, in the order of their bytes, one after the other: two allocations for all.
    names: String,
    /// Where each of them ends.
    ends: Vec<usize>,
    globs: Vec<String>,
}

impl Patterns {
    /// Takes patterns that [`pattern::check`] found possible.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Patterns {
        let (literals, globs): (Vec<&str>, Vec<&str>) =
            patterns.into_iter().partition(|pattern| pattern::is_literal(pattern.as_bytes()));
        let mut literals: Vec<String> = literals.into_iter().map(|name| name.replace('-', "_")).collect();
        literals.sort_unstable();
        literals.dedup();
        let mut patterns = Patterns { globs: globs.into_iter().map(str::to_owned).collect(), ..Patterns::default() };
        for name in literals {
            patterns.names.push_str(&name);
            patterns.ends.push(patterns.names.len());
        }
        patterns
    }

    /// Whether any of them describes the whole of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.is_listed(name) || self.globs.iter().any(|glob| pattern::matches(glob.as_bytes(), name))
    }

    /// All of them: first the plain names (with underscores, sorted), then the others as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).filter_map(|at| self.literal(at)).chain(self.globs.iter().map(String::as_str))
    }

    fn is_listed(&self, name: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            let Some(literal) = self.literal(middle) else { return false };
            match literal.bytes().cmp(name.iter().map(|byte| fold(*byte))) {
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Greater => high = middle,
                Ordering::Equal => return true,
            }
        }
        false
    }

    fn literal(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.names.get(start..*self.ends.get(at)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_and_patterns_match_alike() {
        let patterns = Patterns::new(["zz-top", "nf_conntrack", "xt_*", "nf-conntrack", "a", "b]c"]);
        assert_eq!(patterns.iter().collect::<Vec<_>>(), ["a", "b]c", "nf_conntrack", "zz_top", "xt_*"]);
        for name in ["a", "nf-conntrack", "nf_conntrack", "zz_top", "xt_NAT", "xt-NAT", "b]c"] {
            assert!(patterns.matches(name.as_bytes()), "{name}");
        }
        for name in ["", "aa", "nf_conntrack_ftp", "nf", "zz", "bc", "nf_conntrackzz_top"] {
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

//! Lines that were told from a spool and will be met again in the log.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// How often each line was told. Kept of a line is a number made of it, by a key of this process's own.
#[derive(Clone, Default)]
pub struct Told {
    lines: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Told {
    /// Nothing, with the same key.
    pub fn emptied(&self) -> Told {
        Told { lines: HashMap::new(), hasher: self.hasher.clone() }
    }

    /// `line` was told once more.
    pub fn add(&mut self, line: &[u8]) {
        self.add_times(self.hasher.hash_one(line), 1);
    }

    /// And what `other`, which has the same key, says.
    pub fn join(&mut self, other: Told) {
        for (line, times) in other.lines {
            self.add_times(line, times);
        }
    }

    fn add_times(&mut self, line: u64, more: u32) {
        let times = self.lines.entry(line).or_default();
        *times = times.saturating_add(more);
    }

    /// Whether `line` was told more often than it was met since; it is met now.
    pub fn meet(&mut self, line: &[u8]) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        match self.lines.get_mut(&self.hasher.hash_one(line)) {
            Some(times) if *times > 0 => {
                *times = times.saturating_sub(1);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_met_as_often_as_it_was_told() {
        let mut told = Told::default();
        assert!(!told.meet(b"one"));
        told.add(b"one");
        let mut more = told.emptied();
        more.add(b"one");
        more.add(b"two");
        told.join(more);
        assert_eq!(
            [b"one", b"two", b"one", b"one", b"two"].map(|line| told.meet(line)),
            [true, true, true, false, false]
        );
    }
}

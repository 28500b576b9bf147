//! What is read and what is wrong with it.

use std::fmt;

use serde::Serialize;

use super::BUILT_IN;

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path as its own host names it: goes into verdicts, records and the applied form.
    pub path: String,
    /// Its path as the person who asks sees it, for findings; differs from `path` under another root.
    pub shown: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Source {
    /// A file that its host and the person who asks call by the same name.
    pub fn new(path: &str, bytes: Vec<u8>) -> Source {
        Source { path: path.into(), shown: path.into(), bytes }
    }

    /// The policy that counts where there is no file.
    pub fn built_in() -> Source {
        Source::new("built-in default", BUILT_IN.into())
    }
}

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Something that makes a policy unsound.
///
/// Its `Display` is `path:line:column: message; remedy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// The place in it; absent if it is about the file as a whole.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { path, position, message, remedy } = self;
        match position {
            Some(Position { line, column }) => write!(f, "{path}:{line}:{column}: {message}; {remedy}"),
            None => write!(f, "{path}: {message}; {remedy}"),
        }
    }
}

/// Where the lines of a text begin, so that thousands of places cost one pass.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a [u8]) -> Lines<'a> {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Lines { text, starts: std::iter::once(0).chain(ends.map(|(at, _)| at.saturating_add(1))).collect() }
    }

    /// The line of the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The place of the byte at `offset`. It costs as much as the line is long.
    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Position { line, column: String::from_utf8_lossy(before).chars().count().saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_editors_count() {
        let lines = Lines::of("ab\nü€x\n\nz".as_bytes());
        for (offset, line, column) in
            [(0, 1, 1), (2, 1, 3), (3, 2, 1), (8, 2, 3), (9, 2, 4), (10, 3, 1), (11, 4, 1), (99, 4, 2)]
        {
            assert_eq!(lines.position(offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let position = Some(Position { line: 3, column: 7 });
        let finding = Finding { path: "p".into(), position, message: "m".into(), remedy: "r".into() };
        assert_eq!(finding.to_string(), "p:3:7: m; r");
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"path":"p","line":3,"column":7,"message":"m","remedy":"r"}"#
        );
        assert_eq!(Finding { position: None, ..finding }.to_string(), "p: m; r");
    }
}

//! The index files that depmod writes and kmod reads, such as `modules.dep.bin`: a radix tree on disk.
//!
//! Format (kmod's libkmod-index.c): numbers have 32 bits, most significant byte first. The file begins with the magic
//! number, the version and the root's reference. A reference is the offset of a node; its high bits say what the node
//! has: a prefix that ends with NUL; the first and the last byte with which a child begins, and a reference for each
//! byte between (0: no child); the number of values, and each with a priority before its text, which ends with NUL.
#![forbid(unsafe_code)]

mod keys;

use std::cell::Cell;

use super::blocks::{Blocks, Cursor, Damage, ReadAt};
use super::glob::glob_match;

const MAGIC: u32 = 0xB007_F457;
const MAJOR_VERSION: u32 = 2;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;
/// Keys are ASCII: no child begins with a byte from here on.
const FIRST_NO_CHILD: u8 = 128;

/// Bytes that one search may read. In the index of a Debian kernel none needs 3000; a damaged one can lead in circles.
const BYTES_A_SEARCH: u32 = 128 << 10;
/// Bytes of a pattern from its first wildcard on. The kernel's build makes none of more than 500.
const LONGEST_PATTERN: usize = 2048;

/// One index file, opened.
pub struct Index {
    blocks: Blocks,
    root: u32,
}

/// A node, without what is not needed of it.
struct Node {
    prefix: Vec<u8>,
    /// First and last byte of a child, and the offset of their references.
    children: Option<(u8, u8, u64)>,
    /// Offset of the number of values.
    values: Option<u64>,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The smaller one comes first.
    pub priority: u32,
    /// Without its NUL.
    pub text: Vec<u8>,
}

impl Index {
    /// Reads the header.
    ///
    /// # Errors
    /// If `file` can't be read, or is no index of a known version.
    pub fn open(file: Box<dyn ReadAt>) -> Result<Index, Damage> {
        let blocks = Blocks::new(file);
        let left = Cell::new(BYTES_A_SEARCH);
        let mut cursor = Cursor::new(&blocks, 0, &left);
        let (magic, version, root) = (cursor.number()?, cursor.number()?, cursor.number()?);
        if magic != MAGIC {
            return Err(Damage::NoIndex);
        }
        if version >> 16 != MAJOR_VERSION {
            return Err(Damage::Version(version));
        }
        Ok(Index { blocks, root })
    }

    /// The first value of exactly `key`.
    ///
    /// # Errors
    /// If what has to be read on the way is damaged; damage elsewhere goes unnoticed.
    pub fn find(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
        let search = self.search();
        let mut node = search.node(self.root)?;
        let mut key = key;
        while let Some(found) = node {
            let Some(rest) = key.strip_prefix(found.prefix.as_slice()) else { return Ok(None) };
            let Some((&byte, rest)) = rest.split_first() else {
                return Ok(search.values(&found)?.into_iter().next().map(|value| value.text));
            };
            key = rest;
            node = search.child(&found, byte)?;
        }
        Ok(None)
    }

    /// The values of all keys that, as patterns, match `name`, in the order in which kmod takes them.
    ///
    /// # Errors
    /// As with [`Index::find`].
    pub fn matching(&self, name: &[u8]) -> Result<Vec<Value>, Damage> {
        let search = self.search();
        let mut found = Vec::new();
        let mut node = search.node(self.root)?;
        let mut name = name;
        while let Some(here) = node {
            if let Some(wildcard) = here.prefix.iter().position(|byte| is_wildcard(*byte)) {
                let (literal, pattern) = here.prefix.split_at_checked(wildcard).unwrap_or_default();
                if let Some(rest) = name.strip_prefix(literal) {
                    search.below(&here, pattern, rest, &mut found)?;
                }
                break;
            }
            let Some(rest) = name.strip_prefix(here.prefix.as_slice()) else { break };
            for wildcard in [b'*', b'?', b'['] {
                if let Some(child) = search.child(&here, wildcard)? {
                    let pattern = [&[wildcard], child.prefix.as_slice()].concat();
                    search.below(&child, &pattern, rest, &mut found)?;
                }
            }
            let Some((&byte, rest)) = rest.split_first() else {
                search.take_values(&here, &mut found)?;
                break;
            };
            name = rest;
            node = search.child(&here, byte)?;
        }
        Ok(found)
    }

    fn search(&self) -> Search<'_> {
        Search { blocks: &self.blocks, left: Cell::new(BYTES_A_SEARCH) }
    }
}

fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[')
}

/// What is left to do below a wildcard.
enum Step {
    /// Go to the node that hangs on this byte, below a pattern of so many bytes.
    Enter { reference: u32, byte: u8, length: usize },
    /// Take this node's values if its pattern, of so many bytes, matches.
    Take { node: Node, length: usize },
}

/// One search: an index, and how much of it may still be read.
struct Search<'a> {
    blocks: &'a Blocks,
    left: Cell<u32>,
}

impl Search<'_> {
    fn cursor(&self, at: u64) -> Cursor<'_> {
        Cursor::new(self.blocks, at, &self.left)
    }

    fn node(&self, reference: u32) -> Result<Option<Node>, Damage> {
        let offset = u64::from(reference & OFFSET);
        if offset == 0 {
            return Ok(None);
        }
        let mut cursor = self.cursor(offset);
        let prefix = if reference & HAS_PREFIX != 0 { cursor.text()? } else { Vec::new() };
        let mut children = None;
        if reference & HAS_CHILDREN != 0 {
            let (first, last) = (cursor.byte()?, cursor.byte()?);
            if first > last || last >= FIRST_NO_CHILD {
                return Err(Damage::Entry { at: offset });
            }
            children = Some((first, last, cursor.at));
            cursor.at += 4 * (u64::from(last - first) + 1);
        }
        let values = (reference & HAS_VALUES != 0).then_some(cursor.at);
        Ok(Some(Node { prefix, children, values }))
    }

    fn child(&self, node: &Node, byte: u8) -> Result<Option<Node>, Damage> {
        match node.children {
            Some((first, last, at)) if (first..=last).contains(&byte) => {
                self.node(self.cursor(at + 4 * u64::from(byte - first)).number()?)
            }
            _ => Ok(None),
        }
    }

    fn values(&self, node: &Node) -> Result<Vec<Value>, Damage> {
        let Some(at) = node.values else { return Ok(Vec::new()) };
        let mut cursor = self.cursor(at);
        let count = cursor.number()?;
        (0..count).map(|_| Ok(Value { priority: cursor.number()?, text: cursor.text()? })).collect()
    }

    /// Adds the values of `node` where kmod's list has them: by priority, of equal ones the latest first.
    fn take_values(&self, node: &Node, found: &mut Vec<Value>) -> Result<(), Damage> {
        for value in self.values(node)? {
            let place = found.iter().take_while(|other| other.priority < value.priority).count();
            found.insert(place, value);
        }
        Ok(())
    }

    /// Adds the values of all keys at and below `node` that match `name`. `pattern` is the way to the node from its
    /// first wildcard on, `name` what is left of the name there.
    fn below(&self, node: &Node, pattern: &[u8], name: &[u8], found: &mut Vec<Value>) -> Result<(), Damage> {
        let mut pattern = pattern.to_vec();
        let mut steps = Vec::new();
        self.enter(node, &mut pattern, name, &mut steps)?;
        while let Some(step) = steps.pop() {
            match step {
                Step::Take { node, length } => {
                    pattern.truncate(length);
                    if glob_match(&pattern, name) {
                        self.take_values(&node, found)?;
                    }
                }
                Step::Enter { reference, byte, length } => {
                    pattern.truncate(length);
                    pattern.push(byte);
                    if let Some(node) = self.node(reference)? {
                        pattern.extend_from_slice(&node.prefix);
                        self.enter(&node, &mut pattern, name, &mut steps)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes what there is to do at a node: its children in their order, then its own values.
    fn enter(&self, node: &Node, pattern: &mut Vec<u8>, name: &[u8], steps: &mut Vec<Step>) -> Result<(), Damage> {
        if pattern.len() > LONGEST_PATTERN {
            return Err(Damage::Endless);
        }
        if !can_match(pattern, name) {
            return Ok(());
        }
        let length = pattern.len();
        if let Some(values) = node.values {
            let node = Node { prefix: Vec::new(), children: None, values: Some(values) };
            steps.push(Step::Take { node, length });
        }
        if let Some((first, last, at)) = node.children {
            let before = steps.len();
            let mut cursor = self.cursor(at);
            for byte in first..=last {
                let reference = cursor.number()?;
                if reference & OFFSET != 0 {
                    steps.push(Step::Enter { reference, byte, length });
                }
            }
            steps.get_mut(before..).unwrap_or_default().reverse();
        }
        Ok(())
    }
}

/// Whether a pattern that begins with `pattern` can match `name` at all; what this rules out need not be read.
fn can_match(pattern: &mut Vec<u8>, name: &[u8]) -> bool {
    // A bracket or a backslash may not have ended yet: only what stands before it can be judged.
    let length = pattern.len();
    let whole = pattern.iter().position(|byte| matches!(byte, b'[' | b'\\')).unwrap_or(length);
    let rest = pattern.split_off(whole);
    pattern.push(b'*');
    let can = glob_match(pattern, name);
    pattern.truncate(whole);
    pattern.extend_from_slice(&rest);
    can
}

#[cfg(test)]
mod tests {
    use super::super::fixture::index_of;
    use super::*;

    fn texts(index: &Index, name: &[u8]) -> Vec<String> {
        index.matching(name).unwrap().into_iter().map(|value| String::from_utf8(value.text).unwrap()).collect()
    }

    fn open(bytes: Vec<u8>) -> Result<Index, Damage> {
        Index::open(Box::new(bytes))
    }

    #[test]
    fn finds_exact_keys_only() {
        let index = open(index_of(&[("ask", 1, "a"), ("ate", 2, "b"), ("on", 3, "c"), ("once", 4, "d")])).unwrap();
        for (key, expected) in [("ask", Some("a")), ("on", Some("c")), ("once", Some("d"))] {
            assert_eq!(index.find(key.as_bytes()).unwrap().as_deref(), expected.map(str::as_bytes));
        }
        for key in ["", "o", "as", "asks", "onc", "zz", "*", "\u{7f}", "ä"] {
            assert_eq!(index.find(key.as_bytes()).unwrap(), None, "{key}");
        }
    }

    #[test]
    fn keys_are_patterns_and_priority_orders() {
        let index = open(index_of(&[
            ("pci:v*d*", 7, "any"),
            ("pci:v1d[0-3]*", 3, "few"),
            ("pci:v1d2", 5, "exact"),
            ("pci:v1d2", 4, "better"),
            ("pci:v1d?", 9, "one"),
            ("*", 8, "all"),
            ("pci:v1d*", 9, "late"),
            ("k*?c", 5, "earlier child"),
            ("k*c", 5, "later child"),
        ]))
        .unwrap();
        assert_eq!(texts(&index, b"pci:v1d2"), ["few", "better", "exact", "any", "all", "one", "late"]);
        assert_eq!(texts(&index, b"pci:v1d9"), ["any", "all", "one", "late"]);
        assert_eq!(texts(&index, b"pci:v1"), ["all"]);
        assert_eq!(texts(&index, b""), ["all"]);
        assert_eq!(texts(&index, b"kxc"), ["later child", "earlier child", "all"]);
    }

    #[test]
    fn damage_is_told_apart() {
        let good = index_of(&[("nf_nat", 0, "x")]);
        assert!(matches!(open(Vec::new()), Err(Damage::Ends { at: 0 })));
        assert!(matches!(open(good[..11].to_vec()), Err(Damage::Ends { at: 11 })));
        assert!(matches!(open(vec![b'#'; 40]), Err(Damage::NoIndex)));
        let mut newer = good.clone();
        newer[5] = 3;
        assert!(matches!(open(newer), Err(Damage::Version(0x0003_0001))));
        let mut backward = good.clone();
        backward.truncate(12);
        backward.extend([b'z', b'a']);
        backward[8..12].copy_from_slice(&(HAS_CHILDREN | 12).to_be_bytes());
        assert!(matches!(open(backward).unwrap().find(b"x"), Err(Damage::Entry { at: 12 })));
    }

    #[test]
    fn every_truncation_is_an_answer_or_an_error() {
        let good = index_of(&[("nf_nat", 0, "x"), ("nf_*", 1, "y"), ("ip_tables", 2, "z")]);
        let whole = texts(&open(good.clone()).unwrap(), b"nf_nat");
        let mut errors = 0;
        for length in 12..good.len() {
            let cut = open(good[..length].to_vec()).unwrap();
            for result in [cut.find(b"nf_nat").map(|_| Vec::new()), cut.matching(b"nf_nat")] {
                errors += usize::from(result.is_err());
                assert!(result.is_err() || result.is_ok_and(|values| values.is_empty() || values.len() == whole.len()));
            }
        }
        assert!(errors > good.len());
    }

    #[test]
    fn circles_and_absurd_counts_end() {
        // A root whose only child, by '*', is the root.
        let root = HAS_CHILDREN | 12;
        let mut circle = [MAGIC, 0x0002_0001, root].map(u32::to_be_bytes).concat();
        circle.extend(*b"**");
        circle.extend(root.to_be_bytes());
        let index = open(circle).unwrap();
        assert!(matches!(index.matching(b"abc"), Err(Damage::Endless)));
        assert!(matches!(index.find(&[b'*'; 5000]), Ok(None)));

        let mut many = [MAGIC, 0x0002_0001, HAS_VALUES | 12, u32::MAX].map(u32::to_be_bytes).concat();
        many.extend([0, 0, 0, 0, b'x', 0]);
        assert!(matches!(open(many).unwrap().find(b""), Err(Damage::Ends { .. })));
    }
}

//! All keys of an index, for those who are not in a hurry.
#![forbid(unsafe_code)]

use std::cell::Cell;

use super::{Damage, Index, OFFSET, Search};

/// Bytes that may be read for it; the largest index of a Debian kernel has not two million. A damaged one can lead in
/// circles.
const BYTES: u32 = 64 << 20;
/// Bytes of a key; kmod looks at no longer name.
const LONGEST_KEY: usize = 4096;

impl Index {
    /// Every key, in the order of their bytes.
    ///
    /// # Errors
    /// If any part of the index is damaged.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, Damage> {
        let search = Search { blocks: &self.blocks, left: Cell::new(BYTES) };
        let mut keys = Vec::new();
        // What is left to do: a node, and the key that leads there. The top comes next.
        let mut steps = vec![(self.root, Vec::new())];
        while let Some((reference, mut key)) = steps.pop() {
            let Some(node) = search.node(reference)? else { continue };
            key.extend_from_slice(&node.prefix);
            if key.len() > LONGEST_KEY {
                return Err(Damage::Endless);
            }
            if let Some((first, last, at)) = node.children {
                let before = steps.len();
                let mut cursor = search.cursor(at);
                for byte in first..=last {
                    let reference = cursor.number()?;
                    if reference & OFFSET != 0 {
                        steps.push((reference, [key.as_slice(), &[byte]].concat()));
                    }
                }
                steps.get_mut(before..).unwrap_or_default().reverse();
            }
            if node.values.is_some() {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::index_of;
    use super::*;

    #[test]
    fn every_key_comes_once_and_sorted() {
        let names = ["nf_conntrack", "a", "nf_conntrack_ftp", "ab", "nf_nat", "x"];
        let index = Index::open(Box::new(index_of(&names.map(|name| (name, 0, "x"))))).unwrap();
        let mut expected = names.map(|name| name.as_bytes().to_vec());
        expected.sort();
        assert_eq!(index.keys().unwrap(), expected);
        assert_eq!(Index::open(Box::new(index_of(&[]))).unwrap().keys().unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn damage_is_told() {
        let good = index_of(&[("nf_nat", 0, "x"), ("nf_conntrack", 0, "y")]);
        let whole = Index::open(Box::new(good.clone())).unwrap().keys().unwrap();
        for length in 12..good.len() {
            let keys = Index::open(Box::new(good[..length].to_vec())).unwrap().keys();
            assert!(keys.is_err() || keys.is_ok_and(|keys| keys == whole), "{length}");
        }
        // A root whose only child, by 'a', is the root.
        let root = 0x2000_0000 | 12;
        let mut circle = [0xB007_F457_u32, 0x0002_0001, root].map(u32::to_be_bytes).concat();
        circle.extend(*b"aa");
        circle.extend(u32::to_be_bytes(root));
        assert!(matches!(Index::open(Box::new(circle)).unwrap().keys(), Err(Damage::Endless)));
    }
}

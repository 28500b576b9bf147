//! Index files made up for tests.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use super::blocks::ReadAt;
use super::tree::{IndexFile, Source};

/// The files of an index, in memory; those left out are not there.
pub struct Files(pub BTreeMap<IndexFile, Vec<u8>>);

impl Files {
    /// These files.
    pub fn of<const N: usize>(files: [(IndexFile, Vec<u8>); N]) -> Files {
        Files(BTreeMap::from(files))
    }
}

impl Source for Files {
    fn open(&self, file: IndexFile) -> io::Result<Box<dyn ReadAt>> {
        match self.0.get(&file) {
            Some(bytes) => Ok(Box::new(bytes.clone())),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self) -> String {
        "/lib/modules/6.1.0".to_owned()
    }
}

/// An index of these keys, each with a priority and a value; a prefix stands where a node has one child only.
pub fn index_of(entries: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut file = [0xB007_F457_u32, 0x0002_0001, 0].map(u32::to_be_bytes).concat();
    let mut keys: BTreeMap<&[u8], Vec<(u32, &str)>> = BTreeMap::new();
    for (key, priority, value) in entries {
        keys.entry(key.as_bytes()).or_default().push((*priority, value));
    }
    let all: Vec<_> = keys.into_iter().collect();
    let root = write(&mut file, &all, 0, false);
    file[8..12].copy_from_slice(&root.to_be_bytes());
    file
}

/// A key and its values, each with a priority.
type Key<'a> = (&'a [u8], Vec<(u32, &'a str)>);

/// Writes the node for `keys`, which agree in their first `depth` bytes, children first as depmod does.
fn write(file: &mut Vec<u8>, keys: &[Key], depth: usize, packed: bool) -> u32 {
    let Some((shortest, _)) = keys.first() else { return 0 };
    let shared = |length: &usize| keys.iter().all(|(key, _)| key.starts_with(&shortest[..*length]));
    let end = if packed { (depth..=shortest.len()).rev().find(shared).unwrap_or(depth) } else { depth };
    let (own, longer): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|(key, _)| key.len() == end);
    let mut children: BTreeMap<u8, Vec<_>> = BTreeMap::new();
    for entry in longer {
        children.entry(entry.0[end]).or_default().push(entry);
    }
    let references: BTreeMap<u8, u32> =
        children.iter().map(|(byte, keys)| (*byte, write(file, keys, end + 1, true))).collect();
    let mut reference = file.len() as u32;
    if end > depth {
        reference |= 0x8000_0000;
        file.extend([&shortest[depth..end], &[0]].concat());
    }
    if let (Some((first, _)), Some((last, _))) = (references.first_key_value(), references.last_key_value()) {
        reference |= 0x2000_0000;
        file.extend([*first, *last]);
        for byte in *first..=*last {
            file.extend(references.get(&byte).unwrap_or(&0).to_be_bytes());
        }
    }
    if let Some((_, values)) = own.into_iter().next() {
        reference |= 0x4000_0000;
        file.extend((values.len() as u32).to_be_bytes());
        let mut values = values;
        values.sort_by_key(|(priority, _)| *priority);
        for (priority, value) in values {
            file.extend(priority.to_be_bytes());
            file.extend([value.as_bytes(), &[0]].concat());
        }
    }
    reference
}

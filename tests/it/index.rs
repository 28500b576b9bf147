//! Writes module indexes as depmod(8) does, so that a fake host can be kept as text.
//!
//! Format (kmod, tools/depmod.c and libkmod-index.c): big-endian; magic, version, offset of the root. A node is an
//! optional prefix (C string), optionally the first and last byte of its children with an offset for each between, and
//! optionally values, each with a priority. The upper bits of an offset say which of the three are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;

#[derive(Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    values: Vec<(u32, String)>,
}

impl Node {
    fn build(entries: &[(Vec<u8>, u32, String)]) -> Node {
        let common = entries.iter().map(|(key, ..)| key.as_slice()).reduce(common_prefix).unwrap_or_default();
        let mut node = Node { prefix: common.to_vec(), ..Node::default() };
        let mut groups: BTreeMap<u8, Vec<(Vec<u8>, u32, String)>> = BTreeMap::new();
        for (key, priority, value) in entries {
            match key[common.len()..].split_first() {
                None => node.values.push((*priority, value.clone())),
                Some((first, rest)) => {
                    groups.entry(*first).or_default().push((rest.to_vec(), *priority, value.clone()))
                }
            }
        }
        node.children = groups.into_iter().map(|(first, group)| (first, Node::build(&group))).collect();
        node
    }

    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let offsets: BTreeMap<u8, u32> = self.children.iter().map(|(first, node)| (*first, node.write(out))).collect();
        let mut at = u32::try_from(out.len()).unwrap();
        if !self.prefix.is_empty() {
            out.extend_from_slice(&self.prefix);
            out.push(0);
            at |= PREFIX;
        }
        if let (Some((&first, _)), Some((&last, _))) = (offsets.first_key_value(), offsets.last_key_value()) {
            out.extend_from_slice(&[first, last]);
            for byte in first..=last {
                out.extend_from_slice(&offsets.get(&byte).copied().unwrap_or(0).to_be_bytes());
            }
            at |= CHILDREN;
        }
        if !self.values.is_empty() {
            out.extend_from_slice(&u32::try_from(self.values.len()).unwrap().to_be_bytes());
            for (priority, value) in &self.values {
                out.extend_from_slice(&priority.to_be_bytes());
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            }
            at |= VALUES;
        }
        at
    }
}

fn common_prefix<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let length = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    &a[..length]
}

fn index(entries: impl IntoIterator<Item = (String, String)>) -> Vec<u8> {
    let entries: Vec<_> =
        entries.into_iter().enumerate().map(|(at, (key, value))| (key.into_bytes(), at as u32, value)).collect();
    let mut out = vec![0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0, 0, 0, 0];
    let root = Node::build(&entries).write(&mut out);
    out[8..12].copy_from_slice(&root.to_be_bytes());
    out
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Writes the `.bin` files beside `modules.dep`, `modules.alias`, `modules.symbols`, `modules.builtin` and
/// `modules.builtin.alias` (lines as depmod writes them; of the last, `alias PATTERN MODULE`).
pub fn write_indexes(directory: &Path) {
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    };
    let aliases = |file: &str| {
        index(lines(file).iter().map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            // depmod writes keys as names are looked up; none of ours has a bracket, in which dashes stay.
            (words.next().unwrap().replace('-', "_"), words.next().unwrap().to_owned())
        }))
    };
    let write = |file: &str, bytes: Vec<u8>| fs::write(directory.join(file), bytes).unwrap();
    write(
        "modules.dep.bin",
        index(lines("modules.dep").into_iter().map(|line| (module_name(line.split(':').next().unwrap()), line))),
    );
    write("modules.alias.bin", aliases("modules.alias"));
    write("modules.symbols.bin", aliases("modules.symbols"));
    write("modules.builtin.bin", index(lines("modules.builtin").iter().map(|line| (module_name(line), String::new()))));
    write("modules.builtin.alias.bin", aliases("modules.builtin.alias"));
}

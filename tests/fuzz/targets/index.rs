//! The module index, damaged in any way: an answer or an error after a bounded number of reads, and no answer that the
//! keys of the file do not bear out.
//!
//! Input: a name, ended by NUL; an index file.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use modprobe_guard::model::IndexHealth;
use modprobe_guard::modules::{Config, Flags, Index, IndexFile, ReadAt, Source, Tree, glob_match, resolve};

/// Blocks of a KiB that one search may ask for; it may read 128 KiB, and each node begins anywhere.
const MOST_READS: usize = 200_000;

/// A file that counts how often it is read.
struct Counted {
    bytes: Rc<[u8]>,
    reads: Rc<Cell<usize>>,
}

impl ReadAt for Counted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        let rest = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Source for Counted {
    fn open(&self, _: IndexFile) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(Counted { bytes: Rc::clone(&self.bytes), reads: Rc::clone(&self.reads) }))
    }

    fn directory(&self) -> String {
        "/lib/modules/fuzzed".to_owned()
    }
}

/// Whether somewhere in the file there may be a list of no values.
fn has_empty_list(file: &[u8]) -> bool {
    file.windows(4).any(|number| number == [0; 4])
}

pub fn check(mut data: &[u8]) {
    let name = super::until_nul(&mut data);
    let reads = Rc::new(Cell::new(0));
    let file = Counted { bytes: Rc::from(data), reads: Rc::clone(&reads) };
    let opened = Index::open(file.open(IndexFile::Dep).unwrap());
    if let Ok(index) = opened {
        let found = index.find(name);
        let matching = index.matching(name);
        assert!(reads.take() < MOST_READS);
        if let Ok(keys) = index.keys() {
            assert!(keys.is_sorted(), "{keys:?}");
            for key in keys.iter().take(100) {
                // Every key leads to its own value, unless that is damaged or there is none.
                let own = index.find(key);
                assert!(!matches!(own, Ok(None)) || has_empty_list(data), "{}: {own:?}", key.escape_ascii());
            }
            if let Ok(found) = &found {
                assert!(found.is_none() || keys.iter().any(|key| key == name), "{}", name.escape_ascii());
            }
            // What matches does so by a key that there is, and no key that does is left out.
            if let Ok(matching) = &matching {
                let hits: Vec<&Vec<u8>> = keys.iter().filter(|key| glob_match(key, name)).collect();
                assert!(matching.is_empty() || !hits.is_empty(), "{}: {matching:?}", name.escape_ascii());
            }
        }
        if let Ok(matching) = &matching {
            assert!(matching.is_sorted_by(|a, b| a.priority <= b.priority));
        }
    }
    // The same bytes for each of the files: all of a request's way, in an index that leads anywhere.
    reads.take();
    let config = Config::parse([("a.conf".to_owned(), &b"softdep a pre: b post: c\nalias x* a\n"[..])], "");
    let tree = Tree::new(file);
    let closure = resolve(name, Flags::default(), &tree, &config, |_| false);
    assert!(reads.get() < 20 * MOST_READS, "{} reads", reads.get());
    for (at, module) in closure.modules.iter().enumerate() {
        assert!(closure.modules[..at].iter().all(|other| other.name != module.name), "{} comes twice", module.name);
    }
    if let IndexHealth::Partial(errors) = &closure.index {
        assert!(!errors.is_empty() && errors.iter().all(|error| super::is_printable(error)), "{errors:?}");
    }
}

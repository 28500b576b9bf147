//! Index files that are damaged, cut short, or change while they are read: an answer or an error, and soon.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use modprobe_guard::model::IndexHealth;
use modprobe_guard::modules::{Config, Flags, IndexFile, ReadAt, Source, Tree, resolve};

use crate::kernel::Kernel;
use crate::random::Random;

/// Our own work ends within 2 s in any case; the index may take a part of it.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Some bytes of what is read are others.
    Flipped,
    /// The file ends somewhere before.
    Cut,
    /// The file is emptied after some reads.
    Emptied,
    /// A read fails now and then.
    Failing,
    /// Nothing but noise behind the header.
    Noise,
}

type Files = Rc<BTreeMap<IndexFile, Vec<u8>>>;

struct Damaged {
    files: Files,
    damage: Damage,
    seed: u64,
}

struct DamagedFile {
    files: Files,
    file: IndexFile,
    damage: Damage,
    random: RefCell<Random>,
    end: usize,
    reads: RefCell<usize>,
}

impl Source for Damaged {
    fn open(&self, file: IndexFile) -> io::Result<Box<dyn ReadAt>> {
        let mut random = Random::new(self.seed * 8 + file as u64);
        let length = self.files[&file].len();
        let end = if matches!(self.damage, Damage::Cut) { random.below(length) } else { length };
        let reads = RefCell::new(random.below(12));
        let files = Rc::clone(&self.files);
        Ok(Box::new(DamagedFile { files, file, damage: self.damage, random: RefCell::new(random), end, reads }))
    }

    fn directory(&self) -> String {
        "/lib/modules/damaged".to_owned()
    }
}

impl ReadAt for DamagedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut random = self.random.borrow_mut();
        let end = match (self.damage, &mut *self.reads.borrow_mut()) {
            (Damage::Emptied, 0) => 0,
            (_, reads) => {
                *reads = reads.saturating_sub(1);
                self.end
            }
        };
        if matches!(self.damage, Damage::Failing) && random.below(6) == 0 {
            return Err(io::ErrorKind::Other.into());
        }
        let bytes = &self.files[&self.file][..end];
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        if count > 0 && matches!(self.damage, Damage::Flipped) {
            let flips = 1 << random.below(8);
            for _ in 0..random.below(flips) {
                buffer[random.below(count)] = random.byte();
            }
        }
        if matches!(self.damage, Damage::Noise) {
            // Small numbers and the flags of nodes make noise that leads somewhere.
            for byte in &mut buffer[if offset == 0 { 12 } else { 0 }..count] {
                *byte = *random.pick(&[0, 0, 1, 2, b'*', b'?', b'[', b'a', b'_', 0x20, 0x60, 0xE0, 0x12, 0x7F]);
            }
        }
        Ok(count)
    }
}

#[test]
fn damaged_indexes_end_in_an_answer_or_an_error() {
    let kernel = Kernel::unpacked();
    let read = |file: IndexFile| (file, fs::read(kernel.directory().join(file.name())).unwrap());
    let files: Files = Rc::new(IndexFile::ALL.into_iter().map(read).collect());
    let softdep = fs::read(kernel.directory().join("modules.softdep")).unwrap();
    let config = Config::parse([("modules.softdep".to_owned(), softdep.as_slice())], "");
    let names = kernel.names();
    let (mut longest, mut told, mut resolved, mut total) = (Duration::ZERO, 0, 0, 0);
    for damage in [Damage::Flipped, Damage::Cut, Damage::Emptied, Damage::Failing, Damage::Noise] {
        for seed in 0..400 {
            let tree = Tree::new(Damaged { files: Rc::clone(&files), damage, seed });
            let mut random = Random::new(seed);
            for _ in 0..10 {
                let name = random.pick(&names);
                let begin = Instant::now();
                let closure = resolve(name, Flags::default(), &tree, &config, |_| false);
                let took = begin.elapsed();
                assert!(took < LIMIT, "{damage:?} {seed} {}: {took:?}", name.escape_ascii());
                longest = longest.max(took);
                total += 1;
                told += usize::from(closure.index != IndexHealth::Intact);
                resolved += usize::from(closure.is_known());
            }
        }
    }
    println!(
        "damaged indexes: {total} names, {told} with errors told, {resolved} still resolved, the longest took {longest:?}"
    );
    assert!(told > total / 10 && resolved > total / 10);
}

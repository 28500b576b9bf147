//! Reading a file in blocks, bounds-checked, while it may change or shrink.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;

use crate::text::Text;

/// Reading at an offset, as pread(2) does. No memory map: one whose file is cut short kills the process.
pub trait ReadAt {
    /// Fills as much of `buffer` as there is from byte `offset`; 0 at and behind the end.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let both = buffer.iter_mut().zip(rest);
        Ok(both.map(|(to, from)| *to = *from).count())
    }
}

/// What is wrong with an index file.
#[derive(Debug)]
pub enum Damage {
    /// read(2) failed.
    Read(io::Error),
    /// It ends where an entry goes on.
    Ends {
        /// Offset of the byte that is not there.
        at: u64,
    },
    /// It begins with no index header.
    NoIndex,
    /// Its format has another major version than 2.
    Version(u32),
    /// What stands there is no entry.
    Entry {
        /// Offset of the entry.
        at: u64,
    },
    /// A value makes no sense.
    Value(Vec<u8>),
    /// A search in it does not end: its nodes lead in a circle.
    Endless,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Read(error) => write!(f, "cannot be read: {error}"),
            Damage::Ends { at } => write!(f, "is cut short: ends at or before byte {at}, in the middle of an entry"),
            Damage::NoIndex => write!(f, "is no module index: begins with other bytes"),
            Damage::Version(version) => write!(f, "has index format {}, not 2", version >> 16),
            Damage::Entry { at } => write!(f, "is damaged: no valid entry at byte {at}"),
            Damage::Value(value) => write!(f, "is damaged: holds \"{}\"", Text::from(value.as_slice())),
            Damage::Endless => write!(f, "is damaged: its entries lead in a circle"),
        }
    }
}

/// Bytes a block.
const BLOCK: usize = 4096;
/// Blocks that are kept, by their number modulo this: 128 KiB.
const KEPT: usize = 32;

/// A file, of which the blocks read last are kept.
pub struct Blocks {
    file: Box<dyn ReadAt>,
    kept: RefCell<Vec<Option<Block>>>,
}

struct Block {
    number: u64,
    bytes: Box<[u8; BLOCK]>,
    /// How many of them were read.
    length: usize,
}

impl Blocks {
    /// Reads nothing yet.
    pub fn new(file: Box<dyn ReadAt>) -> Blocks {
        Blocks { file, kept: RefCell::default() }
    }

    /// What `take` makes of the bytes from `offset` to the end of its block; at least one.
    fn at<T>(&self, offset: u64, take: impl FnOnce(&[u8]) -> T) -> Result<T, Damage> {
        let number = offset / BLOCK as u64;
        let within = (offset % BLOCK as u64) as usize;
        let mut kept = self.kept.borrow_mut();
        if kept.is_empty() {
            kept.resize_with(KEPT, || None);
        }
        let slot = kept.get_mut((number % KEPT as u64) as usize).ok_or(Damage::Ends { at: offset })?;
        let block = match slot {
            Some(block) if block.number == number => block,
            slot => slot.insert(Block { number, bytes: Box::new([0; BLOCK]), length: 0 }),
        };
        self.read(block, within)?;
        let bytes = block.bytes.get(within..block.length).filter(|bytes| !bytes.is_empty());
        bytes.map(take).ok_or(Damage::Ends { at: offset })
    }

    /// Reads the block on until it has the byte `within`, or the file ends. Mostly one read brings the whole block, or
    /// all that the file's last one has.
    fn read(&self, block: &mut Block, within: usize) -> Result<(), Damage> {
        while block.length <= within {
            let rest = block.bytes.get_mut(block.length..).unwrap_or_default();
            match self.file.read_at(rest, block.number * BLOCK as u64 + block.length as u64) {
                Ok(0) => break,
                Ok(count) => block.length = block.length.saturating_add(count).min(BLOCK),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(Damage::Read(error)),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// A place in a file from which on is read.
pub struct Cursor<'a> {
    blocks: &'a Blocks,
    /// Offset of the next byte.
    pub at: u64,
    /// Bytes that this search may still read; shared by all its cursors.
    left: &'a Cell<u32>,
}

impl<'a> Cursor<'a> {
    /// Reads `blocks` from byte `at` on, at most `left` bytes.
    pub fn new(blocks: &'a Blocks, at: u64, left: &'a Cell<u32>) -> Cursor<'a> {
        Cursor { blocks, at, left }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Damage> {
        let byte = self.blocks.at(self.at, |rest| rest.first().copied())?;
        self.pass(1)?;
        byte.ok_or(Damage::Ends { at: self.at })
    }

    /// The next four bytes as a number, most significant first.
    pub fn number(&mut self) -> Result<u32, Damage> {
        // At once where no block ends in between, and so with a text: byte by byte took a tenth of a whole request.
        if let Some(bytes) = self.blocks.at(self.at, |rest| rest.first_chunk().copied())? {
            self.pass(4)?;
            return Ok(u32::from_be_bytes(bytes));
        }
        Ok(u32::from_be_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    /// The bytes up to the next NUL, which is passed as well.
    pub fn text(&mut self) -> Result<Vec<u8>, Damage> {
        let mut text = Vec::new();
        loop {
            let (length, ends) = self.blocks.at(self.at, |rest| {
                let part = rest.split(|&byte| byte == 0).next().unwrap_or(rest);
                text.extend_from_slice(part);
                (part.len(), part.len() < rest.len())
            })?;
            self.pass(length + usize::from(ends))?;
            if ends {
                return Ok(text);
            }
        }
    }

    /// Goes on by `count` bytes.
    fn pass(&mut self, count: usize) -> Result<(), Damage> {
        let left = u32::try_from(count).ok().and_then(|count| self.left.get().checked_sub(count));
        self.left.set(left.ok_or(Damage::Endless)?);
        self.at += count as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives two bytes at a time, is interrupted before each, and fails behind the limit.
    struct Slow(Vec<u8>, Cell<bool>);

    impl ReadAt for Slow {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if self.1.replace(!self.1.get()) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if offset >= BLOCK as u64 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let length = buffer.len().min(2);
            self.0.read_at(&mut buffer[..length], offset)
        }
    }

    #[test]
    fn reads_across_blocks_and_tells_where_it_ends() {
        let mut bytes = vec![b'x'; BLOCK * (KEPT + 2)];
        bytes[BLOCK - 2..BLOCK + 2].copy_from_slice(&[0, 1, 2, 3]);
        bytes[BLOCK + 2] = 0;
        bytes[BLOCK * KEPT] = b'y';
        let length = bytes.len() as u64;
        let (blocks, left) = (Blocks::new(Box::new(bytes)), Cell::new(u32::MAX));
        assert_eq!(Cursor::new(&blocks, BLOCK as u64 - 2, &left).number().unwrap(), 0x010203);
        assert_eq!(Cursor::new(&blocks, BLOCK as u64 - 3, &left).text().unwrap(), b"x");
        assert_eq!(Cursor::new(&blocks, BLOCK as u64, &left).text().unwrap(), [2, 3]);
        // The block that takes the place of another one gives its own bytes.
        assert_eq!(Cursor::new(&blocks, (BLOCK * KEPT) as u64, &left).byte().unwrap(), b'y');
        assert_eq!(Cursor::new(&blocks, BLOCK as u64 - 1, &left).byte().unwrap(), 1);
        for at in [length, u64::MAX] {
            assert!(matches!(Cursor::new(&blocks, at, &left).byte(), Err(Damage::Ends { at: found }) if found == at));
        }
        assert!(matches!(Cursor::new(&blocks, length - 9, &left).text(), Err(Damage::Ends { at }) if at == length));
    }

    #[test]
    fn short_and_interrupted_reads_go_on_and_errors_are_told() {
        let blocks = Blocks::new(Box::new(Slow(b"abcdefg\0".to_vec(), Cell::new(true))));
        let left = Cell::new(u32::MAX);
        assert_eq!(Cursor::new(&blocks, 0, &left).text().unwrap(), b"abcdefg");
        assert!(matches!(Cursor::new(&blocks, BLOCK as u64, &left).byte(), Err(Damage::Read(_))));
    }

    #[test]
    fn a_search_may_not_read_for_ever() {
        let (blocks, left) = (Blocks::new(Box::new(vec![b'x'; 100])), Cell::new(10));
        assert!(matches!(Cursor::new(&blocks, 0, &left).text(), Err(Damage::Endless)));
    }
}

//! ELF, as far as modules go: elf(5).
#![forbid(unsafe_code)]

use super::{Flaw, c_text};

/// A section's number for symbols that others are to define, and for those that are plain numbers.
pub const UNDEFINED: u16 = 0;
pub const ABSOLUTE: u16 = 0xfff1;
/// Kinds of section that matter: a table of symbols, and one that has no bytes in the file.
const SYMBOLS: u32 = 2;
const NO_BYTES: u32 = 8;
/// A relocatable object, an executable, a shared object (or an executable that can lie anywhere).
pub const RELOCATABLE: u16 = 1;
pub const EXECUTABLE: u16 = 2;
pub const SHARED: u16 = 3;
/// A shared library that is needed, among the entries of `.dynamic`.
const NEEDED: u64 = 1;

/// An ELF object whose sections all lie within it.
pub struct Elf<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    /// 64 bits.
    pub is_wide: bool,
    /// `e_machine`.
    pub machine: u16,
    sections: Vec<Section>,
}

/// A section's header.
#[derive(Clone, Debug)]
pub struct Section {
    name: String,
    name_at: u64,
    kind: u32,
    start: usize,
    length: usize,
    link: u32,
}

/// A symbol.
pub struct Symbol {
    pub name: String,
    pub value: u64,
    pub section: u16,
}

impl<'a> Elf<'a> {
    /// Reads an object of one of `kinds`.
    pub fn parse(bytes: &'a [u8], kinds: &[u16]) -> Result<Elf<'a>, Flaw> {
        if bytes.is_empty() {
            return Err(Flaw::Empty);
        }
        let magic = b"\x7fELF";
        if !bytes.starts_with(magic.get(..bytes.len().min(4)).unwrap_or(magic)) {
            return Err(Flaw::NotElf);
        }
        let mut elf = Elf { bytes, is_big_endian: false, is_wide: false, machine: 0, sections: Vec::new() };
        let (Some(class), Some(order)) = (bytes.get(4), bytes.get(5)) else { return Err(elf.cut(6)) };
        elf.is_wide = *class == 2;
        elf.is_big_endian = *order == 2;
        if !matches!(class, 1 | 2) || !matches!(order, 1 | 2) {
            return Err(Flaw::Nonsense("header"));
        }
        let kind = elf.half(16)?;
        if !kinds.contains(&kind) {
            return Err(Flaw::OtherKind(kind));
        }
        elf.machine = elf.half(18)?;
        let (table, size, count, names) = match elf.is_wide {
            true => (elf.number(40, 8)?, elf.half(58)?, elf.half(60)?, elf.half(62)?),
            false => (elf.number(32, 4)?, elf.half(46)?, elf.half(48)?, elf.half(50)?),
        };
        if count == 0 || u64::from(size) < if elf.is_wide { 64 } else { 40 } {
            return Err(Flaw::Nonsense("header"));
        }
        let end = table.saturating_add(u64::from(size) * u64::from(count));
        if end > bytes.len() as u64 {
            return Err(elf.cut(end));
        }
        for number in 0..u64::from(count) {
            let section = elf.header(table.saturating_add(number * u64::from(size)))?;
            elf.sections.push(section);
        }
        let names = elf.sections.get(usize::from(names)).cloned().ok_or(Flaw::Nonsense("header"))?;
        let names = elf.bytes(&names);
        for section in &mut elf.sections {
            let at = usize::try_from(section.name_at).ok();
            section.name = at.and_then(|at| names.get(at..)).map(c_text).ok_or(Flaw::Nonsense("list of sections"))?;
        }
        Ok(elf)
    }

    fn header(&self, at: u64) -> Result<Section, Flaw> {
        let wide = self.is_wide;
        let field = |narrow: (u64, usize), as_wide: (u64, usize)| {
            let (offset, length) = if wide { as_wide } else { narrow };
            self.number(at.saturating_add(offset), length)
        };
        let kind = self.number(at.saturating_add(4), 4)?;
        let (start, length) = (field((16, 4), (24, 8))?, field((20, 4), (32, 8))?);
        let link = field((24, 4), (40, 4))?;
        let kind = u32::try_from(kind).unwrap_or(0);
        // An unused header counts for nothing.
        let has_bytes = kind != NO_BYTES && kind != 0;
        let end = start.checked_add(length).ok_or(Flaw::Nonsense("list of sections"))?;
        if has_bytes && end > self.bytes.len() as u64 {
            return Err(self.cut(end));
        }
        let within = |number: u64| if has_bytes { usize::try_from(number).unwrap_or(0) } else { 0 };
        Ok(Section {
            name: String::new(),
            name_at: self.number(at, 4)?,
            kind,
            start: within(start),
            length: within(length),
            link: u32::try_from(link).unwrap_or(0),
        })
    }

    fn cut(&self, wanted: u64) -> Flaw {
        Flaw::CutShort { wanted, length: self.bytes.len() as u64 }
    }

    fn half(&self, at: u64) -> Result<u16, Flaw> {
        Ok(u16::try_from(self.number(at, 2)?).unwrap_or(0))
    }

    /// The number of `length` bytes that begins at byte `at`.
    fn number(&self, at: u64, length: usize) -> Result<u64, Flaw> {
        let start = usize::try_from(at).map_err(|_| self.cut(at))?;
        let bytes = start.checked_add(length).and_then(|end| self.bytes.get(start..end));
        bytes.map(|bytes| self.value(bytes)).ok_or_else(|| self.cut(at.saturating_add(length as u64)))
    }

    fn value(&self, bytes: &[u8]) -> u64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }

    /// The lower 32 bits of a number as it stands in the file.
    pub fn low_half(&self, bytes: &[u8]) -> Option<u32> {
        u32::try_from(self.value(bytes) & u64::from(u32::MAX)).ok()
    }

    /// The section with that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Its bytes.
    pub fn bytes(&self, section: &Section) -> &'a [u8] {
        self.bytes.get(section.start..section.start.saturating_add(section.length)).unwrap_or_default()
    }

    /// Four bytes at `at` in the section of that number.
    pub fn word_in(&self, section: u16, at: u64) -> Option<u32> {
        let bytes = self.bytes(self.sections.get(usize::from(section))?);
        let at = usize::try_from(at).ok()?;
        self.low_half(bytes.get(at..at.checked_add(4)?)?)
    }

    /// The shared libraries that it can't be started without.
    pub fn libraries(&self) -> Vec<String> {
        let (Some(dynamic), Some(names)) = (self.section(".dynamic"), self.section(".dynstr")) else {
            return Vec::new();
        };
        let (half, names) = (if self.is_wide { 8 } else { 4 }, self.bytes(names));
        let entries = self.bytes(dynamic).chunks_exact(2 * half);
        let pairs = entries.filter_map(|entry| entry.split_at_checked(half));
        let needed = pairs.filter(|(tag, _)| self.value(tag) == NEEDED);
        needed.filter_map(|(_, at)| names.get(usize::try_from(self.value(at)).ok()?..).map(c_text)).collect()
    }

    /// All symbols.
    pub fn symbols(&self) -> Result<Vec<Symbol>, Flaw> {
        let Some(table) = self.sections.iter().find(|section| section.kind == SYMBOLS) else { return Ok(Vec::new()) };
        let names = usize::try_from(table.link).ok().and_then(|link| self.sections.get(link));
        let names = self.bytes(names.ok_or(Flaw::Nonsense("table of symbols"))?);
        // NAME INFO OTHER SECTION VALUE SIZE, or in 32 bits NAME VALUE SIZE INFO OTHER SECTION.
        let (size, value, value_length, section) = if self.is_wide { (24, 8, 8, 6) } else { (16, 4, 4, 14) };
        let entries = self.bytes(table).chunks_exact(size);
        let symbol = |entry: &[u8]| {
            let name = usize::try_from(self.value(entry.get(..4)?)).ok()?;
            Some(Symbol {
                name: names.get(name..).map(c_text)?,
                value: self.value(entry.get(value..value + value_length)?),
                section: u16::try_from(self.value(entry.get(section..section + 2)?)).ok()?,
            })
        };
        entries.map(|entry| symbol(entry).ok_or(Flaw::Nonsense("table of symbols"))).collect()
    }
}

//! What is in a module's file: a relocatable ELF object, perhaps compressed, perhaps signed.
//!
//! Nothing here believes a length or an offset that the file gives: whatever lies beyond its end is a [`Flaw`].
#![forbid(unsafe_code)]

mod compression;
mod elf;
mod signature;

use std::fmt;

pub use compression::{Compression, unpack};
pub use signature::Signature;

use elf::Elf;

/// The longest module that is unpacked, bytes.
const LONGEST: usize = 512 << 20;

/// What a module's file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The module's name, as it was built (`name=` of `.modinfo`; since Linux 4.12).
    pub name: Option<String>,
    /// What it was built for: a release and how that kernel is configured.
    pub vermagic: Option<String>,
    /// The modules that it needs, by name (`depends=`).
    pub depends: Vec<String>,
    /// The processor that it was built for.
    pub machine: Machine,
    /// Symbols that it takes from others, with the version that it was built against, where the kernel has versions.
    pub needs: Vec<(String, Option<u32>)>,
    /// Symbols that it gives to others, with their version.
    pub exports: Vec<(String, Option<u32>)>,
    /// What stands at its end.
    pub signature: Option<Signature>,
    /// All that `.modinfo` says: key and value, in order.
    pub info: Vec<(String, String)>,
}

/// A processor's kind (`e_machine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine(pub u16);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            3 => f.write_str("x86"),
            20 => f.write_str("powerpc"),
            21 => f.write_str("powerpc64"),
            22 => f.write_str("s390"),
            40 => f.write_str("arm"),
            62 => f.write_str("x86-64"),
            183 => f.write_str("aarch64"),
            243 => f.write_str("riscv"),
            258 => f.write_str("loongarch"),
            other => write!(f, "processor {other}"),
        }
    }
}

/// Why a file is no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It holds nothing.
    Empty,
    /// It is no ELF file.
    NotElf,
    /// It is an ELF file, of another kind than a module.
    OtherKind(u16),
    /// It ends before what it says is there.
    CutShort {
        /// The first byte that should be there and is not.
        wanted: u64,
        /// Bytes that there are.
        length: u64,
    },
    /// A part of it makes no sense; which.
    Nonsense(&'static str),
    /// It is compressed, and what is compressed is damaged; by what.
    Packed(Compression, String),
    /// Unpacked it would be longer than this, bytes.
    TooLong(usize),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Empty => f.write_str("is empty"),
            Flaw::NotElf => f.write_str("is no ELF file"),
            Flaw::OtherKind(kind) => write!(f, "is an ELF file of kind {kind}, no module"),
            Flaw::CutShort { wanted, length } => {
                write!(f, "is cut short: has {length} bytes, and says that byte {wanted} is there")
            }
            Flaw::Nonsense(part) => write!(f, "is damaged: its {part} makes no sense"),
            Flaw::Packed(compression, error) => write!(f, "is damaged: can't be unpacked ({compression}): {error}"),
            Flaw::TooLong(limit) => write!(f, "is longer than {limit} bytes when unpacked"),
        }
    }
}

impl Object {
    /// Reads a module's file, unpacking it first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Object, Flaw> {
        if bytes.is_empty() {
            return Err(Flaw::Empty);
        }
        Object::parse(&unpack(bytes, LONGEST)?)
    }

    /// Reads a module that is not compressed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Object, Flaw> {
        let signature = Signature::of(bytes);
        let elf = Elf::parse(bytes, &[elf::RELOCATABLE])?;
        let info = modinfo(elf.section(".modinfo").map(|section| elf.bytes(section)).unwrap_or_default());
        let value = |key: &str| info.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        // Every module has it: without, this is some other object, or a part of one.
        if elf.section(".gnu.linkonce.this_module").is_none() || info.is_empty() {
            return Err(Flaw::Nonsense("list of sections (without .modinfo or .gnu.linkonce.this_module)"));
        }
        let symbols = elf.symbols()?;
        let mut needs = versions(&elf);
        for symbol in symbols.iter().filter(|symbol| symbol.section == elf::UNDEFINED && !symbol.name.is_empty()) {
            if !needs.iter().any(|(name, _)| *name == symbol.name) {
                needs.push((symbol.name.clone(), None));
            }
        }
        let depends = value("depends").unwrap_or_default();
        Ok(Object {
            name: value("name"),
            vermagic: value("vermagic"),
            depends: depends.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            machine: Machine(elf.machine),
            exports: exports(&elf, &symbols),
            needs,
            signature,
            info,
        })
    }

    /// Whether it was built as a part of the kernel's own sources (`intree=`).
    pub fn is_in_tree(&self) -> bool {
        self.info.iter().any(|(key, value)| key == "intree" && value == "Y")
    }
}

/// The shared libraries that a program can't be started without; none if it is no ELF file, or a static one.
pub fn libraries(program: &[u8]) -> Vec<String> {
    Elf::parse(program, &[elf::EXECUTABLE, elf::SHARED]).map_or_else(|_| Vec::new(), |elf| elf.libraries())
}

/// `key=value`, each ended by a NUL.
fn modinfo(bytes: &[u8]) -> Vec<(String, String)> {
    let lines = bytes.split(|&byte| byte == 0).filter(|line| !line.is_empty());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    lines
        .filter_map(|line| {
            let equals = line.iter().position(|&byte| byte == b'=')?;
            Some((text(line.get(..equals)?), text(line.get(equals + 1..)?)))
        })
        .collect()
}

/// The versions of symbols that the module was built against: `__versions`, entries of 64 bytes (`struct
/// modversion_info`, include/linux/module.h), or the two sections that take longer names (6.14 and later).
fn versions(elf: &Elf) -> Vec<(String, Option<u32>)> {
    let mut found = Vec::new();
    if let Some(section) = elf.section("__versions") {
        let bytes = elf.bytes(section);
        let crc_length = if elf.is_wide { 8 } else { 4 };
        for entry in bytes.chunks_exact(64) {
            let (crc, name) = entry.split_at_checked(crc_length).unwrap_or_default();
            let name = c_text(name);
            if !name.is_empty() {
                found.push((name, elf.low_half(crc)));
            }
        }
    }
    let names = elf.section("__version_ext_names").map(|section| elf.bytes(section));
    let crcs = elf.section("__version_ext_crcs").map(|section| elf.bytes(section));
    if let (Some(names), Some(crcs)) = (names, crcs) {
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        for (name, crc) in names.zip(crcs.chunks_exact(4)) {
            let name = String::from_utf8_lossy(name).into_owned();
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, elf.low_half(crc)));
            }
        }
    }
    found
}

/// What it exports: a symbol `__ksymtab_NAME` for each, and one `__crc_NAME`, whose value is the version or where it
/// stands.
fn exports(elf: &Elf, symbols: &[elf::Symbol]) -> Vec<(String, Option<u32>)> {
    let crcs: std::collections::HashMap<&str, u32> = symbols
        .iter()
        .filter_map(|symbol| {
            let name = symbol.name.strip_prefix("__crc_")?;
            let crc = match symbol.section {
                elf::UNDEFINED => return None,
                elf::ABSOLUTE => u32::try_from(symbol.value & u64::from(u32::MAX)).ok()?,
                section => elf.word_in(section, symbol.value)?,
            };
            Some((name, crc))
        })
        .collect();
    let names = symbols.iter().filter(|symbol| symbol.section != elf::UNDEFINED);
    let names = names.filter_map(|symbol| symbol.name.strip_prefix("__ksymtab_"));
    names.map(|name| (name.to_owned(), crcs.get(name).copied())).collect()
}

fn c_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

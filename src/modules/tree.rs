//! The module index of one kernel: its files, opened when first needed.
#![forbid(unsafe_code)]

use std::io;

use once_cell::unsync::OnceCell;

use super::blocks::{Damage, ReadAt};
use super::index::Index;

/// A file of the module index, by what its keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexFile {
    /// Module names; the value is the module's file, a colon, and the files it depends on.
    Dep,
    /// Aliases that stand in the modules themselves; patterns. The values are module names.
    Alias,
    /// `symbol:NAME` for every exported symbol.
    Symbols,
    /// Names of the modules that are part of the kernel image.
    Builtin,
    /// Their aliases.
    BuiltinAlias,
}

impl IndexFile {
    /// All of them, in the order of the enumeration.
    pub const ALL: [IndexFile; 5] =
        [IndexFile::Dep, IndexFile::Alias, IndexFile::Symbols, IndexFile::Builtin, IndexFile::BuiltinAlias];

    /// Its name in `/lib/modules/KERNEL`.
    pub fn name(self) -> &'static str {
        match self {
            IndexFile::Dep => "modules.dep.bin",
            IndexFile::Alias => "modules.alias.bin",
            IndexFile::Symbols => "modules.symbols.bin",
            IndexFile::Builtin => "modules.builtin.bin",
            IndexFile::BuiltinAlias => "modules.builtin.alias.bin",
        }
    }

    /// Whether kmod does without it: depmod writes `modules.builtin.alias.bin` since kmod 27 only.
    pub fn is_optional(self) -> bool {
        self == IndexFile::BuiltinAlias
    }
}

/// Where the files of one kernel's index come from.
pub trait Source {
    /// Opens `file`.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self, file: IndexFile) -> io::Result<Box<dyn ReadAt>>;

    /// The directory that holds the files, as a person knows it.
    fn directory(&self) -> String;
}

/// The module index of one kernel.
pub struct Tree {
    source: Box<dyn Source>,
    opened: [OnceCell<Index>; IndexFile::ALL.len()],
}

/// Why an index file could not be read.
#[derive(Debug)]
pub enum Unopened {
    /// It is not there.
    Absent,
    /// open(2) failed otherwise.
    Open(io::Error),
    /// It is no index.
    Damaged(Damage),
}

impl Unopened {
    /// The same for a person: which file of `tree`, what is wrong, what to do.
    pub(super) fn of(&self, tree: &Tree, file: IndexFile) -> String {
        let what = match self {
            Unopened::Absent => "is not there".to_owned(),
            Unopened::Open(error) => format!("cannot be opened: {error}"),
            Unopened::Damaged(damage) => damage.to_string(),
        };
        format!("{}/{}: {what}: run depmod", tree.directory(), file.name())
    }
}

impl From<Damage> for Unopened {
    fn from(damage: Damage) -> Unopened {
        Unopened::Damaged(damage)
    }
}

impl Tree {
    /// Opens nothing yet.
    pub fn new(source: impl Source + 'static) -> Tree {
        Tree { source: Box::new(source), opened: Default::default() }
    }

    /// The index in `file`, opened at most once.
    ///
    /// # Errors
    /// If it can't be opened or its header is not that of an index; the next call tries again.
    pub fn index(&self, file: IndexFile) -> Result<&Index, Unopened> {
        let cell = self.opened.get(file as usize).ok_or(Unopened::Absent)?;
        cell.get_or_try_init(|| {
            let opened = self.source.open(file).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unopened::Absent,
                _ => Unopened::Open(error),
            })?;
            Index::open(opened).map_err(Unopened::Damaged)
        })
    }

    /// Whether not one of the files is there that every index has.
    pub fn is_absent(&self) -> bool {
        let mut needed = IndexFile::ALL.into_iter().filter(|file| !file.is_optional());
        needed.all(|file| matches!(self.index(file), Err(Unopened::Absent)))
    }

    /// The directory that holds the files, as a person knows it.
    pub fn directory(&self) -> String {
        self.source.directory()
    }
}

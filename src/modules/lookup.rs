//! What a name stands for: kmod's order of looking it up (`kmod_module_new_from_lookup`).
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use super::blocks::Damage;
use super::config::{Config, Entry};
use super::index::Index;
use super::names::{module_name, module_of_path, normalise};
use super::tree::{IndexFile, Tree, Unopened};
use crate::model::IndexHealth;

/// kmod gives a whole alias up when module and alias together are longer, bytes (`PATH_MAX`).
const LONGEST_KEY: usize = 4096;

/// One thing that a name stands for.
#[derive(Debug)]
pub struct Found<'a> {
    /// The module, or what is taken for one.
    pub name: Vec<u8>,
    /// The alias that led there, if one did.
    pub alias: Option<Vec<u8>>,
    /// The `install` line that alone knows the name.
    pub(super) command: Option<&'a Entry>,
    /// Whether it comes out of an index of the kernel image.
    pub builtin: bool,
}

/// What `modules.dep.bin` knows of a module.
#[derive(Clone)]
pub enum Dependencies {
    /// The modules it depends on, in load order.
    Known(Rc<[Vec<u8>]>),
    /// There is no such module.
    NoModule,
    /// The file can't be read.
    Unreadable,
}

/// Looks names up in the configuration and the index, and remembers what could not be read.
pub struct Lookup<'a> {
    tree: &'a Tree,
    config: &'a Config,
    errors: RefCell<Errors>,
}

#[derive(Default)]
struct Errors {
    texts: Vec<String>,
    any_absent: bool,
}

impl<'a> Lookup<'a> {
    /// Reads nothing yet.
    pub fn new(tree: &'a Tree, config: &'a Config) -> Lookup<'a> {
        Lookup { tree, config, errors: RefCell::default() }
    }

    /// All that `name` stands for, from the first place that knows it.
    pub fn targets(&self, name: &[u8]) -> Vec<Found<'a>> {
        let Some(name) = normalise(name).filter(|name| !name.contains(&0)) else { return Vec::new() };
        let name = name.as_ref();
        let plain = |command, builtin| vec![Found { name: module_name(name), alias: None, command, builtin }];

        let configured = self.config.aliases_of(name).map(|entry| (entry.value.clone(), entry.key.clone()));
        let configured = aliased(configured, false);
        if configured.as_ref().is_none_or(|found| !found.is_empty()) {
            return configured.unwrap_or_default();
        }
        // No module has a colon in its name.
        if !name.contains(&b':') && self.read(IndexFile::Dep, |index| index.find(name)).flatten().is_some() {
            return plain(None, false);
        }
        let by_symbol =
            if name.starts_with(b"symbol:") { self.indexed(IndexFile::Symbols, name) } else { Some(vec![]) };
        if by_symbol.as_ref().is_none_or(|found| !found.is_empty()) {
            return by_symbol.unwrap_or_default();
        }
        let command = self.config.install_named(name);
        if command.is_some() || self.config.remove_named(name).is_some() {
            return plain(command, false);
        }
        let by_alias = self.indexed(IndexFile::Alias, name);
        if by_alias.as_ref().is_none_or(|found| !found.is_empty()) {
            return by_alias.unwrap_or_default();
        }
        if self.is_builtin(name) {
            return plain(None, true);
        }
        self.indexed(IndexFile::BuiltinAlias, name).unwrap_or_default()
    }

    /// What the alias index `file` has for `name`; `None` if kmod gives the name up.
    fn indexed(&self, file: IndexFile, name: &[u8]) -> Option<Vec<Found<'a>>> {
        let values = self.read(file, |index| index.matching(name)).unwrap_or_default();
        aliased(values.into_iter().map(|value| (value.text, name.to_vec())), file == IndexFile::BuiltinAlias)
    }

    /// The modules that aliases, of the configuration or the index, make of `name`.
    pub fn aliased(&self, name: &[u8]) -> Vec<Vec<u8>> {
        self.targets(name).into_iter().filter(|found| found.alias.is_some()).map(|found| found.name).collect()
    }

    /// What has to be loaded before `module`.
    pub fn dependencies(&self, module: &[u8]) -> Dependencies {
        let read = self.read(IndexFile::Dep, |index| match index.find(module)? {
            None => Ok(Dependencies::NoModule),
            Some(line) => dependencies_in(&line).map(Dependencies::Known).ok_or(Damage::Value(line)),
        });
        read.unwrap_or(Dependencies::Unreadable)
    }

    /// Whether `module` is part of the kernel image.
    pub fn is_builtin(&self, module: &[u8]) -> bool {
        self.read(IndexFile::Builtin, |index| index.find(module)).flatten().is_some()
    }

    /// How much of what was looked for could be read.
    pub fn health(self) -> IndexHealth {
        let errors = self.errors.into_inner();
        if errors.texts.is_empty() {
            IndexHealth::Intact
        } else if errors.any_absent && self.tree.is_absent() {
            IndexHealth::Missing(format!(
                "{}: holds no module index: install the modules of this kernel, then run depmod",
                self.tree.directory()
            ))
        } else {
            IndexHealth::Partial(errors.texts)
        }
    }

    fn read<T>(&self, file: IndexFile, search: impl FnOnce(&Index) -> Result<T, Damage>) -> Option<T> {
        let unread = match self.tree.index(file) {
            Ok(index) => match search(index) {
                Ok(found) => return Some(found),
                Err(damage) => Unopened::Damaged(damage),
            },
            Err(Unopened::Absent) if file.is_optional() => return None,
            Err(unopened) => unopened,
        };
        let text = unread.of(self.tree, file);
        let mut errors = self.errors.borrow_mut();
        errors.any_absent |= matches!(unread, Unopened::Absent);
        if !errors.texts.contains(&text) {
            errors.texts.push(text);
        }
        None
    }
}

/// Modules and the aliases that led to each; `None` if one is so long that kmod gives all of them up.
fn aliased<'a>(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>, builtin: bool) -> Option<Vec<Found<'a>>> {
    pairs
        .map(|(name, alias)| {
            let fits = name.len() + alias.len() + 2 <= LONGEST_KEY;
            fits.then_some(Found { name, alias: Some(alias), command: None, builtin })
        })
        .collect()
}

/// `net/a.ko: net/b.ko net/c.ko` says that c, then b, are loaded before a. `None` if it is no such line.
fn dependencies_in(line: &[u8]) -> Option<Rc<[Vec<u8>]>> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let files = line.get(colon + 1..)?.split(|byte| matches!(byte, b' ' | b'\t')).filter(|file| !file.is_empty());
    files.rev().map(module_of_path).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Files, index_of};
    use super::*;

    #[test]
    fn a_line_of_dependencies_is_read_from_its_end() {
        let names = dependencies_in(b"kernel/a.ko: kernel/b-1.ko.xz\t/srv/c.ko ").unwrap();
        assert_eq!(*names, [b"c".to_vec(), b"b_1".to_vec()]);
        assert!(dependencies_in(b"kernel/a.ko:").unwrap().is_empty());
        assert!(dependencies_in(b"kernel/a.ko kernel/b.ko").is_none());
        assert!(dependencies_in(b"a.ko: kernel/").is_none());
    }

    #[test]
    fn the_first_place_that_knows_a_name_decides() {
        let line = "kernel/a.ko:";
        let files = Files::of([
            (IndexFile::Dep, index_of(&[("a", 0, line), ("b", 0, line), ("c:d", 0, line)])),
            (IndexFile::Alias, index_of(&[("a", 0, "by_alias"), ("d", 0, "by_alias"), ("e", 0, "by_alias")])),
            (IndexFile::Symbols, index_of(&[("symbol:s", 0, "by_symbol"), ("a", 0, "by_symbol")])),
            (IndexFile::Builtin, index_of(&[("a", 0, ""), ("e", 0, ""), ("f", 0, "")])),
            (IndexFile::BuiltinAlias, index_of(&[("f", 0, "by_image"), ("g*", 0, "by_image")])),
        ]);
        let tree = Tree::new(files);
        let long = format!("alias long {}\nalias long short\n", "x".repeat(4095));
        let text = format!("alias b-* conf-1\nalias b conf-2\ninstall d run\nremove r run\ninstall h.i run\n{long}");
        let config = Config::parse([("c".to_owned(), text.as_bytes())], "");
        let lookup = Lookup::new(&tree, &config);
        for (name, expected) in [
            ("a", &["a"][..]),
            ("b", &["conf_2"]),
            ("b-b", &["conf_1"]),
            ("c:d", &[]),
            ("symbol:s", &["by_symbol"]),
            ("d", &["d"]),
            ("r", &["r"]),
            ("h.i", &["h"]),
            ("e", &["by_alias"]),
            ("f", &["f"]),
            ("g-h", &["by_image"]),
            ("long", &[]),
            ("[", &[]),
            ("nothing", &[]),
            ("", &[]),
        ] {
            let found = lookup.targets(name.as_bytes());
            assert!(
                found.iter().map(|one| one.name.as_slice()).eq(expected.iter().map(|name| name.as_bytes())),
                "{name}"
            );
        }
        assert_eq!(lookup.health(), IndexHealth::Intact);
    }
}

//! All modules of a kernel, and which of them never run an `install` line of their own.
#![forbid(unsafe_code)]

use super::config::Config;
use super::lookup::Lookup;
use super::tree::{IndexFile, Tree, Unopened};

/// The names of all modules that the index of `tree` has a file for, sorted; what is built in is not among them.
///
/// # Errors
/// If `modules.dep.bin` can't be read, or is damaged anywhere: its path, and what is wrong with it.
pub fn names(tree: &Tree) -> Result<Vec<Vec<u8>>, String> {
    keys(tree, IndexFile::Dep)
}

/// The names of all modules that are part of the kernel image, sorted.
///
/// # Errors
/// As with [`names`], of `modules.builtin.bin`.
pub fn builtins(tree: &Tree) -> Result<Vec<Vec<u8>>, String> {
    keys(tree, IndexFile::Builtin)
}

/// The aliases in all modules, which are patterns, sorted.
///
/// # Errors
/// As with [`names`], of `modules.alias.bin`.
pub fn aliases(tree: &Tree) -> Result<Vec<Vec<u8>>, String> {
    keys(tree, IndexFile::Alias)
}

/// The aliases of what is part of the kernel image, likewise; empty where depmod(8) wrote none.
///
/// # Errors
/// As with [`names`], of `modules.builtin.alias.bin`.
pub fn builtin_aliases(tree: &Tree) -> Result<Vec<Vec<u8>>, String> {
    match tree.index(IndexFile::BuiltinAlias) {
        Err(Unopened::Absent) => Ok(Vec::new()),
        _ => keys(tree, IndexFile::BuiltinAlias),
    }
}

fn keys(tree: &Tree, file: IndexFile) -> Result<Vec<Vec<u8>>, String> {
    let keys = tree.index(file).and_then(|index| Ok(index.keys()?));
    keys.map_err(|unread| unread.of(tree, file))
}

/// Whether `module` has soft dependencies that there are: then kmod loads it itself, whatever `install` line it has
/// (`__kmod_module_fill_softdep`).
pub fn has_softdeps(module: &[u8], tree: &Tree, config: &Config) -> bool {
    let Some((_, softdep)) = config.softdep_of(module) else { return false };
    let lookup = Lookup::new(tree, config);
    let (pre, post) = softdep.names();
    pre.iter().chain(&post).any(|name| !lookup.targets(name).is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Files, index_of};
    use super::*;

    #[test]
    fn soft_dependencies_count_if_they_exist() {
        let index = index_of(&[("a", 0, "kernel/a.ko:"), ("b", 0, "kernel/b.ko:")]);
        let tree = Tree::new(Files::of([(IndexFile::Dep, index)]));
        assert_eq!(names(&tree).unwrap(), [b"a".to_vec(), b"b".to_vec()]);
        for (text, expected) in [
            ("softdep a pre: b", true),
            ("softdep a post: nothing b", true),
            ("softdep a pre: nothing", false),
            ("softdep a pre:\nsoftdep a pre: b", false),
            ("softdep b pre: a", false),
            ("", false),
        ] {
            let config = Config::parse([("c".to_owned(), text.as_bytes())], "");
            assert_eq!(has_softdeps(b"a", &tree, &config), expected, "{text}");
        }
    }

    #[test]
    fn an_index_that_cannot_be_read_is_told() {
        let damaged = Tree::new(Files::of([(IndexFile::Dep, b"nonsense, and enough of it".to_vec())]));
        assert!(names(&damaged).unwrap_err().starts_with("/lib/modules/6.1.0/modules.dep.bin: is no module index"));
        let absent = names(&Tree::new(Files::of([]))).unwrap_err();
        assert_eq!(absent, "/lib/modules/6.1.0/modules.dep.bin: is not there: run depmod");
    }
}

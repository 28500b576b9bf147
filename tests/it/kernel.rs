//! A whole kernel's modules, and all the names that stand for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Names the directory into which a kernel package was unpacked, with `lib/modules/RELEASE` and depmod's files in it.
pub const TREE: &str = "MODPROBE_GUARD_TEST_TREE";

pub struct Kernel {
    /// The root that holds `lib/modules`.
    pub root: PathBuf,
    pub release: String,
}

impl Kernel {
    pub fn unpacked() -> Kernel {
        let root = std::env::var_os(TREE).unwrap_or_else(|| {
            panic!("{TREE} is not set: unpack a kernel package with dpkg -x, run depmod -b on it, and name the directory (tests/run does)")
        });
        let root = PathBuf::from(root);
        let releases: Vec<_> = fs::read_dir(root.join("lib/modules")).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(releases.len(), 1, "{}: must hold the modules of one kernel", root.display());
        Kernel { release: releases[0].file_name().into_string().unwrap(), root }
    }

    pub fn directory(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    fn text(&self, file: &str) -> String {
        let path = self.directory().join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: cannot read: {error}", path.display()))
    }

    /// Every module's name and every alias, patterns made into names that they match.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let mut names = BTreeSet::new();
        for line in self.text("modules.dep").lines().chain(self.text("modules.builtin").lines()) {
            let path = line.split(':').next().unwrap();
            names.insert(path.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned());
        }
        for line in self.text("modules.alias").lines().chain(self.text("modules.symbols").lines()) {
            if let Some((_, rest)) = line.split_once(' ').filter(|(word, _)| *word == "alias") {
                let (pattern, _) = rest.rsplit_once(' ').unwrap();
                names.extend(instances(pattern));
            }
        }
        // MODULE.alias=PATTERN, each ended by NUL
        for entry in self.text("modules.builtin.modinfo").split('\0') {
            if let Some((_, pattern)) = entry.split_once(".alias=") {
                names.extend(instances(pattern));
            }
        }
        names.into_iter().map(String::into_bytes).collect()
    }
}

/// A name that `pattern` matches, or two if there is a star in it: one that fills it and one that leaves it empty.
fn instances(pattern: &str) -> BTreeSet<String> {
    ["", "0x7f"].into_iter().map(|star| instance(pattern, star)).collect()
}

fn instance(pattern: &str, star: &str) -> String {
    let mut name = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => name.push_str(star),
            '?' => name.push('5'),
            '[' => {
                name.push(rest.next().unwrap());
                assert!(rest.any(|c| c == ']'), "{pattern}");
            }
            c => name.push(c),
        }
    }
    name
}

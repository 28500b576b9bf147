use super::super::fixture::{Files, index_of};
use super::super::tree::IndexFile;
use super::*;
use crate::model::IndexHealth;

/// The incident of 2012 in small, and what it takes to try the rest.
fn files() -> Files {
    Files::of([
        (
            IndexFile::Dep,
            index_of(&[
                ("iptable_nat", 0, "net/iptable_nat.ko: net/nf_nat.ko net/nf-conntrack.ko net/nf_defrag.ko"),
                ("nf_nat", 0, "net/nf_nat.ko: net/nf-conntrack.ko net/nf_defrag.ko"),
                ("nf_conntrack", 0, "net/nf-conntrack.ko: net/nf_defrag.ko"),
                ("nf_defrag", 0, "net/nf_defrag.ko:"),
                ("crc_fast", 0, "crypto/crc_fast.ko: crypto/crc.ko"),
                ("crc_slow", 0, "crypto/crc_slow.ko: crypto/crc.ko"),
                ("crc", 0, "crypto/crc.ko:"),
            ]),
        ),
        (
            IndexFile::Alias,
            index_of(&[
                ("nft_chain_nat", 0, "iptable_nat"),
                ("crypto_crc", 2, "crc_slow"),
                ("crypto_crc", 1, "crc_fast"),
            ]),
        ),
        (IndexFile::Symbols, index_of(&[("symbol:nf_ct_get", 0, "nf_conntrack")])),
        (IndexFile::Builtin, index_of(&[("unix", 0, "")])),
    ])
}

fn resolve_with(flags: Flags, files: Files, text: &str, name: &str) -> Closure {
    let config = Config::parse([("m.conf".to_owned(), text.as_bytes())], "");
    resolve(name.as_bytes(), flags, &Tree::new(files), &config, |module| module == b"nf_defrag")
}

fn closure(text: &str, name: &str) -> Closure {
    resolve_with(Flags::default(), files(), text, name)
}

fn names(closure: &Closure) -> Vec<String> {
    closure.modules.iter().map(|module| module.name.to_string()).collect()
}

#[test]
fn dependencies_come_first_and_carry_state_and_reason() {
    for name in ["iptable-nat", "nft-chain-nat"] {
        let closure = closure("", name);
        let modules: Vec<_> =
            closure.modules.iter().map(|module| (module.name.to_string(), module.state, module.needed_as)).collect();
        assert_eq!(
            modules,
            [
                ("nf_defrag".to_owned(), ModuleState::Live, NeededAs::Dependency),
                ("nf_conntrack".to_owned(), ModuleState::Absent, NeededAs::Dependency),
                ("nf_nat".to_owned(), ModuleState::Absent, NeededAs::Dependency),
                ("iptable_nat".to_owned(), ModuleState::Absent, NeededAs::Target),
            ]
        );
        assert_eq!(closure.index, IndexHealth::Intact);
    }
}

#[test]
fn order_follows_soft_dependencies_and_priorities() {
    for (text, name, expected) in [
        ("", "crypto-crc", "crc crc_fast crc_slow"),
        ("", "symbol:nf_ct_get", "nf_defrag nf_conntrack"),
        ("", "unix", "unix"),
        ("", "no_such", ""),
        ("alias x off", "x", ""),
        ("alias x unix", "x", "unix"),
        (
            "softdep nf-defrag pre: crypto-crc post: unix",
            "nf_nat",
            "crc crc_fast crc_slow nf_defrag unix nf_conntrack nf_nat",
        ),
        ("softdep crc_fast pre: crc_slow\nsoftdep crc_slow pre: crc_fast", "crc_fast", "crc crc_slow crc_fast"),
        ("softdep crc pre: crc_slow", "crc", "crc crc_slow"),
        ("softdep nf_* post: crc\nsoftdep nf_nat post: crc_slow", "nf_nat", "nf_defrag crc nf_conntrack nf_nat"),
        ("softdep crc pre: nothing no_such", "crc", "crc"),
    ] {
        assert_eq!(names(&closure(text, name)).join(" "), expected, "{text} | {name}");
    }
}

#[test]
fn a_dependency_of_a_soft_one_is_one_and_a_target_stays_one() {
    let closure = closure("softdep crc_fast pre: crc crc_slow", "crypto-crc");
    let reasons: Vec<_> = closure.modules.iter().map(|module| (module.name.to_string(), module.needed_as)).collect();
    assert_eq!(
        reasons,
        [
            ("crc".to_owned(), NeededAs::Dependency),
            ("crc_slow".to_owned(), NeededAs::Target),
            ("crc_fast".to_owned(), NeededAs::Target),
        ]
    );
    // Both targets are soft dependencies of the first as well.
    let circle = self::closure("softdep crc_fast pre: crypto-crc", "crypto-crc");
    assert_eq!(names(&circle), ["crc", "crc_slow", "crc_fast"]);
    assert_eq!(circle.modules[1].needed_as, NeededAs::Target);
    let soft = super::resolve(
        b"nf_defrag",
        Flags::default(),
        &Tree::new(files()),
        &Config::parse([(String::new(), &b"softdep nf_defrag pre: crc"[..])], ""),
        |_| false,
    );
    assert_eq!(soft.modules[0].needed_as, NeededAs::Softdep);
}

#[test]
fn commands_stand_for_a_load_unless_soft_dependencies_do() {
    let commands = |text: &str, name: &str| -> Vec<String> {
        let commands = closure(text, name).commands;
        commands.iter().map(|one| format!("{}={} {}", one.module, one.command, one.source)).collect()
    };
    let text = "install nf_* /bin/false\n";
    assert_eq!(commands(text, "nf_nat"), ["nf_conntrack=/bin/false m.conf:1", "nf_nat=/bin/false m.conf:1"]);
    assert_eq!(commands("install nf_nat x\nsoftdep nf_nat pre: crc", "nf_nat"), [""; 0]);
    assert_eq!(commands("install nf_nat x\nsoftdep nf_nat pre: no_such", "nf_nat"), ["nf_nat=x m.conf:1"]);
    // What is there already runs nothing.
    assert_eq!(commands("install unix x\ninstall nf_defrag x", "nf_defrag"), [""; 0]);
    assert_eq!(commands("install unix x", "unix"), [""; 0]);

    let bare = closure("install bare x", "bare");
    assert!(bare.modules.is_empty() && bare.is_known());
    assert_eq!(bare.commands[0].module, *"bare");
    assert!(!closure("remove bare x", "bare").is_known());
}

#[test]
fn flags_change_what_is_loaded() {
    let text = "install crc x\nsoftdep crc_fast pre: nf_defrag\ninstall crc_fast x\nblacklist crc_fast";
    let ignoring = resolve_with(Flags { ignore_install: true, ..Flags::default() }, files(), text, "crc_fast");
    assert_eq!(names(&ignoring), ["crc", "crc_fast"]);
    assert_eq!(ignoring.commands.iter().map(|one| one.module.to_string()).collect::<Vec<_>>(), ["crc"]);
    let strict = resolve_with(Flags { use_blacklist: true, ..Flags::default() }, files(), text, "crc_fast");
    assert!(strict.modules.is_empty());
    assert_eq!(strict.blacklisted[0].source, "m.conf:4");
}

#[test]
fn a_blacklist_binds_aliases_only() {
    let text = "blacklist crc-slow\nblacklist crc";
    assert_eq!(names(&closure(text, "crc_slow")), ["crc", "crc_slow"]);
    let by_alias = closure(text, "crypto-crc");
    assert_eq!(names(&by_alias), ["crc", "crc_fast"]);
    assert_eq!(by_alias.blacklisted, [Blacklisted { module: "crc_slow".into(), source: "m.conf:1".to_owned() }]);
}

#[test]
fn what_intact_files_resolve_is_given() {
    let without = |file: IndexFile| {
        let mut files = files();
        files.0.remove(&file);
        files
    };
    let resolve = |files: Files, name: &str| resolve_with(Flags::default(), files, "", name);

    let no_alias = resolve(without(IndexFile::Alias), "nf_nat");
    assert_eq!((names(&no_alias).len(), no_alias.index), (3, IndexHealth::Intact));
    let text = "/lib/modules/6.1.0/modules.alias.bin: is not there: run depmod".to_owned();
    let no_alias = resolve(without(IndexFile::Alias), "nft-chain-nat");
    assert_eq!((names(&no_alias).len(), no_alias.index), (0, IndexHealth::Partial(vec![text])));

    let text = "/lib/modules/6.1.0/modules.dep.bin: is not there: run depmod".to_owned();
    let no_dep = resolve(without(IndexFile::Dep), "nft-chain-nat");
    assert_eq!((names(&no_dep), no_dep.index), (vec!["iptable_nat".to_owned()], IndexHealth::Partial(vec![text])));

    let mut cut = files();
    cut.0.get_mut(&IndexFile::Dep).unwrap().truncate(20);
    let cut = resolve(cut, "nft-chain-nat");
    assert_eq!(names(&cut), ["iptable_nat"]);
    assert!(matches!(&cut.index, IndexHealth::Partial(texts) if texts.len() == 1 && texts[0].contains("is cut short")));

    let mut bad = files();
    bad.0.insert(IndexFile::Dep, index_of(&[("iptable_nat", 0, "no colon\x1b")]));
    let bad = resolve(bad, "nft-chain-nat").index;
    assert!(matches!(&bad, IndexHealth::Partial(texts) if texts[0].contains("holds \"no colon\\x1b\"")), "{bad:?}");

    let none = resolve(Files::of([]), "nf_nat");
    assert!(matches!(none.index, IndexHealth::Missing(text) if text.starts_with("/lib/modules/6.1.0: holds no")));
}

#[test]
fn a_soft_dependency_of_everything_on_everything_ends_soon() {
    let names: Vec<String> = (0..1500).map(|number| format!("m{number}")).collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name}.ko: m1.ko m2.ko m3.ko")).collect();
    let keys: Vec<_> = names.iter().zip(&lines).map(|(name, line)| (name.as_str(), 0, line.as_str())).collect();
    let files = Files::of([(IndexFile::Dep, index_of(&keys))]);
    let begin = std::time::Instant::now();
    let closure = resolve_with(Flags::default(), files, &format!("softdep * pre: {}", names.join(" ")), "m0");
    assert_eq!(closure.modules.len(), names.len());
    // Against hanging: each with each would take hours.
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

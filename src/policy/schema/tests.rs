//! Every key that the parser knows has its words, here and in modprobe-guard.toml(5). That real validators take the
//! schemas is seen in tests/it.

use std::collections::BTreeSet;

use super::*;

type OfKey = fn(&str) -> Option<Value>;

const TABLES: [(&Keys, OfKey); 8] = [
    (&parse::FILE, of_file_key),
    (&parse::DEFAULTS, of_default),
    (&parse::rules::KEYS, of_rule),
    (&parse::requester::KEYS, of_requester),
    (&parse::CONNTRACK, of_conntrack),
    (&parse::AUDIT, of_audit),
    (&expectations::FILE, of_tests_key),
    (&expectations::KEYS, of_test),
];

#[test]
fn every_key_has_its_words() {
    for (Keys(table, keys), of_key) in TABLES {
        for key in *keys {
            let schema = of_key(key).unwrap_or_else(|| panic!("{table}: {key}"));
            assert!(schema["description"].is_string() || *key == "test", "{table}: {key}");
        }
    }
}

#[test]
fn what_is_said_of_absent_keys_is_so() {
    let schema = of_policy();
    let of = |table: &str, key: &str| schema["properties"][table]["properties"][key]["default"].clone();
    for key in parse::DEFAULTS.1 {
        assert!(!of("defaults", key).is_null(), "{key}");
    }
    assert_eq!((of("defaults", "action"), of("defaults", "trust")), (json!("allow"), json!("exact")));
    assert_eq!((of("conntrack", "limit"), of("audit", "cmdline")), (json!(2_097_152), json!(true)));
}

/// The manual page has one section for each table, and in it one entry for each key.
#[test]
fn the_manual_knows_the_same_keys() {
    let page = include_str!("../../../install/man/modprobe-guard.toml.5");
    let sections = page.split("\n.SH ").skip(1);
    let told = |heading: &str| -> BTreeSet<String> {
        let mut sections = sections.clone().filter(|text| text.lines().next().unwrap().trim_matches('"') == heading);
        let (section, None) = (sections.next().unwrap(), sections.next()) else { panic!("{heading}") };
        let entries = section.split("\n.TP\n.BR ").skip(1).map(|text| text.split([' ', '\n']).next().unwrap());
        entries.map(|name| name.replace("\\-", "-")).collect()
    };
    for (heading, tables) in [
        ("[defaults]", &[&parse::DEFAULTS][..]),
        ("[[rule]]", &[&parse::rules::KEYS]),
        ("requester = { ... }", &[&parse::requester::KEYS]),
        ("[conntrack]", &[&parse::CONNTRACK]),
        ("[audit]", &[&parse::AUDIT]),
        ("TESTS", &[&expectations::FILE, &expectations::KEYS]),
    ] {
        let keys = tables.iter().flat_map(|Keys(_, keys)| keys.iter().copied());
        // `[[test]]` stands there as itself.
        let keys: BTreeSet<String> = keys.filter(|key| *key != "test").map(str::to_owned).collect();
        assert_eq!(told(heading), keys, "{heading}");
    }
    for key in parse::FILE.1 {
        let headings = [format!(".SH \"[{key}]\""), format!(".SH \"[[{key}]]\""), format!(".BR {key} ")];
        assert!(headings.iter().any(|heading| page.contains(heading)), "{key}");
    }
}

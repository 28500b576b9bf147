//! Every key that the parser knows has its words. That real validators take the schemas is seen in tests/it.

use super::*;

type OfKey = fn(&str) -> Option<Value>;

const OF_KEYS: [(&Keys, OfKey); 8] = [
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
    for (Keys(table, keys), of_key) in OF_KEYS {
        for key in *keys {
            let schema = of_key(key).unwrap_or_else(|| panic!("{table}: {key}"));
            assert!(schema["description"].is_string(), "{table}: {key}");
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

#[test]
fn keys_come_in_the_order_of_their_definition() {
    for (Keys(table, keys), of_key) in OF_KEYS {
        let Value::Object(schema) = self::table("", &Keys(table, keys), of_key) else { panic!("{table}") };
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(in_order(properties).iter().map(|(key, _)| *key).collect::<Vec<_>>(), *keys, "{table}");
    }
    assert_eq!(OF_KEYS.len(), TABLES.len());
}

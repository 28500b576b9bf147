//! The table `[sysctl]`, and the two ways to write a sysctl key.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use crate::policy::Sysctl;
use crate::text::Text;

use super::reader::{Entry, Reader, kind};

/// The dotted form of a sysctl key, as sysctl(8) prints it: `net.ipv4.conf.eth0/1.forwarding`.
///
/// After sysctl.d(5): if the first separator is a slash, slashes separate and dots belong to names; if it is a dot, it
/// is the other way round.
///
/// # Errors
/// Why no file of `/proc/sys` can be meant.
pub fn canonical_key(key: &str) -> Result<String, &'static str> {
    let slashed = key.chars().find(|c| matches!(c, '/' | '.')) == Some('/');
    let dotted = if slashed { swapped(key) } else { key.to_owned() };
    if dotted.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("it holds blanks or control characters");
    }
    if dotted.contains(['*', '?', '[']) {
        return Err("patterns are not known here");
    }
    // Of `..` and `.` as directories the dotted form has `//` and `/`.
    if !dotted.contains('.') || dotted.split('.').any(|name| matches!(name, "" | "/" | "//")) {
        return Err("it names no file below /proc/sys");
    }
    Ok(dotted)
}

/// The path below `/proc/sys` of a key in its dotted form.
pub fn path_of_key(key: &str) -> String {
    swapped(key)
}

fn swapped(key: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// Adds the file's settings to `settings` (by their dotted keys), but for those that an earlier file has set.
pub(super) fn read(settings: &mut BTreeMap<String, Sysctl>, reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) {
    let DeValue::Table(table) = value.get_ref() else {
        let message = format!("`sysctl` is {}, not a table", kind(value.get_ref()));
        return reader.find(value, message, "write `[sysctl]` on a line of its own, its keys beneath");
    };
    let mut own: BTreeMap<String, Sysctl> = BTreeMap::new();
    for (spanned, value) in table {
        let (key, _) = Entry::from((spanned, value));
        if let DeValue::Table(_) = value.get_ref() {
            let message = format!("`{}` is a table, not a value", Text::from(key));
            reader.find(spanned, message, "put the whole key in quotes: `\"net.ipv4.ip_forward\" = 1`");
            continue;
        }
        let key = match canonical_key(key) {
            Ok(key) => key,
            Err(found) => {
                let message = format!("the sysctl key `{}` is impossible: {found}", Text::from(key));
                reader.find(spanned, message, "write it as sysctl(8) does: `\"net.ipv4.ip_forward\"`");
                continue;
            }
        };
        let Some(value) = read_value(reader, &key, value) else { continue };
        if let Some(other) = own.get(&key) {
            let message = format!("`{key}` is set twice, also at {}", other.source);
            reader.find(spanned, message, "take one of the two out");
            continue;
        }
        own.insert(key.clone(), Sysctl { key, value, source: reader.source_of(spanned) });
    }
    for (key, setting) in own {
        settings.entry(key).or_insert(setting);
    }
}

fn read_value(reader: &mut Reader<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::Integer(_) => reader.number(key, value, i64::MIN..=i64::MAX).map(|number| number.to_string()),
        DeValue::Boolean(boolean) => Some(u8::from(*boolean).to_string()),
        DeValue::String(text) if !text.contains(['\n', '\0']) => Some(text.as_ref().to_owned()),
        DeValue::String(_) => {
            reader.find(value, format!("the value of `{key}` has more than one line"), "write one line");
            None
        }
        other => {
            let message = format!("the value of `{key}` is {}", kind(other));
            reader.find(value, message, "write a whole number, or what the file takes in quotes");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_two_forms_and_one_meaning() {
        for (key, dotted, path) in [
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(canonical_key(key).as_deref(), Ok(dotted));
            assert_eq!(path_of_key(dotted), path);
        }
    }

    #[test]
    fn no_key_leads_out_of_proc_sys() {
        let nowhere = Err("it names no file below /proc/sys");
        for key in [
            "",
            "net",
            "/etc/passwd",
            "../../etc/passwd",
            "net/../../x",
            "net.//.//.x",
            "net/./x",
            "a..b",
            ".a.b",
            "a.b.",
            "a/b/",
        ] {
            assert_eq!(canonical_key(key).map(|_| ()), nowhere, "{key}");
        }
        assert_eq!(canonical_key("net.a\0b"), Err("it holds blanks or control characters"));
        assert_eq!(canonical_key("net.ipv4.conf.*.rp_filter"), Err("patterns are not known here"));
    }
}

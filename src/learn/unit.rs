//! Names of units without what is different the next time: sessions, instances, ids that a machine made up.

use crate::policy::pattern;

/// Kinds of units that processes are in.
const KINDS: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];
/// The longest name of a unit (`UNIT_NAME_MAX`, systemd's basic/unit-name.h).
const LONGEST: usize = 255;
/// A dash within a part, as systemd-escape(1) writes it: `machine-qemu\x2d12\x2dNAME.scope` of libvirt.
const ESCAPED_DASH: &str = r"\x2d";
/// Lengths of the parts of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// The pattern by which a rule knows `unit` again; none if it is no unit's name, or nothing of it would stay.
///
/// An instance stands for its template, a scope or a transient service for all of its kind: their names hold numbers
/// that are new every time (`session-3.scope`, `run-u12.service`, `docker-ID.scope`).
pub(super) fn pattern(unit: &str) -> Option<String> {
    let (stem, kind) = unit.rsplit_once('.')?;
    let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if unit.len() > LONGEST || !unit.bytes().all(is_sane) || !KINDS.contains(&kind) || stem.is_empty() {
        return None;
    }
    let (name, instance) = match stem.split_once('@') {
        Some((template, _)) => (template, "@*"),
        None => (stem, ""),
    };
    let is_transient = kind != "service" || name.starts_with("run-");
    let parts: Vec<&str> = name.split('-').collect();
    let mut kept: Vec<String> = Vec::new();
    let mut rest = parts.as_slice();
    while let Some((part, mut after)) = rest.split_first() {
        let part = if let Some(behind) = behind_uuid(rest) {
            after = behind;
            "*".to_owned()
        } else {
            let words = part.split(ESCAPED_DASH);
            let words: Vec<String> =
                words.map(|word| lasting(word, is_transient, name.starts_with("session-"))).collect();
            words.join(&pattern::literal(ESCAPED_DASH))
        };
        // Several in a row are one.
        if part != "*" || kept.last().is_none_or(|last| last != "*") {
            kept.push(part);
        }
        rest = after;
    }
    let name = kept.join("-");
    (!name.starts_with('*') && !name.is_empty()).then(|| format!("{name}{instance}.{kind}"))
}

/// Whether what the pattern stands for is what a person started, in a session or by their own manager.
pub(super) fn is_a_persons(pattern: &str) -> bool {
    pattern.starts_with("session-") || pattern.starts_with("user@")
}

/// The container's id in a scope's name: `docker-ID.scope`.
pub(super) fn container(unit: &str) -> Option<&str> {
    unit.strip_suffix(".scope")?.rsplit('-').next().filter(|id| id.len() == 64 && is_hex(id))
}

/// Whether a container's name is one that nobody gave it.
pub(super) fn is_id(container: &str) -> bool {
    container.len() >= 32 && is_hex(container)
}

/// Whether a part of a name is a number that a machine made up, rather than a word that reads like one.
pub(super) fn is_made_up(part: &str) -> bool {
    part.len() >= 8 && is_hex(part) && part.bytes().any(|byte| byte.is_ascii_digit())
}

/// What follows a UUID, if the parts begin with one.
fn behind_uuid<'a, 'b>(parts: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let uuid = parts.get(..UUID.len())?;
    let is_part = |(part, length): (&&str, usize)| part.len() == length && is_hex(part);
    uuid.iter().zip(UUID).all(is_part).then(|| parts.get(UUID.len()..).unwrap_or_default())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A word of a name, as a pattern: what a machine made up is a star.
fn lasting(part: &str, is_transient: bool, is_session: bool) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The bus names that D-Bus gives out, `:1.21`.
    if is_made_up(part) || part.starts_with(':') || (is_transient && digits(part)) {
        return "*".to_owned();
    }
    // A letter that says what it is the number of.
    let mut signs = part.chars();
    let letter = signs.next().filter(char::is_ascii_lowercase);
    match letter {
        Some(letter) if is_transient && (digits(signs.as_str()) || is_made_up(signs.as_str())) => {
            if is_session {
                "*".to_owned()
            } else {
                format!("{letter}*")
            }
        }
        _ => pattern::literal(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_a_star() {
        let id = "0123456789abcdef".repeat(4);
        for (unit, expected) in [
            ("docker.service", Some("docker.service")),
            ("php8.2-fpm.service", Some("php8.2-fpm.service")),
            ("init.scope", Some("init.scope")),
            ("user@1000.service", Some("user@*.service")),
            ("wg-quick@wg0.service", Some("wg-quick@*.service")),
            ("session-3.scope", Some("session-*.scope")),
            ("session-c12.scope", Some("session-*.scope")),
            ("run-u123.service", Some("run-u*.service")),
            ("run-p123-i456.service", Some("run-p*-i*.service")),
            ("run-r0123456789abcdef0123456789abcdef.scope", Some("run-r*.scope")),
            ("run-1234.scope", Some("run-*.scope")),
            (&format!("docker-{id}.scope"), Some("docker-*.scope")),
            (&format!("cri-containerd-{id}.scope"), Some("cri-containerd-*.scope")),
            (&format!("libpod-conmon-{id}.scope"), Some("libpod-conmon-*.scope")),
            ("vte-spawn-01234567-89ab-cdef-0123-456789abcdef.scope", Some("vte-spawn-*.scope")),
            ("app-gnome-org.gnome.Terminal-4711.scope", Some("app-gnome-org.gnome.Terminal-*.scope")),
            ("dbus-:1.21-org.freedesktop.problems@0.service", Some("dbus-*-org.freedesktop.problems@*.service")),
            ("machine-qemu\\x2d12\\x2dwin11.scope", Some("machine-qemu\\\\x2d*\\\\x2dwin11.scope")),
            ("machine-lxc\\x2d4711\\x2dweb\\x2da.scope", Some("machine-lxc\\\\x2d*\\\\x2dweb\\\\x2da.scope")),
            ("srv-a\\x2d1.service", Some("srv-a\\\\x2d1.service")),
            ("run-user-1000.mount", Some("run-user-*.mount")),
            ("run-docker\\x2dx.mount", Some("run-docker\\\\x2dx.mount")),
            ("", None),
            ("docker", None),
            (".service", None),
            ("docker.slice", None),
            ("@x.service", None),
            ("a b.service", None),
            ("a/b.service", None),
            ("a*.service", None),
            ("!a.service", None),
            ("ä.service", None),
            (&format!("{id}.scope"), None),
            (&format!("{}.service", "a".repeat(300)), None),
        ] {
            assert_eq!(pattern(unit).as_deref(), expected, "{unit}");
            if let Some(found) = pattern(unit) {
                assert_eq!(crate::policy::pattern::check(found.as_bytes()), Ok(()));
                assert!(crate::policy::pattern::matches_exactly(found.as_bytes(), unit.as_bytes()), "{unit}");
            }
        }
    }
}

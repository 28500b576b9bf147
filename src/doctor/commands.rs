//! Commands that mend things, as an administrator would type them.

use super::Case;
use crate::text::Text;

/// `word` for a shell: in single quotes if it holds anything that a shell would understand.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// [`quoted`] for names that may hold any bytes: what is not printable makes the command a remark.
pub fn quoted_name(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) if !name.chars().any(char::is_control) => quoted(name),
        _ => format!("'{}'", Text::from(name)),
    }
}

/// Loads the module that is examined: the last of what mends most findings.
pub fn load(case: &Case) -> String {
    load_module(&case.module)
}

/// Loads `module`.
pub fn load_module(module: &[u8]) -> String {
    format!("modprobe {}", quoted_name(module))
}

/// Has the examined module loaded at every boot.
pub fn load_at_boot(case: &Case) -> String {
    let file = quoted_name(format!("/etc/modules-load.d/{}.conf", case.name()).as_bytes());
    format!("echo {} >{file}", quoted_name(&case.module))
}

/// Makes the index of modules anew.
pub fn depmod(case: &Case) -> String {
    format!("depmod {}", quoted(&case.kernel))
}

/// Commands that take a line of a configuration file, `FILE:LINE`, away.
pub fn comment_out(case: &Case, source: &str) -> Vec<String> {
    let Some((shown, line)) = source.rsplit_once(':') else { return Vec::new() };
    // The path on that host, whatever root it is read below.
    let root = case.shown("/");
    let path = shown.strip_prefix(root.trim_end_matches('/')).unwrap_or(shown);
    let sed = |path: &str| {
        // A link stays one.
        let follow = if case.host.is_link(path) { " --follow-symlinks" } else { "" };
        format!("sed -i{follow} '{line}s/^/# /' {}", quoted(path))
    };
    if path.starts_with("/etc/") || path.starts_with("/run/") {
        return vec![sed(path)];
    }
    // A package's file comes back with the package: one of the same name in /etc takes its place.
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let place = if directory.ends_with("sysctl.d") { "/etc/sysctl.d" } else { "/etc/modprobe.d" };
    let copy = quoted(&format!("{place}/{name}"));
    vec![
        format!("mkdir -p {place}"),
        format!("test -e {copy} || cp {} {copy}", quoted(path)),
        sed(&format!("{place}/{name}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted() {
        for (word, expected) in
            [("a-b.c=1", "a-b.c=1"), ("a b", "'a b'"), ("a'b", "'a'\\''b'"), ("", "''"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted_name(b"a\nb"), "'a\\x0ab'");
    }
}

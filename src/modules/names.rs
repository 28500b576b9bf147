//! How kmod spells names: dashes are underscores.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// The longest name that modprobe looks at, bytes (`PATH_MAX` less the end); it cuts what is longer.
const LONGEST: usize = 4095;

/// A name or pattern with every `-` as `_`, but for what stands in `[...]` (kmod's shared/util.c, `alias_normalize`).
///
/// `None` if a bracket is opened and never closed, or closed and never opened: modprobe knows no such name.
pub fn normalise(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let name = name.get(..LONGEST).unwrap_or(name);
    if !name.iter().any(|byte| matches!(byte, b'-' | b'[' | b']')) {
        return Some(Cow::Borrowed(name));
    }
    let mut inside = false;
    let normalised = name
        .iter()
        .map(|&byte| match (byte, inside) {
            (b'-', false) => Some(b'_'),
            (b']', false) => None,
            (b'[', false) => {
                inside = true;
                Some(byte)
            }
            (b']', true) => {
                inside = false;
                Some(byte)
            }
            _ => Some(byte),
        })
        .collect::<Option<Vec<u8>>>()?;
    (!inside).then_some(Cow::Owned(normalised))
}

/// The module that a bare name means: up to the first dot, dashes as underscores (`modname_normalize`).
pub fn module_name(name: &[u8]) -> Vec<u8> {
    name.iter().take_while(|&&byte| byte != b'.').map(|&byte| if byte == b'-' { b'_' } else { byte }).collect()
}

/// The module in the file at `path`: `kernel/net/nf-x.ko.zst` is `nf_x`; `None` if `path` names no file.
pub fn module_of_path(path: &[u8]) -> Option<Vec<u8>> {
    path.rsplit(|&byte| byte == b'/').next().filter(|file| !file.is_empty()).map(module_name)
}

/// Whether a file's name is that of a module: `NAME.ko`, compressed or not.
pub fn is_module_file(name: &[u8]) -> bool {
    [&b".ko"[..], b".ko.gz", b".ko.xz", b".ko.zst"]
        .iter()
        .any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_become_underscores_outside_brackets() {
        for (name, expected) in [
            (&b"nf-conntrack"[..], Some(&b"nf_conntrack"[..])),
            (b"nf_conntrack", Some(b"nf_conntrack")),
            (b"usb:v0-[0-9]-x", Some(b"usb:v0_[0-9]_x")),
            (b"a[-", None),
            (b"a]", None),
            (b"[a]]", None),
            (b"[[-]", Some(b"[[-]")),
            (b"-\xff-", Some(b"_\xff_")),
            (b"", Some(b"")),
        ] {
            assert_eq!(normalise(name).as_deref(), expected, "{:?}", name.escape_ascii().to_string());
        }
        assert_eq!(normalise(&[b'-'; 5000]).unwrap().len(), 4095);
    }

    #[test]
    fn a_file_is_named_for_its_module() {
        for (path, expected) in [
            (&b"kernel/net/netfilter/nf-x.ko"[..], Some(&b"nf_x"[..])),
            (b"/srv/y.ko.zst", Some(b"y")),
            (b"z.ko", Some(b"z")),
            (b"kernel/", None),
            (b"", None),
        ] {
            assert_eq!(module_of_path(path).as_deref(), expected);
        }
    }
}

//! Module parameters on the kernel command line, as kmod understands them (`kmod_config_parse_kcmdline`).
#![forbid(unsafe_code)]

use super::lines::is_space;

/// `MODULE.SETTING` on the kernel command line; the setting is `key` or `key=value`.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As it stands there.
    pub module: Vec<u8>,
    /// With its quotes.
    pub setting: Vec<u8>,
}

/// kmod reads no more than this of the command line, bytes.
const LONGEST: usize = 4095;

/// The module parameters in `line`. A quoted word may hold blanks in its value, elsewhere it counts for nothing.
pub fn parameters(line: &[u8]) -> impl Iterator<Item = Parameter> {
    let mut quoted = false;
    let line = line.get(..LONGEST).unwrap_or(line);
    let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let words = line.split(move |byte| {
        quoted ^= *byte == b'"';
        is_space(byte) && !quoted
    });
    words.filter_map(parameter)
}

/// `"parport.dyndbg=file x.c +p"`, as some boot loaders write it, is `parport.dyndbg="file x.c +p"`.
fn parameter(word: &[u8]) -> Option<Parameter> {
    let (quoted, word) = match word.strip_prefix(b"\"") {
        Some(word) => (true, word),
        None => (false, word),
    };
    let dot = word.iter().position(|&byte| byte == b'.')?;
    let (module, rest) = word.split_at_checked(dot)?;
    let setting = rest.strip_prefix(b".")?;
    let equals = setting.iter().position(|&byte| byte == b'=');
    let (key, value) = setting.split_at_checked(equals.unwrap_or(setting.len()))?;
    let plain = |text: &[u8]| !text.iter().any(|&byte| matches!(byte, b'"' | b'.') || is_space(&byte));
    let closed = value.iter().filter(|&&byte| byte == b'"').count() % 2 == usize::from(quoted);
    if module.contains(&b'=') || !plain(module) || !plain(key) || !closed {
        return None;
    }
    let setting = match value.strip_prefix(b"=") {
        Some(value) if quoted => [key, b"=\"", value].concat(),
        _ => setting.to_vec(),
    };
    Some(Parameter { module: module.to_vec(), setting })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_modules_are_found() {
        for (line, expected) in [
            ("quiet root=/dev/sda1", &[][..]),
            ("nf_conntrack.hashsize=7 x.y\n", &[("nf_conntrack", "hashsize=7"), ("x", "y")]),
            ("a.b=c.d=e", &[("a", "b=c.d=e")]),
            ("a.b.c=1 d=a.b", &[]),
            ("a.b=\"x y\" c.d=1", &[("a", "b=\"x y\""), ("c", "d=1")]),
            ("\"a.b=x y\" c.d=1", &[("a", "b=\"x y\""), ("c", "d=1")]),
            ("\"a.b c=1\" c.d=1", &[("c", "d=1")]),
            ("a\"x.b=1\" c.d=1", &[("c", "d=1")]),
            ("a.b=\"never closed c.d=1", &[]),
            ("modprobe.blacklist=a,b", &[("modprobe", "blacklist=a,b")]),
        ] {
            let found: Vec<_> = parameters(line.as_bytes()).collect();
            assert!(
                found
                    .iter()
                    .map(|one| (one.module.as_slice(), one.setting.as_slice()))
                    .eq(expected.iter().map(|(module, setting)| (module.as_bytes(), setting.as_bytes()))),
                "{line:?}: {found:?}"
            );
        }
    }
}

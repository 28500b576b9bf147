//! Shell patterns as fnmatch(3) takes them without flags, byte by byte (the "C" locale, which modprobe runs in).
#![forbid(unsafe_code)]

/// Whether `pattern` matches the whole of `name`.
///
/// `*`, `?`, `[...]` with ranges, classes such as `[:digit:]` and `!` or `^` for all but, and `\` before a byte that
/// stands for itself; a `[` that is never closed stands for itself as well. Takes at most the product of both lengths
/// in steps, whatever the pattern.
pub fn glob_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // What follows the last star, and where in the name it is tried next. An earlier star need never be tried again:
    // whatever it could give up, the last one can take.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, name));
            pattern = rest;
            continue;
        }
        let step = match name {
            [] => return pattern.is_empty(),
            [byte, rest @ ..] => element(pattern, *byte).map(|after| (after, rest)),
        };
        (pattern, name) = match (step, retry) {
            (Some(next), _) => next,
            (None, Some((after, [_, from @ ..]))) => {
                retry = Some((after, from));
                (after, from)
            }
            (None, _) => return false,
        };
    }
}

/// What follows the first element of `pattern`, if that element matches `byte`. No element is a star.
fn element(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (matches, rest) = match pattern {
        [] | [b'\\'] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'\\', itself, rest @ ..] => (*itself == byte, rest),
        [b'[', inside @ ..] => bracket(inside, byte).unwrap_or((byte == b'[', inside)),
        [itself, rest @ ..] => (*itself == byte, rest),
    };
    matches.then_some(rest)
}

/// Whether the bracket expression, given from behind its `[`, matches `byte`, and what follows its `]`.
/// `None` if it is never closed.
fn bracket(inside: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match inside {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut matches = false;
    let mut first = true;
    loop {
        if let ([b']', after @ ..], false) = (rest, first) {
            return Some((matches != negated, after));
        }
        first = false;
        if let Some((class, after)) = class(rest) {
            // fnmatch(3) gives the whole pattern up at a class it does not know.
            matches |= in_class(class, byte)?;
            rest = after;
            continue;
        }
        let (low, after) = member(rest)?;
        match after {
            [b'-', end @ ..] if !matches!(end, [] | [b']', ..]) => {
                let (high, after) = member(end)?;
                matches |= (low..=high).contains(&byte);
                rest = after;
            }
            _ => {
                matches |= low == byte;
                rest = after;
            }
        }
    }
}

/// One byte of a bracket expression, freed of its backslash, and what follows.
fn member(inside: &[u8]) -> Option<(u8, &[u8])> {
    match inside {
        [] | [b'\\'] => None,
        [b'\\', itself, rest @ ..] | [itself, rest @ ..] => Some((*itself, rest)),
    }
}

/// The name in a leading `[:name:]`, and what follows.
fn class(inside: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = inside.strip_prefix(b"[:")?;
    let length = rest.iter().position(|byte| !byte.is_ascii_lowercase())?;
    let (name, rest) = rest.split_at_checked(length)?;
    Some((name, rest.strip_prefix(b":]")?))
}

fn in_class(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_fnmatch_does() {
        for (pattern, name, expected) in [
            (&b""[..], &b""[..], true),
            (b"", b"a", false),
            (b"*", b"", true),
            (b"xt_*", b"xt_", true),
            (b"xt_*", b"ipt_x", false),
            (b"*nat", b"iptable_nat", true),
            (b"*nat", b"nat_x", false),
            (b"a*b*c", b"a1b2b3c", true),
            (b"a*b*c", b"a1b2b3cd", false),
            (b"?", b"", false),
            (b"a?c", b"abc", true),
            (b"[a-c]x", b"cx", true),
            (b"[a-c]x", b"dx", false),
            (b"[!a-c]x", b"dx", true),
            (b"[^a-c]x", b"ax", false),
            (b"[]a]", b"]", true),
            (b"[a-]", b"-", true),
            (b"[z-a]", b"m", false),
            (b"[\\]]", b"]", true),
            (b"[[:digit:]_]*", b"7up", true),
            (b"[[:digit:]_]*", b"_up", true),
            (b"[[:digit:]_]*", b"up", false),
            (b"a[b", b"a[b", true),
            (b"\\*", b"*", true),
            (b"\\*", b"a", false),
            (b"a\\", b"a\\", false),
            (b"usb:v*d[0-3]*dc*", b"usb:v1D6Bd2dc9", true),
            (b"\xff?", b"\xff\xfe", true),
        ] {
            assert_eq!(
                glob_match(pattern, name),
                expected,
                "{:?} {:?}",
                pattern.escape_ascii().to_string(),
                name.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = b"*a".repeat(2000);
        let name = b"a".repeat(1999);
        assert!(!glob_match(&pattern, &name));
        assert!(!glob_match(&[&b"*[a-b]".repeat(1000)[..], b"c"].concat(), &b"a".repeat(4000)));
    }
}

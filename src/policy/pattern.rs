//! Shell patterns over names. For names of modules `-` and `_` are the same.

/// A pattern may have as many bytes as this. The kernel asks for at most 55; modprobe(8) may be given a longer alias.
pub const MAX_LENGTH: usize = 1024;

/// One thing that a pattern demands of the next byte, or (`Star`) of any number of them.
enum Element<'a> {
    Star,
    Any,
    Byte(u8),
    Set(Set<'a>),
}

/// What stands between `[` and `]`.
struct Set<'a> {
    negated: bool,
    members: &'a [u8],
}

/// Whether the whole of `name` is what `pattern` describes.
///
/// `*` stands for any bytes, `?` for one, `[a-z]` for one of a set, `[!a-z]` (or `[^a-z]`) for one outside it, and a
/// backslash takes its meaning from the byte after it. `-` and `_` are the same, so that no spelling slips past a rule;
/// in a range they are only its bounds. A `[` without an end stands for itself.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    matches_as(fold, pattern, name)
}

/// As [`matches`](fn@matches), but that `-` and `_` are two signs: there may be a unit foo-bar and a unit foo_bar.
pub fn matches_exactly(pattern: &[u8], name: &[u8]) -> bool {
    matches_as(|byte| byte, pattern, name)
}

/// Two bytes are the same if `spelt` makes the same of them.
fn matches_as(spelt: fn(u8) -> u8, pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Only the last star need ever be tried again: what an earlier one could take, the last can take as well.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let Some((&byte, rest_of_name)) = name.split_first() else {
            return pattern.iter().all(|byte| *byte == b'*');
        };
        match next(pattern) {
            Some((Element::Star, rest)) => {
                retry = Some((rest, name));
                pattern = rest;
                continue;
            }
            Some((element, rest)) if element.takes(spelt, byte) => (pattern, name) = (rest, rest_of_name),
            _ => {
                let Some((after_star, [_, rest @ ..])) = retry else { return false };
                retry = Some((after_star, rest));
                (pattern, name) = (after_star, rest);
            }
        }
    }
}

/// Whether `wide` surely describes every name that `narrow` does; `spelt` as with [`fold`], or that bytes are themselves.
/// False also where that can't be told one element at a time.
pub fn covers(spelt: fn(u8) -> u8, wide: &[u8], narrow: &[u8]) -> bool {
    let (wide, narrow) = (classes(spelt, wide), classes(spelt, narrow));
    // Whether what is left of `wide` covers what is left of `narrow`, for each place in that; from the end of `wide`.
    let mut rest: Vec<bool> = (0..=narrow.len()).map(|at| at == narrow.len()).collect();
    for class in wide.iter().rev() {
        let mut covered = vec![false; rest.len()];
        for at in (0..rest.len()).rev() {
            let at_of = |line: &[bool], at: usize| line.get(at).copied().unwrap_or(false);
            let is = match (class, narrow.get(at)) {
                (None, _) => at_of(&rest, at) || at_of(&covered, at.saturating_add(1)),
                (Some(wide), Some(Some(narrow))) => {
                    narrow.iter().zip(wide).all(|(narrow, wide)| !narrow | wide) && at_of(&rest, at.saturating_add(1))
                }
                (Some(_), _) => false,
            };
            covered.get_mut(at).map(|slot| *slot = is).unwrap_or_default();
        }
        rest = covered;
    }
    rest.first().copied().unwrap_or(false)
}

/// What each element of `pattern` takes, by byte; `None` for a star.
fn classes(spelt: fn(u8) -> u8, pattern: &[u8]) -> Vec<Option<Vec<bool>>> {
    let mut rest = pattern;
    std::iter::from_fn(|| {
        let (element, after) = next(rest)?;
        rest = after;
        let takes = || (0..=u8::MAX).map(|byte| element.takes(spelt, byte)).collect();
        Some((!matches!(element, Element::Star)).then(takes))
    })
    .collect()
}

/// Whether `pattern` stands for one name only.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// The pattern that stands for `name` alone.
pub fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for sign in name.chars() {
        // In front of the others a `!` would negate a unit or a container.
        if matches!(sign, '*' | '?' | '[' | ']' | '\\') || (sign == '!' && pattern.is_empty()) {
            pattern.push('\\');
        }
        pattern.push(sign);
    }
    pattern
}

/// The one spelling of names that differ in `-` and `_`.
pub fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Whether a name can match `pattern` at all.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn check(pattern: &[u8]) -> Result<(), (String, &'static str)> {
    if pattern.is_empty() {
        return Err(("an empty pattern matches no name".into(), "write a name or a pattern"));
    }
    if pattern.len() > MAX_LENGTH {
        let found = format!("a pattern of {} bytes is longer than any name", pattern.len());
        return Err((found, "write at most 1024 bytes"));
    }
    let mut rest = pattern;
    while let Some((element, after)) = next(rest) {
        match element {
            Element::Byte(b'[') if rest.first() == Some(&b'[') => {
                return Err(("`[` without `]`".into(), "close the set, or write `\\[` for the bracket itself"));
            }
            Element::Byte(_) if rest == b"\\" => {
                return Err(("a backslash with nothing after it".into(), "write `\\\\` for the backslash itself"));
            }
            Element::Set(set) => set.check()?,
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

fn next(pattern: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&first, rest) = pattern.split_first()?;
    Some(match first {
        b'*' => (Element::Star, rest),
        b'?' => (Element::Any, rest),
        b'[' => match Set::parse(rest) {
            Some((set, rest)) => (Element::Set(set), rest),
            None => (Element::Byte(first), rest),
        },
        _ => {
            let (byte, rest) = unescape(pattern)?;
            (Element::Byte(byte), rest)
        }
    })
}

/// The first byte that is meant, and what follows it.
fn unescape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

impl Element<'_> {
    fn takes(&self, spelt: fn(u8) -> u8, byte: u8) -> bool {
        match self {
            Element::Star | Element::Any => true,
            Element::Byte(own) => spelt(*own) == spelt(byte),
            Element::Set(set) => set.takes(spelt, byte),
        }
    }
}

impl<'a> Set<'a> {
    /// The set whose inside begins at `bytes`, and what follows its end.
    fn parse(bytes: &'a [u8]) -> Option<(Set<'a>, &'a [u8])> {
        let (negated, inside) = match bytes {
            [b'!' | b'^', rest @ ..] => (true, rest),
            _ => (false, bytes),
        };
        // A bracket that comes first is a member.
        let (_, mut rest) = unescape(inside)?;
        while let Some((_, after)) = unescape(rest) {
            if let [b']', after @ ..] = rest {
                let members = inside.get(..inside.len().checked_sub(rest.len())?)?;
                return Some((Set { negated, members }, after));
            }
            rest = after;
        }
        None
    }

    /// The members as ranges, both ends included.
    fn ranges(&self) -> impl Iterator<Item = (u8, u8)> {
        let mut rest = self.members;
        std::iter::from_fn(move || {
            let (low, after) = unescape(rest)?;
            rest = after;
            let [b'-', bound @ ..] = after else { return Some((low, low)) };
            let Some((high, after)) = unescape(bound) else { return Some((low, low)) };
            rest = after;
            Some((low, high))
        })
    }

    fn takes(&self, spelt: fn(u8) -> u8, byte: u8) -> bool {
        let is_member =
            self.ranges().any(|(low, high)| (low..=high).contains(&byte) || (low == high && spelt(low) == spelt(byte)));
        is_member != self.negated
    }

    fn check(&self) -> Result<(), (String, &'static str)> {
        if self.members.starts_with(b"[:") {
            return Err(("named classes such as `[:alpha:]` are not known".into(), "write the range: `[a-z]`"));
        }
        match self.ranges().find(|(low, high)| low > high) {
            Some((low, high)) => {
                let range = crate::text::Text(vec![low, b'-', high]);
                Err((format!("the range `{range}` holds nothing"), "write its lower end first"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_a_shell_would() {
        for (pattern, yes, no) in [
            (
                "nf_conntrack",
                &["nf_conntrack", "nf-conntrack"][..],
                &["nf_conntrac", "nf_conntrack_", "", "xnf_conntrack"][..],
            ),
            ("nf-*", &["nf_nat", "nf-", "nf_"], &["nfs", "nf"]),
            ("*", &["", "x", "a\nb"], &[]),
            ("*_*_*", &["a_b-c", "__"], &["a_b", "_"]),
            ("a*b*c", &["abc", "aXbYbZc", "abcc"], &["ab", "acb", "abcd"]),
            ("x?z", &["xyz", "x-z"], &["xz", "xyyz"]),
            ("net-pf-[0-9]", &["net-pf-3", "net_pf_3"], &["net-pf-", "net-pf-a", "net-pf-33"]),
            ("[!0-9]x", &["ax", "-x"], &["5x", "x"]),
            ("[^a]", &["b"], &["a", ""]),
            ("[]a]", &["]", "a"], &["b", "]a"]),
            ("[!]]", &["a"], &["]"]),
            ("[a-]", &["a", "-", "_"], &["b"]),
            ("[_]", &["-", "_"], &["a"]),
            ("[!-]", &["a"], &["-", "_"]),
            // As bounds, and between them, the two stay apart.
            ("[+--]", &["+", ",", "-"], &["_", "."]),
            ("[_-z]", &["_", "a"], &["-"]),
            ("[\\]x]", &["]", "x"], &["\\"]),
            ("\\*", &["*"], &["x", "\\*"]),
            ("a\\", &["a\\"], &["a"]),
            ("a[b", &["a[b"], &["ab"]),
        ] {
            for name in yes {
                assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} matches {name}");
            }
            for name in no {
                assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} does not match {name}");
            }
        }
        assert!(matches(b"crypto-?*", b"crypto-\xff\xfe"));
    }

    #[test]
    fn exactly_tells_the_two_dashes_apart() {
        for (pattern, yes, no) in [
            ("foo-bar.service", &["foo-bar.service"][..], &["foo_bar.service", "foo-bar"][..]),
            ("foo_*", &["foo_bar"], &["foo-bar"]),
            ("[_]x", &["_x"], &["-x"]),
            ("[!-]x", &["_x"], &["-x"]),
            ("a?b", &["a-b", "a_b"], &["ab"]),
        ] {
            for name in yes {
                assert!(matches_exactly(pattern.as_bytes(), name.as_bytes()), "{pattern} matches {name}");
            }
            for name in no {
                assert!(!matches_exactly(pattern.as_bytes(), name.as_bytes()), "{pattern} does not match {name}");
            }
        }
    }

    #[test]
    fn what_is_covered_is_certain() {
        let exact: fn(u8) -> u8 = |byte| byte;
        for (wide, narrow, folded, exactly) in [
            ("*", "*", true, true),
            ("*", "a?[b-d]*", true, true),
            ("nf_*", "nf-conntrack*", true, false),
            ("nf_*", "nf_conntrack", true, true),
            ("nf_*", "nf*", false, false),
            ("nf_c*", "nf_*", false, false),
            ("*_nat", "iptable_*_nat", true, true),
            ("*_nat", "iptable_na?", false, false),
            ("a*c*e", "abcde", true, true),
            ("a*c*e", "a*c", false, false),
            ("net-pf-[0-9]*", "net-pf-3[89]", true, true),
            ("net-pf-[0-9]", "net-pf-?", false, false),
            ("net-pf-?", "net-pf-[!0]", true, true),
            ("?", "*", false, false),
            // The same, and not one element at a time.
            ("??*", "?*?", false, false),
            ("??*", "?*", false, false),
            ("[a-z]x", "[b-d]x", true, true),
            ("[b-d]x", "[a-z]x", false, false),
            // The range ends at the underscore; the name may be written with a dash.
            ("[A-_]", "_", false, true),
            ("\\*", "\\*", true, true),
            ("\\*", "x", false, false),
        ] {
            assert_eq!(covers(fold, wide.as_bytes(), narrow.as_bytes()), folded, "{wide} {narrow}");
            assert_eq!(covers(exact, wide.as_bytes(), narrow.as_bytes()), exactly, "{wide} {narrow} exactly");
        }
    }

    #[test]
    fn a_literal_stands_for_its_name_alone() {
        for name in ["nf_nat", "run-docker\\x2d.mount", "*", "[a]", "a?", "!x", "\\"] {
            let pattern = literal(name);
            assert_eq!(check(pattern.as_bytes()), Ok(()), "{pattern}");
            assert!(matches_exactly(pattern.as_bytes(), name.as_bytes()), "{pattern}");
            assert!(!pattern.starts_with('!') && !matches_exactly(pattern.as_bytes(), b"a"), "{pattern}");
        }
        assert_eq!(literal("nf_nat"), "nf_nat");
    }

    #[test]
    fn many_stars_cost_no_more_than_length_times_length() {
        let pattern = [b"*a".repeat(500), b"b".to_vec()].concat();
        let name = b"a".repeat(20_000);
        assert!(!matches(&pattern, &name));
    }

    #[test]
    fn what_can_never_match_is_told() {
        for (pattern, found) in [
            ("", "an empty pattern matches no name"),
            ("nf_[ab", "`[` without `]`"),
            ("nf_[]", "`[` without `]`"),
            ("nf_[!]", "`[` without `]`"),
            ("nf_\\", "a backslash with nothing after it"),
            ("[z-a]", "the range `z-a` holds nothing"),
            ("[[:alpha:]]", "named classes such as `[:alpha:]` are not known"),
        ] {
            assert_eq!(check(pattern.as_bytes()).unwrap_err().0, found, "{pattern}");
        }
        assert_eq!(check(&[b'a'; 1025]).unwrap_err().0, "a pattern of 1025 bytes is longer than any name");
        for pattern in ["*", "nf_*", "[a-z]", "[!]]", "\\[", "a]", "\\\\", "[a-]"] {
            assert_eq!(check(pattern.as_bytes()), Ok(()), "{pattern}");
        }
    }
}

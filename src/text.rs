//! Text that came from users: bytes, with one printable form everywhere.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that somebody else chose: names asked for, command lines, paths, comms.
///
/// Its `Display` is the one form it has in every sink and on every terminal: printable UTF-8 as it is, a backslash
/// doubled, every other byte as `\xNN`. That form is a single line, cannot move a cursor, and can be turned back
/// ([`Text::unescape`]). In JSON it is that form; in the applied policy and between our own processes, the bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub Vec<u8>);

/// Ends a text that was shortened, and stands for what was left out.
pub const CUT: &str = "…";

impl Text {
    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// At most `limit` bytes, of which the last are `…` if something was cut off; no character is cut in two.
    #[must_use]
    pub fn short(&self, limit: usize) -> Text {
        let Some(start) = self.0.get(..limit.saturating_sub(CUT.len())).filter(|_| self.0.len() > limit) else {
            return self.clone();
        };
        let length = match std::str::from_utf8(start) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => start.len(),
        };
        Text([start.get(..length).unwrap_or_default(), CUT.as_bytes()].concat())
    }

    /// Whether it may have been shortened.
    pub fn is_short(&self) -> bool {
        self.0.ends_with(CUT.as_bytes())
    }

    /// The bytes that a printed form stands for; `None` if it is not such a form.
    pub fn unescape(form: &str) -> Option<Text> {
        let mut bytes = Vec::with_capacity(form.len());
        let mut rest = form.as_bytes().iter();
        while let Some(&byte) = rest.next() {
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            match rest.next()? {
                b'\\' => bytes.push(b'\\'),
                b'x' => {
                    let high = (*rest.next()? as char).to_digit(16)?;
                    let low = (*rest.next()? as char).to_digit(16)?;
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                }
                _ => return None,
            }
        }
        Some(Text(bytes))
    }
}

/// `1 rule`, `2 rules`.
pub fn counted(count: usize, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

/// `bytes`, if they are their own printable form, as nearly all are; told cheaply, so some are missed.
pub fn plain(bytes: &[u8]) -> Option<&str> {
    let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~'));
    std::str::from_utf8(bytes).ok().filter(|_| is_plain)
}

/// Writes `bytes` in the printable form of [`Text`].
pub fn escape(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    if let Some(plain) = plain(bytes) {
        return out.write_str(plain);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.write_str("\\\\")?,
                c if is_printable(c) => out.write_char(c)?,
                c => escape_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), out)?,
            }
        }
        escape_bytes(chunk.invalid(), out)?;
    }
    Ok(())
}

fn escape_bytes(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
}

/// The same JSON, with what no terminal shows as itself as `\uNNNN`: JSON escapes controls below the blank only. Nothing
/// of the kind can stand outside of its strings, if it is on one line.
pub fn printable_json(line: &str) -> String {
    let mut printable = String::with_capacity(line.len());
    for c in line.chars() {
        match is_printable(c) {
            true => printable.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                // A String takes everything.
                let _ = write!(printable, "\\u{unit:04x}");
            }),
        }
    }
    printable
}

/// Whether a terminal shows `c` as itself: no control, format, separator (but the space), private or unassigned one.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // std knows the Unicode tables but shows them only through escape_debug, which also escapes a combining mark at
    // the start of a string: hence the letter in front.
    let mut buffer = [b'a'; 5];
    let length = 1 + c.encode_utf8(buffer.get_mut(1..).unwrap_or_default()).len();
    let pair = buffer.get(..length).and_then(|pair| std::str::from_utf8(pair).ok()).unwrap_or_default();
    pair.escape_debug().nth(1) == Some(c)
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&self.0, f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Text {
        Text(bytes.to_vec())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match plain(&self.0) {
            _ if !serializer.is_human_readable() => serializer.serialize_bytes(&self.0),
            Some(plain) => serializer.serialize_str(plain),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        if deserializer.is_human_readable() {
            let form = String::deserialize(deserializer)?;
            Text::unescape(&form).ok_or_else(|| de::Error::custom("a backslash that begins neither \\\\ nor \\xNN"))
        } else {
            Vec::<u8>::deserialize(deserializer).map(Text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let short = |text: &[u8]| Text::from(text).short(8);
        for (text, expected) in [("abcdefgh", "abcdefgh"), ("abcdefghi", "abcde…"), ("abcdüüü", "abcd…")] {
            assert_eq!(short(text.as_bytes()), Text::from(expected));
        }
        assert_eq!(short(&[0xff; 9]), Text([&[0xff; 5][..], "…".as_bytes()].concat()));
        assert!(short(b"abcdefghi").is_short() && !Text::from("abc").is_short());
    }

    #[test]
    fn has_one_printable_form() {
        for (bytes, form) in [
            (&b"nf_conntrack"[..], "nf_conntrack"),
            (b"a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
            (b"quote\" back\\slash", "quote\" back\\\\slash"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("ü€🦀".as_bytes(), "ü€🦀"),
            ("e\u{301}".as_bytes(), "e\u{301}"),
            ("\u{202e}\u{85}\u{a0}\u{2028}".as_bytes(), "\\xe2\\x80\\xae\\xc2\\x85\\xc2\\xa0\\xe2\\x80\\xa8"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
        ] {
            assert_eq!(Text::from(bytes).to_string(), form);
            assert_eq!(Text::unescape(form), Some(Text::from(bytes)));
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = Text(all);
        assert_eq!(Text::unescape(&text.to_string()), Some(text.clone()));
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
        let wire = postcard::to_stdvec(&text).unwrap();
        assert_eq!(postcard::from_bytes::<Text>(&wire).unwrap(), text);
    }

    #[test]
    fn json_moves_no_cursor() {
        let text = "ü \u{7f}\u{9b}31m\u{202e}\u{e0001}\\";
        let json = printable_json(&serde_json::to_string(text).unwrap());
        assert_eq!(json, r#""ü \u007f\u009b31m\u202e\udb40\udc01\\""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn a_form_that_stands_for_nothing_is_refused() {
        for form in ["\\", "\\n", "\\x", "\\x1", "\\xzz"] {
            assert_eq!(Text::unescape(form), None, "{form}");
        }
    }
}

//! The lines and words of a configuration file, as kmod cuts them.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::io::BufRead;

/// The logical lines of a file, each with the number of the line where it begins, counted from 1.
///
/// A backslash before a newline joins two lines; before anything else it is dropped and what follows kept. A line
/// ends at a NUL byte, since kmod's are C strings (`freadline_wrapped`).
pub fn logical_lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Cow<'_, [u8]>)> {
    let mut rest = bytes;
    let mut newlines = 0_usize;
    std::iter::from_fn(move || {
        let begins = newlines + 1;
        // Nearly all lines stand there as they are meant. To look at each byte of them took a tenth of a whole request:
        // the standard library has words of them compared.
        let mut after = rest;
        let length = after.skip_until(b'\n').unwrap_or_default();
        let line = rest.get(..length).unwrap_or_default();
        let end = match line.contains(&b'\\') {
            true => line.iter().position(|&byte| byte == b'\\').unwrap_or(length),
            false => line.strip_suffix(b"\n").unwrap_or(line).len(),
        };
        let (mut line, after) = rest.split_at_checked(end).map(|(line, after)| (Cow::Borrowed(line), after))?;
        rest = after;
        loop {
            rest = match rest {
                [] if line.is_empty() => return None,
                [] | [b'\n', ..] => break,
                [b'\\'] => &[],
                [b'\\', b'\n', after @ ..] => {
                    newlines += 1;
                    after
                }
                [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                    line.to_mut().push(*byte);
                    after
                }
            };
        }
        if let [_newline, after @ ..] = rest {
            newlines += 1;
            rest = after;
        }
        if line.contains(&0)
            && let Some(end) = line.iter().position(|&byte| byte == 0)
        {
            line.to_mut().truncate(end);
        }
        Some((begins, line))
    })
}

/// isspace(3) in the "C" locale.
pub fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The words of a line, parted by blanks and tabs.
pub struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    /// All that follows the one blank behind the last word; `None` if that is nothing.
    pub fn rest(&self) -> Option<&'a [u8]> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let begin = self.0.iter().position(|byte| !is_blank(byte))?;
        let text = self.0.get(begin..)?;
        let end = text.iter().position(is_blank).unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_counted() {
        for (text, expected) in [
            ("", &[][..]),
            ("a", &[(1, "a")]),
            ("a\n\nb\n", &[(1, "a"), (2, ""), (3, "b")]),
            ("a\\\nb\nc", &[(1, "ab"), (3, "c")]),
            ("a\\\\b\\c", &[(1, "a\\bc")]),
            ("a\\", &[(1, "a")]),
            ("\\\n\\\n", &[]),
            ("a\0b\nc", &[(1, "a"), (2, "c")]),
        ] {
            let lines: Vec<_> = logical_lines(text.as_bytes())
                .map(|(number, line)| (number, String::from_utf8(line.into_owned()).unwrap()))
                .collect();
            assert!(
                lines.iter().map(|(number, line)| (*number, line.as_str())).eq(expected.iter().copied()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn words_leave_the_rest_as_it_is() {
        let mut words = Words(b"\t install  x\r  y z ");
        assert_eq!(words.next(), Some(&b"install"[..]));
        assert_eq!(words.next(), Some(&b"x\r"[..]));
        assert_eq!(words.rest(), Some(&b" y z "[..]));
        assert_eq!(words.by_ref().count(), 2);
        assert_eq!(words.rest(), None);
    }
}

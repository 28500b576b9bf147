//! What the pages have in common: how words, lines and constants are written in roff(7).

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// When what the pages say was last changed.
pub const DATE: &str = "2026-11-21";

/// A page, or a part of one, with a text in each of its places, `{{name}}`; one that there is no text for stays, to be
/// seen. What is put in is not looked through again.
pub fn filled(page: &str, texts: &[(&str, String)]) -> String {
    let mut parts = page.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = part.split_once("}}").and_then(|(name, rest)| {
            let (_, text) = texts.iter().find(|(other, _)| *other == name)?;
            Some((text, rest))
        });
        let Some((text, rest)) = known else {
            filled.push_str("{{");
            filled.push_str(part);
            continue;
        };
        // What fills lines of its own ends them itself.
        let rest = if text.ends_with('\n') { rest.strip_prefix('\n').unwrap_or(rest) } else { rest };
        filled.push_str(text);
        filled.push_str(rest);
    }
    filled
}

/// A text as it stands within a line, or as an argument of a macro.
pub fn escaped(text: &str) -> String {
    text.replace('\\', r"\e").replace('-', r"\-").replace('"', r"\(dq")
}

/// Words as lines: what is between backquotes in bold, and the names of pages.
pub fn words(words: &str) -> String {
    let mut inlines: Vec<Inline> = Vec::new();
    for (at, part) in words.split('`').enumerate() {
        if at % 2 == 1 {
            inlines.push(bold(part));
        } else {
            let mut rest = part;
            while let Some((before, name, behind)) = page_name(rest) {
                inlines.extend([roman(before), bold(name)]);
                rest = behind;
            }
            inlines.push(roman(rest));
        }
    }
    folded(Roff::new().text(inlines).to_roff().trim_end())
}

/// The first name of a page in `text`, `name(5)`: what is before it, the name, and what is behind it from the bracket on.
fn page_name(text: &str) -> Option<(&str, &str, &str)> {
    let sections = ["(5)", "(7)", "(8)"].map(|section| text.find(section));
    let end = sections.into_iter().flatten().min()?;
    let (before, behind) = text.split_at_checked(end)?;
    let start = before.rfind([' ', '(']).map_or(0, |blank| blank.saturating_add(1));
    let (before, name) = before.split_at_checked(start)?;
    (!name.is_empty()).then_some((before, name, behind))
}

/// An entry of a list: what it is about, in bold, with what belongs to that, and the words about it.
pub fn entry(name: &str, more: &str, about: &str) -> String {
    let tag = Roff::new().text([bold(name), roman(more)]).to_roff();
    format!(".TP\n{tag}{}", words(about))
}

/// A line of text as lines of at most 80 bytes, where its blanks allow it: short ones are what mandoc(1) wants.
pub fn folded(line: &str) -> String {
    let mut folded = String::new();
    let mut length: usize = 0;
    for word in line.split(' ') {
        // At the beginning of a line a dot or an apostrophe would be a macro's.
        let breaks =
            !line.starts_with('.') && length.saturating_add(word.len()) >= 80 && !word.starts_with(['.', '\'']);
        if breaks {
            folded.push('\n');
            length = 0;
        } else if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
        length = length.saturating_add(word.len()).saturating_add(1);
    }
    folded + "\n"
}

/// `one, two or three`.
pub fn listed(items: &[String], or: &str) -> String {
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {or} {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_lines_that_are_no_macros() {
        for (text, expected) in [
            ("see `a-b` (sysctl.d(5)), and more", "see \\fBa\\-b\\fR (\\fBsysctl.d\\fR(5)), and more\n"),
            ("modprobe(8)", "\\fBmodprobe\\fR(8)\n"),
            (".a", "\\&.a\n"),
            ("(8)", "(8)\n"),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        let long = words(&"'word .word ".repeat(40));
        assert!(long.lines().all(|line| !line.starts_with(['.', '\''])), "{long}");
    }

    #[test]
    fn places_are_filled_once() {
        let texts = [("a", "{{b}}".to_owned()), ("b", "x\ny\n".to_owned())];
        assert_eq!(filled("1{{a}}2\n{{b}}\n3{{c}}", &texts), "1{{b}}2\nx\ny\n3{{c}}");
    }
}

//! What a person sees on a terminal: colours, and lines as wide as it is. Whoever reads from a pipe or a file gets the
//! plain lines.
//!
//! Texts that others chose come here in their printable form ([`Text`](crate::text::Text)), so the only escapes are ours.
#![forbid(unsafe_code)]

use std::io::IsTerminal;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use terminal_size::{Width, terminal_size_of};
use textwrap::core::{break_words, display_width};
use textwrap::{Options, WordSplitter};

use crate::model::Action;

/// Between the label of a line and its text.
const LABEL: usize = 8;
/// Narrower than that nothing is fitted.
const NARROWEST: usize = 20;

/// How standard output shows lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Columns; `None` where lines are plain.
    width: Option<usize>,
    has_colour: bool,
}

/// How a word stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Something to look at.
    Warning,
    /// Blocked, or wrong.
    Bad,
    /// Less than the rest.
    Quiet,
    /// Nothing special.
    Plain,
}

impl Tone {
    /// That of a verdict.
    pub fn of(action: Action, enforced: bool) -> Tone {
        match action {
            Action::Block if enforced => Tone::Bad,
            Action::Block => Tone::Warning,
            Action::AllowSysctl => Tone::Good,
            Action::Allow => Tone::Plain,
        }
    }

    fn style(self) -> Style {
        match self {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Quiet => Style::new().dimmed(),
            Tone::Plain => Style::new(),
        }
    }
}

impl Terminal {
    /// Standard output. Colours come only where it is a terminal and nobody speaks against them: `NO_COLOR`,
    /// `CLICOLOR=0`, `TERM=dumb`.
    pub fn stdout() -> Terminal {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Terminal::default();
        }
        let width = terminal_size_of(&stdout).map(|(Width(width), _)| usize::from(width));
        let has_colour = AutoStream::choice(&stdout) != ColorChoice::Never;
        Terminal { width: Some(width.unwrap_or(80).max(NARROWEST)), has_colour }
    }

    /// Its columns; `None` where lines are not fitted to anything.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// `text`, standing out as `tone` does.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let style = tone.style();
        if self.has_colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A label and what it is about, in a column of its own: one line, or several where the terminal is not wide enough.
    pub fn labelled(&self, tone: Tone, label: &str, text: &str) -> String {
        let plain = format!("  {label:<LABEL$} {text}");
        let Some(width) = self.width else { return plain };
        let indent = " ".repeat(LABEL + 3);
        let options = Options::new(width).subsequent_indent(&indent).word_splitter(WordSplitter::NoHyphenation);
        let wrapped = textwrap::fill(&plain, options);
        // The label is the beginning, whatever was wrapped.
        match wrapped.get(2..).and_then(|rest| rest.strip_prefix(label)) {
            Some(rest) if !label.is_empty() => format!("  {}{rest}", self.paint(tone, label)),
            _ => wrapped,
        }
    }
}

/// `text` in at most `width` columns; the last is `…` if something was cut off.
pub fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let words = break_words([textwrap::core::Word::from(text)], width.saturating_sub(1));
    format!("{}…", words.first().map_or("", |word| word.word))
}

/// As wide as `width` with blanks behind `text`, or in front of it.
pub fn padded(text: &str, width: usize, is_to_the_right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(display_width(text)));
    if is_to_the_right { blanks + text } else { text.to_owned() + &blanks }
}

#[cfg(test)]
impl Terminal {
    /// One of so many columns, for tests.
    pub fn of_width(width: usize, has_colour: bool) -> Terminal {
        Terminal { width: Some(width), has_colour }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_stays_as_it_is() {
        let plain = Terminal::default();
        let long = "word ".repeat(50);
        assert_eq!(plain.labelled(Tone::Bad, "problem", &long), format!("  problem  {long}"));
        assert_eq!(plain.paint(Tone::Bad, "BLOCK"), "BLOCK");
    }

    #[test]
    fn long_lines_are_wrapped_behind_their_label() {
        let text = "one two three four five /etc/modprobe-guard/policy.toml:14";
        let shown = Terminal::of_width(30, false).labelled(Tone::Bad, "problem", text);
        assert_eq!(
            shown,
            "  problem  one two three four\n           five\n           /etc/modprobe-guard\n           /policy.toml:14"
        );
        let coloured = Terminal::of_width(30, true).labelled(Tone::Bad, "problem", text);
        assert_eq!(coloured.replace("\x1b[1m\x1b[31m", "").replace("\x1b[0m", ""), shown);
        assert!(coloured.starts_with("  \x1b["), "{coloured:?}");
    }

    #[test]
    fn texts_are_cut_and_padded_by_what_they_look_like() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ウィキ", 4, "ウ…"),
            ("a b c d", 4, "a b…"),
            ("e\u{301}abc", 3, "e\u{301}a…"),
        ] {
            assert_eq!(cut(text, width), expected);
        }
        assert_eq!((padded("ウ", 4, false), padded("ウ", 4, true)), ("ウ  ".to_owned(), "  ウ".to_owned()));
    }
}

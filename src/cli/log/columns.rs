//! The summary's lines, in columns: for a pipe as wide as their texts, on a terminal no wider than that is.
#![forbid(unsafe_code)]

use textwrap::core::display_width;

use crate::cli::terminal::{Terminal, Tone, cut, padded};

/// A column for a pipe is at most so wide; longer texts push the rest of their line.
const WIDTH: usize = 48;
/// Nothing is cut shorter.
const SHORTEST: usize = 6;
/// Between columns.
const GAP: usize = 2;

/// A column.
struct Column {
    head: &'static str,
    /// On a terminal not narrower than that, as long as there are columns to leave out; `None`: never cut.
    least: Option<usize>,
    /// In which order columns are left out where the least of all does not fit; `None`: never.
    left_out: Option<u32>,
}

/// Count, verdict, what, who, user, rule, first, last.
pub type Cells = [String; 8];

const VERDICT: usize = 1;
const COLUMNS: [Column; 8] = [
    Column { head: "COUNT", least: None, left_out: None },
    Column { head: "VERDICT", least: None, left_out: None },
    Column { head: "REQUEST", least: Some(16), left_out: None },
    Column { head: "WHO", least: Some(18), left_out: None },
    Column { head: "UID", least: None, left_out: Some(2) },
    Column { head: "RULE", least: Some(12), left_out: Some(3) },
    Column { head: "FIRST", least: None, left_out: Some(0) },
    Column { head: "LAST", least: None, left_out: Some(1) },
];

/// A head, and a line for each of `rows`, whose verdict stands out as its tone does.
pub fn lines(rows: Vec<(Cells, Tone)>, out: Terminal) -> Vec<String> {
    let head = (COLUMNS.map(|column| column.head.to_owned()), Tone::Plain);
    let rows: Vec<(Cells, Tone)> = std::iter::once(head).chain(rows).collect();
    let Some(width) = out.width() else {
        let widths = widths(&rows, |cell| cell.chars().count().min(WIDTH));
        return rows.iter().map(|(cells, _)| plain(cells, &widths)).collect();
    };
    let widths = fitted(widths(&rows, |cell| display_width(cell)), width);
    let line = |(at, (cells, tone)): (usize, &(Cells, Tone))| match at {
        0 => out.paint(Tone::Quiet, &fit(cells, &widths, |_, text| text)),
        _ => fit(cells, &widths, |column, text| if column == VERDICT { out.paint(*tone, &text) } else { text }),
    };
    rows.iter().enumerate().map(line).collect()
}

fn widths(rows: &[(Cells, Tone)], width: impl Fn(&String) -> usize) -> [usize; 8] {
    let mut widths = [0; 8];
    for (cells, _) in rows {
        for (widest, cell) in widths.iter_mut().zip(cells) {
            *widest = width(cell).max(*widest);
        }
    }
    widths
}

/// The first column to the right, the others to the left.
fn plain(cells: &Cells, widths: &[usize; 8]) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        line += &if at == 0 { format!("{cell:>width$}") } else { format!("  {cell:<width$}") };
    }
    line.truncate(line.trim_end().len());
    line
}

/// Widths with which a line has room in `room` columns; zero is a column that is left out.
fn fitted(mut widths: [usize; 8], room: usize) -> [usize; 8] {
    let least = |widths: &[usize; 8], least: fn(usize) -> usize| -> [usize; 8] {
        let mut shortest = *widths;
        for (width, column) in shortest.iter_mut().zip(&COLUMNS) {
            *width = column.least.map_or(*width, |columns| least(columns).min(*width));
        }
        shortest
    };
    let line = |widths: &[usize; 8]| -> usize {
        let shown = widths.iter().filter(|width| **width > 0);
        shown.map(|width| width.saturating_add(GAP)).sum::<usize>().saturating_sub(GAP)
    };
    let mut order: Vec<_> =
        COLUMNS.iter().enumerate().filter_map(|(at, column)| Some((column.left_out?, at))).collect();
    order.sort_unstable();
    for (_, at) in order {
        if line(&least(&widths, |columns| columns)) <= room {
            break;
        }
        if let Some(width) = widths.get_mut(at) {
            *width = 0;
        }
    }
    // Whichever is the widest gives way, as long as any can.
    let least = least(&widths, |_| SHORTEST);
    while line(&widths) > room {
        let can = widths.iter_mut().zip(least).filter(|(width, least)| **width > *least);
        let Some((widest, _)) = can.max_by_key(|(width, _)| **width) else { break };
        *widest = widest.saturating_sub(1);
    }
    widths
}

fn fit(cells: &Cells, widths: &[usize; 8], paint: impl Fn(usize, String) -> String) -> String {
    let mut line = String::new();
    let last = widths.iter().rposition(|width| *width > 0);
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate().filter(|(_, (_, width))| **width > 0) {
        let text = cut(cell, *width);
        // Blanks at the end of a line would begin another one.
        let text = if Some(at) == last { text } else { padded(&text, *width, at == 0) };
        line += if at == 0 { "" } else { "  " };
        line += &paint(at, text);
    }
    line
}

#[cfg(test)]
mod tests {

    use super::*;

    fn rows() -> Vec<(Cells, Tone)> {
        let row = |count: &str, verdict: &str, name: &str| {
            let time = "2026-11-20T12:00:00Z";
            [count, verdict, name, "a-service-with-a-long-name.service", "1000", "no-conntrack", time, time]
                .map(str::to_owned)
        };
        vec![
            (row("36", "BLOCK", "net-pf-9"), Tone::Bad),
            (row("1", "allow", &"\u{30a6}\u{30a3}\u{30ad}".repeat(20)), Tone::Plain),
        ]
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 100, 132, 200, 500] {
            let lines = lines(rows(), Terminal::of_width(width, false));
            assert!(lines.iter().all(|line| display_width(line) <= width), "{width}: {lines:#?}");
            // Columns begin where their heads do.
            let who = |line: &String, what: &str| display_width(line.split(what).next().unwrap_or_default());
            assert_eq!(who(&lines[0], "WHO"), who(&lines[1], "a-se"), "{width}: {lines:#?}");
            assert_eq!(who(&lines[0], "WHO"), who(&lines[2], "a-se"), "{width}: {lines:#?}");
            assert_eq!(lines[0].contains("FIRST"), width > 100, "{width}: {lines:#?}");
            assert_eq!(lines[1].contains("a-service-with-a-long-name.service"), width > 132, "{width}: {lines:#?}");
        }
    }

    #[test]
    fn only_verdicts_have_colours() {
        let plain = lines(rows(), Terminal::of_width(200, false));
        let coloured = lines(rows(), Terminal::of_width(200, true));
        assert_eq!(coloured[1].replace("\x1b[1m\x1b[31mBLOCK  \x1b[0m", "BLOCK  "), plain[1]);
        assert_eq!(coloured[2], plain[2]);
    }
}

//! Records -> a policy: who asked for what becomes who may have it. Pure over the lines that it is handed.
//!
//! [`Learner`] reads lines into [`Groups`] (one for each thread; the order of lines is nothing to it), [`draft`] makes
//! rules of them, [`render`] the text of a policy file.
#![forbid(unsafe_code)]

mod closure;
mod draft;
mod groups;
mod keys;
mod line;
mod past;
mod render;
mod tally;
mod unit;
mod who;

use std::io::BufRead;

pub use draft::{Draft, Options, draft};
pub use groups::{Counts, Groups, Learner};
pub use past::{Change, Changes, Judge, Sum};
pub use render::render;
pub use tally::Day;

/// Calls `each` with every line that is not empty.
fn lines(mut text: &[u8], mut each: impl FnMut(&[u8])) {
    while !text.is_empty() {
        let mut rest = text;
        // Of bytes in memory every one can be read.
        let length = rest.skip_until(b'\n').unwrap_or(text.len());
        let (line, _) = text.split_at(length.min(text.len()));
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if !line.is_empty() {
            each(line);
        }
        text = rest;
    }
}

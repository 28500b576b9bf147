//! What must hold for any bytes: one file a subject. A target panics where it does not hold.
//!
//! `cargo test` tries each with its seeds and what comes of them by chance (tests/it/fuzz.rs); `tests/fuzz/run` lets
//! libFuzzer look for what chance does not find.

mod applied;
mod argv;
mod glob;
mod index;
mod modprobe_d;
mod object;
mod policy;
mod proc;
mod record;
mod recorder;
mod sysctl_d;
mod text;

/// A target: its name, which is that of its folder in `seeds`, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 12] = [
    ("applied", applied::check),
    ("argv", argv::check),
    ("glob", glob::check),
    ("index", index::check),
    ("modprobe_d", modprobe_d::check),
    ("object", object::check),
    ("policy", policy::check),
    ("proc", proc::check),
    ("record", record::check),
    ("recorder", recorder::check),
    ("sysctl_d", sysctl_d::check),
    ("text", text::check),
];

/// Takes the beginning of `data` up to the first NUL.
fn until_nul<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (part, rest) = data.split_at(end);
    *data = rest.get(1..).unwrap_or_default();
    part
}

/// Takes the first byte; 0 where there is none.
fn byte(data: &mut &[u8]) -> u8 {
    let (first, rest) = data.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
    *data = rest;
    first
}

/// Whether a terminal shows `text` as one line that does nothing.
fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}'))
}

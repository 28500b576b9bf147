//! Names of places in the kernel, from `/proc/kallsyms`.
//!
//! The file has some hundred thousand lines, and the kernel takes tens of milliseconds to write them: this is for
//! requests that nobody waits for, whose place no stack shows.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::host::Host;
use crate::requester::time_used;
use crate::text::Text;

/// The function in which `address` lies: `FUNCTION+0xOFFSET`, and ` [MODULE]` if it is one's. `None` if the kernel
/// hides its addresses, or that takes more than `patience` of processor time.
pub fn function_at(host: &Host, address: u64, patience: Duration) -> Option<Text> {
    let file = host.open("/proc/kallsyms").ok()?;
    nearest(BufReader::with_capacity(64 << 10, file), address, || time_used() < patience)
}

fn nearest(mut symbols: impl BufRead, address: u64, goes_on: impl Fn() -> bool) -> Option<Text> {
    let mut best: Option<(u64, Vec<u8>)> = None;
    let mut line = Vec::with_capacity(256);
    let mut lines: u32 = 0;
    while symbols.read_until(b'\n', &mut line).ok()? > 0 {
        lines = lines.wrapping_add(1);
        if lines.is_multiple_of(1024) && !goes_on() {
            return None;
        }
        // ADDRESS KIND NAME[\t[MODULE]]
        let mut fields = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
        let start = fields.next().and_then(|field| u64::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok());
        if let (Some(start), Some(b"t" | b"T" | b"w" | b"W"), Some(name)) = (start, fields.next(), fields.next())
            && start != 0
            && start <= address
            && best.as_ref().is_none_or(|(before, _)| *before < start)
        {
            best = Some((start, name.to_vec()));
        }
        line.clear();
    }
    let (start, name) = best?;
    let mut fields = name.splitn(2, |&byte| byte == b'\t');
    let mut text = fields.next()?.to_vec();
    text.extend(format!("+{:#x}", address - start).as_bytes());
    if let Some(module) = fields.next() {
        text.push(b' ');
        text.extend(module);
    }
    Some(Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_function_before_it() {
        let symbols = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\nffffffff81000100 t first\n\
            ffffffff81000180 D data\nffffffff81000200 T second\nffffffffc0000000 t init\t[nf_nat]\n\
            ffffffffc0000040 t other\t[nf_tables]\nnonsense\n\nffffffff81000100 t alias\n";
        for (address, expected) in [
            (0xffff_ffff_8100_01a0, Some("first+0xa0")),
            (0xffff_ffff_8100_0200, Some("second+0x0")),
            (0xffff_ffff_c000_0044, Some("other+0x4 [nf_tables]")),
            (0xffff_ffff_c000_003f, Some("init+0x3f [nf_nat]")),
            (0x1000, None),
        ] {
            assert_eq!(nearest(&symbols[..], address, || true), expected.map(Text::from), "{address:x}");
        }
        assert_eq!(nearest(&b"0000000000000000 T hidden\n"[..], 5, || true), None);
        let long = symbols.repeat(1000);
        let found = |goes_on: bool| nearest(&long[..], 0xffff_ffff_8100_0200, || goes_on).is_some();
        assert!(found(true) && !found(false));
    }
}

//! Last words, put together where nothing may be allocated.

use std::ffi::CStr;
use std::sync::atomic::Ordering::SeqCst;

use super::ARGUMENTS;

/// One line to the kernel log (authpriv, err), if it can be had at once: what happened, and what was asked for.
pub fn now(what: &[u8]) {
    let mut line = Line { bytes: [0; 512], length: 0 };
    line.extend(b"<83>modprobe-guard: ");
    line.extend(what);
    line.extend(b" request=");
    // Of all shapes of a request the name is the last argument; of a longer line it is at least a hint.
    if let Some(last) = ARGUMENTS.iter().map(|slot| slot.load(SeqCst)).take_while(|argument| !argument.is_null()).last()
    {
        // SAFETY: a C string of our own argument vector.
        unsafe { CStr::from_ptr(last) }.to_bytes().iter().for_each(|&byte| line.escape(byte));
    }
    line.extend(b"\n");
    // SAFETY: open, write and close with a valid path and buffer.
    unsafe {
        let log =
            libc::open(c"/dev/kmsg".as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
        if log >= 0 {
            libc::write(log, line.bytes.as_ptr().cast(), line.length);
            libc::close(log);
        }
    }
}

/// A line put together where nothing may be allocated; what does not fit is left out.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Line {
    fn extend(&mut self, more: &[u8]) {
        for &byte in more {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    /// The form of [`crate::text::Text`], all that is not ASCII by its bytes, and a blank as well.
    fn escape(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'?');
        match byte {
            b'\\' => self.extend(b"\\\\"),
            b'!'..=b'~' => self.extend(&[byte]),
            _ => self.extend(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_and_no_line_is_too_long() {
        let mut line = Line { bytes: [0; 512], length: 0 };
        b"a b\\\n\xff".iter().for_each(|&byte| line.escape(byte));
        assert_eq!(&line.bytes[..line.length], br"a\x20b\\\x0a\xff");
        (0..2000).for_each(|_| line.escape(b'x'));
        assert_eq!(line.length, 512);
    }
}

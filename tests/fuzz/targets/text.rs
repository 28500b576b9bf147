//! Text that came from users has one printable form, and that form stands for nothing else.

use std::fmt::Write;

use modprobe_guard::text::{self, Text};

pub fn check(data: &[u8]) {
    let text = Text::from(data);
    let form = text.to_string();
    assert!(super::is_printable(&form), "{form:?}");
    assert_eq!(Text::unescape(&form), Some(text.clone()));
    assert!(text::plain(data).is_none_or(|plain| plain == form));
    // Piece by piece it is the same text, if not always the same form: a character may have been cut.
    let (first, second) = data.split_at(data.len() / 2);
    let mut pieces = String::new();
    text::escape(first, &mut pieces).unwrap();
    text::escape(second, &mut pieces).unwrap();
    assert_eq!(Text::unescape(&pieces), Some(text.clone()));
    let json = serde_json::to_vec(&text).unwrap();
    assert_eq!(serde_json::from_slice::<Text>(&json).unwrap(), text);
    // Read as a form, it stands for one text or for none, and what it stands for has the same printable form ever after.
    if let Some(meant) = std::str::from_utf8(data).ok().and_then(Text::unescape) {
        let mut again = String::new();
        write!(again, "{meant}").unwrap();
        assert_eq!(Text::unescape(&again), Some(meant));
    }
}

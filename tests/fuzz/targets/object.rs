//! A module's file: what it says of itself, or what is wrong with it.

use modprobe_guard::modules::{Object, libraries};

pub fn check(data: &[u8]) {
    match Object::read(data) {
        Ok(object) => {
            // Nothing is there twice over, and nothing that is not in the file.
            assert!(object.needs.iter().all(|(name, _)| !name.is_empty()));
            let said: usize = object.info.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(data.first() != Some(&0x7f) || said <= data.len() * 3, "{said} of {}", data.len());
        }
        Err(flaw) => assert!(super::is_printable(&flaw.to_string()), "{flaw}"),
    }
    let _ = libraries(data);
}

//! Crypto templates: whom a thread of the kernel's works for. Pure.
//!
//! Who needs `hmac(sha256)` asks for `crypto-hmac(sha256)`, and if there is no such module the kernel has a thread of its own
//! (`cryptomgr_schedule_probe`, crypto/algboss.c) ask for `crypto-hmac`, then for `crypto-sha256`: what is in the brackets is
//! the word of whoever asked first.
#![forbid(unsafe_code)]

use crate::text::Text;

/// What the kernel puts before the name of an algorithm, and after it when it asks once more (crypto/api.c).
const BEFORE: &[u8] = b"crypto-";
const AFTER: &[u8] = b"-all";
/// What such a thread's name begins with.
const THREAD: &[u8] = b"cryptomgr_";

/// What the functions are called in which it is waited for (`crypto_alg_mod_lookup`, `crypto_larval_wait`, crypto/api.c).
pub const LOOKUP: &[u8] = b" crypto_";

/// Whether a task of that name may be such a thread. Anybody can take the name, and is then one of several.
pub fn works_for_others(comm: &Text) -> bool {
    comm.as_bytes().starts_with(THREAD)
}

/// Whether who asked for `asked` may need `name` for it.
pub fn needs(asked: &[u8], name: &[u8]) -> bool {
    let (Some(whole), Some(part)) = (algorithm(asked), algorithm(name)) else { return false };
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| b"(),".contains(byte));
    whole.len() > part.len()
        && whole.windows(part.len()).enumerate().any(|(at, window)| {
            window == part
                && is_end(at.checked_sub(1).and_then(|at| whole.get(at)))
                && is_end(whole.get(at + part.len()))
        })
}

fn algorithm(name: &[u8]) -> Option<&[u8]> {
    let name = name.strip_prefix(BEFORE)?;
    Some(name.strip_suffix(AFTER).unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_needs_its_parts() {
        for (asked, name, expected) in [
            ("crypto-hmac(sha256)", "crypto-hmac", true),
            ("crypto-hmac(sha256)", "crypto-sha256", true),
            ("crypto-hmac(sha256)-all", "crypto-sha256-all", true),
            ("crypto-authenc(hmac(sha1),cbc(aes))", "crypto-hmac(sha1)", true),
            ("crypto-authenc(hmac(sha1),cbc(aes))", "crypto-cbc", true),
            // Its own name needs no thread, and a part of a word is none.
            ("crypto-sha256", "crypto-sha256", false),
            ("crypto-hmac(sha256)", "crypto-sha25", false),
            ("crypto-hmac(sha256)", "crypto-ha256", false),
            ("hmac(sha256)", "crypto-sha256", false),
            ("crypto-hmac(sha256)", "sha256", false),
            ("crypto-hmac(sha256)", "crypto-", false),
            ("crypto-hmac(sha256)", "crypto--all", false),
        ] {
            assert_eq!(needs(asked.as_bytes(), name.as_bytes()), expected, "{asked} {name}");
        }
        assert!(works_for_others(&"cryptomgr_probe".into()) && !works_for_others(&"ask".into()));
    }
}

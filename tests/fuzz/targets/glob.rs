//! Patterns: modprobe's are fnmatch(3)'s, the policy's end soon, and no name makes either lose its way.
//!
//! Input: a pattern ended by NUL, a name.

use std::ffi::CString;

use modprobe_guard::modules::glob_match;
use modprobe_guard::policy::{Patterns, pattern};

pub fn check(mut data: &[u8]) {
    let pattern = super::until_nul(&mut data);
    let name: Vec<u8> = data.iter().copied().filter(|&byte| byte != 0).take(256).collect();
    let pattern = pattern.get(..64).unwrap_or(pattern);

    let ours = glob_match(pattern, &name);
    // Of a bracket that is never closed fnmatch(3) makes one thing or the other, and a class by name is a locale's.
    let is_plain = !pattern.contains(&b'[') && !name.iter().chain(pattern).any(|byte| !byte.is_ascii());
    if is_plain {
        let (pattern, name) = (CString::new(pattern).unwrap(), CString::new(name.as_slice()).unwrap());
        // SAFETY: both are strings that end in NUL and live until the call is over.
        let theirs = unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), 0) == 0 };
        assert_eq!(ours, theirs, "{pattern:?} on {name:?}");
    }

    let policys = pattern::matches(pattern, &name);
    // No spelling slips past a rule, unless it has a set: in a range the two stay apart. What is the same is the same.
    let spelt = |bytes: &[u8]| bytes.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect::<Vec<u8>>();
    assert!(pattern.contains(&b'[') || policys == pattern::matches(pattern, &spelt(&name)));
    if pattern::is_literal(pattern) {
        assert_eq!(policys, spelt(pattern) == spelt(&name));
        assert_eq!(pattern::matches_exactly(pattern, &name), pattern == name);
    }
    if let (Ok(text), Ok(())) = (std::str::from_utf8(pattern), pattern::check(pattern)) {
        assert_eq!(Patterns::new([text]).matches(&name), policys, "{text} alone and among others");
        assert_eq!(
            Patterns::new(["nf_nat", text, "x*y"]).matches(&name),
            policys || pattern::matches(b"nf_nat", &name) || pattern::matches(b"x*y", &name)
        );
    }
}

//! Patterns, against fnmatch(3) itself.

use std::ffi::CString;

use modprobe_guard::modules::glob_match;

use crate::random::Random;

fn fnmatch(pattern: &[u8], name: &[u8]) -> bool {
    let (pattern, name) = (CString::new(pattern).unwrap(), CString::new(name).unwrap());
    // SAFETY: both point to strings that end with NUL and live until the call is over.
    unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), 0) == 0 }
}

/// Pieces of patterns; `[` stands for a bracket expression. One that is never closed is left out: there fnmatch(3)
/// answers by how it happens to search.
const PIECES: [&str; 12] = ["a", "b", "c", "*", "*", "?", "[", "[", "]", "-", "\\*", "\\["];
const MEMBERS: [&str; 14] = ["a", "b", "-", "a-c", "b-]", "c-a", "\\]", "\\-", "a-\\b", "!", "^", "[", "*", "?"];

fn pattern(random: &mut Random) -> Vec<u8> {
    let mut pattern = String::new();
    for _ in 0..random.below(7) {
        match *random.pick(&PIECES) {
            "[" => {
                pattern.push_str(random.pick::<&str>(&["[", "[!", "[^", "[]", "[!]", "[^]"]));
                let members = 1 + random.below(3);
                (0..members).for_each(|_| pattern.push_str(random.pick::<&str>(&MEMBERS)));
                pattern.push(']');
            }
            piece => pattern.push_str(piece),
        }
    }
    pattern.into_bytes()
}

#[test]
fn patterns_match_as_with_fnmatch() {
    let mut random = Random::new(1);
    let mut matches = 0;
    const CASES: usize = 1_000_000;
    for _ in 0..CASES {
        let pattern = pattern(&mut random);
        let name = random.text(b"ab]-[\\!^*\xffc", 6);
        let expected = fnmatch(&pattern, &name);
        matches += usize::from(expected);
        let show = || format!("\"{}\" on \"{}\"", pattern.escape_ascii(), name.escape_ascii());
        assert_eq!(glob_match(&pattern, &name), expected, "{}", show());
    }
    println!("glob: {CASES} pairs as fnmatch has them, {matches} of them match");
    assert!(matches > CASES / 100);
}

#[test]
fn classes_match_as_with_fnmatch() {
    for class in
        ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"]
    {
        for pattern in [format!("[[:{class}:]]"), format!("[!x[:{class}:]]"), format!("[[:{class}:]-]*")] {
            for byte in 1..=255 {
                let expected = fnmatch(pattern.as_bytes(), &[byte]);
                assert_eq!(glob_match(pattern.as_bytes(), &[byte]), expected, "{pattern} {byte}");
            }
        }
    }
}

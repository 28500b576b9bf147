//! `hostile COUNT SEED`: has the kernel ask for COUNT random names, bytes of every kind among them.
//!
//! Each name is one AF_ALG bind, for which the kernel asks twice. Prints the two names of each in the printable form of
//! the guard's records: printable UTF-8 as it is, a backslash doubled, every other byte as `\xNN`.

mod alg;

/// The longest name that still gives two requests: 55 bytes less `crypto-` and `-all`.
const LONGEST: u64 = 44;

/// What names are made of, raw and as shown. No two neighbours form another character.
const PIECES: &[(&[u8], &str)] = &[
    (b"a", "a"),
    (b"Z", "Z"),
    (b"7", "7"),
    (b"-", "-"),
    (b"_", "_"),
    (b".", "."),
    (b"/", "/"),
    (b"../", "../"),
    (b" ", " "),
    (b"\n", "\\x0a"),
    (b"\r", "\\x0d"),
    (b"\t", "\\x09"),
    (b"\"", "\""),
    (b"'", "'"),
    (b"\\", "\\\\"),
    (b"\\x41", "\\\\x41"),
    (b"%s%n", "%s%n"),
    (b"$(id)", "$(id)"),
    (b"`", "`"),
    (b";", ";"),
    (b"*", "*"),
    (b"?", "?"),
    (b"[", "["),
    (b"]", "]"),
    (b"{}", "{}"),
    (b"verdict=allow ", "verdict=allow "),
    (b"\x1b[2J", "\\x1b[2J"),
    (b"\x01", "\\x01"),
    (b"\x7f", "\\x7f"),
    (b"\x80", "\\x80"),
    (b"\xbf", "\\xbf"),
    (b"\xff", "\\xff"),
    (b"\xfe", "\\xfe"),
    (b"\xc0\x80", "\\xc0\\x80"),
    (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ("é".as_bytes(), "é"),
    ("漢".as_bytes(), "漢"),
];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<u64>().expect("a number"));
    let (Some(count), Some(seed)) = (arguments.next(), arguments.next()) else {
        panic!("usage: hostile COUNT SEED");
    };
    let mut random = Random(seed | 1);
    let mut out = String::new();
    for index in 0..count {
        // The number makes every name one of a kind; its letter keeps it from being an algorithm that exists.
        let mut raw = format!("q{index}").into_bytes();
        let mut shown = format!("q{index}");
        for _ in 0..random.below(30) {
            let (bytes, text) = PIECES[random.below(PIECES.len() as u64) as usize];
            if (raw.len() + bytes.len()) as u64 <= LONGEST {
                raw.extend_from_slice(bytes);
                shown.push_str(text);
            }
        }
        assert!(alg::ask(b"hash", &raw).is_err(), "{shown} exists");
        out += &format!("crypto-{shown}\ncrypto-{shown}-all\n");
    }
    print!("{out}");
}

/// xorshift64: the same names for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

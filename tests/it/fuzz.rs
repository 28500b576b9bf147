//! The targets of tests/fuzz: each with its seeds, and with what comes of those by chance, the same in every run.
//!
//! `MODPROBE_GUARD_FUZZ_ROUNDS` in the environment sets how many are made of each seed. What breaks a property is left in
//! `target/fuzz/found`, to be mended and put among the seeds.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::random::Random;

#[path = "../fuzz/targets/mod.rs"]
mod targets;

/// A few seconds for all.
const ROUNDS: usize = 150;
const LONGEST: usize = 8192;

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The tokens of libFuzzer's dictionary for the target, one a line in quotes with `\xNN`; most have none.
fn words(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let unescaped = |line: &str| {
        let word = modprobe_guard::text::Text::unescape(line.trim_matches('"'));
        word.unwrap_or_else(|| panic!("{}: {line}", path.display())).0
    };
    text.lines().map(unescaped).collect()
}

/// Something like `seed`.
fn mutated(seed: &[u8], others: &[(PathBuf, Vec<u8>)], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let longest = 1 << random.below(9);
        let end = (at + 1 + random.below(longest)).min(data.len());
        match random.below(8) {
            0 | 1 if at < data.len() => data[at] = random.byte(),
            2 if at < data.len() => data[at] ^= 1 << random.below(8),
            3 => drop(data.splice(at.min(end)..end, [])),
            4 => drop(data.splice(at..at, data[at.min(end)..end].to_vec())),
            5 if !words.is_empty() => drop(data.splice(at..at, random.pick(words).clone())),
            6 => {
                let (_, other) = random.pick(others);
                let from = random.below(other.len() + 1);
                drop(data.splice(at..end.max(at), other[from..].iter().copied().take(end - at.min(end) + 1)));
            }
            _ => {
                drop(data.splice(at..at, [*random.pick(&[0, b'\n', b' ', b'\\', b'/', b'*', b'[', 0x7f, 0x80, 0xff])]))
            }
        }
    }
    data.truncate(LONGEST);
    data
}

#[test]
fn what_must_hold_for_any_bytes_does() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rounds = std::env::var("MODPROBE_GUARD_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let (mut tried, mut seeds_tried) = (0, 0);
    for (name, check) in targets::ALL {
        let seeds = files(&here.join("tests/fuzz/seeds").join(name));
        assert!(seeds.len() >= 3, "{name}: only {} seeds", seeds.len());
        let words = words(&here.join("tests/fuzz/words").join(name));
        let mut random = Random::new(1);
        for (path, seed) in &seeds {
            check_kept(name, check, seed, &path.display().to_string());
            for round in 0..rounds {
                let data = mutated(seed, &seeds, &words, &mut random);
                check_kept(name, check, &data, &format!("{}, round {round}", path.display()));
            }
        }
        tried += seeds.len() * (rounds + 1);
        seeds_tried += seeds.len();
    }
    println!("fuzz: {tried} cases of {} targets and {seeds_tried} seeds", targets::ALL.len());
}

/// Keeps what breaks a property.
fn check_kept(name: &str, check: fn(&[u8]), data: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(|| check(data)) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz/found");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{name}-{:08x}", modprobe_guard::checksum::crc32(data)));
        fs::write(&path, data).unwrap();
        eprintln!("{name}: {what}: the input is in {}", path.display());
        std::panic::resume_unwind(panic);
    }
}

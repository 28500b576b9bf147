//! The policy in force, as it lies in `policy.bin`: checked and resolved, so the helper parses nothing.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic |
//! | 4 | version of this form, little-endian |
//! | 4 | length of the payload, little-endian |
//! | 8 | checksum of version, length and payload, little-endian |
//! | rest | payload, postcard |

use serde::{Deserialize, Serialize};

use super::{Policy, Source};
use crate::checksum::crc32;

const MAGIC: &[u8; 8] = b"mguardpl";
/// Goes up with every change of [`Applied`] or of a type in it: postcard names no fields.
const VERSION: u32 = 3;

/// What `guard apply` puts in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub struct Applied {
    /// The policy.
    pub policy: Policy,
    /// The files that it was made of, in the order in which they counted.
    pub sources: Vec<Digest>,
}

/// What is remembered of a file, to tell whether it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Its path, as in [`Source::path`].
    pub path: String,
    /// Its length in bytes.
    pub length: usize,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

impl Digest {
    /// The digest of `source`.
    pub fn of(source: &Source) -> Digest {
        Digest { path: source.path.clone(), length: source.bytes.len(), crc32: crc32(&source.bytes) }
    }
}

impl Applied {
    /// `policy`, which was parsed from `sources`.
    pub fn new(policy: Policy, sources: &[Source]) -> Applied {
        Applied { policy, sources: sources.iter().map(Digest::of).collect() }
    }
}

/// The bytes of `policy.bin`.
///
/// # Errors
/// If the policy has more than 4 GiB.
pub fn encode(applied: &Applied) -> Result<Vec<u8>, String> {
    seal(&postcard::to_stdvec(applied).map_err(|error| format!("cannot encode the policy: {error}"))?)
}

/// `payload` behind the head that belongs to it, whatever it holds.
///
/// # Errors
/// If it has more than 4 GiB.
pub fn seal(payload: &[u8]) -> Result<Vec<u8>, String> {
    let length =
        u32::try_from(payload.len()).map_err(|_| format!("a policy of {} bytes is too long", payload.len()))?;
    let sum = checksum(VERSION, length, payload);
    Ok([MAGIC, &VERSION.to_le_bytes()[..], &length.to_le_bytes(), &sum.to_le_bytes(), payload].concat())
}

/// The policy that `bytes` hold: long lists of names stay where they are.
///
/// # Errors
/// What is wrong with them, to follow a path: `is damaged: ...` or `is of another version: ...`.
pub fn decode(bytes: &'static [u8]) -> Result<Applied, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("is damaged: it does not begin as a policy in force does")?;
    let (version, rest) = number(rest).map(|(bytes, rest)| (u32::from_le_bytes(bytes), rest))?;
    if version != VERSION {
        return Err(format!("is of another version: {version} instead of {VERSION}"));
    }
    let (length, rest) = number(rest).map(|(bytes, rest)| (u32::from_le_bytes(bytes), rest))?;
    let (sum, payload) = number(rest).map(|(bytes, rest)| (u64::from_le_bytes(bytes), rest))?;
    if usize::try_from(length) != Ok(payload.len()) {
        return Err(format!("is damaged: it holds {} bytes instead of {length}", payload.len()));
    }
    if checksum(version, length, payload) != sum {
        return Err("is damaged: its checksum does not fit".into());
    }
    match postcard::take_from_bytes(payload) {
        Ok((applied, [])) => Ok(applied),
        Ok(_) => Err("is damaged: something follows the policy".into()),
        Err(error) => Err(format!("is damaged: {error}")),
    }
}

/// In which way the files are no longer those that were applied; `None` if they are.
pub fn behind(applied: &[Digest], sources: &[Source]) -> Option<String> {
    let now: Vec<Digest> = sources.iter().map(Digest::of).collect();
    let same_path = |digest: &Digest, others: &[Digest]| others.iter().find(|other| other.path == digest.path).cloned();
    let changed = now.iter().filter(|digest| same_path(digest, applied).is_some_and(|then| then != **digest));
    let added = now.iter().filter(|digest| same_path(digest, applied).is_none());
    let gone = applied.iter().filter(|digest| same_path(digest, &now).is_none());
    let words: Vec<String> = changed
        .map(|digest| format!("{} has changed", digest.path))
        .chain(added.map(|digest| format!("{} is new", digest.path)))
        .chain(gone.map(|digest| format!("{} is gone", digest.path)))
        .collect();
    if words.is_empty() && applied != now {
        return Some("the order of the files has changed".into());
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// The bytes of a number, and what follows them.
fn number<const SIZE: usize>(bytes: &[u8]) -> Result<([u8; SIZE], &[u8]), String> {
    let (number, rest) = bytes.split_first_chunk().ok_or("is damaged: it is cut short")?;
    Ok((*number, rest))
}

/// Tells damage, not malice. Each step is one to one, so a single wrong word never goes unnoticed; other damage does
/// once in 2^64 times. A CRC-32 of 6,500 names took an eighth of a request; with instructions of its own it would be
/// as fast as this, but to ask the processor whether it has them costs more on a virtual machine.
fn checksum(version: u32, length: u32, payload: &[u8]) -> u64 {
    /// The prime of FNV-1a for 64 bits.
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(PRIME).rotate_left(29);
    // Four at a time: a processor does not wait for one to begin the next.
    let (fours, rest) = payload.as_chunks::<32>();
    let mut sums = [u64::from(version), u64::from(length), 0, 0];
    for four in fours {
        for (sum, word) in sums.iter_mut().zip(four.as_chunks().0) {
            *sum = step(*sum, u64::from_le_bytes(*word));
        }
    }
    sums.into_iter().chain(rest.iter().copied().map(u64::from)).fold(0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Caller, Closure, Request, Requester};
    use crate::policy::{decide, parse};

    const TEXT: &str = "[defaults]\naction = \"block\"\n[[rule]]\nid = \"a\"\nmodules = [\"x-y\", \"z*\"]\nrequests = [\"q\"]\n\
        action = \"allow-sysctl\"\nreason = \"ü\"\nenforce = false\n\
        requester = { exe = \"!/a\", unit = \"u.*\", container = false, uid = [0, \"!7-9\"], auid = \"none\", \
        userns = \"other\", caller = \"hook\" }\n[[rule]]\nid = \"b\"\nmodules = [\"x\"]\naction = \"block\"\n\
        requester = \"unknown\"\n[conntrack]\nmax = 7\n[sysctl]\n\"a.b\" = -1";

    /// What lies in `bytes`, for the rest of the tests.
    fn decoded(bytes: Vec<u8>) -> Result<Applied, String> {
        decode(bytes.leak())
    }

    fn sample() -> Applied {
        let sources = [Source::new("p", TEXT.into())];
        Applied::new(parse(&sources).unwrap(), &sources)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let bytes = encode(&sample()).unwrap();
        assert_eq!(decoded(bytes.clone()), Ok(sample()));
        // If this fails, a type has changed: raise VERSION, then put the new number here.
        assert_eq!((VERSION, crc32(&bytes)), (3, 1_259_105_015));
    }

    #[test]
    fn damage_is_told() {
        let bytes = encode(&sample()).unwrap();
        let changed = |at: usize, byte: u8| [&bytes[..at], &[byte], &bytes[at + 1..]].concat();
        for (bytes, wrong) in [
            (Vec::new(), "is damaged: it does not begin as a policy in force does".to_owned()),
            (changed(0, b'x'), "is damaged: it does not begin as a policy in force does".into()),
            (changed(8, 9), "is of another version: 9 instead of 3".into()),
            (bytes[..15].to_vec(), "is damaged: it is cut short".into()),
            (bytes[..30].to_vec(), format!("is damaged: it holds 6 bytes instead of {}", bytes.len() - 24)),
            (changed(16, bytes[16] ^ 1), "is damaged: its checksum does not fit".into()),
            (changed(40, bytes[40] ^ 1), "is damaged: its checksum does not fit".into()),
        ] {
            assert_eq!(decoded(bytes), Err(wrong));
        }
    }

    #[test]
    fn a_payload_that_only_looks_right_is_refused_or_read_but_never_panics() {
        let bytes = encode(&sample()).unwrap();
        for at in 20..bytes.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut payload = bytes[20..].to_vec();
                payload[at - 20] = byte;
                let forged = seal(&payload).unwrap();
                if let Ok(applied) = decoded(forged) {
                    let request = Request { name: "x".into(), caller: Caller::Kernel };
                    let _ = (applied.policy.executables(), applied.policy.asks_who().count());
                    let _ = decide(&applied.policy, &request, &Closure::default(), &Requester::unknown());
                    for rule in &applied.policy.rules {
                        let patterns = rule.modules.iter().chain(&rule.requests);
                        for patterns in patterns {
                            let _ = (patterns.matches(b"x_y"), patterns.iter().count());
                        }
                    }
                }
            }
            assert!(decoded(bytes[..at].to_vec()).is_err());
        }
    }

    #[test]
    fn files_that_moved_on_are_named() {
        let source = |path: &str, text: &str| Source::new(path, text.into());
        let then = [source("a", "1"), source("b", "2")];
        let digests: Vec<Digest> = then.iter().map(Digest::of).collect();
        for (now, said) in [
            (vec![source("a", "1"), source("b", "2")], None),
            (vec![source("a", "1"), source("b", "3")], Some("b has changed")),
            (vec![source("a", "1"), source("c", "2")], Some("c is new, b is gone")),
            (vec![source("b", "2"), source("a", "1")], Some("the order of the files has changed")),
        ] {
            assert_eq!(behind(&digests, &now).as_deref(), said);
        }
    }
}

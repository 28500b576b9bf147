//! The recorder's map, whatever is written there: what is found is what was asked for, and is served once.
//!
//! Input: the number of entries, whether somebody waits; a name, ended by NUL; the words of the map.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use modprobe_guard::requester::recorder::ring::Ring;

const NOW: u64 = 100_000_000_000;

pub fn check(mut data: &[u8]) {
    let how = super::byte(&mut data);
    let (entries, waited) = (1 << (how % 4), how & 0x80 == 0);
    let name = super::until_nul(&mut data);
    let words: Vec<AtomicU64> =
        data.chunks_exact(8).map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap()))).collect();
    let ring = Ring::new(&words, entries);
    let _ = (ring.count(), ring.is_blind());
    let open = ring.open_requests(name, waited, NOW);
    let threads: BTreeSet<i32> = open.iter().map(|entry| entry.tid).collect();
    assert_eq!(threads.len(), open.len(), "of each thread one");
    assert!(open.is_sorted_by(|a, b| a.time >= b.time), "youngest first");
    for entry in &open {
        assert!(NOW.saturating_sub(entry.time) <= 60_000_000_000 && entry.comm.as_bytes().len() < 16);
        // As the map holds it: nothing is found that does not stand there.
        let bytes: Vec<u8> = [name, &[0]].concat();
        assert!(data.windows(bytes.len()).any(|window| window == bytes), "the name stands nowhere");
    }
    if let Some(entry) = open.first() {
        assert!(ring.serve(entry, name, waited));
        assert!(!ring.serve(entry, name, waited), "once only");
        assert!(ring.open_requests(name, waited, NOW).iter().all(|other| other != entry));
    }
}

use super::*;

const ENTRIES: usize = 4;
const NOW: u64 = 100_000_000_000;

/// A ring as the programs write it, of two processors: rows 0 and 1 are the first one's, 2 and 3 the second's.
struct Written(Vec<AtomicU64>);

impl Written {
    fn new() -> Written {
        Written((0..4 * (ENTRIES + 1) * STRIDE).map(|_| AtomicU64::new(0)).collect())
    }

    fn write(&self, cpu: usize, name: &str, tid: u64, time: u64, waited: u64) {
        let set = |at: usize, value: u64| self.0[at].store(value, Ordering::Release);
        let start = cpu * (ENTRIES + 1) * STRIDE;
        let number = self.0[start].load(Ordering::Acquire);
        let at = start + STRIDE + number as usize % ENTRIES * STRIDE;
        set(at, 0);
        set(at + word::TIME, time);
        set(at + word::TASK, (tid / 10 * 10) << 32 | tid);
        set(at + word::CALL_SITE, 0xffff_ffff_8100_0000);
        set(at + word::USER, 7 << 32 | 1000);
        set(at + word::WAITED, waited);
        let bytes = |at: usize, text: &str, room: usize| {
            let mut padded = text.as_bytes().to_vec();
            padded.resize(room, 0);
            for (index, word) in padded.chunks_exact(8).enumerate() {
                set(at + index, u64::from_ne_bytes(word.try_into().unwrap()));
            }
        };
        bytes(at + word::COMM, "ask", 16);
        bytes(at + word::NAME, name, 56);
        set(start, number + 1);
        set(at, (number + 1) * 2);
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.0, ENTRIES)
    }

    fn tids(&self, name: &str, waited: bool) -> Vec<i32> {
        let open = self.ring().open_requests(name.as_bytes(), waited, NOW);
        open.iter().filter(|entry| !entry.is_past).map(|entry| entry.tid).collect()
    }
}

#[test]
fn a_name_ends_where_it_ends() {
    let words = |text: &[u8]| {
        let mut padded = text.to_vec();
        padded.resize(NAME_WORDS * 8, b'?');
        padded.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect::<Vec<_>>()
    };
    let longest = "x".repeat(NAME_WORDS * 8 - 1);
    for name in ["", "a", "seven77", "eight888", "nine99999", "sixteen616161616", &longest] {
        for (written, expected) in [
            (format!("{name}\0"), true),
            (format!("{name}\0\0\0"), true),
            (format!("{name}y"), false),
            (format!("{}\0", name.strip_suffix(|_| true).unwrap_or("z")), false),
        ] {
            let words = words(&written.as_bytes()[..written.len().min(NAME_WORDS * 8)]);
            let word = |at: usize| words.get(at - word::NAME).copied();
            let name = Name::new(name.as_bytes());
            assert_eq!(name.is_in(&word), expected, "{written:?}");
            assert!(!expected || name.may_begin_with(words[0]), "{written:?}");
        }
    }
    let long = Name::new(&[b'x'; NAME_WORDS * 8]);
    assert!(!long.may_begin_with(u64::MAX) && !long.is_in(&|_| Some(0x7878_7878_7878_7878)));
}

#[test]
fn a_request_is_found_by_its_name_and_whether_it_is_waited_for() {
    let written = Written::new();
    assert!(written.tids("net-pf-9", true).is_empty());
    written.write(0, "net-pf-9", 41, NOW - 5, 1);
    written.write(1, "net-pf-9", 42, NOW - 4, 0);
    written.write(1, "net-pf-90", 43, NOW - 3, 1);
    assert_eq!(written.tids("net-pf-9", true), [41]);
    assert_eq!(written.tids("net-pf-9", false), [42]);
    assert!(written.tids("net-pf", true).is_empty());
    assert!(written.tids("", true).is_empty());
    let found = written.ring().open_requests(b"net-pf-9", true, NOW);
    let entry = &found[0];
    assert_eq!((entry.pid, entry.uid, entry.time, entry.call_site), (40, 1000, NOW - 5, 0xffff_ffff_8100_0000));
    assert_eq!(entry.comm, Text::from("ask"));
    assert_eq!(written.ring().count(), 3);
}

#[test]
fn names_that_cannot_be_read_are_noticed() {
    let written = Written::new();
    assert!(!written.ring().is_blind());
    (0..5).for_each(|_| written.write(1, "x", 41, NOW, 1));
    assert!(!written.ring().is_blind());
    written.write(1, "", 41, NOW, 1);
    assert!(written.ring().is_blind());
    written.write(1, "x", 41, NOW, 1);
    assert!(!written.ring().is_blind());
}

#[test]
fn the_longest_name_fits() {
    let written = Written::new();
    let name = "x".repeat(55);
    written.write(0, &name, 41, NOW, 1);
    assert_eq!(written.tids(&name, true), [41]);
    assert!(written.tids(&"x".repeat(54), true).is_empty());
}

#[test]
fn what_was_served_is_not_open() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - 5, 1);
    let found = written.ring().open_requests(b"x", true, NOW);
    assert!(written.ring().serve(&found[0], b"x", true));
    assert!(!written.ring().serve(&found[0], b"x", true));
    assert!(written.tids("x", true).is_empty());
    // The same thread again.
    written.write(0, "x", 41, NOW - 4, 1);
    assert_eq!(written.tids("x", true), [41]);
}

#[test]
fn a_request_that_both_programs_wrote_down_is_one() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - 50, 1);
    written.write(3, "x", 41, NOW - 49, 1);
    // One program missed each of these.
    written.write(2, "x", 42, NOW - 48, 1);
    written.write(1, "x", 43, NOW - 47, 1);
    assert_eq!(written.tids("x", true), [43, 42, 41]);
    let found = written.ring().open_requests(b"x", true, NOW);
    assert!(written.ring().serve(&found[2], b"x", true));
    assert_eq!(written.tids("x", true), [43, 42]);
    assert!(written.ring().serve(&found[1], b"x", true));
    assert_eq!(written.tids("x", true), [43]);
    assert_eq!(written.ring().count(), 2);
}

#[test]
fn an_entry_that_was_written_over_is_not_marked() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - 9, 1);
    let found = written.ring().open_requests(b"x", true, NOW);
    (0..ENTRIES).for_each(|_| written.write(0, "y", 42, NOW - 8, 1));
    assert!(!written.ring().serve(&found[0], b"x", true));
    assert_eq!(written.tids("y", true), [42]);
}

#[test]
fn two_that_ask_at_once_are_two() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - 5, 1);
    written.write(1, "x", 42, NOW - 4, 1);
    assert_eq!(written.tids("x", true), [42, 41]);
    // The place of 41's entry of another time is being written over by somebody else.
    let old = (ENTRIES + 1) * STRIDE + 2 * STRIDE;
    written.write(1, "z", 41, NOW - 9, 1);
    written.0[old].store(0, Ordering::Release);
    written.0[old + word::TIME].store(NOW - 1, Ordering::Release);
    assert_eq!(written.tids("x", true), [42, 41]);
    // 41 went on to something else, on another processor.
    written.write(1, "y", 41, NOW - 3, 1);
    assert_eq!(written.tids("x", true), [42]);
    // It may have been killed, and counts.
    let open = written.ring().open_requests(b"x", true, NOW);
    assert_eq!(open.iter().map(|entry| (entry.tid, entry.is_past)).collect::<Vec<_>>(), [(42, false), (41, true)]);
}

#[test]
fn what_was_written_over_is_noticed() {
    let written = Written::new();
    for number in 0..=ENTRIES as u64 {
        assert!(!written.ring().has_lost(0), "{number}");
        written.write(1, "x", 41, NOW - 9 + number, 1);
    }
    for (since, expected) in [(NOW - 10, true), (NOW - 9, true), (NOW - 8, false), (NOW, false)] {
        assert_eq!(written.ring().has_lost(since), expected);
    }
    // It is being written over.
    written.0[(ENTRIES + 1 + 2) * STRIDE].store(0, Ordering::Release);
    assert!(!written.ring().has_lost(0));
}

#[test]
fn one_that_asks_twice_is_one() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - 5, 1);
    written.write(1, "x", 41, NOW - 4, 1);
    let found = written.ring().open_requests(b"x", true, NOW);
    assert_eq!(found.iter().map(|entry| entry.time).collect::<Vec<_>>(), [NOW - 4]);
    // It went on to something else.
    assert!(!written.ring().has_asked_since(41, NOW - 4, NOW) && written.ring().has_asked_since(41, NOW - 5, NOW));
    written.write(0, "y", 41, NOW - 3, 1);
    assert!(written.ring().has_asked_since(41, NOW - 4, NOW) && !written.ring().has_asked_since(42, 0, NOW));
}

#[test]
fn whom_a_request_was_about_is_known_when_it_was_answered_too() {
    let written = Written::new();
    let about = |name: &str| -> Vec<(i32, u64)> {
        let entries = written.ring().all_about(|asked| asked == name.as_bytes(), NOW);
        entries.iter().map(|entry| (entry.tid, entry.time)).collect()
    };
    written.write(0, "x", 41, NOW - 9, 1);
    written.write(3, "x", 41, NOW - 8, 1);
    written.write(1, "x", 42, NOW - 7, 0);
    written.write(0, "y", 42, NOW - 6, 1);
    let found = written.ring().open_requests(b"x", true, NOW);
    assert!(written.ring().serve(&found[0], b"x", true));
    assert_eq!((about("x"), about("y"), about("z")), (vec![(42, NOW - 7), (41, NOW - 8)], vec![(42, NOW - 6)], vec![]));
    let last = |tid, name: &str| written.ring().asked_last_for(tid, name.as_bytes(), NOW);
    assert_eq!(
        [last(42, "x"), last(42, "y"), last(41, "x"), last(41, "y")].map(Option::unwrap),
        [false, true, true, false]
    );
    assert_eq!(last(43, "x"), None);
}

#[test]
fn old_and_half_written_entries_are_none() {
    let written = Written::new();
    written.write(0, "x", 41, NOW - OLDEST - 1, 1);
    assert!(written.tids("x", true).is_empty());
    written.write(0, "x", 42, NOW - OLDEST, 1);
    assert_eq!(written.tids("x", true), [42]);
    written.0[2 * STRIDE].store(0, Ordering::Release);
    assert!(written.tids("x", true).is_empty());
    // A clock that is behind.
    written.write(1, "x", 43, NOW + 7, 1);
    assert_eq!(written.tids("x", true), [43]);
}

#[test]
fn nonsense_is_survived() {
    for length in [0, 1, STRIDE, 5 * STRIDE - 1, 5 * STRIDE, 12 * STRIDE] {
        let words: Vec<AtomicU64> = (0..length).map(|_| AtomicU64::new(u64::MAX - 1)).collect();
        let _ = Ring::new(&words, ENTRIES).open_requests(b"x", true, NOW);
        let _ = Ring::new(&words, 0).open_requests(b"x", true, NOW);
        let _ = (Ring::new(&words, ENTRIES).count(), Ring::new(&words, usize::MAX).count());
    }
}

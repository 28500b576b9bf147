//! How large the connection tracking table should be: pure.
#![forbid(unsafe_code)]

use crate::host::machine::Machine;

/// The least that auto asks for.
pub const FLOOR: u64 = 131_072;
/// What auto asks for per processor, and per GiB.
pub const STEP: u64 = 32_768;
/// Bytes of a bucket: one pointer (`struct hlist_nulls_head`).
const BUCKET: u64 = 8;
/// Bytes of an entry where the slab does not tell; what 6.1 and 6.12 use.
const ENTRY: u32 = 256;
/// The largest max: the kernel keeps it in an `int`'s range (`proc_dointvec_minmax`, nf_conntrack_standalone.c).
pub const LARGEST_MAX: u32 = i32::MAX as u32;
/// The kernel rounds buckets up to whole pages (`nf_ct_alloc_hashtable`): 512 of them where a page has 4 KiB.
const PAGE_OF_BUCKETS: u32 = 512;
/// Never ask for more buckets than these, 1 GiB: for 2 GiB and more kvmalloc warns, and some hosts panic on a warning.
const MOST_BUCKETS: u32 = 1 << 27;
/// Entries a bucket by default: 1 since 5.15, 4 before (`nf_conntrack_init_start`).
const MOST_ENTRIES_A_BUCKET: u32 = 4;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A table's size: `nf_conntrack_max` and `hashsize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Most entries; 0 is no limit.
    pub max: u32,
    /// Hash buckets.
    pub buckets: u32,
}

impl Table {
    /// What a kernel makes of a table by default (`nf_conntrack_init_start`, nf_conntrack_core.c), or with the module
    /// option `hashsize`. `memory` is MemTotal in bytes, `kernel` a release such as `6.1.0-56-amd64`.
    pub fn by_default(kernel: &str, memory: u64, hashsize: Option<u32>) -> Table {
        if let Some(hashsize) = hashsize {
            let buckets = round_up(hashsize.clamp(1, LARGEST_MAX));
            return Table { max: buckets.saturating_mul(8).min(LARGEST_MAX), buckets };
        }
        let mut version = kernel.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
        let old = (version.next().unwrap_or(0), version.next().unwrap_or(0)) < (5, 15);
        let (least, middle, large) = if old { (32, 16_384, 65_536) } else { (1024, 65_536, 262_144) };
        let buckets = match memory {
            _ if memory > 4 * GIB => large,
            _ if memory > GIB => middle,
            // At most 8192 up to 1 GiB.
            _ => u32::try_from(memory / 16_384 / BUCKET).unwrap_or(middle).max(least),
        };
        let buckets = round_up(buckets);
        Table { max: if old { buckets.saturating_mul(4) } else { buckets }, buckets }
    }

    /// Buckets for `entries`, so that chains are as long as the kernel's own ratio makes them. Never less than there
    /// are, and never for more entries than the memory budget holds: memory ends before those chains get long.
    pub fn buckets_for(self, entries: u32, machine: &Machine, bounds: Bounds) -> Buckets {
        // Rounded up, so that a table which has its size keeps it; clamped, since something may have raised max alone.
        let ratio = self.max.div_ceil(self.buckets.max(1)).clamp(1, MOST_ENTRIES_A_BUCKET);
        let fitting = bounds.entries_in_memory(machine).map_or(entries, |most| entries.min(clamp(most)));
        let wanted = round_up(fitting.div_ceil(ratio)).min(MOST_BUCKETS);
        if wanted <= self.buckets {
            return Buckets {
                number: self.buckets,
                formula: format!("{} are there, enough for {entries} entries", self.buckets),
            };
        }
        let bound = if fitting < entries { " (what the memory budget holds)" } else { "" };
        let formula = format!("{fitting} entries{bound} at {ratio} a bucket, rounded up to {PAGE_OF_BUCKETS}");
        Buckets { number: wanted, formula }
    }
}

/// The most buckets that a machine with so many bytes of memory is asked for, whoever wants them: a quarter of it. For
/// more, the kernel would rather kill processes than say no.
pub fn most_buckets(memory: u64) -> u32 {
    clamp(memory / 4 / BUCKET)
}

/// A number of buckets and the calculation in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// How many.
    pub number: u32,
    /// Why.
    pub formula: String,
}

/// What bounds auto; the policy's `[conntrack]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Auto never goes above.
    pub limit: u32,
    /// Auto never takes more than this share of MemTotal.
    pub memory_percent: u8,
}

impl Bounds {
    fn entries_in_memory(self, machine: &Machine) -> Option<u64> {
        let budget = u128::from(machine.memory?) * u128::from(self.memory_percent) / 100;
        Some(u64::try_from(budget / u128::from(bytes_an_entry(machine))).unwrap_or(u64::MAX))
    }
}

/// A max and the calculation in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auto {
    /// Most entries; 0 is no limit.
    pub max: u32,
    /// Why.
    pub formula: String,
}

/// The auto size: the greatest of what `set` says (the kernel's own default, as the load left it), 131072, 32768 for
/// each processor and 32768 for each GiB; at most the limit and the memory budget; never lower than `set`.
///
/// A GiB that has begun counts: MemTotal lacks what firmware and kernel have reserved, so a host of 1 GiB shows
/// some 985 MiB. What cannot be read neither asks nor binds. `set` of 0 is no limit and stays.
pub fn auto(machine: &Machine, set: Option<u32>, bounds: Bounds) -> Auto {
    if set == Some(0) {
        return Auto { max: 0, formula: "0 is set, which is no limit; it stays".to_owned() };
    }
    let mut wanted = FLOOR;
    let mut greatest = Vec::with_capacity(4);
    let mut ask = |entries: u64, words: String| {
        wanted = wanted.max(entries);
        greatest.push(words);
    };
    if let Some(own) = set {
        ask(own.into(), format!("the kernel's own {own}"));
    }
    ask(FLOOR, FLOOR.to_string());
    if let Some(cpus) = machine.cpus {
        ask(STEP.saturating_mul(cpus.into()), format!("{STEP} x {cpus} {}", if cpus == 1 { "CPU" } else { "CPUs" }));
    }
    if let Some(gib) = machine.memory.map(|memory| memory.div_ceil(GIB)) {
        ask(STEP.saturating_mul(gib), format!("{STEP} x {gib} GiB"));
    }
    let mut most = u64::from(bounds.limit);
    let mut formula = format!("greatest of {}; at most {most}", greatest.join(", "));
    if let (Some(entries), Some(memory)) = (bounds.entries_in_memory(machine), machine.memory) {
        most = most.min(entries);
        let (percent, mib, bytes) = (bounds.memory_percent, memory / MIB, bytes_an_entry(machine));
        formula.push_str(&format!(" and {percent} % of {mib} MiB at {bytes} bytes an entry"));
    }
    // 1, not 0, where nothing fits: 0 would lift the limit.
    let bounded = clamp(wanted.min(most)).max(1);
    match set {
        Some(set) if set > bounded => {
            formula.push_str(&format!("; {set} is set and not lowered"));
            Auto { max: set, formula }
        }
        _ => Auto { max: bounded, formula },
    }
}

fn bytes_an_entry(machine: &Machine) -> u64 {
    u64::from(machine.entry.unwrap_or(ENTRY).max(1)).saturating_add(BUCKET)
}

fn clamp(entries: u64) -> u32 {
    u32::try_from(entries).unwrap_or(LARGEST_MAX).min(LARGEST_MAX)
}

fn round_up(buckets: u32) -> u32 {
    buckets.checked_next_multiple_of(PAGE_OF_BUCKETS).unwrap_or(MOST_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: Bounds = Bounds { limit: 2_097_152, memory_percent: 5 };
    const TIB: u64 = 1 << 40;

    fn machine(cpus: u32, memory: u64) -> Machine {
        Machine { cpus: Some(cpus), memory: Some(memory), entry: Some(256) }
    }

    /// From a board of 128 MB to 4 TB and 512 processors: MemTotal as such machines show it, the table that the
    /// kernel makes, and the one that we make of it.
    #[test]
    fn machines_small_and_large() {
        for (kernel, cpus, memory, own, auto_max, buckets) in [
            ("6.1.0", 1, 112 * MIB, (1024, 1024), 22_242, 22_528),
            ("5.10.0", 1, 112 * MIB, (4096, 1024), 22_242, 5_632),
            ("6.12.1", 2, 473 * MIB, (4096, 4096), 93_934, 94_208),
            ("6.12.1", 2, 985 * MIB, (8192, 8192), 131_072, 131_072),
            ("5.10.0", 2, 985 * MIB, (32_768, 8192), 131_072, 32_768),
            ("7.2", 4, 1964 * MIB, (65_536, 65_536), 131_072, 131_072),
            ("6.1.0", 2, 5947 * MIB, (262_144, 262_144), 262_144, 262_144),
            ("5.10.0", 2, 5947 * MIB, (262_144, 65_536), 262_144, 65_536),
            ("6.1.0", 8, 15_900 * MIB, (262_144, 262_144), 524_288, 524_288),
            ("5.10.0", 16, 15_900 * MIB, (262_144, 65_536), 524_288, 131_072),
            ("6.12.1", 96, 5947 * MIB, (262_144, 262_144), 1_181_038, 1_181_184),
            ("6.12.1", 64, 63 * GIB, (262_144, 262_144), 2_097_152, 2_097_152),
            ("6.12.1", 96, 126 * GIB, (262_144, 262_144), 2_097_152, 2_097_152),
            ("6.12.1", 512, 4 * TIB, (262_144, 262_144), 2_097_152, 2_097_152),
            ("5.10.0", 512, 4 * TIB, (262_144, 65_536), 2_097_152, 524_288),
        ] {
            let on = format!("{kernel}, {cpus} CPUs, {} MiB", memory / MIB);
            let machine = machine(cpus, memory);
            let table = Table::by_default(kernel, memory, None);
            assert_eq!(table, Table { max: own.0, buckets: own.1 }, "{on}");
            let auto = auto(&machine, Some(table.max), SHIPPED);
            assert_eq!(auto.max, auto_max, "{on}");
            assert_eq!(table.buckets_for(auto.max, &machine, SHIPPED).number, buckets, "{on}");
        }
    }

    #[test]
    fn bounds_bind_but_never_lower_what_is_set() {
        let memory = 985 * MIB;
        for (set, limit, percent, entry, max) in [
            (Some(8192), 2_097_152, 5, Some(256), 131_072),
            // The memory budget is smaller than the kernel's own default, and than anything.
            (Some(8192), 2_097_152, 0, Some(256), 8192),
            (Some(65_536), 2_097_152, 1, Some(256), 65_536),
            (Some(8192), 2_097_152, 1, Some(256), 39_123),
            (Some(8192), 2_097_152, 5, Some(1016), 50_432),
            (Some(8192), 2_097_152, 5, None, 131_072),
            (Some(8192), 100_000, 5, Some(256), 100_000),
            (Some(300_000), 100_000, 5, Some(256), 300_000),
            (Some(0), 100_000, 5, Some(256), 0),
            (Some(LARGEST_MAX), 2_097_152, 5, Some(256), LARGEST_MAX),
            (None, 2_097_152, 0, Some(256), 1),
            (None, 0, 5, Some(256), 1),
            (None, u32::MAX, 255, Some(u32::MAX), 1),
        ] {
            let machine = Machine { cpus: Some(2), memory: Some(memory), entry };
            let got = auto(&machine, set, Bounds { limit, memory_percent: percent });
            assert_eq!(got.max, max, "{set:?} {limit} {percent} {entry:?}: {}", got.formula);
        }
    }

    #[test]
    fn what_is_unknown_neither_asks_nor_binds() {
        assert_eq!(auto(&Machine::default(), None, SHIPPED).max, 131_072);
        let cpus = Machine { cpus: Some(8), ..Machine::default() };
        assert_eq!(auto(&cpus, None, SHIPPED).formula, "greatest of 131072, 32768 x 8 CPUs; at most 2097152");
    }

    #[test]
    fn a_gib_that_has_begun_counts() {
        for (mib, gib) in [(112, 1), (985, 1), (1024, 1), (1025, 2), (5947, 6), (24_105, 24)] {
            let formula = auto(&machine(1, mib * MIB), None, SHIPPED).formula;
            assert!(formula.contains(&format!("32768 x {gib} GiB")), "{mib}: {formula}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let huge = Machine { cpus: Some(u32::MAX), memory: Some(u64::MAX), entry: Some(1) };
        let bounds = Bounds { limit: u32::MAX, memory_percent: 100 };
        for set in [None, Some(1), Some(LARGEST_MAX), Some(u32::MAX)] {
            assert!(auto(&huge, set, bounds).max >= LARGEST_MAX);
        }
        for (max, buckets) in [(0, 0), (1, 0), (0, 1), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            for entries in [0, 1, LARGEST_MAX, u32::MAX] {
                let table = Table { max, buckets };
                assert!(table.buckets_for(entries, &huge, bounds).number >= buckets);
                table.buckets_for(entries, &Machine::default(), bounds);
            }
        }
        for hashsize in [0, 1, u32::MAX] {
            Table::by_default("", u64::MAX, Some(hashsize));
        }
        Table::by_default("999999999999.", 0, None);
    }

    #[test]
    fn buckets_follow_the_kernels_ratio_and_are_never_lowered() {
        let machine = machine(2, 985 * MIB);
        for (max, buckets, entries, expected) in [
            (8192, 8192, 131_072, 131_072),
            (8192, 8192, 131_073, 131_584),
            (32_768, 8192, 131_072, 32_768),
            (8192, 8192, 8000, 8192),
            // Another helper has set the buckets and not yet max; something else has raised max alone.
            (8192, 131_072, 131_072, 131_072),
            (524_288, 8192, 150_000, 37_888),
            // Nobody fills a table of this size in 1 GiB: buckets for what the budget holds, 195615 entries.
            (8192, 8192, LARGEST_MAX, 196_096),
        ] {
            let got = Table { max, buckets }.buckets_for(entries, &machine, SHIPPED);
            assert_eq!(got.number, expected, "{max} {buckets} {entries}: {}", got.formula);
        }
        let unknown = Table { max: 8192, buckets: 8192 }.buckets_for(LARGEST_MAX, &Machine::default(), SHIPPED);
        assert_eq!(unknown.number, 134_217_728);
    }

    #[test]
    fn an_option_makes_eight_entries_a_bucket() {
        let gib = 985 * MIB;
        assert_eq!(Table::by_default("6.1", gib, Some(131_072)), Table { max: 1_048_576, buckets: 131_072 });
        assert_eq!(Table::by_default("6.1", gib, Some(1000)), Table { max: 8192, buckets: 1024 });
    }

    #[test]
    fn the_formula_says_what_was_done() {
        for (set, formula) in [
            (
                8192,
                "greatest of the kernel's own 8192, 131072, 32768 x 2 CPUs, 32768 x 1 GiB; \
                 at most 2097152 and 5 % of 985 MiB at 264 bytes an entry",
            ),
            (
                300_000,
                "greatest of the kernel's own 300000, 131072, 32768 x 2 CPUs, 32768 x 1 GiB; \
                 at most 2097152 and 5 % of 985 MiB at 264 bytes an entry; 300000 is set and not lowered",
            ),
            (0, "0 is set, which is no limit; it stays"),
        ] {
            assert_eq!(auto(&machine(2, 985 * MIB), Some(set), SHIPPED).formula, formula);
        }
        let buckets = Table { max: 32_768, buckets: 8192 }.buckets_for(131_072, &machine(2, 985 * MIB), SHIPPED);
        assert_eq!(buckets.formula, "131072 entries at 4 a bucket, rounded up to 512");
    }

    #[test]
    fn a_table_that_has_its_size_keeps_it() {
        for (left, entries) in [
            (Table { max: 16_384, buckets: 4096 }, 76_003),
            (Table { max: 8192, buckets: 8192 }, 131_072),
            (Table { max: 65_536, buckets: 8192 }, 1_048_576),
        ] {
            let first = left.buckets_for(entries, &machine(2, 16 << 30), SHIPPED).number;
            let again = Table { max: entries, buckets: first };
            assert_eq!(again.buckets_for(entries, &machine(2, 16 << 30), SHIPPED).number, first, "{left:?}");
        }
    }
}

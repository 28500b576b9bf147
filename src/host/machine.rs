//! What the connection tracking table is sized for: processors, memory, and what one entry costs.

use super::Host;

/// Processors, ranges of them separated by commas.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// The entries' own slab cache. It is never merged with another: it is `SLAB_TYPESAFE_BY_RCU` (mm/slab_common.c).
const SLAB: &str = "/sys/kernel/slab/nf_conntrack/slab_size";
/// Longest `/proc/stat` or `/proc/meminfo` that is read; a host of 8192 processors writes about 1 MiB.
const LONGEST: usize = 4 << 20;

/// A machine's size. What could not be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors online now.
    pub cpus: Option<u32>,
    /// `MemTotal`, bytes: what is installed less what firmware and kernel have reserved.
    pub memory: Option<u64>,
    /// Bytes that one connection tracking entry takes in its slab; unknown before nf_conntrack is loaded.
    pub entry: Option<u32>,
}

impl Host {
    /// The machine's size now: processors and memory may be added while it runs.
    pub fn machine(&self) -> Machine {
        Machine { cpus: self.cpus(), memory: self.memory(), entry: self.entry() }
    }

    fn cpus(&self) -> Option<u32> {
        let online = self.line(ONLINE).and_then(|line| count_ranges(std::str::from_utf8(&line).ok()?));
        online.or_else(|| {
            let stat = self.read("/proc/stat", LONGEST).ok()?;
            let processors = stat.split(|&byte| byte == b'\n').filter(|line| is_processor(line)).count();
            u32::try_from(processors).ok().filter(|&count| count > 0)
        })
    }

    fn memory(&self) -> Option<u64> {
        let meminfo = self.read("/proc/meminfo", LONGEST).ok()?;
        meminfo.split(|&byte| byte == b'\n').find_map(mem_total)
    }

    /// `slab_size`, not `object_size`: padding and allocator's data take memory too, and it is what /proc/slabinfo
    /// shows. That file itself is slow to read: it takes the lock of every cache of the kernel.
    fn entry(&self) -> Option<u32> {
        // The structure has never been below 100 bytes nor near a page: what says so is no kernel's file.
        self.number(SLAB).and_then(|size| u32::try_from(size).ok()).filter(|size| (64..=65_536).contains(size))
    }
}

/// How many numbers a list such as `0-3,8,10-11` names (`cpulist_parse`, lib/bitmap-str.c); `None` if it is no list.
fn count_ranges(list: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// Whether a line of /proc/stat is that of one processor: `cpu0 …`, not the sum `cpu …`.
fn is_processor(line: &[u8]) -> bool {
    line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

fn mem_total(line: &[u8]) -> Option<u64> {
    let mut words = std::str::from_utf8(line.strip_prefix(b"MemTotal:")?).ok()?.split_ascii_whitespace();
    let kib: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then(|| kib.checked_mul(1024))?.filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(files: &[(&str, &[u8])]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Host::at(root.path()).unwrap().machine()
    }

    #[test]
    fn lists_of_processors_are_counted() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,8,10-11", Some(7)),
            ("0-511", Some(512)),
            ("", None),
            ("3-1", None),
            ("0-", None),
            ("-1", None),
            ("0,,1", None),
            ("0-4294967295", None),
            ("0-4294967294", Some(u32::MAX)),
            ("0-4294967294,5", None),
            ("a-b", None),
        ] {
            assert_eq!(count_ranges(list), count, "{list}");
        }
    }

    #[test]
    fn a_host_is_read_below_its_root() {
        let read = machine(&[
            (ONLINE, b"0-1\n"),
            ("/proc/meminfo", b"MemFree:  1 kB\nMemTotal:        1008812 kB\nMemAvailable: 2 kB\n"),
            (SLAB, b"256\n"),
        ]);
        assert_eq!(read, Machine { cpus: Some(2), memory: Some(1008812 * 1024), entry: Some(256) });
    }

    #[test]
    fn processors_are_counted_in_proc_stat_where_sysfs_is_missing() {
        let read = machine(&[("/proc/stat", b"cpu  1 2\ncpu0 1 2\ncpu1 1 2\ncpu17 1 2\nintr 5\ncpufreq 1\n")]);
        assert_eq!(read.cpus, Some(3));
        assert_eq!(machine(&[(ONLINE, b"\xff\n"), ("/proc/stat", b"cpu0 1\n")]).cpus, Some(1));
    }

    #[test]
    fn garbage_is_nothing() {
        for garbage in
            [&b""[..], b"\xff\xfe\0", b"MemTotal:\n", b"MemTotal: -5 kB", b"MemTotal: 0 kB", b"MemTotal: 5 MB", b"cpu"]
        {
            let read =
                machine(&[(ONLINE, garbage), ("/proc/meminfo", garbage), ("/proc/stat", garbage), (SLAB, garbage)]);
            assert_eq!(read, Machine::default(), "{garbage:?}");
        }
        assert_eq!(machine(&[("/proc/meminfo", b"MemTotal: 18446744073709551615 kB\n")]).memory, None);
        for slab in [&b"-1"[..], b"0", b"63", b"65537", b"99999999999"] {
            assert_eq!(machine(&[(SLAB, slab)]).entry, None, "{slab:?}");
        }
    }
}

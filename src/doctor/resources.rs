//! Memory: what there is now, and what the kernel said of it.

use super::support::load;
use super::{Case, Cause, Finding, Seen};

/// With less memory than this a load may fail, KiB: the file unpacked, a copy of it, and a small table.
const LEAST: u64 = 16 << 10;
/// Part of all memory that has to be available, one in so many.
const PART: u64 = 50;
/// What the kernel says when there was none for a module.
const FAILURES: [&str; 5] = [
    "page allocation failure",
    "vmap allocation for size",
    "vmalloc error: size",
    "allocation failure: ",
    "Cannot allocate memory",
];
/// Who loads modules.
const LOADERS: [&str; 6] = ["modprobe", "insmod", "kmod", "systemd-modules", "udev", "systemd-udevd"];

pub fn look(case: &Case) -> Seen {
    if !case.runs {
        return Seen::Well(format!("{} does not run", case.kernel));
    }
    let Ok(bytes) = case.host.read("/proc/meminfo", 1 << 20) else {
        return Seen::Nothing(format!("{}: can't be read", case.shown("/proc/meminfo")));
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let number = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    let available = number("MemAvailable").or_else(|| number("MemFree"));
    let total = number("MemTotal");
    let mut finding = Finding::new(Cause::Resources, format!("there is too little memory to load {}", case.name()));
    let shown = case.shown("/proc/meminfo");
    if let (Some(available), Some(total)) = (available, total)
        && (available < LEAST || available < total / PART)
    {
        finding = finding.evidence(format!("{shown}: {available} kB of {total} kB are available"));
    }
    let vmalloc = number("VmallocTotal").zip(number("VmallocUsed"));
    if let Some((all, used)) = vmalloc
        && all > 0
        && all.saturating_sub(used) < LEAST
    {
        finding = finding.evidence(format!("{shown}: {used} kB of {all} kB of vmalloc's address space are used"));
        finding = finding.fix("# boot a 32-bit kernel with a greater vmalloc= on its command line");
    }
    finding.evidence.extend(cgroup(case));
    let is_short_now = !finding.evidence.is_empty();
    let failed = log(case);
    finding.evidence.extend(failed.lines);
    if finding.evidence.is_empty() {
        let available = available.map_or("?".to_owned(), |kib| (kib / 1024).to_string());
        return Seen::Well(format!("{available} MiB are available, and the kernel's log tells of no failure"));
    }
    // That somebody else was killed long ago is no reason for this load to fail now.
    let finding = if is_short_now || failed.of_a_load { finding } else { finding.minor() };
    finding
        .fix("# what takes most; end or shrink it:")
        .fix("ps -e -o pid,rss,args --sort=-rss | head")
        .fix("sync && echo 3 >/proc/sys/vm/drop_caches && echo 1 >/proc/sys/vm/compact_memory")
        .fix(load(case))
        .into()
}

/// A limit on the group that this process is in, which a modprobe of the same group would meet.
fn cgroup(case: &Case) -> Option<String> {
    let groups = case.host.read("/proc/self/cgroup", 64 << 10).ok()?;
    let groups = String::from_utf8_lossy(&groups).into_owned();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/').to_owned();
    let number = |name: &str| case.host.number(format!("/sys/fs/cgroup{path}/{name}"));
    let (max, current) = (number("memory.max")?, number("memory.current")?);
    let left = max.saturating_sub(current) / 1024;
    let is_short = u64::try_from(left).is_ok_and(|left| left < LEAST);
    is_short.then(|| {
        format!("{}: {left} kB are left of {} kB", case.shown(&format!("/sys/fs/cgroup{path}/memory.max")), max / 1024)
    })
}

struct Failed {
    lines: Vec<String>,
    /// Whether it was a load that failed.
    of_a_load: bool,
}

/// What the kernel's log tells of memory that could not be had.
fn log(case: &Case) -> Failed {
    let name = case.name();
    let log = case.log();
    let mut failed = Failed { lines: Vec::new(), of_a_load: false };
    for line in log.with(&FAILURES) {
        let of_a_load = LOADERS.iter().any(|loader| line.text.contains(loader)) || line.text.contains(&name);
        failed.of_a_load |= of_a_load;
        failed.lines.push(line.shown());
    }
    for line in log.with(&["Out of memory: Killed process", "Memory cgroup out of memory: Killed process", "oom-kill:"])
    {
        let of_a_load = LOADERS
            .iter()
            .any(|loader| line.text.contains(&format!("({loader}")) || line.text.contains(&format!("task={loader}")));
        // A group that met its own limit says nothing of the rest.
        if of_a_load || line.text.starts_with("Out of memory") {
            failed.of_a_load |= of_a_load;
            failed.lines.push(line.shown());
        }
    }
    // The last are the ones that count.
    let surplus = failed.lines.len().saturating_sub(5);
    failed.lines.drain(..surplus);
    failed
}

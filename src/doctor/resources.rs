//! Memory: what there is now, and what the kernel said of it.

use super::kernel_log::Line;
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
/// What it says when it ended somebody to get some.
const KILLS: [&str; 3] = ["Out of memory: Killed process", "Memory cgroup out of memory: Killed process", "oom-kill:"];
/// What is longer ago says nothing of now, seconds.
const RECENT: f64 = 3600.0;
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
        let log = match &case.log().unread {
            None => "the kernel's log tells of no failure",
            Some(_) => "the kernel's log can't be read",
        };
        return Seen::Well(format!("{available} MiB are available; {log}"));
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

/// A limit on a group that this process is in, which a modprobe of the same group would meet; of the groups above it as
/// well (cgroups(7), both versions).
fn cgroup(case: &Case) -> Option<String> {
    let groups = case.host.read("/proc/self/cgroup", 64 << 10).ok()?;
    let groups = String::from_utf8_lossy(&groups).into_owned();
    let of_line = |line: &str| -> Option<(&'static str, String, [&'static str; 2])> {
        let (head, path) = line.split_once(":/")?;
        match head {
            "0:" => Some(("/sys/fs/cgroup", path.to_owned(), ["memory.max", "memory.current"])),
            _ if head.split_once(':')?.1.split(',').any(|controller| controller == "memory") => {
                Some(("/sys/fs/cgroup/memory", path.to_owned(), ["memory.limit_in_bytes", "memory.usage_in_bytes"]))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(of_line).find_map(|(root, path, [max, current])| {
        let mut group = path.as_str();
        loop {
            let directory = format!("{root}/{group}");
            let number = |name: &str| case.host.number(format!("{}/{name}", directory.trim_end_matches('/')));
            if let (Some(limit), Some(used)) = (number(max), number(current)) {
                let left = limit.saturating_sub(used) / 1024;
                if u64::try_from(left).is_ok_and(|left| left < LEAST) {
                    let shown = case.shown(&format!("{directory}/{max}"));
                    return Some(format!("{shown}: {left} kB are left of {} kB", limit / 1024));
                }
            }
            group = match group.rsplit_once('/') {
                Some((above, _)) => above,
                None if group.is_empty() => return None,
                None => "",
            };
        }
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
    let uptime = case
        .host
        .line("/proc/uptime")
        .and_then(|line| String::from_utf8_lossy(&line).split_ascii_whitespace().next()?.parse::<f64>().ok());
    let is_recent = |line: &&Line| uptime.zip(line.seconds).is_none_or(|(now, then)| now - then <= RECENT);
    let mut failed = Failed { lines: Vec::new(), of_a_load: false };
    for line in log.with(&FAILURES).filter(is_recent) {
        let of_a_load = LOADERS.iter().any(|loader| line.text.contains(loader)) || line.text.contains(&name);
        failed.of_a_load |= of_a_load;
        failed.lines.push(line.shown());
    }
    for line in log.with(&KILLS).filter(is_recent) {
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

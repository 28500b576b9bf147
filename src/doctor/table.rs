//! Connection tracking's table: full, filling, too small, in chains that are too long, and what the next boot makes of it.

use super::commands::comment_out;
use super::{Case, Cause, Finding, Seen};
use crate::conntrack::{self, Goals, Wanted};
use crate::judge;
use crate::modules::Says;
use crate::text::counted;

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
const STATISTICS: &str = "/proc/net/stat/nf_conntrack";
/// What overflowed in 2012; with less, unless somebody chose it, a server is in danger.
const SMALL: i64 = 65_536;
/// A small table is one to speak of if so much of it is used, percent.
const USED: i64 = 25;
/// Entries a bucket beyond which chains are too long; the kernel makes 8 of a given `hashsize`.
const MOST_A_BUCKET: i64 = 8;
/// How long the count is watched to see how fast it grows.
const WATCH: std::time::Duration = std::time::Duration::from_millis(250);

/// What is read of the table.
struct Table {
    count: i64,
    max: i64,
    buckets: Option<i64>,
    /// What the module's statistics count, summed over processors, in the namespace of whoever looks.
    dropped: u64,
    evicted: u64,
    not_inserted: u64,
}

impl Table {
    fn read(case: &Case) -> Option<Table> {
        let number = |path: &str| case.host.number(path);
        let statistics = statistics(case);
        let sum = |name: &str| {
            statistics
                .iter()
                .filter(|(column, _)| column == name)
                .fold(0, |sum: u64, (_, value)| sum.saturating_add(*value))
        };
        Some(Table {
            count: number(COUNT)?,
            max: number(MAX)?,
            buckets: number(BUCKETS).or_else(|| number(HASHSIZE)),
            dropped: sum("drop"),
            evicted: sum("early_drop"),
            not_inserted: sum("insert_failed"),
        })
    }

    fn percent(&self) -> i64 {
        self.count.saturating_mul(100).checked_div(self.max).unwrap_or(0)
    }
}

/// Column and value, a line a processor; hexadecimal, and the columns differ between versions.
fn statistics(case: &Case) -> Vec<(String, u64)> {
    let bytes = case.host.read(STATISTICS, 4 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let of_line = |line: &str| -> Vec<(String, u64)> {
        let values = line.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16).unwrap_or(0));
        columns.iter().map(|column| (*column).to_owned()).zip(values).collect()
    };
    lines.flat_map(of_line).collect()
}

pub fn look(case: &Case) -> Seen {
    let Some(table) = Table::read(case) else {
        return Seen::Nothing(format!("{}: can't be read in this network namespace", case.shown(MAX)));
    };
    let mut findings = Vec::new();
    let overflows: Vec<_> = case.log().with(&["table full, dropping packet"]).collect();
    let percent = table.percent();
    let usage = format!("{}: {} of {} ({percent} %)", case.shown(COUNT), table.count, table.max);
    if table.max > 0 {
        let suffered = !overflows.is_empty() || (table.dropped > 0 && table.evicted > 0);
        // What overflowed once and has room now was mended, or is calm.
        if percent >= 95 || (suffered && percent >= 50) {
            let mut finding = Finding::new(
                Cause::TableFull,
                "the connection tracking table is full: packets of new connections are dropped",
            )
            .evidence(usage.clone());
            if let Some(last) = overflows.last() {
                finding = finding.evidence(format!("{} lines in the log, the last: {}", overflows.len(), last.shown()));
            }
            findings.push(enlarge(case, &table, with_statistics(case, &table, finding)));
        } else if percent >= 75 {
            let mut finding =
                Finding::new(Cause::TableSmall, format!("the connection tracking table is {percent} % full"))
                    .evidence(usage.clone());
            finding.evidence.extend(until_full(case, &table));
            findings.push(enlarge(case, &table, with_statistics(case, &table, finding)));
        } else if let Some(finding) = too_small(case, &table) {
            findings.push(finding);
        }
    }
    findings.extend(long_chains(case, &table));
    let buckets = table.buckets.map_or_else(String::new, |buckets| format!(", {buckets} buckets"));
    let max = if table.max == 0 { "no limit".to_owned() } else { table.max.to_string() };
    let before = if overflows.is_empty() {
        String::new()
    } else {
        format!("; overflowed {} before", counted(overflows.len(), "time"))
    };
    Seen::of(findings, format!("{} of {max} entries{buckets}{before}", table.count))
}

fn with_statistics(case: &Case, table: &Table, mut finding: Finding) -> Finding {
    if table.dropped.max(table.evicted).max(table.not_inserted) > 0 {
        finding = finding.evidence(format!(
            "{}: {} dropped, {} evicted early, {} not inserted since the module was loaded",
            case.shown(STATISTICS),
            table.dropped,
            table.evicted,
            table.not_inserted
        ));
    }
    finding
}

/// How long at the present rate. Nothing on a host that is a mere directory, or whose table does not grow.
fn until_full(case: &Case, table: &Table) -> Option<String> {
    let (began, before) = case.entries.filter(|_| case.host.is_this())?;
    std::thread::sleep(WATCH.saturating_sub(began.elapsed()));
    let now = case.host.number(COUNT)?;
    let grown = now.checked_sub(before).filter(|grown| *grown > 0)?;
    let a_second = grown as f64 / began.elapsed().as_secs_f64();
    let seconds = table.max.saturating_sub(now) as f64 / a_second;
    Some(format!("grew by {grown} while this looked: full in about {seconds:.0} s at that rate"))
}

/// What the guard would make of the table.
fn goals(case: &Case) -> Goals {
    conntrack::goals(case.host, &Wanted::new(&case.policy, &case.config), &case.kernel)
}

/// What the guard would make of it, and never less than twice what is used.
fn wanted_max(case: &Case, table: &Table) -> i64 {
    let room = u64::try_from(table.count.saturating_mul(2)).unwrap_or(0).next_power_of_two();
    let goals = goals(case);
    i64::from(goals.max.number).max(i64::try_from(room).unwrap_or(i64::MAX)).min(i64::from(i32::MAX))
}

/// The commands that make the table larger, now and for good.
fn enlarge(case: &Case, table: &Table, finding: Finding) -> Finding {
    let max = wanted_max(case, table);
    let mut finding = finding.fix(format!("sysctl -w net.netfilter.nf_conntrack_max={max}"));
    let buckets = table.buckets.unwrap_or(0);
    if buckets > 0 && max / buckets > MOST_A_BUCKET / 2 {
        finding = finding.fix(format!("echo {} >{HASHSIZE}", max / 4));
    }
    for_good(case, finding, max)
}

/// The commands that have the next boot do it as well.
fn for_good(case: &Case, finding: Finding, max: i64) -> Finding {
    let finding = finding
        .fix("# for good; guard has it applied when the module is loaded, which is after systemd-sysctl:")
        .fixes(former_lines(case))
        .fix("mkdir -p /etc/sysctl.d")
        .fix(format!("echo net.netfilter.nf_conntrack_max={max} >>/etc/sysctl.d/99-nf_conntrack.conf"));
    if will_size(case) { finding } else { finding.fix("guard enable") }
}

/// Commands that take away the lines which say something else, and might be read later.
fn former_lines(case: &Case) -> Vec<String> {
    let lines = case.sysctl_lines(&["net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"]);
    lines.iter().flat_map(|line| comment_out(case, &line.source)).collect()
}

/// Whether the guard sizes the table of a load that the kernel asks for.
fn will_size(case: &Case) -> bool {
    is_armed(case) && judge::sizes_tables(&case.policy)
}

/// Whether the kernel asks the guard.
pub fn is_armed(case: &Case) -> bool {
    case.host.is_armed()
}

/// A table that nobody chose to be so small.
fn too_small(case: &Case, table: &Table) -> Option<Finding> {
    let goals = goals(case);
    let wanted = i64::from(goals.max.number);
    // Small and hardly used is well enough, unless the guard was to make it larger.
    let is_used = table.percent() >= USED;
    if goals.max.source != "auto" || table.max >= wanted || table.max >= SMALL || !(is_used || will_size(case)) {
        return None;
    }
    let finding = Finding::new(
        Cause::TableSmall,
        format!("the connection tracking table has room for {} entries only", table.max),
    )
    .evidence(format!("{}: {}, which nobody has chosen", case.shown(MAX), table.max));
    let finding = match &goals.max.formula {
        Some(formula) => finding.evidence(format!("the guard would make it {wanted}: {formula}")),
        None => finding,
    };
    Some(enlarge(case, table, finding))
}

/// Buckets that are too few for what max allows.
fn long_chains(case: &Case, table: &Table) -> Option<Finding> {
    let buckets = table.buckets.filter(|&buckets| buckets > 0)?;
    if table.max / buckets <= MOST_A_BUCKET {
        return None;
    }
    let better = table.max / 4;
    Some(
        Finding::new(
            Cause::TableSmall,
            format!("the table has {buckets} buckets for {} entries: chains get long", table.max),
        )
        .evidence(format!("{}: {buckets}; {}: {}", case.shown(BUCKETS), case.shown(MAX), table.max))
        .evidence("the kernel itself makes 1 to 8 entries a bucket")
        .fix(format!("echo {better} >{HASHSIZE}"))
        .fix("mkdir -p /etc/modprobe.d")
        .fix(format!("echo options nf_conntrack hashsize={better} >>/etc/modprobe.d/nf_conntrack.conf")),
    )
}

/// Whether something else sets sysctls once the module is there: its `install` line, or a rule of udev's.
fn is_set_later(case: &Case) -> bool {
    let by_install =
        case.config.lines_on(&case.module).iter().any(
            |line| matches!(&line.says, Says::Install(command) if command.windows(6).any(|word| word == b"sysctl")),
        );
    let by_udev = ["/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"].iter().any(
        |directory| {
            case.host.list(directory).unwrap_or_default().iter().any(|name| {
                let rules = case.host.read(std::path::Path::new(directory).join(name), 1 << 20).unwrap_or_default();
                let mut lines = rules.split(|&byte| byte == b'\n').map(String::from_utf8_lossy);
                lines.any(|line| !line.starts_with('#') && line.contains("conntrack") && line.contains("sysctl"))
            })
        },
    );
    by_install || by_udev
}

/// Whether the next boot makes the table as large as it is now, where that matters.
pub fn look_at_next_boot(case: &Case) -> Seen {
    let Some(table) = Table::read(case) else {
        return Seen::Nothing(format!("{}: can't be read in this network namespace", case.shown(MAX)));
    };
    let goals = goals(case);
    let Some(default) = conntrack::default_max(case.host, &Wanted::new(&case.policy, &case.config), &case.kernel)
    else {
        return Seen::Nothing(format!("{}: can't be read", case.shown("/proc/meminfo")));
    };
    let chosen = goals.max.source != "auto";
    let early = super::not_loaded::at_boot(case, b"nf_conntrack");
    let (next, why) = match () {
        () if will_size(case) => (i64::from(goals.max.number), format!("the guard sets it ({})", goals.max.source)),
        () if chosen && (early.is_some() || case.is_builtin(&case.module)) => {
            (i64::from(goals.max.number), goals.max.source.clone())
        }
        () => (default, "the kernel's own default".to_owned()),
    };
    let is_less = |now: i64, next: i64| next != 0 && (now == 0 || next < now);
    // An administrator's line that comes to nothing is worth a word; else only what is in use counts.
    let lost = chosen
        && !is_set_later(case)
        && next != i64::from(goals.max.number)
        && is_less(i64::from(goals.max.number), next);
    let needed = is_less(table.max, next) && table.count > next / 2;
    if !lost && !needed {
        return Seen::Well(format!("{next}: {why}"));
    }
    let mut finding =
        Finding::new(Cause::TableSmall, format!("after the next boot the table has room for {next} entries only"))
            .evidence(format!("{}: {} now, of which {} are used", case.shown(MAX), table.max, table.count))
            .evidence(format!("{next} is {why}"));
    if lost {
        finding = finding.evidence(format!(
            "{}: says {}, and is read before nf_conntrack is there",
            goals.max.source, goals.max.number
        ));
        return finding.fix("# the guard applies it when the module is loaded:").fix("guard enable").into();
    }
    for_good(case, finding, table.max).into()
}

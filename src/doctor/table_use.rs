//! Whether anything uses connection tracking, or it is merely there: the outage of 2012 began with a list of no rules.

use super::{Case, Cause, Finding, Seen};
use crate::text::Text;

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

pub fn look(case: &Case) -> Seen {
    if case.is_builtin(&case.module) {
        return Seen::Well("is part of the kernel image, and always there".to_owned());
    }
    let Some(count) = case.host.number(COUNT) else {
        return Seen::Nothing(format!("{}: can't be read in this network namespace", case.shown(COUNT)));
    };
    let above = above(case);
    let users: Vec<String> = above
        .iter()
        .filter_map(|name| case.live_line(name).filter(|live| live.own_references() > 0))
        .map(|live| format!("{} ({} references)", Text::from(live.name.as_slice()), live.own_references()))
        .collect();
    if count > 0 || !users.is_empty() {
        let by = if users.is_empty() { String::new() } else { format!(", used by {}", users.join(", ")) };
        return Seen::Well(format!("tracks {count} connections{by}"));
    }
    if case.live.is_none() {
        return Seen::Nothing(format!("{}: can't be read", case.shown("/proc/modules")));
    }
    let names: Vec<String> = above.iter().map(|name| Text::from(name.as_slice()).to_string()).collect();
    let mut finding =
        Finding::new(Cause::Unused, "nf_conntrack is there, and nothing uses it: no rule tracks anything")
            .evidence(format!("{}: 0", case.shown(COUNT)))
            .evidence(format!("{}: no rule holds {}", case.shown("/proc/modules"), names.join(", ")));
    finding.evidence.extend(super::records::last_load(case, b"nf_conntrack"));
    // Who needs others goes first.
    finding
        .fix(format!("modprobe -r {}", names.join(" ")))
        .fix("# so that it does not come back when somebody lists rules (it blocks Docker's and every other NAT as well):")
        .fix("mkdir -p /etc/modprobe-guard/policy.d")
        .fix(
            "printf 'version = 1\\n[[rule]]\\nid = \"no-conntrack\"\\nmodules = [\"nf_conntrack\"]\\naction = \"block\"\\n' \
             >/etc/modprobe-guard/policy.d/50-no-conntrack.toml",
        )
        .fix(if super::table::is_armed(case) { "guard apply" } else { "guard enable" })
        .into()
}

/// nf_conntrack and every live module that needs it, directly or not; who needs others comes before them.
fn above(case: &Case) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut left = vec![b"nf_conntrack".to_vec()];
    // Each step looks at the users of one; who is met again goes behind everything that it needs. No tree of users is
    // deep, and a list that someone made up ends all the same.
    for _ in 0..10_000 {
        let Some(name) = left.pop() else { break };
        names.retain(|known| *known != name);
        left.extend(case.live_line(&name).map(|live| live.users.clone()).unwrap_or_default());
        names.push(name);
    }
    names.reverse();
    names
}

//! The ways in which modules get loaded: covered, by what, or open, and what would close them.

use serde::Serialize;

use super::hooks::Hooks;
use super::tables;
use crate::host::{HOOKS, Host, MODPROBE};
use crate::text::Text;

/// How many modules a line for people names.
const NAMED: usize = 6;

/// One way.
#[derive(Serialize)]
pub struct Way {
    /// What it is.
    pub way: &'static str,
    /// Whether the policy decides there.
    pub covered: bool,
    /// What covers it.
    pub by: String,
    /// What would close it, where it is open and anything would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// The modules that it is open for, where it is not open for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Text>,
    /// The rules that it is open for, `ID (FILE:LINE)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Where in modprobe.d the reason stands for each of the modules, `FILE:LINE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Way {
    /// A way, open or covered by what `by` says, and what would close it.
    pub fn new(way: &'static str, covered: bool, by: impl Into<String>, closed_by: Option<&str>) -> Way {
        let closed_by = closed_by.map(str::to_owned);
        Way { way, covered, by: by.into(), closed_by, modules: Vec::new(), rules: Vec::new(), lines: Vec::new() }
    }

    /// For people: lines, each with its label, of which only the first has one. `is_aligned`: what covers it stands in a
    /// column of its own.
    pub fn lines(&self, is_aligned: bool) -> Vec<(&'static str, String)> {
        let state = if self.covered { "covered" } else { "open" };
        let first =
            if is_aligned { format!("{:<54} {}", self.way, self.by) } else { format!("{}: {}", self.way, self.by) };
        let mut lines = vec![(state, first)];
        let at = |place: usize| self.lines.get(place).map_or_else(String::new, |line| format!(" ({line})"));
        let modules = self.modules.iter().enumerate().map(|(place, module)| format!("{module}{}", at(place)));
        let named: Vec<String> = modules.chain(self.rules.iter().cloned()).collect();
        if let Some(some) = named.get(..NAMED.min(named.len())).filter(|some| !some.is_empty()) {
            let more = named.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more, see --json") };
            lines.push(("", format!("{}{more}", some.join(", "))));
        }
        lines.extend(self.closed_by.as_ref().map(|remedy| ("", format!("closed by {remedy}"))));
        lines
    }

    /// For people: one plain line or some.
    pub fn shown(&self) -> Vec<String> {
        self.lines(true).into_iter().map(|(label, text)| format!("{label:<8} {text}")).collect()
    }
}

/// All of them. `hooks`: what there is to be covered besides requests of the kernel, or why that is not known.
pub fn all(host: &Host, armed: bool, hooks: &Result<Hooks, String>) -> Vec<Way> {
    // In modprobe's own place, whoever runs modprobe runs us.
    let is_modprobe = armed && host.decides_in_place() && host.is_guard(MODPROBE);
    let by = match (armed, is_modprobe) {
        (true, true) => "/sbin/modprobe, which is the guard",
        (true, false) => "kernel.modprobe",
        (false, _) => "nothing",
    };
    let closed_by = (!armed).then_some("guard enable");
    let mut ways = vec![
        Way::new("requests of the kernel", armed, by, closed_by),
        Way::new("libxtables (iptables-legacy)", armed, by, closed_by),
    ];
    ways.extend(is_modprobe.then(|| Way::new("modprobe(8)", true, by, None)));
    ways.extend(tables::way(host, armed));
    const KMOD: &str = "modprobe(8) and libkmod (udev, systemd)";
    match hooks {
        Ok(hooks) => {
            ways.push(match (hooks.problem(host), hooks.hooked.len()) {
                (None, 0) => Way::new(KMOD, armed, "no module to ask about", closed_by),
                (None, count) => Way::new(KMOD, true, format!("install lines of {count} modules, {HOOKS}"), None),
                (Some(_), _) if !armed => Way::new(KMOD, false, "nothing", closed_by),
                (Some(problem), _) => Way::new(KMOD, false, problem, None),
            });
            ways.extend(open(hooks));
        }
        Err(error) => ways.push(Way::new(KMOD, false, error, None)),
    }
    ways.push(by_root(host));
    ways
}

/// What `install` lines do not reach, if there is anything.
pub fn open(hooks: &Hooks) -> Vec<Way> {
    let (others, lines) = hooks.installed_by_others.iter().cloned().unzip();
    let ways = [
        Way {
            modules: hooks.with_softdeps.clone(),
            ..Way::new(
                "modprobe and libkmod: modules with soft dependencies",
                false,
                "nothing: kmod runs no install line of theirs",
                Some(
                    "a line `softdep MODULE pre:` in /etc/modprobe.d/00-own.conf, which leaves those out, and guard apply",
                ),
            )
        },
        Way {
            modules: others,
            lines,
            ..Way::new(
                "modprobe and libkmod: modules with install lines",
                false,
                "those, which are not ours and stay",
                Some("taking them away, and guard apply"),
            )
        },
        Way {
            modules: hooks.needed.clone(),
            ..Way::new(
                "modprobe and libkmod: what permitted requests need",
                false,
                "nothing: blocked only if asked for by name",
                Some("a rule that names them; it also blocks what needs them"),
            )
        },
        Way {
            rules: hooks.about_names.clone(),
            ..Way::new(
                "modprobe and libkmod: rules about names",
                false,
                "nothing: only modules have install lines",
                Some("the key `modules` in these rules, for what the names stand for"),
            )
        },
    ];
    ways.into_iter().filter(|way| !(way.modules.is_empty() && way.rules.is_empty())).collect()
}

/// Whether the kernel loads nothing any more, whoever asks.
pub fn are_modules_disabled(host: &Host) -> bool {
    host.number("/proc/sys/kernel/modules_disabled") == Some(1)
}

/// What root can do without asking anybody, and what the kernel itself refuses.
fn by_root(host: &Host) -> Way {
    let disabled = are_modules_disabled(host);
    let signed = host.line("/sys/module/module/parameters/sig_enforce").is_some_and(|line| line == b"Y");
    let lockdown = host.line("/sys/kernel/security/lockdown").unwrap_or_default();
    let lockdown = lockdown.split(u8::is_ascii_whitespace).find_map(|word| word.strip_prefix(b"[")?.strip_suffix(b"]"));
    let lockdown = lockdown.filter(|mode| *mode != b"none").map(Text::from);
    let mut on = Vec::new();
    on.extend(signed.then(|| "module.sig_enforce".to_owned()));
    on.extend(lockdown.map(|mode| format!("lockdown={mode}")));
    let by = match (disabled, on.is_empty()) {
        (true, _) => "kernel.modules_disabled: nothing is loaded any more".to_owned(),
        (false, true) => "nobody can".to_owned(),
        (false, false) => format!("nobody can; signed modules only ({})", on.join(", ")),
    };
    let remedies = match on.is_empty() {
        true => "kernel.modules_disabled=1 for all modules; module.sig_enforce=1 or lockdown for foreign ones",
        false => "kernel.modules_disabled=1, for all modules",
    };
    Way::new("insmod, finit_module(2) by root", disabled, by, (!disabled).then_some(remedies))
}

//! The ways in which modules get loaded: covered, by what, or open, and what would close them.

use serde::Serialize;

use super::hooks::Hooks;
use crate::host::{HOOKS, Host};
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
}

impl Way {
    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let state = if self.covered { "covered" } else { "open" };
        let mut lines = vec![format!("{state:<8} {:<54} {}", self.way, self.by)];
        if !self.modules.is_empty() {
            let named: Vec<String> = self.modules.iter().take(NAMED).map(ToString::to_string).collect();
            let more = self.modules.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more, see --json") };
            lines.push(format!("         {}{more}", named.join(", ")));
        }
        lines.extend(self.closed_by.as_ref().map(|remedy| format!("         closed by {remedy}")));
        lines
    }
}

/// All of them. `hooks`: what there is to be covered besides requests of the kernel, or why that is not known.
pub fn all(host: &Host, armed: bool, hooks: &Result<Hooks, String>) -> Vec<Way> {
    let mut ways: Vec<Way> = ["requests of the kernel", "libxtables (iptables-legacy)"]
        .into_iter()
        .map(|way| Way {
            way,
            covered: armed,
            by: if armed { "kernel.modprobe" } else { "nothing" }.to_owned(),
            closed_by: (!armed).then(|| "guard enable".to_owned()),
            modules: Vec::new(),
        })
        .collect();
    match hooks {
        Ok(hooks) => {
            ways.push(by_kmod(host, armed, hooks));
            ways.extend(open(hooks));
        }
        Err(error) => ways.push(kmod(false, error.clone(), None)),
    }
    ways.push(by_root(host));
    ways
}

fn kmod(covered: bool, by: String, closed_by: Option<String>) -> Way {
    Way { way: "modprobe(8) and libkmod (udev, systemd)", covered, by, closed_by, modules: Vec::new() }
}

fn by_kmod(host: &Host, armed: bool, hooks: &Hooks) -> Way {
    match (hooks.problem(host), hooks.hooked.len()) {
        (None, 0) => kmod(armed, "no module to ask about".into(), (!armed).then(|| "guard enable".to_owned())),
        (None, count) => kmod(true, format!("install lines of {count} modules, {HOOKS}"), None),
        (Some(_), _) if !armed => kmod(false, "nothing".into(), Some("guard enable".into())),
        (Some(problem), _) => kmod(false, problem, None),
    }
}

/// What `install` lines do not reach, if there is anything.
pub fn open(hooks: &Hooks) -> Vec<Way> {
    let others = hooks.installed_by_others.iter().map(|(name, source)| format!("{name} ({source})"));
    let ways = [
        Way {
            way: "modprobe and libkmod: modules with soft dependencies",
            covered: false,
            by: "nothing: kmod runs no install line of theirs".into(),
            closed_by: Some(
                "a line `softdep MODULE pre:` in /etc/modprobe.d/00-own.conf, which leaves those out, and guard apply"
                    .into(),
            ),
            modules: hooks.with_softdeps.clone(),
        },
        Way {
            way: "modprobe and libkmod: modules with install lines",
            covered: false,
            by: "those, which are not ours and stay".into(),
            closed_by: Some("taking them away, and guard apply".into()),
            modules: others.map(|text| Text::from(text.as_str())).collect(),
        },
        Way {
            way: "modprobe and libkmod: what permitted modules need",
            covered: false,
            by: "nothing: blocked only if asked for by name".into(),
            closed_by: Some("a rule that names them; it also blocks what needs them".into()),
            modules: hooks.needed.clone(),
        },
        Way {
            way: "modprobe and libkmod: rules about names",
            covered: false,
            by: "nothing: names of modules only have install lines".into(),
            closed_by: Some("the key `modules` in these rules, for what the names stand for".into()),
            modules: hooks.about_names.iter().map(|rule| Text::from(rule.as_str())).collect(),
        },
    ];
    ways.into_iter().filter(|way| !way.modules.is_empty()).collect()
}

/// What root can do without asking anybody, and what the kernel itself refuses.
fn by_root(host: &Host) -> Way {
    const DISABLED: &str = "/proc/sys/kernel/modules_disabled";
    let disabled = host.number(DISABLED) == Some(1);
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
    Way {
        way: "insmod, finit_module(2) by root",
        covered: disabled,
        by,
        closed_by: (!disabled).then(|| remedies.to_owned()),
        modules: Vec::new(),
    }
}

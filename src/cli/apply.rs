//! `guard apply`: puts the policy files in force.

use super::hooks::{self, Hooks};
use super::{Common, check, exit, ways};
use crate::host::{HOOKS, Host, POLICY_IN_FORCE};
use crate::policy::{self, applied};
use crate::requester;
use crate::text::counted;

/// Checks the sources and writes them, checked and resolved, where the helper reads them; where that is armed, the
/// `install` lines follow.
pub fn run(host: &Host, common: &Common) -> u8 {
    match apply(host, common) {
        Ok(done) => {
            say!("{done}");
            if host.is_armed() { hook(host) } else { exit::GOOD }
        }
        Err(()) => exit::BAD,
    }
}

/// Has modprobe(8) and libkmod ask us for what the policy in force may block or size, and says what that leaves open.
pub fn hook(host: &Host) -> u8 {
    let written = Hooks::of(host).and_then(|hooks| Ok((hooks::write(host, &hooks)?, hooks)));
    let (is_new, hooks) = match written {
        Ok(written) => written,
        Err(error) => {
            complain!("guard: {error}; modprobe(8) and libkmod do not go by the policy in force");
            return exit::BAD;
        }
    };
    match hooks.hooked.len() {
        0 => say!("install lines: none, since there is no module to ask about"),
        count => say!("install lines: {count} modules in {HOOKS}, for modprobe(8), udev and systemd"),
    }
    if is_new && host.exists("/run/udev/control") {
        say!("  udev reads them after udevadm control --reload: that directory was not there before");
    }
    for line in ways::open(&hooks).iter().flat_map(ways::Way::shown) {
        say!("  {line}");
    }
    exit::GOOD
}

/// Puts the policy files in force, whole or not at all; says what it did. What went wrong is printed.
pub fn apply(host: &Host, common: &Common) -> Result<String, ()> {
    let sound = host.policy_sources().and_then(|sources| Ok((policy::parse(&sources)?, sources)));
    let (policy, sources) = sound.map_err(|findings| {
        check::print(common, &findings);
        nothing_applied(host);
    })?;
    if let (Some(rule), Some(why)) = (policy.asks_who().next(), requester::cannot_tell(host)) {
        complain!("guard: {}: rule \"{}\" asks who, which this host can't tell: {why}", rule.source, rule.id);
        nothing_applied(host);
        return Err(());
    }
    let rules = counted(policy.rules.len(), "rule");
    let target = host.shown(POLICY_IN_FORCE);
    let failed = |error: String| complain!("guard: {}: {error}; the policy in force stays", target.display());
    let bytes = applied::encode(&applied::Applied::new(policy, &sources)).map_err(failed)?;
    // The helper refuses a file that others may write to, whatever it says: then it is written anew.
    let is_taken = host.policy_in_force().failures.is_empty();
    if is_taken && host.read(POLICY_IN_FORCE, bytes.len()).is_ok_and(|present| present == bytes) {
        return Ok(format!("policy in force already: {rules} from {}", check::names(&sources)));
    }
    host.put_in_force(&bytes).map_err(|error| failed(format!("write: {error}")))?;
    Ok(format!("policy in force: {rules} from {}", check::names(&sources)))
}

/// What decides then. That need not be what was applied last: it may be damaged, or of another version.
fn nothing_applied(host: &Host) {
    complain!("guard: nothing applied; the policy in force stays");
    host.policy_in_force().failures.iter().for_each(|failure| complain!("guard: {failure}"));
}

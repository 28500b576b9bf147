//! What the pages take from the code as it is: paths, names, numbers.

use nix::sys::signal::Signal;

use super::roff::{DATE, escaped, folded, listed};
use crate::audit::spool::SPOOL;
use crate::audit::syslog::{DEV_KMSG, DEV_LOG};
use crate::delegate::{INSTALLING, MAX_SHELLS, PASSED_ON, VARIABLE};
use crate::host::{
    ARMED, ETC, HOOKS, KERNEL_MODPROBE, LOG_DIR, MODPROBE, POLICY_IN_FORCE, REAL, RUN, STATE_DIR, USR_LIB,
};
use crate::invocation;
use crate::judge::OFF;
use crate::shim::{CRASHES, OPTIONS, PATIENCE};

/// Each by the name that it has in the pages, as it stands there.
pub fn facts() -> Vec<(&'static str, String)> {
    let [real, real_usr] = REAL;
    let log = format!("{LOG_DIR}/{SPOOL}");
    let crashes: Vec<String> =
        CRASHES.into_iter().filter_map(|signal| Some(Signal::try_from(signal).ok()?.as_str().to_owned())).collect();
    let passed_on: Vec<String> = PASSED_ON.iter().map(|signal| signal.as_str().to_owned()).collect();
    let loads_nothing: Vec<String> = invocation::load_nothing().collect();
    let (shells, seconds) = (MAX_SHELLS.to_string(), (PATIENCE / 1_000_000).to_string());
    let facts: [(&str, &str); 22] = [
        ("etc", ETC),
        ("usr_lib", USR_LIB),
        ("policy_in_force", POLICY_IN_FORCE),
        ("hooks", HOOKS),
        ("run", RUN),
        ("state", STATE_DIR),
        ("log", &log),
        ("kernel_modprobe", KERNEL_MODPROBE),
        ("modprobe", MODPROBE),
        ("real", real),
        ("real_usr", real_usr),
        ("armed", ARMED),
        ("dev_log", DEV_LOG),
        ("dev_kmsg", DEV_KMSG),
        ("off", OFF),
        ("marker", VARIABLE),
        ("options", OPTIONS),
        ("installing", INSTALLING),
        ("shells", &shells),
        ("seconds", &seconds),
        ("crashes", &crashes.join(", ")),
        ("passed_on", &listed(&passed_on, "and")),
    ];
    // A date has a form of its own, and many options are lines of their own.
    let others =
        [("date", DATE.to_owned()), ("loads_nothing", folded(&escaped(&format!("{}.", loads_nothing.join(", ")))))];
    facts.into_iter().map(|(name, text)| (name, escaped(text))).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_told_and_every_place_is_one() {
        let facts: Vec<&str> = facts().into_iter().map(|(name, _)| name).collect();
        let pages = [super::super::guard::REST, super::super::helper::PAGE, super::super::policy::PAGE];
        let places: Vec<&str> = pages
            .iter()
            .flat_map(|page| page.split("{{").skip(1))
            .map(|rest| rest.split_once("}}").unwrap().0)
            .collect();
        for fact in &facts {
            assert!(places.contains(fact), "{fact}");
        }
        let generated = ["calls", "callers", "keys", "tests"];
        for place in places {
            assert!(facts.contains(&place) || generated.contains(&place), "{place}");
        }
    }
}

//! A table of faults by a table of verdicts: whatever breaks around the helper, the kernel gets the answer that the
//! policy's author would have expected, in time, and it is on record wherever a sink is left.
//!
//! A fault is a function that breaks a [`Stage`] and says what is expected of it then. Each meets each [`Verdict`] in a
//! root of its own, in which the real helper runs with a modprobe that only leaves a mark.

mod calls;
mod crowd;
mod delegate;
mod disk;
mod host;
mod index;
mod limits;
mod loader;
mod look;
mod memory;
mod policy;
mod stage;
mod storm;
mod syslog;
mod tracer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use stage::Stage;

/// What a whole host makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A rule blocks the name that is asked for.
    Blocked,
    /// A rule blocks what the name stands for, two steps on: that takes the index.
    Dependency,
    /// No rule is about it.
    Allowed,
    /// Connection tracking, which gets a size.
    Sized,
}

impl Verdict {
    const ALL: [Verdict; 4] = [Verdict::Blocked, Verdict::Dependency, Verdict::Allowed, Verdict::Sized];

    /// The name that is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Blocked => "b",
            Verdict::Dependency => "net-pf-9",
            Verdict::Allowed => "c",
            Verdict::Sized => "nf_conntrack",
        }
    }
}

/// One way in which something is broken.
pub struct Fault {
    /// What, for people.
    name: String,
    /// The verdicts that it meets.
    verdicts: Vec<Verdict>,
    /// Breaks it, and says what is expected.
    inflict: Box<dyn Fn(&mut Stage) + Send + Sync>,
}

impl Fault {
    pub fn new(name: impl Into<String>, inflict: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault { name: name.into(), verdicts: Verdict::ALL.to_vec(), inflict: Box::new(inflict) }
    }

    /// The same for one verdict alone.
    pub fn only(self, verdict: Verdict) -> Fault {
        Fault { verdicts: vec![verdict], ..self }
    }

    fn meets(&self, verdict: Verdict) -> Result<(), String> {
        let met = catch_unwind(AssertUnwindSafe(|| {
            let mut stage = Stage::new(verdict);
            (self.inflict)(&mut stage);
            stage.ask_and_look()
        }));
        met.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            Err(said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default())
        })
    }
}

/// Whether the long tiers run too (`tests/run --all`).
pub fn is_long() -> bool {
    std::env::var_os("MODPROBE_GUARD_TEST_ALL").is_some()
}

/// Has every fault meet its verdicts, on all processors, and says how many were survived. Of the variable
/// MODPROBE_GUARD_TEST_FAULT a part of a fault's name chooses some.
fn survived(what: &str, faults: &[Fault]) {
    let only = std::env::var("MODPROBE_GUARD_TEST_FAULT").unwrap_or_default();
    let chosen = faults.iter().filter(|fault| fault.name.contains(&only));
    let cells: Vec<(&Fault, Verdict)> =
        chosen.flat_map(|fault| fault.verdicts.iter().map(move |verdict| (fault, *verdict))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                stage::own_mounts();
                while let Some((fault, verdict)) = cells.get(next.fetch_add(1, Relaxed)) {
                    if let Err(failure) = fault.meets(*verdict) {
                        failures.lock().unwrap().push(format!("{}, {verdict:?}: {failure}", fault.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{} of {} cases survived: faults, {what}", cells.len() - failures.len(), cells.len());
    assert!(failures.is_empty() && !cells.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_broken_around_the_helper_changes_no_answer() {
    let families = [
        host::faults(),
        disk::faults(),
        syslog::faults(),
        policy::faults(),
        index::faults(),
        delegate::faults(),
        crowd::faults(),
    ];
    survived("what is around", &families.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn no_limit_changes_an_answer() {
    survived("limits", &limits::faults());
}

#[test]
fn no_system_call_that_fails_and_no_kill_changes_an_answer() {
    survived("calls", &calls::faults());
}

#[test]
fn no_allocation_that_fails_changes_an_answer() {
    survived("memory", &memory::faults());
}

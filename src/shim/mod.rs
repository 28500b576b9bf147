//! The helper: one request from argv to exit status.

mod descriptors;
mod lifeboat;

use std::ffi::{CStr, c_char, c_int};
use std::time::Instant;

use crate::audit;
use crate::conntrack;
use crate::delegate::{self, Marker, Plan};
use crate::host::Host;
use crate::invocation::{self, Invocation, Load};
use crate::judge::{Judgement, judge};
use crate::model::{Action, Caller, Change, ModuleState, Outcome, Request, Requester};
use crate::policy::Policy;
use crate::requester::{Parent, identify};
use crate::text::Text;

use lifeboat::Phase;

/// The whole life of `modprobe-guard`.
///
/// # Safety
/// `argv` is the process's own argument vector: `argc` pointers to C strings that nobody frees.
pub unsafe fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    descriptors::occupy();
    // SAFETY: as above.
    unsafe { lifeboat::launch(argc, argv) };
    let arguments: Vec<&[u8]> = (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: each of the first argc pointers leads to a C string.
        .map(|at| unsafe { CStr::from_ptr(*argv.add(at)) }.to_bytes())
        .collect();
    // SAFETY: a C string, looked up before anything could change the environment.
    let marker = unsafe {
        let value = libc::getenv(c"MODPROBE_GUARD".as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    };
    run(&arguments, marker)
}

fn run(argv: &[&[u8]], marker: Option<&[u8]>) -> i32 {
    let started = Instant::now();
    if marker == Some(lifeboat::LEFT) {
        audit::complain("modprobe-guard: failed, and was run again in modprobe's place; mend `delegate` in the policy");
        return 1;
    }
    let host = Host::this();
    let parent = Parent::of_ours(&host);
    let marker = marker.and_then(|value| Marker::believed(value, parent.ancestors));
    let in_force = host.policy_in_force();
    let policy = &in_force.policy;
    lifeboat::set_failure_allows(policy.defaults.on_failure != Action::Block);
    let load = match invocation::parse(argv, parent.kind) {
        Invocation::Load(load) if marker.is_none() => load,
        // What loads nothing needs no verdict, and what was decided once is not decided again.
        other => return pass_on(&host, policy, argv, &other, marker),
    };

    let requester = identify(&host, load.caller, parent, policy.audit.cmdline);
    let cases: Vec<Case> = load.names.iter().filter_map(|&at| Some(Case::new(&host, policy, load.caller, argv.get(at)?, &requester))).collect();
    let permitted: Vec<&Case> = cases.iter().filter(|case| case.judgement.verdict.carried_out != Action::Block).collect();

    let mut done = Done::default();
    if permitted.is_empty() {
        lifeboat::set_phase(Phase::Blocked);
        done.status = 1;
    } else {
        lifeboat::set_phase(Phase::Permitted);
        done = delegate_and_set(&host, policy, argv, &load, &permitted);
        if permitted.len() < cases.len() {
            done.status = done.status.max(1);
        }
        lifeboat::set_status(done.status);
    }
    for case in &cases {
        if case.is_blocked() && !load.quiet {
            descriptors::say(&case.refusal());
        }
        audit::write(&host, &case.record(&host, &requester, &in_force.failures, &done, started));
    }
    audit::flush_if_due(&host);
    done.status
}

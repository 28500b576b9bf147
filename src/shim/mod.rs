//! The helper: one request from argv to exit status.
#![allow(unsafe_code)]

mod call;
mod descriptors;
mod lifeboat;

use std::ffi::{CStr, c_char, c_int};
use std::time::Instant;

use crate::audit::{self, Sinks};
use crate::conntrack::{self, Wanted};
use crate::delegate::{self, Marker, Plan, Ran};
use crate::host::Host;
use crate::invocation::{self, Invocation, Load, ParentKind};
use crate::judge::{self, Judge, Judgement, Outlook, outlook};
use crate::model::{Action, Change, ModuleState, Outcome, Record, Request, Requester, Setting};
use crate::policy::Policy;
use crate::requester::{Parent, Wishes, identify};
use crate::text::Text;

use call::Call;
use lifeboat::Phase;

pub use call::OPTIONS;
pub use lifeboat::{CRASHES, PATIENCE};

/// The whole life of `modprobe-guard`.
///
/// # Safety
/// `argv` is the process's own argument vector: `argc` pointers to C strings that nobody frees.
pub unsafe fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: as above; with an argument at all the first pointer leads to a C string.
    if argc > 0 && invocation::is_modprobe(unsafe { CStr::from_ptr(*argv) }.to_bytes()) {
        // SAFETY: as above.
        return run(&unsafe { in_place(argc, argv) });
    }
    descriptors::occupy();
    // SAFETY: as above.
    unsafe { lifeboat::launch(argc, argv) };
    // SAFETY: as above.
    run(&unsafe { Call::new(argc, argv) })
}

/// How we were run in modprobe's place, unless there is nothing to decide: then we are the real one from here on.
///
/// # Safety
/// As for [`main`].
unsafe fn in_place(argc: c_int, argv: *const *const c_char) -> Call {
    // SAFETY: as above.
    let call = unsafe { Call::new(argc, argv) };
    // SAFETY: as above.
    unsafe { call.step_aside(argv) };
    descriptors::occupy();
    // SAFETY: as above.
    unsafe { lifeboat::launch(argc, argv) };
    lifeboat::take_arguments(&mut call.arguments.iter().copied());
    call
}

fn run(call: &Call) -> i32 {
    let started = Instant::now();
    let argv = &call.bytes()[..];
    let marker = call.marker;
    // An `install` line below the modprobe that a failure left to is in nobody's place: it is judged like any other, and
    // should that fail as well, leaving takes `--ignore-install` and comes back no more.
    let is_hook = invocation::is_hook(argv) || call.installing.is_some();
    if marker == Some(lifeboat::LEFT) && !is_hook {
        audit::complain("failed, and was run again in modprobe's place; set `delegate` in the policy to the real one");
        return 1;
    }
    let host = Host::of_helper();
    let parent = Parent::of_ours(&host);
    let told = marker;
    let ancestors = call.ancestors(&host, [parent.pid, parent.grandparent]);
    let mut marker = marker.and_then(|value| Marker::believed(value, &ancestors));
    let in_force = host.policy_in_force();
    let policy = &in_force.policy;
    let is_off = judge::is_off(&host);
    lifeboat::set_failure_allows(is_off || policy.defaults.on_failure != Action::Block);
    lifeboat::set_delegate(&policy.defaults.delegate);
    let invocation = invocation::parse_as_getopt(argv, parent.kind, call.order);
    // The modprobe in an `install` line may ask for anything; decided is only the module that the line stands for.
    if let (Invocation::Load(load), Some(module)) = (&invocation, call.installing)
        && !invocation::is_all_for(argv, load, module)
    {
        marker = None;
    }
    let load = match invocation {
        Invocation::Load(load) if marker.is_none() => load,
        // What loads nothing needs no verdict, and what was decided once is not decided again.
        _ => match endless(&host, parent, told) {
            None => return pass_on(&host, policy, call, marker),
            Some(failure) => {
                audit::complain(&failure);
                return 1;
            }
        },
    };

    // From here on every step that takes time is taken in the knowledge of what the answer would be without it.
    let requests = Case::requests(argv, &load);
    foresee(requests.iter().map(|(_, request)| if is_off { Outlook::Permitted } else { outlook(policy, request) }));
    lifeboat::policy_is_known();
    // The kernel asks for one name at a time; of several, who asked is the same for all.
    let first = load.names.first().and_then(|&at| argv.get(at)).copied().unwrap_or_default();
    let kernel = host.kernel().unwrap_or_default();
    let judge = Judge::new(&host, &kernel, policy);
    let mut cases = Case::all(requests, &judge);
    foresee(cases.iter().map(|case| judge.outlook(&case.judgement)));
    let rules = cases.iter().any(|case| judge.is_asked_who(&case.judgement));
    let executables = if rules { policy.executables() } else { Vec::new() };
    let wishes = Wishes { rules, command_lines: policy.audit.cmdline, executables };
    let requester = identify(&host, first, load.caller, parent, &wishes);
    cases.iter_mut().for_each(|case| judge.judge_again(&mut case.judgement, &requester));

    let done = if cases.iter().all(Case::is_blocked) {
        lifeboat::set_phase(Phase::Blocked);
        Ran { status: Some(1), failures: Vec::new() }
    } else if let Some(status) = foregone(&host, &judge, argv, &cases) {
        lifeboat::set_status(status);
        join_loads(&host, &Wanted::new(policy, judge.config()), &mut cases);
        Ran { status: Some(status), failures: Vec::new() }
    } else if let Some(failure) = endless(&host, parent, told) {
        lifeboat::set_phase(Phase::Blocked);
        Ran { status: Some(1), failures: vec![failure] }
    } else {
        let blocked: Vec<usize> = cases.iter().filter(|case| case.is_blocked()).map(|case| case.at).collect();
        lifeboat::drop_arguments(&blocked);
        lifeboat::set_phase(Phase::Permitted);
        carry_out(&host, &judge, call, &mut cases, &requester)
    };
    let refused = cases.iter().filter(|case| case.is_blocked() && !load.quiet);
    let refusals: Vec<String> = refused.map(Case::refusal).collect();
    let sinks = Sinks::open(&host);
    for case in cases {
        let failures = in_force.failures.iter().chain(&done.failures).cloned().collect();
        sinks.write(&case.into_record(&host, &kernel, &requester, failures, done.status, started));
    }
    // After the records: whoever reads our standard error may hold us up or end us.
    refusals.iter().for_each(|refusal| descriptors::say(refusal));
    sinks.flush_if_due();
    // Nothing is cleared away: the kernel does that at once, for whoever waits for our end.
    lifeboat::exit(done.status.unwrap_or_else(|| lifeboat::leave()))
}

/// Tells the lifeboat what is certain so far: it counts if nothing more comes.
fn foresee(outlooks: impl Iterator<Item = Outlook> + Clone) {
    if outlooks.clone().all(|outlook| outlook == Outlook::Blocked) {
        lifeboat::set_phase(Phase::Blocked);
    } else {
        lifeboat::set_time_allows(outlooks.clone().all(|outlook| outlook == Outlook::Permitted));
        lifeboat::set_phase(Phase::Undecided);
    }
}

/// What the delegate would answer, where that is certain and it would do nothing: to run it all the same takes twice as
/// long as all the rest. Most names that the kernel asks for stand for nothing, or for what is there already.
fn foregone(host: &Host, judge: &Judge, argv: &[&[u8]], cases: &[Case]) -> Option<i32> {
    let [case] = cases else { return None };
    let status = judge.foregone(&case.judgement).filter(|_| invocation::is_bare(argv))?;
    Plan::new(host, &judge.policy().defaults.delegate, argv, None).is_kmods(host).then_some(status)
}

/// Why no delegate may be run, if it would lead back to us without an end. Looked at only where one is to run: each
/// parent costs four system calls.
fn endless(host: &Host, parent: Parent, told: Option<&[u8]>) -> Option<String> {
    (parent.kind != ParentKind::KernelThread).then(|| delegate::loops(host, told)).flatten()
}

/// Hands the arguments on as they came, without a verdict and without a record.
fn pass_on(host: &Host, policy: &Policy, call: &Call, marker: Option<Marker>) -> i32 {
    lifeboat::set_phase(Phase::Permitted);
    lifeboat::stop_clock();
    let plan = Plan::new(host, &policy.defaults.delegate, &call.bytes(), marker).with_environment(&call.environment);
    let ran = Plan { is_installing: call.installing.is_some(), ..plan }.run(host);
    if let Some(status) = ran.status {
        lifeboat::set_status(status);
    }
    lifeboat::run_clock();
    for failure in &ran.failures {
        audit::complain(failure);
    }
    ran.status.unwrap_or_else(|| lifeboat::leave())
}

/// One name of the command line, and what becomes of it.
struct Case {
    /// Where the name stands in argv.
    at: usize,
    judgement: Judgement,
    /// What an `allow-sysctl` is to set, and what it did set.
    settings: Vec<Setting>,
    changes: Vec<Change>,
}

impl Case {
    /// What is asked for, and where in argv.
    fn requests(argv: &[&[u8]], load: &Load) -> Vec<(usize, Request)> {
        let names = load.names.iter().filter_map(|&at| Some((at, argv.get(at)?)));
        names.map(|(at, name)| (at, Request { name: Text::from(*name), caller: load.caller })).collect()
    }

    /// Judged as long as nobody knows who asked.
    fn all(requests: Vec<(usize, Request)>, judge: &Judge) -> Vec<Case> {
        let case = |(at, request)| {
            let judgement = judge.judge(request, &Requester::unknown());
            Case { at, judgement, settings: Vec::new(), changes: Vec::new() }
        };
        requests.into_iter().map(case).collect()
    }

    fn is_blocked(&self) -> bool {
        self.judgement.verdict.carried_out == Action::Block
    }

    /// For whoever ran us without `-q`: which rule, and where it stands.
    fn refusal(&self) -> String {
        let verdict = &self.judgement.verdict;
        let rule = verdict.rule.as_ref().map_or_else(String::new, |rule| format!(" by rule \"{rule}\""));
        let reason = verdict.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("modprobe-guard: {}: blocked{rule} ({}){reason}", self.judgement.request.name, verdict.source)
    }

    fn into_record(
        self,
        host: &Host,
        kernel: &str,
        requester: &Requester,
        mut failures: Vec<String>,
        status: Option<i32>,
        started: Instant,
    ) -> Record {
        let is_blocked = self.is_blocked();
        let Judgement { request, closure, verdict, failures: of_judgement } = self.judgement;
        failures.extend(of_judgement);
        let came = |name: &&Text| !is_blocked && host.is_live(name.as_bytes());
        let absent = closure.modules.iter().filter(|module| module.state == ModuleState::Absent);
        let loaded = absent.map(|module| &module.name).filter(came).cloned().collect();
        Record {
            v: 1,
            time: Some(audit::now()),
            host: host.name(),
            boot_id: host.boot_id(),
            kernel: Some(Text::from(kernel)),
            request,
            requester: requester.clone(),
            verdict,
            modules: closure.modules,
            sysctl: self.settings,
            failures,
            shortened: false,
            outcome: if is_blocked { Some(1) } else { status }.map(|status| Outcome {
                status,
                duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                loaded,
                sysctl: self.changes,
            }),
        }
    }
}

/// Runs the delegate for all that was permitted, and where a rule says so, sets what belongs to it before we exit:
/// until then the requester waits and the table is empty.
fn carry_out(host: &Host, judge: &Judge, call: &Call, cases: &mut [Case], requester: &Requester) -> Ran {
    let blocked: Vec<usize> = cases.iter().filter(|case| case.is_blocked()).map(|case| case.at).collect();
    let argv = call.bytes();
    let permitted = argv.iter().enumerate().filter(|(at, _)| !blocked.contains(at)).map(|(_, argument)| *argument);
    let permitted: Vec<&[u8]> = permitted.collect();
    let wanted = Wanted::new(judge.policy(), judge.config());
    let mut to_set = Vec::new();
    for case in cases.iter_mut().filter(|case| case.judgement.verdict.carried_out == Action::AllowSysctl) {
        case.settings = conntrack::plan(host, &wanted, &case.judgement.closure, judge.kernel());
        let before = conntrack::before(host, &wanted, &case.judgement.closure);
        case.judgement.failures.extend_from_slice(before.failures());
        to_set.push((case, before));
    }

    lifeboat::stop_clock();
    let plan = Plan::new(host, &judge.policy().defaults.delegate, &permitted, None).with_environment(&call.environment);
    let mut ran = plan.below(call.marker).run(host);
    let Some(status) = &mut ran.status else {
        lifeboat::run_clock();
        return ran;
    };
    if !blocked.is_empty() {
        *status = (*status).max(1);
    }
    // Before the clock rings again: a second run is what leaving would mean until then.
    lifeboat::set_status(*status);
    lifeboat::run_clock();

    for (case, before) in to_set {
        case.changes = conntrack::after(host, &wanted, before, requester.task.pid);
    }
    join_loads(host, &wanted, cases);
    ran
}

/// Sizes what another request is loading, if this one found it live.
fn join_loads(host: &Host, wanted: &Wanted, cases: &mut [Case]) {
    for case in cases.iter_mut().filter(|case| !case.is_blocked() && case.changes.is_empty()) {
        case.changes = conntrack::join(host, wanted, &case.judgement.closure);
    }
}

//! The policy in force as it lies on the disk: whatever is read, it is the policy that was written or it is refused.
//!
//! Input: a byte and a place at which the file is changed, then a payload.

use modprobe_guard::model::{Action, Caller, Closure, IndexHealth, Module, ModuleState, NeededAs, Request, Requester};
use modprobe_guard::policy::applied::{Applied, decode, encode, seal};
use modprobe_guard::policy::{Policy, decide};

pub fn check(mut data: &[u8]) {
    let (change, high, low) = (super::byte(&mut data), super::byte(&mut data), super::byte(&mut data));
    decoded(data, |read| assert!(read.is_err() || data.starts_with(b"mguardpl")));
    let file = seal(data).unwrap();
    decoded(&file, |read| match read {
        Ok(applied) => {
            let written = encode(applied).unwrap();
            decoded(&written, |again| assert_eq!(again.as_ref(), Ok(applied)));
            judge(&applied.policy);
            damage(&written, change, high, low);
        }
        Err(why) => assert!(why.starts_with("is damaged: ") && super::is_printable(why), "{why}"),
    });
    damage(&file, change, high, low);
}

/// Shows `look` what lies in `bytes`. In a program of ours those stay for ever; here there are millions.
pub fn decoded(bytes: &[u8], look: impl FnOnce(&Result<Applied, String>)) {
    let copy = Box::into_raw(Box::<[u8]>::from(bytes));
    // SAFETY: the memory of the box; it is given back when what refers to it is gone, and nobody's `look` keeps a copy.
    let read = decode(unsafe { &*copy });
    look(&read);
    drop(read);
    // SAFETY: as above, once.
    drop(unsafe { Box::from_raw(copy) });
}

/// One wrong byte, or an end that is missing, never goes unnoticed.
pub fn damage(file: &[u8], change: u8, high: u8, low: u8) {
    let at = usize::from(u16::from_be_bytes([high, low])) % file.len();
    let mut changed = file.to_vec();
    changed[at] ^= change.max(1);
    decoded(&changed, |read| assert!(read.is_err(), "byte {at} is another"));
    decoded(&file[..at], |read| assert!(read.is_err(), "cut at {at}"));
    decoded(&[file, &[change]].concat(), |read| assert!(read.is_err(), "{change} follows"));
}

/// A policy that was read decides, whatever it says: strictly where it blocks, and for every request the same.
pub fn judge(policy: &Policy) {
    let module = |name: &str, needed_as| Module { name: name.into(), state: ModuleState::Absent, needed_as };
    let modules = vec![module("nf_conntrack", NeededAs::Dependency), module("iptable_nat", NeededAs::Target)];
    let known = Closure { modules, ..Closure::default() };
    let missing = Closure { index: IndexHealth::Missing("no index".into()), ..Closure::default() };
    for (name, closure) in [("iptable_nat", &known), ("net-pf-38", &Closure::default()), ("nf-nat", &missing)] {
        for caller in [Caller::Kernel, Caller::Xtables, Caller::Modprobe, Caller::Hook] {
            let request = Request { name: name.into(), caller };
            let verdict = decide(policy, &request, closure, &Requester::unknown());
            assert_eq!(verdict, decide(policy, &request, closure, &Requester::unknown()));
            assert!(verdict.action == Action::Block || verdict.carried_out == verdict.action);
            assert!(!verdict.enforced || verdict.carried_out == verdict.action);
        }
    }
    let _ = (policy.executables(), policy.asks_who().count());
}

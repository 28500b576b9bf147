//! One target under libFuzzer: the one that `MODPROBE_GUARD_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

mod targets;

static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("MODPROBE_GUARD_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.into_iter().find(|(target, _)| *target == name);
    found.map(|(_, check)| check).unwrap_or_else(|| panic!("MODPROBE_GUARD_FUZZ_TARGET is `{name}`: name a target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));

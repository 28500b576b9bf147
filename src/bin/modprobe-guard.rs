//! The program that the kernel runs as `/proc/sys/kernel/modprobe`; see modprobe-guard(8).
#![allow(unsafe_code)]
#![no_main]

use std::ffi::{c_char, c_int};

/// Without std's own start: it aborts where there is no `/dev/null` yet.
///
/// # Safety
/// Called by the C library, once, with the process's argument vector.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe { modprobe_guard::shim::main(argc, argv) }
}

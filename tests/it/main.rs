//! Tests of the library and the executables as a whole, in one binary. Those that need a kernel's modules take them
//! from [`kernel::TREE`]; `tests/run` unpacks a Debian kernel package for that.
// clippy.toml allows these in test functions; here all is test.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arming;
mod cases;
mod check;
mod doctor;
mod expectations;
// Needs a program of a few instructions, and knows the registers of a system call.
#[cfg(target_arch = "x86_64")]
mod faults;
mod foregone;
mod fuzz;
mod glob;
mod helper;
mod hooks;
mod hostile_index;
mod index;
mod kernel;
mod learn;
mod log;
mod metrics;
mod mutated;
mod object;
mod parity;
mod random;
mod schema;
mod tables;
mod threats;

//! Leaves the tables for unwinding out of executables that never unwind: a tenth of the helper.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/no-unwinding.ld");
    // The profile in which a panic ends the program; it is not told by itself.
    if var("PROFILE").as_deref() == Ok("release") {
        let directory = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{directory}/.cargo/no-unwinding.ld");
    }
}

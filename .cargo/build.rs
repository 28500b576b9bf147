//! Leaves the tables for unwinding out of executables that never unwind: a tenth of the helper.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/no-unwinding.ld");
    // The profile in which a panic ends the program; it is not told by itself.
    if var("PROFILE").as_deref() == Ok("release") {
        // Cargo links in the package's directory. Its whole path would be remembered, and be wrong once that has moved.
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,.cargo/no-unwinding.ld");
    }
}

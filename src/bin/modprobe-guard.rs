//! The helper: what the kernel runs.
fn main() {}

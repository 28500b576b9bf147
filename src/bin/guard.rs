//! The tool of the administrator.
fn main() {}

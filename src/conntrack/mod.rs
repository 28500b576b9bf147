//! Connection tracking: how large its table should be, and setting it before its first use.

pub mod size;

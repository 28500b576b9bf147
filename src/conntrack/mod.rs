//! Connection tracking: how large its table should be, and setting it before its first use.

pub mod glob;
pub mod size;
pub mod sysctl_d;

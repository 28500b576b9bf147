//! Connection tracking: how large its table should be, and setting it before its first use.
//!
//! What `allow-sysctl` adds to a load: [`before`] it what is there is seen, [`after`] it the table gets its size and
//! the sysctls that came with it get theirs, while the requester still waits. [`plan`] is the same for a dry run, and
//! [`raise`] is for a table that was there first.

mod glob;
mod late;
mod namespace;
mod set;
pub mod size;
pub mod sysctl_d;
mod wanted;
mod write;

pub use set::{Before, after, before, plan, raise};
pub use wanted::{Goal, Goals, HASHSIZE_NAME, MAX_NAME, Wanted};

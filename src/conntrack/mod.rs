//! Connection tracking: how large its table should be, and setting it before its first use.
//!
//! What `allow-sysctl` adds to a load: [`before`] it what is there is seen, [`after`] it the table gets its size and
//! the sysctls that came with it get theirs, while the requester still waits; [`join`] is for a requester who comes while
//! another one's load is under way. [`plan`] is the same for a dry run, and
//! [`raise`] is for a table that was there first.

mod glob;
mod late;
mod loading;
mod namespace;
mod set;
pub mod size;
pub mod sysctl_d;
mod wanted;
mod write;

pub use set::{Before, after, before, default_max, goals, join, plan, raise};
pub use wanted::{BUCKETS, Goal, Goals, HASHSIZE_NAME, MAX_NAME, Wanted};

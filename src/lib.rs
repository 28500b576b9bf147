//! modprobe-guard decides which kernel modules get loaded on request.
//!
//! The kernel asks user space for a module by running the program named in `/proc/sys/kernel/modprobe`: this one.
//!
//! ```text
//! argv ── invocation ──► Request ─┬─ resolve ──► Closure ──┐
//!                                 └─ identify ─► Requester ┴─ decide ─► Verdict
//!                                                                         │
//!         block ◄─────────────────────────────────────────────────────────┤
//!         allow ────────► delegate ─► Outcome                             │
//!         allow-sysctl ─► delegate ─► size and set ─► Outcome ◄───────────┘
//!                                                       └──► record
//! ```
//!
//! Imports point down this list, never up: the binaries; [`cli`] and [`shim`]; [`doctor`] and [`learn`]; [`judge`]; [`requester`], [`delegate`],
//! [`conntrack`], [`audit`]; [`host`]; [`policy`], [`modules`], [`invocation`]; [`model`], [`text`] and [`checksum`].
//! `policy` and `modules` are pure: they know nothing of processes, files or clocks but what they are handed.

pub mod audit;
pub mod checksum;
pub mod cli;
pub mod conntrack;
pub mod delegate;
pub mod doctor;
pub mod host;
pub mod invocation;
pub mod judge;
pub mod learn;
pub mod model;
pub mod modules;
pub mod policy;
pub mod requester;
pub mod shim;
pub mod text;

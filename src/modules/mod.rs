//! The module index, modprobe.d and what a name stands for: pure.
#![forbid(unsafe_code)]

mod blocks;
#[cfg(test)]
mod fixture;
mod glob;
mod index;
mod names;

pub use blocks::{Damage, ReadAt};
pub use glob::glob_match;
pub use index::{Index, Value};
pub use names::{module_name, module_of_path, normalise};

//! The module index, modprobe.d and what a name stands for: pure.
//!
//! [`resolve`] answers what modprobe(8) would load. It is handed a [`Tree`], which is the index that depmod(8) wrote
//! for one kernel, and a [`Config`], which is what modprobe.d(5) says; neither is read anywhere else.
#![forbid(unsafe_code)]

mod blocks;
mod closure;
mod config;
#[cfg(test)]
mod fixture;
mod glob;
mod hook;
mod index;
mod inventory;
mod kernel_line;
mod lines;
mod lookup;
mod names;
mod object;
mod tree;

pub use blocks::{Damage, ReadAt};
pub use closure::{Flags, resolve};
pub use config::{Config, LineOn, Says};
pub use glob::glob_match;
pub use hook::{HELPER, install_line};
pub use index::{Index, Value};
pub use inventory::{aliases, builtin_aliases, builtins, has_softdeps, names};
pub use lookup::{Dependencies, Lookup};
pub use names::{is_module_file, module_of_path, normalise};
pub use object::{Compression, Flaw, Machine, Object, libraries, unpack};
pub use tree::{IndexFile, Source, Tree, Unopened};

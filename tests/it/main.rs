//! Integration tests: one binary.

mod cases;
mod helper;
mod index;

//! Integration tests: one binary.

mod cases;
mod index;

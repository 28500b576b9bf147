//! The policy: what it says and what it decides: pure.

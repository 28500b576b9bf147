//! The module index, modprobe.d and what a name stands for: pure.

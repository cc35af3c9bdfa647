//! rootfs

pub mod git;

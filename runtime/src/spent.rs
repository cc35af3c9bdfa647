//! Descriptors that have done their work in a process about to become another.

use std::os::fd::{AsRawFd, OwnedFd};

/// Lets go of a descriptor without a system call, where close_range(2) is about to close all of them
/// at once. Each mount takes five; a container has many.
///
/// High numbers are closed after all: a Spec with hundreds of mounts must not run out of descriptors.
pub(crate) fn leave(fd: OwnedFd) {
    if fd.as_raw_fd() < 512 {
        std::mem::forget(fd);
    }
}

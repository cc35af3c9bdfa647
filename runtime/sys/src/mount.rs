//! mount_setattr(2), the part of the new mount API that rustix has not.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::errno::Errno;

/// What to change on a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'fd> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// Bits to clear, before setting.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// For `MOUNT_ATTR_IDMAP`: the user namespace whose maps apply.
    pub user_namespace: Option<BorrowedFd<'fd>>,
    /// Apply to every mount below, too.
    pub recursive: bool,
}

/// Changes a mount, by descriptor and path relative to it (`c""` is the descriptor's own mount).
///
/// Linux 5.12. With `recursive` it changes all mounts or none.
pub fn mount_setattr(at: BorrowedFd<'_>, path: &CStr, attr: &MountAttr<'_>) -> io::Result<()> {
    let userns_fd = attr.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64);
    let raw: [u64; 4] = [attr.set, attr.clear, attr.propagation, userns_fd];
    let mut flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    if attr.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string; the array is struct mount_attr (four 64-bit fields, in this order),
    // outlives the call, and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            raw.as_ptr(),
            size_of_val(&raw),
        )
    };
    Errno::result(result)?;
    Ok(())
}

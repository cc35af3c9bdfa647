//! Installing a system call filter, seccomp(2).

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use nix::errno::Errno;

/// One instruction of classic BPF, as the kernel lays it out (struct sock_filter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in linux/filter.h")]
pub struct SeccompInstruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Installs a filter on the calling thread; `flags` are `SECCOMP_FILTER_FLAG_*`.
///
/// Unlike seccompiler's installer this does not set no_new_privs: without it the caller needs
/// CAP_SYS_ADMIN. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` the notification descriptor is returned.
pub fn install_seccomp_filter(
    program: &[SeccompInstruction],
    flags: u64,
) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    const NEW_LISTENER: u64 = 1 << 3;
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(Errno::E2BIG))?;
    let raw = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: SeccompInstruction has the layout of sock_filter; the program outlives the call, which reads
    // `len` instructions and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const raw) };
    let listener = Errno::result(result)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let listener = i32::try_from(listener).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: the flag was given and the call succeeded, so it returned a new descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

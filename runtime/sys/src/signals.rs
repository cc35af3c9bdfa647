//! Signals as a fresh program expects them.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
};

/// Blocks no signal.
///
/// A blocked mask survives exec: a program started without this could not be interrupted. Dispositions
/// need no such call: [`clone3`](crate::clone3) has reset them.
pub fn unblock_signals() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// pidfd_send_signal(2), for any number: nix and rustix know no real-time signals, which init systems use.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is documented to mean what kill(2) would send; nothing else is read.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0)
    };
    Errno::result(result)?;
    Ok(())
}

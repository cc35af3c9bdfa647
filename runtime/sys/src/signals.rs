//! Signals as a fresh program expects them.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
};

/// Blocks no signal, and gives the ignored ones (a mask as in `SigIgn` of proc_pid_status(5)) their
/// default disposition.
///
/// Both survive exec, and Rust starts with SIGPIPE ignored: a program started without this could not be
/// interrupted. The caller says which are ignored, since asking for each of 64 costs 64 calls.
pub fn default_signals(ignored: u64) -> io::Result<()> {
    default_dispositions(ignored);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Makes sure that children can be waited for: with SIGCHLD ignored, which a caller may have left us, the
/// kernel buries them itself, and nobody learns how they ended (waitpid(2), NOTES).
pub fn wait_for_children() {
    default_dispositions(1 << (libc::SIGCHLD - 1));
}

/// For the signals of a mask.
fn default_dispositions(mask: u64) {
    // The kernel's sigaction, not libc's: a handler (SIG_DFL is 0), flags, a restorer, a mask.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| mask & 1 << (signal - 1) != 0) {
        // Raw because glibc refuses the two real-time signals it keeps for itself, and its posix_spawn
        // leaves them ignored in what it starts.
        // SAFETY: the structure is as large as the kernel reads and outlives the call; resetting to SIG_DFL
        // removes handlers and adds none; nothing is written for a null pointer.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
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

/// A set of signals by number, real-time ones among them, which nix has no names for.
pub fn signal_set(numbers: impl Iterator<Item = i32>) -> SigSet {
    // SAFETY: sigset_t is an array of integers, and all zeroes is the empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for number in numbers {
        // Numbers glibc keeps for itself are refused, which is right.
        // SAFETY: the set is a valid one and outlives the call.
        unsafe { libc::sigaddset(&raw mut set, number) };
    }
    // SAFETY: initialised above.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

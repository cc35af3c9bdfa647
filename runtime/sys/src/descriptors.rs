//! Descriptors by number: which survive exec, and the three standard ones.

use std::{
    ffi::c_int,
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use nix::errno::Errno;
use rustix::fs::{Dir, Mode, OFlags};

/// The numbers of our descriptors, by a procfs that is one (D-25).
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&directory)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(io::Error::from(Errno::ENOSYS));
    }
    let mut found = Vec::new();
    for entry in Dir::new(directory)? {
        found.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()));
    }
    Ok(found)
}

/// Takes ownership of a descriptor that was inherited by number, such as those of `--preserve-fds`, after
/// checking that it is open.
///
/// The caller states by calling that nothing else in this process owns it; owning a descriptor twice
/// cannot break memory, but closes it under somebody's feet.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes an integer and reads no memory.
    let result = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    Errno::result(result)?;
    // SAFETY: open, as was just checked; that nobody else owns it is this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor above 2, except those listed, without anybody's leave.
///
/// For a process that was just forked and is about to become something small and long-lived: it never
/// returns to code that owns the descriptors.
pub fn disown_above(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<c_int> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first: c_int = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, c_int::MAX)
}

fn close_range(first: c_int, last: c_int) -> io::Result<()> {
    // SAFETY: takes integers only. Owners of the closed descriptors exist only in code this process
    // will not return to, as the one caller's contract says.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match Errno::result(result) {
        Err(Errno::ENOSYS) => {
            for fd in open_descriptors()?.into_iter().filter(|fd| (first..=last).contains(fd)) {
                // SAFETY: as above; a number that is closed by now is EBADF.
                unsafe { libc::close(fd) };
            }
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

/// Puts `fd` in the place of a standard descriptor (0, 1 or 2), dup2(2).
pub fn replace_standard(fd: RawFd, standard: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&standard) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: two integers. The standard descriptors have no Rust owner that would close them.
    let result = unsafe { libc::dup2(fd, standard) };
    Errno::result(result)?;
    Ok(())
}

/// Whether a descriptor of that number is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes an integer and reads no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

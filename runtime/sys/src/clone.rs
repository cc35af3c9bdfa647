//! clone3(2): a new process with its namespaces, its cgroup and its pidfd in one call.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::errno::Errno;

/// `CLONE_*` bits, as clone3(2) takes them (64 bits wide, unlike clone(2)'s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFlags(pub u64);

impl CloneFlags {
    /// A sibling of the caller instead of a child.
    pub const PARENT: Self = Self(0x8000);
    /// New mount namespace.
    pub const NEWNS: Self = Self(0x0002_0000);
    /// New cgroup namespace.
    pub const NEWCGROUP: Self = Self(0x0200_0000);
    /// New uts namespace.
    pub const NEWUTS: Self = Self(0x0400_0000);
    /// New ipc namespace.
    pub const NEWIPC: Self = Self(0x0800_0000);
    /// New user namespace.
    pub const NEWUSER: Self = Self(0x1000_0000);
    /// New pid namespace.
    pub const NEWPID: Self = Self(0x2000_0000);
    /// New network namespace.
    pub const NEWNET: Self = Self(0x4000_0000);
    /// New time namespace.
    pub const NEWTIME: Self = Self(0x80);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which side of a [`clone3`] the caller finds itself on.
#[derive(Debug)]
pub enum Cloned {
    /// The caller: the new process, by number and by descriptor.
    Parent {
        /// In the caller's pid namespace.
        pid: i32,
        /// Close-on-exec.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// Set in a process this module made: it began with one thread, and no code of ours that runs between
/// clone and exec starts another. Such a process may have no /proc to count its threads in.
static JUST_CLONED: AtomicBool = AtomicBool::new(false);

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Splits the process in two.
///
/// With `cgroup`, the child begins its life in that cgroup v2 directory (Linux 5.7), which spares the
/// grace period a later move waits for. `flags` may hold only `CLONE_NEW*` and [`CloneFlags::PARENT`].
///
/// The child has none of our signal handlers (CLONE_CLEAR_SIGHAND, Linux 5.5); what we ignore it ignores
/// too, see [`default_signals`](crate::default_signals).
///
/// A safe function because it checks what its safety rests on: the caller has a single thread.
pub fn clone3(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const ALLOWED: u64 = CloneFlags::PARENT.0
        | CloneFlags::NEWNS.0
        | CloneFlags::NEWCGROUP.0
        | CloneFlags::NEWUTS.0
        | CloneFlags::NEWIPC.0
        | CloneFlags::NEWUSER.0
        | CloneFlags::NEWPID.0
        | CloneFlags::NEWNET.0
        | CloneFlags::NEWTIME.0;
    if flags.0 & !ALLOWED != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let alone = JUST_CLONED.load(Ordering::Relaxed) || thread_count()? == 1;
    assert!(alone, "clone3 without CLONE_VM needs a single-threaded process");

    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is a value, and means "unused".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.0 | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    // With CLONE_PARENT the kernel takes the signal of the caller's own creation and insists on 0 here.
    if !flags.contains(CloneFlags::PARENT) {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the structure outlives the call and its size is passed. Without CLONE_VM the child has a
    // copy of our memory and, having one thread (asserted above), no lock in it is held by a thread
    // the child does not have; the stack pointer is zero, so it continues on its copy of this stack.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match Errno::result(result)? {
        0 => {
            JUST_CLONED.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: CLONE_PIDFD was asked for and the call succeeded, so the kernel has stored a new
            // descriptor there, which nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// How many threads this process has.
///
/// One stat instead of a directory listing: `/proc/self/task` has a link per thread besides its two.
pub fn thread_count() -> io::Result<u64> {
    let links = nix::sys::stat::stat("/proc/self/task")?.st_nlink;
    Ok(links.saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_refused_before_the_kernel_sees_them() {
        let shared_memory = CloneFlags(0x100);
        assert_eq!(clone3(shared_memory, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn threads_are_counted() {
        let (tell, wait) = std::sync::mpsc::channel::<()>();
        let before = thread_count().unwrap();
        let thread = std::thread::spawn(move || wait.recv().ok());
        assert!(thread_count().unwrap() > before || before > 1);
        drop(tell);
        thread.join().unwrap();
    }
}

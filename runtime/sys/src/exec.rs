//! Becoming another program.

use std::{
    convert::Infallible,
    ffi::{CStr, CString, c_char},
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::errno::Errno;

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// execve(2). Returns only on failure.
pub fn exec_path(program: &CStr, args: &[CString], env: &[CString]) -> Result<Infallible, Errno> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and, like the strings they point to, live until the
    // call fails or this memory is gone.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(Errno::last())
}

/// execveat(2) of an open file, AT_EMPTY_PATH. Returns only on failure.
///
/// Scripts need the descriptor to stay open across the exec, since their interpreter opens it by name.
pub fn exec_descriptor(
    program: BorrowedFd<'_>,
    args: &[CString],
    env: &[CString],
) -> Result<Infallible, Errno> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the path is a static empty string, and both arrays are as in `exec_path`.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(Errno::last())
}

/// _exit(2): ends the process without running anything of its parent's that fork has copied.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Whether the caller, as the user it is in effect, may execute an open file: faccessat2(2), Linux 5.8.
///
/// rustix' accessat refuses AT_EMPTY_PATH, and asking by name would be about another file. Where the call is
/// missing, only execve(2) itself can tell.
pub fn may_execute(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the path is a static empty string; the rest are integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS | libc::AT_EMPTY_PATH,
        )
    };
    match Errno::result(result) {
        Err(Errno::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

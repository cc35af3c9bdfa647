//! What a process carries besides its ids: keyring and execution domain.

use std::{ffi::c_int, ffi::c_ulong, io};

use nix::errno::Errno;

/// Replaces the session keyring by a new, empty one, keyctl(2) KEYCTL_JOIN_SESSION_KEYRING.
pub fn join_anonymous_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name is documented to mean "anonymous"; the call reads no other memory.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    Errno::result(result)?;
    Ok(())
}

/// Sets the execution domain, personality(2).
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes an integer and reads no memory. Its flags change how later calls behave, none of
    // which Rust's safety rests on.
    let result = unsafe { libc::personality(persona as c_ulong) };
    Errno::result(result)?;
    Ok(())
}

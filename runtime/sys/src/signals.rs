//! Signals as a fresh program expects them.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Blocks no signal.
///
/// A blocked mask survives exec: a program started without this could not be interrupted. Dispositions
/// need no such call: [`clone3`](crate::clone3) has reset them.
pub fn unblock_signals() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

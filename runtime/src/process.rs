//! A process of ours, by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::{Error, ExitStatus, Result, error::OrFail};

/// A process this one started: it can be waited for, and signalled without mistaking it (D-36).
#[derive(Debug)]
pub struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Running {
    /// Its number in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Master of its pseudo-terminal, once: see [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Waits for its end.
    pub fn wait(&self) -> Result<ExitStatus> {
        wait(self.pidfd.as_fd())
    }

    /// Sends a signal; a process that is gone is not an error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send_signal(self.pidfd.as_fd(), signal)
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// pidfd_send_signal(2); a process that is gone is not an error.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    match sys::pidfd_send_signal(pidfd, signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.or_fail(|| format!("send signal {signal}")),
    }
}

/// Waits for a child's end.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> Result<ExitStatus> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let code = status.exit_status().and_then(|code| u8::try_from(code & 0xff).ok());
                return Ok(match code {
                    Some(code) => ExitStatus::Exited(code),
                    None => ExitStatus::Signaled(status.terminating_signal().unwrap_or(9)),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(source) => return Err(Error::call("waitid", source)),
        }
    }
}

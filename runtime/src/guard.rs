//! Gives the user's terminal back even if we are killed with SIGKILL.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, getpid, pidfd_open},
    termios::{OptionalActions, Termios, tcsetattr},
};
use sys::{CloneFlags, Cloned};

use crate::{Result, error::OrFail, process};

/// A small process that does nothing until we are gone.
pub(crate) struct Guard(OwnedFd);

impl Guard {
    /// Posts one for standard input. A process with threads cannot be copied and does without: then only
    /// SIGKILL leaves the terminal raw.
    pub(crate) fn post(before: &Termios) -> Result<Option<Self>> {
        if sys::thread_count().or_fail(|| "count our threads")? > 1 {
            return Ok(None);
        }
        // Opened by us and inherited: by the time the guard looks, our number may be another's.
        let us = pidfd_open(getpid(), PidfdFlags::empty()).or_fail(|| "pidfd_open")?;
        match sys::clone3(CloneFlags::default(), None).or_fail(|| "clone3 the terminal's guard")? {
            Cloned::Parent { pidfd, .. } => Ok(Some(Self(pidfd))),
            Cloned::Child => keep_watch(&us, before),
        }
    }

    /// It is no longer needed.
    pub(crate) fn dismiss(self) {
        let ended = process::send_signal(self.0.as_fd(), libc::SIGKILL)
            .and_then(|()| process::wait(self.0.as_fd()));
        if let Err(error) = ended {
            log::debug!("cannot dismiss the terminal's guard: {error}");
        }
    }
}

/// Waits for the end of our maker, in a session of its own: there neither the terminal's signals nor the
/// rules about background jobs reach it.
fn keep_watch(maker: &OwnedFd, before: &Termios) -> ! {
    let watch = || -> std::io::Result<()> {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        rustix::process::setsid()?;
        sys::disown_above(&[maker.as_raw_fd()])?;
        let mut fds = [PollFd::new(maker, PollFlags::IN)];
        while poll(&mut fds, None).is_err() {}
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before)?)
    };
    sys::exit_now(u8::from(watch().is_err()))
}

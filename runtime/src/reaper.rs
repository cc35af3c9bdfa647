//! `--init`: a minimal first process that reaps orphans and passes signals on.
//!
//! It is our own code, seen by everything in the container, so it only runs from a read-only view of our
//! binary (`self_exe`), stays undumpable, has the program's own credentials, and holds no descriptor but
//! the standard ones.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::termios::{isatty, tcsetpgrp};
use sys::{CloneFlags, Cloned};

use crate::{Result, child::Child, error::OrFail, steps::credentials};

/// Splits the caller in two, if that is wanted: one stays behind as the first process, the other returns
/// and goes on.
pub(crate) fn stay_behind(child: &mut Child<'_>) -> Result<()> {
    if !child.prepared.reaper {
        return Ok(());
    }
    rustix::thread::set_name(c"init").or_fail(|| "set our name")?;
    // Before the split, so that nothing that ends early goes unnoticed.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).or_fail(|| "block signals")?;
    match sys::clone3(CloneFlags::default(), None).or_fail(|| "clone3 the program")? {
        Cloned::Parent { pid, pidfd: _ } => {
            // Whatever goes wrong here ends the program, too: it cannot live without its first process.
            let ready = credentials::become_user(child)
                .and_then(|()| credentials::limit_capabilities(child))
                // What stays permitted for a filter is not for us, who install none.
                .and_then(|()| credentials::lower_after_filter(child))
                .and_then(|()| sys::disown_above(&[]).or_fail(|| "close_range"));
            sys::exit_now(ready.map_or(1, |()| reap(Pid::from_raw(pid))))
        }
        Cloned::Child => lead_job(),
    }
}

/// A job of its own and the terminal's foreground: Ctrl-C reaches the program once, not us as well.
fn lead_job() -> Result<()> {
    rustix::process::setpgid(None, None).or_fail(|| "setpgid")?;
    let terminal = rustix::stdio::stdin();
    if isatty(terminal) {
        // SIGTTOU is blocked, which is what lets a background job do this. With a terminal that is not
        // ours there is nothing to do.
        if let Err(error) = tcsetpgrp(terminal, rustix::process::getpid()) {
            log::debug!("the terminal is not ours: {error}");
        }
    }
    Ok(())
}

/// Returns what to exit with, once the program has ended.
fn reap(program: Pid) -> u8 {
    let mask = SigSet::all();
    loop {
        match mask.wait() {
            Ok(nix::sys::signal::Signal::SIGCHLD) => {
                if let Some(code) = bury(program) {
                    return code;
                }
            }
            Ok(signal) => {
                // The program may have ended a moment ago, which SIGCHLD tells.
                let _ = nix::sys::signal::kill(program, signal);
            }
            // Interrupted, or a real-time signal, for which there is no name.
            Err(_) => {}
        }
    }
}

#[allow(clippy::as_conversions, reason = "nix has no other way from a signal to its number")]
fn bury(program: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                ended = u8::try_from(code & 0xff).ok();
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                #[allow(clippy::as_conversions, reason = "the enum has no other way to its number")]
                let number = signal as i32;
                ended = u8::try_from(128 + number).ok();
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(_) => {}
        }
    }
}

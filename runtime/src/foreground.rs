//! A container's whole life in front of its user: create, start, wait, forward signals, relay the
//! terminal, delete.

use std::path::PathBuf;

use configs::{Process, Spec};
use nix::sys::{
    signal::{SigSet, SigmaskHow, sigprocmask},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    CheckpointOptions, Container, ContainerId, Containers, CreateOptions, Error, ExecOptions,
    ExitStatus, Result, Running, Stdio,
    create::{self, Gate},
    error::OrFail,
    relay::Relay,
};

/// How to run in the foreground.
#[derive(Debug, Default)]
pub struct Options {
    /// See [`CreateOptions::bundle`].
    pub bundle: PathBuf,
    /// See [`CreateOptions::stdio`]; with a terminal in the Spec and `Inherit`, the terminal is relayed.
    pub stdio: Stdio,
    /// See [`CreateOptions::preserve_fds`].
    pub preserve_fds: u32,
    /// See [`CreateOptions::init`].
    pub init: bool,
    /// See [`CreateOptions::pid_file`].
    pub pid_file: Option<PathBuf>,
    /// Leave the stopped container's state for somebody else to delete.
    pub keep: bool,
    /// Who hears what is typed, when the terminal is relayed.
    pub keyboard: Keyboard,
}

/// What becomes of the user's keyboard while a container's terminal is relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keyboard {
    /// Every key goes to the container.
    #[default]
    Attached,
    /// The container hears nothing, and keys keep their meaning for us: Ctrl-C is a signal.
    Ignored,
}

/// Runs a container from its creation to its deletion.
pub fn run(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: Options,
) -> Result<ExitStatus> {
    run_telling(containers, id, spec, options, |_| ())
}

/// Runs a container as [`run`] does, and shows it to `tell` once it is there.
pub fn run_telling<T>(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: Options,
    tell: impl FnOnce(&Container) -> T,
) -> Result<ExitStatus> {
    let Options { bundle, stdio, preserve_fds, init, pid_file, keep, keyboard } = options;
    let stdio = or_terminal(stdio, spec.process.as_ref().is_some_and(|process| process.terminal));
    let creation = CreateOptions { bundle, stdio, preserve_fds, init, pid_file: None };
    // Before there is anybody to forward them to, so that none is lost.
    let signals = Signals::block()?;
    let mut container = create::create(containers, id, spec, creation, Gate::Open)?
        .tell_pid(pid_file.as_deref())?;
    container.after_start(spec)?;
    let _told = tell(&container);
    stay(&mut container, spec, keep, keyboard, &signals)
}

/// Restores a container and stays until its end, as [`run`] does.
pub fn restore(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: Options,
    checkpoint: &CheckpointOptions,
) -> Result<ExitStatus> {
    let Options { bundle, stdio, preserve_fds, init, pid_file, keep, keyboard } = options;
    let creation = CreateOptions { bundle, stdio, preserve_fds, init, pid_file };
    let signals = Signals::block()?;
    let mut container = containers.restore(id, spec, creation, checkpoint)?;
    stay(&mut container, spec, keep, keyboard, &signals)
}

fn stay(
    container: &mut Container,
    spec: &Spec,
    keep: bool,
    keyboard: Keyboard,
    signals: &Signals,
) -> Result<ExitStatus> {
    let status = match container.running() {
        Some(running) => attend(running, keyboard, signals),
        None => Err(Error::NotFound(container.id().clone())),
    };
    if keep || container.is_checkpointed() {
        return status;
    }
    // How the program ended matters more than what could not be tidied up after it.
    match (status, container.remove(spec)) {
        (Ok(status), Err(error)) => {
            log::warn!("cannot remove container {}: {error}", container.id());
            Ok(status)
        }
        (status, _) => status,
    }
}

/// Runs another process in a container and waits for its end.
pub fn exec(
    container: &Container,
    process: &Process,
    options: ExecOptions,
    keyboard: Keyboard,
) -> Result<ExitStatus> {
    let stdio = or_terminal(options.stdio, process.terminal);
    let signals = Signals::block()?;
    let mut running = container.exec(process, ExecOptions { stdio, ..options })?;
    attend(&mut running, keyboard, &signals)
}

fn or_terminal(stdio: Stdio, terminal: bool) -> Stdio {
    match stdio {
        Stdio::Inherit if terminal => Stdio::Terminal,
        other => other,
    }
}

/// Stays with a process until its end.
fn attend(running: &mut Running, keyboard: Keyboard, signals: &Signals) -> Result<ExitStatus> {
    let terminal = running.take_terminal();
    let mut relay = terminal.map(|master| Relay::begin(master, keyboard)).transpose()?;
    loop {
        let mut fds = vec![
            PollFd::new(&running.pidfd, PollFlags::IN),
            PollFd::new(&signals.descriptor, PollFlags::IN),
        ];
        if let Some(relay) = &relay {
            fds.extend(relay.interests());
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.or_fail(|| "poll")?,
        };
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let is_ready = |index: usize| ready.get(index).is_some_and(|flags| !flags.is_empty());
        if let Some(relay) = &mut relay {
            relay.pass_on()?;
        }
        if is_ready(1) {
            signals.forward(running, relay.as_mut())?;
        }
        if is_ready(0) {
            if let Some(relay) = &mut relay {
                relay.finish()?;
            }
            return running.wait();
        }
    }
}

/// The signals we pass on, kept from acting on us as long as this lives.
struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

/// Not passed on: what tells of our own faults and children, and what stops us as part of a job.
const OWN: [i32; 15] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGPIPE,
    libc::SIGCHLD,
    libc::SIGSTOP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGSYS,
    libc::SIGPROF,
];

impl Signals {
    fn block() -> Result<Self> {
        let mask = sys::signal_set((1..=64).filter(|signal| !OWN.contains(signal)));
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before))
            .or_fail(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&mask, flags).or_fail(|| "signalfd")?;
        Ok(Self { descriptor, before })
    }

    /// Passes on what came; what concerns our terminal we take care of ourselves.
    fn forward(&self, running: &Running, mut relay: Option<&mut Relay>) -> Result<()> {
        while let Some(received) = self.descriptor.read_signal().or_fail(|| "read signals")? {
            let signal = i32::try_from(received.ssi_signo).unwrap_or(libc::SIGTERM);
            match (&mut relay, signal) {
                (Some(relay), libc::SIGWINCH) => relay.resize(),
                (Some(relay), libc::SIGTSTP) => relay.stop_with_us()?,
                (Some(relay), libc::SIGCONT) => relay.take_terminal_again()?,
                (None, libc::SIGTSTP) => stop_ourselves()?,
                (None, libc::SIGCONT | libc::SIGWINCH) => {}
                (_, signal) => running.signal(signal)?,
            }
        }
        Ok(())
    }
}

/// What SIGTSTP would have done, had we not blocked it.
pub(crate) fn stop_ourselves() -> Result<()> {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).or_fail(|| "stop")
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Whatever is still pending was for a process that is gone.
        while let Ok(Some(_)) = self.descriptor.read_signal() {}
        if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None) {
            log::warn!("cannot unblock signals: {error}");
        }
    }
}

//! How a container or another process in it is wanted, besides what its Spec says.

use std::{os::fd::OwnedFd, path::PathBuf};

/// Where a process' standard descriptors come from.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own 0, 1 and 2.
    #[default]
    Inherit,
    /// These, as 0, 1 and 2.
    Fds([OwnedFd; 3]),
    /// A pseudo-terminal of the container; its master is handed to the caller. Needs
    /// `process.terminal`.
    Terminal,
    /// The same, but the master is sent to this unix socket (`--console-socket`).
    ConsoleSocket(PathBuf),
}

/// How to create a container.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Recorded in the state, and the directory hooks hear of.
    pub bundle: PathBuf,
    /// Standard descriptors of the program.
    pub stdio: Stdio,
    /// How many of the caller's descriptors, from 3 upwards, the program inherits.
    pub preserve_fds: u32,
    /// Run a minimal first process that reaps orphans and forwards signals (`--init`).
    pub init: bool,
    /// Write the first process' number here, for whoever supervises it.
    pub pid_file: Option<PathBuf>,
}

/// How to run another process in a container.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// Standard descriptors of the program.
    pub stdio: Stdio,
    /// How many of the caller's descriptors, from 3 upwards, the program inherits.
    pub preserve_fds: u32,
    /// A cgroup below the container's to put it in.
    pub cgroup: Option<PathBuf>,
    /// Do it even though the container is paused; the process waits for `resume`.
    pub ignore_paused: bool,
    /// Write the process' number here, for whoever supervises it.
    pub pid_file: Option<PathBuf>,
}

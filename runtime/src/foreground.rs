//! A container's whole life in front of its user: create, start, wait, forward signals, relay the
//! terminal, delete.

use std::path::PathBuf;

use configs::{Process, Spec};

use crate::{
    Container, ContainerId, Containers, CreateOptions, ExecOptions, ExitStatus, Result, Stdio,
    create::{self, Gate},
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
}

/// Runs a container from its creation to its deletion.
pub fn run(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: Options,
) -> Result<ExitStatus> {
    let Options { bundle, stdio, preserve_fds, init, pid_file, keep } = options;
    let creation = CreateOptions { bundle, stdio, preserve_fds, init, pid_file: None };
    let mut container = create::create(containers, id, spec, creation, Gate::Open)?
        .tell_pid(pid_file.as_deref())?;
    let status = match container.running() {
        Some(running) => running.wait(),
        None => Ok(ExitStatus::Exited(0)),
    };
    if !keep {
        container.delete(true)?;
    }
    status
}

/// Runs another process in a container and waits for its end.
pub fn exec(container: &Container, process: &Process, options: ExecOptions) -> Result<ExitStatus> {
    container.exec(process, options)?.wait()
}

//! `run`: create and start, and stay until the end unless told to detach.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use runtime::{
    ContainerId, CreateOptions, Stdio,
    foreground::{self, Keyboard},
};

use super::{bundle::Making, containers};
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    making: Making,

    /// Return once the program runs
    #[arg(long, short)]
    detach: bool,

    /// Leave the container for `delete`
    #[arg(long)]
    keep: bool,

    /// Accepted for runc's sake: only the container's first process is waited for
    #[arg(long, hide = true)]
    no_subreaper: bool,

    /// Name of the container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Run {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let bundle = self.making.read(globals, &self.id)?;
        let containers = containers(globals)?;
        if self.detach {
            let options = CreateOptions {
                stdio: self.making.detached_stdio(&bundle.spec)?,
                bundle: bundle.directory,
                preserve_fds: bundle.preserve_fds,
                init: false,
                pid_file: self.making.pid_file,
            };
            containers.create(&self.id, &bundle.spec, options)?.start()?;
            return Ok(ExitCode::SUCCESS);
        }
        let terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
        let stdio = match self.making.console_socket {
            Some(socket) if terminal => Stdio::ConsoleSocket(socket),
            Some(_) => bail!("--console-socket needs process.terminal"),
            None => Stdio::Inherit,
        };
        let options = foreground::Options {
            bundle: bundle.directory,
            stdio,
            preserve_fds: bundle.preserve_fds,
            init: false,
            pid_file: self.making.pid_file,
            keep: self.keep,
            keyboard: Keyboard::Attached,
        };
        let status = foreground::run(&containers, &self.id, &bundle.spec, options)?;
        Ok(ExitCode::from(status.code()))
    }
}

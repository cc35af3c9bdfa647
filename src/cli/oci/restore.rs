//! `restore`: make a running container of a dump.

use std::process::ExitCode;

use clap::Args;
use runtime::{
    ContainerId, CreateOptions, Stdio,
    foreground::{self, Keyboard},
};

use super::{bundle::Making, checkpoint::Files, containers};
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Restore {
    #[command(flatten)]
    making: Making,

    #[command(flatten)]
    files: Files,

    /// Return once the program runs
    #[arg(long, short)]
    detach: bool,

    /// Accepted for runc's sake: only the container's first process is waited for
    #[arg(long, hide = true)]
    no_subreaper: bool,

    /// Name of the container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Restore {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let bundle = self.making.read(globals, &self.id)?;
        let containers = containers(globals)?;
        let files = self.files.options(false)?;
        // A container with a terminal is refused by the runtime.
        let (stdio, pid_file) = (Stdio::Inherit, self.making.pid_file);
        if self.detach {
            let options = CreateOptions {
                stdio,
                bundle: bundle.directory,
                preserve_fds: 0,
                init: false,
                pid_file,
            };
            containers.restore(&self.id, &bundle.spec, options, &files)?;
            return Ok(ExitCode::SUCCESS);
        }
        let options = foreground::Options {
            bundle: bundle.directory,
            stdio,
            preserve_fds: 0,
            init: false,
            pid_file,
            keep: false,
            keyboard: Keyboard::Attached,
        };
        let status = foreground::restore(&containers, &self.id, &bundle.spec, options, &files)?;
        Ok(ExitCode::from(status.code()))
    }
}

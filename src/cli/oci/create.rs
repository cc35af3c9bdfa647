//! `create`: make a container whose program waits for `start`.

use std::process::ExitCode;

use clap::Args;
use runtime::{ContainerId, CreateOptions};

use super::{bundle::Making, containers};
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Create {
    #[command(flatten)]
    making: Making,

    /// Name of the container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Create {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let bundle = self.making.read(globals, &self.id)?;
        let options = CreateOptions {
            stdio: self.making.detached_stdio(&bundle.spec)?,
            bundle: bundle.directory,
            preserve_fds: bundle.preserve_fds,
            init: false,
            pid_file: self.making.pid_file,
        };
        containers(globals)?.create(&self.id, &bundle.spec, options)?;
        Ok(ExitCode::SUCCESS)
    }
}

//! `kill`: send a signal.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use configs::Signal;
use runtime::{ContainerId, Status};

use super::load;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Kill {
    /// To every process of the container
    #[arg(long, short)]
    all: bool,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,

    /// Name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: Signal,
}

impl Verb for Kill {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = load(globals, &self.id)?;
        match container.kill(self.signal.0, self.all) {
            // containerd tells "already gone" from other failures by these words.
            Err(runtime::Error::WrongStatus { status: Status::Stopped, .. }) => {
                bail!("container not running")
            }
            other => other?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

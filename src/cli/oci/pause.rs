//! `pause` and `resume`.

use std::process::ExitCode;

use clap::Args;
use runtime::ContainerId;

use super::load;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Pause {
    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Pause {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        load(globals, &self.id)?.pause()?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Resume {
    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Resume {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        load(globals, &self.id)?.resume()?;
        Ok(ExitCode::SUCCESS)
    }
}

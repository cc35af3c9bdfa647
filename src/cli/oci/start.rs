//! `start`: let the program of a created container run.

use std::process::ExitCode;

use clap::Args;
use runtime::ContainerId;

use super::load;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Start {
    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Start {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        load(globals, &self.id)?.start()?;
        Ok(ExitCode::SUCCESS)
    }
}

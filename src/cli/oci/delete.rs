//! `delete`: remove what is left of a container.

use std::process::ExitCode;

use clap::Args;
use runtime::{ContainerId, Error};

use super::load;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Delete {
    /// Kill what still runs; content with a container that is not there
    #[arg(long, short)]
    force: bool,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Delete {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match load(globals, &self.id) {
            Err(Error::NotFound(_)) if self.force => (),
            other => other?.delete(self.force)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

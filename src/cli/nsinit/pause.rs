//! `pause` and `unpause`.

use std::process::ExitCode;

use clap::Args;

use super::place::Id;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Pause {
    #[command(flatten)]
    id: Id,
}

impl Verb for Pause {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        self.id.load(globals)?.pause()?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Unpause {
    #[command(flatten)]
    id: Id,
}

impl Verb for Unpause {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        self.id.load(globals)?.resume()?;
        Ok(ExitCode::SUCCESS)
    }
}

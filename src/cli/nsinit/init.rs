//! `init`: what the old program called itself inside a container.

use std::process::ExitCode;

use clap::Args;

use crate::{
    cli::{Globals, Verb},
    report::advise,
};

#[derive(Args, Debug)]
pub(super) struct Init {}

impl Verb for Init {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        Err(advise(
            "init was the old program's own: nothing calls it any more",
            "`nsinit exec COMMAND` starts a container",
        ))
    }
}

//! `start`: run a container again that has ended.

use std::process::ExitCode;

use clap::Args;

use crate::{
    cli::{Globals, Verb},
    launch, ordinary, record,
    report::advise,
};

/// Run a container again that has ended, with the files it left
#[derive(Args, Debug)]
pub(super) struct Start {
    /// Stay with it: show its output and forward signals
    #[arg(short, long)]
    attach: bool,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Container, by name or id
    container: String,
}

impl Verb for Start {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if !self.attach && !self.interactive {
            return Err(advise(
                "containers in the background do not exist yet",
                format!("run it here: crun-cargo start -a {}", self.container),
            ));
        }
        ordinary::become_owner()?;
        let mut container = record::find(&globals.home, &self.container)?;
        container.lock()?;
        container.record.interactive |= self.interactive;
        // What `run -a` left out was left out that time.
        container.record.attach.clear();
        let spec = launch::saved_spec(&container)?;
        let status = launch::start(&globals.home, &mut container, &spec)?;
        Ok(ExitCode::from(status.code()))
    }
}

//! `rm`: remove containers and what they changed.

use std::process::ExitCode;

use clap::Args;
use runtime::Containers;

use crate::{
    cli::{Globals, Verb},
    condition, launch, output, record,
    report::{self, advise},
};

/// Remove containers
#[derive(Args, Debug)]
pub(super) struct Rm {
    /// Also running ones, which are killed
    #[arg(short, long)]
    force: bool,

    /// Volumes without a name go with their container in any case
    #[arg(short, long)]
    volumes: bool,

    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Rm {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if self.force {
            self.end(globals);
        }
        let store = globals.store()?;
        let containers = Containers::open(&globals.home.runroot)?;
        report::each(&self.container, globals.personality, |name| {
            let container = match record::find(&globals.home, name) {
                Ok(container) => container,
                // docker's way: what is not there is removed.
                Err(error) if self.force && record::is_missing(&error) => {
                    report::warn(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if condition::of(&containers, &container)?.is_alive() && !self.force {
                return Err(advise(
                    format!("container {} is running", container.name()),
                    format!("`crun-cargo stop {name}` first, or use --force"),
                ));
            }
            launch::remove(&globals.home, &store, container)
        })
    }
}

impl Rm {
    /// Kills what runs, while an ordinary user has the power to: with the right to a container's files that
    /// over its processes is given up. Whatever fails here does so again, and is told, when it is removed.
    fn end(&self, globals: &Globals) {
        for name in &self.container {
            let ended = record::find(&globals.home, name)
                .and_then(|container| launch::end(&globals.home, &container));
            if let Err(error) = ended {
                log::debug!("container {name}: {error:#}");
            }
        }
    }
}

/// Remove all containers that have ended
#[derive(Args, Debug)]
pub(super) struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb for Prune {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if !self.force && !report::confirm("Remove all containers that have ended?")? {
            return Ok(ExitCode::SUCCESS);
        }
        let store = globals.store()?;
        let containers = Containers::open(&globals.home.runroot)?;
        for container in record::list(&globals.home)? {
            let condition = condition::of(&containers, &container)?;
            if condition.is_alive() || container.is_attended() {
                continue;
            }
            let id = container.record.id.clone();
            launch::remove(&globals.home, &store, container)?;
            output::line(id)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

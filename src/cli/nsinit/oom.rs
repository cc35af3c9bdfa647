//! `oom`: tell of every time a container runs out of memory, until it ends.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Args;
use runtime::cgroup::OomEvent;

use super::place::Id;
use crate::{
    cli::{Globals, Verb},
    output, timestamp,
};

/// How long to wait at a time; nothing happens in between.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Args, Debug)]
pub(super) struct Oom {
    #[command(flatten)]
    id: Id,
}

impl Verb for Oom {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = self.id.load(globals)?;
        let cgroup = container.cgroup().context("the container has no cgroup of its own")?;
        let mut watch = cgroup.watch_oom()?;
        loop {
            match watch.next(PATIENCE)? {
                OomEvent::OutOfMemory => {
                    let time = timestamp::rfc3339(SystemTime::now());
                    output::note(format_args!("{time} OOM notification received"));
                }
                OomEvent::Ended => return Ok(ExitCode::SUCCESS),
                OomEvent::Nothing => (),
            }
        }
    }
}

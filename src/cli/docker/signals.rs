//! `kill`, `stop`, `wait`, `pause`, `unpause`, `rename`, `top`: a running container, from another shell.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use configs::Signal;
use runtime::{ContainerId, Containers, Status};

use crate::{
    cli::{Globals, Verb},
    output,
    record::{self, Container},
    report::{self, advise},
    table::Table,
};

/// Send a signal to a container's program
#[derive(Args, Debug)]
pub(super) struct Kill {
    /// Which signal
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,

    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Kill {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        each(globals, &self.container, |container, running| {
            require_running(container, running, "kill")?.kill(self.signal.0, false)?;
            Ok(())
        })
    }
}

/// Ask a container's program to end, and make it end when it does not
#[derive(Args, Debug)]
pub(super) struct Stop {
    /// How many seconds to wait before killing it; the container's own time, or 10, otherwise
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    time: Option<u64>,

    /// Signal to ask with, instead of the container's own
    #[arg(short, long)]
    signal: Option<Signal>,

    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Stop {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        each(globals, &self.container, |container, running| match running {
            // What has ended already is stopped.
            None => Ok(()),
            Some(running) => {
                let own = container.record.stop_signal.as_deref();
                let own = own.and_then(|name| name.parse().ok()).unwrap_or(Signal::TERM);
                let time = self.time.or(container.record.stop_timeout).unwrap_or(10);
                stop(running, self.signal.unwrap_or(own), Duration::from_secs(time))
            }
        })
    }
}

fn stop(running: &runtime::Container, signal: Signal, patience: Duration) -> anyhow::Result<()> {
    if running.status()? == Status::Paused {
        running.resume()?;
    }
    let mut deadline = Instant::now() + patience;
    running.kill(signal.0, false)?;
    let mut was_killed = false;
    while is_alive(running)? {
        if Instant::now() >= deadline && !was_killed {
            running.kill(Signal::KILL.0, false)?;
            was_killed = true;
            deadline = Instant::now() + Duration::from_secs(10);
        } else if Instant::now() >= deadline {
            anyhow::bail!("its program does not end, even when killed");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn is_alive(running: &runtime::Container) -> anyhow::Result<bool> {
    match running.status() {
        Ok(status) => Ok(status != Status::Stopped),
        Err(runtime::Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Wait until containers end, and print their exit codes
#[derive(Args, Debug)]
pub(super) struct Wait {
    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Wait {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        for name in &self.container {
            let code = record::find(&globals.home, name)?.wait()?;
            output::line(code.with_context(|| {
                format!("nobody saw container {name} end: whoever ran it was killed")
            })?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Freeze all processes of containers
#[derive(Args, Debug)]
pub(super) struct Pause {
    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Pause {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        each(globals, &self.container, |container, running| {
            Ok(require_running(container, running, "pause")?.pause()?)
        })
    }
}

/// Let the processes of frozen containers go on
#[derive(Args, Debug)]
pub(super) struct Unpause {
    /// Containers, by name or id
    #[arg(required = true)]
    container: Vec<String>,
}

impl Verb for Unpause {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        each(globals, &self.container, |container, running| {
            Ok(require_running(container, running, "unpause")?.resume()?)
        })
    }
}

/// Give a container another name
#[derive(Args, Debug)]
pub(super) struct Rename {
    /// Container, by name or id
    container: String,

    /// What it shall be called
    name: ContainerId,
}

impl Verb for Rename {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        record::find(&globals.home, &self.container)?
            .rename(&globals.home, &self.name.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List the processes of a container
#[derive(Args, Debug)]
pub(super) struct Top {
    /// Container, by name or id
    container: String,
}

impl Verb for Top {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = record::find(&globals.home, &self.container)?;
        let running = load(&Containers::open(&globals.home.runroot)?, &container)?;
        let pids =
            require_running(&container, running.as_ref(), "list the processes of")?.processes()?;
        let mut table = Table::default();
        table.row(["PID", "UID", "COMMAND"]);
        for pid in pids {
            // A process that has ended meanwhile is not listed.
            if let Some((uid, command)) = crate::processes::describe(pid) {
                table.row([pid.to_string(), uid.to_string(), command]);
            }
        }
        output::text(table)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The runtime's side of a container, while there is one.
pub(super) fn load(
    containers: &Containers,
    container: &Container,
) -> anyhow::Result<Option<runtime::Container>> {
    match containers.load(&container.id()?) {
        Ok(running) if running.status()? == Status::Stopped => Ok(None),
        Ok(running) => Ok(Some(running)),
        Err(runtime::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The running container, or why there is none.
pub(super) fn require_running<'r>(
    container: &Container,
    running: Option<&'r runtime::Container>,
    verb: &str,
) -> anyhow::Result<&'r runtime::Container> {
    running.ok_or_else(|| {
        advise(
            format!("cannot {verb} container {}: it is not running", container.name()),
            "`crun-cargo ps` lists running containers",
        )
    })
}

/// Does something to each container, goes on past failures, and prints the names of those that went well.
fn each(
    globals: &Globals,
    names: &[String],
    verb: impl Fn(&Container, Option<&runtime::Container>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let containers = Containers::open(&globals.home.runroot)?;
    let one = |name: &String| {
        let container = record::find(&globals.home, name)?;
        verb(&container, load(&containers, &container)?.as_ref())
    };
    report::each(names, globals.personality, one)
}

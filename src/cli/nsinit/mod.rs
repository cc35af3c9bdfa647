//! nsinit's command line, both versions of it: the older one kept its container beside container.json,
//! the later one by an id.

mod checkpoint;
mod config;
mod create_flags;
mod exec;
mod function;
mod init;
mod oom;
mod pause;
mod place;
mod state;
mod state_file;
mod stats;

use std::{fs::OpenOptions, path::PathBuf};

use anyhow::Context;
use clap::{ArgMatches, Args, FromArgMatches};

use super::{Command, Globals, Personality};
use crate::{
    home::{self, Home},
    logger,
};

pub(crate) use exec::is_meant;

/// nsinit's command line.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "crun-cargo nsinit",
    about: "Run containers from container.json",
    failure: 1,
    version_note: Some("nsinit version 2"),
    augment: GlobalArgs::augment_args,
    globals_anywhere: false,
    globals,
    hand_over: |_, _| None,
    headings: &[],
    refused: &[],
    commands: &[
        Command::new::<config::Config>("config", "Print a container's configuration"),
        EXEC,
        Command::new::<state::State>("state", "Print what a running container consists of"),
        Command::new::<stats::Stats>("stats", "Print what a running container uses"),
        Command::new::<oom::Oom>("oom", "Tell when a container runs out of memory"),
        Command::new::<pause::Pause>("pause", "Freeze a container"),
        Command::new::<pause::Unpause>("unpause", "Let a frozen container go on"),
        Command::new::<checkpoint::Checkpoint>("checkpoint", "Dump a container into files"),
        Command::new::<checkpoint::Restore>("restore", "Make a container of a dump"),
        Command::new::<function::NsenterExec>("nsenter-exec", "Run a command, given a process"),
        Command::new::<function::NsenterMknod>(
            "nsenter-mknod",
            "Make a device node, given a process",
        ),
        Command::new::<function::NsenterIp>(
            "nsenter-ip",
            "Show network interfaces, given a process",
        ),
        Command::new::<init::Init>("init", "Internal to the old program"),
    ],
};

/// The one command that the main command line has too.
pub(crate) const EXEC: Command =
    Command::new::<exec::Exec>("exec", "Start a container, or run a command in the running one");

#[derive(Args, Debug)]
struct GlobalArgs {
    /// Tell what is being done
    #[arg(long)]
    debug: bool,

    /// Keep the state of containers here
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Write the log to this file; the variable `log` names one to append to
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// The program for checkpoint and restore
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
}

fn globals(
    personality: &'static Personality,
    mut typed: Vec<ArgMatches>,
) -> anyhow::Result<Globals> {
    let typed = typed.swap_remove(0);
    let arguments = GlobalArgs::from_arg_matches(&typed)?;
    if let Some(file) = &arguments.log_file {
        // The later version began it anew each time.
        let mut options = OpenOptions::new();
        let begun = options.write(true).create(true).truncate(true).open(file);
        begun.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Globals {
        // The same place as the main command's, so that both find one another's containers.
        home: Home::choose(None, arguments.root)?,
        cgroup_manager: super::CgroupManager::default(),
        log: logger::Settings {
            debug: arguments.debug,
            file: arguments.log_file.or_else(|| home::variable("log")),
            format: logger::Format::Text,
        },
        personality,
        criu: arguments.criu,
    })
}

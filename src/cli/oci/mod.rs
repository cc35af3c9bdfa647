//! The OCI runtime command line: runc's verbs, flags and formats, a file each.

mod bundle;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};
use runtime::{Container, ContainerId, Containers};

use super::{CgroupManager, Command, Globals, Personality};
use crate::{
    home::{self, Home},
    logger,
};

/// The OCI runtime command line.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "crun-cargo oci",
    about: "Create and run containers from OCI bundles",
    failure: 1,
    // dockerd reads it.
    version_note: Some("spec: 1.3.0"),
    hand_over: |_, _| None,
    augment: GlobalArgs::augment_args,
    globals_anywhere: false,
    globals,
    headings: &[],
    refused: &[],
    commands: &[
        CREATE,
        START,
        STATE,
        Command::new::<kill::Kill>("kill", "Send a signal to a container's first process"),
        DELETE,
        Command::new::<run::Run>("run", "Create and start a container"),
        Command::new::<exec::Exec>("exec", "Run another process in a container"),
        Command::new::<list::List>("list", "List containers"),
        Command::new::<ps::Ps>("ps", "List the processes of a container"),
        Command::new::<events::Events>("events", "Print what a container uses, again and again"),
        Command::new::<pause::Pause>("pause", "Freeze a container"),
        RESUME,
        UPDATE,
        Command::new::<checkpoint::Checkpoint>("checkpoint", "Dump a running container to files"),
        Command::new::<restore::Restore>("restore", "Make a running container of a dump"),
        FEATURES,
        SPEC,
    ],
};

/// Verbs that mean nothing else, so that the main command has them too.
pub(crate) const CREATE: Command =
    Command::new::<create::Create>("create", "Create a container from a bundle");
pub(crate) const START: Command =
    Command::new::<start::Start>("start", "Run the program of a created container");
pub(crate) const STATE: Command =
    Command::new::<state::State>("state", "Print the state of a container");
pub(crate) const DELETE: Command =
    Command::new::<delete::Delete>("delete", "Remove a stopped container");
pub(crate) const RESUME: Command =
    Command::new::<pause::Resume>("resume", "Let a frozen container go on");
pub(crate) const UPDATE: Command =
    Command::new::<update::Update>("update", "Change a container's resource limits");
pub(crate) const FEATURES: Command =
    Command::new::<features::Features>("features", "Print what this runtime can do");
pub(crate) const SPEC: Command =
    Command::new::<spec::Spec>("spec", "Write a config.json to start from");

/// runc's global flags, which come before the verb.
#[derive(Args, Debug)]
struct GlobalArgs {
    /// Keep the state of containers here
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Append the log to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// How that file is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: logger::Format,

    /// Tell what is being done
    #[arg(long)]
    debug: bool,

    /// Have systemd make cgroups: cgroupsPath is slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,

    /// Who makes cgroups (crun's spelling)
    #[arg(long, value_name = "MANAGER", conflicts_with = "systemd_cgroup")]
    cgroup_manager: Option<CgroupManager>,

    /// Go on without a cgroup that may not be made: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["true", "false", "auto"])]
    rootless: String,
}

fn globals(
    personality: &'static Personality,
    mut typed: Vec<ArgMatches>,
) -> anyhow::Result<Globals> {
    let typed = typed.swap_remove(0);
    let arguments = GlobalArgs::from_arg_matches(&typed)?;
    let systemd = arguments.systemd_cgroup.then_some(CgroupManager::Systemd);
    let is_rootless = arguments.rootless != "false" && home::is_users();
    let default = if is_rootless { CgroupManager::IfAllowed } else { CgroupManager::Cgroupfs };
    Ok(Globals {
        home: Home::of_states(arguments.root)?,
        cgroup_manager: systemd.or(arguments.cgroup_manager).unwrap_or(default),
        log: logger::Settings {
            debug: arguments.debug,
            file: arguments.log,
            format: arguments.log_format,
        },
        personality,
        criu: None,
    })
}

fn containers(globals: &Globals) -> runtime::Result<Containers> {
    Containers::open(&globals.home.runroot)
}

fn load(globals: &Globals, id: &ContainerId) -> runtime::Result<Container> {
    containers(globals)?.load(id)
}

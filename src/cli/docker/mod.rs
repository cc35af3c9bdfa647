//! Image-first commands: docker's words, one file each.

mod completion;
mod exec;
mod man;
mod ps;
mod signals;
mod version;

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use std::path::PathBuf;

use super::{CgroupManager, Command, Globals, Personality};
use crate::{
    home::{self, Home},
    logger,
};

/// The command line people meet first.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "crun-cargo",
    about: "Run containers, with the hub built in",
    failure: 125,
    augment: GlobalArgs::augment_args,
    globals_anywhere: true,
    globals,
    commands: &[
        Command::new::<exec::Exec>("exec", "Run a command in a running container")
            .or(&["container exec"]),
        Command::new::<ps::Ps>("ps", "List containers").or(&[
            "container ls",
            "container list",
            "container ps",
        ]),
        Command::new::<signals::Stop>("stop", "Ask containers to end, and kill those that do not")
            .or(&["container stop"]),
        Command::new::<signals::Kill>("kill", "Send a signal to containers")
            .or(&["container kill"]),
        Command::new::<signals::Wait>(
            "wait",
            "Wait until containers end, and print their exit codes",
        )
        .or(&["container wait"]),
        Command::new::<signals::Pause>("pause", "Freeze containers").or(&["container pause"]),
        Command::new::<signals::Unpause>("unpause", "Let frozen containers go on")
            .or(&["container unpause"]),
        Command::new::<signals::Rename>("rename", "Give a container another name")
            .or(&["container rename"]),
        Command::new::<signals::Top>("top", "List the processes of a container")
            .or(&["container top"]),
        Command::new::<version::Version>("version", "Show the version"),
        Command::new::<completion::Completion>(
            "completion",
            "Print a completion script for a shell",
        ),
        Command::new::<man::Man>("man", "Print the manual page"),
    ],
};

/// What may be said before any command, or after it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Keep images and containers here [env: CRUN_CARGO_ROOT]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Keep the state of running containers here [env: CRUN_CARGO_RUNROOT]
    #[arg(long, value_name = "DIR")]
    runroot: Option<PathBuf>,

    /// Tell what is being done [env: CRUN_CARGO_DEBUG]
    #[arg(long)]
    debug: bool,

    /// Append the log to this file [env: CRUN_CARGO_LOG]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// How that file is written [env: CRUN_CARGO_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<logger::Format>,

    /// Who makes cgroups [env: CRUN_CARGO_CGROUP_MANAGER]
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<CgroupManager>,
}

impl GlobalArgs {
    fn or(self, earlier: Self) -> Self {
        Self {
            root: self.root.or(earlier.root),
            runroot: self.runroot.or(earlier.runroot),
            debug: self.debug || earlier.debug,
            log: self.log.or(earlier.log),
            log_format: self.log_format.or(earlier.log_format),
            cgroup_manager: self.cgroup_manager.or(earlier.cgroup_manager),
        }
    }
}

fn globals(
    personality: &'static Personality,
    mut typed: Vec<ArgMatches>,
) -> anyhow::Result<Globals> {
    let mut arguments = GlobalArgs::default();
    for matches in &typed {
        arguments = GlobalArgs::from_arg_matches(matches)?.or(arguments);
    }
    Ok(Globals {
        home: Home::choose(arguments.root, arguments.runroot)?,
        cgroup_manager: arguments
            .cgroup_manager
            .map_or_else(|| variable("CRUN_CARGO_CGROUP_MANAGER"), |manager| Ok(Some(manager)))?
            .unwrap_or_default(),
        log: logger::Settings {
            debug: arguments.debug || home::variable("CRUN_CARGO_DEBUG").is_some(),
            file: arguments.log.or_else(|| home::variable("CRUN_CARGO_LOG")),
            format: arguments
                .log_format
                .map_or_else(|| variable("CRUN_CARGO_LOG_FORMAT"), |format| Ok(Some(format)))?
                .unwrap_or_default(),
        },
        personality,
        typed: typed.swap_remove(0),
    })
}

/// A choice made by the environment.
fn variable<T: ValueEnum>(name: &str) -> anyhow::Result<Option<T>> {
    let Some(value) = home::variable(name) else { return Ok(None) };
    let word = value.to_string_lossy();
    match T::from_str(&word, true) {
        Ok(choice) => Ok(Some(choice)),
        Err(_) => {
            let words = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
            anyhow::bail!("{name}={word} in the environment is none of {}", words.join(", "))
        }
    }
}

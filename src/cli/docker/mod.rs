//! Image-first commands: docker's words, one file each.

mod access;
mod check;
mod commit;
mod completion;
mod configured;
mod container;
mod cp;
mod diff;
mod exec;
mod images;
mod info;
mod insert;
mod inspect;
mod layers;
mod login;
mod man;
mod ps;
mod pull;
mod push;
mod refused;
mod rm;
mod run;
mod serve;
mod signals;
mod start;
mod tag;
mod tags;
mod version;

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    CgroupManager, Command, Globals, Personality,
    krgo::{Adopt, Checkout, Commit},
    oci,
};
use crate::{
    home::{self, Home},
    logger, ordinary,
};

/// The command line people meet first.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "crun-cargo",
    about: "Run containers, with the hub built in",
    failure: 125,
    version_note: None,
    augment: GlobalArgs::augment_args,
    globals_anywhere: true,
    globals,
    hand_over,
    commands: &[
        Command::new::<run::Run>("run", "Run a command in a new container")
            .or(&["container run"])
            .refusing(refused::RUN_FLAGS),
        Command::new::<exec::Exec>("exec", "Run a command in a running container")
            .or(&["container exec"])
            .refusing(refused::EXEC_FLAGS),
        Command::new::<ps::Ps>("ps", "List containers").or(&[
            "container ls",
            "container list",
            "container ps",
        ]),
        Command::new::<cp::Cp>("cp", "Copy files between a container and the host")
            .or(&["container cp"]),
        Command::new::<diff::Diff>("diff", "Show what a container changed").or(&["container diff"]),
        Command::new::<start::Start>("start", "Run a container again that has ended")
            .or(&["container start"])
            .refusing(refused::START_FLAGS),
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
        Command::new::<signals::Top>("top", "List the processes of a container")
            .or(&["container top"]),
        Command::new::<signals::Rename>("rename", "Give a container another name")
            .or(&["container rename"]),
        Command::new::<rm::Rm>("rm", "Remove containers and what they changed")
            .or(&["container rm", "container remove"]),
        Command::new::<rm::Prune>("container prune", "Remove all containers that have ended"),
        Command::new::<pull::Pull>("pull", "Pull an image").or(&["image pull"]),
        Command::new::<Adopt>("adopt", "Make an image of a root filesystem that krgo pulled"),
        Command::new::<Checkout>("checkout", "Show another layer's branch in a root filesystem"),
        Command::new::<images::Images>("images", "List images").or(&["image ls", "image list"]),
        Command::new::<tag::Rmi>("rmi", "Remove images").or(&["image rm", "image remove"]),
        Command::new::<tag::Tag>("tag", "Give an image another name").or(&["image tag"]),
        Command::new::<tag::Untag>("untag", "Take names of images away").or(&["image untag"]),
        Command::new::<layers::Layers>("layers", "Show where an image's bytes are"),
        Command::new::<tag::History>("history", "Show how an image was made")
            .or(&["image history"]),
        Command::new::<tag::Prune>(
            "image prune",
            "Remove images without a name, and what interrupted pulls left",
        ),
        Command::new::<push::Push>("push", "Push an image").or(&["image push"]),
        Command::new::<push::Save>("save", "Write images into an archive").or(&["image save"]),
        Command::new::<push::Load>("load", "Load images from an archive").or(&["image load"]),
        Command::new::<push::Copy>("copy", "Copy an image without unpacking it"),
        Command::new::<commit::Commit>("commit", "Make an image of what a container changed")
            .or(&["container commit"]),
        Command::new::<commit::Export>(
            "export",
            "Write all files of a container or image as a tar",
        )
        .or(&["container export"]),
        Command::new::<commit::Import>("import", "Make an image of a tar archive")
            .or(&["image import"]),
        Command::new::<insert::Insert>(
            "insert",
            "Make an image of another with a file from a URL in it",
        ),
        Command::new::<commit::Unpack>("unpack", "Copy all files of an image into a directory"),
        Command::new::<commit::Repack>(
            "repack",
            "Make an image of what was changed in a directory",
        ),
        Command::new::<serve::Serve>("serve", "Serve the images of this store as a registry"),
        Command::new::<check::Check>("check", "Verify everything in the store against its digests"),
        Command::new::<check::DiskUsage>("system df", "Show how much room the store takes"),
        Command::new::<login::Login>("login", "Log in to a registry"),
        Command::new::<login::Logout>("logout", "Forget a login"),
        Command::new::<login::Search>("search", "Search a registry for images"),
        Command::new::<tags::Tags>("tags", "List the tags of a repository"),
        Command::new::<tags::ManifestInspect>(
            "manifest inspect",
            "Show an image's manifest without pulling it",
        ),
        Command::new::<inspect::Inspect>(
            "inspect",
            "Show everything known about containers or images",
        )
        .or(&["container inspect", "image inspect"]),
        Command::new::<info::Info>("info", "Show where things are and what this machine can do")
            .or(&["system info"]),
        Command::new::<version::Version>("version", "Show the version"),
        Command::new::<completion::Completion>(
            "completion",
            "Print a completion script for a shell",
        ),
        Command::new::<man::Man>("man", "Print the manual page"),
    ],
    headings: &[
        ("Containers", "run"),
        ("Images", "pull"),
        ("The store", "serve"),
        ("Registries", "login"),
        ("Everything else", "inspect"),
    ],
    refused: refused::COMMANDS,
};

/// `exec` where it makes the container as well, which is nsinit's with our exit codes.
pub(super) static MAKING_EXEC: Personality = Personality {
    name: "crun-cargo",
    about: "Run containers from container.json",
    failure: 125,
    version_note: None,
    augment: GlobalArgs::augment_args,
    globals_anywhere: true,
    globals,
    hand_over: |_, _| None,
    commands: &[super::nsinit::EXEC],
    headings: &[],
    refused: &[],
};

/// `commit -r DIR`, which is krgo's with our exit codes.
static COMMIT_OF_DIRECTORY: Personality = Personality {
    about: "Make an image of what changed in a root filesystem",
    commands: &[Command::new::<Commit>(
        "commit",
        "Make an image of what changed in a root filesystem",
    )],
    ..MAKING_EXEC
};

// What may be said before any command, or after it. No doc comment: the parser would take it for the
// command's description.
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

fn names_a_rootfs(word: &OsString) -> bool {
    let word = word.to_string_lossy();
    word.starts_with("-r") || word == "--rootfs" || word.starts_with("--rootfs=")
}

/// The OCI runtimes' verbs that mean nothing else can be said directly, as engines do; `exec` has doors
/// of its own.
fn hand_over(first: &str, rest: &[OsString]) -> Option<&'static Personality> {
    let is_ours = PERSONALITY.commands.iter().any(|row| {
        row.answers_to(first) || row.name.split_once(' ').is_some_and(|(group, _)| group == first)
    });
    let is_oci = || oci::PERSONALITY.commands.iter().any(|row| row.answers_to(first));
    if first == "exec" {
        return exec::door(rest);
    }
    if first == "commit" && (rest.iter().any(names_a_rootfs) || means_this_directory(rest)) {
        return Some(&COMMIT_OF_DIRECTORY);
    }
    (!is_ours && is_oci()).then_some(&oci::PERSONALITY)
}

/// Whether `commit` names no container and is typed inside a root filesystem with branches.
fn means_this_directory(rest: &[OsString]) -> bool {
    let parser = || GlobalArgs::augment_args(Commit::augment_args(clap::Command::new("commit")));
    !rootfs::git::ours_in(Path::new(".")).is_empty()
        && parser().no_binary_name(true).try_get_matches_from(rest).is_ok()
}

fn globals(personality: &'static Personality, typed: Vec<ArgMatches>) -> anyhow::Result<Globals> {
    let mut arguments = GlobalArgs::default();
    for matches in &typed {
        arguments = GlobalArgs::from_arg_matches(matches)?.or(arguments);
    }
    Ok(Globals {
        home: Home::choose(arguments.root, arguments.runroot)?,
        cgroup_manager: arguments
            .cgroup_manager
            .map_or_else(|| variable("CRUN_CARGO_CGROUP_MANAGER"), |manager| Ok(Some(manager)))?
            .unwrap_or_else(ordinary::cgroup_manager),
        log: logger::Settings {
            debug: arguments.debug || home::variable("CRUN_CARGO_DEBUG").is_some(),
            file: arguments.log.or_else(|| home::variable("CRUN_CARGO_LOG")),
            format: arguments
                .log_format
                .map_or_else(|| variable("CRUN_CARGO_LOG_FORMAT"), |format| Ok(Some(format)))?
                .unwrap_or_default(),
        },
        personality,
        criu: None,
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

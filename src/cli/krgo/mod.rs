//! Image layers as branches of a git repository: krgo's command line, and what it shares with ours.

mod adopt;
mod checkout;
mod commit;
mod directory;
mod login;
mod pull;
mod push;

pub(crate) use adopt::Adopt;
pub(crate) use checkout::Checkout;
pub(crate) use commit::Commit;
pub(crate) use pull::{RootfsArgs, tell as tell_pull};
pub(crate) use push::{PushArgs, tell as tell_push};

use clap::ArgMatches;

use super::{Command, Globals, Personality};
use crate::{home::Home, logger};

/// Image layers as branches of a git repository.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "krgo",
    about: "Image layers as branches of a git repository",
    failure: 1,
    version_note: Some("krgo version krgo 1.5.0 (docker 1.5.0)"),
    augment: |command| command,
    globals_anywhere: false,
    globals,
    hand_over: |_, _| None,
    headings: &[],
    refused: &[],
    commands: &[
        Command::new::<pull::Pull>("pull", "Pull an image into a directory"),
        Command::new::<Commit>("commit", "Make a layer of what changed"),
        Command::new::<push::Push>("push", "Push the image a directory shows"),
        Command::new::<Adopt>("adopt", "Make an image of what an older krgo pulled"),
        Command::new::<Checkout>("checkout", "Show another branch of a root filesystem"),
    ],
};

fn globals(personality: &'static Personality, _: Vec<ArgMatches>) -> anyhow::Result<Globals> {
    Ok(Globals {
        home: Home::choose(None, None)?,
        cgroup_manager: super::CgroupManager::default(),
        log: logger::Settings::default(),
        personality,
        criu: None,
    })
}

//! nsinit's command line.

use clap::ArgMatches;

use super::{Globals, Personality};
use crate::{home::Home, logger};

/// nsinit's command line.
pub(crate) static PERSONALITY: Personality = Personality {
    name: "crun-cargo nsinit",
    about: "nsinit's command line",
    failure: 1,
    version_note: None,
    augment: |command| command,
    globals_anywhere: false,
    globals,
    hand_over: |_, _| None,
    commands: &[],
};

fn globals(
    personality: &'static Personality,
    mut typed: Vec<ArgMatches>,
) -> anyhow::Result<Globals> {
    Ok(Globals {
        home: Home::choose(None, None)?,
        cgroup_manager: super::CgroupManager::default(),
        log: logger::Settings::default(),
        personality,
        typed: typed.swap_remove(0),
    })
}

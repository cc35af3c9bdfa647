//! `checkout -r DIR BRANCH`: show another layer, and restore what git cannot store.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use rootfs::git::{ObjectId, Rootfs};

use super::directory;
use crate::{
    cli::{Globals, Verb},
    output,
};

/// Show another branch of a root filesystem
///
/// Owners, modes, attributes, devices and empty directories come with it. Stock `git checkout` does the
/// same in a root filesystem pulled with -g, since its hook calls this command.
#[derive(Args, Debug)]
pub(crate) struct Checkout {
    /// Branch to show; without one, what git cannot store is restored for the branch that is shown
    branch: Option<String>,

    /// The root filesystem
    #[arg(short, long, value_name = "DIR")]
    rootfs: Option<PathBuf>,

    /// Drop changes that were not committed
    #[arg(short, long)]
    force: bool,

    /// Complete git's own checkout from this commit: what the hook asks for
    #[arg(long, value_name = "COMMIT", hide = true, conflicts_with = "branch")]
    restore: Option<String>,
}

impl Verb for Checkout {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let directory = directory::existing(&store, self.rootfs.as_deref())?;
        let rootfs = Rootfs::new(&store, &directory);
        match &self.branch {
            Some(branch) => {
                rootfs.checkout(branch, self.force)?;
                output::note(format_args!("{} shows {branch}", directory.display()));
            }
            None => {
                // Git names no commit when there was none before.
                let previous = self.restore.as_deref().and_then(|id| id.parse::<ObjectId>().ok());
                rootfs.restore(previous)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

//! `commit -r DIR -m TEXT`: what changed in a root filesystem becomes a layer, an image and a branch.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use clap::Args;
use rootfs::git::{Committed, Error, Message, Rootfs};

use super::directory;
use crate::{
    cli::{Globals, Verb},
    output,
};

/// Make a layer of what changed in a root filesystem
///
/// The layer becomes the uppermost of a new image, and a branch of the root filesystem's repository.
#[derive(Args, Debug)]
pub(crate) struct Commit {
    /// The root filesystem
    #[arg(short, long, value_name = "DIR")]
    rootfs: Option<PathBuf>,

    /// What was done
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,

    /// Who did it
    #[arg(short, long)]
    author: Option<String>,

    /// Leave this path inside out of the layer (may be repeated)
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,

    /// When: seconds since 1970, and nothing in the layer is newer [env: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,

    /// Tell what is done in the lines of: krgo
    #[arg(long, value_name = "PROGRAM", value_parser = ["krgo"])]
    output: Option<String>,

    /// Give the new image this name
    #[arg(short, long, value_name = "IMAGE")]
    tag: Option<registry::Reference>,
}

impl Verb for Commit {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let directory = directory::existing(&store, self.rootfs.as_deref())?;
        let rootfs = Rootfs::new(&store, &directory);
        let latest = self.timestamp.map_or_else(epoch, |seconds| Ok(Some(seconds)))?;
        let message = Message {
            text: &self.message,
            author: self.author.as_deref(),
            seconds: latest.unwrap_or_else(now),
            latest,
            exclude: &self.exclude,
            large: None,
        };
        let is_krgo = self.output.is_some() || globals.personality.name == super::PERSONALITY.name;
        let committed = match rootfs.commit(&message) {
            Err(error) if is_krgo && !is_harmless(&error) => {
                output::note(format_args!("Something went wrong: {error}"));
                output::note(
                    "Git repo may have been altered. Please make sure it's fine before commiting again",
                );
                return Ok(ExitCode::FAILURE);
            }
            other => other?,
        };
        if let Some(name) = &self.tag {
            store.tag(&committed.image, &name.to_string())?;
        }
        if is_krgo {
            tell(&rootfs, &committed)?;
        } else {
            output::line(&committed.image.id)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether nothing was begun.
fn is_harmless(error: &Error) -> bool {
    matches!(error, Error::NoChanges | Error::NotARepository(_))
}

/// krgo's lines.
fn tell(rootfs: &Rootfs<'_>, committed: &Committed) -> anyhow::Result<()> {
    output::line(format_args!("Changes commited in {}", committed.branch))?;
    output::line(format_args!("Image ID: {}", committed.id))?;
    output::line(format_args!("Parent: {}", committed.parent.as_deref().unwrap_or_default()))?;
    output::line(format_args!("Checksum: {}", rootfs.tarsum(committed)?))?;
    output::line(format_args!("Layer size: {}", committed.size))?;
    Ok(output::line("Done")?)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The moment builds are to pretend it is (reproducible-builds.org).
fn epoch() -> anyhow::Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => {
            let seconds = text.parse().context("SOURCE_DATE_EPOCH is no number of seconds");
            seconds.map(Some)
        }
        Err(_) => Ok(None),
    }
}

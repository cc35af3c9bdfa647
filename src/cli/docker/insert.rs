//! `insert`: a file from a URL into an image, as docker had it in 2013.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use registry::Reference;

use super::commit::NewImageArgs;
use crate::{
    cli::{Globals, Verb},
    images, output,
};

/// Make an image of another with a file from a URL in it
///
/// The file belongs to root, and everybody may read it. What is at its place is replaced, unless that is a
/// directory; directories on the way that are missing are made.
#[derive(Args, Debug)]
pub(super) struct Insert {
    #[command(flatten)]
    new: NewImageArgs,

    /// Image, by name or id
    image: String,

    /// Where the file is: http://… or https://…
    url: String,

    /// Where it goes in the image
    path: PathBuf,

    /// Name of the new image
    name: Option<Reference>,
}

impl Verb for Insert {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let image = images::find(&store, &self.image)?;
        let mut content = images::Access::default().client()?.download(&self.url)?;
        let mut file = tempfile::tempfile_in(&globals.home.root).context("cannot make a file")?;
        io::copy(&mut content, &mut file)
            .and_then(|_| file.set_permissions(Permissions::from_mode(0o644)))
            .with_context(|| format!("cannot keep {}", self.url))?;
        let name = self.name.as_ref().map(Reference::to_string);
        let created_by = format!("insert {} {}", self.url, self.path.display());
        let made = self.new.with(None, created_by, false, |new| {
            store.insert(&image, &self.path, &file, name.as_deref(), new)
        })?;
        output::line(&made.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

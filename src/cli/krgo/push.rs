//! `push IMAGE -r DIR`: the image a root filesystem shows, to its registry.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use clap::Args;
use registry::{Reference, Source};
use rootfs::{Store, StoredImage, git::Rootfs};

use super::{directory, login, pull::hubless};
use crate::{
    cli::{Globals, Verb},
    images::{self, Access},
    output, transfer,
};

/// Push the image a directory shows
#[derive(Args, Debug)]
pub(super) struct Push {
    /// Name to push it under
    image: Reference,

    #[command(flatten)]
    layered: PushArgs,
}

// What `push` takes besides an image to push a root filesystem. (No doc comment: it would become the
// command's description.)
#[derive(Args, Clone, Debug)]
pub(crate) struct PushArgs {
    /// Push the image that this root filesystem shows
    #[arg(short, long, value_name = "DIR")]
    rootfs: Option<PathBuf>,

    /// Tell what is done in the lines of: krgo
    #[arg(long, value_name = "PROGRAM", value_parser = ["krgo"])]
    output: Option<String>,

    /// Log in, this time only
    #[arg(short, long, value_name = "USER:PASSWORD")]
    user: Option<String>,
}

impl PushArgs {
    /// Whether krgo's lines were asked for.
    pub(crate) fn is_krgo(&self) -> bool {
        self.output.is_some()
    }

    /// The login, for commands that have no other way to say it.
    pub(crate) fn creds(&self) -> Option<String> {
        login::typed(self.user.as_deref())
    }

    /// Gives the image that a root filesystem shows the name it is to be pushed under: the one that was
    /// named, or the one we are in when no image has the name.
    pub(crate) fn name_image(&self, store: &Store, name: &str) -> anyhow::Result<()> {
        let here = || Rootfs::new(store, Path::new(".")).branch().is_ok();
        let is_known = || images::find(store, name).is_ok();
        if self.rootfs.is_some() || (!is_known() && here()) {
            image_of_rootfs(store, self.rootfs.as_deref(), &name.parse()?)?;
        }
        Ok(())
    }
}

impl Verb for Push {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let access = Access { creds: self.layered.creds(), ..Access::default() };
        tell(&store, &self.image, &access, &self.layered)
    }
}

/// Pushes the image a root filesystem shows, and tells it in krgo's lines.
pub(crate) fn tell(
    store: &Store,
    name: &Reference,
    access: &Access,
    layered: &PushArgs,
) -> anyhow::Result<ExitCode> {
    let image = image_of_rootfs(store, layered.rootfs.as_deref(), name)?;
    output::line(format_args!("Pushing image {} ...", hubless(name)))?;
    let layers = rootfs::git::layer_ids(&image);
    output::line(format_args!("Pushing {} layers:", layers.len()))?;
    let there = Mutex::new(HashMap::new());
    let tell = |blob: &oci_spec::image::Descriptor, sent| {
        let exists = matches!(sent, registry::Progress::Exists | registry::Progress::Mounted);
        let mut there = there.lock().unwrap_or_else(PoisonError::into_inner);
        *there.entry(blob.digest().clone()).or_insert(false) |= exists;
    };
    let to = Source::Registry(name.clone());
    transfer::push_telling(store, &image, &to, access, &tell)?;
    let there = there.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (id, layer) in layers.iter().zip(&image.layers) {
        let known = there.get(layer.blob.digest()).copied().unwrap_or(true);
        let end = if known { "done (already pushed)" } else { "done" };
        output::line(format_args!("\t{id} ... {end}"))?;
    }
    output::line(format_args!("Done: {}", page(name)))?;
    Ok(ExitCode::SUCCESS)
}

/// The image that a root filesystem shows, which gets the name it is to be pushed under.
fn image_of_rootfs(
    store: &Store,
    typed: Option<&Path>,
    name: &Reference,
) -> anyhow::Result<StoredImage> {
    let directory = directory::existing(store, typed)?;
    let image = Rootfs::new(store, &directory).image()?;
    store.tag(&image, &name.to_string())?;
    Ok(image)
}

/// Where a person can look at what was pushed.
fn page(image: &Reference) -> String {
    let name = hubless(image);
    if name == image.to_string() {
        return name;
    }
    let name = name.rsplit_once(':').map_or(name.as_str(), |(name, _)| name);
    format!("https://registry.hub.docker.com/u/{name}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn the_page_names_the_user_once() {
        for (name, page_) in [
            ("me/debian_curl", "https://registry.hub.docker.com/u/me/debian_curl"),
            ("127.0.0.1:5000/me/app:1", "127.0.0.1:5000/me/app:1"),
        ] {
            assert_eq!(page(&name.parse().unwrap()), page_);
        }
    }
}

//! Making sure an image is in the store: the glue between `registry` and `rootfs`.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::Context;
use clap::ValueEnum;
use oci_spec::image::Digest;
use registry::{Client, Image, Layer, Platform, Reference, Source, credentials::Login};
use rootfs::{LayerState, Store, StoredImage};

use crate::{
    progress::{Item, Progress},
    report::advise,
};

/// Layers worked on at once. Each keeps an inflating and a writing thread busy, so two fill two
/// processors; the third covers the others' waits for the network.
const AT_ONCE: usize = 3;

/// When to ask the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Always ask, and fail when it cannot be asked
    Always,
    /// Only when the image is not here
    Missing,
    /// Ask, and be content with what is here when it cannot be asked
    Newer,
    /// Never
    Never,
}

/// How to reach registries.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tls_verify: bool,
    pub(crate) creds: Option<String>,
    pub(crate) authfile: Option<PathBuf>,
    /// How to speak to registries.
    pub(crate) protocol: registry::Protocol,
}

impl Access {
    /// A client that uses the logins, proxies and settings of this user.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.options_and_client()?.1)
    }

    /// The same, with what it was made from: where logins are kept.
    pub(crate) fn options_and_client(&self) -> anyhow::Result<(registry::Options, Client)> {
        let mut options = registry::Options::from_environment(&|name| std::env::var_os(name));
        (options.tls_verify, options.protocol) = (self.tls_verify, self.protocol);
        if let Some(file) = &self.authfile {
            options.credentials.files = vec![file.clone()];
        }
        // Cannot fail: any text is a user name.
        options.credentials.given = self.creds.as_ref().and_then(|text| text.parse::<Login>().ok());
        let client = Client::new(options.clone())?;
        Ok((options, client))
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            tls_verify: true,
            creds: None,
            authfile: None,
            protocol: registry::Protocol::default(),
        }
    }
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) source: Source,
    /// `None` takes this machine's, and accepts any other that is here already.
    pub(crate) platform: Option<Platform>,
    pub(crate) policy: Policy,
    pub(crate) access: &'a Access,
}

/// The image as it is in the store, pulled if the policy says so. `typed` may also be an image's id.
pub(crate) fn ensure(
    store: &Store,
    typed: &str,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> anyhow::Result<StoredImage> {
    let here = match wanted.policy {
        Policy::Always => None,
        Policy::Missing | Policy::Newer | Policy::Never => here(store, typed, wanted)?,
    };
    match (wanted.policy, here) {
        (Policy::Missing | Policy::Never, Some(image)) => Ok(image),
        (Policy::Never, None) => Err(advise(
            format!("{} is not here, and the policy forbids to get it", wanted.source),
            "`crun-cargo images` lists what is here",
        )),
        (_, here) => match (pull(store, wanted, progress), here) {
            (Ok(image), _) => {
                warn_of_another_platform(&image, wanted)?;
                Ok(image)
            }
            (Err(error), Some(image)) => {
                log::warn!("using the {} that is here: {error:#}", wanted.source);
                Ok(image)
            }
            (Err(error), None) => Err(error),
        },
    }
}

/// The image a person means, among those that are here: by name, or by the beginning of its id.
pub(crate) fn find(store: &Store, typed: &str) -> anyhow::Result<StoredImage> {
    // A name that exists is preferred to an id that happens to begin like it.
    if let Ok(reference) = typed.parse::<Reference>() {
        match store.image(&reference.to_string()) {
            Err(rootfs::Error::NoImage(_)) => {}
            other => return Ok(other?),
        }
    }
    Ok(store.image(typed)?)
}

/// Whether an error says that there is no such image.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(rootfs::Error::NoImage(_)))
}

/// A stored name as people write it, without what the defaults add.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn here(store: &Store, typed: &str, wanted: &Wanted<'_>) -> anyhow::Result<Option<StoredImage>> {
    // Files can change under their name, and are quickly asked.
    if !matches!(wanted.source, Source::Registry(_)) {
        return Ok(None);
    }
    let image = match find(store, typed) {
        Ok(image) => image,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_right =
        wanted.platform.as_ref().map_or(Ok(true), |platform| is_for(&image, platform))?;
    Ok(is_right.then_some(image))
}

fn is_for(image: &StoredImage, platform: &Platform) -> anyhow::Result<bool> {
    let configuration = image.configuration()?;
    Ok(configuration.os().to_string() == platform.os
        && configuration.architecture().to_string() == platform.architecture)
}

/// A registry that has one variant gives that one, whichever was asked for.
fn warn_of_another_platform(image: &StoredImage, wanted: &Wanted<'_>) -> anyhow::Result<()> {
    if let Some(platform) = &wanted.platform
        && !is_for(image, platform)?
    {
        log::warn!("{} is not for {platform}, and there is no other", wanted.source);
    }
    Ok(())
}

/// Gets an image, whatever is here already.
fn pull(store: &Store, wanted: &Wanted<'_>, progress: &Progress) -> anyhow::Result<StoredImage> {
    let client = wanted.access.client()?;
    let platform = wanted.platform.clone().unwrap_or_default();
    let doing = || format!("cannot pull {}", wanted.source);
    let image = client.resolve(&wanted.source, &platform).with_context(doing)?;
    progress.say(&format!("{}: {}", name_of(&wanted.source), image.digest));
    add_layers(store, &client, &image, progress).with_context(doing)?;
    store
        .add_image(
            Some(&name_of(&wanted.source)),
            &image.manifest.bytes,
            image.manifest.media_type.as_ref(),
            &image.config.bytes,
            image.index.as_ref().map(|index| index.bytes.as_slice()),
        )
        .with_context(doing)
}

/// The name an image gets here: for files, one that cannot be taken for a registry's.
pub(crate) fn name_of(source: &Source) -> String {
    let (path, tag) = match source {
        Source::Registry(reference) => return reference.to_string(),
        Source::V1Static { name, .. } => return name.to_string(),
        Source::DockerArchive { name: Some(name), .. } => return name.to_string(),
        Source::DockerArchive { file, name: None } => (file, None),
        Source::OciLayout { directory, tag } => (directory, tag.as_deref()),
        Source::OciArchive { file, tag } => (file, tag.as_deref()),
        Source::Directory(directory) => (directory, None),
    };
    // A tag may be a whole name, as podman and docker write it.
    if let Some(tag) = tag
        && tag.contains(['/', ':'])
        && let Ok(reference) = tag.parse::<Reference>()
    {
        return reference.to_string();
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain: String = file
        .trim_end_matches(".tar")
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    format!("localhost/{}:{}", plain.trim_matches('-'), tag.unwrap_or("latest"))
}

/// Brings all layers into the store, a few at a time.
fn add_layers(
    store: &Store,
    client: &Client,
    image: &Image,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for layer in &image.layers {
        let digest = layer.descriptor.digest();
        // Old builders repeat the empty layer.
        if jobs.iter().all(|job| job.layer.descriptor.digest() != digest) {
            let item = progress.item(short(digest), layer.descriptor.size());
            jobs.push(Job { layer, item });
        }
    }
    // The largest first: a long layer begun last would run alone at the end.
    let mut order: Vec<&Job<'_>> = jobs.iter().collect();
    order.sort_by_key(|job| std::cmp::Reverse(job.layer.descriptor.size()));
    let work = Work { store, client, source: &image.source, stopped: AtomicBool::new(false) };
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let worker = || {
        while let Some(job) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work.add(job) {
                let first = !work.stopped.swap(true, Ordering::Relaxed);
                if first && let Ok(mut failure) = failure.lock() {
                    *failure = Some(error);
                }
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(order.len()) {
            scope.spawn(worker);
        }
    });
    if let Ok(Some(error)) = failure.into_inner() {
        return Err(error);
    }
    Ok(())
}

/// The first digits of a digest, as people compare them.
pub(crate) fn short(digest: &Digest) -> &str {
    digest.digest().get(..12).unwrap_or(digest.digest())
}

/// One layer to be had.
struct Job<'a> {
    layer: &'a Layer,
    item: Item<'a>,
}

/// What all workers share.
struct Work<'a> {
    store: &'a Store,
    client: &'a Client,
    source: &'a Source,
    /// Something failed: what is being read comes to an end, and its beginning is kept.
    stopped: AtomicBool,
}

impl Work<'_> {
    fn add(&self, job: &Job<'_>) -> anyhow::Result<()> {
        match self.try_add(job) {
            // What an earlier pull left was damaged, and is gone now.
            Err(error) if is_stale_partial(&error) => self.try_add(job),
            other => other,
        }
    }

    fn try_add(&self, job: &Job<'_>) -> anyhow::Result<()> {
        let descriptor = &job.layer.descriptor;
        let diff_id = job.layer.diff_id.as_ref().context("the layer's diff id is not known")?;
        let layer = match self.store.begin_layer(descriptor, diff_id)? {
            LayerState::Present => {
                job.item.end("already here");
                return Ok(());
            }
            LayerState::Missing(layer) => layer,
        };
        let have = layer.have();
        job.item.begin("pulling");
        let blob = self.client.blob(self.source, descriptor, have)?;
        let bytes = Stoppable { inner: blob, stopped: &self.stopped };
        layer.add(bytes, &|count| job.item.advance(count))?;
        job.item.end("done");
        Ok(())
    }
}

fn is_stale_partial(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(rootfs::Error::is_stale_partial)
}

/// A reader that ends with an error once somebody else has failed.
struct Stoppable<'a, R> {
    inner: R,
    stopped: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn images_from_files_get_a_local_name() {
        for (source, name) in [
            ("debian", "docker.io/library/debian:latest"),
            ("oci:/tmp/My Layout", "localhost/my-layout:latest"),
            ("oci:/tmp/x:v1", "localhost/x:v1"),
            ("oci-archive:a.tar:docker.io/me/app:2", "docker.io/me/app:2"),
            ("docker-archive:a.tar:app:1", "docker.io/library/app:1"),
            ("dir:d", "localhost/d:latest"),
        ] {
            assert_eq!(name_of(&source.parse().unwrap()), name);
        }
    }
}

//! Sending images: the glue between the store and `registry`'s push, save and copy.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use oci_spec::image::{Descriptor, Digest};
use registry::{Progress as Sent, Reference, Source};
use rootfs::{Store, StoredImage};

use crate::{
    images::{Access, short},
    outgoing::{Method, Outgoing},
    progress::{Item, Mode, Progress},
};

/// How to push.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sending {
    /// Compress the layers so.
    pub(crate) compression: Option<Method>,
    /// The largest request body.
    pub(crate) chunk: Option<u64>,
}

/// Pushes an image, byte for byte as it was pulled or committed unless asked otherwise.
pub(crate) fn push(
    store: &Store,
    image: &StoredImage,
    to: &Source,
    access: &Access,
    sending: Sending,
    progress: &Progress,
) -> anyhow::Result<Digest> {
    let doing = || format!("cannot push {to}");
    let outgoing =
        Outgoing::new(store, image, sending.compression, progress).with_context(doing)?;
    let display = Display::new(progress);
    let tell = |blob: &Descriptor, sent: Sent| display.show(blob, sent);
    send(store, image, &outgoing, to, access, sending.chunk, &tell).with_context(doing)
}

/// Pushes an image as it is; `tell` hears what becomes of each blob.
pub(crate) fn push_telling(
    store: &Store,
    image: &StoredImage,
    to: &Source,
    access: &Access,
    tell: &(dyn Fn(&Descriptor, Sent) + Sync),
) -> anyhow::Result<Digest> {
    let doing = || format!("cannot push {to}");
    let silent = Progress::new(Mode::None, true);
    let outgoing = Outgoing::new(store, image, None, &silent).with_context(doing)?;
    send(store, image, &outgoing, to, access, None, tell).with_context(doing)
}

fn send(
    store: &Store,
    image: &StoredImage,
    outgoing: &Outgoing,
    to: &Source,
    access: &Access,
    chunk: Option<u64>,
    tell: &(dyn Fn(&Descriptor, Sent) + Sync),
) -> anyhow::Result<Digest> {
    let mount_from = other_names(store, image)?;
    let blobs = |blob: &Descriptor, offset: u64| outgoing.open(store, blob, offset);
    let push = registry::Push {
        progress: tell,
        mount_from: &mount_from,
        chunk,
        ..registry::Push::new(&blobs)
    };
    Ok(access.client()?.push(to, &outgoing.manifest, &push)?)
}

/// Writes several images into one archive or directory.
pub(crate) fn save(
    store: &Store,
    images: &[(StoredImage, Vec<String>)],
    to: &Source,
    access: &Access,
    progress: &Progress,
) -> anyhow::Result<()> {
    let doing = || format!("cannot write {to}");
    let outgoing = |(image, _): &(StoredImage, _)| Outgoing::new(store, image, None, progress);
    let outgoing: Vec<_> =
        images.iter().map(outgoing).collect::<anyhow::Result<_>>().with_context(doing)?;
    let with_names = outgoing.iter().zip(images);
    let saved: Vec<_> = with_names
        .map(|(outgoing, (_, names))| registry::Saved {
            manifest: &outgoing.manifest,
            names: names.clone(),
        })
        .collect();
    let display = Display::new(progress);
    let blobs = |blob: &Descriptor, offset: u64| {
        let made = outgoing.iter().find(|outgoing| outgoing.made(blob.digest()).is_some());
        match made.or(outgoing.first()) {
            Some(outgoing) => outgoing.open(store, blob, offset),
            None => Err("there is no image".into()),
        }
    };
    let push = registry::Push {
        progress: &|blob, sent| display.show(blob, sent),
        ..registry::Push::new(&blobs)
    };
    access.client()?.save(to, &saved, &push).with_context(doing)
}

/// Repositories that may hold the same blobs already.
fn other_names(store: &Store, image: &StoredImage) -> anyhow::Result<Vec<Reference>> {
    let names = store.names_of(image)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// A display item for each blob, made when the blob is first heard of.
pub(crate) struct Display<'p> {
    progress: &'p Progress,
    items: Mutex<HashMap<Digest, Item<'p>>>,
}

impl<'p> Display<'p> {
    /// A display without items.
    pub(crate) fn new(progress: &'p Progress) -> Self {
        Self { progress, items: Mutex::default() }
    }

    /// Shows what became of a blob; called from several threads.
    pub(crate) fn show(&self, blob: &Descriptor, sent: Sent) {
        // A display that another thread left half drawn is still a display.
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let item = items.entry(blob.digest().clone()).or_insert_with(|| {
            let item = self.progress.item(short(blob.digest()), blob.size());
            if let Sent::Sent(_) = sent {
                item.begin("sending");
            }
            item
        });
        match sent {
            Sent::Exists => item.end("already there"),
            Sent::Mounted => item.end("mounted from another repository"),
            Sent::Sent(position) => item.at(position),
            Sent::Done => item.end("done"),
        }
    }
}

/// The same for a file that is compressed; one that is not can be read as it is.
pub(crate) fn spooled_if_compressed(
    file: File,
    directory: &std::path::Path,
) -> anyhow::Result<Option<tempfile::NamedTempFile>> {
    let mut beginning = [0; 8];
    let count = file.read_at(&mut beginning, 0).context("cannot read its beginning")?;
    match rootfs::is_compressed(beginning.get(..count).unwrap_or_default()) {
        true => spool(file, directory).map(Some),
        false => Ok(None),
    }
}

/// Copies what somebody sends, decompressed, into a file, so that it can be read from any place.
pub(crate) fn spool(
    input: impl Read + Send,
    directory: &std::path::Path,
) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(directory)
        .with_context(|| format!("cannot make a file in {}", directory.display()))?;
    let doing = "cannot read the archive";
    let mut input = rootfs::decompressed(input).context(doing)?;
    io::copy(&mut input, &mut file).context(doing)?;
    Ok(file)
}

//! Sending images: the glue between the store and `registry`'s push, save and copy.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use oci_spec::image::{Descriptor, Digest, ImageManifest};
use registry::{Cause, Progress as Sent, Raw, Reference, Source};
use rootfs::{Store, StoredImage};

use crate::{
    images::{Access, short},
    progress::{Item, Progress},
};

/// Pushes an image, byte for byte as it was pulled or committed.
pub(crate) fn push(
    store: &Store,
    image: &StoredImage,
    to: &Source,
    access: &Access,
    progress: &Progress,
) -> anyhow::Result<Digest> {
    let display = Display::new(progress);
    push_telling(store, image, to, access, &|blob, sent| display.show(blob, sent))
}

/// The same; `tell` hears what becomes of each blob.
pub(crate) fn push_telling(
    store: &Store,
    image: &StoredImage,
    to: &Source,
    access: &Access,
    tell: &(dyn Fn(&Descriptor, Sent) + Sync),
) -> anyhow::Result<Digest> {
    let manifest = manifest(image)?;
    let mount_from = other_names(store, image)?;
    let blobs = |blob: &Descriptor, offset: u64| open(store, blob, offset);
    let push =
        registry::Push { progress: tell, mount_from: &mount_from, ..registry::Push::new(&blobs) };
    let doing = || format!("cannot push {to}");
    access.client()?.push(to, &manifest, &push).with_context(doing)
}

/// Writes several images into one archive or directory.
pub(crate) fn save(
    store: &Store,
    images: &[(StoredImage, Vec<String>)],
    to: &Source,
    access: &Access,
    progress: &Progress,
) -> anyhow::Result<()> {
    let manifests: Vec<_> =
        images.iter().map(|(image, _)| manifest(image)).collect::<anyhow::Result<_>>()?;
    let saved = |(manifest, (_, names)): (_, &(_, Vec<String>))| registry::Saved {
        manifest,
        names: names.clone(),
    };
    let saved: Vec<_> = manifests.iter().zip(images).map(saved).collect();
    let display = Display::new(progress);
    let blobs = |blob: &Descriptor, offset: u64| open(store, blob, offset);
    let push = registry::Push {
        progress: &|blob, sent| display.show(blob, sent),
        ..registry::Push::new(&blobs)
    };
    access.client()?.save(to, &saved, &push).with_context(|| format!("cannot write {to}"))
}

/// A stored image's manifest with its bytes.
fn manifest(image: &StoredImage) -> anyhow::Result<Raw<ImageManifest>> {
    let bytes = image.manifest_bytes()?;
    let value = serde_json::from_slice(&bytes).context("the image's manifest is damaged")?;
    let media_type = image.manifest_media_type.as_str().into();
    Ok(Raw { bytes, media_type, digest: image.manifest.clone(), value })
}

/// Repositories that may hold the same blobs already.
fn other_names(store: &Store, image: &StoredImage) -> anyhow::Result<Vec<Reference>> {
    let names = store.names_of(image)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn open(store: &Store, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, Cause> {
    let mut file = store.blob(blob.digest())?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
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

/// Copies standard input into a file, so that it can be read from any place.
pub(crate) fn spool(directory: &std::path::Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(directory)
        .with_context(|| format!("cannot make a file in {}", directory.display()))?;
    io::copy(&mut io::stdin().lock(), &mut file).context("cannot keep standard input")?;
    Ok(file)
}

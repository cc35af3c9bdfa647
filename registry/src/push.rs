//! Sending images: to registries, and into files.

use std::{
    io::Read,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    sync::{Mutex, PoisonError},
    thread,
};

use bytes::{Bytes, BytesMut};
use oci_spec::image::{Descriptor, Digest, ImageManifest};

use crate::{
    Client, Error, Raw, Reference, Result, Source,
    client::upload::{Uploader, blobs_of},
    error::Cause,
    local::write::Writer,
    v1,
};

const BLOCK: u64 = 128 << 10;

/// Opens a blob at an offset. The configuration is a blob too.
pub type Blobs<'a> = dyn Fn(&Descriptor, u64) -> Result<Box<dyn Read + Send>, Cause> + Sync + 'a;

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was there already.
    Exists,
    /// Another repository of the registry had it.
    Mounted,
    /// This many of its bytes are on their way. May go back after a broken connection.
    Sent(u64),
    /// All of it has been stored.
    Done,
}

/// How to push.
pub struct Push<'a> {
    /// Where the bytes are.
    pub blobs: &'a Blobs<'a>,
    /// Told about every blob, from several threads.
    pub progress: &'a (dyn Fn(&Descriptor, Progress) + Sync),
    /// Other repositories that may hold the same blobs, such as the one the image was pulled from.
    pub mount_from: &'a [Reference],
    /// Blobs sent at the same time.
    pub parallel: usize,
    /// The largest request body; `None` sends each blob in one piece.
    pub chunk: Option<u64>,
}

impl<'a> Push<'a> {
    /// Three blobs at a time, in one piece each, silently.
    pub fn new(blobs: &'a Blobs<'a>) -> Self {
        Self { blobs, progress: &|_, _| {}, mount_from: &[], parallel: 3, chunk: None }
    }
}

/// One image of several that go into one place.
pub struct Saved<'a> {
    /// The manifest, with its bytes.
    pub manifest: &'a Raw<ImageManifest>,
    /// What it is called there.
    pub names: Vec<String>,
}

impl Client {
    /// Puts an image where `to` says, with the bytes of its manifest unchanged.
    pub fn push(
        &self,
        to: &Source,
        manifest: &Raw<ImageManifest>,
        push: &Push<'_>,
    ) -> Result<Digest> {
        if let Source::Registry(name) = to {
            if self.insists_on_v1() {
                return v1::push(self, name, manifest, push).map(|()| manifest.digest.clone());
            }
            return match self.push_v2(to, manifest, push) {
                Err(error) if self.should_be_v1(name, &error) => {
                    v1::push(self, name, manifest, push).map(|()| manifest.digest.clone())
                }
                other => other,
            };
        }
        if let Source::V1Static { place, name } = to {
            return v1::export(place, name, manifest, push).map(|()| manifest.digest.clone());
        }
        self.push_v2(to, manifest, push)
    }

    fn push_v2(
        &self,
        to: &Source,
        manifest: &Raw<ImageManifest>,
        push: &Push<'_>,
    ) -> Result<Digest> {
        let mut destination = Destination::open(self, to, push)?;
        destination.put_image(manifest, push)?;
        let names = destination.name().into_iter().collect::<Vec<_>>();
        let media_type = manifest.media_type.as_ref();
        destination.put_document(&manifest.bytes, media_type, &names)?;
        destination.finish()?;
        Ok(manifest.digest.clone())
    }

    /// Writes several images into one archive or directory.
    pub fn save(&self, to: &Source, images: &[Saved<'_>], push: &Push<'_>) -> Result<()> {
        let mut destination = Destination::open(self, to, push)?;
        for image in images {
            destination.put_image(image.manifest, push)?;
            let media_type = image.manifest.media_type.as_ref();
            destination.put_document(&image.manifest.bytes, media_type, &image.names)?;
        }
        destination.finish()
    }
}

/// A place that takes blobs first and documents after them.
pub(crate) enum Destination {
    Registry { uploader: Box<Uploader>, name: String },
    Files { writer: Mutex<Writer>, name: Option<String> },
}

impl Destination {
    pub(crate) fn open(client: &Client, to: &Source, push: &Push<'_>) -> Result<Self> {
        if let Source::Registry(reference) = to {
            let uploader = Box::new(Uploader::new(client, reference, push.mount_from)?);
            return Ok(Self::Registry { uploader, name: reference.tag_or_digest() });
        }
        let name = match to {
            Source::OciLayout { tag, .. } | Source::OciArchive { tag, .. } => tag.clone(),
            Source::DockerArchive { name, .. } => name.as_ref().map(Reference::to_string),
            Source::Directory(_) | Source::Registry(_) | Source::V1Static { .. } => None,
        };
        Ok(Self::Files { writer: Mutex::new(Writer::create(to)?), name })
    }

    /// What the destination's own name calls the image.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Registry { name, .. } => Some(name.clone()),
            Self::Files { name, .. } => name.clone(),
        }
    }

    /// Sends all blobs of an image, several at a time. The first error stops the others.
    pub(crate) fn put_image(&self, manifest: &Raw<ImageManifest>, push: &Push<'_>) -> Result<()> {
        let blobs = blobs_of(manifest);
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let work = || -> Result<()> {
            while !stopped.load(Ordering::Relaxed)
                && let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                self.put_blob(blob, push)
                    .inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..push.parallel.min(blobs.len()))
                .map(|_| thread::Builder::new().name("push".to_owned()).spawn_scoped(scope, work))
                .collect();
            let mut result = work();
            for other in others {
                let joined = match other {
                    Ok(thread) => thread.join().map_err(|_| panicked())?,
                    // One thread fewer.
                    Err(_) => Ok(()),
                };
                result = result.and(joined);
            }
            result
        })
    }

    fn put_blob(&self, blob: &Descriptor, push: &Push<'_>) -> Result<()> {
        match self {
            Self::Registry { uploader, .. } => uploader.put(blob, push),
            Self::Files { writer, .. } => {
                // Files grow one after another: an archive has one end only.
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.put(blob, push)
            }
        }
    }

    /// Stores a document; without names, under its digest.
    pub(crate) fn put_document(
        &mut self,
        bytes: &[u8],
        media_type: &str,
        names: &[String],
    ) -> Result<()> {
        match self {
            Self::Registry { uploader, .. } => {
                let digest = [crate::digest_of(bytes).to_string()];
                let names = if names.is_empty() { &digest } else { names };
                names.iter().try_for_each(|name| uploader.put_document(bytes, media_type, name))
            }
            Self::Files { writer, .. } => {
                let writer = writer.get_mut().unwrap_or_else(PoisonError::into_inner);
                writer.put_document(bytes, media_type, names)
            }
        }
    }

    /// Stores a document that only another document refers to.
    pub(crate) fn put_inner_document(&mut self, bytes: &[u8], media_type: &str) -> Result<()> {
        match self {
            Self::Registry { .. } => self.put_document(bytes, media_type, &[]),
            Self::Files { writer, .. } => {
                let writer = writer.get_mut().unwrap_or_else(PoisonError::into_inner);
                writer.put_inner_document(bytes)
            }
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Registry { .. } => Ok(()),
            Self::Files { writer, .. } => {
                writer.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
            }
        }
    }
}

fn panicked() -> Error {
    Error::Thread(std::io::Error::other("a thread that pushes panicked"))
}

/// The next bytes of a blob, of at most `left`; `None` at the end.
pub(crate) fn read_block(
    reader: &mut dyn Read,
    left: u64,
    blob: &Descriptor,
) -> Result<Option<Bytes>> {
    let length = usize::try_from(left.min(BLOCK)).unwrap_or_default();
    let mut block = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        let rest = block.get_mut(filled..).unwrap_or_default();
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error, blob)),
        }
    }
    block.truncate(filled);
    Ok((filled > 0).then(|| block.freeze()))
}

/// A blob that comes from a registry brings that registry's error.
pub(crate) fn unreadable(error: std::io::Error, blob: &Descriptor) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::File { doing: "read", path: blob.digest().as_ref().into(), source },
    }
}

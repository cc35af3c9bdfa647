//! An image as it leaves: byte for byte as it came, unless its layers shall be compressed otherwise, or
//! their compressed forms were dropped and must be made again.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::Arc,
};

use anyhow::Context;
use oci_spec::image::{Descriptor, Digest, ImageManifest};
use registry::{Cause, Raw};
use rootfs::{Compression, Store, StoredImage, StoredLayer};

use crate::{images::short, output, progress::Progress};

/// A compression and its level; `None` is its usual one.
pub(crate) type Method = (Compression, Option<i32>);

/// An image as it leaves.
pub(crate) struct Outgoing {
    /// The manifest, with its bytes.
    pub(crate) manifest: Raw<ImageManifest>,
    /// Blobs that were made for this, in files without names.
    made: HashMap<Digest, Arc<File>>,
}

impl Outgoing {
    /// Prepares an image. Layers that are compressed by the wanted method already stay as they are, unless
    /// a level is asked for.
    pub(crate) fn new(
        store: &Store,
        image: &StoredImage,
        wanted: Option<Method>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut outgoing = Self { manifest: manifest(image)?, made: HashMap::new() };
        let mut layers = image.layers.clone();
        for layer in &mut layers {
            if let Some(method) = needs(store, layer, wanted)? {
                let again = outgoing.compress(store, layer, method, progress)?;
                if wanted.is_none() && again.blob.digest() != layer.blob.digest() {
                    output::note(format_args!(
                        "note: the compressed form of layer {} was dropped and cannot be made again as \
                         it was: it is {} now, and the image gets another digest",
                        short(layer.blob.digest()),
                        short(again.blob.digest()),
                    ));
                }
                *layer = again;
            }
        }
        let changed =
            |(now, before): (&StoredLayer, &StoredLayer)| now.blob.digest() != before.blob.digest();
        if layers.iter().zip(&image.layers).any(changed) {
            let (bytes, media_type) = image.manifest_of(&layers)?;
            outgoing.manifest = raw(bytes, &media_type)?;
        }
        Ok(outgoing)
    }

    fn compress(
        &mut self,
        store: &Store,
        layer: &StoredLayer,
        (method, level): Method,
        progress: &Progress,
    ) -> anyhow::Result<StoredLayer> {
        let item = progress.item(short(layer.blob.digest()), layer.blob.size());
        item.begin("compressing");
        let mut file = tempfile::tempfile_in(store.root()).context("cannot make a file")?;
        let again = store.recompress(layer, method, level, &mut file)?;
        item.end("compressed");
        self.made.insert(again.blob.digest().clone(), Arc::new(file));
        Ok(again)
    }

    /// Opens a blob at an offset.
    pub(crate) fn open(
        &self,
        store: &Store,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, Cause> {
        if let Some(file) = self.made(blob.digest()) {
            return Ok(Box::new(At { file, offset }));
        }
        let mut file = store.blob(blob.digest())?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    /// A blob that was made for this. Several may read in it, each at places of its own.
    pub(crate) fn made(&self, blob: &Digest) -> Option<Arc<File>> {
        self.made.get(blob).cloned()
    }
}

/// How a layer must be compressed; `None` if it can go as it is.
fn needs(
    store: &Store,
    layer: &StoredLayer,
    wanted: Option<Method>,
) -> anyhow::Result<Option<Method>> {
    let own = layer.compression();
    match store.blob(layer.blob.digest()) {
        Ok(_) => Ok(wanted.filter(|(method, level)| *method != own || level.is_some())),
        Err(rootfs::Error::NoBlob(_)) => Ok(Some(wanted.unwrap_or((own, None)))),
        Err(error) => Err(error.into()),
    }
}

/// Reads a file from a place on.
pub(crate) struct At {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(count).unwrap_or_default());
        Ok(count)
    }
}

/// A stored image's manifest with its bytes.
fn manifest(image: &StoredImage) -> anyhow::Result<Raw<ImageManifest>> {
    raw(image.manifest_bytes()?, &image.manifest_media_type)
}

fn raw(bytes: Vec<u8>, media_type: &str) -> anyhow::Result<Raw<ImageManifest>> {
    let value = serde_json::from_slice(&bytes).context("the image's manifest is damaged")?;
    let digest = registry::digest_of(&bytes);
    Ok(Raw { bytes, media_type: media_type.into(), digest, value })
}

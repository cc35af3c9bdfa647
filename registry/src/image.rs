//! An image as a client sees it: documents with their bytes, and descriptors of layers.

use std::ops::Deref;

use oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType,
};

use crate::{Reference, Source};

/// A parsed document together with exactly the bytes it came as, so that digests survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw<T> {
    /// As received.
    pub bytes: Vec<u8>,
    /// What the registry or the document says it is.
    pub media_type: MediaType,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The parsed form.
    pub value: T,
}

impl<T> Deref for Raw<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Raw<T> {
    /// The descriptor by which another document would refer to this one.
    pub fn descriptor(&self) -> Descriptor {
        let size = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        Descriptor::new(self.media_type.clone(), size, self.digest.clone())
    }
}

/// One layer: its blob, and the digest of the tar inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob as the registry has it.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar. [`crate::Client::resolve`] always finds it out; `None` exists only
    /// on the way there, for schema 1.
    pub diff_id: Option<Digest>,
}

/// Everything about an image except its layers' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where its blobs are: short names and the choice among several registries are settled here.
    pub source: Source,
    /// What the name stands for: the digest of the index if there is one, else of the manifest.
    pub digest: Digest,
    /// The manifest. For schema 1, one made by us.
    pub manifest: Raw<ImageManifest>,
    /// The configuration.
    pub config: Raw<ImageConfiguration>,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// The index that the manifest was chosen from.
    pub index: Option<Raw<ImageIndex>>,
}

impl Image {
    /// Whether manifest and configuration are final. Those of schema 1 are not until all layers were read.
    pub(crate) fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.diff_id.is_some())
    }

    /// The name in a registry, if it came from one.
    pub fn reference(&self) -> Option<&Reference> {
        match &self.source {
            Source::Registry(reference) => Some(reference),
            _ => None,
        }
    }

    /// Bytes to be transferred for all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.descriptor.size()))
    }
}

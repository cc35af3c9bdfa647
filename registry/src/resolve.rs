//! From a first document down to the one manifest that is wanted, wherever documents come from.

use oci_spec::image::{Descriptor, Digest, ImageIndex, ImageManifest};

use crate::{
    Error, Platform, Raw, Result,
    manifest::{self, Document},
};

const MAX_NESTING: u32 = 4;

/// Where the way ended.
pub(crate) struct Found {
    /// What the name stands for: the digest of the outermost document.
    pub(crate) digest: Option<Digest>,
    /// The outermost index.
    pub(crate) index: Option<Raw<ImageIndex>>,
    pub(crate) leaf: Leaf,
}

/// A document that leads to no other manifest.
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub(crate) enum Leaf {
    Manifest(Raw<ImageManifest>),
    Schema1(Vec<u8>),
}

impl From<Leaf> for Document {
    fn from(leaf: Leaf) -> Self {
        match leaf {
            Leaf::Manifest(manifest) => Self::Manifest(manifest),
            Leaf::Schema1(bytes) => Self::Schema1(bytes),
        }
    }
}

/// Follows indexes until there is a manifest. `fetch` gets a document by its descriptor, and checks it.
pub(crate) fn descend(
    top: Document,
    wanted: &Platform,
    what: &str,
    fetch: impl Fn(&Descriptor) -> Result<Document>,
) -> Result<Found> {
    let (mut digest, mut outermost) = (None, None);
    let mut document = top;
    for _ in 0..=MAX_NESTING {
        let leaf = match document {
            Document::Manifest(manifest) => Leaf::Manifest(manifest),
            Document::Schema1(bytes) => Leaf::Schema1(bytes),
            Document::Index(index) => {
                document = fetch(manifest::choose(&index, wanted, what)?)?;
                digest.get_or_insert_with(|| index.digest.clone());
                outermost.get_or_insert(index);
                continue;
            }
        };
        return Ok(Found { digest, index: outermost, leaf });
    }
    let problem = "its indexes are nested too deeply".to_owned();
    Err(Error::Document { what: what.to_owned(), problem })
}

/// Checks size and digest of a document that a descriptor led to, and reads it.
pub(crate) fn read(
    bytes: Vec<u8>,
    descriptor: &Descriptor,
    media_type: Option<&str>,
    what: &str,
) -> Result<Document> {
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found != descriptor.size() {
        let expected = descriptor.size();
        return Err(Error::SizeMismatch { what: what.to_owned(), expected, found });
    }
    let declared: Vec<&str> =
        [descriptor.media_type().as_ref()].into_iter().chain(media_type).collect();
    let document = manifest::parse(bytes, &declared, what)?;
    verify(&document, descriptor.digest(), what)?;
    Ok(document)
}

/// Checks a document against the digest that named it.
pub(crate) fn verify(document: &Document, digest: &Digest, what: &str) -> Result<()> {
    match document {
        Document::Index(index) => crate::digest::verify(&index.bytes, digest, what),
        Document::Manifest(manifest) => crate::digest::verify(&manifest.bytes, digest, what),
        Document::Schema1(bytes) => {
            // Its digest is that of the part that was signed.
            let found = crate::schema1::parse(bytes, what)?.digest;
            if found == *digest {
                return Ok(());
            }
            let (what, expected) = (what.to_owned(), digest.clone());
            Err(Error::DigestMismatch { what, expected, found })
        }
    }
}

//! What can go wrong with the store, its layers and its snapshots.

use std::{io, path::PathBuf};

use oci_spec::image::Digest;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed on a file of ours.
    #[error("cannot {operation} {object}")]
    Io {
        /// What we were doing, as a verb.
        operation: &'static str,
        /// What we did it to.
        object: String,
        /// Why the kernel refused.
        source: io::Error,
    },
    /// No image has this name or id.
    #[error("no image {0} in the store")]
    NoImage(String),
    /// An id prefix fits several images.
    #[error("{0} is the beginning of several ids")]
    Ambiguous(String),
    /// No container has this name.
    #[error("no snapshot {0:?}")]
    NoSnapshot(String),
    /// A container of this name exists.
    #[error("the name {0:?} is in use")]
    NameInUse(String),
    /// A name that cannot be a container's (D-16).
    #[error("{0:?} cannot be the name of a container")]
    BadName(String),
    /// Only sha256 is used by registries; nothing else can become a file name here (D-9).
    #[error("{0}: unsupported digest")]
    UnsupportedDigest(String),
    /// A descriptor that does not describe a layer.
    #[error("{media_type:?} is no type of layer")]
    NotALayer {
        /// What the descriptor says.
        media_type: String,
    },
    /// The bytes of a layer did not arrive.
    #[error("cannot receive layer {layer}")]
    Receive {
        /// The layer's compressed digest.
        layer: Digest,
        /// What the reader said.
        source: io::Error,
    },
    /// What arrived is not what was promised.
    #[error("layer {layer} has the wrong {what}: {actual} instead of {expected}")]
    Mismatch {
        /// The layer's compressed digest.
        layer: Digest,
        /// `digest`, `size` or `diff id`.
        what: &'static str,
        /// What arrived.
        actual: String,
        /// What was promised.
        expected: String,
        /// Whether some of the bytes were left by an earlier pull; they are gone now, so that trying
        /// again starts afresh.
        resumed: bool,
    },
    /// The compressed stream is damaged.
    #[error("layer {layer} cannot be decompressed")]
    Decompress {
        /// The layer's compressed digest.
        layer: Digest,
        /// What the decoder said.
        source: io::Error,
    },
    /// The archive breaks the format, a limit, or a rule that keeps it inside its directory.
    #[error("layer {layer}: {problem}{}", named(entry))]
    Archive {
        /// The layer's compressed digest, or its diff id when there is no blob.
        layer: Digest,
        /// The entry, escaped for printing; empty when it has no name.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// What should become a layer cannot be one.
    #[error("the new layer: {problem}{}", named(entry))]
    NewLayer {
        /// The entry, escaped for printing; empty when it has no name.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// An archive that is copied into a tree of files cannot be, or not there.
    #[error("cannot copy the archive: {problem}{}", named(entry))]
    Copy {
        /// The entry, escaped for printing; empty when it has no name.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of the layer could not be made.
    #[error("layer {layer}: cannot {operation} {entry}")]
    Extract {
        /// The layer's compressed digest.
        layer: Digest,
        /// The entry, escaped for printing.
        entry: String,
        /// What we were doing, as a verb.
        operation: &'static str,
        /// Why the kernel refused.
        source: io::Error,
    },
    /// A manifest, index or configuration is not what it should be (D-11).
    #[error("the image's {document} is not usable: {problem}")]
    Document {
        /// `manifest`, `configuration` or `index`.
        document: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A layer that the image names is not in the store.
    #[error("layer {0} is not in the store")]
    NoLayer(Digest),
    /// A blob that was asked for is not in the store.
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    /// An image or its parts cannot be removed.
    #[error("image {image} is used by container {container}")]
    InUse {
        /// The image's name or id.
        image: String,
        /// A container made from it.
        container: String,
    },
    /// A root filesystem has branches of the image.
    #[error("image {image} is used by the root filesystem {}", where_it_is(directory, *is_there))]
    HasRootfs {
        /// The image's name or id.
        image: String,
        /// Where the root filesystem was last seen.
        directory: PathBuf,
        /// Whether it is still there.
        is_there: bool,
    },
    /// Removing an image by its id would take away several names at once.
    #[error("image {image} has several names: {names}")]
    SeveralNames {
        /// The id that was given.
        image: String,
        /// All of them.
        names: String,
    },
    /// A file of the store does not say what it should.
    #[error("{path} of the store is damaged: {problem}")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The store was made by a version that keeps things differently.
    #[error("the store at {0} has an unknown format")]
    UnknownFormat(PathBuf),
}

impl Error {
    /// What the reader can try, when the cause is known to us.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            Self::Io { source, .. } | Self::Extract { source, .. } => source,
            Self::Mismatch { resumed: true, .. } => {
                return Some("what an earlier pull left was damaged and is gone now: pull again");
            }
            Self::Mismatch { .. } => {
                return Some(
                    "what arrived is not what the manifest promises: pull again, or ask \
                             whoever runs the registry",
                );
            }
            Self::Decompress { .. } | Self::Archive { .. } => {
                return Some("the layer arrived as its author made it: the image itself is faulty");
            }
            Self::NoImage(_) => return Some("`images` lists what there is; `pull` gets more"),
            Self::HasRootfs { is_there: true, .. } => {
                return Some("remove the root filesystem first, or use --force");
            }
            Self::HasRootfs { .. } => {
                return Some(
                    "if it was moved, its branches need the image; if it was removed, \
                     `crun-cargo image prune --lost-rootfs` forgets it",
                );
            }
            Self::InUse { .. } => return Some("remove the container first, or use --force"),
            Self::SeveralNames { .. } => {
                return Some("remove the names one by one, or use --force");
            }
            Self::Damaged { .. } => {
                return Some("`check` lists what is damaged, `check --repair` removes it");
            }
            _ => return None,
        };
        match source.kind() {
            io::ErrorKind::StorageFull => Some(
                "the disk is full: `system df` shows what the store holds, `image prune` makes room",
            ),
            io::ErrorKind::QuotaExceeded => Some("the disk quota is used up"),
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("the store is on a read-only filesystem: choose another with --root")
            }
            io::ErrorKind::PermissionDenied => {
                Some("the store belongs to another user: choose another with --root")
            }
            _ => None,
        }
    }

    /// Whether the same pull may succeed when it is simply tried again, from the beginning.
    pub fn is_stale_partial(&self) -> bool {
        matches!(self, Self::Mismatch { resumed: true, .. })
    }
}

fn where_it_is(directory: &std::path::Path, is_there: bool) -> String {
    let end = if is_there { "" } else { ", which is not there any more" };
    format!("{}{end}", directory.display())
}

fn named(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!(": {entry}") }
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names what was being done when a system call fails.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str, object: impl ToString) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str, object: impl ToString) -> Result<T> {
        self.map_err(|source| Error::Io {
            operation,
            object: object.to_string(),
            source: source.into(),
        })
    }
}

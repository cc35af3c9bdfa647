//! What overlayfs reads from a layer: whiteouts, opaque directories, and names it keeps for itself.

use std::{
    ffi::OsStr,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use rustix::fs::{FileType, Mode, Stat};
use serde::{Deserialize, Serialize};

/// In a layer's tar, hides the rest of the name below.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// After [`WHITEOUT_PREFIX`], hides everything below the directory it is in.
pub(crate) const OPAQUE_SUFFIX: &[u8] = b".wh..opq";
/// Names aufs kept for itself in the layers of its day.
pub(crate) const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Whose extended attributes steer the mount: `trusted.overlay.*`, or `user.overlay.*` where the former
/// cannot be set (mount option `userxattr`, Linux 5.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Namespace {
    #[default]
    Trusted,
    User,
}

impl Namespace {
    /// What works on this directory; it is left as it was.
    pub(crate) fn probe(directory: impl AsFd) -> io::Result<Self> {
        let name = OsStr::new("trusted.overlay.probe");
        match sys::xattr::set(&directory, name, b"y") {
            Ok(()) => sys::xattr::remove(&directory, name).map(|()| Self::Trusted),
            Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => Ok(Self::User),
            // No attributes at all: there will be no overlay either, only copies.
            Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(Self::Trusted),
            Err(error) => Err(error),
        }
    }

    /// What works in the store at `root`.
    pub(crate) fn probe_store(root: &std::path::Path) -> crate::error::Result<Self> {
        use crate::error::During;
        // Whoever may set them on one file of a filesystem may on another.
        sys::Root::open(root).and_then(Self::probe).during("probe attributes of", root.display())
    }

    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The name under which a layer's attribute is stored: what overlayfs would obey gets the prefix
    /// twice, which it takes away again in the mount (Linux 6.7; older ones hide it) (D-7).
    pub(crate) fn escape(self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.prefix()) {
            Some(rest) => [self.prefix(), b"overlay.", rest].concat(),
            None => name.to_vec(),
        }
    }

    /// Undoes [`Self::escape`]; `None` for attributes that are overlayfs' own.
    pub(crate) fn unescape(self, name: &[u8]) -> Option<Vec<u8>> {
        match name.strip_prefix(self.prefix()) {
            Some(rest) => rest.strip_prefix(b"overlay.").map(|rest| [self.prefix(), rest].concat()),
            None => Some(name.to_vec()),
        }
    }

    fn opaque(self) -> Vec<u8> {
        [self.prefix(), b"opaque"].concat()
    }
}

/// Hides what lower layers have in this directory.
pub(crate) fn make_opaque(directory: impl AsFd, namespace: Namespace) -> io::Result<()> {
    sys::xattr::set(directory, OsStr::from_bytes(&namespace.opaque()), b"y")
}

/// Whether a directory hides what lower layers have.
pub(crate) fn is_opaque(directory: impl AsFd, namespace: Namespace) -> io::Result<bool> {
    let value = sys::xattr::get(directory, OsStr::from_bytes(&namespace.opaque()))?;
    Ok(value.is_some_and(|value| value == b"y"))
}

/// Hides one name of lower layers. Needs no privilege since Linux 5.8.
pub(crate) fn make_whiteout(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    let device = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), device)
}

/// Whether a file hides its name in lower layers.
pub(crate) fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

//! A tree of files that others use and change meanwhile: a running container's, or the host's.
//!
//! What is copied from one tree to another travels as a tar. Every name is resolved beneath the tree's
//! root, which is a descriptor: whatever is renamed or replaced meanwhile, nothing leads out (D-38).

mod pack;
mod unpack;

pub use unpack::Keep;

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags};
use sys::Root;

use crate::error::{During, Result};

/// A directory that names are resolved in, as a chroot would resolve them.
#[derive(Debug)]
pub struct Tree {
    root: Root,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory,
    /// A symbolic link, with its text.
    Link(OsString),
    /// A file, or a device and the like.
    File,
}

impl Tree {
    /// The tree below a directory.
    pub fn new(directory: OwnedFd) -> Result<Self> {
        let root = Root::from_directory(directory).during("use", "a tree of files")?;
        Ok(Self { root })
    }

    /// The tree below a directory of this one: names in it cannot lead even to the rest of this.
    pub fn below(&self, directory: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = self.root.open_at(directory, flags, Mode::empty());
        Self::new(opened.during("open", directory.display())?)
    }

    /// What is at `path`; a link there is followed if `follow` says so, links on the way always are.
    pub fn look(&self, path: &Path, follow: bool) -> Result<Option<Place>> {
        let place = || -> io::Result<Place> {
            let file = self.open(path, follow)?;
            Ok(match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
                FileType::Directory => Place::Directory,
                FileType::Symlink => {
                    let text = rustix::fs::readlinkat(&file, "", Vec::new())?;
                    Place::Link(OsString::from_vec(text.into_bytes()))
                }
                _ => Place::File,
            })
        };
        match place() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).during("find", path.display()),
        }
    }

    fn open(&self, path: &Path, follow: bool) -> io::Result<OwnedFd> {
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.root.open_at(path, OFlags::PATH | last, Mode::empty())
    }
}

//! Filesystems made for the container on its way: nobody else has them yet.
//!
//! In them no name can be changed under us. What lies there is found from the filesystem itself, without the
//! walk from the root and the second look that a directory of the image's needs (D-24).

use std::{
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2},
    io::Errno,
};

use crate::spent;

/// By the places they were mounted at, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Vec<Filesystem>);

#[derive(Debug)]
struct Filesystem {
    at: PathBuf,
    tree: OwnedFd,
    is_procfs: bool,
}

/// Something in one of them.
pub(crate) struct Found {
    pub(crate) file: OwnedFd,
    pub(crate) is_procfs: bool,
}

impl Fresh {
    /// Something was mounted at a place to which no link leads: what lies below is covered.
    pub(crate) fn cover(&mut self, at: &Path) {
        self.0.retain(|known| !known.at.starts_with(at));
    }

    /// Something was mounted at a place that links lead to: it may have covered any of them.
    pub(crate) fn forget(&mut self) {
        self.0.drain(..).for_each(|known| spent::leave(known.tree));
    }

    pub(crate) fn add(&mut self, at: &Path, tree: OwnedFd, is_procfs: bool) {
        self.0.push(Filesystem { at: at.to_owned(), tree, is_procfs });
    }

    /// The filesystem mounted exactly there.
    pub(crate) fn mounted_at(&self, at: &Path) -> Option<&OwnedFd> {
        self.0.iter().rev().find(|known| known.at == at).map(|known| &known.tree)
    }

    /// Opens a place in the innermost of them; a directory just below its root is made when missing. `None`
    /// where it lies in none of them, or has to be looked for from the root after all.
    pub(crate) fn place(&self, name: &Path, kind: FileType) -> Option<Found> {
        let known = self.0.iter().filter(|known| name.starts_with(&known.at) && name != known.at);
        let known = known.max_by_key(|known| known.at.as_os_str().len())?;
        let rest = name.strip_prefix(&known.at).ok()?;
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        if kind == FileType::Directory && rest.components().count() == 1 {
            match mkdirat(&known.tree, rest, Mode::from_raw_mode(0o755)) {
                // Where nothing can be made, it has to be there.
                Ok(()) | Err(Errno::EXIST | Errno::PERM | Errno::NOENT | Errno::ROFS) => {}
                Err(_) => return None,
            }
        }
        // Not across what else may be mounted there.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(&known.tree, rest, flags, Mode::empty(), resolve).ok()?;
        Some(Found { file, is_procfs: known.is_procfs })
    }
}

//! Taking away what an earlier entry of the same archive made.
//!
//! Regular files are set aside instead of removed: their data stands in the tar, and only they hold it.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::{Extractor, Place, Result, system};
use crate::{name, tar::Entry};

impl Extractor<'_> {
    /// Makes the place of an entry empty.
    pub(super) fn clear(&mut self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        self.take_away(&*place.directory, place.last, &place.path).map_err(system(entry, "replace"))
    }

    fn take_away(&mut self, parent: impl AsFd, last: &OsStr, path: &[u8]) -> io::Result<()> {
        let found = rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => self.set_aside(parent, last, path),
            FileType::Directory => self.take_directory_away(parent, last, path),
            _ => Ok(rustix::fs::unlinkat(parent, last, AtFlags::empty())?),
        }
    }

    fn set_aside(&mut self, parent: impl AsFd, last: &OsStr, path: &[u8]) -> io::Result<()> {
        let lost = self.layer.join("lost");
        if self.result.lost.is_empty() {
            rustix::fs::mkdir(&lost, Mode::RWXU)?;
        }
        let number = self.result.lost.len().to_string();
        rustix::fs::renameat(parent, last, CWD, lost.join(number))?;
        self.listed += path.len() + 64;
        if self.listed > super::MAX_LISTED {
            return Err(io::Error::other("the layer replaces too many of its own files"));
        }
        self.result.lost.push(path.to_vec());
        Ok(())
    }

    /// Depth first, with the way down on a list: an archive may nest deeper than a stack.
    fn take_directory_away(
        &mut self,
        parent: impl AsFd,
        last: &OsStr,
        path: &[u8],
    ) -> io::Result<()> {
        self.parents.forget();
        self.result.implied.retain(|implied| !name::is_within(implied, path));
        self.result.links.retain(|link, _| !name::is_within(link, path));
        let top = open(parent.as_fd(), last)?;
        let mut way: Vec<(OwnedFd, Vec<u8>, OsString)> =
            vec![(top, path.to_vec(), last.to_owned())];
        while let Some((directory, path, _)) = way.last() {
            let Some((child, is_directory)) = first_child(directory)? else {
                let Some((_, _, last)) = way.pop() else { break };
                let above = way.last().map_or(parent.as_fd(), |(above, _, _)| above.as_fd());
                rustix::fs::unlinkat(above, &last, AtFlags::REMOVEDIR)?;
                continue;
            };
            let child_path = name::join(path, child.as_bytes());
            if is_directory {
                let opened = open(directory.as_fd(), &child)?;
                way.push((opened, child_path, child));
            } else {
                let directory = directory.try_clone()?;
                self.take_away(&directory, &child, &child_path)?;
            }
        }
        Ok(())
    }
}

fn open(parent: impl AsFd, last: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, last, flags, Mode::empty())?)
}

/// Any entry of a directory. Reading anew after each removal is what makes a directory that changes
/// under the reader harmless.
fn first_child(directory: &OwnedFd) -> io::Result<Option<(OsString, bool)>> {
    for child in rustix::fs::Dir::read_from(directory)? {
        let child = child?;
        let name = child.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let found = rustix::fs::statat(directory, child.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        return Ok(Some((OsStr::from_bytes(name).to_owned(), is_directory)));
    }
    Ok(None)
}

//! From a name to the directory that holds it, one component at a time, links resolved inside the layer.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{Extractor, Failure, Result, refuse, system};
use crate::{name, overlay, tar::Entry};

/// As many links as the kernel would follow.
const MAX_LINKS: usize = 40;

/// Directories opened lately. Archives go through a tree in order, so few are needed.
const REMEMBERED: usize = 64;

/// Directories by the path that led to them, links in it included.
#[derive(Default)]
pub(super) struct Parents(HashMap<Vec<u8>, (Rc<OwnedFd>, Vec<u8>)>);

impl Parents {
    /// What a name leads to may have changed.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// A directory on the way, and its real path.
type Step = (Rc<OwnedFd>, Vec<u8>);

impl Extractor<'_> {
    /// The directory `path` and its real path, made if the layer does not have it.
    pub(super) fn parent(&mut self, entry: &Entry, path: &[u8]) -> Result<Step> {
        if let Some(found) = self.parents.0.get(path) {
            return Ok(found.clone());
        }
        let found = self.walk(entry, path, true)?;
        let found = found.ok_or_else(|| refuse(&entry.path, "its directory cannot be made"))?;
        if self.parents.0.len() >= REMEMBERED {
            self.parents.forget();
        }
        self.parents.0.insert(path.to_vec(), found.clone());
        Ok(found)
    }

    /// The directory that holds `path`, and the real path of what it names; `None` if the layer has
    /// nothing there.
    pub(super) fn find(&mut self, entry: &Entry, path: &[u8]) -> Result<Option<Step>> {
        let (parent, last) = name::split(path);
        let found = match self.parents.0.get(parent) {
            Some(found) => Some(found.clone()),
            None => self.walk(entry, parent, false)?,
        };
        let Some((directory, real)) = found else { return Ok(None) };
        let last_name = OsStr::from_bytes(last);
        match rustix::fs::statat(&*directory, last_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(Some((directory, name::join(&real, last)))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(system(entry, "examine the target of")(error)),
        }
    }

    fn walk(&mut self, entry: &Entry, path: &[u8], create: bool) -> Result<Option<Step>> {
        // Most often only the last component is new.
        let (parent, last) = name::split(path);
        let known = if path.is_empty() { None } else { self.parents.0.get(parent).cloned() };
        let (mut here, mut left) = match known {
            Some(known) => (known, parts(last)),
            None => ((self.open_real(entry, b"")?, Vec::new()), parts(path)),
        };
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match part.as_slice() {
                b"/" => {
                    here = (self.open_real(entry, b"")?, Vec::new());
                    continue;
                }
                b".." => {
                    let above = if here.1.is_empty() { &[] } else { name::split(&here.1).0 };
                    here = (self.open_real(entry, above)?, above.to_vec());
                    continue;
                }
                _ => {}
            }
            let path = name::join(&here.1, &part);
            let last = OsStr::from_bytes(&part);
            match open(&here.0, last) {
                Ok(found) => here = (Rc::new(found), path),
                Err(Errno::NOENT) if create => {
                    here = (self.imply(entry, &here.0, last, &path)?, path);
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    match self.not_a_directory(entry, &here.0, last, create)? {
                        Other::Link(target) => {
                            links += 1;
                            if links > MAX_LINKS || target.len() > 4095 {
                                return Err(refuse(&entry.path, "too many links on the way"));
                            }
                            let mut more = parts(&target);
                            more.append(&mut left);
                            left = more;
                        }
                        Other::Made(directory) => here = (directory, path),
                        Other::Nothing => return Ok(None),
                    }
                }
                Err(error) => return Err(system(entry, "open the directory of")(error)),
            }
        }
        Ok(Some(here))
    }

    /// Opens a directory by the path it was found to have, which contains no links.
    fn open_real(&self, entry: &Entry, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let path = Path::new(OsStr::from_bytes(path));
        let found = self.root.open_plain(path, OFlags::RDONLY | OFlags::DIRECTORY);
        Ok(Rc::new(found.map_err(system(entry, "open the directory of"))?))
    }

    /// Makes a directory the layer has no entry for, or not yet.
    fn imply(
        &mut self,
        entry: &Entry,
        here: &OwnedFd,
        last: &OsStr,
        path: &[u8],
    ) -> Result<Rc<OwnedFd>> {
        rustix::fs::mkdirat(here, last, Mode::RWXU)
            .map_err(system(entry, "create the directory of"))?;
        self.list(entry, path.len())?;
        self.result.implied.insert(path.to_vec());
        // What was to be linked here from below cannot be: something stands below it now.
        self.result.links.remove(path);
        let made = open(here, last).map_err(system(entry, "open the directory of"))?;
        Ok(Rc::new(made))
    }

    fn not_a_directory(
        &mut self,
        entry: &Entry,
        here: &OwnedFd,
        last: &OsStr,
        create: bool,
    ) -> Result<Other> {
        let found = rustix::fs::statat(here, last, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system(entry, "examine the directory of"))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(here, last, Vec::new())
                .map_err(system(entry, "read a link on the way to"))?;
            return Ok(Other::Link(target.into_bytes()));
        }
        if !overlay::is_whiteout(&found) {
            return if create {
                Err(refuse(&entry.path, "its directory is a file"))
            } else {
                Ok(Other::Nothing)
            };
        }
        if !create {
            return Ok(Other::Nothing);
        }
        // Removed and made anew: nothing of the old one may show through.
        let replace = || -> io::Result<OwnedFd> {
            rustix::fs::unlinkat(here, last, AtFlags::empty())?;
            rustix::fs::mkdirat(here, last, Mode::RWXU)?;
            let made = open(here, last)?;
            overlay::make_opaque(&made, self.result.namespace)?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
            Ok(made)
        };
        let made = replace().map_err(|source| Failure::System {
            entry: entry.path.clone(),
            operation: "create the directory of",
            source,
        })?;
        Ok(Other::Made(Rc::new(made)))
    }
}

/// What stands where a directory was looked for.
enum Other {
    Link(Vec<u8>),
    Made(Rc<OwnedFd>),
    Nothing,
}

fn open(here: &OwnedFd, last: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(here, last, flags, Mode::empty())
}

/// Components of a path or a link; a leading slash is one.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let mut parts = VecDeque::new();
    if path.starts_with(b"/") {
        parts.push_back(b"/".to_vec());
    }
    let names = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.extend(names.map(<[u8]>::to_vec));
    parts
}

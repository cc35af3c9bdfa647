//! Several layers seen as one tree, as overlayfs would show them, without mounting.
//!
//! For what must work where nothing can be mounted, and for looking below a layer. Directories are opened
//! anew for each question: with a thousand layers, keeping them open would exhaust descriptors.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, OFlags, Stat},
    io::Errno,
};
use sys::Root;

use crate::{
    name,
    overlay::{self, Namespace},
};

/// As many links as the kernel would follow.
const MAX_LINKS: usize = 40;

/// Layers, topmost first.
#[derive(Clone, Debug)]
pub(crate) struct Union {
    layers: Vec<PathBuf>,
    namespace: Namespace,
    /// The layer that says what the root directory looks like.
    root: usize,
}

/// What a path shows.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The layer whose object it is.
    pub(crate) layer: usize,
    pub(crate) stat: Stat,
    /// For a directory, the layers that contribute to it, topmost first.
    pub(crate) layers: Vec<usize>,
    /// For a directory, the layer in which something else than a directory ends the merging.
    pub(crate) ended_by: Option<usize>,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

impl Union {
    pub(crate) fn new(layers: Vec<PathBuf>, namespace: Namespace) -> Self {
        Self { layers, namespace, root: 0 }
    }

    /// The same, with the root directory's metadata from one of the layers instead of the topmost.
    pub(crate) fn with_root(mut self, root: Option<&Path>) -> Self {
        let is_root = |layer: &PathBuf| Some(layer.as_path()) == root;
        self.root = self.layers.iter().position(is_root).unwrap_or(0);
        self
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// The root directory.
    pub(crate) fn root(&self) -> io::Result<Found> {
        let all: Vec<usize> = (0..self.layers.len()).collect();
        let mut found = self.merge(&all, b"")?.ok_or(Errno::NOENT)?;
        if self.root != found.layer {
            found.stat = rustix::fs::fstat(self.open(self.root, b"", OFlags::PATH)?)?;
            found.layer = self.root;
        }
        Ok(found)
    }

    /// What is at `path`, which must not lead through a symlink.
    pub(crate) fn lookup(&self, path: &[u8]) -> io::Result<Option<Found>> {
        if self.layers.is_empty() {
            return Ok(None);
        }
        let mut found = self.root()?;
        if path.is_empty() {
            return Ok(Some(found));
        }
        let mut done = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            if !found.is_directory() {
                return Ok(None);
            }
            done = name::join(&done, part);
            match self.merge(&found.layers, &done)? {
                Some(next) => found = next,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The path of what `path` leads to, symlinks followed inside the tree; `None` where it leads nowhere.
    pub(crate) fn resolve(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (mut real, mut left) = (Vec::new(), path.to_vec());
        let mut links = 0;
        loop {
            let next = left.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
            let rest = left.get(next.len() + 1..).unwrap_or_default().to_vec();
            let ended = next.len() == left.len();
            left = rest;
            match next.as_slice() {
                b"" | b"." => {}
                b".." => real = if real.is_empty() { real } else { name::split(&real).0.to_vec() },
                _ => {
                    let path = name::join(&real, &next);
                    let Some(found) = self.lookup(&path)? else { return Ok(None) };
                    if found.kind() == FileType::Symlink {
                        links += 1;
                        if links > MAX_LINKS {
                            return Ok(None);
                        }
                        let target = self.read_link(&found, &path)?;
                        if target.starts_with(b"/") {
                            real.clear();
                        }
                        left = [target.as_slice(), b"/", &left].concat();
                        continue;
                    }
                    real = path;
                }
            }
            if ended {
                return Ok(Some(real));
            }
        }
    }

    pub(crate) fn read_link(&self, found: &Found, path: &[u8]) -> io::Result<Vec<u8>> {
        let link = self.open(found.layer, path, OFlags::PATH)?;
        Ok(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes())
    }

    /// Opens what one layer has at `path`.
    pub(crate) fn open(&self, layer: usize, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let layer = self.layers.get(layer).ok_or(Errno::NOENT)?;
        Root::open(layer)?.open_plain(Path::new(OsStr::from_bytes(path)), flags)
    }

    /// What the given layers show together at `path`, whose parent they all contribute to.
    fn merge(&self, layers: &[usize], path: &[u8]) -> io::Result<Option<Found>> {
        let mut result: Option<Found> = None;
        for layer in layers {
            let file = match self.open(*layer, path, OFlags::PATH) {
                Ok(file) => file,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            let stat = rustix::fs::fstat(&file)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match &mut result {
                Some(found) if !is_directory => {
                    if !overlay::is_whiteout(&stat) {
                        found.ended_by = Some(*layer);
                    }
                    break;
                }
                Some(found) => found.layers.push(*layer),
                None if overlay::is_whiteout(&stat) => return Ok(None),
                None => {
                    let layers = if is_directory { vec![*layer] } else { Vec::new() };
                    result = Some(Found { layer: *layer, stat, layers, ended_by: None });
                }
            }
            if !is_directory || (!path.is_empty() && overlay::is_opaque(&file, self.namespace)?) {
                break;
            }
        }
        Ok(result)
    }

    /// The names in a directory and what they show, sorted.
    pub(crate) fn children(
        &self,
        path: &[u8],
        directory: &Found,
    ) -> io::Result<BTreeMap<Vec<u8>, Found>> {
        let mut shown = BTreeMap::new();
        let mut closed = std::collections::HashSet::new();
        for layer in &directory.layers {
            let opened = match self.open(*layer, path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(opened) => opened,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            for child in Dir::read_from(&opened)? {
                let child = child?;
                let name = child.file_name().to_bytes();
                if matches!(name, b"." | b"..") || closed.contains(name) {
                    continue;
                }
                let stat =
                    rustix::fs::statat(&opened, child.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let is_last = !is_directory || self.is_opaque_child(&opened, child.file_name())?;
                if is_last {
                    closed.insert(name.to_vec());
                }
                match shown.get_mut(name) {
                    None if overlay::is_whiteout(&stat) => {}
                    None => {
                        let layers = if is_directory { vec![*layer] } else { Vec::new() };
                        let found = Found { layer: *layer, stat, layers, ended_by: None };
                        shown.insert(name.to_vec(), found);
                    }
                    Some(found) if is_directory => found.layers.push(*layer),
                    Some(found) if !overlay::is_whiteout(&stat) => found.ended_by = Some(*layer),
                    Some(_) => {}
                }
            }
        }
        Ok(shown)
    }

    fn is_opaque_child(&self, parent: &OwnedFd, name: &std::ffi::CStr) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let child = rustix::fs::openat(parent, name, flags, rustix::fs::Mode::empty())?;
        overlay::is_opaque(&child, self.namespace)
    }

    /// Visits everything, a directory before what is in it, names sorted; the root has an empty path.
    ///
    /// The way down is on a list, as a tree may be deeper than a stack.
    pub(crate) fn walk<E: From<io::Error>>(
        &self,
        mut visit: impl FnMut(&[u8], &Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = self.root()?;
        visit(b"", &root)?;
        let mut way = vec![(Vec::new(), self.children(b"", &root)?.into_iter())];
        while let Some((path, children)) = way.last_mut() {
            let Some((name, found)) = children.next() else {
                way.pop();
                continue;
            };
            let path = name::join(path, &name);
            visit(&path, &found)?;
            if found.is_directory() {
                let children = self.children(&path, &found)?.into_iter();
                way.push((path, children));
            }
        }
        Ok(())
    }
}

/// Nothing there, or something that is no directory on the way.
fn is_absent(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

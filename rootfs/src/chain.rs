//! Layers put on top of each other.
//!
//! A layer is unpacked without knowing what will be below it. Where that matters, a thin patch directory
//! directly above the layer completes it for one chain: directories it only implies get the metadata of
//! those below (or step aside for a symlink below), and hard links to files of lower layers come to be.
//! Most layers need none.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use oci_spec::image::Digest;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sys::Root;

use crate::{
    copy::{self, Attributes},
    error::{During, Error, Result},
    layer::{
        self,
        record::{Record, boot_id},
    },
    name, overlay, remove,
    store::{Store, create, hex, is_there, private_directory},
    union::{Found, Union},
};

/// Directories to mount, relative to the store, topmost first; and where the root's metadata comes from.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) lower: Vec<PathBuf>,
    /// The topmost layer with an entry for its root.
    pub(crate) root: Option<PathBuf>,
    pub(crate) namespace: overlay::Namespace,
    /// Layers and patches, for making durable.
    pub(crate) parts: Vec<PathBuf>,
}

/// Whether a patch is worth mounting, and since when it exists.
#[derive(Serialize, Deserialize)]
struct PatchRecord {
    boot: String,
    is_empty: bool,
}

impl Store {
    /// Puts layers on top of each other, the lowest first, making the patches that are missing.
    pub(crate) fn assemble(&self, diff_ids: &[Digest]) -> Result<Chain> {
        let mut chain = Chain::default();
        let mut id = String::new();
        for diff_id in diff_ids {
            id = next_id(&id, diff_id);
            let directory = PathBuf::from("layers").join(hex(diff_id)?);
            let record = Record::read(&self.root().join(&directory))
                .map_err(|_| Error::NoLayer(diff_id.clone()))?;
            chain.namespace = record.namespace;
            if record.root_is_opaque {
                chain.lower.clear();
            }
            let files = directory.join("files");
            let patch = self.patch(&id, &chain, &files, &record)?;
            // overlayfs refuses a directory that is given twice. The one below has nothing that the same
            // one on top does not cover.
            chain.lower.retain(|below| *below != files);
            chain.lower.insert(0, files.clone());
            if let Some(patch) = patch {
                chain.lower.insert(0, patch.join("files"));
                chain.parts.push(patch);
            }
            if record.has_root {
                chain.root = Some(files);
            }
            chain.parts.push(directory);
        }
        Ok(chain)
    }

    /// A patch that is complete and survived.
    fn known_patch(&self, directory: &Path) -> Option<PatchRecord> {
        let path = self.root().join(directory);
        let record: PatchRecord =
            serde_json::from_slice(&fs::read(path.join("record")).ok()?).ok()?;
        let survived = record.boot == boot_id()
            || is_there(&path.join("durable"))
            || self.is_vouched_for(directory).unwrap_or(false);
        survived.then_some(record)
    }

    fn patch(
        &self,
        id: &str,
        below: &Chain,
        files: &Path,
        record: &Record,
    ) -> Result<Option<PathBuf>> {
        let needs_links = record.links().next().is_some();
        if !needs_links && (record.implied().next().is_none() || below.lower.is_empty()) {
            return Ok(None);
        }
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let directory = PathBuf::from("chains").join(hex);
        let path = self.root().join(&directory);
        if let Some(known) = self.known_patch(&directory) {
            return Ok((!known.is_empty).then_some(directory));
        }
        let temporary = self.temporary("chain");
        let new = temporary.join("files");
        private_directory(&new).during("create", new.display())?;
        let is_empty = {
            let absolute = |path: &PathBuf| self.root().join(path);
            let lower: Vec<PathBuf> = below.lower.iter().map(absolute).collect();
            let mut with_layer = vec![self.root().join(files)];
            with_layer.extend(lower.iter().cloned());
            let patch = Patch {
                below: Union::new(lower, record.namespace),
                merged: Union::new(with_layer, record.namespace),
                root: Root::open(&new).during("open", new.display())?,
                record,
                directories: Vec::new(),
            };
            patch.make(&record.diff_id)?
        };
        let mark = serde_json::to_vec(&PatchRecord { boot: boot_id(), is_empty });
        let file = temporary.join("record");
        mark.map_err(io::Error::from)
            .and_then(|mark| io::Write::write_all(&mut create(&file)?, &mark))
            .during("write", file.display())?;
        if is_there(&path) && self.known_patch(&directory).is_none() {
            remove::to_trash(self, &path)?;
        }
        match fs::rename(&temporary, &path) {
            // Another process assembled the same chain meanwhile.
            Err(_) if self.known_patch(&directory).is_some() => {
                remove::tree(&temporary).during("remove", temporary.display())?;
            }
            other => other.during("complete", path.display())?,
        }
        Ok((!is_empty).then_some(directory))
    }
}

/// The chain id of a layer on top of a chain, as the OCI specification computes it.
pub(crate) fn next_id(below: &str, diff_id: &Digest) -> String {
    if below.is_empty() {
        return diff_id.to_string();
    }
    let hasher = Sha256::new().chain_update(format!("{below} {diff_id}"));
    format!("sha256:{}", layer::hex(hasher))
}

/// A patch being made.
struct Patch<'p> {
    /// The chain below the layer.
    below: Union,
    /// The same with the layer on top.
    merged: Union,
    root: Root,
    record: &'p Record,
    /// Directories to complete at the end: path here, path and layer in `merged`.
    directories: Vec<(Vec<u8>, Vec<u8>, usize)>,
}

impl Patch<'_> {
    /// Returns whether nothing was needed.
    fn make(mut self, layer: &Digest) -> Result<bool> {
        let mut moved: Option<Vec<u8>> = None;
        let implied: BTreeSet<Vec<u8>> = self.record.implied().collect();
        for path in &implied {
            if moved.as_ref().is_some_and(|moved| name::is_within(path, moved)) {
                continue;
            }
            if self.imply(path, &implied).during("complete", name::printable(path))? {
                moved = Some(path.clone());
            }
        }
        for (link, target) in self.record.links() {
            let made = self.link(&link, &target).during("link", name::printable(&link))?;
            if !made {
                return Err(Error::Archive {
                    layer: layer.clone(),
                    entry: name::printable(&link),
                    problem: "a hard link to a file that does not exist".to_owned(),
                });
            }
        }
        self.finish().during("complete", "a chain of layers")
    }

    /// Gives an implied directory what is below it; true if its content had to move elsewhere, because a
    /// symlink below says so.
    fn imply(&mut self, path: &[u8], implied: &BTreeSet<Vec<u8>>) -> io::Result<bool> {
        let Some(found) = self.merged.lookup(path)? else { return Ok(false) };
        match (found.layers.get(1), found.ended_by) {
            (Some(layer), _) => {
                self.directory(path)?;
                self.directories.push((path.to_vec(), path.to_vec(), *layer));
                Ok(false)
            }
            (None, Some(_)) => self.move_behind_link(path, implied),
            // The layer hides what the directory had, not what it was.
            (None, None) => {
                if let Some(below) = self.below.lookup(path)?.filter(Found::is_directory) {
                    self.directory(path)?;
                    self.directories.push((path.to_vec(), path.to_vec(), below.layer + 1));
                }
                Ok(false)
            }
        }
    }

    /// The layer's directory stands where the chain below has a symlink: unpacked on top of each other,
    /// its content would have gone where the link leads.
    fn move_behind_link(&mut self, path: &[u8], implied: &BTreeSet<Vec<u8>>) -> io::Result<bool> {
        let Some(link) = self.below.lookup(path)? else { return Ok(false) };
        if link.kind() != FileType::Symlink {
            return Ok(false);
        }
        let Some(real) = self.below.resolve(path)? else { return Ok(false) };
        if !self.below.lookup(&real)?.is_some_and(|found| found.is_directory()) {
            return Ok(false);
        }
        let (parent, last) = name::split(path);
        let parent = self.directory(parent)?;
        let from = self.below.open(link.layer, path, OFlags::PATH)?;
        let last = OsStr::from_bytes(last);
        self.copy(&from, &link.stat, &parent, last)?;
        self.move_tree(path, &real, implied)?;
        Ok(true)
    }

    fn move_tree(&mut self, from: &[u8], to: &[u8], implied: &BTreeSet<Vec<u8>>) -> io::Result<()> {
        let mut left = vec![Vec::new()];
        while let Some(inner) = left.pop() {
            let (old, new) = (name::join_any(from, &inner), name::join_any(to, &inner));
            let here = self.merged.open(0, &old, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let there = self.directory(&new)?;
            let shown_below = self.below.lookup(&new)?.filter(Found::is_directory);
            match shown_below {
                Some(found) if implied.contains(&old) => {
                    self.directories.push((new.clone(), new.clone(), found.layer + 1));
                }
                _ => self.directories.push((new.clone(), old.clone(), 0)),
            }
            if overlay::is_opaque(&here, self.merged.namespace())? {
                overlay::make_opaque(&reopen(&there)?, self.merged.namespace())?;
            }
            for child in rustix::fs::Dir::read_from(&here)? {
                let child = child?;
                let last = child.file_name().to_bytes();
                if matches!(last, b"." | b"..") {
                    continue;
                }
                let stat = rustix::fs::statat(&here, child.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    left.push(name::join(&inner, last));
                    continue;
                }
                let link = rustix::fs::linkat(
                    &here,
                    child.file_name(),
                    &there,
                    child.file_name(),
                    AtFlags::empty(),
                );
                match link {
                    Err(Errno::EXIST) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Makes a hard link whose target only lower layers have; false if they do not have it either.
    fn link(&mut self, link: &[u8], target: &[u8]) -> io::Result<bool> {
        let (parent, last) = name::split(target);
        let Some(real_parent) = self.below.resolve(parent)? else { return Ok(false) };
        let target = name::join(&real_parent, last);
        let Some(found) = self.below.lookup(&target)?.filter(|found| !found.is_directory()) else {
            return Ok(false);
        };
        let from = self.below.open(found.layer, &target, OFlags::PATH)?;
        let (parent, last) = name::split(link);
        let there = self.directory(parent)?;
        // Both names in one place, so that they stay one file, unless the layer replaced the target.
        let same = self.merged.lookup(&target)?.is_some_and(|shown| {
            (shown.stat.st_dev, shown.stat.st_ino) == (found.stat.st_dev, found.stat.st_ino)
        });
        if !same {
            self.copy(&from, &found.stat, &there, OsStr::from_bytes(last))?;
            return Ok(true);
        }
        let (target_parent, target_last) = name::split(&target);
        let source = self.directory(target_parent)?;
        let target_last = OsStr::from_bytes(target_last);
        match self.copy(&from, &found.stat, &source, target_last) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        rustix::fs::linkat(
            &source,
            target_last,
            &there,
            OsStr::from_bytes(last),
            AtFlags::empty(),
        )?;
        Ok(true)
    }

    fn copy(
        &self,
        from: &OwnedFd,
        stat: &rustix::fs::Stat,
        to: &OwnedFd,
        last: &OsStr,
    ) -> io::Result<()> {
        copy::object(from, stat, to, last, self.merged.namespace(), Attributes::Stored)
    }

    /// Opens a directory of the patch. Those on the way that are made will look like what they cover.
    fn directory(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        let open = OFlags::PATH | OFlags::DIRECTORY;
        let mut done = Vec::new();
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let (parent, last) = (done.clone(), part);
            done = name::join(&done, last);
            let parent = self.root.open_plain(Path::new(OsStr::from_bytes(&parent)), open)?;
            match rustix::fs::mkdirat(&parent, OsStr::from_bytes(last), Mode::RWXU) {
                Err(Errno::EXIST) => {}
                other => {
                    other?;
                    if let Some(found) = self.merged.lookup(&done)?
                        && found.is_directory()
                    {
                        self.directories.push((done.clone(), done.clone(), found.layer));
                    }
                }
            }
        }
        self.root.open_plain(Path::new(OsStr::from_bytes(path)), open)
    }

    /// Completes directories, children before parents; later wishes for one path are the better ones.
    fn finish(self) -> io::Result<bool> {
        let top = self.root.open_plain(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let is_empty = rustix::fs::Dir::read_from(&top)?
            .filter_map(std::result::Result::ok)
            .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."));
        let mut wishes = std::collections::BTreeMap::new();
        for (path, source, layer) in self.directories {
            wishes.insert(path, (source, layer));
        }
        for (path, (source, layer)) in wishes.into_iter().rev() {
            let path = Path::new(OsStr::from_bytes(&path));
            let to = self.root.open_plain(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            copy::directory(&self.merged, &source, layer, &to)?;
        }
        Ok(is_empty)
    }
}

fn reopen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, ".", flags, Mode::empty())?)
}

//! One layer's tar becomes files in overlay form, beneath a directory handle.
//!
//! Nobody else can write where this runs (a 0700 temporary directory), so what is hostile is the archive
//! alone: every name is walked one component at a time without following, and links are resolved as a
//! chroot would resolve them (D-1 to D-5).

mod directories;
mod metadata;
mod replace;
mod walk;

pub(crate) use directories::Pending;
pub(crate) use metadata::{owner, set_xattr, times};

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::File,
    io::{self, BufRead},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sys::Root;

use crate::{
    name,
    overlay::{self, Namespace},
    owners::Owners,
    recipe,
    tar::{self, Archive, Entry, Kind, Segment},
};

/// What went wrong, before it is known for which layer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The archive is at fault.
    Archive { entry: Vec<u8>, problem: String },
    /// The system is.
    System { entry: Vec<u8>, operation: &'static str, source: io::Error },
    /// The bytes did not come.
    Input(io::Error),
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// How much a layer may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    /// Bytes that are not zeros, which cost no disk: a guard against bombs.
    pub(crate) dense: u64,
    /// Bytes the filesystem can spare.
    pub(crate) room: u64,
    pub(crate) entries: u64,
}

/// What the files alone do not say about a layer.
#[derive(Debug, Default)]
pub(crate) struct Extracted {
    /// Directories without an entry of their own: they look like what is below them.
    pub(crate) implied: BTreeSet<Vec<u8>>,
    /// Hard links to paths this layer does not have.
    pub(crate) links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Files that a later entry replaced, in order; the n-th is `lost/<n>`.
    pub(crate) lost: Vec<Vec<u8>>,
    /// Whether the root directory has an entry.
    pub(crate) has_root: bool,
    /// Whether everything below this layer is hidden.
    pub(crate) root_is_opaque: bool,
    pub(crate) entries: u64,
    /// Bytes of file data.
    pub(crate) bytes: u64,
    /// Which extended attributes the overlay mount must look at.
    pub(crate) namespace: Namespace,
}

/// No honest layer needs more memory for its lists of odd paths.
const MAX_LISTED: usize = 16 << 20;

pub(crate) struct Extractor<'a> {
    root: Root,
    /// `files`' parent, where replaced files and the list of directories go.
    layer: &'a Path,
    limits: Limits,
    parents: walk::Parents,
    directories: directories::Pending,
    result: Extracted,
    listed: usize,
    /// Permission bits the process's umask takes away.
    umask: u32,
    owners: Owners,
    warned: bool,
    warned_of_owners: bool,
}

impl<'a> Extractor<'a> {
    /// Extracts into `layer/files`, which is made.
    pub(crate) fn new(layer: &'a Path, limits: Limits) -> Result<Self> {
        let system = |operation| {
            move |source: io::Error| Failure::System { entry: Vec::new(), operation, source }
        };
        let files = layer.join("files");
        rustix::fs::mkdir(&files, Mode::from_raw_mode(0o777))
            .map_err(|error| system("create the layer's directory")(error.into()))?;
        let root = Root::open(&files).map_err(system("open the layer's directory"))?;
        let made = rustix::fs::fstat(&root).map_err(|error| system("examine")(error.into()))?;
        let namespace = Namespace::probe(&root).map_err(system("probe attributes of"))?;
        Ok(Self {
            root,
            layer,
            limits,
            parents: walk::Parents::default(),
            directories: directories::Pending::new(layer).map_err(system("create a file in"))?,
            result: Extracted { namespace, ..Extracted::default() },
            listed: 0,
            umask: !made.st_mode & 0o777,
            owners: Owners::here(),
            warned: false,
            warned_of_owners: false,
        })
    }

    /// Extracts everything; on return the archive was read to its end.
    pub(crate) fn run<R: BufRead>(
        mut self,
        input: R,
        recipe: &mut recipe::Writer,
    ) -> Result<Extracted> {
        let mut archive = Archive::new(input);
        let none = |error| failure(error, b"");
        while let Some(entry) = archive.next_entry().map_err(none)? {
            recipe.verbatim(archive.take_headers().as_slice()).map_err(|e| recording(e, &entry))?;
            self.result.entries += 1;
            if self.result.entries > self.limits.entries {
                return Err(refuse(&entry.path, "the layer has too many entries"));
            }
            let dense_left = self.limits.dense;
            let mut data = Data { archive: &mut archive, recipe, entry: &entry, dense_left };
            self.entry(&entry, &mut data)?;
            data.record_rest()?;
            self.limits.dense = data.dense_left;
        }
        let write = |error| Failure::System {
            entry: Vec::new(),
            operation: "write the recipe of",
            source: error,
        };
        recipe.verbatim(archive.take_headers().as_slice()).map_err(write)?;
        let mut failed = None;
        let rest = archive.rest(|piece| {
            recipe.verbatim(piece).map_err(|error| {
                failed = Some(write(error));
                io::ErrorKind::Other.into()
            })
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        rest.map_err(none)?;
        self.finish()
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, data: &mut Data<'_, R>) -> Result<()> {
        let path = name::clean(&entry.path).map_err(|problem| refuse(&entry.path, problem))?;
        if path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent, last) = name::split(&path);
        if let Some(hidden) = last.strip_prefix(overlay::WHITEOUT_PREFIX) {
            return self.whiteout(entry, parent, hidden);
        }
        // What aufs kept for itself; its users' tools never unpacked it either.
        if path.split(|byte| *byte == b'/').any(|part| part.starts_with(overlay::AUFS_PREFIX)) {
            return Ok(());
        }
        let mut parents = parent.split(|byte| *byte == b'/');
        if parents.any(|part| part.starts_with(overlay::WHITEOUT_PREFIX)) {
            return Err(refuse(&entry.path, "an entry below a whiteout"));
        }
        let place = self.place(entry, parent, last)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, &place),
            Kind::File => self.file(entry, &place, data),
            Kind::HardLink => self.hard_link(entry, &place, data),
            Kind::Symlink => self.symlink(entry, &place),
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.node(entry, &place, data)
            }
        }
    }

    /// The root's own entry: only its metadata is of interest.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refuse(&entry.path, "the root is not a directory"));
        }
        self.result.has_root = true;
        self.directories.add(b"", entry).map_err(system(entry, "record"))
    }

    /// Finds where an entry goes, making the directories above it that are missing.
    fn place<'n>(&mut self, entry: &Entry, parent: &[u8], last: &'n [u8]) -> Result<Place<'n>> {
        let (directory, real_parent) = self.parent(entry, parent)?;
        let path = name::join(&real_parent, last);
        // Whatever comes here now replaces what an earlier entry wanted to link here.
        self.result.links.remove(&path);
        Ok(Place { directory, path, last: OsStr::from_bytes(last) })
    }

    fn directory(&mut self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        self.make_directory(entry, place)?;
        self.result.implied.remove(&place.path);
        self.directories.add(&place.path, entry).map_err(system(entry, "record"))
    }

    /// A directory that exists stays, with all that is in it.
    fn make_directory(&mut self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        let make = || rustix::fs::mkdirat(&*place.directory, place.last, Mode::RWXU);
        match make() {
            Err(rustix::io::Errno::EXIST) => {}
            other => return other.map_err(system(entry, "create")),
        }
        let found = place.stat().map_err(system(entry, "examine"))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => return Ok(()),
            _ => self.clear(entry, place)?,
        }
        make().map_err(system(entry, "create"))?;
        if overlay::is_whiteout(&found) {
            // It takes the place of what it hid: nothing from below may show through.
            let made = place.open().map_err(system(entry, "open"))?;
            let namespace = self.result.namespace;
            overlay::make_opaque(&made, namespace).map_err(system(entry, "mark"))?;
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut Data<'_, R>,
    ) -> Result<()> {
        let is_simple = entry.mode & (0o7000 | self.umask) == 0
            && (self.owners.are_ours_to_give() || entry.xattrs.is_empty());
        let mode = if is_simple { entry.mode } else { 0o600 };
        let file = self.create(entry, place, mode)?;
        self.result.bytes = self.result.bytes.saturating_add(entry.stored);
        if self.result.bytes > self.limits.bytes {
            return Err(refuse(&entry.path, "the layer unpacks to too much data"));
        }
        if self.result.bytes > self.limits.room {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(system(entry, "make room for")(full));
        }
        data.copy(&file, &place.path)?;
        let done = metadata::Wanted { mode: (mode != entry.mode).then_some(entry.mode), entry };
        self.apply(&file, entry, &done)
    }

    fn create(&mut self, entry: &Entry, place: &Place<'_>, mode: u32) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open =
            || rustix::fs::openat(&*place.directory, place.last, flags, Mode::from_raw_mode(mode));
        let file = match open() {
            Err(rustix::io::Errno::EXIST) => {
                self.clear(entry, place)?;
                open()
            }
            other => other,
        };
        Ok(file.map_err(system(entry, "create"))?.into())
    }

    fn hard_link<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut Data<'_, R>,
    ) -> Result<()> {
        let target = name::clean(&entry.link).map_err(|problem| refuse(&entry.path, problem))?;
        if target.is_empty() {
            return Err(refuse(&entry.path, "a hard link to the root"));
        }
        let Some((directory, real)) = self.find(entry, &target)? else {
            return self.link_to_below(entry, place, target);
        };
        let (_, last) = name::split(&real);
        let last = OsStr::from_bytes(last);
        let found = rustix::fs::statat(&*directory, last, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system(entry, "examine the target of"))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(refuse(&entry.path, "a hard link to a directory"));
        }
        if overlay::is_whiteout(&found) {
            return Err(refuse(&entry.path, "a hard link to a file that was removed"));
        }
        if real == place.path {
            return Err(refuse(&entry.path, "a hard link to itself"));
        }
        let link = || {
            let to = (&*place.directory, place.last);
            rustix::fs::linkat(&*directory, last, to.0, to.1, AtFlags::empty())
        };
        match link() {
            Err(rustix::io::Errno::EXIST) => {
                self.clear(entry, place)?;
                link()
            }
            other => other,
        }
        .map_err(system(entry, "link"))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            data.recipe.data(&place.path, &[]).map_err(|error| recording(error, entry))?;
        }
        Ok(())
    }

    /// The target is not in this layer: one below may have it, which is seen when a chain is assembled.
    fn link_to_below(&mut self, entry: &Entry, place: &Place<'_>, target: Vec<u8>) -> Result<()> {
        if place.stat().is_ok() {
            self.clear(entry, place)?;
        }
        self.list(entry, place.path.len() + target.len())?;
        self.result.links.insert(place.path.clone(), target);
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > 4095 {
            return Err(refuse(&entry.path, "a symlink to nowhere"));
        }
        let target = OsStr::from_bytes(&entry.link);
        let make = || rustix::fs::symlinkat(target, &*place.directory, place.last);
        match make() {
            Err(rustix::io::Errno::EXIST) => {
                self.clear(entry, place)?;
                make()
            }
            other => other,
        }
        .map_err(system(entry, "create"))?;
        self.apply_unopened(entry, place)
    }

    fn node<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut Data<'_, R>,
    ) -> Result<()> {
        let kind = match entry.kind {
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind == FileType::CharacterDevice && entry.device == (0, 0) {
            // Overlayfs would take it for a whiteout (D-7). No driver answers at 0:0, so an empty file
            // that nobody may open is as much as the device was.
            let file = self.create(entry, place, 0)?;
            data.recipe.data(&place.path, &[]).map_err(|error| recording(error, entry))?;
            return self.apply(&file, entry, &metadata::Wanted { mode: Some(0), entry });
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = || rustix::fs::mknodat(&*place.directory, place.last, kind, mode, device);
        let made = match make() {
            Err(rustix::io::Errno::EXIST) => {
                self.clear(entry, place)?;
                make()
            }
            other => other,
        };
        match made {
            // In a user namespace no device can be made; its runtime provides those in /dev.
            Err(rustix::io::Errno::PERM) if !self.owners.may_make_devices() => return Ok(()),
            other => other.map_err(system(entry, "create"))?,
        }
        rustix::fs::chmodat(
            &*place.directory,
            place.last,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(system(entry, "change the mode of"))?;
        self.apply_unopened(entry, place)
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[u8], hidden: &[u8]) -> Result<()> {
        if hidden == overlay::OPAQUE_SUFFIX {
            if parent.is_empty() {
                self.result.root_is_opaque = true;
                return Ok(());
            }
            let (directory, _) = self.parent(entry, parent)?;
            let namespace = self.result.namespace;
            return overlay::make_opaque(&*directory, namespace).map_err(system(entry, "mark"));
        }
        if hidden.starts_with(overlay::WHITEOUT_PREFIX) {
            return Ok(()); // aufs again
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refuse(&entry.path, "a whiteout of nothing"));
        }
        let (directory, _) = self.parent(entry, parent)?;
        let last = OsStr::from_bytes(hidden);
        match rustix::fs::statat(&*directory, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => {
                overlay::make_whiteout(&*directory, last).map_err(system(entry, "create"))
            }
            Err(error) => Err(system(entry, "examine")(error)),
            // Only what is below is hidden, whichever entry of this layer came first (D-5).
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = rustix::fs::openat(&*directory, last, flags, Mode::empty())
                    .map_err(system(entry, "open"))?;
                let namespace = self.result.namespace;
                overlay::make_opaque(&found, namespace).map_err(system(entry, "mark"))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Accounts for a path that is kept in memory until the layer is complete.
    fn list(&mut self, entry: &Entry, length: usize) -> Result<()> {
        self.listed += length + 64;
        if self.listed > MAX_LISTED {
            return Err(refuse(&entry.path, "the layer implies too much that it does not contain"));
        }
        Ok(())
    }

    fn finish(self) -> Result<Extracted> {
        let failed = |operation| {
            move |source: io::Error| Failure::System { entry: Vec::new(), operation, source }
        };
        for path in &self.result.implied {
            directories::make_plain(&self.root, path).map_err(failed("complete a directory of"))?;
        }
        if !self.result.has_root {
            directories::make_plain(&self.root, b"").map_err(failed("complete the root of"))?;
        }
        let (pending, root) = (self.directories, &self.root);
        let mut warned = self.warned;
        pending
            .apply(
                |path| directories::open(root, path),
                &self.owners,
                self.result.namespace,
                &mut warned,
            )
            .map_err(failed("complete a directory of"))?;
        Ok(self.result)
    }
}

/// Where an entry goes.
pub(crate) struct Place<'n> {
    directory: std::rc::Rc<OwnedFd>,
    /// The path with links resolved.
    path: Vec<u8>,
    last: &'n OsStr,
}

impl Place<'_> {
    fn stat(&self) -> rustix::io::Result<rustix::fs::Stat> {
        rustix::fs::statat(&*self.directory, self.last, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Opens a directory that is there.
    fn open(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.directory, self.last, flags, Mode::empty())
    }
}

/// The data of the entry that is being extracted.
struct Data<'d, R> {
    archive: &'d mut Archive<R>,
    recipe: &'d mut recipe::Writer,
    entry: &'d Entry,
    dense_left: u64,
}

impl<R: BufRead> Data<'_, R> {
    /// Writes the data to its file, and to the recipe where it went.
    fn copy(&mut self, file: &File, path: &[u8]) -> Result<()> {
        let whole = [Segment { offset: 0, length: self.entry.stored }];
        let segments = self.entry.segments.as_deref().unwrap_or(&whole);
        self.recipe.data(path, segments).map_err(|error| recording(error, self.entry))?;
        let mut end = 0;
        for segment in segments {
            end = self.copy_segment(file, *segment)?;
        }
        if end != self.entry.size {
            file.set_len(self.entry.size).map_err(system(self.entry, "extend"))?;
        }
        Ok(())
    }

    /// Returns where the last written byte is; a file that ends in a hole must still be extended.
    fn copy_segment(&mut self, file: &File, segment: Segment) -> Result<u64> {
        let (mut offset, mut left) = (segment.offset, segment.length);
        let mut written = 0;
        while left > 0 {
            let piece = self.archive.data().map_err(|error| failure(error, &self.entry.path))?;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = piece.get(..wanted).unwrap_or(piece);
            let length = piece.len();
            let advance = u64::try_from(length).unwrap_or(u64::MAX);
            // Zeros become holes, so that a bomb of them costs no disk.
            if !is_long_and_zero(piece) {
                self.dense_left = self.dense_left.checked_sub(advance).ok_or_else(|| {
                    refuse(&self.entry.path, "the layer unpacks to a thousand times its size")
                })?;
                file.write_all_at(piece, offset).map_err(system(self.entry, "write"))?;
                written = offset.saturating_add(advance);
            }
            self.archive.consume(length);
            offset = offset.saturating_add(advance);
            left = left.saturating_sub(advance);
        }
        Ok(written)
    }

    /// Data that no file holds stays in the recipe.
    fn record_rest(&mut self) -> Result<()> {
        loop {
            let piece = self.archive.data().map_err(|error| failure(error, &self.entry.path))?;
            if piece.is_empty() {
                return Ok(());
            }
            self.recipe.verbatim(piece).map_err(|error| recording(error, self.entry))?;
            let length = piece.len();
            self.archive.consume(length);
        }
    }
}

/// Whether a piece of data is better a hole.
pub(crate) fn is_long_and_zero(piece: &[u8]) -> bool {
    piece.len() >= 4096
        && piece.chunks(64).all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}

fn refuse(entry: &[u8], problem: &str) -> Failure {
    Failure::Archive { entry: entry.to_vec(), problem: problem.to_owned() }
}

fn failure(error: tar::Error, entry: &[u8]) -> Failure {
    match error {
        tar::Error::Io(error) => Failure::Input(error),
        tar::Error::Malformed(problem) => refuse(entry, problem),
    }
}

fn recording(source: io::Error, entry: &Entry) -> Failure {
    Failure::System { entry: entry.path.clone(), operation: "write the recipe of", source }
}

fn system<E: Into<io::Error>>(entry: &Entry, operation: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::System { entry: entry.path.clone(), operation, source: error.into() }
}

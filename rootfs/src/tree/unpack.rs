//! From a tar into a tree.
//!
//! Directories that are there stay; anything else in the way of an entry is unlinked first, and no entry
//! takes a directory's place or puts one in the place of something else, as docker has it. Links on the
//! way to an entry are followed inside the tree, the entry itself never (D-2).

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::Tree;
use crate::{
    copy::unprivileged,
    error::{Error, Result},
    extract::{Pending, is_long_and_zero, owner, set_xattr, times},
    layer, name,
    overlay::Namespace,
    owners::Owners,
    tar::{self, Archive, Entry, Kind, Segment},
};

/// What of the files' metadata is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Owners, and what directories that are there already look like. Without: everything belongs to the
    /// caller.
    pub owners: bool,
    /// What could give whoever reaches it more than the caller meant to: setuid and setgid bits, devices,
    /// attributes that are not the users' own.
    pub privileges: bool,
}

impl Tree {
    /// Unpacks a tar, compressed or not, into `directory`, which must be there. Returns the bytes of data
    /// written.
    ///
    /// `scratch` is an empty file nobody else knows.
    pub fn unpack(
        &self,
        directory: &Path,
        archive: impl Read + Send,
        keep: Keep,
        scratch: File,
    ) -> Result<u64> {
        let input = |source| Error::Io { operation: "read", object: "the archive".into(), source };
        let archive = layer::decompress(BufReader::new(archive)).map_err(input)?;
        let mut archive = Archive::new(BufReader::new(archive));
        let mut unpacking = Unpacking {
            tree: self,
            directory,
            keep,
            directories: Pending::in_file(scratch),
            written: 0,
            warned: false,
        };
        while let Some(entry) = archive.next_entry().map_err(|error| malformed(error, b""))? {
            archive.take_headers();
            let entry = match unpacking.restrain(entry)? {
                Some(entry) => entry,
                None => continue,
            };
            unpacking.add(&entry, &mut archive)?;
            // Data of what has none here.
            pass(&mut archive, &entry)?;
        }
        // To the end, so that whoever writes the archive can finish.
        archive.rest(|_| Ok(())).map_err(|error| malformed(error, b""))?;
        unpacking.finish()
    }
}

struct Unpacking<'t> {
    tree: &'t Tree,
    directory: &'t Path,
    keep: Keep,
    directories: Pending,
    written: u64,
    warned: bool,
}

/// The directory an entry goes to, and its name there.
struct Target<'e> {
    parent: OwnedFd,
    last: &'e OsStr,
}

impl Unpacking<'_> {
    /// The entry with a clean path, as far as it may come in; `None` for one that may not.
    fn restrain(&mut self, mut entry: Entry) -> Result<Option<Entry>> {
        entry.path = name::clean(&entry.path).map_err(|problem| refuse(&entry.path, problem))?;
        if !self.keep.owners {
            (entry.uid, entry.gid) =
                (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        }
        // They steer overlayfs, where the tree is the upper directory of one (D-7).
        let steers = |name: &[u8]| {
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
        };
        entry.xattrs.retain(|(name, _)| !steers(name));
        if self.keep.privileges {
            return Ok(Some(entry));
        }
        entry.mode &= 0o1777;
        entry.xattrs.retain(|(name, _)| name.starts_with(b"user."));
        if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            log::warn!("{} is a device, and not copied", name::printable(&entry.path));
            return Ok(None);
        }
        Ok(Some(entry))
    }

    fn add<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        if entry.path.is_empty() {
            return self.root(entry);
        }
        let target = self.target(entry)?;
        match entry.kind {
            Kind::Directory => return self.make_directory(entry, &target),
            Kind::File => return self.file(entry, &target, archive),
            _ => {}
        }
        self.clear(entry, &target)?;
        let make = || -> io::Result<()> {
            let (parent, last) = (&target.parent, target.last);
            match entry.kind {
                Kind::HardLink => return self.hard_link(entry, &target),
                Kind::Symlink => {
                    rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, last)?;
                }
                kind => {
                    let (major, minor) = entry.device;
                    let device = rustix::fs::makedev(major, minor);
                    rustix::fs::mknodat(parent, last, node(kind), Mode::empty(), device)?;
                }
            }
            self.describe_unopened(entry, &target)
        };
        make().map_err(system(entry, "create"))
    }

    /// The directory everything goes to has an entry of its own.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refuse(&entry.path, "the root is not a directory"));
        }
        if !self.keep.owners {
            return Ok(());
        }
        self.later(entry)
    }

    fn target<'e>(&self, entry: &'e Entry) -> Result<Target<'e>> {
        let (parent, last) = name::split(&entry.path);
        let parent = self.place(parent);
        // What the archive does not describe looks as docker makes it.
        let parent = self.tree.root.make_directories(&parent, Mode::from_raw_mode(0o755));
        let parent = parent.map_err(system(entry, "open the directory of"))?;
        Ok(Target { parent, last: OsStr::from_bytes(last) })
    }

    /// Where a clean path of the archive is in the tree.
    fn place(&self, path: &[u8]) -> PathBuf {
        self.directory.join(OsStr::from_bytes(path))
    }

    fn make_directory(&mut self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        match rustix::fs::mkdirat(&target.parent, target.last, Mode::RWXU) {
            Ok(()) => self.later(entry),
            Err(Errno::EXIST) => match target.kind().map_err(system(entry, "examine"))? {
                Some(FileType::Directory) if self.keep.owners => self.later(entry),
                Some(FileType::Directory) => Ok(()),
                _ => Err(refuse(&entry.path, "a directory cannot take the place of what is there")),
            },
            Err(error) => Err(system(entry, "create")(error)),
        }
    }

    /// Its metadata are set when nothing is written in it any more.
    fn later(&mut self, entry: &Entry) -> Result<()> {
        let path = self.place(&entry.path);
        let mut remember = || -> io::Result<()> {
            let identity = identity(open_directory(self.tree, &path)?)?;
            let place = [identity.as_slice(), path.as_os_str().as_bytes()].concat();
            self.directories.add(&place, entry)
        };
        remember().map_err(system(entry, "remember the metadata of"))
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        target: &Target<'_>,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        self.clear(entry, target)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&target.parent, target.last, flags | OFlags::CLOEXEC, mode)
            .map_err(system(entry, "create"))?;
        let file = File::from(file);
        let written = data(entry, &file, archive).and_then(|()| {
            self.describe(entry, &file).map_err(system(entry, "set the metadata of"))
        });
        if written.is_err() {
            // The error that brought us here is the one to report.
            let _ = rustix::fs::unlinkat(&target.parent, target.last, AtFlags::empty());
        }
        self.written = self.written.saturating_add(entry.stored);
        written
    }

    fn describe(&mut self, entry: &Entry, file: &File) -> io::Result<()> {
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(file, Some(uid), Some(gid)).or_else(unprivileged)?;
        // Attributes need a file that its owner may write; chown(2) clears setuid.
        self.attributes(entry, file)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
        Ok(rustix::fs::futimens(file, &times(entry.mtime))?)
    }

    /// The same for what cannot be opened: links, devices, FIFOs.
    fn describe_unopened(&self, entry: &Entry, target: &Target<'_>) -> io::Result<()> {
        let (parent, last) = (&target.parent, target.last);
        let (uid, gid) = owner(entry);
        rustix::fs::chownat(parent, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .or_else(unprivileged)?;
        if entry.kind != Kind::Symlink {
            // Of the very node made above: another in its place may be a link to anywhere.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(parent, last, flags, Mode::empty())?;
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), mode)?;
        }
        Ok(rustix::fs::utimensat(parent, last, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn attributes(&mut self, entry: &Entry, file: &File) -> io::Result<()> {
        for (name, value) in &entry.xattrs {
            set_xattr(file, name, value, Namespace::Trusted, &mut self.warned)?;
        }
        Ok(())
    }

    /// The target is a file the archive had before, or one that was there (D-4).
    fn hard_link(&self, entry: &Entry, target: &Target<'_>) -> io::Result<()> {
        let path = name::clean(&entry.link).map_err(io::Error::other)?;
        let path = self.place(&path);
        let (parent, last) = self.tree.root.parent_of(&path)?;
        let found = rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(Errno::PERM.into());
        }
        Ok(rustix::fs::linkat(&parent, last, &target.parent, target.last, AtFlags::empty())?)
    }

    /// Makes the place of an entry empty.
    fn clear(&self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        match target.kind().map_err(system(entry, "examine"))? {
            None => Ok(()),
            Some(FileType::Directory) => {
                Err(refuse(&entry.path, "it cannot take the place of a directory"))
            }
            Some(_) => match rustix::fs::unlinkat(&target.parent, target.last, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(system(entry, "replace")(error)),
            },
        }
    }

    fn finish(mut self) -> Result<u64> {
        let owners = Owners::here();
        let tree = self.tree;
        let again = |place: &[u8]| {
            let (before, path) = place.split_at_checked(IDENTITY).ok_or(Errno::INVAL)?;
            let directory = open_directory(tree, Path::new(OsStr::from_bytes(path)))?;
            // Another has taken its place (D-3).
            if identity(&directory)? == before { Ok(directory) } else { Err(Errno::STALE.into()) }
        };
        self.directories.apply(again, &owners, Namespace::Trusted, &mut self.warned).map_err(
            |source| Error::Io {
                operation: "set the metadata of",
                object: "the copied directories".to_owned(),
                source,
            },
        )?;
        Ok(self.written)
    }
}

impl Target<'_> {
    fn kind(&self) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.parent, self.last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn node(kind: Kind) -> FileType {
    match kind {
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    }
}

/// Device and inode.
const IDENTITY: usize = 16;

fn identity(directory: impl AsFd) -> io::Result<[u8; IDENTITY]> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(((u128::from(stat.st_dev) << 64) | u128::from(stat.st_ino)).to_le_bytes())
}

fn open_directory(tree: &Tree, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    tree.root.open_at(path, flags, Mode::empty())
}

/// Writes the data of an entry to its file.
fn data<R: BufRead>(entry: &Entry, file: &File, archive: &mut Archive<R>) -> Result<()> {
    let whole = [Segment { offset: 0, length: entry.stored }];
    for segment in entry.segments.as_deref().unwrap_or(&whole) {
        let (mut offset, mut left) = (segment.offset, segment.length);
        while left > 0 {
            let piece = archive.data().map_err(|error| malformed(error, &entry.path))?;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = piece.get(..wanted).unwrap_or(piece);
            if !is_long_and_zero(piece) {
                file.write_all_at(piece, offset).map_err(system(entry, "write"))?;
            }
            let length = piece.len();
            archive.consume(length);
            let advance = u64::try_from(length).unwrap_or(u64::MAX);
            offset = offset.saturating_add(advance);
            left = left.saturating_sub(advance);
        }
    }
    // It may end in a hole.
    file.set_len(entry.size).map_err(system(entry, "extend"))
}

/// Passes data that nobody took.
fn pass<R: BufRead>(archive: &mut Archive<R>, entry: &Entry) -> Result<()> {
    loop {
        let length = archive.data().map_err(|error| malformed(error, &entry.path))?.len();
        if length == 0 {
            return Ok(());
        }
        archive.consume(length);
    }
}

fn refuse(entry: &[u8], problem: impl Into<String>) -> Error {
    Error::Copy { entry: name::printable(entry), problem: problem.into() }
}

fn malformed(error: tar::Error, entry: &[u8]) -> Error {
    match error {
        tar::Error::Io(source) => {
            Error::Io { operation: "read", object: "the archive".to_owned(), source }
        }
        tar::Error::Malformed(problem) => refuse(entry, problem),
    }
}

fn system<E: Into<io::Error>>(entry: &Entry, operation: &'static str) -> impl FnOnce(E) -> Error {
    let object = name::printable(&entry.path);
    move |error| Error::Io { operation, object, source: error.into() }
}

//! Reading directory trees: unpacked layers of the store, and single files of a work tree.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use sys::Root;

use super::{
    error::{Error, Result},
    inode::{Content, Inode, OPAQUE},
    manifest::{Line, What},
    view::MAX_DEPTH,
};

/// How an entry of a tree is opened when only its metadata is wanted.
pub(crate) const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a file is opened to be read: a FIFO must not make us wait.
pub(crate) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Whose metadata the root directory of an unpacked layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Top {
    /// The layer's.
    Own,
    /// Nobody's: the one below remains.
    None,
}

/// Reads an unpacked layer. Regular files are left to be looked into: their content and xattrs are empty.
pub(crate) fn layer(directory: &Path, whose: Top) -> Result<Vec<Line>> {
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let top = root.open_plain(Path::new("."), READ | OFlags::DIRECTORY);
    let top = top.map_err(Error::io("open", directory))?;
    let stat = rustix::fs::fstat(&top).map_err(|e| Error::io("examine", directory)(e.into()))?;
    let mut scan = Scan { directory, lines: Vec::new(), names: HashMap::new(), path: Vec::new() };
    if whose == Top::Own {
        let inode = scan.look(&top, &stat)?;
        scan.lines.push(Line::own("/", inode));
    }
    scan.directory(top, 0)?;
    Ok(scan.lines)
}

struct Scan<'a> {
    directory: &'a Path,
    lines: Vec<Line>,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), Vec<u8>>,
    path: Vec<u8>,
}

impl Scan<'_> {
    fn fail(&self, action: &'static str) -> impl FnOnce(Errno) -> Error + use<> {
        let path =
            self.directory.join(OsStr::from_bytes(self.path.strip_prefix(b"/").unwrap_or(&[])));
        move |error| Error::Io { action, path, source: error.into() }
    }

    fn directory(&mut self, directory: OwnedFd, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::damaged("a layer", "directories are nested too deeply"));
        }
        let names = names(&directory).map_err(self.fail("list"))?;
        for name in names {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            self.entry(&directory, OsStr::from_bytes(&name), depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &OsStr, depth: usize) -> Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.fail("examine"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_nlink > 1 && kind != FileType::Directory {
            match self.names.entry((stat.st_dev, stat.st_ino)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let what = What::Link(first.get().clone());
                    self.lines.push(Line { path: self.path.clone(), what });
                    return Ok(());
                }
                std::collections::hash_map::Entry::Vacant(first) => {
                    first.insert(self.path.clone());
                }
            }
        }
        if kind == FileType::RegularFile {
            self.lines.push(Line::own(self.path.clone(), Inode::from_stat(&stat)));
            return Ok(());
        }
        let flags = if kind == FileType::Directory { READ | OFlags::DIRECTORY } else { LOOK };
        let file =
            rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(self.fail("open"))?;
        let mut inode = self.look(&file, &stat)?;
        if inode.is_whiteout() {
            // When the store made the mark says nothing about the image.
            inode = Inode::whiteout();
        }
        self.lines.push(Line::own(self.path.clone(), inode));
        if kind == FileType::Directory { self.directory(file, depth + 1) } else { Ok(()) }
    }

    fn look(&self, file: &OwnedFd, stat: &Stat) -> Result<Inode> {
        look(file, stat).map_err(|error| Error::Io {
            action: "read the attributes of",
            path: self
                .directory
                .join(OsStr::from_bytes(self.path.strip_prefix(b"/").unwrap_or(&[]))),
            source: error,
        })
    }
}

/// Everything about an open file but the content of a regular one.
pub(crate) fn look(file: &OwnedFd, stat: &Stat) -> io::Result<Inode> {
    let mut inode = Inode::from_stat(stat);
    inode.xattrs = xattrs(file)?;
    if inode.kind() == FileType::Symlink {
        let target = rustix::fs::readlinkat(file, "", Vec::new())?.into_bytes();
        inode.content = Content::Link(target);
    }
    Ok(inode)
}

/// Everything about an open file of a work tree but the content of a regular one.
pub(crate) fn look_in_tree(file: &OwnedFd, stat: &Stat) -> io::Result<Inode> {
    let mut inode = look(file, stat)?;
    // In a work tree the mark means nothing: whoever set it wrote to a plain directory.
    inode.xattrs.retain(|(name, _)| name != OPAQUE);
    Ok(inode)
}

/// The attributes of a file that belong to the image, sorted by name and named as they are stored.
///
/// Of overlayfs' own only the mark of an opaque directory is kept, under its one name here. An image's
/// attributes of such names are stored with the prefix twice (D-7), and stay so.
pub(crate) fn xattrs(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in sys::xattr::list(&file)? {
        let private = [&b"trusted.overlay."[..], b"user.overlay."];
        let private = private.iter().find_map(|prefix| name.strip_prefix(*prefix));
        let is_mark = private == Some(b"opaque");
        if private.is_some_and(|name| !is_mark && !name.starts_with(b"overlay.")) {
            continue;
        }
        // Gone between the two calls: as if it had never been there.
        let Some(value) = sys::xattr::get(&file, OsStr::from_bytes(&name))? else { continue };
        found.push((if is_mark { OPAQUE.to_vec() } else { name }, value));
    }
    found.sort();
    Ok(found)
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

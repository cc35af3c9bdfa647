//! Files become a tar again: a container's changes as a layer, or a whole tree.
//!
//! The tree may belong to a running container, which may change anything at any moment: every file is
//! opened once, without following links, and what is written of it is what its descriptor shows (D-38).

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileTypeExt, fs::MetadataExt},
    },
    path::Path,
};

use rustix::fs::{FileType, OFlags, Stat};
use sys::Root;

use crate::{
    difference::{Difference, Differences},
    name,
    overlay::{self, Namespace},
    tar::{Entry, Kind, Time, writer},
    union::Union,
};

/// How times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Nothing is newer than this many seconds after 1970: what makes a layer reproducible.
    pub latest: Option<i64>,
}

/// Writes entries one after the other.
pub(crate) struct Packer<'p, W> {
    output: &'p mut W,
    /// How the files are stored; `None` for files that are as anybody sees them.
    namespace: Option<Namespace>,
    times: Times,
    /// Files with several names, by inode: the first name that was written.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'p, W: Write> Packer<'p, W> {
    /// For files in overlay form, which become a layer.
    pub(crate) fn new(output: &'p mut W, namespace: Namespace, times: Times) -> Self {
        Self { namespace: Some(namespace), times, ..Self::plain(output) }
    }

    /// For files that become an archive like any other: no name and no device has a second meaning.
    pub(crate) fn plain(output: &'p mut W) -> Self {
        Self {
            output,
            namespace: None,
            times: Times::default(),
            first_names: HashMap::new(),
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Ends the archive.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        writer::end(self.output)
    }

    /// Writes a layer: what differs, and whiteouts for what is gone.
    pub(crate) fn differences(&mut self, root: &Root, found: &Differences) -> io::Result<()> {
        let is_gone = |difference| matches!(difference, &Difference::Gone { .. });
        self.paths(
            root,
            found.iter().map(|(path, difference)| (path.as_slice(), is_gone(difference))),
        )
    }

    /// The same for paths, sorted, of which each is there or gone.
    pub(crate) fn paths<'a>(
        &mut self,
        root: &Root,
        paths: impl Iterator<Item = (&'a [u8], bool)>,
    ) -> io::Result<()> {
        for (path, is_gone) in paths {
            if is_gone { self.whiteout(path)? } else { self.object(root, path)? }
        }
        writer::end(self.output)
    }

    /// Writes everything a union shows.
    pub(crate) fn tree(&mut self, union: &Union) -> io::Result<()> {
        union.walk(|path, found| -> io::Result<()> {
            match union.open(found.layer, path, OFlags::PATH) {
                Ok(file) => self.opened(file, path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })?;
        writer::end(self.output)
    }

    fn object(&mut self, root: &Root, path: &[u8]) -> io::Result<()> {
        match root.open_plain(Path::new(OsStr::from_bytes(path)), OFlags::PATH) {
            Ok(file) => self.opened(file, path),
            // Removed since it was found.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes what an O_PATH descriptor holds as `path`.
    pub(crate) fn opened(&mut self, file: OwnedFd, path: &[u8]) -> io::Result<()> {
        let stat = rustix::fs::fstat(&file)?;
        let (_, last) = name::split(path);
        let is_layer = self.namespace.is_some();
        if is_layer && last.starts_with(overlay::WHITEOUT_PREFIX) {
            log::warn!("{} cannot be in a layer: its name means a removal", name::printable(path));
            return Ok(());
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice if is_layer && overlay::is_whiteout(&stat) => return Ok(()),
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // A socket means nothing without the process that made it, and tar has no word for it.
            _ => return Ok(()),
        };
        let mut entry = self.describe(&file, &stat, kind, path)?;
        if kind != Kind::Directory && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&inode) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.xattrs.clear();
                entry.device = (0, 0);
                return writer::header(self.output, &entry);
            }
            self.first_names.insert(inode, entry.path.clone());
        }
        match kind {
            Kind::File => return self.file(&file, entry),
            Kind::Symlink => {
                entry.link = rustix::fs::readlinkat(&file, "", Vec::new())?.into_bytes();
            }
            _ => {}
        }
        writer::header(self.output, &entry)
    }

    fn file(&mut self, file: &OwnedFd, mut entry: Entry) -> io::Result<()> {
        let data = reopen(file)?;
        entry.stored = data.metadata()?.size();
        writer::header(self.output, &entry)?;
        // A file that grows or shrinks meanwhile still has to fill the room its header announced.
        let mut padded = (&data).take(entry.stored).chain(io::repeat(0)).take(entry.stored);
        loop {
            let count = padded.read(&mut self.buffer)?;
            if count == 0 {
                return writer::padding(self.output, entry.stored);
            }
            self.output.write_all(self.buffer.get(..count).unwrap_or_default())?;
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, last) = name::split(path);
        let last = [overlay::WHITEOUT_PREFIX, last].concat();
        if last.len() > 255 {
            return Err(io::Error::other(format!(
                "the removal of {} cannot be said in a layer: its name is too long",
                name::printable(path)
            )));
        }
        let path = name::join(parent, &last);
        writer::header(self.output, &Entry { path, ..blank(Kind::File) })
    }

    fn describe(&self, file: &OwnedFd, stat: &Stat, kind: Kind, path: &[u8]) -> io::Result<Entry> {
        let mut xattrs = Vec::new();
        for name in sys::xattr::list(file)? {
            // A label says where the file was, not what it is.
            if name == b"security.selinux" {
                continue;
            }
            let shown = match self.namespace {
                Some(namespace) => namespace.unescape(&name),
                None => Some(name.clone()),
            };
            let Some(shown) = shown else { continue };
            if let Some(value) = sys::xattr::get(file, OsStr::from_bytes(&name))? {
                xattrs.push((shown, value));
            }
        }
        let device = match kind {
            Kind::CharacterDevice | Kind::BlockDevice => {
                (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            _ => (0, 0),
        };
        Ok(Entry {
            path: if path.is_empty() { b".".to_vec() } else { path.to_vec() },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: self.time(stat),
            device,
            xattrs,
            ..blank(kind)
        })
    }

    fn time(&self, stat: &Stat) -> Time {
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let time = Time { seconds: stat.st_mtime, nanoseconds };
        match self.times.latest {
            Some(latest) if time.seconds >= latest => Time { seconds: latest, nanoseconds: 0 },
            _ => time,
        }
    }
}

fn blank(kind: Kind) -> Entry {
    Entry {
        kind,
        path: Vec::new(),
        link: Vec::new(),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        device: (0, 0),
        stored: 0,
        size: 0,
        segments: None,
        xattrs: Vec::new(),
    }
}

/// Opens for reading the very file an O_PATH descriptor holds. It was a regular file, and what a
/// descriptor holds does not change its kind.
fn reopen(file: &OwnedFd) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    debug_assert!(!file.metadata()?.file_type().is_fifo(), "a descriptor keeps its kind");
    Ok(file)
}

//! Metadata of directories, applied when nothing is written in them any more.
//!
//! A layer may have millions, so what is pending waits in a file.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use sys::Root;

use super::metadata;
use crate::{
    overlay::Namespace,
    owners::Owners,
    tar::{Entry, Time},
};

/// Directories whose entries were seen, in order.
pub(crate) struct Pending {
    file: BufWriter<File>,
}

impl Pending {
    /// Uses a file in `layer`, which is unlinked at once.
    pub(super) fn new(layer: &Path) -> io::Result<Self> {
        let path = layer.join("directories");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self::in_file(file))
    }

    /// Uses an empty file nobody else knows.
    pub(crate) fn in_file(file: File) -> Self {
        Self { file: BufWriter::new(file) }
    }

    /// Remembers a directory by a text that whoever opens it later understands.
    pub(crate) fn add(&mut self, place: &[u8], entry: &Entry) -> io::Result<()> {
        self.bytes(place)?;
        for number in [entry.mode, entry.uid, entry.gid, entry.mtime.nanoseconds] {
            self.file.write_all(&number.to_le_bytes())?;
        }
        self.file.write_all(&entry.mtime.seconds.to_le_bytes())?;
        let count = u32::try_from(entry.xattrs.len()).map_err(io::Error::other)?;
        self.file.write_all(&count.to_le_bytes())?;
        for (name, value) in &entry.xattrs {
            self.bytes(name)?;
            self.bytes(value)?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(bytes)
    }

    /// Applies everything in the order of the archive. What cannot be opened any more, because a later
    /// entry replaced it, is passed over.
    pub(crate) fn apply(
        self,
        open: impl Fn(&[u8]) -> io::Result<OwnedFd>,
        owners: &Owners,
        namespace: Namespace,
        warned: &mut bool,
    ) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mut input = BufReader::new(file);
        while let Some(place) = read_bytes(&mut input)? {
            let [mode, uid, gid, nanoseconds] = read_numbers(&mut input)?;
            let mut seconds = [0; 8];
            input.read_exact(&mut seconds)?;
            let [count] = read_numbers(&mut input)?;
            let mut xattrs = Vec::new();
            for _ in 0..count {
                let name = read_bytes(&mut input)?.unwrap_or_default();
                xattrs.push((name, read_bytes(&mut input)?.unwrap_or_default()));
            }
            let Ok(directory) = open(&place) else { continue };
            if (uid, gid) != (0, 0) && owners.include(uid, gid) {
                let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                rustix::fs::fchown(&directory, owner.0, owner.1)?;
            }
            let change_mode = || rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode));
            // Without privilege, attributes need a directory that its owner may write.
            let privileged = owners.are_ours_to_give();
            if privileged {
                change_mode()?;
            }
            for (name, value) in xattrs {
                metadata::set_xattr(&directory, &name, &value, namespace, warned)?;
            }
            if !privileged {
                change_mode()?;
            }
            let time = Time { seconds: i64::from_le_bytes(seconds), nanoseconds };
            rustix::fs::futimens(&directory, &metadata::times(time))?;
        }
        Ok(())
    }
}

/// A directory nobody described, until its chain is known: as docker makes them, but of no date.
pub(super) fn make_plain(root: &Root, path: &[u8]) -> io::Result<()> {
    let directory = open(root, path)?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
    Ok(rustix::fs::futimens(directory.as_fd(), &metadata::times(Time::default()))?)
}

/// Opens a directory no link leads to.
pub(super) fn open(root: &Root, path: &[u8]) -> io::Result<OwnedFd> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    root.open_plain(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// A length and that many bytes; `None` at the end.
fn read_bytes(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if input.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let mut bytes = Vec::new();
    input.take(u64::from(u32::from_le_bytes(length))).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn read_numbers<const N: usize>(input: &mut impl Read) -> io::Result<[u32; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes)?;
        *number = u32::from_le_bytes(bytes);
    }
    Ok(numbers)
}

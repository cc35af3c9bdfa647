//! One file, link, device or directory of a tree made again in another, with everything it is.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid},
    io::Errno,
};
use sys::Root;

use crate::{name, overlay::Namespace, owners::Owners, union::Union};

/// How attributes with a meaning to overlayfs are carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// Into another layer: escaped names stay escaped.
    Stored,
    /// Into a plain directory: names as the container would see them.
    Shown,
}

/// Makes again, as `name` in `to`, what `from` is; not for directories.
pub(crate) fn object(
    from: &OwnedFd,
    stat: &Stat,
    to: impl AsFd,
    name: &OsStr,
    namespace: Namespace,
    attributes: Attributes,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let new =
                rustix::fs::openat(&to, name, flags | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR)?;
            let new = File::from(new);
            data(&File::from(reopen(from)?), &new, stat)?;
            rustix::fs::fchown(
                &new,
                Some(Uid::from_raw(stat.st_uid)),
                Some(Gid::from_raw(stat.st_gid)),
            )
            .or_else(unprivileged)?;
            // Before the mode: without privilege they need a file that its owner may write.
            xattrs(from, &new, namespace, attributes)?;
            rustix::fs::fchmod(&new, mode)?;
            Ok(rustix::fs::futimens(&new, &times(stat))?)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, "", Vec::new())?;
            rustix::fs::symlinkat(target, &to, name)?;
            unopened(from, stat, to, name, namespace, attributes)
        }
        kind => {
            rustix::fs::mknodat(&to, name, kind, Mode::empty(), stat.st_rdev)?;
            unopened(from, stat, &to, name, namespace, attributes)
        }
    }
}

/// Gives a directory the owner, mode, attributes and times of another.
pub(crate) fn directory_metadata(
    from: impl AsFd,
    stat: &Stat,
    to: impl AsFd,
    namespace: Namespace,
    attributes: Attributes,
) -> io::Result<()> {
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .or_else(unprivileged)?;
    xattrs(from, &to, namespace, attributes)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(&to, &times(stat))?)
}

fn unopened(
    from: &OwnedFd,
    stat: &Stat,
    to: impl AsFd,
    name: &OsStr,
    namespace: Namespace,
    attributes: Attributes,
) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(&to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .or_else(unprivileged)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(&to, name, mode, AtFlags::empty())?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = rustix::fs::openat(&to, name, flags, Mode::empty())?;
    xattrs(from, &new, namespace, attributes)?;
    Ok(rustix::fs::utimensat(&to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// An ordinary user's copies belong to that user; so does in a user namespace what it does not map.
pub(crate) fn unprivileged(error: Errno) -> rustix::io::Result<()> {
    let is_refused = match error {
        Errno::PERM => !rustix::process::geteuid().is_root(),
        Errno::INVAL => !Owners::here().may_make_devices(),
        _ => false,
    };
    if is_refused { Ok(()) } else { Err(error) }
}

fn xattrs(
    from: impl AsFd,
    to: impl AsFd,
    namespace: Namespace,
    attributes: Attributes,
) -> io::Result<()> {
    for name in sys::xattr::list(&from)? {
        let Some(shown) = namespace.unescape(&name) else { continue };
        let Some(value) = sys::xattr::get(&from, OsStr::from_bytes(&name))? else { continue };
        let wanted = if attributes == Attributes::Stored { &name } else { &shown };
        match sys::xattr::set(&to, OsStr::from_bytes(wanted), &value) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(nix::libc::EPERM | nix::libc::EOPNOTSUPP)
                ) => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = |value| i64::try_from(value).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanoseconds(stat.st_atime_nsec) },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: nanoseconds(stat.st_mtime_nsec),
        },
    }
}

/// Opens for reading what an O_PATH descriptor holds, whatever its name is now.
fn reopen(file: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Copies a file's data: shared blocks where the filesystem can, else piece by piece, holes kept.
fn data(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset = 0;
    while offset < size {
        let begin = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => break, // nothing but a hole is left
            other => other?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin))?.min(size);
        range(from, to, begin, end)?;
        offset = end.max(begin + 1);
    }
    to.set_len(size)
}

fn range(from: &File, to: &File, begin: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (begin, begin);
    while read < end {
        let length = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return read_and_write(from, to, read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_and_write(from: &File, to: &File, mut offset: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 128 * 1024];
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = from.read_at(buffer.get_mut(..wanted).unwrap_or_default(), offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(buffer.get(..count).unwrap_or_default(), offset)?;
        offset += u64::try_from(count).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Makes the whole tree of a union again in `to`, an empty directory.
pub(crate) fn tree(union: &Union, to: &Path) -> io::Result<()> {
    let root = Root::open(to)?;
    let mut directories = Vec::new();
    let mut first_names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    union.walk(|path, found| -> io::Result<()> {
        if found.is_directory() {
            if !path.is_empty() {
                let (parent, last) = place(&root, path)?;
                rustix::fs::mkdirat(&parent, last, Mode::RWXU)?;
            }
            directories.push((path.to_vec(), found.layer));
            return Ok(());
        }
        let (parent, last) = place(&root, path)?;
        if found.stat.st_nlink > 1 {
            let inode = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = first_names.get(&inode) {
                let (from, first) = place(&root, first)?;
                return Ok(rustix::fs::linkat(&from, first, &parent, last, AtFlags::empty())?);
            }
            first_names.insert(inode, path.to_vec());
        }
        let from = union.open(found.layer, path, OFlags::PATH)?;
        object(&from, &found.stat, &parent, last, union.namespace(), Attributes::Shown)
    })?;
    // Children first, so that nothing is written in a directory whose times are set.
    for (path, layer) in directories.iter().rev() {
        let from = union.open(*layer, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = rustix::fs::fstat(&from)?;
        let to = root
            .open_plain(Path::new(OsStr::from_bytes(path)), OFlags::RDONLY | OFlags::DIRECTORY)?;
        directory_metadata(&from, &stat, &to, union.namespace(), Attributes::Shown)?;
    }
    Ok(())
}

/// The directory that holds `path`, and its last component.
pub(crate) fn place<'p>(root: &Root, path: &'p [u8]) -> io::Result<(OwnedFd, &'p OsStr)> {
    let (parent, last) = name::split(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = root.open_plain(Path::new(OsStr::from_bytes(parent)), flags)?;
    Ok((parent, OsStr::from_bytes(last)))
}

/// Gives `to` the metadata that one layer of a union has for the directory `path`.
pub(crate) fn directory(union: &Union, path: &[u8], layer: usize, to: &OwnedFd) -> io::Result<()> {
    let from = union.open(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstat(&from)?;
    directory_metadata(&from, &stat, to, union.namespace(), Attributes::Stored)
}

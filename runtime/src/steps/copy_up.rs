//! `tmpcopyup`: a new tmpfs starts with what the image has at its place.

use std::{
    ffi::CString,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat,
    openat, readlinkat, statat, symlinkat,
};

use crate::{Error, Result, error::OrFail};

/// Deep enough for anything an image needs at a mount point.
const MAX_DEPTH: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies directories, files and links, with their owners and modes. By descriptor throughout: neither
/// side is looked at by a name that could lead elsewhere.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let from =
        openat(from, ".", DIRECTORY, Mode::empty()).or_fail(|| "open what is to be copied")?;
    let to = openat(to, ".", DIRECTORY, Mode::empty()).or_fail(|| "open the tmpfs")?;
    let mut left = vec![(from, to, 0)];
    while let Some((from, to, depth)) = left.pop() {
        if depth > MAX_DEPTH {
            return Err(Error::Unsafe("the tree to copy into the tmpfs is too deep".into()));
        }
        for entry in Dir::read_from(&from).or_fail(|| "read the directory")? {
            let name = entry.or_fail(|| "read the directory")?.file_name().to_owned();
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            if let Some((from, to)) = copy_entry(&from, &to, &name)? {
                left.push((from, to, depth + 1));
            }
        }
    }
    Ok(())
}

/// Copies one entry; a directory comes back to be descended into.
fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CString) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let what = || format!("copy {} into the tmpfs", name.to_string_lossy());
    let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).or_fail(what)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU).or_fail(what)?;
            let inner_from = openat(from, name, DIRECTORY, Mode::empty()).or_fail(what)?;
            let inner_to = openat(to, name, DIRECTORY, Mode::empty()).or_fail(what)?;
            take_metadata(&inner_to, &found).or_fail(what)?;
            Ok(Some((inner_from, inner_to)))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = openat(from, name, flags, Mode::empty()).or_fail(what)?;
            // Of the open file: another may have taken the name since, and a device has no end.
            let found = fstat(&source).or_fail(what)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(Error::Unsafe(format!(
                    "{} changes while it is copied",
                    name.to_string_lossy()
                )));
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = openat(to, name, flags, Mode::RUSR | Mode::WUSR).or_fail(what)?;
            let mut copy = std::fs::File::from(copy);
            let size = u64::try_from(found.st_size).unwrap_or(0);
            std::io::copy(&mut std::fs::File::from(source).take(size), &mut copy).or_fail(what)?;
            take_metadata(&copy, &found).or_fail(what)?;
            Ok(None)
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new()).or_fail(what)?;
            symlinkat(&target, to, name).or_fail(what)?;
            let (uid, gid) = owner(&found);
            chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).or_fail(what)?;
            Ok(None)
        }
        // Sockets, FIFOs and devices belong to whoever made them.
        _ => Ok(None),
    }
}

fn take_metadata(file: impl AsFd, found: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(found);
    // The owner first: changing it clears setuid bits.
    fchown(&file, uid, gid)?;
    fchmod(&file, Mode::from_raw_mode(found.st_mode & 0o7777))
}

fn owner(found: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))
}

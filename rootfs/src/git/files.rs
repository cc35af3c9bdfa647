//! Making the files of a root filesystem, with everything that git does not store.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::{
    inode::{Content, Inode, Time},
    scan::{self, LOOK},
};

/// A new, empty file nobody else can open until its metadata is set.
pub(crate) fn create(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?)
}

/// Makes anything but a regular file, with its metadata. A directory gets its own later, by
/// [`describe`], since files are still to be made in it.
///
/// `Ok(false)`: this user may not make device nodes.
pub(crate) fn make(directory: impl AsFd, name: &OsStr, inode: &Inode) -> io::Result<bool> {
    let directory = directory.as_fd();
    match &inode.content {
        Content::Link(target) => rustix::fs::symlinkat(OsStr::from_bytes(target), directory, name)?,
        _ if inode.is_directory() => {
            rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
            return Ok(true);
        }
        _ => {
            let mode = Mode::from_raw_mode(0o600);
            match rustix::fs::mknodat(directory, name, inode.kind(), mode, inode.rdev) {
                Err(Errno::PERM) if !privileged() => return Ok(false),
                other => other?,
            }
        }
    }
    let file = rustix::fs::openat(directory, name, LOOK, Mode::empty())?;
    describe(&file, inode, &Current::new())?;
    Ok(true)
}

/// What a file has been given already, so that no call is made for nothing.
pub(crate) struct Current {
    uid: u32,
    gid: u32,
    mode: Option<u32>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Current {
    /// What a file of ours has that was just made.
    pub(crate) fn new() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let (uid, gid) = (uid.as_raw(), gid.as_raw());
        Self { uid, gid, mode: None, mtime: None, xattrs: Vec::new() }
    }

    /// What a file has that was there before.
    pub(crate) fn of(file: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        let (mode, mtime) = (Some(stat.st_mode), Some(Time::modified(&stat)));
        let xattrs = scan::xattrs(file)?;
        Ok(Self { uid: stat.st_uid, gid: stat.st_gid, mode, mtime, xattrs })
    }
}

/// Sets owner, mode, xattrs and times of an open file, in the order that keeps each from undoing
/// another (D-3): a change of owner drops setuid and file capabilities, and every change moves the times.
pub(crate) fn describe(file: impl AsFd, inode: &Inode, current: &Current) -> io::Result<()> {
    let file = file.as_fd();
    let mut mode_is_set = current.mode == Some(inode.mode);
    let mut xattrs: &[_] = &current.xattrs;
    if (current.uid, current.gid) != (inode.uid, inode.gid) && privileged() {
        let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
        rustix::fs::chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        (mode_is_set, xattrs) = (false, &[]);
    }
    // Symlinks have no mode of their own.
    if !mode_is_set && inode.kind() != FileType::Symlink {
        let mode = Mode::from_raw_mode(inode.permissions());
        match rustix::fs::fchmod(file, mode) {
            // An O_PATH descriptor; the link in procfs leads to the very file.
            Err(Errno::BADF) => rustix::fs::chmod(descriptor_path(file), mode)?,
            other => other?,
        }
    }
    set_xattrs(file, &inode.xattrs, xattrs)?;
    if current.mtime != Some(inode.mtime) || !mode_is_set {
        set_mtime(file, inode.mtime)?;
    }
    Ok(())
}

fn set_xattrs(
    file: impl AsFd,
    wanted: &[(Vec<u8>, Vec<u8>)],
    present: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<()> {
    let file = file.as_fd();
    for (name, _) in present {
        if !wanted.iter().any(|row| row.0 == *name) {
            sys::xattr::remove(file, OsStr::from_bytes(name))?;
        }
    }
    for row in wanted {
        if present.contains(row) {
            continue;
        }
        let (name, value) = row;
        match sys::xattr::set(file, OsStr::from_bytes(name), value) {
            // The manifest keeps what this user, or this filesystem, may not have.
            Err(error) if may_be_missing(&error) => {
                let name = String::from_utf8_lossy(name).escape_debug().to_string();
                log::warn!("cannot set the attribute {name}: {error}");
            }
            other => other?,
        }
    }
    Ok(())
}

fn may_be_missing(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    error == Some(Errno::OPNOTSUPP) || (error == Some(Errno::PERM) && !privileged())
}

fn set_mtime(file: impl AsFd, mtime: Time) -> io::Result<()> {
    let file = file.as_fd();
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    match rustix::fs::utimensat(file, "", &times, AtFlags::EMPTY_PATH) {
        // Before Linux 5.8 only by a path, or by a descriptor that is not O_PATH.
        Err(Errno::INVAL) => {
            rustix::fs::utimensat(
                rustix::fs::CWD,
                descriptor_path(file),
                &times,
                AtFlags::empty(),
            )?;
            Ok(())
        }
        other => Ok(other?),
    }
}

fn descriptor_path(file: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Whether owners and device nodes are ours to set.
pub(crate) fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

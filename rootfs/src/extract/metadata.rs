//! Owner, mode, attributes and times of a file that was just made, through its descriptor (D-3).

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::{Extractor, Place, Result, system};
use crate::{
    overlay::Namespace,
    tar::{Entry, Time},
};

/// What a file that exists still lacks.
pub(super) struct Wanted<'e> {
    /// `None` when it was created with the right one.
    pub(super) mode: Option<u32>,
    pub(super) entry: &'e Entry,
}

impl Extractor<'_> {
    pub(super) fn apply(&mut self, file: &File, entry: &Entry, wanted: &Wanted<'_>) -> Result<()> {
        if self.must_chown(entry) {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(file, Some(uid), Some(gid))
                .map_err(system(entry, "change the owner of"))?;
        }
        // Without privilege, attributes need a file that its owner may write.
        if !self.owners.are_ours_to_give() {
            self.set_xattrs(file, entry)?;
        }
        // After chown(2), which clears setuid and setgid.
        if let Some(mode) = wanted.mode {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::fchmod(file, mode).map_err(system(entry, "change the mode of"))?;
        }
        if self.owners.are_ours_to_give() {
            self.set_xattrs(file, entry)?;
        }
        rustix::fs::futimens(file, &times(wanted.entry.mtime))
            .map_err(system(entry, "set the times of"))
    }

    /// The same for what cannot be opened: links, devices, FIFOs.
    pub(super) fn apply_unopened(&mut self, entry: &Entry, place: &Place<'_>) -> Result<()> {
        let (directory, name) = (&*place.directory, place.last);
        if self.must_chown(entry) {
            let (uid, gid) = owner(entry);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)
                .map_err(system(entry, "change the owner of"))?;
            if entry.mode & 0o6000 != 0 && entry.kind != crate::tar::Kind::Symlink {
                rustix::fs::chmodat(
                    directory,
                    name,
                    Mode::from_raw_mode(entry.mode),
                    AtFlags::empty(),
                )
                .map_err(system(entry, "change the mode of"))?;
            }
        }
        if !entry.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(directory, name, flags, Mode::empty())
                .map_err(system(entry, "open"))?;
            self.set_xattrs(&file, entry)?;
        }
        rustix::fs::utimensat(directory, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system(entry, "set the times of"))
    }

    fn must_chown(&mut self, entry: &Entry) -> bool {
        let (uid, gid) = owner(entry);
        let is_another = !uid.is_root() || gid != rustix::process::getegid();
        let wanted = is_another && self.owners.are_ours_to_give();
        let possible = self.owners.include(entry.uid, entry.gid);
        if wanted && !possible && !std::mem::replace(&mut self.warned_of_owners, true) {
            log::warn!(
                "files of user {}, group {} cannot have that owner here and belong to root",
                entry.uid,
                entry.gid
            );
        }
        wanted && possible
    }

    fn set_xattrs(&mut self, file: impl AsFd, entry: &Entry) -> Result<()> {
        let namespace = self.result.namespace;
        for (name, value) in &entry.xattrs {
            set_xattr(&file, name, value, namespace, &mut self.warned)
                .map_err(system(entry, "set attributes of"))?;
        }
        Ok(())
    }
}

/// Sets one attribute of the archive. Those that this filesystem or this user cannot have are left out,
/// as everywhere: an image with SELinux labels must unpack where there is no SELinux.
pub(crate) fn set_xattr(
    file: impl AsFd,
    name: &[u8],
    value: &[u8],
    namespace: Namespace,
    warned: &mut bool,
) -> io::Result<()> {
    let stored = namespace.escape(name);
    match sys::xattr::set(file, OsStr::from_bytes(&stored), value) {
        Err(error)
            if matches!(error.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EOPNOTSUPP)) =>
        {
            if !std::mem::replace(warned, true) {
                log::warn!(
                    "the extended attribute {} cannot be kept here: {error}",
                    crate::name::printable(name)
                );
            }
            Ok(())
        }
        other => other,
    }
}

pub(crate) fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

/// Access times are not kept by images: they become the modification time, so that nothing depends on
/// when a layer was unpacked.
pub(crate) fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

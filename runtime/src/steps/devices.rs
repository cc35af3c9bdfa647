//! Device nodes and the links of `/dev`.

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use configs::{Device, DeviceKind};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, openat, statat,
    symlinkat, unlinkat,
};

use crate::{
    Error, Result,
    child::Child,
    error::OrFail,
    steps::{
        mounts::{attach, clone_tree},
        places,
    },
};

/// Makes the nodes the Spec lists.
pub(crate) fn make_all(child: &mut Child<'_>) -> Result<()> {
    let mut open: Option<(PathBuf, OwnedFd)> = None;
    for device in &child.spec.devices {
        make_one(child, device, &mut open).map_err(|source| Error::Step {
            step: format!("make {}", device.path.display()),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

fn make_one(
    child: &Child<'_>,
    device: &Device,
    open: &mut Option<(PathBuf, OwnedFd)>,
) -> Result<()> {
    let invalid = || Error::Unsupported(format!("{} is no place", device.path.display()));
    let parent = device.path.parent().ok_or_else(invalid)?;
    let name = device.path.file_name().ok_or_else(invalid)?;
    // Nearly all nodes are in one directory, which is looked up once.
    let directory = match open {
        Some((known, directory)) if known == parent => directory,
        other => &other.insert((parent.to_owned(), directory_of(child, parent)?)).1,
    };
    if child.in_user_namespace {
        return bind(directory, name, device);
    }
    match make(directory, name, device) {
        // We are in somebody's user namespace ourselves, as under an ordinary user's engine.
        Err(error) if error.errno() == Some(nix::errno::Errno::EPERM) => {
            bind(directory, name, device)
        }
        other => other,
    }
}

/// No part of `/dev` may be a link: everything in it would be made elsewhere, such as in a volume (D-27).
fn directory_of(child: &Child<'_>, parent: &Path) -> Result<OwnedFd> {
    if let Some(fresh) = child.fresh.mounted_at(parent) {
        return fresh.try_clone().or_fail(|| "dup");
    }
    let root = child.root()?;
    if parent.starts_with("/dev") {
        return places::make_plain_directories(root, parent)
            .or_fail(|| "find its directory, which must not be a link");
    }
    root.make_directories(parent, Mode::from_raw_mode(0o755)).or_fail(|| "find its directory")
}

fn make(directory: &OwnedFd, name: &OsStr, device: &Device) -> Result<()> {
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    let number = makedev(device.major, device.minor);
    match mknodat(directory, name, kind, mode, number) {
        Err(rustix::io::Errno::EXIST) => {
            let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).or_fail(|| "stat")?;
            if FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == number {
                return Ok(());
            }
            // Whatever the image put there is not what was asked for.
            unlinkat(directory, name, AtFlags::empty()).or_fail(|| "remove what is there")?;
            mknodat(directory, name, kind, mode, number).or_fail(|| "mknod")?;
        }
        other => other.or_fail(|| "mknod")?,
    }
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).or_fail(|| "chown")
}

/// mknod(2) is refused in a user namespace: the host's node of the same name appears instead.
fn bind(directory: &OwnedFd, name: &OsStr, device: &Device) -> Result<()> {
    let host =
        rustix::fs::statat(CWD, &device.path, AtFlags::empty()).or_fail(|| "find the host's")?;
    if host.st_rdev != makedev(device.major, device.minor) {
        return Err(Error::Unsupported(format!(
            "the host's {} is another device, and a user namespace cannot make nodes",
            device.path.display()
        )));
    }
    // Never opens what the image has there: a FIFO would make us wait for ever.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match openat(directory, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Error::call("create", error)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(directory, name, flags, Mode::empty()).or_fail(|| "open")?;
    attach(&clone_tree(&device.path, false)?, &target)
}

/// The links every program expects in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    // Of the container's own devpts, never the host's.
    ("pts/ptmx", "ptmx"),
];

/// Makes the standard links of `/dev`.
pub(crate) fn link_all(child: &mut Child<'_>) -> Result<()> {
    if !child.spec.dev_links {
        return Ok(());
    }
    let dev = directory_of(child, Path::new("/dev"))?;
    for (target, name) in LINKS {
        match symlinkat(target, &dev, name) {
            Err(rustix::io::Errno::EXIST) => replace_link(&dev, target, name)?,
            // A read-only /dev that was not mounted by us has what it has.
            Err(rustix::io::Errno::ROFS) => return Ok(()),
            other => other.or_fail(|| format!("link /dev/{name}"))?,
        }
    }
    Ok(())
}

/// `ptmx` may be a node of the image's; the others are left as they are, as everybody does.
fn replace_link(dev: &OwnedFd, target: &str, name: &str) -> Result<()> {
    if name != "ptmx" {
        return Ok(());
    }
    unlinkat(dev, name, AtFlags::empty()).or_fail(|| "remove /dev/ptmx")?;
    symlinkat(target, dev, name).or_fail(|| "link /dev/ptmx")
}

//! Hidden and read-only paths.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use configs::AttrFlags;
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, makedev},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
        open_tree,
    },
};
use sys::{MountAttr, mount_setattr};

use crate::{
    Error, Result,
    child::Child,
    error::OrFail,
    spent,
    steps::mounts::{attach, clone_of, file_type},
};

/// Makes paths read-only, with everything mounted below them.
pub(crate) fn protect(child: &mut Child<'_>) -> Result<()> {
    for path in &child.spec.read_only_paths {
        protect_one(child, path).map_err(|source| named("make read-only", path, source))?;
    }
    Ok(())
}

fn protect_one(child: &Child<'_>, path: &Path) -> Result<()> {
    let Some(target) = find(child, path)? else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&target, "", flags).or_fail(|| "open_tree")?;
    let attr = MountAttr { set: AttrFlags::RDONLY.0, recursive: true, ..MountAttr::default() };
    // Before it is attached, so that there is no moment in which it is writable.
    mount_setattr(tree.as_fd(), c"", &attr).or_fail(|| "mount_setattr")?;
    cover(tree, target)
}

/// Hides paths: files behind the host's null device, directories behind one empty read-only tmpfs.
///
/// Both come from descriptors that no path inside the container can influence (D-26, CVE-2025-31133).
pub(crate) fn mask(child: &mut Child<'_>) -> Result<()> {
    let mut covers = Covers::default();
    for path in &child.spec.masked_paths {
        mask_one(child, path, &mut covers).map_err(|source| named("mask", path, source))?;
    }
    Ok(())
}

/// What paths are hidden behind, opened when first needed.
#[derive(Default)]
struct Covers {
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

fn mask_one(child: &Child<'_>, path: &Path, covers: &mut Covers) -> Result<()> {
    let Some(target) = find(child, path)? else { return Ok(()) };
    if file_type(&target)? != FileType::Directory {
        let null = match covers.file.take() {
            Some(null) => null,
            None => null_device()?,
        };
        return cover(clone_of(&*covers.file.insert(null))?, target);
    }
    match &covers.directory {
        // Each further target gets another mount of the same tmpfs.
        Some(first) => cover(clone_of(first)?, target),
        None => {
            let first = empty_tmpfs()?;
            attach(&first, &target)?;
            covers.directory = Some(first);
            Ok(())
        }
    }
}

/// The host's null device: this is before the pivot, so that `/` still is the host's.
fn null_device() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).or_fail(|| "open /dev/null")?;
    let found = fstat(&null).or_fail(|| "stat /dev/null")?;
    let is_character = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if !is_character || found.st_rdev != makedev(1, 3) {
        return Err(Error::Unsafe("the host's /dev/null is no null device".into()));
    }
    Ok(null)
}

fn empty_tmpfs() -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).or_fail(|| "fsopen tmpfs")?;
    fsconfig_create(&context).or_fail(|| "create a tmpfs")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tree =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).or_fail(|| "fsmount tmpfs")?;
    spent::leave(context);
    Ok(tree)
}

fn cover(tree: OwnedFd, target: OwnedFd) -> Result<()> {
    attach(&tree, &target)?;
    [tree, target].into_iter().for_each(spent::leave);
    Ok(())
}

/// What is not there need not be hidden.
fn find(child: &Child<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    let (root, name) = child.look_up_from(path)?;
    match root.open_at(name, OFlags::PATH, Mode::empty()) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(Error::call("find it", error)),
    }
}

fn named(what: &str, path: &Path, source: Error) -> Error {
    Error::Step { step: format!("{what} {}", path.display()), source: Box::new(source) }
}

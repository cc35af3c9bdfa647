//! Entering the container's cgroup, and showing it inside.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use configs::{AttrFlags, Mount, NamespaceKind};
use rustix::{
    fs::{FileType, Mode, mkdirat, symlinkat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};
use sys::{MountAttr, mount_setattr};

use crate::{
    Result,
    cgroup::CgroupMount,
    child::Child,
    error::OrFail,
    spent,
    steps::{
        mounts::{Target, clone_tree, place, target_for},
        root,
    },
};

/// Enters the version 1 hierarchies; on version 2 the process was born inside.
pub(crate) fn enter(child: &mut Child<'_>) -> Result<()> {
    child.prepared.door.as_ref().map_or(Ok(()), |door| door.enter())
}

/// Shows the container's own cgroup at the mount's destination, whatever version the host has.
pub(crate) fn mount(child: &mut Child<'_>, mount: &Mount) -> Result<()> {
    let target = target_for(child, mount, FileType::Directory)?;
    let prepared = child.prepared;
    let mounts = prepared.cgroup.as_ref().map(|cgroup| cgroup.mounts()).unwrap_or_default();
    match mounts.as_slice() {
        [] => show_own_hierarchy(child, mount, target),
        [only] if prepared.cgroup_is_unified => show_unified(child, mount, only, target),
        several => show_legacy(child, mount, several, target),
    }
}

/// A cgroup namespace makes the filesystem's own root the container's; without one its directory is bound.
fn show_unified(
    child: &mut Child<'_>,
    mount: &Mount,
    only: &CgroupMount<'_>,
    target: Target,
) -> Result<()> {
    if child.spec.namespaces.get(NamespaceKind::Cgroup).is_some() {
        return show_own_hierarchy(child, mount, target);
    }
    let tree = clone_tree(only.source, false)?;
    set(&tree, mount.set, false)?;
    place(child, &tree, target, mount)
}

/// For root of a user namespace that has no cgroup namespace with it, the host's is all there is: it can be
/// shown, and of it the user may do what the user might outside.
fn show_own_hierarchy(child: &mut Child<'_>, mount: &Mount, target: Target) -> Result<()> {
    let tree = match new_filesystem("cgroup2", &[], mount.set) {
        Err(error) if error.errno() == Some(nix::errno::Errno::EPERM) => {
            let tree = clone_tree(Path::new("/sys/fs/cgroup"), true)?;
            set(&tree, mount.set, true)?;
            tree
        }
        other => other?,
    };
    place(child, &tree, target, mount)
}

/// A tmpfs with a directory per hierarchy, and a link for each name of one that has several.
fn show_legacy(
    child: &mut Child<'_>,
    mount: &Mount,
    mounts: &[CgroupMount<'_>],
    target: Target,
) -> Result<()> {
    let writable = AttrFlags(mount.set.0 & !AttrFlags::RDONLY.0);
    let tree = new_filesystem("tmpfs", &[("mode", "755")], writable)?;
    let fill = || {
        mounts.iter().try_for_each(|each| show_hierarchy(&tree, each))?;
        // All of them at once.
        set(&tree, mount.set, true)
    };
    // Before Linux 6.15 a tree has to be in place before anything can be mounted in it; in a root that
    // stays detached, which is newer, no mount changes any more.
    if root::shares_mounts(child.spec) {
        fill()?;
        place(child, &tree, target, mount)?;
    } else {
        place(child, &tree, target, mount)?;
        fill()?;
    }
    spent::leave(tree);
    Ok(())
}

fn show_hierarchy(tree: &OwnedFd, each: &CgroupMount<'_>) -> Result<()> {
    let what = || format!("show the hierarchy {}", each.name.display());
    mkdirat(tree, each.name, Mode::from_raw_mode(0o755)).or_fail(what)?;
    let own = clone_tree(each.source, false)?;
    // By name in a directory nobody else has seen yet.
    move_mount(&own, "", tree, each.name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).or_fail(what)?;
    spent::leave(own);
    let name = each.name.to_string_lossy();
    if name.contains(',') {
        for link in name.split(',') {
            symlinkat(each.name, tree, Path::new(link)).or_fail(what)?;
        }
    }
    Ok(())
}

fn set(tree: &OwnedFd, set: AttrFlags, recursive: bool) -> Result<()> {
    let attr = MountAttr { set: set.0, recursive, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), c"", &attr).or_fail(|| "set the mount's attributes")
}

fn new_filesystem(kind: &str, parameters: &[(&str, &str)], set: AttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).or_fail(|| format!("fsopen {kind}"))?;
    fsconfig_set_string(&context, "source", kind).or_fail(|| "set the source")?;
    for (key, value) in parameters {
        fsconfig_set_string(&context, *key, *value).or_fail(|| format!("option {key}"))?;
    }
    fsconfig_create(&context).or_fail(|| format!("create {kind}"))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(set.0).unwrap_or(u32::MAX));
    let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .or_fail(|| format!("fsmount {kind}"))?;
    spent::leave(context);
    Ok(tree)
}

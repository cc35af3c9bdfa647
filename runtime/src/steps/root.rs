//! The container's root directory: from a detached tree to `/`.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use configs::{Mount, MountSource, NamespaceKind, Overlay, Propagation, Spec};
use rustix::{
    fs::{CWD, Mode},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
    },
};
use sys::{MountAttr, Root, mount_setattr};

use crate::{Error, Result, child::Child, error::OrFail, procfs::Procfs, steps::mounts};

/// Cuts propagation, so that nothing done here is seen outside (D-24).
pub(crate) fn isolate(child: &mut Child<'_>) -> Result<()> {
    if shares_mounts(child.spec) {
        return Ok(());
    }
    let from_host = wants_host_mounts(child.spec);
    let kind =
        if from_host { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    mount_change("/", kind | MountPropagationFlags::REC).or_fail(|| "cut the propagation of mounts")
}

/// Whether mounts made on the host later must still appear inside.
pub(crate) fn wants_host_mounts(spec: &Spec) -> bool {
    let live = |kind: Propagation| matches!(kind, Propagation::Slave | Propagation::Shared);
    spec.root.propagation.is_some_and(live)
        || spec.mounts.iter().any(|mount| mount.propagation.is_some_and(|(kind, _)| live(kind)))
}

/// Whether its mounts are to be where the host's are: the Spec names no mount namespace.
pub(crate) fn shares_mounts(spec: &Spec) -> bool {
    spec.namespaces.get(NamespaceKind::Mount).is_none()
}

/// Puts the container's root on top of the host's, still reachable as what lies beneath.
///
/// On top of `/` rather than in its own place: no path is looked up twice, and it does not matter what
/// is mounted around it.
///
/// Without a mount namespace of its own it stays detached, so that the host never sees what is mounted
/// there, and lives for as long as some process has it as its root.
pub(crate) fn attach(child: &mut Child<'_>) -> Result<()> {
    let tree = match child.prepared.root.as_ref() {
        Some(tree) => tree.try_clone().or_fail(|| "dup")?,
        None => detached(child.spec)?,
    };
    if shares_mounts(child.spec) {
        mounts::give_propagation(&tree, Propagation::Private, true)?;
    } else {
        move_mount(&tree, "", CWD, place(child.spec), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .or_fail(|| "move_mount the root")?;
    }
    child.root = Some(Root::from_directory(tree).or_fail(|| "the root is no directory")?);
    Ok(())
}

/// Hooks of the creation look for the container's mounts where config.json says that its root is, and so
/// do bind mounts whose source an earlier mount has made there.
fn place(spec: &Spec) -> &Path {
    let is_beneath = |mount: &Mount| matches!(&mount.source, MountSource::Bind { path, .. } if path.starts_with(&spec.root.path));
    let has_place = spec.root.overlay.is_none() && spec.root.path.is_absolute();
    let looks = !spec.hooks.create_container.is_empty() || spec.mounts.iter().any(is_beneath);
    if has_place && looks { &spec.root.path } else { Path::new("/") }
}

/// The root of a container as a tree that is attached nowhere: what it starts from, and the files of one
/// that has ended.
pub fn detached(spec: &Spec) -> Result<OwnedFd> {
    match &spec.root.overlay {
        Some(overlay) => mount_overlay(overlay),
        None => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            open_tree(CWD, &spec.root.path, flags)
                .or_fail(|| format!("open_tree {}", spec.root.path.display()))
        }
    }
}

/// An overlay by fsopen(2): a parameter per layer (`lowerdir+`, Linux 6.7), so their number and the
/// length of their paths together have no limit.
fn mount_overlay(overlay: &Overlay) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).or_fail(|| "fsopen overlay")?;
    let set = |key: &str, value: &Path| {
        fsconfig_set_string(&context, key, value)
            .or_fail(|| format!("overlay {key}={}", value.display()))
    };
    for layer in &overlay.lower {
        set("lowerdir+", layer)?;
    }
    if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
        set("upperdir", upper)?;
        set("workdir", work)?;
    }
    for (key, value) in &overlay.options {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .or_fail(|| format!("overlay option {key}"))?;
    }
    fsconfig_create(&context).or_fail(|| "create the overlay")?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .or_fail(|| "fsmount overlay")
}

/// Makes the root read-only, once everything in it is in place.
pub(crate) fn protect(child: &mut Child<'_>) -> Result<()> {
    if !child.spec.root.read_only {
        return Ok(());
    }
    let directory = &child.process.cwd;
    if directory != Path::new("/") {
        // It is made when missing, which can only be now. Whoever enters it says what is wrong with it.
        drop(child.root()?.make_directories(directory, Mode::from_raw_mode(0o755)));
    }
    let attr = MountAttr { set: configs::AttrFlags::RDONLY.0, ..MountAttr::default() };
    mount_setattr(child.root()?.as_fd(), c"", &attr).or_fail(|| "make the root read-only")
}

/// Makes the container's root `/` and lets go of the host's: after this no host path can be opened.
pub(crate) fn pivot(child: &mut Child<'_>) -> Result<()> {
    rustix::process::fchdir(child.root()?).or_fail(|| "enter the root")?;
    if child.spec.no_pivot || shares_mounts(child.spec) {
        rustix::process::chroot(".").or_fail(|| "chroot")?;
    } else {
        // With both arguments the same the old root ends up on top of the new one, pivot_root(2) NOTES.
        rustix::process::pivot_root(".", ".").or_fail(|| "pivot_root")?;
        unmount(".", UnmountFlags::DETACH).or_fail(|| "let go of the host's root")?;
    }
    rustix::process::chdir("/").or_fail(|| "chdir /")?;
    let Some(propagation) = child.spec.root.propagation else { return Ok(()) };
    if shares_mounts(child.spec) {
        return Ok(());
    }
    mount_change("/", propagation_flags(propagation)).or_fail(|| "set the root's propagation")
}

pub(crate) fn propagation_flags(kind: Propagation) -> MountPropagationFlags {
    match kind {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    }
}

/// Without a mount namespace the root stays detached, and older kernels cannot mount onto such a tree:
/// there it would have to be done on the host.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    if !shares_mounts(spec) {
        return Ok(());
    }
    if !kernel_mounts_onto_detached() {
        return Err(Error::Unsupported(
            "a container without a mount namespace would mount on the host, before Linux 6.15"
                .into(),
        ));
    }
    match spec.root.propagation {
        None | Some(Propagation::Private | Propagation::Unbindable) => Ok(()),
        Some(_) => Err(Error::Unsupported(
            "the root cannot propagate mounts without a mount namespace".into(),
        )),
    }
}

fn kernel_mounts_onto_detached() -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// The root of a container that was joined: where its mount namespace has put us, or where its first
/// process is.
pub(crate) fn open_joined(child: &mut Child<'_>) -> Result<()> {
    if let Some(root) = &child.prepared.root {
        rustix::process::fchdir(root).or_fail(|| "enter the root")?;
        rustix::process::chroot(".").or_fail(|| "chroot")?;
        rustix::process::chdir("/").or_fail(|| "chdir /")?;
    }
    let root = Root::open(Path::new("/")).or_fail(|| "open /")?;
    child.root = Some(root);
    Ok(())
}

/// The root a process of a container without a mount namespace has, for another to join it.
pub(crate) fn of_process(procfs: &Procfs, pid: i32, spec: &Spec) -> Result<Option<OwnedFd>> {
    shares_mounts(spec).then(|| procfs.open_root(pid)).transpose()
}

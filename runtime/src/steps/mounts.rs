//! The container's mounts: each made detached, then attached to a target resolved beneath the root (D-24).

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use configs::{AttrFlags, Filesystem, Mount, MountSource, Propagation};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, FsWord, Mode, OFlags, StatxFlags, fstat, fstatfs, mkdirat, openat,
        statx,
    },
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};
use sys::{MountAttr, Root, mount_setattr};

use crate::{
    Error, Result,
    child::Child,
    error::OrFail,
    prepare::selinux_is_on,
    spent,
    steps::{copy_up, hooks, places, root},
};

/// Mounts everything the Spec lists, in its order.
pub(crate) fn mount_all(child: &mut Child<'_>) -> Result<()> {
    for (index, mount) in child.spec.mounts.iter().enumerate() {
        hooks::around_mount(child, &mount.before)
            .and_then(|()| mount_one(child, index, mount))
            .and_then(|()| hooks::around_mount(child, &mount.after))
            .map_err(|source| Error::Step {
                step: format!(
                    "mount {} at {}",
                    describe(&mount.source),
                    mount.destination.display()
                ),
                source: Box::new(source),
            })?;
    }
    Ok(())
}

fn describe(source: &MountSource) -> String {
    match source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Filesystem(filesystem) => filesystem.kind.clone(),
        MountSource::Cgroup => "cgroup".into(),
        MountSource::Remount => "(remount)".into(),
    }
}

fn mount_one(child: &mut Child<'_>, index: usize, mount: &Mount) -> Result<()> {
    match &mount.source {
        MountSource::Bind { path, recursive } => {
            let tree = match child.prepared.binds.get(index).and_then(Option::as_ref) {
                Some(tree) => tree.try_clone().or_fail(|| "dup")?,
                None => clone_tree(path, *recursive)?,
            };
            let target = target_for(child, mount, file_type(&tree)?)?;
            set_attributes(&tree, mount, child.keeps_host_propagation)?;
            place(child, &tree, target, mount)?;
            spent::leave(tree);
            Ok(())
        }
        MountSource::Filesystem(filesystem) => {
            let mode = mode_of_tmpfs(child.root()?, filesystem, mount)?;
            let target = target_for(child, mount, FileType::Directory)?;
            let tree = new_filesystem(child, filesystem, mount, mode)?;
            if mount.copy_up {
                copy_up::copy(&target.file, &tree)?;
            }
            change_recursively(&tree, mount)?;
            set_propagation(&tree, mount)?;
            place_fresh(child, tree, target, mount)
        }
        MountSource::Cgroup => super::cgroup::mount(child, mount),
        MountSource::Remount => {
            let target = child
                .root()?
                .open_at(&mount.destination, OFlags::PATH, Mode::empty())
                .or_fail(|| format!("find {}", mount.destination.display()))?;
            set_attributes(&target, mount, false)
        }
    }
}

/// A copy of a place of the host's tree, attached nowhere.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).or_fail(|| format!("open_tree {}", path.display()))
}

/// A copy of the mount an open file lies on, with that file as its root.
pub(crate) fn clone_of(file: impl AsFd) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(file, "", flags).or_fail(|| "open_tree")
}

/// A place that something is about to be mounted at.
pub(crate) struct Target {
    pub(crate) file: OwnedFd,
    /// What kind of way leads there.
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Inside a filesystem that nobody else has.
    Private,
    /// From the root, without a link.
    Plain,
    /// From the root, by links.
    Links,
}

/// Opens the place a mount goes to; it is made when missing, as a directory or an empty file.
pub(crate) fn target_for(child: &Child<'_>, mount: &Mount, kind: FileType) -> Result<Target> {
    let name = mount.destination.as_path();
    if name.components().all(|part| matches!(part, std::path::Component::RootDir)) {
        return Err(Error::Unsupported("a mount cannot replace the root".into()));
    }
    if let Some(found) = child.fresh.place(name, kind) {
        check_below_procfs(found.is_procfs, mount)?;
        return Ok(Target { file: found.file, way: Way::Private });
    }
    let (file, way) = find_or_make(child.root()?, mount, kind)?;
    let filesystem = fstatfs(&file).or_fail(|| "fstatfs")?.f_type;
    check_below_procfs(filesystem == rustix::fs::PROC_SUPER_MAGIC, mount)?;
    Ok(Target { file, way })
}

fn find_or_make(root: &Root, mount: &Mount, kind: FileType) -> Result<(OwnedFd, Way)> {
    let name = mount.destination.as_path();
    let what = || format!("find {}", name.display());
    let is_directory = kind == FileType::Directory;
    let flags = if is_directory { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::PATH };
    match root.open_plain(name, flags) {
        // A link that is the last component would be opened itself, openat2(2).
        Ok(found) if is_directory || file_type(&found)? != FileType::Symlink => {
            return Ok((found, Way::Plain));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_never_a_link(name) => {
            // Not looked for by any other way: a link may appear in this moment.
            let made = places::make_plain_directories(root, name).or_fail(what)?;
            return Ok((made, Way::Plain));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        _ if mount.no_follow || is_never_a_link(name) => {
            return Err(Error::Unsafe(format!(
                "{} is a link or a file, where none may be",
                name.display()
            )));
        }
        _ => {}
    }
    match root.open_at(name, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((make_target(root, name, kind)?, Way::Links))
        }
        other => Ok((other.or_fail(what)?, Way::Links)),
    }
}

/// A link here could make any directory of the container a "procfs" (CVE-2019-19921), or have device
/// nodes made in a volume, over the files there (D-27).
fn is_never_a_link(name: &Path) -> bool {
    name == Path::new("/dev") || only_filesystem_at(name).is_some()
}

/// What programs believe without asking may only be shown by the kernel itself (CVE-2019-16884).
fn only_filesystem_at(name: &Path) -> Option<(&'static str, FsWord)> {
    const SYSFS_MAGIC: FsWord = 0x6265_6572;
    const ONLY: [(&str, &str, FsWord); 2] =
        [("/proc", "procfs", rustix::fs::PROC_SUPER_MAGIC), ("/sys", "sysfs", SYSFS_MAGIC)];
    let found = ONLY.into_iter().find(|(place, ..)| name == Path::new(place));
    found.map(|(_, kind, magic)| (kind, magic))
}

fn make_target(root: &Root, name: &Path, kind: FileType) -> Result<OwnedFd> {
    let what = || format!("make {}", name.display());
    if kind != FileType::Directory {
        return places::make_file(root, name).or_fail(what);
    }
    // Nearly always only the last directory is missing.
    if let Ok((parent, last)) = root.parent_of(name)
        && mkdirat(&parent, last, Mode::from_raw_mode(0o755)).is_ok()
    {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&parent, last, flags, Mode::empty()).or_fail(what)?;
        spent::leave(parent);
        return Ok(made);
    }
    places::make_directories(root, name).or_fail(what)
}

/// Nothing but these may be mounted below a procfs: a file of it that lies would be believed by
/// whoever labels processes or reads limits (CVE-2019-16884, CVE-2025-52881).
const BELOW_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

fn check_below_procfs(is_procfs: bool, mount: &Mount) -> Result<()> {
    let name = &mount.destination;
    let listed = BELOW_PROC.iter().any(|allowed| name == Path::new(allowed));
    if is_procfs && !listed && name != Path::new("/proc") {
        return Err(Error::Unsafe(format!("{} is in a procfs", name.display())));
    }
    Ok(())
}

/// Looks at the object that is going to be mounted, not at its name.
fn check_shown(tree: &OwnedFd, name: &Path) -> Result<()> {
    let Some((kind, magic)) = only_filesystem_at(name) else { return Ok(()) };
    if fstatfs(tree).or_fail(|| "fstatfs")?.f_type != magic {
        return Err(Error::Unsafe(format!("only a {kind} may be mounted at {}", name.display())));
    }
    Ok(())
}

/// The mode of a tmpfs for which none was asked: that of the directory it covers. One that covers nothing
/// is everybody's, as the kernel has it, not like the mount point we make.
fn mode_of_tmpfs(root: &Root, filesystem: &Filesystem, mount: &Mount) -> Result<Option<u32>> {
    let has_mode = || filesystem.parameters.iter().any(|(key, _)| key == "mode");
    if filesystem.kind != "tmpfs" || has_mode() {
        return Ok(None);
    }
    match root.open_at(&mount.destination, OFlags::PATH, Mode::empty()) {
        Ok(covered) => Ok(Some(fstat(&covered).or_fail(|| "fstat")?.st_mode & 0o7777)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(|_| None).or_fail(|| format!("find {}", mount.destination.display())),
    }
}

fn new_filesystem(
    child: &Child<'_>,
    filesystem: &Filesystem,
    mount: &Mount,
    mode: Option<u32>,
) -> Result<OwnedFd> {
    let kind = filesystem.kind.as_str();
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).or_fail(|| format!("fsopen {kind}"))?;
    let fail = |what: &str, source: rustix::io::Errno| {
        Error::call(format!("{what}{}", kernel_message(&context)), source)
    };
    if !filesystem.source.is_empty() {
        fsconfig_set_string(&context, "source", filesystem.source.as_str())
            .map_err(|error| fail("set the source", error))?;
    }
    for (flag, name) in SUPERBLOCK_FLAGS {
        if filesystem.flags & flag != 0 {
            fsconfig_set_flag(&context, *name).map_err(|error| fail(name, error))?;
        }
    }
    for (key, value) in &filesystem.parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .map_err(|error| fail(&format!("option {key}"), error))?;
    }
    if let Some(mode) = mode {
        fsconfig_set_string(&context, "mode", format!("{mode:o}"))
            .map_err(|error| fail("option mode", error))?;
    }
    if let Some(label) = &child.spec.mount_label
        && !matches!(kind, "proc" | "sysfs")
        && selinux_is_on()
    {
        fsconfig_set_string(&context, "context", label.as_str())
            .map_err(|error| fail("option context", error))?;
    }
    fsconfig_create(&context).map_err(|error| fail(&format!("create {kind}"), error))?;
    // Bits fsmount(2) does not know (nosymfollow) are refused there, as they must be.
    let attributes = u32::try_from(mount.set.0).map(MountAttrFlags::from_bits_retain);
    let attributes = attributes.map_err(|_| Error::Unsupported("unknown mount flags".into()))?;
    let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|error| fail(&format!("fsmount {kind}"), error))?;
    spent::leave(context);
    Ok(tree)
}

/// `MS_*` flags of a superblock, by the names fsconfig(2) knows.
const SUPERBLOCK_FLAGS: &[(u64, &str)] = &[
    (libc::MS_RDONLY, "ro"),
    (libc::MS_SYNCHRONOUS, "sync"),
    (libc::MS_DIRSYNC, "dirsync"),
    (libc::MS_MANDLOCK, "mand"),
    (1 << 25, "lazytime"),
];

/// What the filesystem said about the failure, fsopen(2): the only place that names a wrong option.
fn kernel_message(context: &OwnedFd) -> String {
    let mut buffer = [0; 512];
    let length = rustix::io::read(context, &mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    let text = text.trim_start_matches(['e', 'w', 'i', ' ']).trim_end();
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Attributes of one mount, those of the whole tree, and propagation.
fn set_attributes(tree: &OwnedFd, mount: &Mount, make_private: bool) -> Result<()> {
    change(tree, mount.set, mount.clear, false)?;
    change_recursively(tree, mount)?;
    if mount.propagation.is_none() && make_private {
        give_propagation(tree, Propagation::Private, true)?;
    }
    set_propagation(tree, mount)
}

fn change_recursively(tree: &OwnedFd, mount: &Mount) -> Result<()> {
    change(tree, mount.set_recursive, mount.clear_recursive, true)
}

fn change(tree: &OwnedFd, set: AttrFlags, clear: AttrFlags, recursive: bool) -> Result<()> {
    if set.is_empty() && clear.is_empty() {
        return Ok(());
    }
    // The access time is a field, not a bit: it must be cleared to be set, mount_setattr(2).
    let field = if set.0 & AttrFlags::ATIME.0 != 0 { AttrFlags::ATIME.0 } else { 0 };
    let attr = MountAttr { set: set.0, clear: clear.0 | field, recursive, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), c"", &attr)
        .or_fail(|| format!("mount_setattr +{:#x} -{:#x}", attr.set, attr.clear))
}

fn set_propagation(tree: &OwnedFd, mount: &Mount) -> Result<()> {
    match mount.propagation {
        Some((kind, recursive)) => give_propagation(tree, kind, recursive),
        None => Ok(()),
    }
}

pub(crate) fn give_propagation(tree: &OwnedFd, kind: Propagation, recursive: bool) -> Result<()> {
    let propagation = u64::from(root::propagation_flags(kind).bits());
    let attr = MountAttr { propagation, recursive, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), c"", &attr).or_fail(|| "set the propagation")
}

/// Attaches a tree to an open target, and looks once more at what the name leads to now: a directory
/// that was moved away meanwhile would have taken the mount with it (CVE-2021-30465).
pub(crate) fn place(
    child: &mut Child<'_>,
    tree: &OwnedFd,
    target: Target,
    mount: &Mount,
) -> Result<()> {
    let name = &mount.destination;
    check_shown(tree, name)?;
    attach(tree, &target.file)?;
    if target.way != Way::Private {
        let there = child
            .root()?
            .open_at(name, OFlags::PATH, Mode::empty())
            .or_fail(|| format!("find {} again", name.display()))?;
        if mount_id(&there)? != mount_id(tree)? {
            return Err(Error::Unsafe(format!("{} was moved while being mounted", name.display())));
        }
        spent::leave(there);
    }
    match target.way {
        Way::Private | Way::Plain => child.fresh.cover(name),
        Way::Links => child.fresh.forget(),
    }
    spent::leave(target.file);
    if only_filesystem_at(name).is_some() {
        let tree = tree.try_clone().or_fail(|| "dup")?;
        let root = Root::from_directory(tree).or_fail(|| "it is no directory")?;
        child.kernel_filesystems.push((name.clone(), root));
    }
    Ok(())
}

/// The same for a filesystem just made, in which further mounts may go.
pub(crate) fn place_fresh(
    child: &mut Child<'_>,
    tree: OwnedFd,
    target: Target,
    mount: &Mount,
) -> Result<()> {
    let by_links = target.way == Way::Links;
    place(child, &tree, target, mount)?;
    let kind = match &mount.source {
        MountSource::Filesystem(filesystem) => filesystem.kind.as_str(),
        _ => "",
    };
    // No name can be changed in these. Of other kinds there may be one instance for everybody.
    if !by_links && matches!(kind, "tmpfs" | "proc" | "sysfs") {
        child.fresh.add(&mount.destination, tree, kind == "proc");
    } else {
        spent::leave(tree);
    }
    Ok(())
}

/// move_mount(2) between two descriptors.
pub(crate) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", by_descriptor).or_fail(|| "move_mount")
}

fn mount_id(file: &OwnedFd) -> Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(file, "", flags, StatxFlags::MNT_ID).or_fail(|| "statx")?;
    Ok(found.stx_mnt_id)
}

pub(crate) fn file_type(file: &OwnedFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file).or_fail(|| "fstat")?.st_mode))
}

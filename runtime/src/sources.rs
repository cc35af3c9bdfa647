//! Mounts only the parent can make: into a user namespace's container, and with mapped ids.

use std::os::fd::{AsFd, OwnedFd};

use configs::{IdMaps, Mount, MountIdMap, MountSource, NamespaceKind, Propagation, Spec};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{CloneFlags, Cloned, MountAttr, mount_setattr};

use crate::{
    Error, Result,
    error::OrFail,
    id_maps,
    prepare::Prepared,
    process,
    procfs::Procfs,
    steps::{mounts, root},
};

/// Makes the root and the bind mounts that the child could not: as a user of another namespace it may not
/// be able to reach their sources, and mapping a mount's ids needs rights over its filesystem.
pub(crate) fn prepare(prepared: &mut Prepared, spec: &Spec) -> Result<()> {
    let privileged = rustix::process::geteuid().is_root();
    let for_child = privileged && spec.namespaces.get(NamespaceKind::User).is_some();
    if for_child {
        let tree = root::detached(spec)?;
        cut(&tree, spec)?;
        prepared.root = Some(tree);
    }
    if !for_child && spec.mounts.iter().all(|mount| mount.id_map.is_none()) {
        return Ok(());
    }
    let mut mapped = Namespaces { procfs: &prepared.procfs, made: Vec::new() };
    let mut binds = Vec::new();
    for mount in &spec.mounts {
        binds.push(source(mount, spec, prepared, &mut mapped, for_child)?);
    }
    prepared.binds = binds;
    Ok(())
}

fn source(
    mount: &Mount,
    spec: &Spec,
    prepared: &Prepared,
    mapped: &mut Namespaces<'_>,
    for_child: bool,
) -> Result<Option<OwnedFd>> {
    let MountSource::Bind { path, recursive } = &mount.source else { return Ok(None) };
    if mount.id_map.is_none() && !for_child {
        return Ok(None);
    }
    let tree = mounts::clone_tree(path, *recursive)?;
    cut(&tree, spec)?;
    if let Some(map) = &mount.id_map {
        let named = |source| Error::Step {
            step: format!("map the ids of {}", path.display()),
            source: Box::new(source),
        };
        apply_map(&tree, map, spec, prepared, mapped).map_err(named)?;
    }
    Ok(Some(tree))
}

/// A copy of a shared mount is its peer: what happens in the container would be seen on the host.
fn cut(tree: &OwnedFd, spec: &Spec) -> Result<()> {
    let live = root::wants_host_mounts(spec);
    let kind = if live { Propagation::Slave } else { Propagation::Private };
    let attr = MountAttr {
        propagation: u64::from(root::propagation_flags(kind).bits()),
        recursive: true,
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), c"", &attr).or_fail(|| "cut the propagation of a mount")
}

fn apply_map(
    tree: &OwnedFd,
    map: &MountIdMap,
    spec: &Spec,
    prepared: &Prepared,
    mapped: &mut Namespaces<'_>,
) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let own = IdMaps { uids: map.uids.clone(), gids: map.gids.clone() };
    let joined = prepared.joins.iter().find(|join| join.kind == NamespaceKind::User);
    let namespace = match (own.uids.is_empty() && own.gids.is_empty(), joined) {
        (true, Some(join)) => join.file.as_fd(),
        (true, None) => mapped.with(&spec.id_maps)?,
        (false, _) => mapped.with(&own)?,
    };
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        user_namespace: Some(namespace),
        recursive: map.recursive,
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), c"", &attr).or_fail(|| "mount_setattr")
}

/// User namespaces made only for their maps, one for each pair.
struct Namespaces<'p> {
    procfs: &'p Procfs,
    made: Vec<(IdMaps, OwnedFd)>,
}

impl Namespaces<'_> {
    fn with(&mut self, maps: &IdMaps) -> Result<std::os::fd::BorrowedFd<'_>> {
        let known = self.made.iter().position(|(known, _)| known == maps);
        let index = match known {
            Some(index) => index,
            None => {
                self.made.push((maps.clone(), user_namespace(self.procfs, maps)?));
                self.made.len() - 1
            }
        };
        let missing = || Error::Unsafe("a namespace was lost".into());
        Ok(self.made.get(index).ok_or_else(missing)?.1.as_fd())
    }
}

/// A user namespace outlives its only process as long as somebody has it open.
fn user_namespace(procfs: &Procfs, maps: &IdMaps) -> Result<OwnedFd> {
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return Err(Error::Unsupported(
            "mapping ids needs a map for users and one for groups".into(),
        ));
    }
    let (until, held) = pipe_with(PipeFlags::CLOEXEC).or_fail(|| "pipe")?;
    match sys::clone3(CloneFlags::NEWUSER, None).or_fail(|| "clone3 a user namespace")? {
        Cloned::Child => {
            // Closing our own copy is what lets the end of the parent's be seen.
            drop(held);
            let _ = rustix::io::read(&until, &mut [0]);
            sys::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let made = id_maps::write(procfs, pid, maps)
                .and_then(|()| procfs.open_namespace(&pid.to_string(), "user"));
            drop(held);
            process::wait(pidfd.as_fd())?;
            made
        }
    }
}

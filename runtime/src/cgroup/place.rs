//! Where a container's cgroups are: decided before anything is made, and kept in its state.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    path::{Component, Path, PathBuf},
};

use configs::CgroupDriver;
use serde::{Deserialize, Serialize};

use super::{
    layout::{self, Layout, Own},
    systemd::Unit,
};
use crate::{ContainerId, Error, Result};

/// Below this the containers live for which no path was asked.
const HOME: &str = "crun-cargo";

/// The directories of one container, as host paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Version 1 hierarchies: name, mount point, path below it. Empty where there is only version 2.
    pub(super) legacy: Vec<Directory>,
    /// Version 2.
    pub(super) unified: Option<Directory>,
    /// Who made it, if not we.
    #[serde(default)]
    pub(super) unit: Option<Unit>,
}

/// A directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// As in `/proc/PID/cgroup`, such as `cpu,cpuacct`; empty for version 2.
    pub(super) hierarchy: String,
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// The container's directory.
    pub(super) path: PathBuf,
}

impl Directory {
    /// Whether this hierarchy has a controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.hierarchy.split(',').any(|each| each == controller)
    }
}

impl Place {
    /// Decides where a new container goes. Makes nothing.
    pub fn choose(cgroup: &configs::Cgroup, id: &ContainerId) -> Result<Self> {
        match cgroup.driver {
            CgroupDriver::Cgroupfs => Self::of_path(&cgroup.path, id),
            CgroupDriver::Systemd => Self::of_unit(Unit::parse(&cgroup.path, id)?),
        }
    }

    /// systemd has its own idea of version 1's hierarchies, and gave them up in version 256.
    fn of_unit(unit: Unit) -> Result<Self> {
        let layout = layout::detect()?;
        if !layout.legacy.is_empty() {
            return Err(Error::Unsupported(
                "the systemd cgroup driver needs cgroup version 2 alone, this system has version 1"
                    .into(),
            ));
        }
        let place = Self::below_roots(layout, &unit.path()?);
        Ok(Self { unit: Some(unit), ..place })
    }

    fn of_path(path: &Path, id: &ContainerId) -> Result<Self> {
        let layout = layout::detect()?;
        if path.as_os_str().is_empty() {
            // Unguessable, since two containers of different --root may have the same id (D-31).
            let name = format!("{id}-{:08x}", random());
            return Ok(Self::below_roots(layout, &Path::new(HOME).join(name)));
        }
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(Error::Unsafe(format!("cgroup path {}: no `..` here", path.display())));
        }
        match path.strip_prefix("/") {
            Ok(path) => Ok(Self::below_roots(layout, path)),
            Err(_) => Self::below_own(layout, path),
        }
    }

    fn below_roots(layout: Layout, path: &Path) -> Self {
        let directory = |(hierarchy, mount): (String, PathBuf)| {
            let path = mount.join(path);
            Directory { hierarchy, mount, path }
        };
        Self {
            legacy: layout.legacy.into_iter().map(directory).collect(),
            unified: layout.unified.map(|mount| directory((String::new(), mount))),
            unit: None,
        }
    }

    /// Relative paths start at the caller's own cgroup; on version 2 beside it, since a cgroup that
    /// holds processes cannot have children with controllers (cgroups(7), "no internal processes").
    fn below_own(layout: Layout, path: &Path) -> Result<Self> {
        let own = Own::read()?;
        let directory = |hierarchy: String, mount: PathBuf, beside: bool| {
            let own = own.path(&hierarchy).unwrap_or(Path::new("/"));
            let base = if beside { own.parent().unwrap_or(own) } else { own };
            let path = mount.join(base.strip_prefix("/").unwrap_or(base)).join(path);
            Directory { hierarchy, mount, path }
        };
        let alone = layout.legacy.is_empty();
        Ok(Self {
            legacy: (layout.legacy.into_iter())
                .map(|(hierarchy, mount)| directory(hierarchy, mount, false))
                .collect(),
            unified: layout.unified.map(|mount| directory(String::new(), mount, alone)),
            unit: None,
        })
    }

    /// Whether all of it lies below where hierarchies are mounted, and is none of their roots.
    pub(crate) fn is_below_its_mounts(&self) -> bool {
        self.directories().all(|directory| {
            let below = directory.path.strip_prefix(&directory.mount);
            below.is_ok_and(|below| {
                let mut parts = below.components().peekable();
                parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
            })
        })
    }

    /// Whether limits are set the way of version 2.
    pub fn is_unified(&self) -> bool {
        self.legacy.is_empty()
    }

    /// The directory that has a version 1 controller.
    pub(super) fn legacy_directory(&self, controller: &str) -> Option<&Path> {
        let directory = self.legacy.iter().find(|directory| directory.has(controller))?;
        Some(&directory.path)
    }

    /// Version 2's directory, on a system without version 1 and on a hybrid one.
    pub(super) fn unified_directory(&self) -> Option<&Path> {
        self.unified.as_ref().map(|directory| directory.path.as_path())
    }

    /// Every directory.
    pub(super) fn directories(&self) -> impl DoubleEndedIterator<Item = &Directory> {
        self.legacy.iter().chain(&self.unified)
    }

    /// The cgroup's path as `/proc/PID/cgroup` shows it, where all hierarchies agree; engines ask.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.directories().map(|each| (each.hierarchy.as_str(), each.path.as_path()))
    }
}

/// The standard library seeds its hashers from getrandom(2).
pub(crate) fn random() -> u32 {
    let bytes = RandomState::new().build_hasher().finish().to_ne_bytes();
    let [a, b, c, d, ..] = bytes;
    u32::from_ne_bytes([a, b, c, d])
}

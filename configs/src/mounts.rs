//! Mounts, with every option word already turned into flags.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::IdMap;

/// One mount, applied in the order of the Spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container, resolved beneath the root, made when missing.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// Per-mount attributes to set on this mount (`MOUNT_ATTR_*`, mount_setattr(2)).
    pub set: AttrFlags,
    /// Per-mount attributes to clear on this mount (`rw`, `suid`, `exec` … on a bind).
    pub clear: AttrFlags,
    /// The same for the mount and everything below it (`rro`, `rnosuid` …).
    pub set_recursive: AttrFlags,
    /// Attributes cleared recursively (`rrw`, `rsuid` …).
    pub clear_recursive: AttrFlags,
    /// Propagation to give it, and whether recursively.
    pub propagation: Option<(Propagation, bool)>,
    /// Map owners through these ids, or through the container's user namespace.
    pub id_map: Option<MountIdMap>,
    /// Copy what the image has at the destination into the new tmpfs (`tmpcopyup`).
    pub copy_up: bool,
    /// Refuse when the destination is missing or a link (`nosymfollow` at the last component is an
    /// attribute, this is not): how the destination is found, `dest-nofollow` (OCI 1.3).
    pub no_follow: bool,
    /// SELinux relabelling of the source (`z`, `Z`).
    pub relabel: Option<Relabel>,
    /// Programs run on the host side before and after (nsinit v2).
    pub before: Vec<crate::Hook>,
    /// See `before`.
    pub after: Vec<crate::Hook>,
}

impl Mount {
    /// A mount with no attributes of its own.
    pub fn new(destination: PathBuf, source: MountSource) -> Self {
        Self {
            destination,
            source,
            set: AttrFlags::default(),
            clear: AttrFlags::default(),
            set_recursive: AttrFlags::default(),
            clear_recursive: AttrFlags::default(),
            propagation: None,
            id_map: None,
            copy_up: false,
            no_follow: false,
            relabel: None,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// One file or directory of the host, without what is mounted below it.
    pub fn bind(host: PathBuf, destination: PathBuf) -> Self {
        let source = MountSource::Bind { path: host, recursive: false };
        Self { propagation: Some((Propagation::Private, false)), ..Self::new(destination, source) }
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// Another place of the host's tree.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// With everything mounted below it (`rbind`).
        recursive: bool,
    },
    /// A new instance of a filesystem.
    Filesystem(Filesystem),
    /// The container's own cgroup directory (type `cgroup` or `cgroup2`), whatever the host has.
    Cgroup,
    /// Only change attributes of what is already mounted there (`remount`).
    Remount,
}

/// A filesystem to make, fsopen(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// `proc`, `tmpfs`, `overlay` …
    pub kind: String,
    /// What /proc/self/mountinfo shows as the source.
    pub source: String,
    /// Superblock flags of mount(2) (`MS_RDONLY`, `MS_SYNCHRONOUS`, `MS_DIRSYNC`, `MS_LAZYTIME`,
    /// `MS_MANDLOCK`, `MS_SILENT`, `MS_I_VERSION`), which are not per mount.
    pub flags: u64,
    /// Parameters: `("size", Some("64m"))`, `("newinstance", None)`.
    pub parameters: Vec<(String, Option<String>)>,
}

/// `MOUNT_ATTR_*` bits of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrFlags(pub u64);

impl AttrFlags {
    /// `ro`
    pub const RDONLY: Self = Self(0x1);
    /// `nosuid`
    pub const NOSUID: Self = Self(0x2);
    /// `nodev`
    pub const NODEV: Self = Self(0x4);
    /// `noexec`
    pub const NOEXEC: Self = Self(0x8);
    /// The access time field; its values are 0 `relatime`, NOATIME and STRICTATIME.
    pub const ATIME: Self = Self(0x70);
    /// `noatime`
    pub const NOATIME: Self = Self(0x10);
    /// `strictatime`
    pub const STRICTATIME: Self = Self(0x20);
    /// `nodiratime`
    pub const NODIRATIME: Self = Self(0x80);
    /// `nosymfollow`, Linux 5.14
    pub const NOSYMFOLLOW: Self = Self(0x20_0000);

    /// Both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no bit is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Propagation type, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in mount_namespaces(7)")]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// Ids of a mapped mount, mount_setattr(2) MOUNT_ATTR_IDMAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountIdMap {
    /// Empty maps mean the container's own.
    pub uids: Vec<IdMap>,
    /// See `uids`.
    pub gids: Vec<IdMap>,
    /// For the whole tree (`ridmap`).
    pub recursive: bool,
}

/// SELinux relabelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relabel {
    /// `z`: all containers may use it.
    Shared,
    /// `Z`: only this one.
    Private,
}

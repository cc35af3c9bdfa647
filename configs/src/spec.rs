//! The [`Spec`]: a container, fully decided.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Cgroup, Device, Hooks, IdMaps, Interface, Mount, Namespaces, NetDevice, Process, Propagation,
    Route, Seccomp, TimeOffsets,
};

/// A container, fully decided. Required things are present; absent collections are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The program to run. `None` is legal for OCI `create` of a container nobody starts.
    pub process: Option<Process>,
    /// The container's root directory.
    pub root: Root,
    /// Set with sethostname(2); needs a uts namespace of its own.
    pub hostname: Option<String>,
    /// Set with setdomainname(2); needs a uts namespace of its own.
    pub domainname: Option<String>,
    /// At most one per kind: create, or join.
    pub namespaces: Namespaces,
    /// Written when a user namespace is created.
    pub id_maps: IdMaps,
    /// Clock offsets of a new time namespace (time_namespaces(7)).
    pub time_offsets: TimeOffsets,
    /// In order; option words already resolved to flags.
    pub mounts: Vec<Mount>,
    /// Device nodes to make below `/dev` or elsewhere, in order.
    pub devices: Vec<Device>,
    /// Make the standard links of `/dev` (`fd`, `stdin`, `stdout`, `stderr`, `ptmx`).
    pub dev_links: bool,
    /// Hidden from the container: files behind the null device, directories behind an empty tmpfs.
    pub masked_paths: Vec<PathBuf>,
    /// Made read-only, recursively. Missing paths are passed over.
    pub read_only_paths: Vec<PathBuf>,
    /// Kernel settings by dotted name (`net.ipv4.ip_forward`).
    pub sysctl: BTreeMap<String, String>,
    /// Where the container is accounted and limited; `None` leaves it in the caller's cgroup.
    pub cgroup: Option<Cgroup>,
    /// The system call policy; `None` installs no filter.
    pub seccomp: Option<Seccomp>,
    /// Programs to run at points of the container's life.
    pub hooks: Hooks,
    /// Interfaces to make for the container (nsinit's `networks`); loopback is brought up whenever a
    /// network namespace is created.
    pub interfaces: Vec<Interface>,
    /// Routes added after the interfaces are up.
    pub routes: Vec<Route>,
    /// Host network devices moved into the container (OCI 1.3 `netDevices`).
    pub net_devices: Vec<NetDevice>,
    /// SELinux context for tmpfs and other new filesystems.
    pub mount_label: Option<String>,
    /// Execution domain, personality(2).
    pub personality: Option<Personality>,
    /// Intel resource director technology.
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA policy, set_mempolicy(2) (OCI 1.3).
    pub memory_policy: Option<MemoryPolicy>,
    /// Signal the container's first process gets when its parent dies; 0 is none.
    pub parent_death_signal: i32,
    /// Keep the caller's session keyring instead of joining a new one (D-35 says: not by default).
    pub keep_keyring: bool,
    /// Switch roots with MS_MOVE and chroot, for roots pivot_root(2) refuses (a ramdisk).
    pub no_pivot: bool,
    /// Handed to hooks and to whoever asks for the state; never interpreted (D-12).
    pub annotations: BTreeMap<String, String>,
}

/// The container's root directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Absolute host path.
    pub path: PathBuf,
    /// Mounted read-only once everything beneath it is in place.
    pub read_only: bool,
    /// Propagation of the container's `/` (OCI `rootfsPropagation`).
    pub propagation: Option<Propagation>,
    /// Mount these layers as the root instead of `path`. The mount is made detached and attached only
    /// inside the container, so the host's mount table never shows it and nothing has to be unmounted.
    pub overlay: Option<Overlay>,
}

/// Layers of an overlay filesystem, as absolute host paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// Where changes go; `None` makes the whole read-only.
    pub upper: Option<PathBuf>,
    /// Scratch directory on the same filesystem as `upper`.
    pub work: Option<PathBuf>,
    /// Further options of the overlay filesystem, such as `("volatile", None)`.
    pub options: Vec<(String, Option<String>)>,
}

/// personality(2) domain and flags, as the raw number the call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality(pub u64);

/// A class of service below resctrl (OCI `intelRdt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntelRdt {
    /// Directory name below `/sys/fs/resctrl`; the container's id when absent.
    pub clos_id: Option<String>,
    /// Lines written to `schemata`, in order.
    pub schemata: Vec<String>,
    /// Make a monitoring group.
    pub monitoring: bool,
}

/// Arguments of set_mempolicy(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` mode with its flags.
    pub mode: u32,
    /// Node numbers.
    pub nodes: Vec<u32>,
}

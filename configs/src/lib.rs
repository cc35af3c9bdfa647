//! What a container *is*: [`Spec`], and how each dialect lowers into it.
//!
//! "Lowered" means decided: behind this crate nothing is optional that the kernel needs, nothing is a
//! string that should have been a type, and nothing is checked twice. This crate makes no system call
//! and knows no path that exists.

mod capability;
mod check;
pub mod default_seccomp;
pub mod defaults;
mod devices;
pub mod flags;
mod hooks;
pub mod image;
mod mounts;
mod namespaces;
mod network;
pub mod nsinit;
pub mod oci;
mod options;
mod problems;
mod process;
mod resources;
mod rlimit;
mod seccomp;
mod seccomp_profile;
mod signal;
mod spec;
pub mod syscalls;

pub use capability::UnknownCapability;
pub use devices::{Device, DeviceKind, DeviceRule};
pub use hooks::{Hook, Hooks};
pub use mounts::{AttrFlags, Filesystem, Mount, MountIdMap, MountSource, Propagation, Relabel};
pub use namespaces::{
    IdMap, IdMaps, Namespace, NamespaceKind, Namespaces, TimeOffset, TimeOffsets,
};
pub use network::{Bridge, Interface, NetDevice, Network, Route};
pub use problems::{Lowered, Problem, Problems};
pub use process::{
    Capabilities, Capability, CpuAffinity, Groups, IoPriority, Process, Resource, Rlimit,
    Scheduler, Size, User, UserId,
};
pub use resources::{
    BlockIo, BlockThrottle, BlockWeight, Cgroup, CgroupDriver, Cpu, HugepageLimit, Memory,
    NetworkClass, RdmaLimit, Resources,
};
pub use seccomp::{Action, Comparison, Condition, Notify, Policy, Rule, Seccomp};
pub use signal::{Signal, UnknownSignal};
pub use spec::{IntelRdt, MemoryPolicy, Overlay, Personality, Root, Spec};

//! What the step tables call; one concern per file.

pub(crate) mod cgroup;
mod copy_up;
pub(crate) mod credentials;
pub(crate) mod devices;
pub(crate) mod fresh;
pub(crate) mod hooks;
pub(crate) mod limits;
pub(crate) mod masks;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod network;
mod places;
pub(crate) mod program;
pub(crate) mod root;
pub(crate) mod seccomp;
pub(crate) mod sysctl;
pub(crate) mod terminal;

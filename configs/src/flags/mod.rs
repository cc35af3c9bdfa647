//! Values of docker's flags that have a grammar, as types that parse themselves, so that a bad one is
//! reported by the command line parser, with usage.

mod device;
mod host;
mod limits;
mod mount;
mod security;
mod user;

pub use device::{DeviceFlag, DeviceRuleFlag, HostDevice};
pub use host::{Dns, HostEntry, NamespaceChoice, hosts_file, resolv_conf};
pub use limits::{Bytes, Cpus, MemoryLimit, TaskLimit};
pub use mount::{MountFlag, Tmpfs, TmpfsFlag, Volume, VolumeFlag, VolumeSource};
pub use security::{LabelPart, SecurityOption};
pub(crate) use user::{parse_id, parse_user};

/// What a flag's value should have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub(crate) String);

/// Shorthand for a refusal.
fn bad<T>(what: impl Into<String>) -> Result<T, BadValue> {
    Err(BadValue(what.into()))
}

//! Entering the container's cgroup, and showing it inside.

use configs::Mount;

use crate::{Error, Result, child::Child};

/// Enters the version 1 hierarchies; on version 2 the process was born inside.
pub(crate) fn enter(_: &mut Child<'_>) -> Result<()> {
    Ok(())
}

/// Shows the container's own cgroup at the mount's destination.
pub(crate) fn mount(_: &Child<'_>, _: &Mount) -> Result<()> {
    Err(Error::Unsupported("cgroup mounts".into()))
}

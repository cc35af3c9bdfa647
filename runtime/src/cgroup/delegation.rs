//! What of the cgroup tree an ordinary user was given, cgroups(7) "Delegation".

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{layout, systemd};

/// How an ordinary user comes to cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// The user's own systemd makes them.
    Systemd,
    /// The directory above the caller's own cgroup was given to the user.
    Beside,
}

impl Delegation {
    /// What the caller has; nothing on version 1, where limits of a user's are the system's risk.
    pub fn of_caller() -> Option<Self> {
        let layout = layout::detect().ok()?;
        if !layout.legacy.is_empty() {
            return None;
        }
        // Where systemd lives it is the only one to write its tree.
        if systemd::is_there() {
            return Some(Self::Systemd);
        }
        let own = layout::Own::read().ok()?;
        let above = own.path("")?.parent()?.strip_prefix("/").ok()?;
        is_given(&layout.unified?.join(above)).then_some(Self::Beside)
    }
}

/// Making children, and moving processes from one to another.
fn is_given(directory: &Path) -> bool {
    let may_write = |path: PathBuf| access(path, Access::WRITE_OK).is_ok();
    may_write(directory.to_owned()) && may_write(directory.join("cgroup.procs"))
}

//! Namespaces a process joins or makes by itself; the others came with its birth (clone3).

use std::os::fd::{AsFd, OwnedFd};

use configs::{NamespaceKind, TimeOffsets};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{OFlags, fstatfs},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{Error, Result, child::Child, error::OrFail};

/// A namespace to join, opened by the parent.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) kind: NamespaceKind,
    pub(crate) file: OwnedFd,
}

impl Join {
    /// Opens a namespace, and makes sure that it is one (D-33).
    pub(crate) fn open(kind: NamespaceKind, path: &std::path::Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .or_fail(|| format!("open the namespace {}", path.display()))?;
        let found = fstatfs(&file).or_fail(|| "fstatfs")?.f_type;
        if found != libc::NSFS_MAGIC {
            return Err(Error::Unsafe(format!("{} is no namespace", path.display())));
        }
        Ok(Self { kind, file })
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().or_fail(|| "dup")?;
        Ok(Self { kind: self.kind, file })
    }

    /// setns(2) with the expected type, so that another kind is refused.
    pub(crate) fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(link_type(self.kind)))
            .or_fail(|| format!("join the {:?} namespace", self.kind))
    }
}

fn link_type(kind: NamespaceKind) -> LinkNameSpaceType {
    match kind {
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    }
}

/// Joins the namespaces the parent opened, the user namespace first: it gives the right to the others.
pub(crate) fn join_all(child: &mut Child<'_>) -> Result<()> {
    let joins = &child.prepared.joins;
    let is_user = |join: &&Join| join.kind == NamespaceKind::User;
    for join in joins.iter().filter(is_user).chain(joins.iter().filter(|join| !is_user(join))) {
        join.enter()?;
    }
    Ok(())
}

/// Makes the cgroup namespace, whose root is the cgroup the process is in by now: clone3 would have
/// taken the parent's.
pub(crate) fn make_cgroup_namespace(child: &mut Child<'_>) -> Result<()> {
    if !child.spec.namespaces.creates(NamespaceKind::Cgroup) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).or_fail(|| "make the cgroup namespace")
}

/// Missing in nix.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Makes the time namespace: its clocks can only be set before anybody is in it, time_namespaces(7).
pub(crate) fn make_time_namespace(child: &mut Child<'_>) -> Result<()> {
    if !child.spec.namespaces.creates(NamespaceKind::Time) {
        return Ok(());
    }
    unshare(CLONE_NEWTIME).or_fail(|| "make the time namespace")?;
    let offsets = offsets_text(&child.spec.time_offsets);
    if !offsets.is_empty() {
        child.with_own_procfs(|procfs| procfs.write("self/timens_offsets", &offsets))?;
    }
    let file =
        child.with_own_procfs(|procfs| procfs.open_namespace("self", "time_for_children"))?;
    Join { kind: NamespaceKind::Time, file }.enter()
}

fn offsets_text(offsets: &TimeOffsets) -> String {
    let clocks = [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)];
    clocks
        .into_iter()
        .filter_map(|(clock, offset)| {
            offset.map(|offset| format!("{clock} {} {}\n", offset.seconds, offset.nanoseconds))
        })
        .collect()
}

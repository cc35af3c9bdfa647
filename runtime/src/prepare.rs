//! Everything that can be made ready before there is a child, and checked before anything is made.

use std::{os::fd::OwnedFd, path::PathBuf};

use crate::{
    Error, Result, Stdio,
    cgroup::{Cgroup, Door},
    procfs::Procfs,
    seccomp::{self, Filter},
    steps::{self, namespaces::Join, program::OwnBinary},
};
use configs::{MountSource, NamespaceKind, Process, Spec};

/// What the child inherits from its parent by being a copy of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) procfs: Procfs,
    pub(crate) own_binary: OwnBinary,
    pub(crate) joins: Vec<Join>,
    /// The root, where only the parent may make it.
    pub(crate) root: Option<OwnedFd>,
    /// Bind mounts only the parent may make, by their index in the Spec.
    pub(crate) binds: Vec<Option<OwnedFd>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// The caller carries what the terminal shows to its own standard output.
    pub(crate) relayed: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) cgroup: Option<Cgroup>,
    /// The way into it.
    pub(crate) door: Option<Door>,
    pub(crate) cgroup_is_unified: bool,
    /// Read end of the start gate.
    pub(crate) gate: Option<OwnedFd>,
    /// The child must not do anything before its id maps are written.
    pub(crate) waits_for_maps: bool,
    /// Stay behind as a first process that reaps, and let the program be the second.
    pub(crate) reaper: bool,
    /// Where the container comes from, for its hooks.
    pub(crate) bundle: PathBuf,
}

impl Prepared {
    pub(crate) fn new(process: &Process, spec: &Spec, preserve_fds: u32) -> Result<Self> {
        let filter = match &spec.seccomp {
            Some(policy) => Some(seccomp::filter(policy, process.capabilities.bounding)?),
            None => None,
        };
        Ok(Self {
            procfs: Procfs::open()?,
            own_binary: OwnBinary::find()?,
            joins: Vec::new(),
            root: None,
            binds: Vec::new(),
            filter,
            stdio: None,
            relayed: false,
            preserve_fds: check_preserved(preserve_fds)?,
            cgroup: None,
            door: None,
            cgroup_is_unified: false,
            gate: None,
            waits_for_maps: false,
            reaper: false,
            bundle: PathBuf::new(),
        })
    }
}

fn check_preserved(count: u32) -> Result<u32> {
    for number in 3..3_i32.saturating_add_unsigned(count) {
        if !sys::is_open(number) {
            return Err(Error::Unsupported(format!(
                "descriptor {number} is to be preserved, but it is not open"
            )));
        }
    }
    Ok(count)
}

/// Finds out everything that can be wrong with the request, before anything is made.
pub(crate) fn check(spec: &Spec, process: &Process, stdio: &Stdio) -> Result<()> {
    steps::root::check(spec)?;
    steps::sysctl::check(spec)?;
    check_namespaces(spec)?;
    check_process(process, stdio)
}

/// The part of it that concerns one process.
pub(crate) fn check_process(process: &Process, stdio: &Stdio) -> Result<()> {
    steps::program::check(process)?;
    steps::credentials::check(process)?;
    steps::limits::check(process)?;
    check_stdio(process, stdio)
}

fn check_namespaces(spec: &Spec) -> Result<()> {
    let namespaces = &spec.namespaces;
    let has = |kind| namespaces.get(kind).is_some();
    if (spec.hostname.is_some() || spec.domainname.is_some()) && !has(NamespaceKind::Uts) {
        return Err(Error::Unsupported("a host name needs a uts namespace".into()));
    }
    if namespaces.creates(NamespaceKind::User)
        && (spec.id_maps.uids.is_empty() || spec.id_maps.gids.is_empty())
    {
        return Err(Error::Unsupported("a new user namespace needs id maps".into()));
    }
    let offsets = spec.time_offsets != configs::TimeOffsets::default();
    if offsets && !namespaces.creates(NamespaceKind::Time) {
        return Err(Error::Unsupported("time offsets need a new time namespace".into()));
    }
    if let Some(label) = &spec.mount_label
        && !selinux_is_on()
    {
        // It would have allowed something to confined processes, of which there are none.
        log::warn!("the mount label {label:?} is ignored: this system has no SELinux");
    }
    for mount in &spec.mounts {
        if mount.relabel.is_some() && selinux_is_on() {
            return Err(Error::Unsupported(format!(
                "relabelling {} for SELinux is not possible yet",
                mount.destination.display()
            )));
        }
        if mount.id_map.is_some() && !matches!(mount.source, MountSource::Bind { .. }) {
            return Err(Error::Unsupported("only bind mounts can map ids".into()));
        }
    }
    Ok(())
}

/// Without SELinux there are no labels, and nothing to do.
pub(crate) fn selinux_is_on() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type == SELINUX_MAGIC)
}

const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c;

/// A terminal needs somebody to hold its other end, and nobody else does.
fn check_stdio(process: &Process, stdio: &Stdio) -> Result<()> {
    match (process.terminal, stdio) {
        (true, Stdio::Inherit | Stdio::Fds(_)) => Err(Error::Unsupported(
            "the process wants a terminal, but there is no console socket for it".into(),
        )),
        (false, Stdio::Terminal | Stdio::ConsoleSocket(_)) => Err(Error::Unsupported(
            "there is a console socket, but the process wants no terminal".into(),
        )),
        _ => Ok(()),
    }
}

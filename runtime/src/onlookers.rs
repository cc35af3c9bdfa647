//! Who in a container could look into a process of ours that is on its way to a program (D-20).
//!
//! From its birth in the container's pid namespace until exec, `exec`'s new process shows our binary as its
//! `/proc/PID/exe`. Opening that, or attaching, takes one of two things (ptrace(2), "Ptrace access mode
//! checking"): that the process is dumpable, which ours is not from birth on, or CAP_SYS_PTRACE over the
//! user namespace we were executed in. So nobody can look
//!
//! * in a user namespace of the container's own: its capabilities end there;
//! * in a pid namespace made for the container, if none of the processes put into it may have the
//!   capability. Those are the first one and its descendants, whose sets are the Spec's at most (setuid
//!   programs and file capabilities are held by the bounding set), and what `exec` and other containers
//!   have added: whoever adds one that may have it leaves a mark first.
//!
//! Everywhere else the program is started again from a read-only view of itself, which costs as much as
//! all the rest of `exec`. Somebody who puts a process with CAP_SYS_PTRACE over the host into a container
//! by other means (nsenter, another runtime) has handed it the host: it can attach to any process of the
//! host's root that enters, whatever its binary is.

use std::{os::fd::AsFd, path::Path};

use configs::{Capability, NamespaceKind, Process, Spec};

use crate::{
    Containers, Result,
    error::OrFail,
    state::StateDir,
    steps::{
        namespaces::Join,
        program::{Inode, inode},
    },
};

/// In the state of a container: a process that could look has been put into its pid namespace.
pub(crate) const WATCHED: &str = "watched";

const SYS_PTRACE: Capability = Capability(19);

/// Whether somebody could look at a process that enters the container to become `process`.
pub(crate) fn may_see(dir: &StateDir, spec: &Spec, process: &Process) -> bool {
    if !spec.namespaces.creates(NamespaceKind::Pid) {
        return true;
    }
    if spec.namespaces.get(NamespaceKind::User).is_some() {
        // Writing a label there, it is dumpable for a moment (`Child::with_own_procfs`).
        return process.selinux_label.is_some() || process.apparmor_profile.is_some();
    }
    spec.process.as_ref().is_none_or(may_have_capability) || dir.has(WATCHED)
}

/// In any set: each can lead to another at some exec, capabilities(7).
fn may_have_capability(process: &Process) -> bool {
    let sets = &process.capabilities;
    let all = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    all & SYS_PTRACE.bit() != 0
}

/// To be called before a process joins a pid namespace: marks the containers living there, if it is one that
/// could look.
pub(crate) fn announce(
    runroot: &Path,
    spec: &Spec,
    process: &Process,
    joins: &[Join],
) -> Result<()> {
    let pids = joins.iter().find(|join| join.kind == NamespaceKind::Pid);
    let Some(joined) = pids.filter(|_| may_have_capability(process)) else { return Ok(()) };
    if spec.namespaces.get(NamespaceKind::User).is_some() {
        return Ok(());
    }
    let joined = inode(joined.file.as_fd()).or_fail(|| "stat the pid namespace")?;
    for container in Containers::open(runroot)?.list()? {
        if pid_namespace(&container.dir)? == Some(joined) {
            container.dir.mark(WATCHED)?;
        }
    }
    Ok(())
}

fn pid_namespace(dir: &StateDir) -> Result<Option<Inode>> {
    let Some(init) = dir.init()? else { return Ok(None) };
    let found = rustix::fs::stat(format!("/proc/{}/ns/pid", init.pid));
    Ok(found.ok().map(|found| (found.st_dev, found.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bit: u64) -> Process {
        let mut process = Process::default();
        process.capabilities.inheritable = bit;
        process
    }

    #[test]
    fn a_capability_in_any_set_counts() {
        assert!(may_have_capability(&with(SYS_PTRACE.bit())));
        assert!(!may_have_capability(&with(!SYS_PTRACE.bit())));
    }
}

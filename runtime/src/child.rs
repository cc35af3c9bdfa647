//! What a process on its way into a container knows.

use std::{
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use configs::{Process, Spec};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::Root;

use crate::{
    ContainerId, Error, Result,
    channel::{ChildEnd, FromChild},
    error::OrFail,
    prepare::Prepared,
    procfs::Procfs,
    steps::{fresh::Fresh, program::Program},
    user::Identity,
};

/// What a process on its way into a container knows: all of it made by its parent, shared by fork.
pub(crate) struct Child<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) spec: &'a Spec,
    /// The process to become: the Spec's, or the one `exec` was given.
    pub(crate) process: &'a Process,
    pub(crate) prepared: &'a Prepared,
    pub(crate) channel: &'a ChildEnd,
    /// The container's root directory, once it is known.
    pub(crate) root: Option<Root>,
    /// What was mounted in it that nobody else has.
    pub(crate) fresh: Fresh,
    /// Where it was mounted, and the root of each procfs and sysfs.
    pub(crate) kernel_filesystems: Vec<(PathBuf, Root)>,
    /// Who it will be, once the container's files were asked.
    pub(crate) identity: Option<Identity>,
    /// What it will execute, once that was found.
    pub(crate) program: Option<Program>,
    /// The slave of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) in_working_directory: bool,
    /// The parent has said that everything outside is done.
    pub(crate) may_go: bool,
    /// Capabilities it could be given at all.
    pub(crate) available: rustix::thread::CapabilitySet,
    /// What it ignores only because its parent does.
    pub(crate) ignored_signals: u64,
    /// Whether its user namespace is not the host's, where mknod(2) and some writes are refused.
    pub(crate) in_user_namespace: bool,
    /// Whether mounts copied from the host still receive the host's (and must be cut one by one).
    pub(crate) keeps_host_propagation: bool,
}

impl Child<'_> {
    pub(crate) fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(|| Error::Unsafe("the root is not open yet".into()))
    }

    /// Where to look a path up: from the mounted procfs or sysfs if it lies in one, else from the root.
    ///
    /// Their names are the image's. Whoever has the root directory open, too, could move another directory
    /// or a link there after the mount, and what is to be masked would be looked for in that (D-26).
    pub(crate) fn look_up_from<'p>(&self, path: &'p Path) -> Result<(&Root, &'p Path)> {
        let found = self.kernel_filesystems.iter().rev().find_map(|(place, root)| {
            let below = path.strip_prefix(place).ok()?;
            let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
            plain.then_some((root, below))
        });
        found.map_or_else(|| Ok((self.root()?, path)), Ok)
    }

    pub(crate) fn tell(&self, message: &FromChild) -> Result<()> {
        self.channel.send(message)
    }

    /// Does something with a file of our own in procfs.
    ///
    /// While we are not dumpable these belong to the host's root, which in a user namespace we are not.
    /// So there we are dumpable for that moment: in a pid namespace of our own nobody can see us yet, and
    /// where somebody can, we run from a read-only view of our binary (D-20).
    pub(crate) fn with_own_procfs<T>(&self, act: impl Fn(&Procfs) -> Result<T>) -> Result<T> {
        let procfs = &self.prepared.procfs;
        if !self.in_user_namespace {
            return act(procfs);
        }
        set_dumpable_behavior(DumpableBehavior::Dumpable).or_fail(|| "become dumpable")?;
        let done = act(procfs);
        set_dumpable_behavior(DumpableBehavior::NotDumpable).or_fail(|| "become undumpable")?;
        done
    }

    pub(crate) fn identity(&self) -> Result<&Identity> {
        self.identity.as_ref().ok_or_else(|| Error::Unsafe("the user is not known yet".into()))
    }
}

/// A row of a step table.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Child<'_>) -> Result<()>,
}

pub(crate) const fn step(name: &'static str, run: fn(&mut Child<'_>) -> Result<()>) -> Step {
    Step { name, run }
}

/// Takes the steps of a table, in its order.
pub(crate) fn walk(table: &[Step], child: &mut Child<'_>) -> Result<()> {
    for step in table {
        (step.run)(child).map_err(|source| Error::Step {
            step: step.name.to_owned(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

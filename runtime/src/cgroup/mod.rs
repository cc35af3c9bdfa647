//! Where a container is accounted and limited: cgroups(7), both versions.
//!
//! [`Place`] is the decision where, kept in the container's state before anything is made (D-55);
//! [`Cgroup`] is what was made there. Version 1 has a directory per hierarchy, version 2 one for
//! everything; on a hybrid system version 2 has no controllers but knows the processes, and can kill
//! them all at once.

mod control;
mod create;
mod dbus;
mod delegation;
mod devices;
mod file;
mod layout;
mod oom;
mod place;
mod remove;
mod statistics;
mod systemd;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use configs::Resources;
pub use delegation::Delegation;
pub use oom::{OomEvent, OomWatch};
pub use place::Place;
pub(crate) use place::random;
use rustix::{
    fs::{Mode, OFlags},
    process::Pid,
};
pub use statistics::{
    BlockIoCount, BlockIoStatistics, CpuStatistics, MemoryStatistics, PidsStatistics, Pressure,
    Stall, Statistics, Usage,
};

use crate::{Error, Result, error::OrFail, spent};

/// Whether this system has cgroup version 2 alone.
pub fn is_unified() -> bool {
    layout::detect().is_ok_and(|layout| layout.legacy.is_empty())
}

/// The cgroup of one container. Dropping it leaves the directories; see [`Cgroup::remove`].
#[derive(Clone, Debug)]
pub struct Cgroup {
    place: Place,
    /// Keeps a new scope of systemd's alive until the container is in it.
    _placeholder: Option<systemd::Placeholder>,
}

impl Cgroup {
    /// Makes it, with its limits in force before anything runs in it (D-31). What this makes and cannot
    /// complete it takes away again.
    ///
    /// With systemd, the value has to live until a process of the container is inside.
    pub fn create(place: Place, resources: &Resources) -> Result<Self> {
        let placeholder = match &place.unit {
            Some(unit) => Some(systemd::start(unit, resources)?),
            None => {
                create::create(&place)?;
                None
            }
        };
        let cgroup = Self { place, _placeholder: placeholder };
        cgroup.write(resources).inspect_err(|_| {
            // The error that brought us here is the one to report.
            if let Err(error) = cgroup.remove() {
                log::warn!("cannot remove the cgroup: {error}");
            }
        })?;
        Ok(cgroup)
    }

    /// The cgroup of a container that was made earlier.
    pub fn open(place: Place) -> Self {
        Self { place, _placeholder: None }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Changes limits. One that cannot be applied is an error (D-31).
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        if let Some(unit) = &self.place.unit {
            systemd::update(unit, resources)?;
        }
        self.write(resources)
    }

    fn write(&self, resources: &Resources) -> Result<()> {
        if self.place.is_unified() {
            v2::apply(&self.place, resources)
        } else {
            v1::apply(&self.place, resources)
        }
    }

    /// What a new process needs to get in.
    pub fn door(&self) -> Result<Door> {
        if self.place.unit.is_some() {
            systemd::come_inside()?;
        }
        let tasks = self.place.legacy.iter().map(|legacy| legacy.path.join("tasks")).collect();
        let directory = (self.place.unified_directory())
            .map(|path| open(path, OFlags::PATH | OFlags::DIRECTORY))
            .transpose()?;
        Ok(Door { tasks, directory })
    }

    /// The way to where a process of the container is. On version 2 a cgroup whose children have
    /// controllers takes no processes itself (cgroups(7)), and an init system in a container moves
    /// everything into children.
    pub fn door_beside(&self, pid: Pid) -> Result<Door> {
        let (true, Some(unified)) = (self.place.is_unified(), &self.place.unified) else {
            return self.door();
        };
        let Ok(own) = layout::Own::of(pid) else { return self.door() };
        let path = own.path("").and_then(|path| path.strip_prefix("/").ok());
        let mut place = self.place.clone();
        // Anywhere else it has been moved to by somebody, and the container's own is right.
        if let (Some(path), Some(there)) =
            (path.map(|it| unified.mount.join(it)), &mut place.unified)
            && path.starts_with(&unified.path)
        {
            there.path = path;
        }
        Self::open(place).door()
    }

    /// The same for a cgroup below it, as `exec --cgroup` names it; it must exist.
    pub fn door_below(&self, name: &Path) -> Result<Door> {
        let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
        if !name.components().all(plain) {
            return Err(Error::Unsafe(format!("cgroup path {}: no `..` here", name.display())));
        }
        let name = name.strip_prefix("/").unwrap_or(name);
        let mut place = self.place.clone();
        for directory in place.legacy.iter_mut().chain(&mut place.unified) {
            directory.path.push(name);
        }
        Self::open(place).door()
    }

    /// Moves another process in. Slow: the kernel waits for an RCU grace period (10 ms), which a
    /// process that enters through a [`Door`] does not.
    pub fn add(&self, pid: Pid) -> Result<()> {
        for directory in self.place.directories() {
            file::write(&directory.path, "cgroup.procs", pid.as_raw_nonzero().to_string())?;
        }
        Ok(())
    }

    /// What to mount at the container's `/sys/fs/cgroup`: with version 1 a directory for each of
    /// these in a tmpfs, with version 2 the one directory itself.
    pub fn mounts(&self) -> Vec<CgroupMount<'_>> {
        self.place
            .directories()
            .map(|directory| CgroupMount {
                name: directory.mount.file_name().map_or(Path::new(""), Path::new),
                source: &directory.path,
            })
            .collect()
    }

    /// Stops every process, and returns once all are stopped.
    pub fn freeze(&self) -> Result<()> {
        control::freeze(&self.place)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        control::thaw(&self.place)
    }

    /// Whether they are stopped.
    pub fn is_frozen(&self) -> Result<bool> {
        control::is_frozen(&self.place)
    }

    /// Kills every process in the cgroup and below, also those forking right now.
    pub fn kill(&self) -> Result<()> {
        control::kill(&self.place)
    }

    /// Every process in the cgroup and below.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        control::processes(&self.place)
    }

    /// What has been used so far.
    pub fn statistics(&self) -> Result<Statistics> {
        statistics::statistics(&self.place)
    }

    /// Watches for the OOM killer.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        OomWatch::new(&self.place)
    }

    /// Kills what is left and removes the directories, those below them first. What is gone already is
    /// no error.
    pub fn remove(&self) -> Result<()> {
        if let (Some(unit), Some(path)) = (&self.place.unit, self.place.unified_directory())
            && rustix::fs::stat(path).is_ok()
        {
            // Asked by systemd to end, what ignores SIGTERM takes its time.
            self.kill()?;
            systemd::stop(unit)?;
        }
        remove::remove(&self.place)
    }
}

/// A mount of [`Cgroup::mounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupMount<'a> {
    /// The name below `/sys/fs/cgroup`, such as `cpu,cpuacct`; each part of such a name should be a
    /// link to it.
    pub name: &'a Path,
    /// The host directory to bind.
    pub source: &'a Path,
}

/// The way into a cgroup for a process that is about to be made.
///
/// A new process belongs in twice: it is cloned into [`Door::directory`] (version 2, CLONE_INTO_CGROUP,
/// clone(2)), then calls [`Door::enter`] while it has one thread (version 1). Only then may it unshare
/// its cgroup namespace: the namespace's root is where the process is at that moment, and clone(2) with
/// CLONE_NEWCGROUP would take the parent's place for it.
#[derive(Debug)]
pub struct Door {
    tasks: Vec<PathBuf>,
    directory: Option<OwnedFd>,
}

impl Door {
    /// For `clone_args.cgroup`, where version 2 is mounted.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// Enters the version 1 hierarchies, while the host's directories can still be seen; nothing to do
    /// without them.
    ///
    /// `tasks` moves one thread and so need not stop the others, which is what makes `cgroup.procs` wait
    /// 10 ms. The caller must have a single thread, or only that one moves.
    pub fn enter(&self) -> Result<()> {
        for path in &self.tasks {
            let tasks = open(path, OFlags::WRONLY)?;
            rustix::io::write(&tasks, b"0").or_fail(|| "enter the container's cgroup")?;
            spent::leave(tasks);
        }
        Ok(())
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .or_fail(|| format!("open {}", path.display()))
}

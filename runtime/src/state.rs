//! The state directory of a container. Status is derived, never stored: nothing here can go stale.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt, io,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use configs::Spec;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, unlinkat,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ContainerId, Error, Result, cgroup::Place, error::OrFail, onlookers::WATCHED};

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made right now (or its maker was killed).
    Creating,
    /// Ready; the program waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A look at a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub id: ContainerId,
    /// What it is doing.
    pub status: Status,
    /// Its first process in our pid namespace, while there is one.
    pub pid: Option<i32>,
    /// The directory it was created from.
    pub bundle: PathBuf,
    /// Its root directory; empty for an overlay.
    pub rootfs: PathBuf,
    /// When.
    pub created: SystemTime,
    /// From the Spec.
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// The document hooks and `state` show (runtime-spec, State).
    pub fn to_oci(&self) -> serde_json::Value {
        let mut document = serde_json::json!({
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": self.status,
            "bundle": self.bundle,
        });
        if let Some(map) = document.as_object_mut() {
            // The specification has the pid only while there is a process.
            if let Some(pid) = self.pid {
                map.insert("pid".into(), pid.into());
            }
            if !self.annotations.is_empty() {
                map.insert("annotations".into(), serde_json::json!(self.annotations));
            }
        }
        document
    }
}

/// The version of the runtime specification our documents follow.
pub const OCI_VERSION: &str = "1.3.0";

/// Layout of `state.json` and `spec.json`.
const FORMAT: u32 = 1;

/// What `state.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) bundle: PathBuf,
    /// Where its cgroup is going to be.
    pub(crate) cgroup: Option<Place>,
    /// Nanoseconds since 1970.
    created: u64,
}

impl Record {
    pub(crate) fn new(bundle: &Path, cgroup: Option<Place>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self { format: FORMAT, bundle: bundle.to_owned(), cgroup, created }
    }

    pub(crate) fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.created)
    }
}

/// A process, beyond doubt (D-36): numbers are reused, but not with the same start time in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    start_time: u64,
    boot_id: String,
}

impl Identity {
    pub(crate) fn of(pid: i32) -> Result<Self> {
        Ok(Self { pid, start_time: start_time(pid)?.0, boot_id: boot_id()? })
    }

    /// Opens the process; `None` when it is gone, be it that its number is somebody else's now.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(Error::call("pidfd_open", error)),
        };
        // Opened first, compared after: the descriptor cannot change its mind any more.
        match start_time(self.pid) {
            Ok((start, alive))
                if start == self.start_time && alive && boot_id()? == self.boot_id =>
            {
                Ok(Some(pidfd))
            }
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) if error.errno() == Some(nix::errno::Errno::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Start time of a process, and whether it is more than a zombie.
fn start_time(pid: i32) -> Result<(u64, bool)> {
    let path = format!("/proc/{pid}/stat");
    let text = read_small(&path)?;
    let damaged = || Error::State { path: path.clone().into(), reason: "not understood".into() };
    // The second field is the program's name, which may hold anything, so count from its last bracket.
    let rest = text.rsplit_once(')').ok_or_else(damaged)?.1;
    let mut fields = rest.split_ascii_whitespace();
    let alive = !matches!(fields.next(), Some("Z" | "X"));
    let start = fields.nth(18).and_then(|field| field.parse().ok()).ok_or_else(damaged)?;
    Ok((start, alive))
}

fn boot_id() -> Result<String> {
    Ok(read_small("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// One open, one read, one close: files of procfs this small come whole.
fn read_small(path: &str) -> Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .or_fail(|| format!("open {path}"))?;
    let mut buffer = [0; 2048];
    let length = rustix::io::read(&file, &mut buffer).or_fail(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

/// `RUNROOT/ID`, held open.
#[derive(Debug)]
pub(crate) struct StateDir {
    pub(crate) fd: Rc<OwnedFd>,
    parent: Rc<OwnedFd>,
    id: ContainerId,
    path: PathBuf,
    /// Whether we were the last to take the lock: then it is not another's.
    locked: Cell<bool>,
}

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "closing it is what unlocks")] OwnedFd);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Names the first process, once there is one. Apart from the record, which is never written twice.
pub(crate) const INIT: &str = "init.json";

/// Waits to be opened for writing by `start`; its presence means "created".
pub(crate) const GATE: &str = "start.fifo";

impl StateDir {
    /// Makes it, which is what makes a container's name taken: one atomic, exclusive operation (D-55).
    pub(crate) fn create(parent: OwnedFd, root: &Path, id: &ContainerId) -> Result<Self> {
        match mkdirat(&parent, id.as_str(), Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists(id.clone())),
            other => other.or_fail(|| format!("mkdir {}", root.join(id).display()))?,
        }
        Self::open(parent, root, id)
    }

    pub(crate) fn open(parent: OwnedFd, root: &Path, id: &ContainerId) -> Result<Self> {
        let path = root.join(id);
        let fd = match openat(&parent, id.as_str(), DIRECTORY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Err(Error::NotFound(id.clone())),
            other => other.or_fail(|| format!("open {}", path.display()))?,
        };
        let (fd, parent) = (Rc::new(fd), Rc::new(parent));
        Ok(Self { fd, parent, id: id.clone(), path, locked: Cell::new(false) })
    }

    /// The directory all states are in.
    pub(crate) fn root(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Serialises the verbs on one container until it is dropped; the kernel lets go when we die (D-53).
    pub(crate) fn lock(&self) -> Result<Lock> {
        let file = self.open_again().or_fail(|| format!("open {}", self.path.display()))?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
            .or_fail(|| format!("lock {}", self.path.display()))?;
        self.locked.set(true);
        Ok(Lock(file))
    }

    /// Whether somebody else is at work on it, such as its maker.
    pub(crate) fn is_locked_by_another(&self) -> bool {
        let is_free = || flock(&self.open_again()?, FlockOperation::NonBlockingLockShared);
        !self.locked.get() && is_free().is_err()
    }

    /// Locks belong to an open file, so that a descriptor of its own is a lock of its own.
    fn open_again(&self) -> rustix::io::Result<OwnedFd> {
        openat(&self.fd, ".", DIRECTORY, Mode::empty())
    }

    /// First writing of the record: nobody can be reading a name that was just made.
    pub(crate) fn write_new<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .or_fail(|| format!("create {}", self.path.join(name).display()))?;
        let text = serde_json::to_vec(value).map_err(|error| self.damaged(name, &error))?;
        std::fs::File::from(file)
            .write_all(&text)
            .or_fail(|| format!("write {}", self.path.join(name).display()))
    }

    /// Replaces a file in one step. No fsync: the directory is memory, and gone after a power cut.
    pub(crate) fn replace<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let temporary = format!("{name}.new");
        match unlinkat(&self.fd, &temporary, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(Error::call(format!("remove {temporary}"), error)),
        }
        self.write_new(&temporary, value)?;
        renameat(&self.fd, &temporary, &self.fd, name)
            .or_fail(|| format!("rename {temporary} to {name}"))
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.or_fail(|| format!("open {}", self.path.join(name).display()))?,
        };
        let mut text = Vec::new();
        std::fs::File::from(file)
            .read_to_end(&mut text)
            .or_fail(|| format!("read {}", self.path.join(name).display()))?;
        // Its maker was killed before the one write that fills it: as good as not there.
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| self.damaged(name, &error))
    }

    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let record: Option<Record> = self.read("state.json")?;
        match record {
            Some(record) if record.format != FORMAT => Err(Error::State {
                path: self.path.join("state.json"),
                reason: format!("format {} is not ours ({FORMAT})", record.format),
            }),
            // Deleting kills whatever is in it.
            Some(Record { cgroup: Some(place), .. }) if !place.is_below_its_mounts() => {
                Err(Error::State {
                    path: self.path.join("state.json"),
                    reason: "its cgroup is none that a container can have".into(),
                })
            }
            other => Ok(other),
        }
    }

    /// The first process; `None` before it is written, and in the instant while it is.
    pub(crate) fn init(&self) -> Result<Option<Identity>> {
        Ok(self.read(INIT).unwrap_or_default())
    }

    /// Another handle, with the same descriptors.
    pub(crate) fn share(&self) -> Self {
        Self {
            fd: Rc::clone(&self.fd),
            parent: Rc::clone(&self.parent),
            id: self.id.clone(),
            path: self.path.clone(),
            locked: Cell::new(false),
        }
    }

    pub(crate) fn spec(&self) -> Result<Spec> {
        self.read("spec.json")?.ok_or_else(|| Error::State {
            path: self.path.join("spec.json"),
            reason: "missing".into(),
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// An empty file, whose being there says something.
    pub(crate) fn mark(&self, name: &str) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map(drop)
            .or_fail(|| format!("create {}", self.path.join(name).display()))
    }

    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => {
                Err(Error::call(format!("remove {}", self.path.join(name).display()), error))
            }
        }
    }

    /// Removes the directory with all that may be in it; a container is gone when its name is free.
    pub(crate) fn remove(&self) -> Result<()> {
        let remove = |names: &[&str]| {
            names.iter().try_for_each(|name| self.remove_file(name))?;
            match unlinkat(&self.parent, self.id.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
                Err(error) => Err(Error::call(format!("remove {}", self.path.display()), error)),
            }
        };
        match remove(&FILES) {
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOTEMPTY) => {
                remove(&RARE_FILES)
            }
            other => other,
        }
    }

    fn damaged(&self, name: &str, error: &dyn fmt::Display) -> Error {
        Error::State { path: self.path.join(name), reason: error.to_string() }
    }
}

/// What every container has. Together with the others it is all a state directory can hold.
const FILES: [&str; 3] = ["spec.json", INIT, "state.json"];

/// What is there before the start or was marked, after a checkpoint too, and what an update that was killed
/// leaves.
const RARE_FILES: [&str; 5] =
    [GATE, WATCHED, crate::checkpoint::MARK, "spec.json.new", "state.json.new"];

/// Opens the directory all states are in, made private (D-14) when missing.
pub(crate) fn open_root(root: &Path) -> Result<OwnedFd> {
    let open = || rustix::fs::open(root, DIRECTORY, Mode::empty());
    match open() {
        Err(rustix::io::Errno::NOENT) => {
            make_private(root).or_fail(|| format!("mkdir {}", root.display()))?;
            open()
        }
        other => other,
    }
    .or_fail(|| format!("open {}", root.display()))
}

fn make_private(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

impl AsFd for StateDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn a_process_is_recognised_until_its_number_means_another() {
        let me = i32::try_from(std::process::id()).unwrap();
        let identity = Identity::of(me).unwrap();
        assert!(identity.open().unwrap().is_some());
        let another = Identity { start_time: identity.start_time + 1, ..identity.clone() };
        assert!(another.open().unwrap().is_none());
        let before_reboot = Identity { boot_id: "other".into(), ..identity };
        assert!(before_reboot.open().unwrap().is_none());
    }
}

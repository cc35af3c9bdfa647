//! Freezing a container into files, and making a running container of them again: by criu(8), the
//! program, which has to be installed.
//!
//! criu dumps and restores what is inside. What reaches in from outside it has to be told of, and told
//! again when it restores: mounts of host directories and standard descriptors. A record beside its
//! images keeps the list.

mod dump;
mod external;
mod restore;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use configs::{NamespaceKind, Spec};
use external::External;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use crate::{Container, ContainerId, Containers, CreateOptions, Error, Result, error::OrFail};

/// How to dump or restore.
#[derive(Clone, Debug, Default)]
pub struct CheckpointOptions {
    /// Where the images are.
    pub images: PathBuf,
    /// Where criu puts its log; the images' directory if absent.
    pub work: Option<PathBuf>,
    /// Let the container go on after a dump.
    pub leave_running: bool,
    /// Established TCP connections may be dumped, and are restored.
    pub tcp_established: bool,
    /// Unix sockets may be connected to the outside.
    pub external_unix_sockets: bool,
    /// Locks of files may be held.
    pub file_locks: bool,
    /// The session's leader is outside: a program on somebody's terminal.
    pub shell_job: bool,
    /// criu, if not where it is usually installed.
    pub program: Option<PathBuf>,
    /// Send the memory's pages to a criu page-server at this address instead of writing them.
    pub page_server: Option<SocketAddr>,
}

impl Container {
    /// Dumps it; unless it is to go on, its processes are gone then, and it can be deleted.
    pub fn checkpoint(&self, options: &CheckpointOptions) -> Result<()> {
        dump::dump(self, options)
    }

    /// Whether its processes went into a dump: whoever ran it does not delete it then.
    pub(crate) fn is_checkpointed(&self) -> bool {
        self.dir.has(MARK)
    }
}

impl Containers {
    /// Makes a container of a dump. `creation` says where its standard descriptors come from.
    pub fn restore(
        &self,
        id: &ContainerId,
        spec: &Spec,
        creation: CreateOptions,
        options: &CheckpointOptions,
    ) -> Result<Container> {
        let pid_file = creation.pid_file.clone();
        restore::restore(self, id, spec, creation, options)?.tell_pid(pid_file.as_deref())
    }
}

/// What criu cannot know when it restores.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Mounts from outside, by mount point; their order gives them names.
    mounts: Vec<(PathBuf, External)>,
    /// criu's names for the standard descriptors that lead outside.
    stdio: [Option<String>; 3],
}

/// In the state of a container that went into a dump.
pub(crate) const MARK: &str = "checkpoint";

/// Beside criu's images.
const RECORD: &str = "crun-cargo.json";

impl Record {
    fn write(&self, images: &Path) -> Result<()> {
        let path = images.join(RECORD);
        let text = serde_json::to_string(self)
            .map_err(|error| Error::State { path: path.clone(), reason: error.to_string() })?;
        fs::write(&path, text).or_fail(|| format!("write {}", path.display()))
    }

    fn read(images: &Path) -> Result<Self> {
        let path = images.join(RECORD);
        let text = fs::read_to_string(&path).or_fail(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::State { path, reason: error.to_string() })
    }
}

/// Flags that have to be the same when dumping and when restoring.
fn common_flags(options: &CheckpointOptions, log: &str) -> Vec<String> {
    let work = options.work.as_ref().unwrap_or(&options.images);
    let mut flags: Vec<String> = [
        "--images-dir".to_owned(),
        options.images.display().to_string(),
        "--work-dir".to_owned(),
        work.display().to_string(),
        "--log-file".to_owned(),
        log.to_owned(),
        "-v4".to_owned(),
        // Cgroups are ours to make: with the limits of the Spec, where the new container's are.
        "--manage-cgroups=ignore".to_owned(),
    ]
    .into();
    for (wanted, flag) in [
        (options.tcp_established, "--tcp-established"),
        (options.external_unix_sockets, "--ext-unix-sk"),
        (options.file_locks, "--file-locks"),
        (options.shell_job, "--shell-job"),
    ] {
        flags.extend(wanted.then(|| flag.to_owned()));
    }
    flags
}

/// The program: where the caller says, else where distributions and its own Makefile put it.
fn criu(options: &CheckpointOptions) -> Result<&Path> {
    const PLACES: [&str; 4] =
        ["/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu", "/usr/local/bin/criu"];
    let there = |path: &&Path| access(*path, Access::EXEC_OK).is_ok();
    match options.program.as_deref() {
        Some(program) => Some(program).filter(there).ok_or_else(|| {
            Error::Unsupported(format!("{} is not a program that can be run", program.display()))
        }),
        None => PLACES.iter().map(Path::new).find(there).ok_or_else(|| {
            Error::Unsupported("checkpoints need criu, which is not installed".into())
        }),
    }
}

/// What a failed criu says in its log: its errors, the first of which is usually the reason.
fn failure(verb: &str, options: &CheckpointOptions, log: &str) -> Error {
    let path = options.work.as_ref().unwrap_or(&options.images).join(log);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let reason = text.lines().find_map(|line| line.split_once("Error (")).map_or("", |it| it.1);
    // `criu/files.c:12): what`
    let reason = reason.split_once("): ").map_or(reason, |it| it.1);
    Error::Unsupported(format!(
        "criu cannot {verb} the container: {reason} (see {})",
        path.display()
    ))
}

/// D-37: what would come back weaker or not at all.
fn refuse_what_is_not_restored(spec: &Spec) -> Result<()> {
    let joins = spec.namespaces.iter().any(|namespace| namespace.join.is_some());
    let refused = [
        ("a terminal", spec.process.as_ref().is_some_and(|process| process.terminal)),
        ("a user namespace", spec.namespaces.creates(NamespaceKind::User)),
        ("a time namespace", spec.namespaces.creates(NamespaceKind::Time)),
        ("a namespace shared with others", joins),
        ("network interfaces of its own", !spec.interfaces.is_empty()),
        ("a host's network device", !spec.net_devices.is_empty()),
        ("a class of service (intelRdt)", spec.intel_rdt.is_some()),
        ("hooks that run before the program", has_creation_hooks(spec)),
    ];
    match refused.iter().find(|row| row.1) {
        Some((what, _)) => Err(Error::Unsupported(format!(
            "a container with {what} cannot be checkpointed and restored"
        ))),
        None => Ok(()),
    }
}

fn has_creation_hooks(spec: &Spec) -> bool {
    let hooks = &spec.hooks;
    [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container]
        .iter()
        .any(|hooks| !hooks.is_empty())
}

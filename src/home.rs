//! Where images, containers and the state of running ones are kept, for root and for users.

use std::{
    env,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf, absolute},
};

use anyhow::Context;

/// The two directories everything of ours is in.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// Images and containers, on disk.
    pub(crate) root: PathBuf,
    /// The state of running containers, in memory where the system has a place for that.
    pub(crate) runroot: PathBuf,
}

impl Home {
    /// What was asked for, else the environment, else the place for this user.
    pub(crate) fn choose(root: Option<PathBuf>, runroot: Option<PathBuf>) -> anyhow::Result<Self> {
        let root = match root.or_else(|| variable("CRUN_CARGO_ROOT")) {
            Some(root) => root,
            None => default_root()?,
        };
        let runroot = match runroot.or_else(asked_runroot).or_else(usual_runroot) {
            Some(runroot) => runroot,
            // /tmp is other people's too (D-14).
            None => root.join("run"),
        };
        Ok(Self { root: complete(root)?, runroot: complete(runroot)? })
    }

    /// For what keeps no images: only the state has a place. An engine's environment need not say where its
    /// user is at home.
    pub(crate) fn of_states(runroot: Option<PathBuf>) -> anyhow::Result<Self> {
        match runroot.or_else(asked_runroot).or_else(usual_runroot) {
            Some(runroot) => {
                let runroot = complete(runroot)?;
                Ok(Self { root: runroot.clone(), runroot })
            }
            None => Self::choose(None, None),
        }
    }

    /// What we know of each container, a directory each. (The store has `containers` for their files.)
    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    /// Containers' names, one link each.
    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// Named volumes, a directory each.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
}

/// Makes a directory nobody else may look into (D-14), and its parents; content with one that is there.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A variable of the environment that is set to something.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether this is the system's administrator, as far as the file system is concerned.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether everything is an ordinary user's: that user calls, or root of a user namespace of theirs, as
/// engines without root make one. Root of a whole system in a namespace has no session of a user's.
pub(crate) fn is_users() -> bool {
    let in_session = || variable("XDG_RUNTIME_DIR").is_some();
    !is_root() || in_session() && !runtime::user_namespace::is_initial()
}

/// Whose files the program makes: user and group.
pub(crate) fn caller() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn default_root() -> anyhow::Result<PathBuf> {
    if !is_users() {
        return Ok(PathBuf::from("/var/lib/crun-cargo"));
    }
    let data = variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .context("cannot tell where to keep images: set HOME, XDG_DATA_HOME or --root")?;
    Ok(data.join("crun-cargo"))
}

fn asked_runroot() -> Option<PathBuf> {
    variable("CRUN_CARGO_RUNROOT")
}

/// In memory; a user without a session has no place there.
fn usual_runroot() -> Option<PathBuf> {
    if !is_users() {
        return Some(PathBuf::from("/run/crun-cargo"));
    }
    variable("XDG_RUNTIME_DIR").map(|directory| directory.join("crun-cargo"))
}

/// Containers outlive the working directory they were started in.
fn complete(path: PathBuf) -> anyhow::Result<PathBuf> {
    absolute(&path).with_context(|| format!("cannot use {} as a directory", path.display()))
}

//! All containers of one run root.

use std::path::{Path, PathBuf};

use configs::Spec;

use crate::{
    Container, ContainerId, CreateOptions, Result, create,
    error::OrFail,
    state::{self, StateDir},
};

/// All containers whose state is kept below one directory, usually in `/run`.
#[derive(Clone, Debug)]
pub struct Containers {
    root: PathBuf,
}

impl Containers {
    /// Names the directory; it is made, private, with the first container.
    pub fn open(runroot: &Path) -> Result<Self> {
        // Hooks and the bootstrap have other working directories.
        let root = std::path::absolute(runroot).or_fail(|| runroot.display().to_string())?;
        Ok(Self { root })
    }

    /// Where their state is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a container whose program waits for [`Container::start`].
    pub fn create(
        &self,
        id: &ContainerId,
        spec: &Spec,
        options: CreateOptions,
    ) -> Result<Container> {
        let pid_file = options.pid_file.clone();
        let container = create::create(self, id, spec, options, create::Gate::Closed)?;
        container.tell_pid(pid_file.as_deref())
    }

    /// An existing container.
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        let parent = state::open_root(&self.root)?;
        Container::load(StateDir::open(parent, &self.root, id)?)
    }

    /// All of them, by name. One that cannot be read (it may be vanishing) is passed over with a warning.
    pub fn list(&self) -> Result<Vec<Container>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.or_fail(|| format!("read {}", self.root.display()))?,
        };
        let mut ids: Vec<ContainerId> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok())
            .collect();
        ids.sort();
        let load = |id| match self.load(&id) {
            Ok(container) => Some(container),
            Err(crate::Error::NotFound(_)) => None,
            Err(error) => {
                log::warn!("container {id}: {error}");
                None
            }
        };
        Ok(ids.into_iter().filter_map(load).collect())
    }
}

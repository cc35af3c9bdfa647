//! Which container is meant, and which file describes it.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use runtime::{Container, ContainerId, Containers, Error};

use crate::{cli::Globals, home};

/// The name the later version gave a container nobody named.
const DEFAULT_ID: &str = "nsinit";

/// `--id`, which every command on a container has.
#[derive(Args, Debug)]
pub(super) struct Id {
    /// Container; without it, the one of this directory's container.json, else `nsinit`
    #[arg(long, value_name = "ID", value_parser = id)]
    id: Option<ContainerId>,
}

/// nsinit's own rule for names; ours (D-16) holds as well.
fn id(text: &str) -> Result<ContainerId, String> {
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match text.parse() {
        Ok(id) if good => Ok(id),
        _ => Err(format!("Invalid id format: {text}")),
    }
}

impl Id {
    /// Whether it was said.
    pub(super) fn is_given(&self) -> bool {
        self.id.is_some()
    }

    /// The container's name.
    pub(super) fn choose(&self) -> anyhow::Result<ContainerId> {
        match (&self.id, file_here()?) {
            (Some(id), _) => Ok(id.clone()),
            (None, Some(file)) => of_directory(file.parent().unwrap_or(Path::new("/"))),
            (None, None) => Ok(DEFAULT_ID.parse()?),
        }
    }

    /// The name of a container that a file of its own describes.
    pub(super) fn or_default(&self) -> anyhow::Result<ContainerId> {
        match &self.id {
            Some(id) => Ok(id.clone()),
            None => Ok(DEFAULT_ID.parse()?),
        }
    }

    /// The running container.
    pub(super) fn load(&self, globals: &Globals) -> anyhow::Result<Container> {
        let containers = Containers::open(&globals.home.runroot)?;
        let id = self.choose()?;
        match containers.load(&id) {
            // It may have been started from a file elsewhere.
            Err(Error::NotFound(_)) if self.id.is_none() => {
                Ok(containers.load(&self.or_default()?)?)
            }
            other => Ok(other?),
        }
    }
}

/// The directory that may hold container.json: the older version's `data_path`, else the current one.
pub(super) fn directory() -> anyhow::Result<PathBuf> {
    let current = env::current_dir().context("cannot find the working directory")?;
    Ok(home::variable("data_path").map_or_else(|| current.clone(), |path| current.join(path)))
}

/// container.json of that directory, if it has one.
pub(super) fn file_here() -> anyhow::Result<Option<PathBuf>> {
    let file = directory()?.join("container.json");
    match fs::metadata(&file) {
        Ok(found) if found.is_file() => Ok(Some(file)),
        Ok(_) => bail!("{} is not a file", file.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", file.display())),
    }
}

/// One container per directory: its name followed by a hash of the whole path, so that equal names of
/// different directories stay apart.
fn of_directory(directory: &Path) -> anyhow::Result<ContainerId> {
    let text = directory.to_string_lossy();
    // FNV-1a: nobody gains anything by finding two directories of his own with one hash.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
    Ok(format!("nsinit_{name}_{hash:016x}").parse()?)
}

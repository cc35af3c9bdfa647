//! state.json beside container.json, as the older version kept it: scripts of its time find the container
//! by it. Ours find it by its name, so losing the file loses nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use runtime::Container;
use serde::Deserialize;
use serde_json::json;

use super::state::{cgroup_paths, start_time};
use crate::report::advise;

const FILE: &str = "state.json";

/// The file of a running container; dropped, it is removed.
#[derive(Debug)]
pub(super) struct StateFile(PathBuf);

/// What the older version wrote, as far as it tells whether the container lives.
#[derive(Deserialize)]
struct Known {
    init_pid: i32,
    init_start_time: String,
}

impl StateFile {
    /// Writes it for a container that runs now; one that has ended by now needs none. What a crash left
    /// behind is replaced.
    pub(super) fn write(directory: &Path, container: &Container) -> anyhow::Result<Option<Self>> {
        let Some(pid) = container.state()?.pid else { return Ok(None) };
        let Ok(start_time) = start_time(pid) else { return Ok(None) };
        let interfaces = container.spec()?.interfaces.clone();
        // With a prefix the whole name is the kernel's to know.
        let veth = interfaces.first().filter(|interface| !interface.host_name_is_prefix);
        let network = veth.map_or(
            json!({}),
            |veth| json!({ "veth_host": veth.host_name, "veth_child": veth.name }),
        );
        let document = json!({
            "init_pid": pid,
            "init_start_time": start_time,
            "network_state": network,
            "cgroup_paths": cgroup_paths(container),
        });
        let path = directory.join(FILE);
        // The directory may be a container's root, where a link of this name leads anywhere.
        remove(&path)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path))
            .and_then(|mut file| file.write_all(document.to_string().as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self(path)))
    }

    /// Refuses to start what is running already, known to another place than ours. A process of that
    /// number that began at another time is another process.
    pub(super) fn check(directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(FILE);
        let Some(known) = read(&path) else { return Ok(()) };
        match start_time(known.init_pid) {
            Ok(time) if time == known.init_start_time => Err(advise(
                format!(
                    "{} says that the container runs as process {}",
                    path.display(),
                    known.init_pid
                ),
                "name the --root it was started with; if it is none, remove the file",
            )),
            _ => {
                log::info!("{} is of a container that is gone", path.display());
                Ok(())
            }
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whatever else has the name says nothing.
fn read(path: &Path) -> Option<Known> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

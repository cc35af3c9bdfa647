//! `state`: what a container consists of, as nsinit's later version wrote it.

use std::{collections::BTreeMap, fs, process::ExitCode};

use anyhow::Context;
use clap::Args;
use configs::{NamespaceKind, nsinit};
use runtime::Container;
use serde_json::json;

use super::place::Id;
use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct State {
    #[command(flatten)]
    id: Id,
}

impl Verb for State {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = self.id.load(globals)?;
        let state = container.state()?;
        let pid = state.pid.context("the container is not running")?;
        let cgroup_paths = cgroup_paths(&container);
        let config = nsinit::write(&*container.spec()?)?;
        for warning in config.warnings {
            log::debug!("{warning}");
        }
        let document = json!({
            "id": state.id,
            "init_process_pid": pid,
            "init_process_start": start_time(pid)?,
            "cgroup_paths": cgroup_paths,
            "namespace_paths": namespace_paths(pid),
            "config": config.value,
            "external_descriptors": descriptors(pid),
        });
        output::line(serde_json::to_string(&document)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Controllers and the directories they are limited in.
pub(super) fn cgroup_paths(container: &Container) -> BTreeMap<String, String> {
    let cgroup = container.cgroup();
    let paths = cgroup.iter().flat_map(|cgroup| cgroup.place().paths());
    paths.map(|(name, path)| (name.to_owned(), path.display().to_string())).collect()
}

/// Field 22 of stat, proc(5), as a string.
pub(super) fn start_time(pid: i32) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The program's name, the second field, may contain anything but ends with the last parenthesis.
    let rest = stat.rsplit_once(')').map(|parts| parts.1).unwrap_or_default();
    Ok(rest.split_whitespace().nth(19).unwrap_or_default().to_owned())
}

/// By the file's names for them: all six of the time.
fn namespace_paths(pid: i32) -> BTreeMap<&'static str, String> {
    use NamespaceKind::{Ipc, Mount, Network, Pid, User, Uts};
    [(Network, "net"), (Pid, "pid"), (Mount, "mnt"), (Uts, "uts"), (Ipc, "ipc"), (User, "user")]
        .map(|(kind, file)| (kind.nsinit_name(), format!("/proc/{pid}/ns/{file}")))
        .into()
}

/// What the standard descriptors are; empty where nobody may look.
pub(super) fn descriptors(pid: i32) -> Vec<String> {
    let link = |fd| fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    (0..3).map(|fd| link(fd).map(|it| it.display().to_string()).unwrap_or_default()).collect()
}

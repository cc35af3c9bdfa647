//! `state`: what a container is doing, as runc prints it.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::PathBuf, process::ExitCode};

use clap::Args;
use runtime::{Container, ContainerId, Status};
use serde::Serialize;

use super::load;
use crate::{
    cli::{Globals, Verb},
    output, timestamp,
};

#[derive(Args, Debug)]
pub(super) struct State {
    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for State {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let report = Report::of(&load(globals, &self.id)?, globals)?;
        output::line(serde_json::to_string_pretty(&report)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The specification's state, with what runc adds, in runc's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    oci_version: &'static str,
    pub(super) id: String,
    /// 0 once there is no process, as engines expect.
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: PathBuf,
    rootfs: PathBuf,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

impl Report {
    pub(super) fn of(container: &Container, globals: &Globals) -> runtime::Result<Self> {
        let state = container.state()?;
        let directory = globals.home.runroot.join(state.id.as_str());
        Ok(Self {
            oci_version: runtime::OCI_VERSION,
            id: state.id.as_str().to_owned(),
            pid: state.pid.unwrap_or(0),
            status: state.status,
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: timestamp::rfc3339(state.created),
            annotations: state.annotations,
            owner: directory.symlink_metadata().map(|it| owner(it.uid())).unwrap_or_default(),
        })
    }
}

/// A number as runc shows users without a name; the static program asks no name service (D-8).
fn owner(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("#{uid}") }
}

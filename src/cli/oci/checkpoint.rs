//! `checkpoint`: dump a running container to files, by criu.

use std::{
    path::{Path, PathBuf, absolute},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use runtime::{CheckpointOptions, ContainerId};

use super::load;
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    files: Files,

    /// Let the container go on
    #[arg(long)]
    leave_running: bool,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

/// Flags that `restore` has as well.
#[derive(Args, Debug)]
pub(super) struct Files {
    /// Where the dump is
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,

    /// Where criu writes its log; the dump's directory unless given
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,

    /// Allow established TCP connections
    #[arg(long)]
    tcp_established: bool,

    /// Allow unix sockets that are connected to the outside
    #[arg(long)]
    ext_unix_sk: bool,

    /// Allow locks of files
    #[arg(long)]
    file_locks: bool,

    /// How cgroups are treated: they are made anew, as the configuration says
    #[arg(long, value_name = "MODE", default_value = "ignore", value_parser = ["ignore"])]
    manage_cgroups_mode: String,
}

impl Files {
    pub(super) fn options(&self, leave_running: bool) -> anyhow::Result<CheckpointOptions> {
        let whole =
            |path: &Path| absolute(path).with_context(|| format!("cannot use {}", path.display()));
        Ok(CheckpointOptions {
            images: whole(&self.image_path)?,
            work: self.work_path.as_deref().map(whole).transpose()?,
            leave_running,
            tcp_established: self.tcp_established,
            external_unix_sockets: self.ext_unix_sk,
            file_locks: self.file_locks,
            ..CheckpointOptions::default()
        })
    }
}

impl Verb for Checkpoint {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = load(globals, &self.id)?;
        container.checkpoint(&self.files.options(self.leave_running)?)?;
        if !self.leave_running {
            container.delete(true)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

//! `spec`: a config.json to start from, or made from another dialect's file.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use configs::oci;

use crate::{
    cli::{Globals, Verb},
    home,
};

#[derive(Args, Debug)]
pub(super) struct Spec {
    /// Write config.json into this directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// For a user without privileges: a user namespace, no limits, the host's network
    #[arg(long)]
    rootless: bool,
}

impl Verb for Spec {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let path = self.bundle.join("config.json");
        let new = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match new {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{} exists: remove it first", path.display())
            }
            other => other.with_context(|| format!("cannot write {}", path.display()))?,
        };
        file.write_all(oci::template(self.rootless.then(home::caller))?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

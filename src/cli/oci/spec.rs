//! `spec`: a config.json to start from, or made from another dialect's file.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf, absolute},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use configs::{
    CgroupDriver,
    nsinit::{self, Invocation, ProcessFlags},
    oci,
};

use super::bundle::warn;
use crate::{
    cli::{Globals, Verb},
    home, output,
};

#[derive(Args, Debug)]
pub(super) struct Spec {
    /// Write config.json into this directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// For a user without privileges: a user namespace, no limits, the host's network
    #[arg(long)]
    rootless: bool,

    /// Print this container.json as a config.json, or this config.json as a container.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "rootless"])]
    from: Option<PathBuf>,

    /// What runs, for a container.json that leaves it to the command line
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        requires = "from",
        default_value = "sh"
    )]
    command: Vec<String>,
}

impl Verb for Spec {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        if let Some(file) = &self.from {
            let text = self.convert(file)?;
            output::line(text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = self.bundle.join("config.json");
        let new = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match new {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{} exists: remove it first", path.display())
            }
            other => other.with_context(|| format!("cannot write {}", path.display()))?,
        };
        let caller = self.rootless.then(home::caller);
        let text = oci::template(caller, runtime::cgroup::is_unified())?;
        file.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Spec {
    fn convert(&self, file: &Path) -> anyhow::Result<String> {
        let place = || file.display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", place()))?;
        let file = absolute(file)?;
        let directory = file.parent().unwrap_or(Path::new("/"));
        let id = directory.file_name().unwrap_or_default().to_string_lossy();
        if nsinit::is_oci(&text) {
            let bundle = oci::Bundle { directory, id: &id, driver: CgroupDriver::Cgroupfs };
            let spec = warn(oci::parse(&text, bundle).with_context(place)?);
            return Ok(warn(nsinit::write(&spec)?).print()?);
        }
        let invocation = Invocation {
            directory: directory.to_owned(),
            unique_name: id.into_owned(),
            caller: home::caller(),
            process: ProcessFlags { args: self.command.clone(), ..ProcessFlags::default() },
            ..Invocation::default()
        };
        let spec = warn(nsinit::parse(&text, &invocation).with_context(place)?);
        Ok(warn(oci::write(&spec)?))
    }
}

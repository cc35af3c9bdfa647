//! `checkpoint` and `restore`: a container into files and back, by criu.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use configs::nsinit::{Invocation, ProcessFlags};
use runtime::{CheckpointOptions, ContainerId, Containers, foreground};

use super::{create_flags::CreateArgs, exec, place, place::Id, state};
use crate::{
    cli::{Globals, Verb},
    home,
};

/// Beside criu's images, as the later version left it: what the standard descriptors were.
const DESCRIPTORS: &str = "descriptors.json";

/// What dumping and restoring have in common.
#[derive(Args, Debug)]
struct Images {
    /// Directory of the dump
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,

    /// Directory for criu's log [default: in the dump's]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,

    /// Established TCP connections are part of it
    #[arg(long)]
    tcp_established: bool,

    /// Unix sockets may be connected to the outside
    #[arg(long)]
    ext_unix_sk: bool,

    /// Its program may be on the terminal of a session outside
    #[arg(long)]
    shell_job: bool,
}

impl Images {
    fn options(self, globals: &Globals) -> anyhow::Result<CheckpointOptions> {
        let Some(images) = self.image_path else {
            bail!("The --image-path option isn't specified");
        };
        Ok(CheckpointOptions {
            images: absolute(images)?,
            work: self.work_path.map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            external_unix_sockets: self.ext_unix_sk,
            shell_job: self.shell_job,
            program: globals.criu.clone(),
            ..CheckpointOptions::default()
        })
    }
}

#[derive(Args, Debug)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    id: Id,

    #[command(flatten)]
    images: Images,

    /// Let it go on afterwards
    #[arg(long)]
    leave_running: bool,

    /// Send the memory to a criu page-server
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<SocketAddr>,
}

impl Verb for Checkpoint {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let Self { id, images, leave_running, page_server } = self;
        let options = CheckpointOptions { leave_running, page_server, ..images.options(globals)? };
        let container = id.load(globals)?;
        // What the standard descriptors were cannot be asked for any more afterwards.
        let pid = container.state()?.pid.context("the container is not running")?;
        let descriptors = serde_json::to_string(&state::descriptors(pid))?;
        container.checkpoint(&options)?;
        let file = options.images.join(DESCRIPTORS);
        fs::write(&file, descriptors)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    #[command(flatten)]
    id: Id,

    #[command(flatten)]
    images: Images,

    /// Describes the container [default: container.json of this directory, else a template]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    create: CreateArgs,
}

impl Verb for Restore {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let dump = self.images.options(globals)?;
        let id = self.id.choose()?;
        let file = match self.config {
            Some(file) => Some(file),
            None => place::file_here()?,
        };
        let text = exec::document(file.as_deref(), &self.create)?;
        let lowered = configs::nsinit::parse(&text, &invocation(&id)?);
        let spec = match &file {
            Some(file) => lowered.with_context(|| file.display().to_string())?,
            None => lowered?,
        }
        .value;
        let containers = Containers::open(&globals.home.runroot)?;
        if let Ok(dumped) = containers.load(&id) {
            // Its processes went into the dump.
            dumped.delete(false)?;
        }
        let bundle = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        let options = foreground::Options { bundle: bundle.to_owned(), ..Default::default() };
        let status = foreground::restore(&containers, &id, &spec, options, &dump)?;
        Ok(ExitCode::from(status.code()))
    }
}

/// The program that runs is in the dump; the file only has to be complete.
fn invocation(id: &ContainerId) -> anyhow::Result<Invocation> {
    Ok(Invocation {
        directory: std::env::current_dir().context("cannot find the working directory")?,
        unique_name: id.as_str().to_owned(),
        caller: home::caller(),
        process: ProcessFlags { args: vec!["dumped".to_owned()], ..ProcessFlags::default() },
        ..Invocation::default()
    })
}

//! `run`: a container, from a reference or a directory to its exit code.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use clap::Args;
use registry::{Platform, Source};
use rootfs::Store;
use runtime::ContainerId;

use super::{
    access::{AccessArgs, ProgressArgs},
    container::ContainerArgs,
};
use crate::{
    cli::{Globals, Verb},
    images::{self, Policy, Wanted},
    launch::{self, Base, Launch},
    progress::Progress,
    report::{Advised, advise},
};

/// Run a command in a new container
///
/// The image is pulled when it is not here. With --rootfs, a directory takes the image's place: its files
/// are not changed, unless :rw is added. `run --rootfs / bash` is a throw-away copy of this very machine.
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    override_usage = "crun-cargo run [OPTIONS] IMAGE [COMMAND] [ARG]...\n       crun-cargo run [OPTIONS] --rootfs DIR COMMAND [ARG]..."
)]
pub(super) struct Run {
    /// Use this directory instead of an image: ro, rw, or O to keep changes apart (the default)
    #[arg(long, value_name = "DIR[:ro|:rw|:O]")]
    rootfs: Option<RootfsFlag>,

    /// Name of the container
    #[arg(long)]
    name: Option<ContainerId>,

    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,

    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// How many seconds `stop` waits before it kills the program
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,

    /// When to pull: always, missing, newer, never
    #[arg(long, value_name = "POLICY", default_value = "missing", hide_possible_values = true)]
    pull: Policy,

    /// Variant to choose when the image has several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Say nothing while pulling
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    container: ContainerArgs,

    /// Image, command and arguments
    #[arg(value_name = "IMAGE", trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

/// `DIR[:ro|:rw|:O]`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RootfsFlag {
    directory: PathBuf,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    ReadOnly,
    ReadWrite,
    Sandbox,
}

impl RootfsFlag {
    /// What a container's root is made of.
    pub(super) fn base(&self) -> Base {
        let path = self.directory.clone();
        match self.mode {
            Mode::Sandbox => Base::Sandbox(path),
            mode => Base::Directory { path, read_only: mode == Mode::ReadOnly },
        }
    }
}

impl FromStr for RootfsFlag {
    type Err = Advised;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (directory, mode) = match text.rsplit_once(':') {
            Some((directory, "ro")) => (directory, Mode::ReadOnly),
            Some((directory, "rw")) => (directory, Mode::ReadWrite),
            Some((directory, "O")) => (directory, Mode::Sandbox),
            _ => (text, Mode::Sandbox),
        };
        let found =
            std::path::absolute(directory).and_then(|path| match path.metadata()?.is_dir() {
                true => Ok(path),
                false => Err(std::io::ErrorKind::NotADirectory.into()),
            });
        match found {
            Ok(directory) => Ok(Self { directory, mode }),
            Err(error) => Err(Advised::new(
                format!("{directory}: {error}"),
                "it must be a directory that holds a root filesystem; / is this machine's own",
            )),
        }
    }
}

impl Verb for Run {
    fn run(mut self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let mut words = std::mem::take(&mut self.words);
        let command = words.split_off(usize::from(self.rootfs.is_none()).min(words.len()));
        // Before anything is pulled: a bad flag must not cost a download.
        let request = self.container.clone().request(command)?;
        let base = match &self.rootfs {
            Some(rootfs) => rootfs.base(),
            None => match words.pop() {
                Some(name) => self.image(&store, name)?,
                None => {
                    return Err(advise(
                        "which image is to be run?",
                        "for example: crun-cargo run -it --rm debian bash",
                    ));
                }
            },
        };
        let launch = Launch {
            base,
            request,
            name: self.name.map(|name| name.to_string()),
            remove: self.rm,
            cidfile: self.cidfile,
            stop_timeout: self.stop_timeout,
        };
        let status = launch::run(&globals.home, &store, globals.cgroup_manager, launch)?;
        Ok(ExitCode::from(status.code()))
    }
}

impl Run {
    fn image(&self, store: &Store, name: String) -> anyhow::Result<Base> {
        let access = self.access.clone().access();
        let wanted = Wanted {
            source: name.parse::<Source>()?,
            platform: self.platform.clone(),
            policy: self.pull,
            access: &access,
        };
        // Without a terminal, standard error is the program's alone.
        let is_silent = self.quiet || self.progress.is_auto_without_terminal();
        let progress = Progress::new(self.progress.progress, is_silent);
        let image = Box::new(images::ensure(store, &name, &wanted, &progress)?);
        Ok(Base::Image { name, image })
    }
}

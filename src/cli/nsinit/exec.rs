//! `exec`: start the container, or run a command in the running one.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use configs::{
    NamespaceKind, Spec,
    nsinit::{self, Invocation, ProcessFlags},
};
use runtime::{
    Container, ContainerId, Containers, Error, ExecOptions, ExitStatus, Status,
    foreground::{self, Keyboard},
};

use super::{
    create_flags::CreateArgs, function::Function, place, place::Id, state_file::StateFile,
};
use crate::{
    cli::{CgroupManager, Globals, Verb},
    home, launch, output,
};

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// Allocate a terminal
    #[arg(long, short)]
    tty: bool,

    /// Accepted for docker's sake: standard input is always passed on
    #[arg(long, short, hide = true)]
    interactive: bool,

    /// Have systemd make the cgroup
    #[arg(long)]
    systemd: bool,

    #[command(flatten)]
    id: Id,

    /// Describes the container [default: container.json of this directory, else a template]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Run as USER[:GROUP]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// Set a variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Take the file as it is, without what old samples leave out
    #[arg(long)]
    strict_config: bool,

    /// Leave /etc/resolv.conf alone when the network is shared
    #[arg(long)]
    no_resolv_conf: bool,

    /// List the functions --func can name
    #[arg(long)]
    list: bool,

    /// What to do in the running container
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    func: Function,

    #[command(flatten)]
    create: CreateArgs,

    /// Program and arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

/// Whether an `exec` of the main command line is this one: the directory says what to start or join, and
/// no flag says otherwise.
pub(crate) fn is_meant(words: &[OsString]) -> bool {
    let options = words.iter().map(|word| word.to_string_lossy());
    let mut options = options.take_while(|word| word.starts_with('-') && word != "--");
    let makes = |word: &str| {
        ["--image", "--config", "--rootfs"].iter().any(|flag| {
            word.strip_prefix(flag).is_some_and(|it| it.is_empty() || it.starts_with('='))
        })
    };
    !options.any(|word| makes(&word)) && matches!(place::file_here(), Ok(Some(_)))
}

impl Verb for Exec {
    fn run(mut self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if self.list {
            Function::list()?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.func != Function::Exec {
            return self.func.run(&self.id.load(globals)?, &self.command);
        }
        if self.command.is_empty() {
            bail!("no command: say what to run in the container");
        }
        let file = match self.config.take() {
            Some(file) => Some(file),
            None if !self.create.suits_a_file() => None,
            None => place::file_here()?,
        };
        let id = self.name(file.as_deref())?;
        let status = self.enter_or_start(globals, &id, file.as_deref())?;
        Ok(ExitCode::from(status.code()))
    }
}

impl Exec {
    /// A file elsewhere describes a container without a place of its own.
    fn name(&self, file: Option<&Path>) -> anyhow::Result<ContainerId> {
        let here = place::file_here()?;
        if file.is_some() && file == here.as_deref() {
            self.id.choose()
        } else {
            self.id.or_default()
        }
    }

    fn enter_or_start(
        &self,
        globals: &Globals,
        id: &ContainerId,
        file: Option<&Path>,
    ) -> anyhow::Result<ExitStatus> {
        let containers = Containers::open(&globals.home.runroot)?;
        // Two at once: one starts the container, and the other finds it there a moment later.
        for _ in 0..3 {
            match containers.load(id) {
                Ok(container) => match container.status()? {
                    // What a crash left behind.
                    Status::Stopped => container.delete(true)?,
                    _ => return self.enter(&container),
                },
                Err(Error::NotFound(_)) => match self.start(globals, &containers, id, file) {
                    Err(error) if is_taken(&error) => continue,
                    other => return other,
                },
                Err(error) => return Err(error.into()),
            }
        }
        bail!("container {id} comes and goes: try again")
    }

    /// The container's own process with what was asked for (D-29).
    fn enter(&self, container: &Container) -> anyhow::Result<ExitStatus> {
        let first = container.spec()?.process.clone().unwrap_or_default();
        let process = nsinit::another_process(first, &self.process_flags())?;
        Ok(foreground::exec(container, &process, ExecOptions::default(), Keyboard::Attached)?)
    }

    fn start(
        &self,
        globals: &Globals,
        containers: &Containers,
        id: &ContainerId,
        file: Option<&Path>,
    ) -> anyhow::Result<ExitStatus> {
        let text = document(file, &self.create)?;
        let lowered = nsinit::parse(&text, &self.invocation(id)?);
        let lowered = match file {
            Some(file) => lowered.with_context(|| file.display().to_string())?,
            None => lowered?,
        };
        for warning in &lowered.warnings {
            log::warn!("{warning}");
        }
        let mut spec = lowered.value;
        let rootfs = spec.root.path.clone();
        launch::hide_ours(&rootfs, &mut spec);
        if globals.cgroup_manager == CgroupManager::Disabled {
            spec.cgroup = None;
        }
        if file.is_some()
            && let Some(network) = self.create.network()
        {
            use_network(&mut spec, network);
        }
        if !self.no_resolv_conf {
            launch::share_resolver(&mut spec);
        }
        let is_alone = has_loopback_only(&spec);
        let directory = place::directory()?;
        let options =
            foreground::Options { bundle: directory.clone(), ..foreground::Options::default() };
        // Without an id it is the directory's container, as the older version had it.
        let status = if self.id.is_given() || file != place::file_here()?.as_deref() {
            foreground::run(containers, id, &spec, options)?
        } else {
            StateFile::check(&directory)?;
            foreground::run_telling(containers, id, &spec, options, |container| {
                let written = StateFile::write(&directory, container);
                written.inspect_err(|error| log::warn!("{error:#}")).ok()
            })?
        };
        if file.is_some() && is_alone && status.code() != 0 && io::stderr().is_terminal() {
            output::note(
                "note: this container has no network but its own loopback; with `--net host` it \
                 shares this machine's",
            );
        }
        Ok(status)
    }

    fn invocation(&self, id: &ContainerId) -> anyhow::Result<Invocation> {
        let directory = env::current_dir().context("cannot find the working directory")?;
        let root = self.create.rootfs.as_ref().map(|rootfs| directory.join(rootfs));
        Ok(Invocation {
            directory,
            unique_name: id.as_str().to_owned(),
            root,
            caller: home::caller(),
            systemd: self.systemd,
            strict: self.strict_config,
            process: self.process_flags(),
        })
    }

    fn process_flags(&self) -> ProcessFlags {
        ProcessFlags {
            args: self.command.clone(),
            user: self.user.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            tty: self.tty,
        }
    }
}

/// The file, or the template with its flags.
pub(super) fn document(file: Option<&Path>, create: &CreateArgs) -> anyhow::Result<String> {
    if let Some(file) = file {
        log::info!("using {}", file.display());
        return fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let directory = env::current_dir().context("cannot find the working directory")?;
    let mut flags = create.clone().flags();
    if let Some(rootfs) = &flags.rootfs {
        flags.rootfs = Some(directory.join(rootfs).to_string_lossy().into_owned());
    }
    Ok(nsinit::template(&directory.to_string_lossy(), &flags)?.print()?)
}

fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Exists(_)))
}

/// Another network than the file's: the host's, or one that exists.
fn use_network(spec: &mut Spec, join: Option<PathBuf>) {
    spec.namespaces.set(NamespaceKind::Network, join.map(Some));
    spec.interfaces.clear();
    spec.routes.clear();
}

fn has_loopback_only(spec: &Spec) -> bool {
    spec.namespaces.creates(NamespaceKind::Network)
        && spec.interfaces.is_empty()
        && spec.net_devices.is_empty()
}

//! `exec`: another process in a running container.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Args;
use configs::{Process, nsinit::ProcessFlags};
use runtime::{Containers, ExecOptions, foreground};

use super::{
    configured::{ConfiguredArgs, FILE},
    signals::{load, require_running},
};
use crate::{
    cli::{Globals, Personality, Verb, nsinit, oci},
    record,
    report::advise,
    request::Request,
    streams::Streams,
};

/// Run a command in a running container, or in one that a configuration describes
///
/// With --image, --config, --rootfs or --id, or in a directory that holds a container.json, it is nsinit's
/// exec: a container is made from that configuration, or the running one with the same --id is entered.
/// With --process it is the OCI runtimes' exec. Otherwise the first word names a container.
#[derive(Args, Debug)]
#[command(
    override_usage = "crun-cargo exec [OPTIONS] CONTAINER COMMAND [ARG]...\n       crun-cargo exec [OPTIONS] --image IMAGE COMMAND [ARG]..."
)]
pub(super) struct Exec {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    tty: bool,

    /// Set a variable of the environment; without a value, pass ours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Working directory inside the container
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR")]
    workdir: Option<String>,

    /// User to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Give the process all capabilities
    #[arg(long)]
    privileged: bool,

    #[command(flatten)]
    configured: ConfiguredArgs,

    /// Container, command and arguments
    #[arg(required = true, trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

/// The personality an `exec` belongs to: `--process` is only the OCI runtimes', and one that makes its
/// container is nsinit's.
pub(super) fn door(words: &[OsString]) -> Option<&'static Personality> {
    let options = words.iter().take_while(|word| word.to_string_lossy().starts_with('-'));
    let is_process = |word: &OsString| {
        let word = word.to_string_lossy();
        word == "-p" || word == "--process" || word.starts_with("--process=")
    };
    if options.into_iter().any(is_process) {
        return Some(&oci::PERSONALITY);
    }
    nsinit::is_meant(words).then_some(&super::MAKING_EXEC)
}

impl Verb for Exec {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if self.configured.is_asked_for() {
            return self.in_configured(globals);
        }
        self.in_named(globals)
    }
}

impl Exec {
    /// In a container that was started before.
    fn in_named(mut self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let name = self.words.remove(0);
        let container = record::find(&globals.home, &name).map_err(|error| {
            match record::is_missing(&error) {
                true => advise(
                    format!("there is no container {name:?}, and no ./{FILE} to make one from"),
                    "`crun-cargo ps` lists running containers; --image IMAGE makes one for the command",
                ),
                false => error,
            }
        })?;
        let containers = Containers::open(&globals.home.runroot)?;
        let running = load(&containers, &container)?;
        let running = require_running(&container, running.as_ref(), "execute something in")?;
        self.enter(running)
    }

    fn enter(self, running: &runtime::Container) -> anyhow::Result<ExitCode> {
        let first = running.spec()?.process.clone().unwrap_or_default();
        let (interactive, terminal) = (self.interactive, self.tty);
        let streams = Streams { interactive, terminal, attach: Vec::new() };
        let process = self.process(&first)?;
        running.protect_from_onlookers(&process)?;
        let options = ExecOptions { stdio: streams.stdio()?, ..ExecOptions::default() };
        let status = foreground::exec(running, &process, options, streams.keyboard())?;
        Ok(ExitCode::from(status.code()))
    }

    /// In a container made from a configuration, or in the running one with the same id.
    fn in_configured(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let containers = Containers::open(&globals.home.runroot)?;
        if let Some(id) = &self.configured.id
            && let Ok(container) = record::find(&globals.home, id.as_str())
            && let Some(running) = load(&containers, &container)?
        {
            return self.enter(&running);
        }
        if self.privileged {
            return Err(advise(
                "--privileged: a configuration says itself what its container may do",
                "leave --privileged out, or use `crun-cargo run --privileged`",
            ));
        }
        let mut request = Request { env: self.env, env_files: self.env_file, ..Request::default() };
        request.read_environment()?;
        let process = ProcessFlags {
            args: self.words,
            user: self.user,
            cwd: self.workdir,
            env: request.overrides.env,
            tty: self.tty,
        };
        self.configured.run(globals, process)
    }

    /// The container's own process with what was asked for: identity, powers and filters are those it
    /// was started with (D-29).
    fn process(self, first: &Process) -> anyhow::Result<Process> {
        let mut request = Request { env: self.env, env_files: self.env_file, ..Request::default() };
        request.read_environment()?;
        let overrides = &mut request.overrides;
        overrides.args = self.words;
        overrides.workdir = self.workdir.map(PathBuf::from);
        overrides.user = self.user;
        overrides.terminal = self.tty;
        overrides.privileged = self.privileged;
        Ok(configs::image::lower_exec(first, overrides)?)
    }
}

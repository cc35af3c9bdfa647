//! `exec`: another process in a running container.

use std::ffi::OsString;
use std::{fs::File, io, os::fd::AsFd, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use configs::Process;
use runtime::{Containers, ExecOptions, Stdio, foreground};

use super::signals::{load, require_running};
use crate::{
    cli::{Globals, Personality, Verb, nsinit, oci},
    record,
    request::Request,
};

/// Run a command in a running container
///
/// With --image, --config or --rootfs, or in a directory that holds a container.json, it is nsinit's exec:
/// a container is made from that configuration. With --process it is the OCI runtimes' exec.
#[derive(Args, Debug)]
#[command(override_usage = "crun-cargo exec [OPTIONS] CONTAINER COMMAND [ARG]...")]
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
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// User to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Give the process all capabilities
    #[arg(long)]
    privileged: bool,

    #[arg(short, long, hide = true)]
    detach: bool,

    /// Container, by name or id
    container: String,

    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
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
        if self.detach {
            return Err(crate::report::advise(
                "-d: processes in the background do not exist yet",
                "leave -d out, or put `&` behind the command",
            ));
        }
        let container = record::find(&globals.home, &self.container)?;
        let containers = Containers::open(&globals.home.runroot)?;
        let running = load(&containers, &container)?;
        let running = require_running(&container, running.as_ref(), "execute something in")?;
        let first = running.spec()?.process.unwrap_or_default();
        let stdio = self.stdio()?;
        let process = self.process(first)?;
        let options = ExecOptions { stdio, ..ExecOptions::default() };
        Ok(ExitCode::from(foreground::exec(running, &process, options)?.code()))
    }
}

impl Exec {
    /// The container's own process with what was asked for: identity, powers and filters are those it
    /// was started with (D-29).
    fn process(self, first: Process) -> anyhow::Result<Process> {
        let mut request = Request { env: self.env, env_files: self.env_file, ..Request::default() };
        request.read_environment()?;
        let overrides = &mut request.overrides;
        overrides.args = self.command;
        overrides.workdir = self.workdir;
        overrides.user = self.user;
        overrides.terminal = self.tty;
        overrides.privileged = self.privileged;
        Ok(configs::image::lower_exec(&first, overrides)?)
    }

    fn stdio(&self) -> anyhow::Result<Stdio> {
        if self.interactive || self.tty {
            return Ok(Stdio::Inherit);
        }
        let open = || -> io::Result<Stdio> {
            Ok(Stdio::Fds([
                File::open("/dev/null")?.into(),
                io::stdout().as_fd().try_clone_to_owned()?,
                io::stderr().as_fd().try_clone_to_owned()?,
            ]))
        };
        open().context("cannot pass standard output on")
    }
}

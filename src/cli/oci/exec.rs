//! `exec`: another process in a running container.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use configs::{Capability, Process, UserId, oci};
use runtime::{
    Container, ContainerId, ExecOptions, Stdio,
    foreground::{self, Keyboard},
};

use super::{
    bundle::{detached_stdio, warn},
    load,
};
use crate::{
    cli::{Globals, Verb},
    report,
};

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// Read the process from this file instead of flags
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Allocate a terminal
    #[arg(long, short)]
    tty: bool,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set a variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Run as UID[:GID]
    #[arg(long, short, value_name = "UID[:GID]", value_parser = ids)]
    user: Option<(u32, Option<u32>)>,

    /// Add a group
    #[arg(long, short = 'g', value_name = "GID", value_delimiter = ',')]
    additional_gids: Vec<u32>,

    /// Return once the program runs
    #[arg(long, short)]
    detach: bool,

    /// Write the process' number here
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Unix socket that gets the process' terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// Forbid gaining privileges
    #[arg(long)]
    no_new_privs: bool,

    /// Add a capability
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    cap: Vec<Capability>,

    /// Pass this many further descriptors, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,

    /// Put it in a cgroup below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Even in a paused container; it runs once that is resumed
    #[arg(long)]
    ignore_paused: bool,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,

    /// Program and arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// runc's, so that a failure of ours is not taken for the program's own.
const FAILURE: u8 = 255;

impl Verb for Exec {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let attempt = self.execute(globals);
        Ok(attempt
            .unwrap_or_else(|error| report::failure(globals.personality.name, &error, FAILURE)))
    }
}

impl Exec {
    fn execute(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = load(globals, &self.id)?;
        let process = self.wanted(&container)?;
        container.protect_from_onlookers(&process)?;
        let stdio = match (self.detach, self.console_socket) {
            (true, socket) => detached_stdio(process.terminal, socket.as_deref())?,
            (false, Some(socket)) if process.terminal => Stdio::ConsoleSocket(socket),
            (false, Some(_)) => bail!("--console-socket needs a terminal"),
            (false, None) => Stdio::Inherit,
        };
        let options = ExecOptions {
            stdio,
            preserve_fds: self.preserve_fds,
            cgroup: self.cgroup,
            ignore_paused: self.ignore_paused,
            pid_file: self.pid_file,
        };
        if self.detach {
            container.exec(&process, options)?;
            return Ok(ExitCode::SUCCESS);
        }
        let status = foreground::exec(&container, &process, options, Keyboard::Attached)?;
        Ok(ExitCode::from(status.code()))
    }

    /// The file's process, or the container's first one with what the flags change (D-29).
    fn wanted(&self, container: &Container) -> anyhow::Result<Process> {
        if let Some(file) = &self.process {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let lowered = oci::parse_process(&text).with_context(|| file.display().to_string())?;
            return Ok(warn(lowered));
        }
        if self.command.is_empty() {
            bail!("no command: give one, or --process FILE");
        }
        let mut process = container.spec()?.process.clone().unwrap_or_default();
        process.args.clone_from(&self.command);
        process.terminal = self.tty;
        process.console_size = None;
        process.env.extend(self.env.iter().cloned());
        process.no_new_privileges |= self.no_new_privs;
        if let Some(directory) = &self.cwd {
            process.cwd.clone_from(directory);
        }
        if let Some((uid, gid)) = self.user {
            process.user.uid = UserId::Number(uid);
            if let Some(gid) = gid {
                process.user.gid = Some(UserId::Number(gid));
            }
        }
        let groups = self.additional_gids.iter().copied().map(UserId::Number);
        process.user.groups.additional.extend(groups);
        let added = self.cap.iter().fold(0, |mask, capability| mask | capability.bit());
        let sets = &mut process.capabilities;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            *set |= added;
        }
        sets.ambient |= added & sets.inheritable;
        if self.apparmor.is_some() {
            process.apparmor_profile.clone_from(&self.apparmor);
        }
        if self.process_label.is_some() {
            process.selinux_label.clone_from(&self.process_label);
        }
        Ok(process)
    }
}

/// Numbers only: names are an engine's business.
fn ids(text: &str) -> Result<(u32, Option<u32>), String> {
    let id = |text: &str| match text.parse() {
        Ok(id) if id < u32::MAX && !text.starts_with('+') => Ok(id),
        _ => Err(format!("{text:?} is no id")),
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
        None => Ok((id(text)?, None)),
    }
}

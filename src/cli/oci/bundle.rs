//! A bundle: the directory with config.json, read once; and the flags `create` and `run` share.

use std::{
    env, fs,
    path::{Path, PathBuf, absolute},
    process,
};

use anyhow::{Context, bail};
use clap::Args;
use configs::{CgroupDriver, Lowered, Resources, Spec, oci};
use runtime::{ContainerId, Stdio};

use crate::cli::{CgroupManager, Globals};

/// Flags of a verb that makes a container.
#[derive(Args, Debug)]
pub(super) struct Making {
    /// Directory with config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// The file to read instead of the bundle's config.json (crun's spelling)
    #[arg(long, short = 'f', value_name = "FILE", default_value = "config.json")]
    config: PathBuf,

    /// Unix socket that gets the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,

    /// Write the first process' number here
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,

    /// Enter the root without pivot_root(2), for a ramdisk
    #[arg(long)]
    no_pivot: bool,

    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,

    /// Pass this many further descriptors, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

/// A bundle, read.
pub(super) struct Bundle {
    /// Absolute.
    pub(super) directory: PathBuf,
    /// What the container is.
    pub(super) spec: Spec,
    /// How many descriptors it inherits, from 3 on.
    pub(super) preserve_fds: u32,
}

impl Making {
    /// Reads and lowers the bundle.
    pub(super) fn read(&self, globals: &Globals, id: &ContainerId) -> anyhow::Result<Bundle> {
        let directory = absolute(&self.bundle)
            .with_context(|| format!("cannot use {} as a bundle", self.bundle.display()))?;
        let file = directory.join(&self.config);
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let driver = match globals.cgroup_manager {
            CgroupManager::Systemd => CgroupDriver::Systemd,
            _ => CgroupDriver::Cgroupfs,
        };
        let surroundings = oci::Bundle { directory: &directory, id: id.as_str(), driver };
        let lowered =
            oci::parse(&text, surroundings).with_context(|| file.display().to_string())?;
        let mut spec = warn(lowered);
        if globals.cgroup_manager == CgroupManager::Disabled {
            spec.cgroup = None;
        }
        if globals.cgroup_manager == CgroupManager::IfAllowed {
            leave_cgroup_without_limits(&mut spec);
        }
        spec.no_pivot = self.no_pivot;
        spec.keep_keyring = self.no_new_keyring;
        let listening = pass_listening_sockets(&mut spec);
        Ok(Bundle { directory, spec, preserve_fds: self.preserve_fds.saturating_add(listening) })
    }

    /// Where the container's standard descriptors are, when nobody stays to relay a terminal.
    pub(super) fn detached_stdio(&self, spec: &Spec) -> anyhow::Result<Stdio> {
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        detached_stdio(terminal, self.console_socket.as_deref())
    }
}

/// Where a process' standard descriptors are, when nobody stays to relay a terminal.
pub(super) fn detached_stdio(terminal: bool, socket: Option<&Path>) -> anyhow::Result<Stdio> {
    match (terminal, socket) {
        (true, Some(socket)) => Ok(Stdio::ConsoleSocket(socket.to_owned())),
        (true, None) => bail!("a detached process with a terminal needs --console-socket"),
        (false, Some(_)) => bail!("--console-socket needs process.terminal"),
        (false, None) => Ok(Stdio::Inherit),
    }
}

/// Logs the warnings of a document.
pub(super) fn warn<T>(lowered: Lowered<T>) -> T {
    for warning in lowered.warnings {
        log::warn!("{warning}");
    }
    lowered.value
}

/// `--rootless`: without limits nothing is lost; with limits the attempt is made, and fails by name if it
/// must (D-31).
fn leave_cgroup_without_limits(spec: &mut Spec) {
    let is_unlimited = spec.cgroup.as_ref().is_some_and(|cgroup| {
        // Devices need no policy where none can be made.
        let limits = Resources { devices: Vec::new(), ..cgroup.resources.clone() };
        limits == Resources::default()
    });
    if is_unlimited {
        spec.cgroup = None;
    }
}

/// Socket activation (sd_listen_fds(3)): descriptors meant for us are meant for the container, whose
/// program is process 1 there.
fn pass_listening_sockets(spec: &mut Spec) -> u32 {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    let count = number("LISTEN_FDS").unwrap_or(0);
    if count == 0 || number("LISTEN_PID") != Some(process::id()) {
        return 0;
    }
    if let Some(process) = &mut spec.process {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".to_owned());
    }
    count
}

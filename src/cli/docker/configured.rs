//! nsinit's door to `exec`: a container from a container.json, with an image for its root if one is named.

use std::{env, fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use configs::nsinit::{self, CreateFlags, Invocation, ProcessFlags};
use registry::{Platform, Source};
use rootfs::Store;
use runtime::ContainerId;

use super::{
    access::{AccessArgs, ProgressArgs},
    run::RootfsFlag,
};
use crate::{
    cli::{CgroupManager, Globals},
    home,
    images::{self, Policy, Wanted},
    launch::{self, Base},
    progress::Progress,
    record,
};

/// The configuration that is used when none is named.
pub(super) const FILE: &str = "container.json";

// Which configuration, and which root. (A doc comment would become the command's description.)
#[derive(Args, Debug)]
pub(super) struct ConfiguredArgs {
    /// Image for the root filesystem of a new container
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Configuration of a new container: a container.json, or an OCI config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory for the root filesystem of a new container: ro, rw, or O to keep changes apart
    #[arg(long, value_name = "DIR[:ro|:rw|:O]", conflicts_with = "image")]
    rootfs: Option<RootfsFlag>,

    /// Name of the new container; the command joins a running one of that name
    #[arg(long, value_name = "NAME")]
    pub(super) id: Option<ContainerId>,

    /// Leave /etc/resolv.conf alone when the network is shared
    #[arg(long)]
    no_resolv_conf: bool,

    /// When to pull: always, missing, newer, never
    #[arg(long, value_name = "POLICY", default_value = "missing", hide_possible_values = true)]
    pull: Policy,

    /// Variant to choose when the image has several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,
}

impl ConfiguredArgs {
    /// Whether the command is meant for a configuration, not for a container by its name.
    pub(super) fn is_asked_for(&self) -> bool {
        let is_named = self.image.is_some() || self.config.is_some() || self.rootfs.is_some();
        is_named || self.id.is_some() || fs::metadata(FILE).is_ok()
    }

    /// Makes the container, runs the command in it, and removes it.
    pub(super) fn run(self, globals: &Globals, process: ProcessFlags) -> anyhow::Result<ExitCode> {
        let directory = env::current_dir().context("cannot find the working directory")?;
        let text = self.configuration(&directory)?;
        let (unique_name, _) = record::new_id()?;
        let base = self.rootfs.as_ref().map(RootfsFlag::base);
        let invocation = Invocation {
            root: match (&base, &self.image) {
                (Some(Base::Directory { path, .. } | Base::Sandbox(path)), _) => Some(path.clone()),
                // Replaced by the image's layers before anything is mounted.
                (_, Some(_)) => Some(PathBuf::from("/")),
                _ => None,
            },
            directory,
            unique_name,
            caller: home::caller(),
            systemd: globals.cgroup_manager == CgroupManager::Systemd,
            strict: false,
            process,
        };
        let lowered = nsinit::parse(&text, &invocation)?;
        for warning in &lowered.warnings {
            log::warn!("{warning}");
        }
        let mut spec = lowered.value;
        if globals.cgroup_manager == CgroupManager::Disabled {
            spec.cgroup = None;
        }
        if !self.no_resolv_conf {
            launch::share_resolver(&mut spec);
        }
        let store = globals.store()?;
        let base = match &self.image {
            Some(name) => Some(self.pull(&store, name)?),
            None => base,
        };
        let name = self.id.map(|id| id.to_string());
        let status = launch::run_configured(&globals.home, &store, base, name, spec)?;
        Ok(ExitCode::from(status.code()))
    }

    /// The text of the file that was named, else of the one that is here, else of nsinit's template.
    fn configuration(&self, directory: &std::path::Path) -> anyhow::Result<String> {
        if let Some(path) = &self.config {
            return fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        match fs::read_to_string(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = directory.to_string_lossy();
                let template = nsinit::template(&directory, &CreateFlags::default())?;
                Ok(serde_json::to_string(&template)?)
            }
            other => {
                log::info!("using ./{FILE}");
                other.with_context(|| format!("cannot read ./{FILE}"))
            }
        }
    }

    fn pull(&self, store: &Store, name: &str) -> anyhow::Result<Base> {
        let access = self.access.clone().access();
        let wanted = Wanted {
            source: name.parse::<Source>()?,
            platform: self.platform.clone(),
            policy: self.pull,
            access: &access,
        };
        let progress =
            Progress::new(self.progress.progress, self.progress.is_auto_without_terminal());
        let image = Box::new(images::ensure(store, name, &wanted, &progress)?);
        Ok(Base::Image { name: name.to_owned(), image })
    }
}

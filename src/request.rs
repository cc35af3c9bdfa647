//! A container as it was asked for, completed from the host: files read, devices and volumes found.

use std::{
    env,
    fs::{self, File},
    io::{self, Read},
    os::{linux::fs::MetadataExt, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use configs::{
    CgroupDriver, DeviceKind,
    flags::{
        DeviceFlag, Dns, HostDevice, HostEntry, MountFlag, NamespaceChoice, SecurityOption, Volume,
        VolumeSource, hosts_file, resolv_conf,
    },
    image::Overrides,
};

use crate::{
    cli::CgroupManager,
    home::{Home, make_private_directory},
    ordinary,
    report::advise,
    streams::Stream,
};

/// Larger than any file people write by hand.
const MAX_FILE: u64 = 8 << 20;

/// What the command line said, as far as it needs the host to be understood.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// What needs nothing.
    pub(crate) overrides: Overrides,
    /// `-i`
    pub(crate) interactive: bool,
    /// `-a`
    pub(crate) attach: Vec<Stream>,
    /// `--env`
    pub(crate) env: Vec<String>,
    /// `--env-file`
    pub(crate) env_files: Vec<PathBuf>,
    /// `--label-file`
    pub(crate) label_files: Vec<PathBuf>,
    /// `--device`
    pub(crate) devices: Vec<DeviceFlag>,
    /// `--cgroup-parent`
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// `--add-host`
    pub(crate) hosts: Vec<HostEntry>,
    /// `--dns` and its kin
    pub(crate) dns: Dns,
}

/// A small file of `/etc` that is the container's own.
#[derive(Debug)]
pub(crate) struct EtcFile {
    /// Below `/etc` in the container, and in the container's directory.
    pub(crate) name: &'static str,
    pub(crate) content: String,
}

impl Request {
    /// Reads the files that were named, looks up devices, makes volumes.
    pub(crate) fn complete(
        &mut self,
        home: &Home,
        id: &str,
        manager: CgroupManager,
    ) -> anyhow::Result<()> {
        self.read_environment()?;
        self.read_labels()?;
        self.read_seccomp_profile()?;
        self.find_devices()?;
        self.overrides.user_namespace = ordinary::container_maps();
        self.overrides.cgroup = cgroup(manager, self.cgroup_parent.as_deref(), id);
        if self.overrides.hostname.is_none() && self.overrides.uts == NamespaceChoice::Private {
            // Who shares the host's network is the host to others.
            self.overrides.hostname = match self.overrides.network {
                NamespaceChoice::Host => Some(host_name()?),
                _ => id.get(..12).map(str::to_owned),
            };
        }
        if !self.overrides.mounts.is_empty() {
            self.overrides.host_directory =
                env::current_dir().context("cannot find the working directory")?;
            self.find_volumes(home, id)?;
        }
        Ok(())
    }

    /// Adds what `--env-file` and `--env` say to the variables asked for.
    pub(crate) fn read_environment(&mut self) -> anyhow::Result<()> {
        for path in &self.env_files {
            for variable in assignments(path)? {
                self.overrides.env.extend(with_our_value(&variable));
            }
        }
        for variable in &self.env {
            self.overrides.env.extend(with_our_value(variable));
        }
        Ok(())
    }

    /// What `--label-file` says comes before `--label`.
    fn read_labels(&mut self) -> anyhow::Result<()> {
        for path in self.label_files.iter().rev() {
            self.overrides.labels.splice(0..0, assignments(path)?);
        }
        Ok(())
    }

    fn read_seccomp_profile(&mut self) -> anyhow::Result<()> {
        let file = self.overrides.security.iter().rev().find_map(|option| match option {
            SecurityOption::SeccompFile(path) => Some(path),
            _ => None,
        });
        self.overrides.seccomp_profile = file.map(|path| read(path)).transpose()?;
        Ok(())
    }

    fn find_devices(&mut self) -> anyhow::Result<()> {
        for flag in std::mem::take(&mut self.devices) {
            let host = flag.host.clone();
            let device = device(flag)
                .with_context(|| format!("--device {}", host.display()))?
                .ok_or_else(|| {
                    advise(
                        format!("--device {}: that is no device", host.display()),
                        "-v shows files and directories of the host",
                    )
                })?;
            self.overrides.devices.push(device);
        }
        if self.overrides.privileged {
            every_device(Path::new("/dev"), 0, &mut self.overrides.devices)?;
        }
        Ok(())
    }

    /// Gives every volume a path that exists.
    fn find_volumes(&mut self, home: &Home, id: &str) -> anyhow::Result<()> {
        let directory = self.overrides.host_directory.clone();
        let mut anonymous = 0;
        for mount in &mut self.overrides.mounts {
            let MountFlag::Volume(volume) = mount else { continue };
            let path = match &volume.source {
                VolumeSource::Path(path) => {
                    let path = directory.join(path);
                    check_source(volume, &path)?;
                    continue;
                }
                VolumeSource::Name(name) => home.volumes().join(name),
                VolumeSource::Anonymous => {
                    anonymous += 1;
                    home.records().join(id).join(format!("volume{anonymous}"))
                }
            };
            make_private_directory(path.parent().unwrap_or(&path))
                .and_then(|()| make_volume(&path))
                .with_context(|| format!("cannot make the volume {}", path.display()))?;
            volume.source = VolumeSource::Path(path);
        }
        Ok(())
    }

    /// The files of `/etc` that say who and where the container is. A mount asked for at one of them
    /// keeps its place.
    pub(crate) fn etc_files(&self) -> anyhow::Result<Vec<EtcFile>> {
        let hostname = self.overrides.hostname.as_deref();
        let base = match self.overrides.network {
            NamespaceChoice::Host => Some(host_file("/etc/hosts")?),
            _ => None,
        };
        let hosts = hosts_file(base.as_deref(), hostname, &self.hosts);
        let mut files = vec![EtcFile { name: "hosts", content: hosts }];
        if let Some(hostname) = hostname {
            files.push(EtcFile { name: "hostname", content: format!("{hostname}\n") });
        }
        // A container with only loopback can ask nobody, so the host's servers are not read for it.
        let asks_nobody = self.overrides.network == NamespaceChoice::Private;
        if !asks_nobody || self.dns != Dns::default() {
            let host = if asks_nobody { String::new() } else { host_file("/etc/resolv.conf")? };
            files.push(EtcFile { name: "resolv.conf", content: resolv_conf(&host, &self.dns) });
        }
        let wanted = |file: &EtcFile| {
            let path = Path::new("/etc").join(file.name);
            !self.overrides.mounts.iter().any(|mount| match mount {
                MountFlag::Volume(volume) => volume.destination == path,
                MountFlag::Tmpfs(tmpfs) => tmpfs.destination == path,
            })
        };
        files.retain(wanted);
        Ok(files)
    }
}

/// A file of the host's that a container gets a copy of; one that is missing is as good as empty.
fn host_file(path: &str) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {path}")),
    }
}

fn host_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(name.trim().to_owned())
}

/// The lines `NAME=value` or `NAME` of a file, without comments.
fn assignments(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(read(path)?.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            bail!("{}:{number}: {name:?} is no name", path.display());
        }
        found.push(line.to_owned());
    }
    Ok(found)
}

/// `NAME` alone passes our own value on, and nothing when we have none.
fn with_our_value(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    let value = env::var_os(variable)?;
    Some(format!("{variable}={}", value.to_string_lossy()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn cgroup(
    manager: CgroupManager,
    parent: Option<&Path>,
    id: &str,
) -> Option<(PathBuf, CgroupDriver)> {
    match manager {
        CgroupManager::Disabled => None,
        CgroupManager::Cgroupfs | CgroupManager::IfAllowed => {
            let driver = CgroupDriver::Cgroupfs;
            let parent = parent.unwrap_or_else(|| ordinary::cgroup_parent(driver));
            Some((parent.join(id), driver))
        }
        CgroupManager::Systemd => {
            let driver = CgroupDriver::Systemd;
            let slice = parent.unwrap_or_else(|| ordinary::cgroup_parent(driver)).display();
            Some((format!("{slice}:crun-cargo:{id}").into(), driver))
        }
    }
}

fn device(flag: DeviceFlag) -> io::Result<Option<HostDevice>> {
    let metadata = fs::metadata(&flag.host)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Ok(None),
    };
    let number = metadata.st_rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let narrow = |part: u64| u32::try_from(part).map_err(io::Error::other);
    Ok(Some(flag.found(kind, narrow(major)?, narrow(minor)?, metadata.st_mode())))
}

/// Every device below `/dev`, as `--privileged` gives them. What the container has of its own is left out.
fn every_device(directory: &Path, depth: u32, found: &mut Vec<HostDevice>) -> anyhow::Result<()> {
    const OWN: [&str; 9] =
        ["pts", "shm", "mqueue", "console", "ptmx", "fd", "stdin", "stdout", "stderr"];
    const OWN_NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let is_own = OWN.iter().chain(&OWN_NODES).any(|own| name == *own);
        let Ok(kind) = entry.file_type() else { continue };
        if (depth == 0 && is_own) || kind.is_symlink() {
            continue;
        }
        let path = entry.path();
        if kind.is_dir() && depth < 8 {
            every_device(&path, depth + 1, found)?;
            continue;
        }
        let container = path.clone();
        let flag = DeviceFlag { host: path, container, read: true, write: true, mknod: true };
        // One that vanished meanwhile is nobody's loss.
        found.extend(device(flag).ok().flatten());
    }
    Ok(())
}

/// docker makes a missing source of `-v`; `--mount` wants it to exist.
fn check_source(volume: &Volume, path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && volume.create_source => {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(advise(
            format!("the mount's source {} does not exist", path.display()),
            "make it first; -v makes missing directories by itself",
        )),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", path.display())),
    }
}

/// Volumes are for whoever runs in the container, so they are open, in a directory that is not.
fn make_volume(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

//! A container's life in the foreground: record, files, start, wait, remove.
//!
//! Everything that can be wrong with the request is found before anything is made. The record is
//! written before the files it stands for (D-55), so that `rm` finds whatever a crash leaves behind.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use configs::{Mount, MountSource, NamespaceKind, Overlay, Root, Spec};
use oci_spec::image::ImageConfiguration;
use rootfs::{Snapshot, SnapshotKind, SnapshotOptions, Store, StoredImage};
use runtime::{Containers, ExitStatus, foreground};

use crate::{
    cli::CgroupManager,
    home::Home,
    ordinary,
    record::{self, Container, Event, Origin, Record},
    report::advise,
    request::{EtcFile, Request},
};

/// Files of ours that are shown in containers.
const ETC_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// What a container's root is made of.
#[derive(Debug)]
pub(crate) enum Base {
    /// An image, with the container's changes kept apart.
    Image { name: String, image: Box<StoredImage> },
    /// A directory of the host, with the container's changes kept apart.
    Sandbox(PathBuf),
    /// A directory of the host itself.
    Directory { path: PathBuf, read_only: bool },
}

/// A container to be run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) base: Base,
    pub(crate) request: Request,
    /// `--name`
    pub(crate) name: Option<String>,
    /// `--rm`
    pub(crate) remove: bool,
    /// `--cidfile`
    pub(crate) cidfile: Option<PathBuf>,
    /// `--stop-timeout`
    pub(crate) stop_timeout: Option<u64>,
}

/// Runs a container from its creation to its end, and beyond: with `--rm` nothing of it is left.
pub(crate) fn run(
    home: &Home,
    store: &Store,
    manager: CgroupManager,
    mut launch: Launch,
) -> anyhow::Result<ExitStatus> {
    let (id, generated) = record::new_id()?;
    launch.request.complete(home, &id, manager)?;
    let image = match &launch.base {
        Base::Image { image, .. } => Some(image.configuration()?),
        _ => None,
    };
    let lowered =
        configs::image::lower(image.as_ref(), &launch.request.overrides).map_err(|problems| {
            advise(problems.to_string(), "`crun-cargo run --help` lists what each flag takes")
        })?;
    for warning in &lowered.warnings {
        log::warn!("{warning}");
    }
    let etc = launch.request.etc_files()?;
    let mut spec = lowered.value.spec;
    if let Base::Sandbox(path) | Base::Directory { path, .. } = &launch.base {
        hide_ours(path, &mut spec);
    }
    spec.root.read_only |= matches!(launch.base, Base::Directory { read_only: true, .. });
    let record = Record {
        name: launch.name.clone().unwrap_or(generated),
        created: record::now(),
        origin: origin(&launch.base),
        command: command(&spec),
        terminal: launch.request.overrides.terminal,
        interactive: launch.request.interactive,
        attach: launch.request.attach.clone(),
        init: launch.request.overrides.init,
        remove: launch.remove,
        labels: lowered.value.labels.clone(),
        stop_signal: Some(lowered.value.stop_signal.to_string()),
        stop_timeout: launch.stop_timeout,
        config: config(image.as_ref(), &spec, &lowered.value.labels),
        id,
    };
    let cidfile = launch.cidfile.as_deref().map(new_cidfile).transpose()?;
    let prepared = Prepared { base: launch.base, spec, record, etc, name: launch.name, cidfile };
    prepared.run(home, store)
}

/// Runs a container that a configuration file describes: nsinit's way. It is removed at its end.
pub(crate) fn run_configured(
    home: &Home,
    store: &Store,
    base: Option<Base>,
    name: Option<String>,
    mut spec: Spec,
) -> anyhow::Result<ExitStatus> {
    if let Some(maps) = ordinary::container_maps() {
        configs::defaults::live_in_user_namespace(&mut spec, &maps);
    }
    let (id, generated) = record::new_id()?;
    let root = spec.root.clone();
    let base = base.unwrap_or(Base::Directory { path: root.path, read_only: root.read_only });
    let record = Record {
        name: name.clone().unwrap_or(generated),
        created: record::now(),
        origin: origin(&base),
        command: command(&spec),
        terminal: spec.process.as_ref().is_some_and(|process| process.terminal),
        interactive: true,
        remove: true,
        config: config(None, &spec, &BTreeMap::new()),
        id,
        ..Record::default()
    };
    Prepared { base, spec, record, etc: Vec::new(), name, cidfile: None }.run(home, store)
}

fn command(spec: &Spec) -> Vec<String> {
    spec.process.as_ref().map(|process| process.args.clone()).unwrap_or_default()
}

/// A container of which nothing has been made yet, and everything that could be checked was.
struct Prepared {
    base: Base,
    spec: Spec,
    record: Record,
    etc: Vec<EtcFile>,
    name: Option<String>,
    cidfile: Option<File>,
}

impl Prepared {
    fn run(self, home: &Home, store: &Store) -> anyhow::Result<ExitStatus> {
        let Self { base, mut spec, record, etc, name, cidfile } = self;
        let remove = record.remove;
        let container = Container::create(home, record, name.as_deref())?;
        let mut made = Made { home, store, container: Some(container), keep: false };
        let Some(container) = &mut made.container else { unreachable!("made just above") };
        spec.root = root(store, &base, &container.record, spec.root)?;
        show_etc_files(container.directory(), &etc, &mut spec)?;
        if let Some(mut file) = cidfile {
            file.write_all(container.record.id.as_bytes()).context("cannot write the --cidfile")?;
        }
        if !remove {
            save_spec(container.directory(), &spec)?;
        }
        let status = start(home, container, &spec)?;
        made.keep = !remove;
        Ok(status)
    }
}

/// Starts a recorded container and stays with it until its end.
pub(crate) fn start(
    home: &Home,
    container: &mut Container,
    spec: &Spec,
) -> anyhow::Result<ExitStatus> {
    let containers = Containers::open(&home.runroot)?;
    let streams = container.record.streams();
    let options = foreground::Options {
        bundle: container.directory().to_owned(),
        stdio: streams.stdio()?,
        keyboard: streams.keyboard(),
        init: container.record.init,
        ..foreground::Options::default()
    };
    container.append(Event::Started { at: record::now() })?;
    log::debug!("container {} ({}): starting", container.record.id, container.name());
    let status = foreground::run(&containers, &container.id()?, spec, options)?;
    log::debug!("container {}: ended with {}", container.record.id, status.code());
    container.append(Event::Finished { at: record::now(), code: status.code() })?;
    Ok(status)
}

/// What the container is made from, as `start` needs it again.
pub(crate) fn saved_spec(container: &Container) -> anyhow::Result<Spec> {
    let path = container.directory().join("spec.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// What a container runs with, from the runtime while it runs, else as saved.
pub(crate) fn spec(home: &Home, container: &Container) -> anyhow::Result<Spec> {
    match Containers::open(&home.runroot)?.load(&container.id()?) {
        Ok(running) => Ok(running.spec()?.as_ref().clone()),
        Err(_) => saved_spec(container),
    }
}

fn save_spec(directory: &Path, spec: &Spec) -> anyhow::Result<()> {
    let path = directory.join("spec.json");
    let text = serde_json::to_vec(spec)?;
    write_new(&path, &text).with_context(|| format!("cannot write {}", path.display()))
}

/// The files of a container, which one in a directory of the host itself does not have apart.
pub(crate) fn snapshot(store: &Store, container: &Container) -> anyhow::Result<Snapshot> {
    match store.open_snapshot(&container.record.id) {
        Err(rootfs::Error::NoSnapshot(_)) => Err(advise(
            format!("container {} changes a directory of the host itself", container.name()),
            "only containers of images, and those of --rootfs DIR:O, keep their changes apart",
        )),
        other => Ok(other?.with_mount_points(ETC_FILES)),
    }
}

/// Kills what still runs in a container, and removes the state of that.
pub(crate) fn end(home: &Home, container: &Container) -> anyhow::Result<()> {
    match Containers::open(&home.runroot)?.load(&container.id()?) {
        Ok(running) => Ok(running.delete(true)?),
        Err(runtime::Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes everything a container has left: its state, its files, its record.
pub(crate) fn remove(home: &Home, store: &Store, container: Container) -> anyhow::Result<()> {
    end(home, &container)?;
    match store.remove_snapshot(&container.record.id) {
        Err(rootfs::Error::NoSnapshot(_)) => {}
        other => other?,
    }
    container.remove(home)
}

/// A container that is removed again unless it is to stay: when something fails on the way, and at its
/// end with `--rm`.
struct Made<'a> {
    home: &'a Home,
    store: &'a Store,
    container: Option<Container>,
    keep: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // The program's exit status, or the failure that brought us here, is what the user must see.
        if let Some(container) = self.container.take()
            && let Err(error) = remove(self.home, self.store, container)
        {
            log::warn!("cannot remove the container: {error:#}");
        }
    }
}

fn origin(base: &Base) -> Origin {
    match base {
        Base::Image { name, image } => {
            Origin::Image { name: name.clone(), id: image.id.to_string() }
        }
        Base::Sandbox(path) => Origin::Sandbox(path.clone()),
        Base::Directory { path, .. } => Origin::Directory(path.clone()),
    }
}

/// Hides our own files in a root filesystem with branches: a container that could write git's file would
/// choose what git on the host obeys.
pub(crate) fn hide_ours(rootfs: &Path, spec: &mut Spec) {
    if spec.namespaces.get(NamespaceKind::Mount).is_some() {
        let ours = rootfs::git::ours_in(rootfs).iter();
        spec.masked_paths.extend(ours.map(|name| Path::new("/").join(name)));
    }
}

/// With the host's network comes the host's resolver; the old program left that to people.
pub(crate) fn share_resolver(spec: &mut Spec) {
    const FILE: &str = "/etc/resolv.conf";
    let shares = spec.namespaces.get(NamespaceKind::Network).is_none()
        && spec.namespaces.get(NamespaceKind::Mount).is_some();
    let is_there = spec.mounts.iter().any(|mount| mount.destination == Path::new(FILE));
    if shares && !is_there && fs::metadata(FILE).is_ok() {
        let mut mount = Mount::bind(FILE.into(), FILE.into());
        mount.set = configs::AttrFlags::RDONLY;
        spec.mounts.push(mount);
    }
}

/// The image's configuration with the command line's changes.
fn config(
    image: Option<&ImageConfiguration>,
    spec: &Spec,
    labels: &BTreeMap<String, String>,
) -> serde_json::Value {
    let config = image.and_then(|image| image.config().as_ref());
    let mut config = serde_json::to_value(config).unwrap_or_default();
    if !config.is_object() {
        config = serde_json::json!({});
    }
    if let Some(process) = &spec.process {
        config["Env"] = serde_json::json!(process.env);
        config["WorkingDir"] = serde_json::json!(process.cwd);
    }
    config["Labels"] = serde_json::json!(labels);
    config["Hostname"] = serde_json::json!(spec.hostname);
    config
}

fn root(store: &Store, base: &Base, record: &Record, asked: Root) -> anyhow::Result<Root> {
    let options = SnapshotOptions { ephemeral: record.remove, ..SnapshotOptions::default() };
    let snapshot = match base {
        Base::Image { image, .. } => store.snapshot(image, &record.id, options)?,
        Base::Sandbox(directory) => store.snapshot_of_directory(directory, &record.id, options)?,
        Base::Directory { path, .. } => return Ok(Root { path: path.clone(), ..asked }),
    };
    Ok(with_snapshot(snapshot, asked))
}

fn with_snapshot(snapshot: Snapshot, asked: Root) -> Root {
    match snapshot.kind {
        SnapshotKind::Overlay { lower, upper, work, options } => {
            let overlay = Overlay { lower, upper: Some(upper), work: Some(work), options };
            Root { overlay: Some(overlay), ..asked }
        }
        SnapshotKind::Directory(path) => Root { path, ..asked },
    }
}

/// Writes the files of `/etc` into the container's directory, and has them shown in their places.
fn show_etc_files(directory: &Path, files: &[EtcFile], spec: &mut Spec) -> anyhow::Result<()> {
    for file in files {
        let path = directory.join(file.name);
        write_readable(&path, file.content.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let source = MountSource::Bind { path, recursive: false };
        spec.mounts.push(Mount::new(Path::new("/etc").join(file.name), source));
    }
    Ok(())
}

/// A file every user in the container may read; the directory keeps others of the host away.
fn write_readable(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?.write_all(content)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

/// Opened before the container is made, so that a failure leaves no container without its id known.
fn new_cidfile(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    opened.with_context(|| format!("cannot make the --cidfile {}", path.display()))
}

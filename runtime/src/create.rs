//! The outside half of a creation.

use std::{cell::RefCell, os::fd::OwnedFd};

use configs::{NamespaceKind, Process, Spec};
use rustix::fs::{FileType, Mode, OFlags, mknodat, openat};
use serde::{Deserialize, Serialize};

use crate::{
    Container, ContainerId, Containers, CreateOptions, Error, Result, State, Status, Stdio,
    birth::{self, Birth, Event, Newborn},
    bootstrap,
    cgroup::{Cgroup, Door, Place},
    channel::{self, ChildEnd},
    child::Child,
    error::OrFail,
    hooks, id_maps, init, network, onlookers,
    prepare::{self, Prepared},
    rdt::Class,
    self_exe, sources,
    state::{self, GATE, Identity, Record, StateDir},
    steps::{self, fresh::Fresh, namespaces::Join},
};

/// Whether the program waits for `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Gate {
    Closed,
    Open,
}

/// Makes a container; whatever fails, nothing of it is left.
pub(crate) fn create(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: CreateOptions,
    gate: Gate,
) -> Result<Container> {
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| Error::Unsupported("the configuration names no process".into()))?;
    prepare::check(spec, process, &options.stdio)?;
    if needs_bootstrap(spec, options.init)? {
        return bootstrap::create(containers, id, spec, options, gate);
    }
    let mut prepared = prepare(spec, process, &options)?;

    let place = spec.cgroup.as_ref().map(|cgroup| Place::choose(cgroup, id)).transpose()?;
    let record = Record::new(&options.bundle, place.clone());
    let mut made = Made::take_name(containers, id)?;
    let _lock = made.dir.lock()?;
    // Before anything it describes is made (D-55).
    made.dir.write_new("state.json", &record)?;
    made.dir.write_new("spec.json", spec)?;
    if let (Some(place), Some(wanted)) = (place, &spec.cgroup) {
        made.make_cgroup(&mut prepared, place, wanted)?;
    }
    if gate == Gate::Closed {
        prepared.gate = Some(make_gate(&made.dir)?);
    }
    let stdio = take_stdio(&mut prepared, options.stdio);
    onlookers::announce(containers.root(), spec, process, &prepared.joins)?;

    let request = Request { id, spec, process, prepared: &prepared };
    let newborn = request.give_birth()?;
    log::debug!("container {id}: its first process is {}", newborn.pid);
    made.class = spec.intel_rdt.as_ref().map(|wanted| Class::of(wanted, id)).transpose()?;
    adopt(&made, &request, &newborn)?;
    let mut terminal = None;
    newborn.attend(|event| match event {
        Event::Hooks => run_creation_hooks(&request, newborn.pid),
        Event::Terminal(master) => birth::deliver_terminal(&stdio, master, &mut terminal),
        Event::Listener(listener) => {
            let state = state_of(&request, newborn.pid);
            birth::deliver_listener(spec, &state, newborn.pid, &listener)
        }
    })?;
    log::debug!("container {id}: everything is made");
    let running = newborn.keep(terminal)?;
    let spec = RefCell::default();
    Ok(Container { dir: made.keep(), record: Some(record), running: Some(running), spec })
}

/// Whether this process must not make the first one itself; see [`bootstrap`].
fn needs_bootstrap(spec: &Spec, init: bool) -> Result<bool> {
    // Our own first process stays in sight of all that come after it.
    let alone = spec.namespaces.creates(NamespaceKind::Pid) && !init;
    let threads = sys::thread_count().or_fail(|| "count our threads")?;
    let goes_away = spec.namespaces.get(NamespaceKind::Pid).is_some_and(|pid| pid.join.is_some())
        && bootstrap::caller().is_none()
        && !birth::comes_back();
    Ok(threads > 1 || !alone && !self_exe::is_read_only() || goes_away)
}

fn prepare(spec: &Spec, process: &Process, options: &CreateOptions) -> Result<Prepared> {
    let mut prepared = Prepared::new(process, spec, options.preserve_fds)?;
    prepared.bundle.clone_from(&options.bundle);
    prepared.reaper = options.init;
    prepared.waits_for_maps = spec.namespaces.creates(NamespaceKind::User);
    for namespace in spec.namespaces.iter() {
        if let Some(path) = &namespace.join {
            prepared.joins.push(Join::open(namespace.kind, path)?);
        }
    }
    sources::prepare(&mut prepared, spec)?;
    Ok(prepared)
}

/// Descriptors given by the caller go to the child; the rest says where a terminal's master goes.
fn take_stdio(prepared: &mut Prepared, stdio: Stdio) -> Stdio {
    match stdio {
        Stdio::Fds(fds) => {
            prepared.stdio = Some(fds);
            Stdio::Inherit
        }
        other => {
            prepared.relayed = matches!(other, Stdio::Terminal);
            other
        }
    }
}

fn make_gate(dir: &StateDir) -> Result<OwnedFd> {
    mknodat(dir, GATE, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .or_fail(|| format!("make {GATE}"))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, GATE, flags, Mode::empty()).or_fail(|| format!("open {GATE}"))
}

/// What the child is a copy of.
struct Request<'a> {
    id: &'a ContainerId,
    spec: &'a Spec,
    process: &'a Process,
    prepared: &'a Prepared,
}

impl Request<'_> {
    fn give_birth(&self) -> Result<Newborn> {
        let (through, _) = self.split_joins()?;
        let flags = birth::flags(&self.spec.namespaces);
        let cgroup = self.prepared.door.as_ref().and_then(Door::directory);
        let birth = Birth { flags, cgroup, through };
        birth::give_birth(&self.prepared.procfs, &birth, |channel| self.live(channel))
    }

    /// Namespaces the parent must pass through, and those the child joins itself.
    ///
    /// A pid namespace takes effect at birth. And a child born into a new user namespace has no right to
    /// join what belongs to the old one.
    fn split_joins(&self) -> Result<(Vec<Join>, Vec<NamespaceKind>)> {
        let new_user = self.spec.namespaces.creates(NamespaceKind::User);
        let mut through = Vec::new();
        let mut rest = Vec::new();
        for join in &self.prepared.joins {
            if join.kind == NamespaceKind::Pid || new_user {
                through.push(join.try_clone()?);
            } else {
                rest.push(join.kind);
            }
        }
        Ok((through, rest))
    }

    fn live(&self, channel: &ChildEnd) -> Error {
        let namespaces = &self.spec.namespaces;
        let mut child = Child {
            id: self.id,
            spec: self.spec,
            process: self.process,
            prepared: self.prepared,
            channel,
            root: None,
            fresh: Fresh::default(),
            kernel_filesystems: Vec::new(),
            identity: None,
            program: None,
            terminal: None,
            in_working_directory: false,
            may_go: false,
            available: rustix::thread::CapabilitySet::empty(),
            ignored_signals: 0,
            in_user_namespace: namespaces.get(NamespaceKind::User).is_some(),
            keeps_host_propagation: steps::root::wants_host_mounts(self.spec),
        };
        rustix::process::umask(Mode::empty());
        let Err(error) = init::run(&mut child);
        // Its descriptors were closed behind its back.
        std::mem::forget(child);
        error
    }
}

/// Does for the child what only its parent can, and lets it go on.
fn adopt(made: &Made, request: &Request<'_>, newborn: &Newborn) -> Result<()> {
    let procfs = &request.prepared.procfs;
    if request.spec.namespaces.creates(NamespaceKind::User) {
        id_maps::write(procfs, newborn.pid, &request.spec.id_maps)?;
    }
    let pid = rustix::process::Pid::from_raw(newborn.pid).ok_or_else(channel::unexpected)?;
    network::connect(request.spec, pid)?;
    made.class.as_ref().map_or(Ok(()), |class| class.enter(pid))?;
    if let Some(score) = request.process.oom_score_adj {
        procfs.write(&format!("{}/oom_score_adj", newborn.pid), &score.to_string())?;
    }
    made.dir.write_new(state::INIT, &Identity::of(newborn.pid)?)?;
    newborn.let_go(procfs)
}

fn run_creation_hooks(request: &Request<'_>, pid: i32) -> Result<()> {
    let state = state_of(request, pid);
    // It is older than the others: to its programs the container is made, and about to be started.
    let created = State { status: Status::Created, ..state.clone() };
    hooks::run("prestart", &request.spec.hooks.prestart, &created)?;
    hooks::run("createRuntime", &request.spec.hooks.create_runtime, &state)
}

fn state_of(request: &Request<'_>, pid: i32) -> State {
    State {
        id: request.id.clone(),
        status: Status::Creating,
        pid: Some(pid),
        bundle: request.prepared.bundle.clone(),
        rootfs: request.spec.root.path.clone(),
        created: std::time::SystemTime::now(),
        annotations: request.spec.annotations.clone(),
    }
}

/// What exists of a container that is being made: removed again, unless it is kept.
pub(crate) struct Made {
    pub(crate) dir: StateDir,
    pub(crate) cgroup: Option<Cgroup>,
    class: Option<Class>,
    keep: bool,
}

impl Made {
    pub(crate) fn take_name(containers: &Containers, id: &ContainerId) -> Result<Self> {
        let parent = state::open_root(containers.root())?;
        let dir = StateDir::create(parent, containers.root(), id)?;
        let made = Self { dir, cgroup: None, class: None, keep: false };
        Ok(made)
    }

    /// Makes the cgroup with its limits, so that nothing ever runs outside them (D-31).
    fn make_cgroup(
        &mut self,
        prepared: &mut Prepared,
        place: Place,
        wanted: &configs::Cgroup,
    ) -> Result<()> {
        prepared.cgroup_is_unified = place.is_unified();
        log::debug!("cgroup {}, made as {place:?}", wanted.path.display());
        let cgroup = Cgroup::create(place, &wanted.resources)?;
        self.cgroup = Some(cgroup.clone());
        prepared.door = Some(cgroup.door()?);
        prepared.cgroup = Some(cgroup);
        Ok(())
    }

    pub(crate) fn keep(mut self) -> StateDir {
        self.keep = true;
        self.dir.share()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // The error that brought us here is the one to report, so failing to undo is only noted. The
        // name goes last: as long as it is there, `delete` can try again.
        let undone = self.cgroup.as_ref().map_or(Ok(()), Cgroup::remove);
        let undone = undone.and(self.class.as_ref().map_or(Ok(()), Class::remove));
        if let Err(error) = undone.and_then(|()| self.dir.remove()) {
            log::warn!("cannot remove what was made of the container: {error}");
        }
    }
}

//! Another process in a running container: the outside half.

use configs::{NamespaceKind, Process, Spec};
use rustix::{fs::Mode, process::Pid};

use crate::{
    Container, Error, ExecOptions, Result, Running, Status, Stdio,
    birth::{self, Birth, Event, Newborn},
    bootstrap,
    cgroup::{Cgroup, Door},
    channel::ChildEnd,
    child::Child,
    error::OrFail,
    init, onlookers,
    prepare::{self, Prepared},
    self_exe,
    steps::{fresh::Fresh, namespaces::Join, root},
};

/// Runs a process in a container. It gets what the container's own first process got, but for what
/// `process` says itself (D-29).
pub(crate) fn exec(
    container: &Container,
    process: &Process,
    options: ExecOptions,
) -> Result<Running> {
    check_status(container, &options)?;
    let spec = container.spec()?;
    prepare::check_process(process, &options.stdio)?;
    // Other processes of the container will see the new one before it is the program.
    let seen = || onlookers::may_see(&container.dir, &spec, process);
    let threads = sys::thread_count().or_fail(|| "count our threads")?;
    let is_bootstrap = bootstrap::caller().is_some();
    let one_way = !birth::comes_back();
    if threads > 1 || one_way && !is_bootstrap || seen() && !self_exe::is_read_only() {
        return bootstrap::exec(container, process, options);
    }
    let mut prepared = prepare(container, &spec, process, &options)?;
    let stdio = take_stdio(&mut prepared, options.stdio);
    onlookers::announce(container.runroot(), &spec, process, &prepared.joins)?;
    if one_way {
        go_ahead(&mut prepared.joins)?;
    }

    let request = Request { container, spec: &spec, process, prepared: &prepared };
    let newborn = request.give_birth()?;
    log::debug!("container {}: another process, {}", container.id(), newborn.pid);
    let procfs = &prepared.procfs;
    if let Some(score) = process.oom_score_adj {
        procfs.write(&format!("{}/oom_score_adj", newborn.pid), &score.to_string())?;
    }
    newborn.let_go(procfs)?;
    let mut terminal = None;
    newborn.attend(|event| match event {
        Event::Terminal(master) => birth::deliver_terminal(&stdio, master, &mut terminal),
        Event::Listener(listener) => {
            birth::deliver_listener(&spec, &container.state()?, newborn.pid, &listener)
        }
        Event::Hooks => Err(Error::Unsafe("exec has no hooks".into())),
    })?;
    newborn.keep(terminal)
}

/// Into a pid namespace gets only who has power over their own user namespace as well, setns(2): an ordinary
/// user has it in the container's, root of a user namespace already. From neither is there a way back.
fn go_ahead(joins: &mut Vec<Join>) -> Result<()> {
    for kind in [NamespaceKind::User, NamespaceKind::Pid] {
        if let Some(index) = joins.iter().position(|join| join.kind == kind) {
            joins.remove(index).enter()?;
        }
    }
    Ok(())
}

fn check_status(container: &Container, options: &ExecOptions) -> Result<()> {
    match container.status()? {
        Status::Running | Status::Created => Ok(()),
        Status::Paused if options.ignore_paused => Ok(()),
        status => {
            Err(Error::WrongStatus { id: container.id().clone(), verb: "exec in".into(), status })
        }
    }
}

fn prepare(
    container: &Container,
    spec: &Spec,
    process: &Process,
    options: &ExecOptions,
) -> Result<Prepared> {
    let mut prepared = Prepared::new(process, spec, options.preserve_fds)?;
    let identity = container.dir.init()?;
    let gone = || Error::NotFound(container.id().clone());
    let pid = identity.as_ref().ok_or_else(gone)?.pid;
    for namespace in spec.namespaces.iter() {
        let file = prepared.procfs.open_namespace(&pid.to_string(), file_name(namespace.kind))?;
        prepared.joins.push(Join { kind: namespace.kind, file });
    }
    prepared.root = root::of_process(&prepared.procfs, pid, spec)?;
    // Opened by number, so make sure that the number still meant the container (D-36).
    container.open_init()?.ok_or_else(gone)?;
    if let Some(cgroup) = container.cgroup() {
        let init = identity.as_ref().and_then(|identity| Pid::from_raw(identity.pid));
        prepared.door = Some(enter(&cgroup, init, options)?);
    }
    Ok(prepared)
}

fn enter(cgroup: &Cgroup, init: Option<Pid>, options: &ExecOptions) -> Result<Door> {
    match (&options.cgroup, init) {
        (Some(below), _) => cgroup.door_below(below),
        (None, Some(init)) => cgroup.door_beside(init),
        (None, None) => cgroup.door(),
    }
}

/// namespaces(7)
fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Network => "net",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Time => "time",
    }
}

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

struct Request<'a> {
    container: &'a Container,
    spec: &'a Spec,
    process: &'a Process,
    prepared: &'a Prepared,
}

impl Request<'_> {
    fn give_birth(&self) -> Result<Newborn> {
        // Takes effect at birth, so we pass through it for a moment; no second fork is needed.
        let is_pid = |join: &&Join| join.kind == NamespaceKind::Pid;
        let through = self
            .prepared
            .joins
            .iter()
            .filter(is_pid)
            .map(Join::try_clone)
            .collect::<Result<_>>()?;
        let cgroup = self.prepared.door.as_ref().and_then(Door::directory);
        let birth = Birth { flags: sys::CloneFlags::default(), cgroup, through };
        birth::give_birth(&self.prepared.procfs, &birth, |channel| self.live(channel))
    }

    fn live(&self, channel: &ChildEnd) -> Error {
        let mut child = Child {
            id: self.container.id(),
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
            in_user_namespace: self.spec.namespaces.get(NamespaceKind::User).is_some(),
            keeps_host_propagation: false,
        };
        rustix::process::umask(Mode::empty());
        let Err(error) = init::join(&mut child);
        // Its descriptors were closed behind its back.
        std::mem::forget(child);
        error
    }
}

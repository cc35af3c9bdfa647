//! One container, and the verbs on it.

use std::{
    cell::RefCell,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use configs::{Device, NamespaceKind, Process, Resources, Spec};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, openat},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    ContainerId, Error, ExecOptions, Result, Running, State, Status,
    cgroup::Cgroup,
    error::OrFail,
    exec, hooks, network, node, onlookers, pid_file,
    process::send_signal,
    procfs::Procfs,
    rdt::Class,
    self_exe,
    state::{GATE, Record, StateDir},
    steps::namespaces::Join,
};

/// One container.
#[derive(Debug)]
pub struct Container {
    pub(crate) dir: StateDir,
    /// `None` when its maker was killed before the first record.
    pub(crate) record: Option<Record>,
    /// Only in the process that made it.
    pub(crate) running: Option<Running>,
    /// Once it was read.
    pub(crate) spec: RefCell<Option<Rc<Spec>>>,
}

impl Container {
    pub(crate) fn load(dir: StateDir) -> Result<Self> {
        let record = dir.record()?;
        Ok(Self { dir, record, running: None, spec: RefCell::default() })
    }

    /// Its name.
    pub fn id(&self) -> &ContainerId {
        self.dir.id()
    }

    pub(crate) fn runroot(&self) -> &Path {
        self.dir.root()
    }

    /// What it was made from.
    pub fn spec(&self) -> Result<Rc<Spec>> {
        if let Some(spec) = &*self.spec.borrow() {
            return Ok(Rc::clone(spec));
        }
        let spec = Rc::new(self.dir.spec()?);
        Ok(Rc::clone(self.spec.borrow_mut().insert(spec)))
    }

    /// Its first process, in the process that created it: to wait for, and with its terminal.
    pub fn running(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    /// A look at it.
    pub fn state(&self) -> Result<State> {
        let spec = self.dir.spec().unwrap_or_default();
        let (status, pid) = self.status_and_pid()?;
        let record = self.record.clone();
        Ok(State {
            id: self.id().clone(),
            status,
            pid,
            bundle: record.as_ref().map(|record| record.bundle.clone()).unwrap_or_default(),
            rootfs: spec.root.path,
            created: record.map_or(std::time::UNIX_EPOCH, |record| record.created()),
            annotations: spec.annotations,
        })
    }

    /// What it is doing.
    pub fn status(&self) -> Result<Status> {
        Ok(self.status_and_pid()?.0)
    }

    fn status_and_pid(&self) -> Result<(Status, Option<i32>)> {
        let creating = || self.dir.is_locked_by_another();
        let Some(init) = self.dir.init()? else {
            let status = if creating() { Status::Creating } else { Status::Stopped };
            return Ok((status, None));
        };
        if init.open()?.is_none() {
            return Ok((Status::Stopped, None));
        }
        let status = match self.dir.has(GATE) {
            true if creating() => Status::Creating,
            true => Status::Created,
            false if self.is_frozen() => Status::Paused,
            false => Status::Running,
        };
        Ok((status, Some(init.pid)))
    }

    /// Its cgroup, if it has one of its own.
    pub fn cgroup(&self) -> Option<Cgroup> {
        self.record.as_ref()?.cgroup.clone().map(Cgroup::open)
    }

    fn is_frozen(&self) -> bool {
        self.cgroup().is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
    }

    /// Writes the pid file of a container just made; if it cannot be, the container goes again.
    pub(crate) fn tell_pid(self, file: Option<&Path>) -> Result<Self> {
        let (Some(file), Some(running)) = (file, &self.running) else { return Ok(self) };
        match pid_file::write(file, running.pid()) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.delete(true)?;
                Err(error)
            }
        }
    }

    /// Opens the gate: the program runs. Should a poststart hook fail, the container is taken away.
    pub fn start(&self) -> Result<()> {
        let lock = self.dir.lock()?;
        self.open_gate()?;
        drop(lock);
        let Ok(spec) = self.dir.spec() else { return Ok(()) };
        self.after_start(&spec)
    }

    /// Runs the hooks that come after the program's start (runtime-spec, Lifecycle, step 9).
    pub(crate) fn after_start(&self, spec: &Spec) -> Result<()> {
        let wanted = &spec.hooks.poststart;
        if wanted.is_empty() {
            return Ok(());
        }
        let state = State { status: Status::Running, ..self.state()? };
        hooks::run("poststart", wanted, &state).inspect_err(|_| {
            let undone = self.dir.lock().and_then(|_lock| self.destroy(true));
            // The hook's error is the one to report.
            if let Err(error) = undone {
                log::warn!("cannot remove container {}: {error}", self.id());
            }
        })
    }

    fn open_gate(&self) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let gate = match openat(&self.dir, GATE, flags, Mode::empty()) {
            // No reader: the first process is gone.
            Err(rustix::io::Errno::NXIO | rustix::io::Errno::NOENT) => {
                return Err(self.wrong_status("start"));
            }
            other => other.or_fail(|| format!("open {GATE}"))?,
        };
        // The name goes first: whoever sees the program run must not see the container as created.
        self.dir.remove_file(GATE)?;
        std::fs::File::from(gate).write_all(b"0").or_fail(|| format!("write {GATE}"))
    }

    /// Sends a signal to the first process, or to all.
    ///
    /// The first process of a pid namespace takes all others with it when it is killed. Without a
    /// namespace of its own it would leave them behind, so there they are killed as well.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let leaves_others = || {
            let spec = self.dir.spec();
            spec.is_ok_and(|spec| !spec.namespaces.creates(NamespaceKind::Pid))
        };
        if all || signal == libc::SIGKILL && self.cgroup().is_some() && leaves_others() {
            return self.kill_all(signal);
        }
        match self.open_init()? {
            Some(init) => send_signal(init.as_fd(), signal),
            None => Err(self.wrong_status("kill")),
        }
    }

    fn kill_all(&self, signal: i32) -> Result<()> {
        let pids = self.processes()?;
        if pids.is_empty() {
            return Err(self.wrong_status("kill"));
        }
        if signal == libc::SIGKILL
            && let Some(cgroup) = self.cgroup()
        {
            return cgroup.kill();
        }
        let open = |pid: &i32| {
            // Gone between the list and here is what was wanted.
            let pidfd = pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?;
            Some((*pid, pidfd))
        };
        let opened: Vec<_> = pids.iter().filter_map(open).collect();
        // Numbers are reused (D-36): one that still is in the cgroup meant its process all the time.
        let still = self.processes()?;
        opened
            .iter()
            .filter(|(pid, _)| still.contains(pid))
            .try_for_each(|(_, pidfd)| send_signal(pidfd.as_fd(), signal))
    }

    /// Removes it; with `force`, kills what still runs in it.
    ///
    /// Goes on past failures, so that as much as possible is gone, and tells them all. The state goes
    /// last: as long as it is there, deleting can be tried again.
    pub fn delete(self, force: bool) -> Result<()> {
        let _lock = self.dir.lock()?;
        self.destroy(force)
    }

    fn destroy(&self, force: bool) -> Result<()> {
        if let Some(init) = self.open_init()? {
            if !force {
                return Err(self.wrong_status("delete"));
            }
            self.end(&init)?;
        }
        self.remove(&self.dir.spec().unwrap_or_default())
    }

    /// Takes away what a container whose first process has ended still has.
    pub(crate) fn remove(&self, spec: &Spec) -> Result<()> {
        let mut failures = Vec::new();
        if let Some(cgroup) = self.cgroup() {
            // Kills, too: without a pid namespace of its own, others may have outlived the first process.
            failures.extend(cgroup.remove().err());
        }
        let class = spec.intel_rdt.as_ref().map(|wanted| Class::of(wanted, self.id()));
        failures.extend(class.and_then(|class| class.and_then(|class| class.remove()).err()));
        let wanted = &spec.hooks.poststop;
        if !wanted.is_empty() {
            match self.state() {
                Ok(state) => {
                    let stopped = State { status: Status::Stopped, ..state };
                    hooks::run_all("poststop", wanted, &stopped);
                }
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() {
            return self.dir.remove();
        }
        Err(Error::Several(failures))
    }

    fn end(&self, init: &OwnedFd) -> Result<()> {
        send_signal(init.as_fd(), libc::SIGKILL)?;
        if let Some(cgroup) = self.cgroup() {
            cgroup.kill()?;
            // A frozen process dies once it is thawed (version 1).
            if cgroup.is_frozen().unwrap_or(false) {
                cgroup.thaw()?;
            }
        }
        wait_for_end(init, Duration::from_secs(10))
    }

    /// Freezes all its processes.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Running | Status::Created => self.needs_cgroup("pause")?.freeze(),
            _ => Err(self.wrong_status("pause")),
        }
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Paused => self.needs_cgroup("resume")?.thaw(),
            _ => Err(self.wrong_status("resume")),
        }
    }

    fn needs_cgroup(&self, verb: &str) -> Result<Cgroup> {
        self.cgroup().ok_or_else(|| {
            Error::Unsupported(format!("cannot {verb} {}: it has no cgroup of its own", self.id()))
        })
    }

    /// The counters of its network interfaces; none once it has ended.
    pub fn interfaces(&self) -> Result<Vec<network::InterfaceStatistics>> {
        let pid = self.status_and_pid()?.1.and_then(rustix::process::Pid::from_raw);
        pid.map_or(Ok(Vec::new()), network::statistics)
    }

    /// Its network interfaces with their addresses; see [`network::links`] for who may ask.
    pub fn links(&self) -> Result<Vec<network::Link>> {
        let (pid, _init) = self.first_process("look into")?;
        network::links(pid)
    }

    /// Makes a device node in it. The node's owner is root.
    pub fn make_node(&self, device: &Device) -> Result<()> {
        let (pid, _init) = self.first_process("make a device node in")?;
        node::make(pid, device)
    }

    /// Its first process, by number, and held, so that the number stays its own (D-36).
    fn first_process(&self, verb: &str) -> Result<(Pid, OwnedFd)> {
        let pid = self.status_and_pid()?.1.and_then(Pid::from_raw);
        match (pid, self.open_init()?) {
            (Some(pid), Some(init)) => Ok((pid, init)),
            _ => Err(self.wrong_status(verb)),
        }
    }

    /// All its processes, in our pid namespace.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some(cgroup) = self.cgroup() else {
            return Ok(self.status_and_pid()?.1.into_iter().collect());
        };
        Ok(cgroup.processes()?.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect())
    }

    /// Its root directory as its first process sees it, with everything mounted there.
    ///
    /// Whatever is in it belongs to the container: names are to be resolved beneath it only (D-1).
    pub fn root(&self) -> Result<OwnedFd> {
        let gone = || self.wrong_status("reach the files of");
        let identity = self.dir.init()?.ok_or_else(gone)?;
        let init = identity.open()?.ok_or_else(gone)?;
        let root = Procfs::open()?.open_root(identity.pid)?;
        // Its number may have been another's by then; it was its own if it lives now (D-36).
        let mut fds = [PollFd::new(&init, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) => Ok(root),
            Ok(_) => Err(gone()),
            Err(error) => Err(Error::call("poll", error)),
        }
    }

    /// To be called by programs that are about to run a process in it with [`Container::exec`], before they
    /// do anything that cannot be done twice: starts this program again, from an object nobody can write to,
    /// where somebody inside could look into it (D-20, CVE-2019-5736). Without that, `exec` has the work done
    /// by such a second program, which takes longer.
    pub fn protect_from_onlookers(&self, process: &Process) -> Result<()> {
        if onlookers::may_see(&self.dir, &*self.spec()?, process) {
            self_exe::protect()
        } else {
            Ok(())
        }
    }

    /// Makes this process root of the container's user namespace, where an ordinary user must be to have
    /// power over its files. There is no way back; root needs no such way.
    pub fn become_owner(&self) -> Result<()> {
        let is_apart = self.spec()?.namespaces.get(NamespaceKind::User).is_some();
        if rustix::process::geteuid().is_root() || !is_apart {
            return Ok(());
        }
        let gone = || self.wrong_status("reach the files of");
        let pid = self.dir.init()?.ok_or_else(gone)?.pid.to_string();
        let file = Procfs::open()?.open_namespace(&pid, "user")?;
        // Opened by number, so make sure that the number still meant the container (D-36).
        self.open_init()?.ok_or_else(gone)?;
        Join { kind: NamespaceKind::User, file }.enter()
    }

    /// Runs another process in it.
    pub fn exec(&self, process: &Process, options: ExecOptions) -> Result<Running> {
        let pid_file = options.pid_file.clone();
        let running = exec::exec(self, process, options)?;
        if let Some(file) = pid_file
            && let Err(error) = pid_file::write(&file, running.pid())
        {
            running.signal(libc::SIGKILL)?;
            return Err(error);
        }
        Ok(running)
    }

    /// Changes its limits, and remembers them.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        let _lock = self.dir.lock()?;
        if self.status()? == Status::Stopped {
            return Err(self.wrong_status("update"));
        }
        self.needs_cgroup("update")?.apply(resources)?;
        let mut spec = self.dir.spec()?;
        if let Some(cgroup) = &mut spec.cgroup {
            cgroup.resources.clone_from(resources);
        }
        self.dir.replace("spec.json", &spec)?;
        *self.spec.borrow_mut() = Some(Rc::new(spec));
        Ok(())
    }

    pub(crate) fn open_init(&self) -> Result<Option<OwnedFd>> {
        match self.dir.init()? {
            Some(init) => init.open(),
            None => Ok(None),
        }
    }

    fn wrong_status(&self, verb: &str) -> Error {
        let status = self.status().unwrap_or(Status::Stopped);
        Error::WrongStatus { id: self.id().clone(), verb: verb.into(), status }
    }
}

/// Waits until a process has ended; it need not be our child.
fn wait_for_end(pidfd: &OwnedFd, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(Error::call("wait for the killed process", nix::Error::ETIMEDOUT)),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::call("poll", error)),
        }
    }
}

//! Making the process that enters a container, and what is said with it until the program runs.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use configs::{NamespaceKind, Namespaces, Policy, Seccomp, Spec};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::{CloneFlags, Cloned};

use crate::{
    Error, Result, Running, State, Stdio, bootstrap,
    channel::{self, ChildEnd, FromChild, FromParent, ParentEnd},
    error::OrFail,
    process::send_signal,
    procfs::Procfs,
    relay::copy_size,
    steps::namespaces::Join,
    user_namespace,
};

/// What a new process is born with.
pub(crate) struct Birth<'a> {
    pub(crate) flags: CloneFlags,
    /// The cgroup v2 directory to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Namespaces only we can take the child into: its pid namespace, since that takes effect at birth.
    pub(crate) through: Vec<Join>,
}

/// Everything a new container's process can be born with. The cgroup and time namespaces it makes itself.
pub(crate) fn flags(namespaces: &Namespaces) -> CloneFlags {
    const AT_BIRTH: [(NamespaceKind, CloneFlags); 6] = [
        (NamespaceKind::User, CloneFlags::NEWUSER),
        (NamespaceKind::Ipc, CloneFlags::NEWIPC),
        (NamespaceKind::Uts, CloneFlags::NEWUTS),
        (NamespaceKind::Network, CloneFlags::NEWNET),
        (NamespaceKind::Pid, CloneFlags::NEWPID),
        (NamespaceKind::Mount, CloneFlags::NEWNS),
    ];
    AT_BIRTH
        .into_iter()
        .filter(|(kind, _)| namespaces.creates(*kind))
        .fold(CloneFlags::default(), |flags, (_, flag)| flags.union(flag))
}

/// A process just born, and our end of the conversation with it. Killed when dropped before it was kept.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) pid: i32,
    pidfd: Option<OwnedFd>,
    pub(crate) channel: ParentEnd,
}

/// Makes the process. In it, `live` runs; it returns only on failure, which the parent is told.
pub(crate) fn give_birth(
    procfs: &Procfs,
    birth: &Birth<'_>,
    live: impl FnOnce(&ChildEnd) -> Error,
) -> Result<Newborn> {
    let (ours, theirs) = channel::pair()?;
    sys::wait_for_children();
    // Inherited: from its first instant nothing inside may look into it (D-21).
    if may_be_undumpable(birth.flags) {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).or_fail(|| "become undumpable")?;
    }
    let caller = bootstrap::caller();
    let family = if caller.is_some() { CloneFlags::PARENT } else { CloneFlags::default() };
    let detour = Detour::take(procfs, &birth.through)?;
    let cloned = sys::clone3(birth.flags.union(family), birth.cgroup).or_fail(|| "clone3");
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        let error = live(&theirs);
        fail(&theirs, error);
    }
    detour.return_home();
    match cloned? {
        Cloned::Parent { pid, pidfd } => {
            if let Some(caller) = caller {
                caller.send_with(&FromChild::Started(pid), &[pidfd.as_fd()])?;
            }
            Ok(Newborn { pid, pidfd: Some(pidfd), channel: ours })
        }
        Cloned::Child => Err(Error::Unsafe("the child came back".into())),
    }
}

/// Who is no more than root of a user namespace, if that, cannot write the id maps of an undumpable process:
/// they belong to the system's root. There the child becomes so as soon as they are written.
fn may_be_undumpable(flags: CloneFlags) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    is_root && (!flags.contains(CloneFlags::NEWUSER) || user_namespace::is_initial())
}

/// Whether this process can come back from a pid namespace to its own, which is the system's: setns(2) wants
/// power over it.
pub(crate) fn comes_back() -> bool {
    rustix::process::geteuid().is_root() && user_namespace::is_initial()
}

/// Tells the parent why there is no program, and ends.
fn fail(channel: &ChildEnd, error: Error) -> ! {
    // Nobody is left to tell if this fails, too.
    drop(channel.send(&FromChild::Failed(error)));
    sys::exit_now(1)
}

impl Newborn {
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Tells it that everything outside is done.
    pub(crate) fn let_go(&self, procfs: &Procfs) -> Result<()> {
        let ignored_signals = ignored_signals(&procfs.read("self/status")?);
        self.channel.tell(&FromParent::Go { ignored_signals })
    }

    /// Listens until the program runs, or waits at its gate. Gives back the master of its terminal.
    pub(crate) fn attend(&self, mut on: impl FnMut(Event) -> Result<()>) -> Result<()> {
        let mut executing = false;
        loop {
            let Some((message, mut fds)) = self.channel.receive()? else {
                // exec has closed the other end; or it is dead.
                return if executing { Ok(()) } else { Err(self.died()) };
            };
            match message {
                FromChild::Executing => executing = true,
                FromChild::Ready => return Ok(()),
                FromChild::Failed(error) => return Err(error),
                FromChild::RunHooks => {
                    on(Event::Hooks)?;
                    self.channel.tell(&FromParent::HooksDone)?;
                }
                FromChild::Terminal => on(Event::Terminal(one(&mut fds)?))?,
                FromChild::Listener => on(Event::Listener(one(&mut fds)?))?,
                FromChild::Started(_) => return Err(channel::unexpected()),
            }
        }
    }

    fn died(&self) -> Error {
        let how = self.pidfd().and_then(|pidfd| crate::process::wait(pidfd).ok());
        Error::InitDied(match how {
            Some(crate::ExitStatus::Signaled(libc::SIGKILL)) => {
                ": SIGKILL; its memory limit may be too low".into()
            }
            Some(status) => format!(" ({status:?})"),
            None => String::new(),
        })
    }

    /// It lives on its own from here.
    pub(crate) fn keep(mut self, terminal: Option<OwnedFd>) -> Result<Running> {
        let pidfd = self.pidfd.take().ok_or_else(|| Error::Unsafe("kept twice".into()))?;
        Ok(Running { pid: self.pid, pidfd, terminal })
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd() else { return };
        let mut ended = send_signal(pidfd, libc::SIGKILL);
        if bootstrap::caller().is_none() {
            ended = ended.and_then(|()| crate::process::wait(pidfd).map(drop));
        }
        match ended {
            Ok(()) => {}
            // Waited for already, to learn how it died.
            Err(Error::Call {
                source: nix::errno::Errno::ECHILD | nix::errno::Errno::ESRCH,
                ..
            }) => {}
            Err(error) => log::warn!("cannot kill process {}: {error}", self.pid),
        }
    }
}

/// The mask in proc_pid_status(5); its child has inherited it.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// What a newborn asks of its parent.
pub(crate) enum Event {
    Hooks,
    Terminal(OwnedFd),
    Listener(OwnedFd),
}

fn one(fds: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
    fds.pop().ok_or_else(|| Error::Unsafe("a descriptor did not arrive".into()))
}

/// Where the master of a terminal goes: kept for the caller, or sent to a console socket.
pub(crate) fn deliver_terminal(
    stdio: &Stdio,
    master: OwnedFd,
    kept: &mut Option<OwnedFd>,
) -> Result<()> {
    match stdio {
        Stdio::ConsoleSocket(path) => send_to_socket(path, b"/dev/ptmx", &master),
        _ => {
            // Before the program can ask for it.
            copy_size(&master);
            *kept = Some(master);
            Ok(())
        }
    }
}

/// Connects to a unix socket and sends it one descriptor.
pub(crate) fn send_to_socket(path: &Path, packet: &[u8], fd: &OwnedFd) -> Result<()> {
    let socket = std::os::unix::net::UnixStream::connect(path)
        .or_fail(|| format!("connect to {}", path.display()))?;
    sys::send_with_fds(socket.as_fd(), packet, &[fd.as_fd()])
        .or_fail(|| format!("send to {}", path.display()))
}

/// Hands a seccomp listener to the agent the Spec names, with what the specification wants it to know
/// (runtime-spec, config-linux.md#containerprocessstate).
pub(crate) fn deliver_listener(
    spec: &Spec,
    state: &State,
    pid: i32,
    listener: &OwnedFd,
) -> Result<()> {
    let Some(Seccomp::Policy(Policy { notify: Some(notify), .. })) = &spec.seccomp else {
        return Err(Error::Unsupported(
            "the filter notifies, but nobody is named to listen".into(),
        ));
    };
    let document = serde_json::json!({
        "ociVersion": crate::OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": notify.metadata,
        "state": state.to_oci(),
    });
    send_to_socket(&notify.socket, document.to_string().as_bytes(), listener)
}

/// We are in other namespaces for the moment of a birth.
struct Detour(Vec<Join>);

impl Detour {
    fn take(procfs: &Procfs, through: &[Join]) -> Result<Self> {
        let mut home = Vec::new();
        for join in through {
            let name = match join.kind {
                NamespaceKind::Pid => "pid",
                NamespaceKind::Ipc => "ipc",
                NamespaceKind::Uts => "uts",
                NamespaceKind::Network => "net",
                other => return Err(Error::Unsupported(format!("a detour through {other:?}"))),
            };
            let file = procfs.open_namespace("self", name)?;
            home.push(Join { kind: join.kind, file });
        }
        let detour = Self(home);
        for join in through {
            if let Err(error) = join.enter() {
                detour.return_home();
                return Err(error);
            }
        }
        Ok(detour)
    }

    /// We came from there with the same rights, so this cannot fail but for a bootstrap (see
    /// [`comes_back`]), which makes no other process; if it did, everything this process does next would
    /// happen in the wrong place.
    fn return_home(self) {
        for join in self.0 {
            if let Err(error) = join.enter() {
                if bootstrap::caller().is_some() {
                    continue;
                }
                log::error!("cannot return: {error}");
                std::process::abort();
            }
        }
    }
}

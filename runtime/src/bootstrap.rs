//! For callers that cannot make the process themselves: ourselves again, single-threaded and read-only.
//!
//! A process with threads cannot be copied safely, and one whose binary is writable must not be seen
//! inside a container. Such a caller starts this program once more, from an object nobody can write
//! to, and hands it the request; it does exactly what a caller without these troubles does itself, with
//! CLONE_PARENT, so that the new process is the caller's child after all.
//!
//! ```text
//!   caller                                bootstrap
//!   request (memfd), stdio ---------->
//!                          <----------    Started(pid) + pidfd
//!                          <----------    Ready (+ master of the terminal), or Failed
//! ```

use std::{
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};

use configs::{Process, Spec};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{
    Container, ContainerId, Containers, CreateOptions, Error, ExecOptions, ExitStatus, Result,
    Running, Stdio,
    channel::{self, ChildEnd, FromChild, ParentEnd, unexpected},
    create::{self, Gate},
    error::OrFail,
    exec, self_exe,
};

/// How the new process knows what it is; no command of ours has a space in its name.
const NAME: &str = "crun-cargo bootstrap";

/// Our end of the conversation, in the process that is a bootstrap.
static CALLER: OnceLock<ChildEnd> = OnceLock::new();

/// Whom to tell of a birth, if this process is a bootstrap: the caller is the parent then.
pub(crate) fn caller() -> Option<&'static ChildEnd> {
    CALLER.get()
}

#[derive(Debug, Serialize, Deserialize)]
enum Work {
    Create { spec: Box<Spec>, bundle: PathBuf, gate: Gate, init: bool },
    Exec { process: Box<Process>, cgroup: Option<PathBuf>, ignore_paused: bool },
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    runroot: PathBuf,
    id: ContainerId,
    work: Work,
    preserve_fds: u32,
    /// Where a terminal's master goes; without it, and with a terminal, to the caller.
    console_socket: Option<PathBuf>,
    terminal: bool,
}

/// To be called first thing in `main`: does a bootstrap's work if this process was started to be one.
///
/// Returns what to exit with, or `None` in every other process. A program that never starts a container
/// while it has threads, and never runs a second process in one, need not call it.
pub fn run_if_requested() -> Option<ExitStatus> {
    if std::env::args_os().next()? != NAME {
        return None;
    }
    // Standard input is the conversation: the only descriptor that needs no agreement on its number.
    let socket = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let channel = CALLER.get_or_init(|| ChildEnd::new(socket));
    let done = work(channel);
    let told = match done {
        Ok(Some(terminal)) => channel.send_with(&FromChild::Ready, &[terminal.as_fd()]),
        Ok(None) => channel.send(&FromChild::Ready),
        Err(error) => channel.send(&FromChild::Failed(error)),
    };
    Some(ExitStatus::Exited(u8::from(told.is_err())))
}

fn work(channel: &ChildEnd) -> Result<Option<OwnedFd>> {
    let (request, stdio) = receive(channel)?;
    let containers = Containers::open(&request.runroot)?;
    let stdio = match (request.console_socket, request.terminal) {
        (Some(path), _) => Stdio::ConsoleSocket(path),
        (None, true) => Stdio::Terminal,
        (None, false) => Stdio::Fds(stdio),
    };
    let preserve_fds = request.preserve_fds;
    match request.work {
        Work::Create { spec, bundle, gate, init } => {
            let options = CreateOptions { bundle, stdio, preserve_fds, init, pid_file: None };
            let mut container = create::create(&containers, &request.id, &spec, options, gate)?;
            Ok(container.running().and_then(Running::take_terminal))
        }
        Work::Exec { process, cgroup, ignore_paused } => {
            let options =
                ExecOptions { stdio, preserve_fds, cgroup, ignore_paused, pid_file: None };
            let mut running = exec::exec(&containers.load(&request.id)?, &process, options)?;
            Ok(running.take_terminal())
        }
    }
}

fn receive(channel: &ChildEnd) -> Result<(Request, [OwnedFd; 3])> {
    let mut packet = [0];
    let (_, mut fds) =
        sys::receive_with_fds(channel.as_fd(), &mut packet).or_fail(|| "receive the request")?;
    if fds.len() != 4 {
        return Err(unexpected());
    }
    let stdio = fds.split_off(1).try_into().map_err(|_| unexpected())?;
    let mut text = String::new();
    for file in fds {
        std::fs::File::from(file).read_to_string(&mut text).or_fail(|| "read the request")?;
    }
    let request = serde_json::from_str(&text)
        .map_err(std::io::Error::from)
        .or_fail(|| "understand the request")?;
    Ok((request, stdio))
}

/// [`create::create`] by another process.
pub(crate) fn create(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    options: CreateOptions,
    gate: Gate,
) -> Result<Container> {
    let CreateOptions { bundle, stdio, preserve_fds, init, pid_file: _ } = options;
    let work = Work::Create { spec: Box::new(spec.clone()), bundle, gate, init };
    let running = ask(containers.root(), id, work, stdio, preserve_fds)?;
    let mut container = containers.load(id)?;
    container.running = Some(running);
    Ok(container)
}

/// [`exec::exec`] by another process.
pub(crate) fn exec(
    container: &Container,
    process: &Process,
    options: ExecOptions,
) -> Result<Running> {
    let ExecOptions { stdio, preserve_fds, cgroup, ignore_paused, pid_file: _ } = options;
    let work = Work::Exec { process: Box::new(process.clone()), cgroup, ignore_paused };
    ask(container.runroot(), container.id(), work, stdio, preserve_fds)
}

fn ask(
    runroot: &std::path::Path,
    id: &ContainerId,
    work: Work,
    stdio: Stdio,
    preserve_fds: u32,
) -> Result<Running> {
    let (console_socket, terminal, fds) = match stdio {
        Stdio::Inherit => (None, false, None),
        Stdio::Fds(fds) => (None, false, Some(fds)),
        Stdio::Terminal => (None, true, None),
        Stdio::ConsoleSocket(path) => (Some(path), true, None),
    };
    let runroot = runroot.to_owned();
    let request = Request { runroot, id: id.clone(), work, preserve_fds, console_socket, terminal };
    let text = serde_json::to_string(&request)
        .map_err(std::io::Error::from)
        .or_fail(|| "write the request")?;
    let memory = sealed(&text)?;

    let (ours, theirs) = channel::pair()?;
    let mut bootstrap = spawn(theirs)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let [zero, one, two] = match &fds {
        Some([zero, one, two]) => [zero.as_fd(), one.as_fd(), two.as_fd()],
        None => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
    };
    let sent = sys::send_with_fds(ours.as_fd(), b"r", &[memory.as_fd(), zero, one, two])
        .or_fail(|| "send the request");
    let heard = sent.and_then(|()| listen(&ours));
    bootstrap.wait().or_fail(|| "wait for the bootstrap")?;
    heard
}

fn sealed(text: &str) -> Result<OwnedFd> {
    let what = || "write the request";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create("request", flags).or_fail(what)?);
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).or_fail(what)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).or_fail(what)?;
    Ok(file.into())
}

#[allow(clippy::disallowed_methods, reason = "starts ourselves, from an open file")]
fn spawn(theirs: ChildEnd) -> Result<std::process::Child> {
    let binary = self_exe::open_read_only()?;
    let path = format!("/proc/self/fd/{}", binary.as_raw_fd());
    Command::new(path)
        .arg0(NAME)
        .env_clear()
        .stdin(theirs.into_socket())
        .spawn()
        .or_fail(|| "start the bootstrap")
}

fn listen(channel: &ParentEnd) -> Result<Running> {
    let mut started = None;
    loop {
        match channel.receive()? {
            Some((FromChild::Started(pid), mut fds)) => {
                let pidfd = fds.pop().ok_or_else(unexpected)?;
                started = Some(Running { pid, pidfd, terminal: None });
            }
            Some((FromChild::Ready, mut fds)) => {
                let mut running = started.ok_or_else(unexpected)?;
                running.terminal = fds.pop();
                return Ok(running);
            }
            Some((FromChild::Failed(error), _)) => {
                // The bootstrap has killed it, but it is ours to bury.
                if let Some(running) = started {
                    running.wait()?;
                }
                return Err(error);
            }
            Some(_) => return Err(unexpected()),
            None => return Err(Error::InitDied(": the bootstrap is gone".into())),
        }
    }
}

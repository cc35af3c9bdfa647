//! Restoring a container from a dump.

use std::{
    ffi::CString,
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use configs::{NamespaceKind, Spec};
use rustix::{
    fs::{CWD, Mode, OFlags},
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{CheckpointOptions, Record, common_flags, criu, failure, refuse_what_is_not_restored};
use crate::{
    Container, ContainerId, Containers, CreateOptions, Error, Result, Running, Stdio,
    cgroup::{Door, Place},
    create::Made,
    error::OrFail,
    process,
    state::{self, Identity},
    steps,
};

const LOG: &str = "restore.log";
const PID_FILE: &str = "restore.pid";

/// Where criu finds the descriptors it gives to the container: above those it opens itself first.
const FIRST_DESCRIPTOR: i32 = 100;

pub(super) fn restore(
    containers: &Containers,
    id: &ContainerId,
    spec: &Spec,
    creation: CreateOptions,
    options: &CheckpointOptions,
) -> Result<Container> {
    refuse_what_is_not_restored(spec)?;
    let record = Record::read(&options.images)?;
    let program = criu(options)?;
    let place = spec.cgroup.as_ref().map(|cgroup| Place::choose(cgroup, id)).transpose()?;
    let mut made = Made::take_name(containers, id)?;
    let _lock = made.dir.lock()?;
    made.dir.write_new("state.json", &state::Record::new(&creation.bundle, place.clone()))?;
    made.dir.write_new("spec.json", spec)?;
    if let (Some(place), Some(wanted)) = (place, &spec.cgroup) {
        made.cgroup = Some(crate::cgroup::Cgroup::create(place, &wanted.resources)?);
    }

    let mut arguments = vec!["criu".to_owned(), "restore".to_owned()];
    arguments.extend(common_flags(options, LOG));
    // Ours to wait for, rather than criu's; criu itself is done once it runs.
    arguments.extend(["--restore-detached", "--restore-sibling"].map(str::to_owned));
    let root = containers.root().join(id.as_str());
    arguments.extend(["--root".to_owned(), root.display().to_string()]);
    let pid_file = options.work.as_ref().unwrap_or(&options.images).join(PID_FILE);
    // criu does not overwrite one.
    let _ = fs::remove_file(&pid_file);
    arguments.extend(["--pidfile".to_owned(), pid_file.display().to_string()]);
    for (number, (point, external)) in record.mounts.iter().enumerate() {
        let source = external.source(point, spec, made.cgroup.as_ref())?;
        arguments.push("--external".to_owned());
        arguments.push(format!("mnt[m{number}]:{}", source.display()));
    }
    for (number, name) in (FIRST_DESCRIPTOR..).zip(&record.stdio) {
        if let Some(name) = name {
            arguments.push("--inherit-fd".to_owned());
            arguments.push(format!("fd[{number}]:{name}"));
        }
    }
    let setting = Setting {
        root: steps::root::detached(spec)?,
        place: &root,
        door: made.cgroup.as_ref().map(crate::cgroup::Cgroup::door).transpose()?,
        own_cgroup_namespace: spec.namespaces.creates(NamespaceKind::Cgroup),
        stdio: match creation.stdio {
            Stdio::Inherit => None,
            Stdio::Fds(fds) => Some(fds),
            Stdio::Terminal | Stdio::ConsoleSocket(_) => {
                return Err(Error::Unsupported("restoring a terminal".into()));
            }
        },
        program,
        arguments,
    };
    if !setting.run()? {
        return Err(failure("restore", options, LOG));
    }
    let pid = read_pid(&pid_file)?;
    let raw = pid.as_raw_nonzero().get();
    made.dir.write_new(state::INIT, &Identity::of(raw)?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).or_fail(|| "pidfd_open")?;
    let mut container = Container::load(made.keep())?;
    container.running = Some(Running { pid: raw, pidfd, terminal: None });
    container.after_start(container.spec()?.as_ref())?;
    Ok(container)
}

fn read_pid(path: &Path) -> Result<Pid> {
    let text = fs::read_to_string(path).or_fail(|| format!("read {}", path.display()))?;
    text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| Error::State {
        path: path.to_owned(),
        reason: "criu left no process number".into(),
    })
}

/// What criu finds when it starts: the restored processes inherit it.
struct Setting<'a> {
    /// Detached.
    root: OwnedFd,
    /// Where it is attached, seen by criu alone: the container's state directory, since that is there.
    place: &'a Path,
    door: Option<Door>,
    own_cgroup_namespace: bool,
    stdio: Option<[OwnedFd; 3]>,
    program: &'a Path,
    arguments: Vec<String>,
}

impl Setting<'_> {
    /// Runs criu; tells whether it was content.
    fn run(&self) -> Result<bool> {
        let directory = self.door.as_ref().and_then(Door::directory);
        let born = sys::clone3(sys::CloneFlags::NEWNS, directory).or_fail(|| "clone3")?;
        match born {
            sys::Cloned::Parent { pidfd, .. } => Ok(process::wait(pidfd.as_fd())?.code() == 0),
            sys::Cloned::Child => {
                let error = self.become_criu();
                // The log is the place criu's own failures are looked for, too.
                log::error!("criu: {error}");
                sys::exit_now(1)
            }
        }
    }

    /// Returns only on failure.
    fn become_criu(&self) -> Error {
        match self.prepare() {
            Err(error) => error,
            Ok(()) => {
                let program = self.program.display().to_string();
                let arguments: Result<Vec<CString>, _> =
                    self.arguments.iter().map(|argument| CString::new(argument.as_str())).collect();
                let (Ok(path), Ok(arguments)) = (CString::new(program.as_str()), arguments) else {
                    return Error::Unsafe("an argument has a NUL".into());
                };
                // criu calls ip and iptables for network namespaces.
                let env = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
                match sys::exec_path(&path, &arguments, &env.map(CString::from)) {
                    Err(errno) => Error::call(format!("execute {program}"), errno),
                    Ok(never) => match never {},
                }
            }
        }
    }

    fn prepare(&self) -> Result<()> {
        if let Some(door) = &self.door {
            door.enter()?;
        }
        // Only now: the namespace's root is where its maker is.
        if self.own_cgroup_namespace {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
                .or_fail(|| "unshare the cgroup namespace")?;
        }
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .or_fail(|| "cut the propagation of mounts")?;
        move_mount(&self.root, "", CWD, self.place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .or_fail(|| format!("attach the root to {}", self.place.display()))?;
        self.pass_stdio()
    }

    fn pass_stdio(&self) -> Result<()> {
        let given = self.stdio.as_ref();
        for (number, standard) in (0..).zip(given_or_own(given)) {
            let passed = fcntl_dupfd_cloexec(standard, FIRST_DESCRIPTOR + number)
                .or_fail(|| "dup a standard descriptor")?;
            if passed.as_raw_fd() != FIRST_DESCRIPTOR + number {
                return Err(Error::Unsafe("a descriptor is where criu's should be".into()));
            }
            fcntl_setfd(&passed, FdFlags::empty()).or_fail(|| "pass a standard descriptor on")?;
            std::mem::forget(passed);
        }
        // What criu and its helpers print is in the log.
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .or_fail(|| "open /dev/null")?;
        rustix::stdio::dup2_stdin(&null).or_fail(|| "dup2")?;
        rustix::stdio::dup2_stdout(&null).or_fail(|| "dup2")?;
        rustix::stdio::dup2_stderr(&null).or_fail(|| "dup2")
    }
}

fn given_or_own(given: Option<&[OwnedFd; 3]>) -> [BorrowedFd<'_>; 3] {
    match given {
        Some([input, output, error]) => [input.as_fd(), output.as_fd(), error.as_fd()],
        None => [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()],
    }
}

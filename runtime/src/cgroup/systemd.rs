//! Cgroups made by systemd: a scope per container, asked for over D-Bus.
//!
//! A scope cannot be empty, and limits have to be in force before the program runs (D-31). So a process
//! of ours holds the place until the container's is there; it does nothing, and is killed then.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use configs::Resources;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};

use super::{
    dbus::{Body, Connection, Failure, Object, Value},
    layout::Own,
    v2,
};
use crate::{ContainerId, Error, Result, user_namespace::outer_uid};

const MANAGER: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const PROPERTIES: Object = Object { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const BUS: Object = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// Where an ordinary user's scopes go that ask for nothing else.
const USER_SLICE: &str = "user.slice";

/// The unit a container's cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    /// Such as `crun-cargo-web.scope`.
    name: String,
    /// Such as `system.slice`.
    slice: String,
}

impl Unit {
    /// From `slice:prefix:name`; an empty slice is the default one.
    pub(super) fn parse(path: &Path, id: &ContainerId) -> Result<Self> {
        let text = path.to_str().unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match *parts.as_slice() {
            [""] => ("", "crun-cargo", id.as_str()),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(Error::Unsupported(format!(
                    "cgroup path {text:?}: with systemd it is slice:prefix:name"
                )));
            }
        };
        if name.ends_with(".slice") {
            return Err(Error::Unsupported(format!("cgroup {name}: a slice holds no processes")));
        }
        let default = if outer_uid() == 0 { "system.slice" } else { USER_SLICE };
        let unit = Self {
            name: if prefix.is_empty() {
                format!("{name}.scope")
            } else {
                format!("{prefix}-{name}.scope")
            },
            slice: if slice.is_empty() { default.to_owned() } else { slice.to_owned() },
        };
        unit.check()?;
        Ok(unit)
    }

    /// Both are one component of a path (D-31).
    fn check(&self) -> Result<()> {
        for name in [&self.name, &self.slice] {
            let mut components = Path::new(name).components();
            let single = matches!(components.next(), Some(Component::Normal(_)));
            if !single || components.next().is_some() || name.contains('/') {
                return Err(Error::Unsafe(format!("{name:?} is no name of a systemd unit")));
            }
        }
        if self.slice.ends_with(".slice") {
            return Ok(());
        }
        Err(Error::Unsupported(format!("{:?} is no slice: its name ends in .slice", self.slice)))
    }

    /// Where systemd makes it, below the hierarchy's root. systemd is asked for the part a user's own
    /// manager begins with.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let mut path = if outer_uid() == 0 { PathBuf::new() } else { manager_cgroup()? };
        path.extend(slice_path(&self.slice)?);
        path.push(&self.name);
        Ok(path)
    }
}

/// `a-b.slice` lies in `a.slice`, systemd.slice(5); `-.slice` is the root.
fn slice_path(slice: &str) -> Result<Vec<String>> {
    let Some(name) = slice.strip_suffix(".slice").filter(|name| *name != "-") else {
        return Ok(Vec::new());
    };
    let mut path = Vec::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(Error::Unsupported(format!("{slice:?} is no name of a slice")));
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

/// Holds the place in a scope; dropping it lets go.
#[derive(Clone, Debug)]
pub(super) struct Placeholder(#[allow(dead_code, reason = "kept for its Drop")] Arc<Holder>);

#[derive(Debug)]
struct Holder(OwnedFd);

impl Drop for Holder {
    fn drop(&mut self) {
        // It may be gone with the scope already.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED);
    }
}

impl Placeholder {
    fn new() -> Result<(Self, Pid)> {
        let call = |error: io::Error| Error::call("make a process that holds the scope", error);
        match sys::clone3(sys::CloneFlags::default(), None).map_err(call)? {
            sys::Cloned::Parent { pid, pidfd } => {
                let pid =
                    Pid::from_raw(pid).ok_or_else(|| call(io::ErrorKind::InvalidData.into()))?;
                Ok((Self(Arc::new(Holder(pidfd))), pid))
            }
            sys::Cloned::Child => {
                // Should its parent be killed, nobody else would.
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
        }
    }
}

/// Has systemd make the scope, with the limits it knows of: it would undo those it does not.
pub(super) fn start(unit: &Unit, resources: &Resources) -> Result<Placeholder> {
    let (placeholder, pid) = Placeholder::new()?;
    let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
    let mut properties = scope(format!("crun-cargo container {}", unit.name), &unit.slice, pid);
    properties.extend([
        ("Delegate", Value::Flag(true)),
        ("DefaultDependencies", Value::Flag(false)),
        ("CPUAccounting", Value::Flag(true)),
        ("MemoryAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
    ]);
    properties.extend(limits(resources)?);
    start_scope(&mut connect()?, &unit.name, &properties)?;
    Ok(placeholder)
}

/// What every scope of ours has.
fn scope(description: String, slice: &str, pid: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("Description", Value::Text(description)),
        ("Slice", Value::Text(slice.to_owned())),
        ("PIDs", Value::Numbers(vec![pid])),
    ]
}

fn start_scope(
    manager: &mut Connection,
    name: &str,
    properties: &[(&'static str, Value)],
) -> Result<()> {
    let body = Body::default().text(name).text("replace").properties(properties).no_units();
    match run_job(manager, "StartTransientUnit", &body) {
        // One of that name failed earlier, and systemd remembers.
        Err(Failure::Refused(error, _)) if error.ends_with(".UnitExists") => {
            let _ = manager.call(MANAGER, "ResetFailedUnit", &Body::default().text(name));
            run_job(manager, "StartTransientUnit", &body)
        }
        other => other,
    }
    .map_err(|failure| failure.into_error(&format!("have systemd start {name}")))
}

/// Has this process moved to where its children may be put into scopes.
///
/// An ordinary user moves processes only within what was given to them (cgroups(7), "Delegation
/// containment"), and a login session is not in that: systemd has the right to move us.
pub(super) fn come_inside() -> Result<()> {
    if outer_uid() == 0 {
        return Ok(());
    }
    let own = Own::read()?;
    let own = own.path("").unwrap_or(Path::new("/"));
    if own.strip_prefix("/").is_ok_and(|own| manager_cgroup().is_ok_and(|it| own.starts_with(it))) {
        return Ok(());
    }
    let pid = std::process::id();
    let properties = scope("crun-cargo".to_owned(), USER_SLICE, pid);
    start_scope(&mut connect()?, &format!("crun-cargo-caller-{pid}.scope"), &properties)
}

/// Tells systemd of changed limits.
pub(super) fn update(unit: &Unit, resources: &Resources) -> Result<()> {
    let limits = limits(resources)?;
    if limits.is_empty() {
        return Ok(());
    }
    // Not to be kept over a reboot.
    let body = Body::default().text(&unit.name).flag(true).properties(&limits);
    connect()?
        .call(MANAGER, "SetUnitProperties", &body)
        .map_err(|failure| failure.into_error(&format!("have systemd limit {}", unit.name)))?;
    Ok(())
}

/// Has systemd end the scope. One whose processes are gone has ended by itself.
pub(super) fn stop(unit: &Unit) -> Result<()> {
    let mut manager = connect()?;
    let body = Body::default().text(&unit.name).text("replace");
    match run_job(&mut manager, "StopUnit", &body) {
        Ok(()) => {}
        Err(Failure::Refused(name, _)) if name.ends_with(".NoSuchUnit") => {}
        Err(failure) => {
            return Err(failure.into_error(&format!("have systemd stop {}", unit.name)));
        }
    }
    let _ = manager.call(MANAGER, "ResetFailedUnit", &Body::default().text(&unit.name));
    Ok(())
}

/// Calls a method that starts a job, and waits until that is done.
fn run_job(manager: &mut Connection, member: &str, body: &Body) -> Result<(), Failure> {
    let started = manager.call(MANAGER, member, body)?;
    let job = started.body().text().unwrap_or_default().to_owned();
    let removed = manager
        .signal("JobRemoved", |signal| {
            let mut values = signal.body();
            values.u32();
            values.text() == Some(&job)
        })
        .map_err(Failure::Broken)?;
    let mut values = removed.body();
    values.u32();
    let (_, unit, result) = (values.text(), values.text(), values.text());
    match result {
        Some("done" | "skipped") => Ok(()),
        other => Err(Failure::Refused(
            format!("job {}", other.unwrap_or("unknown")),
            format!("{member} of {}", unit.unwrap_or_default()),
        )),
    }
}

/// Whether the caller's systemd can be asked.
pub(super) fn is_there() -> bool {
    let (own, bus) = sockets();
    [own, bus].iter().any(|socket| rustix::fs::stat(socket).is_ok())
}

/// systemd's own, and the bus'.
fn sockets() -> (PathBuf, PathBuf) {
    let uid = outer_uid();
    if uid == 0 {
        return (
            PathBuf::from("/run/systemd/private"),
            PathBuf::from("/run/dbus/system_bus_socket"),
        );
    }
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    (runtime.join("systemd/private"), runtime.join("bus"))
}

/// systemd's own socket, which it answers without a bus in between; or the bus.
fn connect() -> Result<Connection> {
    let (own, bus) = sockets();
    if let Ok(connection) = Connection::open(&own) {
        return Ok(connection);
    }
    let mut connection = Connection::open(&bus)?;
    let matches = "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'";
    let greet = |failure: Failure| failure.into_error("talk to the bus");
    connection.call(BUS, "Hello", &Body::default()).map_err(greet)?;
    connection.call(BUS, "AddMatch", &Body::default().text(matches)).map_err(greet)?;
    connection.call(MANAGER, "Subscribe", &Body::default()).map_err(greet)?;
    Ok(connection)
}

/// Where a user's manager has been put.
fn manager_cgroup() -> Result<PathBuf> {
    let body = Body::default().text(MANAGER.interface).text("ControlGroup");
    let answer = connect()?
        .call(PROPERTIES, "Get", &body)
        .map_err(|failure| failure.into_error("ask systemd for its cgroup"))?;
    let mut values = answer.body();
    values.signature();
    let path = values.text().unwrap_or_default();
    Ok(PathBuf::from(path.trim_start_matches('/')))
}

/// What systemd would otherwise set back, systemd.resource-control(5). The rest is ours to write, since
/// the scope is delegated.
fn limits(resources: &Resources) -> Result<Vec<(&'static str, Value)>> {
    let mut limits = Vec::new();
    let mut add = |name, value: Option<i64>| {
        if let Some(value) = value {
            limits.push((name, Value::Number(u64::try_from(value).unwrap_or(u64::MAX))));
        }
    };
    let (memory, cpu) = (&resources.memory, &resources.cpu);
    add("MemoryMax", memory.limit);
    add("MemoryLow", memory.reservation);
    add("MemorySwapMax", v2::swap(memory)?);
    add("TasksMax", resources.pids);
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0 && cpu.idle != Some(1)) {
        limits.push(("CPUWeight", Value::Number(v2::weight_of_shares(shares))));
    }
    if cpu.idle == Some(1) {
        // systemd's word for idle, since version 252.
        limits.push(("CPUWeight", Value::Number(0)));
    }
    limits.extend(quota(cpu));
    for (file, name) in [
        ("cpu.weight", "CPUWeight"),
        ("memory.high", "MemoryHigh"),
        ("memory.low", "MemoryLow"),
        ("memory.max", "MemoryMax"),
        ("memory.min", "MemoryMin"),
        ("memory.swap.max", "MemorySwapMax"),
        ("pids.max", "TasksMax"),
    ] {
        if let Some(text) = resources.unified.get(file) {
            // `max`, and what systemd should not be told because the kernel will refuse it.
            limits.push((name, Value::Number(text.trim().parse().unwrap_or(u64::MAX))));
        }
    }
    for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
        if let Some(list) = list {
            limits.push((name, Value::Bytes(mask(list)?)));
        }
    }
    Ok(limits)
}

/// Microseconds of processor time per second, rounded up to what systemd keeps: 10 ms.
fn quota(cpu: &configs::Cpu) -> Vec<(&'static str, Value)> {
    const SECOND: u64 = 1_000_000;
    const STEP: u64 = 10_000;
    let mut limits = Vec::new();
    let period = cpu.period.filter(|&period| period != 0);
    if let Some(period) = period {
        limits.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    if let Some(quota) = cpu.quota {
        let share = match u64::try_from(quota) {
            Ok(quota) if quota > 0 => (quota.saturating_mul(SECOND) / period.unwrap_or(100_000))
                .checked_next_multiple_of(STEP)
                .unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        limits.push(("CPUQuotaPerSecUSec", Value::Number(share)));
    }
    limits
}

/// `0-2,5` as a bit mask, lowest byte first.
fn mask(list: &str) -> Result<Vec<u8>> {
    /// More than any kernel supports.
    const MOST: usize = 1 << 16;
    let mut mask = Vec::new();
    let mut set = |number: usize| {
        let (byte, bit) = (number / 8, number % 8);
        if mask.len() <= byte {
            mask.resize(byte + 1, 0_u8);
        }
        if let Some(byte) = mask.get_mut(byte) {
            *byte |= 1 << bit;
        }
    };
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            return Err(Error::Unsupported(format!("{list:?} is no list of processors or nodes")));
        };
        if last < first || last >= MOST {
            return Err(Error::Unsupported(format!("{list:?}: {part:?} is no range")));
        }
        (first..=last).for_each(&mut set);
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn unit(path: &str) -> Result<Unit> {
        Unit::parse(Path::new(path), &"web".parse().unwrap())
    }

    #[test]
    fn units_are_named_as_runc_names_them() {
        let check = |path: &str, name: &str, slice: &str| {
            assert_eq!(unit(path).unwrap(), Unit { name: name.into(), slice: slice.into() });
        };
        check("machine.slice:libpod:12", "libpod-12.scope", "machine.slice");
        check(":docker:12", "docker-12.scope", "system.slice");
        check("a.slice::12", "12.scope", "a.slice");
        check("", "crun-cargo-web.scope", "system.slice");
        for bad in
            ["/a/b", "a:b", "a.slice:x:../y", "a/b.slice:x:y", "..:x:y", "a:b:c.slice", "a:b:c"]
        {
            assert!(unit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn slices_lie_in_each_other() {
        assert_eq!(slice_path("a-b-c.slice").unwrap(), ["a.slice", "a-b.slice", "a-b-c.slice"]);
        assert!(slice_path("-.slice").unwrap().is_empty());
        assert!(slice_path("a--b.slice").is_err());
    }

    #[test]
    fn limits_become_properties() {
        assert_eq!(mask("0-2,9").unwrap(), [0b111, 0b10]);
        assert!(mask("2-1").is_err() && mask("x").is_err() && mask("0-99999999").is_err());
        let cpu = configs::Cpu { quota: Some(25_000), period: Some(50_000), ..Default::default() };
        let expected = [
            ("CPUQuotaPeriodUSec", Value::Number(50_000)),
            ("CPUQuotaPerSecUSec", Value::Number(500_000)),
        ];
        assert_eq!(quota(&cpu), expected);
    }
}

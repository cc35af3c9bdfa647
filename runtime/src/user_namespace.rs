//! An ordinary user's way to files with owners, mounts and namespaces: root of a user namespace of one's
//! own, user_namespaces(7).

use std::os::fd::AsFd;

use configs::{IdMap, IdMaps};
use nix::sched::{CloneFlags, unshare};
use sys::Cloned;

use crate::{
    Result,
    channel::{self, ChildEnd, FromChild, FromParent},
    error::OrFail,
    id_maps, process,
    procfs::Procfs,
};

/// `PROC_USER_INIT_INO` in the kernel's proc_ns.h: the inode of the namespace the system began with.
const INITIAL: u64 = 0xEFFF_FFFD;

/// Makes this process root of a new user namespace with these maps, and of a mount namespace with it. There
/// is no way back. The process must have a single thread.
///
/// What it makes from here on, containers included, lies within; the user outside keeps all power over
/// that, capabilities(7).
pub fn enter(maps: &IdMaps) -> Result<()> {
    id_maps::check(&maps.uids)?;
    id_maps::check(&maps.gids)?;
    let procfs = Procfs::open()?;
    let (ours, theirs) = channel::pair()?;
    let pid = i32::try_from(std::process::id()).map_err(|_| channel::unexpected())?;
    sys::wait_for_children();
    // Maps are written from outside: newuidmap(1) has no power in there.
    let scribe = match sys::clone3(sys::CloneFlags::default(), None).or_fail(|| "clone3")? {
        Cloned::Child => {
            drop(ours);
            let told = match write_maps(&theirs, &procfs, pid, maps) {
                Ok(()) => theirs.send(&FromChild::Ready),
                Err(error) => theirs.send(&FromChild::Failed(error)),
            };
            sys::exit_now(u8::from(told.is_err()))
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(theirs);
    let entered = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .or_fail(|| "unshare the user namespace")
        .and_then(|()| ours.tell(&FromParent::Go { ignored_signals: 0 }))
        .and_then(|()| match ours.receive()? {
            Some((FromChild::Ready, _)) => Ok(()),
            Some((FromChild::Failed(error), _)) => Err(error),
            _ => Err(channel::unexpected()),
        });
    // Where nothing was unshared, this ends it.
    drop(ours);
    let buried = process::wait(scribe.as_fd());
    entered.and(buried.map(drop))
}

fn write_maps(channel: &ChildEnd, procfs: &Procfs, pid: i32, maps: &IdMaps) -> Result<()> {
    channel.answer()?;
    id_maps::write(procfs, pid, maps)
}

/// Whether this process is in the namespace the system began with.
pub fn is_initial() -> bool {
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|found| found.st_ino == INITIAL)
}

/// Who root is outside of the namespace this process is in; that is 0 in the first one.
pub(crate) fn outer_uid() -> u32 {
    let euid = rustix::process::geteuid().as_raw();
    let map = own_map("uid_map").unwrap_or_default();
    let outer = parse(&map).iter().find_map(|row| {
        let offset = euid.checked_sub(row.container).filter(|offset| *offset < row.size)?;
        row.host.checked_add(offset)
    });
    outer.unwrap_or(euid)
}

fn own_map(file: &str) -> Result<String> {
    Procfs::open()?.read(&format!("self/{file}"))
}

fn parse(map: &str) -> Vec<IdMap> {
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (container, host, size) = (fields.next()?, fields.next()?, fields.next()?);
        Some(IdMap { container: container.ok()?, host: host.ok()?, size: size.ok()? })
    };
    map.lines().filter_map(row).collect()
}

/// Whether a capability is missing because what it guards belongs to the system as a whole, and we are
/// an ordinary user or root of no more than a namespace.
pub(crate) fn explains(error: &std::io::Error) -> bool {
    let is_ordinary = || !rustix::process::geteuid().is_root() || !is_initial();
    error.raw_os_error() == Some(libc::EPERM) && is_ordinary()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let map = parse("         0       1000          1\n         1     100000      65536\n");
        let rows: Vec<_> = map.iter().map(|row| (row.container, row.host, row.size)).collect();
        assert_eq!(rows, [(0, 1000, 1), (1, 100_000, 65536)]);
    }
}

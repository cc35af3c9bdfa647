//! An ordinary user's way to what root simply has: files of many owners, and cgroups.
//!
//! A command that unpacks, shows or removes the files of images and containers becomes root of a user
//! namespace made for it, user_namespaces(7), with the subordinate ids that subuid(5) grants, and all
//! containers it starts live in one below. Commands that only ask or signal stay outside: from there the
//! user has power over every container of theirs, whichever command made it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context;
use configs::{CgroupDriver, IdMap, IdMaps};
use runtime::{cgroup::Delegation, user_namespace};

use crate::{
    cli::CgroupManager,
    home::{self, variable},
};

/// The ids of the namespace this process has entered, as they look from within.
static INSIDE: OnceLock<IdMaps> = OnceLock::new();

/// Has this process own what its user's subordinate ids own; root does already. To be called while the
/// process has one thread.
pub(crate) fn become_owner() -> anyhow::Result<()> {
    if home::is_root() {
        return Ok(());
    }
    let outside = maps();
    user_namespace::enter(&outside).context("cannot use the subordinate ids of this user")?;
    let within = |maps: &[IdMap]| {
        maps.iter().map(|map| IdMap { host: map.container, ..*map }).collect::<Vec<_>>()
    };
    INSIDE.get_or_init(|| IdMaps { uids: within(&outside.uids), gids: within(&outside.gids) });
    Ok(())
}

/// What a container's own user namespace has to map, where there must be one: everything we have.
pub(crate) fn container_maps() -> Option<IdMaps> {
    INSIDE.get().cloned()
}

/// Who makes cgroups for this user, unless something else was asked for.
pub(crate) fn cgroup_manager() -> CgroupManager {
    if home::is_root() {
        return CgroupManager::Cgroupfs;
    }
    match Delegation::of_caller() {
        Some(Delegation::Systemd) => CgroupManager::Systemd,
        Some(Delegation::Beside) => CgroupManager::Cgroupfs,
        None => CgroupManager::Disabled,
    }
}

/// Where a container's cgroup is to be when no parent was asked for.
pub(crate) fn cgroup_parent(driver: CgroupDriver) -> &'static Path {
    let is_inside = INSIDE.get().is_some();
    Path::new(match driver {
        CgroupDriver::Systemd if is_inside => "user.slice",
        CgroupDriver::Systemd => "system.slice",
        // Relative: beside the caller's own, which is as far as a delegation goes.
        CgroupDriver::Cgroupfs if is_inside => "crun-cargo",
        CgroupDriver::Cgroupfs => "/crun-cargo",
    })
}

/// The user as root, then every id granted to them. Without grants there is only the one.
fn maps() -> IdMaps {
    let (uid, gid) = home::caller();
    let name = name_of(uid);
    let granted = |file: &str| ranges(&fs::read_to_string(file).unwrap_or_default(), uid, &name);
    let (uids, gids) = (granted("/etc/subuid"), granted("/etc/subgid"));
    if uids.is_empty() || gids.is_empty() || !has_helpers() {
        log::warn!(
            "files can only have one owner here, you: newuidmap (Debian package uidmap) and ids for \
             {name} in /etc/subuid and /etc/subgid are needed for more"
        );
        return IdMaps { uids: with_own(uid, &[]), gids: with_own(gid, &[]) };
    }
    IdMaps { uids: with_own(uid, &uids), gids: with_own(gid, &gids) }
}

/// newuidmap(1) and its sibling, where id_maps in the runtime will find them.
fn has_helpers() -> bool {
    let path = variable("PATH").unwrap_or_default();
    let is_there = |name: &str| {
        let mut directories = std::env::split_paths(&path);
        directories.any(|directory: PathBuf| fs::metadata(directory.join(name)).is_ok())
    };
    is_there("newuidmap") && is_there("newgidmap")
}

fn with_own(id: u32, granted: &[(u32, u32)]) -> Vec<IdMap> {
    let mut maps = vec![IdMap { container: 0, host: id, size: 1 }];
    let mut next: u32 = 1;
    for &(first, size) in granted {
        let Some(end) = next.checked_add(size) else { break };
        maps.push(IdMap { container: next, host: first, size });
        next = end;
    }
    maps
}

/// `NAME:FIRST:COUNT` lines, where NAME may be a number.
fn ranges(text: &str, uid: u32, name: &str) -> Vec<(u32, u32)> {
    let row = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, size) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_ours = owner == name || owner.parse() == Ok(uid);
        (is_ours && size > 0).then_some((first, size))
    };
    text.lines().filter_map(row).collect()
}

/// From the system's own file; a user known only to a directory service is granted ids by number.
fn name_of(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let row = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(row).unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_ids_follow_the_users_own() {
        let text = "other:1:2\nme:100000:65536\n1000:300000:10\nme:5:0\nme:x:1\n";
        assert_eq!(ranges(text, 1000, "me"), [(100_000, 65536), (300_000, 10)]);
        let maps = with_own(1000, &[(100_000, 65536), (300_000, 10)]);
        let rows: Vec<_> = maps.iter().map(|map| (map.container, map.host, map.size)).collect();
        assert_eq!(rows, [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]);
    }
}

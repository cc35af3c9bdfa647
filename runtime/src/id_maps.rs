//! uid_map and gid_map of a new user namespace, written directly or through newuidmap.

use std::process::{Command, Stdio};

use configs::{IdMap, IdMaps};

use crate::{Error, Result, procfs::Procfs};

/// Writes both maps of a process in a new user namespace.
pub(crate) fn write(procfs: &Procfs, pid: i32, maps: &IdMaps) -> Result<()> {
    check(&maps.uids)?;
    check(&maps.gids)?;
    // An unprivileged writer of gid_map must have given up setgroups first, user_namespaces(7).
    let privileged = rustix::process::geteuid().is_root();
    write_one(procfs, pid, "uid_map", "newuidmap", &maps.uids)?;
    if !privileged && maps.gids.len() == 1 && maps.gids.iter().all(|map| map.size == 1) {
        procfs.write(&format!("{pid}/setgroups"), "deny")?;
    }
    write_one(procfs, pid, "gid_map", "newgidmap", &maps.gids)
}

fn write_one(procfs: &Procfs, pid: i32, file: &str, helper: &str, maps: &[IdMap]) -> Result<()> {
    let text: String =
        maps.iter().map(|map| format!("{} {} {}\n", map.container, map.host, map.size)).collect();
    match procfs.write(&format!("{pid}/{file}"), &text) {
        Err(error) if error.errno() == Some(nix::errno::Errno::EPERM) => {
            with_helper(helper, pid, maps).map_err(|reason| Error::Hook {
                kind: "id map".into(),
                path: helper.into(),
                reason,
            })
        }
        other => other,
    }
}

/// newuidmap(1) knows from /etc/subuid what an ordinary user may map.
#[allow(clippy::disallowed_methods, reason = "only the setuid helper may write such maps")]
fn with_helper(helper: &str, pid: i32, maps: &[IdMap]) -> Result<(), String> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    for map in maps {
        command.args([map.container, map.host, map.size].map(|number| number.to_string()));
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().escape_default().to_string())
}

/// Refuses what overlaps or overflows (D-33), before the kernel says only EINVAL.
pub(crate) fn check(maps: &[IdMap]) -> Result<()> {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    for (index, map) in maps.iter().enumerate() {
        let fits = end(map.container, map.size) <= 1 << 32 && end(map.host, map.size) <= 1 << 32;
        if map.size == 0 || !fits {
            return Err(invalid(map, "is empty or too large"));
        }
        for other in maps.iter().skip(index + 1) {
            let apart = |a: u32, b: u32| {
                end(a, map.size) <= u64::from(b) || end(b, other.size) <= u64::from(a)
            };
            if !apart(map.container, other.container) || !apart(map.host, other.host) {
                return Err(invalid(other, "overlaps another"));
            }
        }
    }
    Ok(())
}

fn invalid(map: &IdMap, why: &str) -> Error {
    Error::Unsupported(format!("the id map {} {} {} {why}", map.container, map.host, map.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_maps(maps: &[(u32, u32, u32)], valid: bool) {
        let maps: Vec<IdMap> = maps
            .iter()
            .map(|(container, host, size)| IdMap {
                container: *container,
                host: *host,
                size: *size,
            })
            .collect();
        assert_eq!(check(&maps).is_ok(), valid, "{maps:?}");
    }

    #[test]
    fn maps_must_not_overlap_or_overflow() {
        check_maps(&[(0, 1000, 1), (1, 100_000, 65536)], true);
        check_maps(&[(0, 100_000, u32::MAX)], false);
        check_maps(&[(0, 0, u32::MAX)], true);
        check_maps(&[(0, 0, 0)], false);
        check_maps(&[(0, 1000, 10), (5, 2000, 10)], false);
        check_maps(&[(0, 1000, 10), (50, 1005, 10)], false);
    }
}

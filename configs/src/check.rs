//! Rules across the fields of a [`Spec`], whichever dialect it came from.

use std::path::{Component, Path};

use crate::{
    IdMap, NamespaceKind, Namespaces, Spec, TimeOffsets, mounts::MountSource, problems::Findings,
};

/// Notes everything that cannot work or may not be.
pub(crate) fn check(spec: &Spec, findings: &mut Findings) {
    process(spec, findings);
    names(spec, findings);
    id_maps(spec, findings);
    mounts(spec, findings);
    sysctl(spec, findings);
    namespaced(spec, findings);
}

fn process(spec: &Spec, findings: &mut Findings) {
    let Some(process) = &spec.process else { return };
    if process.args.first().is_none_or(String::is_empty) {
        findings.problem("process.args", "names no program");
    }
    if !process.cwd.is_absolute() {
        let directory = process.cwd.display();
        findings.problem("process.cwd", format_args!("{directory:?} is not an absolute path"));
    }
    for (field, list) in [("process.args", &process.args), ("process.env", &process.env)] {
        if let Some(index) = list.iter().position(|item| item.contains('\0')) {
            findings.problem(format_args!("{field}[{index}]"), "contains a null byte");
        }
    }
    for (index, limit) in process.rlimits.iter().enumerate() {
        let place = format_args!("process.rlimits[{index}]");
        let earlier = process.rlimits.get(..index).unwrap_or_default();
        if limit.soft > limit.hard {
            findings.problem(place, "the soft limit is above the hard limit");
        } else if earlier.iter().any(|other| other.resource == limit.resource) {
            findings.problem(place, "this resource has a limit already");
        }
    }
}

fn names(spec: &Spec, findings: &mut Findings) {
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(name) = name else { continue };
        // HOST_NAME_MAX, gethostname(2).
        if name.len() > 64 || name.contains(char::is_control) {
            findings.problem(field, format_args!("{name:?} is no name of at most 64 characters"));
        }
        require(spec, NamespaceKind::Uts, field, findings);
    }
}

/// Notes that a field needs a namespace of the container's own, created or joined.
fn require(spec: &Spec, kind: NamespaceKind, field: &str, findings: &mut Findings) {
    if spec.namespaces.get(kind).is_none() {
        findings.problem(field, format_args!("needs a {} namespace of its own", kind.oci_name()));
    }
}

fn namespaced(spec: &Spec, findings: &mut Findings) {
    use NamespaceKind::{Network, Time};
    for (present, kind, field) in [
        (!spec.interfaces.is_empty(), Network, "networks"),
        (!spec.routes.is_empty(), Network, "routes"),
        (!spec.net_devices.is_empty(), Network, "linux.netDevices"),
    ] {
        if present {
            require(spec, kind, field, findings);
        }
    }
    if spec.time_offsets != TimeOffsets::default() && !spec.namespaces.creates(Time) {
        findings.problem("linux.timeOffsets", "needs a new time namespace");
    }
    let paths =
        [("linux.maskedPaths", &spec.masked_paths), ("linux.readonlyPaths", &spec.read_only_paths)];
    for (field, paths) in paths {
        if let Some(index) = paths.iter().position(|path| !path.is_absolute()) {
            findings.problem(format_args!("{field}[{index}]"), "is not an absolute path");
        }
    }
    if let Some(cgroup) = &spec.cgroup
        && leaves(&cgroup.path)
    {
        // D-31
        findings.problem("linux.cgroupsPath", "may not contain `..`");
    }
}

fn leaves(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// D-33: a new user namespace needs maps, others may not have any.
fn id_maps(spec: &Spec, findings: &mut Findings) {
    let creates = spec.namespaces.creates(NamespaceKind::User);
    for (field, maps) in
        [("linux.uidMappings", &spec.id_maps.uids), ("linux.gidMappings", &spec.id_maps.gids)]
    {
        match (creates, maps.is_empty()) {
            (true, true) => findings.problem(field, "is missing, and a user namespace is created"),
            (false, false) if spec.namespaces.get(NamespaceKind::User).is_none() => {
                findings.problem(field, "needs a user namespace");
            }
            _ => ranges(field, maps, findings),
        }
    }
}

/// Notes ranges that are empty, wrap around or overlap on either side.
pub(crate) fn ranges(field: &str, maps: &[IdMap], findings: &mut Findings) {
    let overlap = |one: u32, one_size: u32, other: u32, other_size: u32| {
        u64::from(one) < u64::from(other) + u64::from(other_size)
            && u64::from(other) < u64::from(one) + u64::from(one_size)
    };
    for (index, map) in maps.iter().enumerate() {
        let place = format_args!("{field}[{index}]");
        let earlier = maps.get(..index).unwrap_or_default();
        if map.size == 0 {
            findings.problem(place, "maps no ids");
        } else if map.container.checked_add(map.size - 1).is_none()
            || map.host.checked_add(map.size - 1).is_none()
        {
            findings.problem(place, "reaches beyond the last id");
        } else if earlier.iter().any(|other| {
            overlap(map.container, map.size, other.container, other.size)
                || overlap(map.host, map.size, other.host, other.size)
        }) {
            findings.problem(place, "overlaps an earlier range");
        }
    }
}

fn mounts(spec: &Spec, findings: &mut Findings) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        if let Some(map) = &mount.id_map {
            ranges(&format!("mounts[{index}].uidMappings"), &map.uids, findings);
            ranges(&format!("mounts[{index}].gidMappings"), &map.gids, findings);
        }
        if let MountSource::Bind { path, .. } = &mount.source
            && !path.is_absolute()
        {
            findings.problem(format_args!("mounts[{index}].source"), "is not an absolute path");
        }
    }
    for (index, device) in spec.devices.iter().enumerate() {
        if !device.path.is_absolute() || leaves(&device.path) {
            let path = device.path.display();
            let place = format_args!("linux.devices[{index}]");
            findings.problem(place, format_args!("{path:?} is no absolute path without `..`"));
        }
    }
}

/// Settings below these names belong to an ipc namespace, sysctl(8) and namespaces(7).
const IPC: [&str; 7] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// D-32 (CVE-2022-0811): only what a namespace this container *newly* gets keeps to itself; with a
/// shared or joined one the setting would be somebody else's.
fn sysctl(spec: &Spec, findings: &mut Findings) {
    for name in spec.sysctl.keys() {
        let place = format_args!("linux.sysctl.{name}");
        match sysctl_namespace(name) {
            None => findings.problem(place, "is not a setting of a namespace"),
            Some(kind) if !belongs(&spec.namespaces, kind) => {
                let kind = kind.oci_name();
                findings.problem(place, format_args!("needs a new {kind} namespace"));
            }
            Some(_) => (),
        }
    }
    // A name of the Spec and a sysctl would fight, unless they say the same.
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let setting = spec.sysctl.get(&format!("kernel.{field}"));
        if name.is_some() && setting.is_some() && *name != setting.cloned() {
            let place = format_args!("linux.sysctl.kernel.{field}");
            findings.problem(place, format_args!("conflicts with {field}"));
        }
    }
}

/// The container creates the namespace, or names one to join that is its own to change (as runc does
/// for a pod's network: the engine that made it also wrote this file).
fn belongs(namespaces: &Namespaces, kind: NamespaceKind) -> bool {
    namespaces.get(kind).is_some()
}

/// Whose setting it is.
pub(crate) fn sysctl_namespace(name: &str) -> Option<NamespaceKind> {
    if name.split('.').any(|part| part.is_empty() || part == "/") || name.contains("//") {
        return None;
    }
    if IPC.contains(&name)
        || name.starts_with("kernel.shm_rmid_forced")
        || name.starts_with("fs.mqueue.")
    {
        return Some(NamespaceKind::Ipc);
    }
    if name.starts_with("net.") {
        return Some(NamespaceKind::Network);
    }
    match name {
        "kernel.domainname" | "kernel.hostname" => Some(NamespaceKind::Uts),
        _ if name.starts_with("user.") => Some(NamespaceKind::User),
        _ => None,
    }
}

/// sysctl(8) writes names with dots or with slashes, and the first separator says which; inside, dots
/// separate and a slash stands for a dot in a part (`net.ipv4.conf.eth0/100.forwarding`).
pub(crate) fn dotted_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes().get(first) == Some(&b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_mean_the_same() {
        assert_eq!(dotted_sysctl("net/ipv4/ip_forward"), "net.ipv4.ip_forward");
        assert_eq!(dotted_sysctl("net.ipv4.ip_forward"), "net.ipv4.ip_forward");
        assert_eq!(dotted_sysctl("net/ipv4/conf/eth0.100/x"), "net.ipv4.conf.eth0/100.x");
    }

    #[test]
    fn only_a_namespaces_settings_may_be_set() {
        for (name, kind) in [
            ("net.ipv4.ip_forward", Some(NamespaceKind::Network)),
            ("kernel.shmmax", Some(NamespaceKind::Ipc)),
            ("fs.mqueue.msg_max", Some(NamespaceKind::Ipc)),
            ("kernel.domainname", Some(NamespaceKind::Uts)),
            ("kernel.core_pattern", None),
            ("net..ipv4", None),
            ("net./.x", None),
            ("kernel.shmmaxx", None),
            ("vm.swappiness", None),
        ] {
            assert_eq!(sysctl_namespace(name), kind, "{name}");
        }
    }

    #[test]
    fn ranges_may_not_overlap_or_wrap() {
        let problems = |maps: &[(u32, u32, u32)]| {
            let maps: Vec<IdMap> = maps
                .iter()
                .map(|&(container, host, size)| IdMap { container, host, size })
                .collect();
            let mut findings = Findings::default();
            ranges("maps", &maps, &mut findings);
            findings.finish(()).map_or_else(|problems| problems.0.len(), |_| 0)
        };
        assert_eq!(problems(&[(0, 1000, 1), (1, 100_000, 65536)]), 0);
        assert_eq!(problems(&[(0, 1000, 10), (9, 2000, 1)]), 1);
        assert_eq!(problems(&[(0, 1000, 10), (20, 1009, 1)]), 1);
        assert_eq!(problems(&[(0, u32::MAX, 2), (5, 5, 0)]), 2);
        assert_eq!(problems(&[(0, u32::MAX, 1)]), 0);
    }
}

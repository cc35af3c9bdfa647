//! The container you get when nobody says otherwise: docker's defaults, and what OCI runtimes promise.

use std::path::{Path, PathBuf};

use crate::{
    AttrFlags, Device, DeviceKind, DeviceRule, Filesystem, IdMaps, Mount, MountSource, Namespace,
    NamespaceKind, Namespaces, Spec, capability,
};

/// docker's fourteen: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, NET_RAW, SETGID, SETUID, SETFCAP,
/// SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE.
pub const CAPABILITIES: u64 = capability::mask([0, 1, 4, 3, 27, 13, 6, 7, 31, 8, 10, 18, 5, 29]);

/// The search path of a container whose image names none.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Size of `/dev/shm` unless `--shm-size` says otherwise.
pub const SHM_SIZE: u64 = 64 << 20;

const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hidden from a container.
pub fn masked_paths() -> Vec<PathBuf> {
    MASKED_PATHS.iter().map(PathBuf::from).collect()
}

/// Shown read-only in a container.
pub fn read_only_paths() -> Vec<PathBuf> {
    READ_ONLY_PATHS.iter().map(PathBuf::from).collect()
}

/// A new one of each kind but user and time.
pub fn namespaces() -> Namespaces {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut namespaces = Namespaces::default();
    for kind in [Cgroup, Ipc, Uts, Network, Pid, Mount] {
        // Cannot be a duplicate: the kinds above differ.
        let _ = namespaces.insert(Namespace { kind, join: None });
    }
    namespaces
}

const NOSUID_NODEV: AttrFlags = AttrFlags::NOSUID.union(AttrFlags::NODEV);
const CLOSED: AttrFlags = NOSUID_NODEV.union(AttrFlags::NOEXEC);

/// The mounts of a docker container, in the order they are made.
pub fn mounts(shm_size: u64) -> Vec<Mount> {
    let parameters = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(key, value)| {
                ((*key).to_owned(), (!value.is_empty()).then(|| (*value).to_owned()))
            })
            .collect()
    };
    let shm_size = shm_size.to_string();
    vec![
        filesystem("/proc", "proc", "proc", CLOSED, Vec::new()),
        filesystem(
            "/dev",
            "tmpfs",
            "tmpfs",
            AttrFlags::NOSUID.union(AttrFlags::STRICTATIME),
            parameters(&[("mode", "755"), ("size", "65536k")]),
        ),
        filesystem(
            "/dev/pts",
            "devpts",
            "devpts",
            AttrFlags::NOSUID.union(AttrFlags::NOEXEC),
            parameters(&[
                ("newinstance", ""),
                ("ptmxmode", "0666"),
                ("mode", "0620"),
                ("gid", "5"),
            ]),
        ),
        filesystem("/sys", "sysfs", "sysfs", CLOSED.union(AttrFlags::RDONLY), Vec::new()),
        cgroup(AttrFlags::RDONLY),
        filesystem("/dev/mqueue", "mqueue", "mqueue", CLOSED, Vec::new()),
        filesystem(
            "/dev/shm",
            "tmpfs",
            "shm",
            CLOSED,
            parameters(&[("mode", "1777"), ("size", &shm_size)]),
        ),
    ]
}

fn filesystem(
    destination: &str,
    kind: &str,
    source: &str,
    set: AttrFlags,
    parameters: Vec<(String, Option<String>)>,
) -> Mount {
    let filesystem =
        Filesystem { kind: kind.to_owned(), source: source.to_owned(), flags: 0, parameters };
    Mount { set, ..Mount::new(destination.into(), MountSource::Filesystem(filesystem)) }
}

/// The container's own cgroup at the usual place.
pub(crate) fn cgroup(also: AttrFlags) -> Mount {
    Mount { set: CLOSED.union(also), ..Mount::new("/sys/fs/cgroup".into(), MountSource::Cgroup) }
}

/// An empty tmpfs that cannot be used to run or become anything, unless its options say so.
pub(crate) fn tmpfs(destination: PathBuf) -> Mount {
    let filesystem = Filesystem {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        ..Filesystem::default()
    };
    Mount { set: CLOSED, ..Mount::new(destination, MountSource::Filesystem(filesystem)) }
}

/// The nodes every container has.
pub fn devices() -> Vec<Device> {
    const NODES: [(&str, u32, u32); 6] = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    NODES
        .iter()
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            kind: DeviceKind::Character,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// Where the host's own `/dev` is shown, nothing may be made in it.
pub(crate) fn leave_hosts_dev_alone(spec: &mut Spec) {
    let binds_dev = |mount: &Mount| {
        matches!(mount.source, MountSource::Bind { .. })
            && mount.destination.components().eq(Path::new("/dev").components())
    };
    if spec.mounts.iter().any(binds_dev) {
        spec.devices.retain(|device| !device.path.starts_with("/dev"));
        spec.dev_links = false;
    }
}

/// devpts refuses an owner that the container's user namespace does not map.
pub(crate) fn leave_out_unmapped_tty_group(spec: &mut Spec) {
    let is_mapped = |gid: u32| {
        let maps = spec.id_maps.gids.iter();
        maps.clone().any(|map| gid.checked_sub(map.container).is_some_and(|at| at < map.size))
    };
    let unmapped = |value: &Option<String>| {
        let gid = value.as_deref().and_then(|value| value.parse().ok());
        gid.is_none_or(|gid| !is_mapped(gid))
    };
    if !spec.namespaces.creates(NamespaceKind::User) {
        return;
    }
    for mount in &mut spec.mounts {
        if let MountSource::Filesystem(filesystem) = &mut mount.source
            && filesystem.kind == "devpts"
        {
            filesystem.parameters.retain(|(key, value)| key != "gid" || !unmapped(value));
        }
    }
}

/// sysfs belongs to the owner of the network namespace, sysfs(5): where a user namespace shares the host's
/// network, the host's own is shown, and nothing in it can be written.
pub(crate) fn show_hosts_sys(spec: &mut Spec) {
    let shares_network = !spec.namespaces.creates(NamespaceKind::Network);
    if !spec.namespaces.creates(NamespaceKind::User) || !shares_network {
        return;
    }
    for mount in &mut spec.mounts {
        let is_sysfs = matches!(&mount.source, MountSource::Filesystem(it) if it.kind == "sysfs");
        if is_sysfs {
            mount.source = MountSource::Bind { path: "/sys".into(), recursive: true };
            mount.set_recursive = AttrFlags::RDONLY;
        }
    }
}

/// Puts a container into a user namespace of its own, unless it has or shares one already.
pub fn live_in_user_namespace(spec: &mut Spec, maps: &IdMaps) {
    if spec.namespaces.get(NamespaceKind::User).is_some() {
        return;
    }
    // Cannot be a duplicate: there was none.
    let _ = spec.namespaces.insert(Namespace { kind: NamespaceKind::User, join: None });
    spec.id_maps = maps.clone();
    leave_out_unmapped_tty_group(spec);
    show_hosts_sys(spec);
}

/// What every container may do with devices. It comes after a policy's own rules, because a container
/// without `/dev/null` is no use to anybody.
pub fn device_rules() -> Vec<DeviceRule> {
    let mknod_any = |kind| DeviceRule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        read: false,
        write: false,
        mknod: true,
    };
    // The six nodes above, then /dev/console, /dev/ptmx and the pseudo-terminals.
    const CHARACTER: [(u32, Option<u32>); 9] = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    let usable = CHARACTER.iter().map(|&(major, minor)| DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Character),
        major: Some(major),
        minor,
        read: true,
        write: true,
        mknod: true,
    });
    [mknod_any(DeviceKind::Character), mknod_any(DeviceKind::Block)]
        .into_iter()
        .chain(usable)
        .collect()
}

/// Everything, or nothing.
pub(crate) const fn every_device(allow: bool) -> DeviceRule {
    DeviceRule { allow, kind: None, major: None, minor: None, read: true, write: true, mknod: true }
}

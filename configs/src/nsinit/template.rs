//! The container `nsinit config` prints and `exec` runs when there is no file, with its flags.

use std::{collections::BTreeMap, str::FromStr};

use super::document::{
    Argument, Cgroup, Device, Document, IdMap, Mount, Namespace, Network, Rlimit, Seccomp, Syscall,
};
use crate::{Problems, capability, defaults, problems::Findings, syscalls};

/// What both generations protected in /proc.
pub(super) const READ_ONLY_PATHS: [&str; 4] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"];

/// The flags `config`, `exec` and `restore` share. An absent flag leaves the template as it is: the old
/// program's defaults of zero silently overrode swappiness and the parent-death signal.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named as nsinit's flags")]
pub struct CreateFlags {
    pub cgroup: bool,
    pub read_only: bool,
    pub cpushares: Option<i64>,
    pub memory_limit: Option<i64>,
    pub memory_swap: Option<i64>,
    pub memory_swappiness: Option<i64>,
    pub parent_death_signal: Option<i32>,
    pub userns_root_uid: Option<u32>,
    pub apparmor_profile: Option<String>,
    pub process_label: Option<String>,
    pub mount_label: Option<String>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub hostname: Option<String>,
    pub ipc: NamespaceFlag,
    pub mnt: NamespaceFlag,
    pub net: NamespaceFlag,
    pub pid: NamespaceFlag,
    pub uts: NamespaceFlag,
    pub rootfs: Option<String>,
    pub security: Option<Level>,
    pub veth: VethFlags,
    pub binds: Vec<String>,
    pub sysctls: Vec<String>,
    pub tmpfs: Vec<String>,
    pub groups: Vec<String>,
}

/// `--veth-*`
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named as nsinit's flags")]
pub struct VethFlags {
    pub address: Option<String>,
    pub bridge: Option<String>,
    pub gateway: Option<String>,
    pub mtu: Option<u32>,
}

/// `--net` and its kin: nothing or `private`, `host`, or a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceFlag {
    /// A new one.
    #[default]
    Private,
    /// The caller's.
    Host,
    /// Join it.
    Path(String),
}

impl FromStr for NamespaceFlag {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            path => Self::Path(path.to_owned()),
        })
    }
}

/// `--security`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Servers; no packages can be installed.
    High,
    /// Packages can be installed.
    Medium,
    /// And chroot(2) used.
    Low,
}

impl FromStr for Level {
    type Err = crate::flags::BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "high" => Ok(Self::High),
            "medium" => Ok(Self::Medium),
            "low" => Ok(Self::Low),
            _ => Err(crate::flags::BadValue(format!("invalid profile name {text:?}"))),
        }
    }
}

/// The template for a directory, changed by flags.
pub fn template(directory: &str, flags: &CreateFlags) -> Result<Document, Problems> {
    let mut findings = Findings::default();
    let mut document = plain(flags.rootfs.as_deref().unwrap_or(directory), directory);
    namespaces(&mut document, flags);
    values(&mut document, flags);
    mounts(&mut document, flags, &mut findings);
    veth(&mut document, flags);
    if let Some(uid) = flags.userns_root_uid.filter(|uid| *uid != 0) {
        user_namespace(&mut document, uid);
    }
    if let Some(level) = flags.security {
        secure(&mut document, level);
    }
    findings.finish(document).map(|lowered| lowered.value)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn plain(rootfs: &str, directory: &str) -> Document {
    let capabilities = capability::in_mask(defaults::CAPABILITIES);
    let name = directory.rsplit('/').find(|part| !part.is_empty()).unwrap_or("root");
    Document {
        parent_death_signal: 9,
        rootfs: rootfs.to_owned(),
        mounts: Some(system_mounts()),
        devices: Some(created_devices()),
        capabilities: Some(
            capabilities.filter_map(crate::Capability::short_name).map(str::to_owned).collect(),
        ),
        cgroups: Some(Cgroup {
            name: name.to_owned(),
            parent: "nsinit".to_owned(),
            allowed_devices: Some(allowed_devices()),
            memory_swappiness: -1,
            ..Cgroup::default()
        }),
        mask_paths: Some(texts(&["/proc/kcore"])),
        readonly_paths: Some(texts(&READ_ONLY_PATHS)),
        ..Document::default()
    }
}

const CLOSED: u64 = 14;

fn system_mounts() -> Vec<Mount> {
    let mount = |source: &str, destination: &str, device: &str, flags, data: &str| Mount {
        source: source.to_owned(),
        destination: destination.to_owned(),
        device: device.to_owned(),
        flags,
        data: data.to_owned(),
        ..Mount::default()
    };
    const STRICTATIME: u64 = 1 << 24;
    vec![
        mount("proc", "/proc", "proc", CLOSED, ""),
        mount("tmpfs", "/dev", "tmpfs", 2 | STRICTATIME, "mode=755"),
        mount("devpts", "/dev/pts", "devpts", 10, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("shm", "/dev/shm", "tmpfs", CLOSED, "mode=1777,size=65536k"),
        mount("mqueue", "/dev/mqueue", "mqueue", CLOSED, ""),
        mount("sysfs", "/sys", "sysfs", CLOSED | 1, ""),
    ]
}

const CHARACTER: u32 = 99;
const BLOCK: u32 = 98;

/// Name, number: made and allowed in every container of the time.
const SIMPLE: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/urandom", 1, 9),
    ("/dev/random", 1, 8),
];

fn simple_devices() -> impl Iterator<Item = Device> {
    SIMPLE.iter().map(|&(path, major, minor)| Device {
        r#type: CHARACTER,
        path: path.to_owned(),
        major,
        minor,
        permissions: "rwm".to_owned(),
        file_mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

/// And /dev/fuse, which some Java programs want to see but nobody may open.
fn created_devices() -> Vec<Device> {
    let fuse = Device {
        r#type: CHARACTER,
        path: "/dev/fuse".to_owned(),
        major: 10,
        minor: 229,
        permissions: "rwm".to_owned(),
        ..Device::default()
    };
    simple_devices().chain([fuse]).collect()
}

fn allowed_devices() -> Vec<Device> {
    let rule = |kind, path: &str, major, minor, permissions: &str| Device {
        r#type: kind,
        path: path.to_owned(),
        major,
        minor,
        permissions: permissions.to_owned(),
        ..Device::default()
    };
    simple_devices()
        .chain([
            rule(CHARACTER, "", -1, -1, "m"),
            rule(BLOCK, "", -1, -1, "m"),
            rule(CHARACTER, "/dev/console", 5, 1, "rwm"),
            rule(CHARACTER, "/dev/tty0", 4, 0, "rwm"),
            rule(CHARACTER, "/dev/tty1", 4, 1, "rwm"),
            rule(CHARACTER, "", 136, -1, "rwm"),
            rule(CHARACTER, "", 5, 2, "rwm"),
            rule(CHARACTER, "", 10, 200, "rwm"),
        ])
        .collect()
}

fn namespaces(document: &mut Document, flags: &CreateFlags) {
    let choices = [
        ("NEWNS", &flags.mnt),
        ("NEWUTS", &flags.uts),
        ("NEWIPC", &flags.ipc),
        ("NEWPID", &flags.pid),
        ("NEWNET", &flags.net),
    ];
    let entry = |(name, choice): &(&str, &NamespaceFlag)| {
        let path = match choice {
            NamespaceFlag::Host => return None,
            NamespaceFlag::Private => String::new(),
            NamespaceFlag::Path(path) => path.clone(),
        };
        Some(Namespace { r#type: (*name).to_owned(), path })
    };
    document.namespaces = Some(choices.iter().filter_map(entry).collect());
    if flags.uts == NamespaceFlag::Private {
        document.hostname = flags.hostname.clone().unwrap_or_else(|| "nsinit".to_owned());
    }
    if flags.net == NamespaceFlag::Private {
        document.networks = Some(vec![Network {
            r#type: "loopback".to_owned(),
            address: "127.0.0.1/0".to_owned(),
            gateway: "localhost".to_owned(),
            ..Network::default()
        }]);
    }
}

fn values(document: &mut Document, flags: &CreateFlags) {
    document.readonlyfs = flags.read_only;
    if let Some(signal) = flags.parent_death_signal {
        document.parent_death_signal = signal;
    }
    let set = |slot: &mut String, text: &Option<String>| {
        if let Some(text) = text {
            slot.clone_from(text);
        }
    };
    set(&mut document.apparmor_profile, &flags.apparmor_profile);
    set(&mut document.process_label, &flags.process_label);
    set(&mut document.mount_label, &flags.mount_label);
    if !flags.groups.is_empty() {
        document.additional_groups = Some(flags.groups.clone());
    }
    if let Some(group) = &mut document.cgroups {
        group.cpu_shares = flags.cpushares.unwrap_or(group.cpu_shares);
        group.memory = flags.memory_limit.unwrap_or(group.memory);
        group.memory_swap = flags.memory_swap.unwrap_or(group.memory_swap);
        group.memory_swappiness = flags.memory_swappiness.unwrap_or(group.memory_swappiness);
        set(&mut group.cpuset_cpus, &flags.cpuset_cpus);
        set(&mut group.cpuset_mems, &flags.cpuset_mems);
    }
}

fn mounts(document: &mut Document, flags: &CreateFlags, findings: &mut Findings) {
    let mounts = document.mounts.get_or_insert_default();
    for bind in &flags.binds {
        let parts: Vec<&str> = bind.split(':').collect();
        let (source, destination, mode) = match parts[..] {
            [source, destination] => (source, destination, "rw"),
            [source, destination, mode] => (source, destination, mode),
            _ => {
                findings.problem("--bind", format_args!("{bind:?} is not SRC:DST[:ro|rw]"));
                continue;
            }
        };
        let read_only = match mode {
            "ro" => 1,
            "rw" => 0,
            _ => {
                findings.problem("--bind", format_args!("invalid bind mount mode {mode}"));
                continue;
            }
        };
        const BIND_ALL: u64 = 1 << 12 | 1 << 14;
        mounts.push(Mount {
            source: source.to_owned(),
            destination: destination.to_owned(),
            device: "bind".to_owned(),
            flags: BIND_ALL | read_only,
            ..Mount::default()
        });
    }
    mounts.extend(flags.tmpfs.iter().map(|destination| Mount {
        source: "tmpfs".to_owned(),
        destination: destination.clone(),
        device: "tmpfs".to_owned(),
        flags: CLOSED,
        ..Mount::default()
    }));
    if flags.cgroup {
        mounts.push(Mount {
            destination: "/sys/fs/cgroup".to_owned(),
            device: "cgroup".to_owned(),
            ..Mount::default()
        });
    }
    let mut properties = BTreeMap::new();
    for property in &flags.sysctls {
        match property.split_once('=') {
            Some((key, value)) => drop(properties.insert(key.to_owned(), value.to_owned())),
            None => {
                findings.problem("--sysctl", format_args!("invalid system property {property}"));
            }
        }
    }
    if !properties.is_empty() {
        document.system_properties = Some(properties);
    }
}

/// A bridge asks for an interface. Its host side is named after the container, not at random as it was:
/// the same command prints the same file.
fn veth(document: &mut Document, flags: &CreateFlags) {
    let Some(bridge) = &flags.veth.bridge else { return };
    let name = document
        .rootfs
        .bytes()
        .fold(0x0811_c9dc_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    document.networks.get_or_insert_default().push(Network {
        r#type: "veth".to_owned(),
        name: "eth0".to_owned(),
        bridge: bridge.clone(),
        address: flags.veth.address.clone().unwrap_or_default(),
        gateway: flags.veth.gateway.clone().unwrap_or_default(),
        mtu: flags.veth.mtu.unwrap_or_default(),
        host_interface_name: format!("veth{:07x}", name >> 4),
        ..Network::default()
    });
}

/// Root is `uid` outside; the others keep their numbers as far as that goes.
fn user_namespace(document: &mut Document, uid: u32) {
    // Ids end at 2^31 in this tool's arithmetic.
    const LAST: u32 = u32::MAX >> 1;
    let map = |container_id, host_id, size| IdMap { container_id, host_id, size };
    let maps = [
        map(0, uid, 1),
        map(1, 1, uid - 1),
        map(uid.saturating_add(1), uid.saturating_add(1), LAST.saturating_sub(uid)),
    ];
    let maps: Vec<IdMap> = maps.into_iter().filter(|map| map.size > 0).collect();
    document.uid_mappings = Some(maps.clone());
    document.gid_mappings = Some(maps);
    let user = Namespace { r#type: "NEWUSER".to_owned(), path: String::new() };
    document.namespaces.get_or_insert_default().push(user);
    for device in document.devices.iter_mut().flatten() {
        device.uid = uid;
        device.gid = uid;
    }
}

const MEDIUM: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
    "AUDIT_WRITE",
];
const HIGH: [&str; 3] = ["NET_BIND_SERVICE", "KILL", "AUDIT_WRITE"];

/// Denied at every level: joining and making namespaces, mounting, loading code into the kernel; with
/// the calls that have come since and do the same.
const NEVER: [&str; 17] = [
    "unshare",
    "setns",
    "mount",
    "umount2",
    "create_module",
    "delete_module",
    "kexec_load",
    "init_module",
    "finit_module",
    "kexec_file_load",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
];
const NEVER_NAMED: [&str; 4] = ["chroot", "setdomainname", "sethostname", "pivot_root"];
const NEVER_CHANGED: [&str; 16] = [
    "capset",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
];

fn secure(document: &mut Document, level: Level) {
    const NOFILE: u32 = 7;
    let mut capabilities = match level {
        Level::High => texts(&HIGH),
        Level::Medium | Level::Low => texts(&MEDIUM),
    };
    if level == Level::Low {
        capabilities.push("SYS_CHROOT".to_owned());
    }
    document.capabilities = Some(capabilities);
    document.rlimits = Some(vec![Rlimit { r#type: NOFILE, hard: 1024, soft: 1024 }]);
    document.apparmor_profile.clear();
    document.process_label.clear();
    let mut denied: Vec<&str> = NEVER.to_vec();
    if level != Level::Low {
        denied.extend(NEVER_NAMED);
    }
    if level == Level::High {
        denied.extend(NEVER_CHANGED);
    }
    const EPERM: i64 = 1;
    const ENOSYS: i64 = 38;
    const CLONE_NEWUSER: u32 = 0x1000_0000;
    let deny = |name: &str, action, args| {
        let row = syscalls::CALLS.iter().find(|row| row.0 == name);
        let value = row.map(|(_, [x86_64, ..])| *x86_64).filter(|number| *number != syscalls::NONE);
        value.map(|value| Syscall { value, action, args })
    };
    let new_user = vec![Argument { index: 0, value: CLONE_NEWUSER, op: 4 }];
    let rules = denied.into_iter().filter_map(|name| deny(name, EPERM, None));
    // Its flags are in memory, where no filter can look; libc falls back to clone.
    let rest = [deny("clone", EPERM, Some(new_user)), deny("clone3", ENOSYS, None)];
    document.seccomp =
        Some(Seccomp { syscalls: Some(rules.chain(rest.into_iter().flatten()).collect()) });
}

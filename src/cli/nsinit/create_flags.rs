//! The flags that change the template, of `config` and `exec`.

use std::path::PathBuf;

use clap::Args;
use configs::nsinit::{CreateFlags, Level, NamespaceFlag, VethFlags};

#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Options of a container without a file")]
pub(super) struct CreateArgs {
    /// Show the container its cgroup
    #[arg(long)]
    cgroup: bool,

    /// A read-only root
    #[arg(long)]
    read_only: bool,

    /// Weight of processor time
    #[arg(long, value_name = "N")]
    cpushares: Option<i64>,

    /// Bytes of memory
    #[arg(long, value_name = "N")]
    memory_limit: Option<i64>,

    /// Bytes of memory and swap together
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    memory_swap: Option<i64>,

    /// Eagerness to swap, 0 to 100; -1 leaves it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,

    /// Signal the container gets when nsinit dies
    #[arg(long, value_name = "N")]
    parent_death_signal: Option<i32>,

    /// Make a user namespace, with this user as root
    #[arg(long, value_name = "UID")]
    userns_root_uid: Option<u32>,

    /// Size of packets
    #[arg(long, value_name = "N")]
    veth_mtu: Option<u32>,

    /// AppArmor profile
    #[arg(long, value_name = "NAME")]
    apparmor_profile: Option<String>,

    /// SELinux label of processes
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// SELinux label of mounts
    #[arg(long, value_name = "LABEL")]
    mount_label: Option<String>,

    /// Processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Host name
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// private, host, or a namespace's path
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    ipc: NamespaceFlag,

    /// private, host, or a namespace's path
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    mnt: NamespaceFlag,

    /// private, host, or a namespace's path
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    net: NamespaceFlag,

    /// private, host, or a namespace's path
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    pid: NamespaceFlag,

    /// private, host, or a namespace's path
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    uts: NamespaceFlag,

    /// Root directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub(super) rootfs: Option<String>,

    /// high, medium or low
    #[arg(long, value_name = "LEVEL")]
    security: Option<Level>,

    /// Address of an interface on a bridge
    #[arg(long, value_name = "CIDR")]
    veth_address: Option<String>,

    /// That bridge
    #[arg(long, value_name = "NAME")]
    veth_bridge: Option<String>,

    /// Gateway by that interface
    #[arg(long, value_name = "IP")]
    veth_gateway: Option<String>,

    /// Show a directory of the host
    #[arg(long, value_name = "SRC:DST[:ro|rw]")]
    bind: Vec<String>,

    /// Kernel setting
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,

    /// Memory filesystem
    #[arg(long, value_name = "DIR")]
    tmpfs: Vec<String>,

    /// Additional group
    #[arg(long, value_name = "GROUP")]
    groups: Vec<String>,
}

impl CreateArgs {
    /// Whether any was given. (`--rootfs` alone also changes a file's.)
    pub(super) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Whether all that was given is said of a file's container as well: its root, its network.
    pub(super) fn suits_a_file(&self) -> bool {
        let (rootfs, net) = (self.rootfs.clone(), self.net.clone());
        *self == Self { rootfs, net, ..Self::default() }
    }

    /// Another network than the file's, if one was asked for: none of its own, or a path to join.
    pub(super) fn network(&self) -> Option<Option<PathBuf>> {
        match &self.net {
            NamespaceFlag::Private => None,
            NamespaceFlag::Host => Some(None),
            NamespaceFlag::Path(path) => Some(Some(path.into())),
        }
    }

    pub(super) fn flags(self) -> CreateFlags {
        CreateFlags {
            cgroup: self.cgroup,
            read_only: self.read_only,
            cpushares: self.cpushares,
            memory_limit: self.memory_limit,
            memory_swap: self.memory_swap,
            memory_swappiness: self.memory_swappiness,
            parent_death_signal: self.parent_death_signal,
            userns_root_uid: self.userns_root_uid,
            apparmor_profile: self.apparmor_profile,
            process_label: self.process_label,
            mount_label: self.mount_label,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
            hostname: self.hostname,
            ipc: self.ipc,
            mnt: self.mnt,
            net: self.net,
            pid: self.pid,
            uts: self.uts,
            rootfs: self.rootfs,
            security: self.security,
            veth: VethFlags {
                address: self.veth_address,
                bridge: self.veth_bridge,
                gateway: self.veth_gateway,
                mtu: self.veth_mtu,
            },
            binds: self.bind,
            sysctls: self.sysctl,
            tmpfs: self.tmpfs,
            groups: self.groups,
        }
    }
}

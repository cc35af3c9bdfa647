//! The flat generation as nsinit wrote it: every field, zero or not, in this order.

use std::collections::BTreeMap;

use serde::Serialize;

/// A container.json of the last release before runc.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the file's own names")]
pub struct Document {
    pub no_pivot_root: bool,
    pub parent_death_signal: i32,
    pub pivot_dir: String,
    pub rootfs: String,
    pub readonlyfs: bool,
    pub privatefs: bool,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) devices: Option<Vec<Device>>,
    pub mount_label: String,
    pub hostname: String,
    pub(super) namespaces: Option<Vec<Namespace>>,
    pub capabilities: Option<Vec<String>>,
    pub(super) networks: Option<Vec<Network>>,
    pub(super) routes: Option<Vec<Route>>,
    pub(super) cgroups: Option<Cgroup>,
    pub apparmor_profile: String,
    pub process_label: String,
    pub(super) rlimits: Option<Vec<Rlimit>>,
    pub additional_groups: Option<Vec<String>>,
    pub(super) uid_mappings: Option<Vec<IdMap>>,
    pub(super) gid_mappings: Option<Vec<IdMap>>,
    pub mask_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub system_properties: Option<BTreeMap<String, String>>,
    pub(super) seccomp: Option<Seccomp>,
}

/// Structures of the document, whose fields are the file's.
macro_rules! parts {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        pub(super) struct $name {
            $($(#[$attribute])* pub(super) $field: $type,)*
        }
    )*};
}

parts! {
    Mount {
        source: String,
        destination: String,
        device: String,
        flags: u64,
        data: String,
        relabel: String,
        premount_cmds: Option<Vec<Command>>,
        postmount_cmds: Option<Vec<Command>>,
    }

    Command {
        path: String,
        args: Option<Vec<String>>,
        env: Option<Vec<String>>,
        dir: String,
    }

    Device {
        // A letter's code point.
        r#type: u32,
        path: String,
        major: i64,
        minor: i64,
        permissions: String,
        file_mode: u32,
        uid: u32,
        gid: u32,
    }

    Namespace {
        r#type: String,
        path: String,
    }

    Network {
        r#type: String,
        name: String,
        bridge: String,
        mac_address: String,
        address: String,
        gateway: String,
        ipv6_address: String,
        ipv6_gateway: String,
        mtu: u32,
        txqueuelen: u32,
        host_interface_name: String,
        hairpin_mode: bool,
    }

    Route {
        destination: String,
        source: String,
        gateway: String,
        interface_name: String,
    }

    Cgroup {
        name: String,
        parent: String,
        allow_all_devices: bool,
        allowed_devices: Option<Vec<Device>>,
        denied_devices: Option<Vec<Device>>,
        memory: i64,
        memory_reservation: i64,
        memory_swap: i64,
        kernel_memory: i64,
        cpu_shares: i64,
        // Go never wrote these two, whose names were taken twice.
        #[serde(skip_serializing_if = "is_zero")]
        cpu_quota: i64,
        #[serde(skip_serializing_if = "is_zero")]
        cpu_period: i64,
        cpuset_cpus: String,
        cpuset_mems: String,
        blkio_throttle_read_bps_device: String,
        blkio_throttle_write_bps_device: String,
        blkio_throttle_read_iops_device: String,
        blkio_throttle_write_iops_device: String,
        blkio_weight: i64,
        blkio_weight_device: String,
        freezer: String,
        hugetlb_limit: Option<Vec<HugepageLimit>>,
        slice: String,
        oom_kill_disable: bool,
        memory_swappiness: i64,
        net_prio_ifpriomap: Option<Vec<Priority>>,
        net_cls_classid: String,
    }

    HugepageLimit {
        page_size: String,
        limit: u64,
    }

    Priority {
        interface: String,
        priority: i64,
    }

    Rlimit {
        r#type: u32,
        hard: u64,
        soft: u64,
    }

    IdMap {
        container_id: u32,
        host_id: u32,
        size: u32,
    }

    Seccomp {
        syscalls: Option<Vec<Syscall>>,
    }

    Syscall {
        value: u32,
        action: i64,
        args: Option<Vec<Argument>>,
    }

    Argument {
        index: u8,
        value: u32,
        op: u8,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde prescribes the signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Document {
    /// Indented with tabs, no newline at the end.
    pub fn print(&self) -> serde_json::Result<String> {
        crate::oci::indented(self)
    }
}

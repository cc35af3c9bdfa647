//! Where a container is accounted, and its limits.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::DeviceRule;

/// A container's cgroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// cgroupfs: a path, absolute below the hierarchy's root, or relative to the caller's own cgroup.
    /// systemd: `slice:prefix:name`. Normalised; no `..` (D-31).
    pub path: PathBuf,
    /// Who makes it.
    pub driver: CgroupDriver,
    /// Limits applied before the program runs.
    pub resources: Resources,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// We write the filesystem.
    #[default]
    Cgroupfs,
    /// systemd does, asked over D-Bus.
    Systemd,
}

/// Limits; whatever is `None` or empty is left as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Number of tasks; -1 is no limit.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages.
    pub hugepages: Vec<HugepageLimit>,
    /// Network classes and priorities (v1 only).
    pub network: NetworkClass,
    /// RDMA by device.
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// The device policy in full, first rule first. Empty installs no policy (`allow_all_devices`).
    pub devices: Vec<DeviceRule>,
    /// v2 files written last, by name.
    pub unified: BTreeMap<String, String>,
}

/// Bytes; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#memory")]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    /// Memory and swap together, as v1 counts.
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below what is in use already.
    pub check_before_update: bool,
}

/// Times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#cpu")]
pub struct Cpu {
    /// v1 scale, 1024 is normal.
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub burst: Option<u64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
    pub idle: Option<i64>,
}

/// Block devices' weights and throttles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#block-io")]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub weight_devices: Vec<BlockWeight>,
    pub read_bps: Vec<BlockThrottle>,
    pub write_bps: Vec<BlockThrottle>,
    pub read_iops: Vec<BlockThrottle>,
    pub write_iops: Vec<BlockThrottle>,
}

/// One device's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#block-io")]
pub struct BlockWeight {
    pub major: u32,
    pub minor: u32,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

/// One device's rate per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#block-io")]
pub struct BlockThrottle {
    pub major: u32,
    pub minor: u32,
    pub rate: u64,
}

/// One page size's limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// As the kernel names it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// net_cls and net_prio (v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkClass {
    /// net_cls.classid
    pub class_id: Option<u32>,
    /// net_prio.ifpriomap, by interface.
    pub priorities: Vec<(String, u32)>,
}

/// RDMA resources of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in runtime-spec config-linux.md#rdma")]
pub struct RdmaLimit {
    pub handles: Option<u32>,
    pub objects: Option<u32>,
}

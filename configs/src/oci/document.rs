//! config.json as it is written: runtime-spec 1.3, all of it that concerns Linux.
//!
//! Our own types, not oci-spec's: those drop what they do not know (1.3 has fields they lack), and
//! refuse words they do not know before we can name the place, so a pre-pass over a generic document
//! would parse everything twice on a path where the whole start of a container costs a few
//! milliseconds. Every field is optional here because Go's engines leave out or write `null` for
//! whatever is empty; what is required is decided while lowering, where its place can be named.
//! Unknown keys are ignored, as the specification asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Structures of optional fields: absent and `null` are the same, and absent fields are not written.
macro_rules! documents {
    ($($(#[$about:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Default, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $field: Option<$type>,
            )*
        }
    )*};
}

documents! {
    /// The whole file.
    Document {
        oci_version: String,
        process: Process,
        root: Root,
        hostname: String,
        domainname: String,
        mounts: Vec<Mount>,
        hooks: Hooks,
        annotations: BTreeMap<String, String>,
        linux: Linux,
    }

    Root {
        path: String,
        readonly: bool,
    }

    Process {
        terminal: bool,
        console_size: ConsoleSize,
        user: User,
        args: Vec<String>,
        env: Vec<String>,
        cwd: String,
        capabilities: Capabilities,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        apparmor_profile: String,
        oom_score_adj: i32,
        scheduler: Scheduler,
        selinux_label: String,
        io_priority: IoPriority,
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: CpuAffinity,
    }

    ConsoleSize {
        height: u16,
        width: u16,
    }

    User {
        uid: u32,
        gid: u32,
        umask: u32,
        additional_gids: Vec<u32>,
    }

    Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        inheritable: Vec<String>,
        permitted: Vec<String>,
        ambient: Vec<String>,
    }

    Rlimit {
        r#type: String,
        hard: u64,
        soft: u64,
    }

    Scheduler {
        policy: String,
        nice: i32,
        priority: i32,
        flags: Vec<String>,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    IoPriority {
        class: String,
        priority: i32,
    }

    CpuAffinity {
        initial: String,
        r#final: String,
    }

    Mount {
        destination: String,
        r#type: String,
        source: String,
        options: Vec<String>,
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
    }

    #[derive(Clone, Copy)]
    IdMapping {
        #[serde(rename = "containerID")]
        container_id: u32,
        #[serde(rename = "hostID")]
        host_id: u32,
        size: u32,
    }

    Hooks {
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
        create_container: Vec<Hook>,
        start_container: Vec<Hook>,
        poststart: Vec<Hook>,
        poststop: Vec<Hook>,
    }

    Hook {
        path: String,
        args: Vec<String>,
        env: Vec<String>,
        timeout: i64,
    }

    Linux {
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
        sysctl: BTreeMap<String, String>,
        resources: Resources,
        cgroups_path: String,
        namespaces: Vec<Namespace>,
        devices: Vec<Device>,
        net_devices: BTreeMap<String, NetDevice>,
        seccomp: Seccomp,
        rootfs_propagation: String,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        mount_label: String,
        intel_rdt: IntelRdt,
        memory_policy: MemoryPolicy,
        personality: Personality,
        time_offsets: BTreeMap<String, TimeOffset>,
    }

    Namespace {
        r#type: String,
        path: String,
    }

    Device {
        path: String,
        r#type: String,
        major: i64,
        minor: i64,
        file_mode: u32,
        uid: u32,
        gid: u32,
    }

    NetDevice {
        name: String,
    }

    IntelRdt {
        #[serde(rename = "closID")]
        clos_id: String,
        schemata: Vec<String>,
        l3_cache_schema: String,
        mem_bw_schema: String,
        enable_monitoring: bool,
        // Before 1.3 these two named what is monitored.
        #[serde(rename = "enableCMT")]
        enable_cmt: bool,
        #[serde(rename = "enableMBM")]
        enable_mbm: bool,
    }

    MemoryPolicy {
        mode: String,
        nodes: String,
        flags: Vec<String>,
    }

    Personality {
        domain: String,
        flags: Vec<String>,
    }

    TimeOffset {
        secs: i64,
        nanosecs: u32,
    }

    /// What `update --resources` reads, too.
    Resources {
        devices: Vec<DeviceRule>,
        memory: Memory,
        cpu: Cpu,
        pids: Pids,
        #[serde(rename = "blockIO")]
        block_io: BlockIo,
        hugepage_limits: Vec<HugepageLimit>,
        network: Network,
        rdma: BTreeMap<String, Rdma>,
        unified: BTreeMap<String, String>,
    }

    DeviceRule {
        allow: bool,
        r#type: String,
        major: i64,
        minor: i64,
        access: String,
    }

    Memory {
        limit: i64,
        reservation: i64,
        swap: i64,
        kernel: i64,
        #[serde(rename = "kernelTCP")]
        kernel_tcp: i64,
        swappiness: u64,
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: bool,
        use_hierarchy: bool,
        check_before_update: bool,
    }

    Cpu {
        shares: u64,
        quota: i64,
        burst: u64,
        period: u64,
        realtime_runtime: i64,
        realtime_period: u64,
        cpus: String,
        mems: String,
        idle: i64,
    }

    Pids {
        limit: i64,
    }

    BlockIo {
        weight: u16,
        leaf_weight: u16,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    WeightDevice {
        major: u32,
        minor: u32,
        weight: u16,
        leaf_weight: u16,
    }

    ThrottleDevice {
        major: u32,
        minor: u32,
        rate: u64,
    }

    HugepageLimit {
        page_size: String,
        limit: u64,
    }

    Network {
        #[serde(rename = "classID")]
        class_id: u32,
        priorities: Vec<Priority>,
    }

    Priority {
        name: String,
        priority: u32,
    }

    Rdma {
        hca_handles: u32,
        hca_objects: u32,
    }

    Seccomp {
        default_action: String,
        default_errno_ret: u16,
        architectures: Vec<String>,
        flags: Vec<String>,
        listener_path: String,
        listener_metadata: String,
        syscalls: Vec<Syscall>,
    }

    Syscall {
        names: Vec<String>,
        action: String,
        errno_ret: u16,
        args: Vec<Argument>,
    }

    Argument {
        index: u8,
        value: u64,
        value_two: u64,
        op: String,
    }
}

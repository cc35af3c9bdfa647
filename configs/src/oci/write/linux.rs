//! `linux`.

use super::{document, filled, id_maps, text};
use crate::{
    BlockThrottle, Comparison, Condition, Device, DeviceKind, DeviceRule, Namespace, Policy,
    Resources, Rule, Seccomp, Spec, TimeOffset, defaults, oci::words, options,
};

pub(super) fn raise(spec: &Spec) -> document::Linux {
    let resources = spec.cgroup.as_ref().map(|cgroup| &cgroup.resources);
    let paths = |paths: &[std::path::PathBuf]| {
        filled(paths.iter().map(|path| text(path)).collect::<Vec<String>>())
    };
    document::Linux {
        uid_mappings: filled(id_maps(&spec.id_maps.uids)),
        gid_mappings: filled(id_maps(&spec.id_maps.gids)),
        sysctl: (!spec.sysctl.is_empty()).then(|| spec.sysctl.clone()),
        resources: resources.map(self::resources),
        cgroups_path: spec.cgroup.as_ref().map(|cgroup| text(&cgroup.path)),
        namespaces: filled(spec.namespaces.iter().map(namespace).collect()),
        devices: devices(&spec.devices),
        net_devices: net_devices(spec),
        seccomp: spec.seccomp.as_ref().map(|policy| seccomp(policy, spec)),
        rootfs_propagation: (spec.root.propagation)
            .map(|propagation| options::propagation_word(propagation, false)),
        masked_paths: paths(&spec.masked_paths),
        readonly_paths: paths(&spec.read_only_paths),
        mount_label: spec.mount_label.clone(),
        intel_rdt: spec.intel_rdt.as_ref().map(|rdt| document::IntelRdt {
            clos_id: rdt.clos_id.clone(),
            schemata: filled(rdt.schemata.clone()),
            enable_monitoring: rdt.monitoring.then_some(true),
            ..document::IntelRdt::default()
        }),
        memory_policy: spec.memory_policy.as_ref().map(memory_policy),
        personality: spec.personality.map(|personality| document::Personality {
            domain: words::word(words::DOMAINS, personality.0).map(str::to_owned),
            flags: None,
        }),
        time_offsets: time_offsets(spec),
    }
}

fn namespace(namespace: &Namespace) -> document::Namespace {
    document::Namespace {
        r#type: Some(namespace.kind.oci_name().to_owned()),
        path: namespace.join.as_deref().map(text),
    }
}

/// Without the ones every runtime makes.
fn devices(devices: &[Device]) -> Option<Vec<document::Device>> {
    let given = defaults::devices();
    let own = devices.iter().filter(|device| !given.contains(device));
    let write = |device: &Device| document::Device {
        path: Some(text(&device.path)),
        r#type: Some(kind(device.kind).to_owned()),
        major: Some(device.major.into()),
        minor: Some(device.minor.into()),
        file_mode: Some(device.mode),
        uid: Some(device.uid),
        gid: Some(device.gid),
    };
    filled(own.map(write).collect())
}

const fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Character => "c",
        DeviceKind::Block => "b",
        DeviceKind::Fifo => "p",
    }
}

fn net_devices(spec: &Spec) -> Option<std::collections::BTreeMap<String, document::NetDevice>> {
    let write = |device: &crate::NetDevice| {
        (device.host_name.clone(), document::NetDevice { name: Some(device.name.clone()) })
    };
    (!spec.net_devices.is_empty()).then(|| spec.net_devices.iter().map(write).collect())
}

fn memory_policy(policy: &crate::MemoryPolicy) -> document::MemoryPolicy {
    let mode = u64::from(policy.mode);
    let flags = words::MEMORY_FLAGS.iter().fold(0, |bits, row| bits | row.1);
    let nodes: Vec<String> = policy.nodes.iter().map(u32::to_string).collect();
    document::MemoryPolicy {
        mode: words::word(words::MEMORY_MODES, mode & !flags).map(str::to_owned),
        nodes: Some(nodes.join(",")),
        flags: filled(words::words(words::MEMORY_FLAGS, mode & flags)),
    }
}

fn time_offsets(spec: &Spec) -> Option<std::collections::BTreeMap<String, document::TimeOffset>> {
    let row = |clock: &str, offset: Option<TimeOffset>| {
        let offset = offset?;
        let (secs, nanosecs) = (Some(offset.seconds), Some(offset.nanoseconds));
        Some((clock.to_owned(), document::TimeOffset { secs, nanosecs }))
    };
    let (monotonic, boottime) = (spec.time_offsets.monotonic, spec.time_offsets.boottime);
    let rows = [row("monotonic", monotonic), row("boottime", boottime)];
    let offsets: std::collections::BTreeMap<_, _> = rows.into_iter().flatten().collect();
    (!offsets.is_empty()).then_some(offsets)
}

fn resources(resources: &Resources) -> document::Resources {
    let (memory, cpu) = (&resources.memory, &resources.cpu);
    let network = &resources.network;
    document::Resources {
        devices: filled(device_rules(&resources.devices)),
        memory: (*memory != crate::Memory::default()).then(|| document::Memory {
            limit: memory.limit,
            reservation: memory.reservation,
            swap: memory.swap,
            kernel: memory.kernel,
            kernel_tcp: memory.kernel_tcp,
            swappiness: memory.swappiness,
            disable_oom_killer: memory.disable_oom_killer,
            use_hierarchy: memory.use_hierarchy,
            check_before_update: memory.check_before_update.then_some(true),
        }),
        cpu: (*cpu != crate::Cpu::default()).then(|| document::Cpu {
            shares: cpu.shares,
            quota: cpu.quota,
            burst: cpu.burst,
            period: cpu.period,
            realtime_runtime: cpu.realtime_runtime,
            realtime_period: cpu.realtime_period,
            cpus: cpu.cpus.clone(),
            mems: cpu.mems.clone(),
            idle: cpu.idle,
        }),
        pids: resources.pids.map(|limit| document::Pids { limit: Some(limit) }),
        block_io: block_io(&resources.block_io),
        hugepage_limits: filled(
            (resources.hugepages.iter())
                .map(|limit| document::HugepageLimit {
                    page_size: Some(limit.page_size.clone()),
                    limit: Some(limit.limit),
                })
                .collect(),
        ),
        network: (*network != crate::NetworkClass::default()).then(|| document::Network {
            class_id: network.class_id,
            priorities: filled(
                (network.priorities.iter())
                    .map(|(name, priority)| document::Priority {
                        name: Some(name.clone()),
                        priority: Some(*priority),
                    })
                    .collect(),
            ),
        }),
        rdma: (!resources.rdma.is_empty()).then(|| {
            (resources.rdma.iter())
                .map(|(device, limit)| {
                    let (hca_handles, hca_objects) = (limit.handles, limit.objects);
                    (device.clone(), document::Rdma { hca_handles, hca_objects })
                })
                .collect()
        }),
        unified: (!resources.unified.is_empty()).then(|| resources.unified.clone()),
    }
}

/// Without the rules every runtime adds.
fn device_rules(rules: &[DeviceRule]) -> Vec<document::DeviceRule> {
    let given = defaults::device_rules();
    let own = rules.iter().filter(|rule| !given.contains(rule));
    let letters = |rule: &DeviceRule| {
        let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
        letters.iter().filter(|row| row.0).map(|row| row.1).collect()
    };
    own.map(|rule| document::DeviceRule {
        allow: Some(rule.allow),
        r#type: rule.kind.map(|it| kind(it).to_owned()),
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: Some(letters(rule)),
    })
    .collect()
}

fn block_io(io: &crate::BlockIo) -> Option<document::BlockIo> {
    let throttles = |list: &[BlockThrottle]| {
        let write = |device: &BlockThrottle| document::ThrottleDevice {
            major: Some(device.major),
            minor: Some(device.minor),
            rate: Some(device.rate),
        };
        filled(list.iter().map(write).collect())
    };
    (*io != crate::BlockIo::default()).then(|| document::BlockIo {
        weight: io.weight,
        leaf_weight: io.leaf_weight,
        weight_device: filled(
            (io.weight_devices.iter())
                .map(|device| document::WeightDevice {
                    major: Some(device.major),
                    minor: Some(device.minor),
                    weight: device.weight,
                    leaf_weight: device.leaf_weight,
                })
                .collect(),
        ),
        throttle_read_bps_device: throttles(&io.read_bps),
        throttle_write_bps_device: throttles(&io.write_bps),
        throttle_read_iops_device: throttles(&io.read_iops),
        throttle_write_iops_device: throttles(&io.write_iops),
    })
}

/// The default profile is spelled out: other runtimes have none built in.
fn seccomp(seccomp: &Seccomp, spec: &Spec) -> document::Seccomp {
    match seccomp {
        Seccomp::Policy(policy) => self::policy(policy),
        Seccomp::Default => {
            let capabilities = spec.process.as_ref().map_or(0, |it| it.capabilities.bounding);
            self::policy(&Policy::default_for(capabilities))
        }
    }
}

fn policy(policy: &Policy) -> document::Seccomp {
    let (action, errno) = policy.default.oci_name();
    document::Seccomp {
        default_action: Some(action.to_owned()),
        default_errno_ret: errno,
        architectures: filled(policy.architectures.clone()),
        flags: filled(policy.flags.clone()),
        listener_path: policy.notify.as_ref().map(|notify| text(&notify.socket)),
        listener_metadata: (policy.notify.as_ref())
            .map(|notify| notify.metadata.clone())
            .filter(|metadata| !metadata.is_empty()),
        syscalls: filled(policy.rules.iter().map(rule).collect()),
    }
}

fn rule(rule: &Rule) -> document::Syscall {
    let (action, errno_ret) = rule.action.oci_name();
    document::Syscall {
        names: Some(rule.names.clone()),
        action: Some(action.to_owned()),
        errno_ret,
        args: filled(rule.conditions.iter().map(argument).collect()),
    }
}

fn argument(condition: &Condition) -> document::Argument {
    let (value, value_two) = match condition.comparison {
        Comparison::Masked { mask } => (mask, Some(condition.value)),
        _ => (condition.value, None),
    };
    document::Argument {
        index: Some(condition.index),
        value: Some(value),
        value_two,
        op: Some(condition.comparison.oci_name().to_owned()),
    }
}

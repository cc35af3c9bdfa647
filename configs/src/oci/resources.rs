//! `linux.resources`, and what `update` reads.

use super::{document, filled};
use crate::{
    BlockIo, BlockThrottle, BlockWeight, Cpu, DeviceKind, DeviceRule, HugepageLimit, Memory,
    NetworkClass, RdmaLimit, Resources, defaults, problems::Findings,
};

/// Lowers exactly what is there; `prefix` is the place the document is at, with its final dot.
pub(super) fn lower(
    document: document::Resources,
    prefix: &str,
    findings: &mut Findings,
) -> Resources {
    let network = document.network.unwrap_or_default();
    let priorities = network.priorities.unwrap_or_default().into_iter();
    let rdma = document.rdma.unwrap_or_default().into_iter();
    let hugepages = document.hugepage_limits.unwrap_or_default().into_iter();
    Resources {
        memory: memory(document.memory.unwrap_or_default(), prefix, findings),
        cpu: cpu(document.cpu.unwrap_or_default()),
        pids: document.pids.and_then(|pids| pids.limit).map(at_least_itself),
        block_io: block_io(document.block_io.unwrap_or_default()),
        hugepages: hugepages
            .map(|limit| HugepageLimit {
                page_size: limit.page_size.unwrap_or_default(),
                limit: limit.limit.unwrap_or_default(),
            })
            .collect(),
        network: NetworkClass {
            class_id: network.class_id,
            priorities: priorities
                .map(|row| (row.name.unwrap_or_default(), row.priority.unwrap_or_default()))
                .collect(),
        },
        rdma: rdma
            .map(|(device, limit)| {
                (device, RdmaLimit { handles: limit.hca_handles, objects: limit.hca_objects })
            })
            .collect(),
        devices: rules(document.devices.unwrap_or_default(), prefix, findings),
        unified: unified(document.unified.unwrap_or_default(), prefix, findings),
    }
}

/// No task at all, since 1.3 of the specification a limit like any other, still lets the first one in:
/// systemd and clone3(2) into a cgroup would refuse it.
fn at_least_itself(limit: i64) -> i64 {
    if limit == 0 { 1 } else { limit.max(-1) }
}

fn memory(memory: document::Memory, prefix: &str, findings: &mut Findings) -> Memory {
    if memory.swappiness.is_some_and(|swappiness| swappiness > 100) {
        findings.problem(format_args!("{prefix}memory.swappiness"), "is between 0 and 100");
    }
    Memory {
        limit: memory.limit,
        reservation: memory.reservation,
        swap: memory.swap,
        kernel: memory.kernel,
        kernel_tcp: memory.kernel_tcp,
        swappiness: memory.swappiness,
        disable_oom_killer: memory.disable_oom_killer,
        use_hierarchy: memory.use_hierarchy,
        check_before_update: memory.check_before_update.unwrap_or_default(),
    }
}

fn cpu(cpu: document::Cpu) -> Cpu {
    Cpu {
        // Zero is how docker and Kubernetes say "not set".
        shares: cpu.shares.filter(|shares| *shares != 0),
        quota: cpu.quota.filter(|quota| *quota != 0),
        burst: cpu.burst,
        period: cpu.period.filter(|period| *period != 0),
        realtime_runtime: cpu.realtime_runtime.filter(|runtime| *runtime != 0),
        realtime_period: cpu.realtime_period.filter(|period| *period != 0),
        cpus: filled(cpu.cpus),
        mems: filled(cpu.mems),
        idle: cpu.idle,
    }
}

fn block_io(io: document::BlockIo) -> BlockIo {
    let throttles = |list: Option<Vec<document::ThrottleDevice>>| {
        let list = list.unwrap_or_default().into_iter();
        list.map(|device| BlockThrottle {
            major: device.major.unwrap_or_default(),
            minor: device.minor.unwrap_or_default(),
            rate: device.rate.unwrap_or_default(),
        })
        .collect()
    };
    let weights = io.weight_device.unwrap_or_default().into_iter();
    BlockIo {
        weight: io.weight.filter(|weight| *weight != 0),
        leaf_weight: io.leaf_weight.filter(|weight| *weight != 0),
        weight_devices: weights
            .map(|device| BlockWeight {
                major: device.major.unwrap_or_default(),
                minor: device.minor.unwrap_or_default(),
                weight: device.weight,
                leaf_weight: device.leaf_weight,
            })
            .collect(),
        read_bps: throttles(io.throttle_read_bps_device),
        write_bps: throttles(io.throttle_write_bps_device),
        read_iops: throttles(io.throttle_read_iops_device),
        write_iops: throttles(io.throttle_write_iops_device),
    }
}

fn unified(
    files: std::collections::BTreeMap<String, String>,
    prefix: &str,
    findings: &mut Findings,
) -> std::collections::BTreeMap<String, String> {
    for name in files.keys() {
        // A name with a slash would leave the container's directory (D-31).
        if name.contains('/') || !name.contains('.') {
            let place = format_args!("{prefix}unified");
            findings.problem(place, format_args!("{name:?} is no file of a cgroup"));
        }
    }
    files
}

fn rules(
    rules: Vec<document::DeviceRule>,
    prefix: &str,
    findings: &mut Findings,
) -> Vec<DeviceRule> {
    let mut lowered = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let place = format_args!("{prefix}devices[{index}]");
        lowered.extend(findings.take(place, self::rule(&rule)));
    }
    lowered
}

fn rule(rule: &document::DeviceRule) -> Result<DeviceRule, String> {
    let kind = match rule.r#type.as_deref() {
        None | Some("" | "a") => None,
        Some("c" | "u") => Some(DeviceKind::Character),
        Some("b") => Some(DeviceKind::Block),
        Some(other) => return Err(format!("no such device type {other:?}")),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| format!("{number} is no device number"))
        }
    };
    let access = match rule.access.as_deref() {
        None | Some("") => "rwm",
        Some(access) => access,
    };
    if let Some(letter) = access.chars().find(|letter| !"rwm".contains(*letter)) {
        return Err(format!("no such access {letter:?}"));
    }
    Ok(DeviceRule {
        allow: rule.allow.unwrap_or_default(),
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

/// A container's whole policy: nothing (D-28), then what the document says, then what every container
/// has. A rule about everything makes what came before it pointless.
pub(super) fn policy(rules: Vec<DeviceRule>) -> Vec<DeviceRule> {
    let (allow, deny) = (defaults::every_device(true), defaults::every_device(false));
    let last_about_everything = rules.iter().rposition(|rule| *rule == allow || *rule == deny);
    let mut policy: Vec<DeviceRule> = match last_about_everything {
        Some(index) => rules.into_iter().skip(index).collect(),
        None => std::iter::once(deny).chain(rules).collect(),
    };
    if policy.first() != Some(&allow) || policy.len() > 1 {
        policy.extend(defaults::device_rules());
    }
    policy
}

//! docker's limit flags → the cgroup's resources.

use super::{Limits, Overrides};
use crate::{BlockIo, Cgroup, Cpu, DeviceRule, Memory, Resources, defaults, problems::Findings};

/// docker's period for `--cpus`, in microseconds.
const PERIOD: u64 = 100_000;

pub(super) fn lower(asked: &Overrides, findings: &mut Findings) -> Option<Cgroup> {
    let limits = &asked.limits;
    let resources = Resources {
        memory: memory(limits, findings),
        cpu: cpu(limits, findings),
        pids: limits.pids.map(|limit| limit.0),
        block_io: BlockIo { weight: limits.blkio_weight, ..BlockIo::default() },
        ..Resources::default()
    };
    if let Some(weight) = limits.blkio_weight
        && !(10..=1000).contains(&weight)
    {
        findings.problem("--blkio-weight", format_args!("{weight} is not between 10 and 1000"));
    }
    let Some((path, driver)) = asked.cgroup.clone() else {
        // D-31: a limit that cannot be applied is refused.
        if resources != Resources::default() {
            findings.problem("limits", "they need a cgroup, and none is made: cgroups are disabled, or not delegated to this user");
        }
        return None;
    };
    Some(Cgroup { path, driver, resources: Resources { devices: devices(asked), ..resources } })
}

/// Nothing but what every container has and what was asked for.
fn devices(asked: &Overrides) -> Vec<DeviceRule> {
    if asked.privileged {
        return vec![defaults::every_device(true)];
    }
    let asked_for = asked.devices.iter().map(|device| DeviceRule {
        allow: true,
        kind: Some(device.node.kind),
        major: Some(device.node.major),
        minor: Some(device.node.minor),
        read: device.read,
        write: device.write,
        mknod: device.mknod,
    });
    std::iter::once(defaults::every_device(false))
        .chain(defaults::device_rules())
        .chain(asked_for)
        .chain(asked.device_rules.iter().map(|rule| rule.0.clone()))
        .collect()
}

fn memory(limits: &Limits, findings: &mut Findings) -> Memory {
    // The parser keeps sizes below 2^63.
    let bytes = |size: crate::flags::Bytes| i64::try_from(size.0).unwrap_or(i64::MAX);
    let limit = limits.memory.map(bytes).filter(|limit| *limit != 0);
    let reservation = limits.memory_reservation.map(bytes).filter(|limit| *limit != 0);
    let mut swap = limits.memory_swap.map(|limit| limit.0).filter(|limit| *limit != 0);
    match (limit, swap) {
        (None, Some(1..)) => findings.problem("--memory-swap", "needs --memory as well"),
        (Some(limit), Some(swap @ 0..)) if swap < limit => {
            findings.problem("--memory-swap", "counts memory too: it cannot be below --memory");
        }
        // docker allows as much swap as memory when nothing is said.
        (Some(limit), None) => swap = limit.checked_mul(2),
        _ => (),
    }
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        findings.problem("--memory-reservation", "cannot be above --memory");
    }
    if limits.memory_swappiness.is_some_and(|swappiness| swappiness > 100) {
        findings.problem("--memory-swappiness", "is between 0 and 100");
    }
    Memory {
        limit,
        reservation,
        swap,
        swappiness: limits.memory_swappiness,
        disable_oom_killer: limits.oom_kill_disable.then_some(true),
        ..Memory::default()
    }
}

fn cpu(limits: &Limits, findings: &mut Findings) -> Cpu {
    let mut cpu = Cpu {
        shares: limits.cpu_shares.filter(|shares| *shares != 0),
        period: limits.cpu_period.filter(|period| *period != 0),
        quota: limits.cpu_quota.filter(|quota| *quota != 0),
        cpus: limits.cpuset_cpus.clone().filter(|list| !list.is_empty()),
        mems: limits.cpuset_mems.clone().filter(|list| !list.is_empty()),
        ..Cpu::default()
    };
    if let Some(cpus) = limits.cpus.filter(|cpus| cpus.0 != 0) {
        if cpu.period.is_some() || cpu.quota.is_some() {
            findings.problem("--cpus", "says what --cpu-period and --cpu-quota say: use one way");
        }
        cpu.period = Some(PERIOD);
        // Billionths of a processor, in microseconds per period.
        let quota = u128::from(cpus.0) * u128::from(PERIOD) / 1_000_000_000;
        cpu.quota = findings.take("--cpus", i64::try_from(quota));
        if cpu.quota.is_some_and(|quota| quota < 1000) {
            findings.problem("--cpus", "cannot be below 0.01");
        }
    }
    if cpu.quota.is_some_and(|quota| (0..1000).contains(&quota)) && limits.cpus.is_none() {
        findings.problem("--cpu-quota", "cannot be below 1000 microseconds");
    }
    if cpu.period.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
        findings.problem("--cpu-period", "is between 1000 and 1000000 microseconds");
    }
    cpu
}

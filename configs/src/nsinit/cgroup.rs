//! `cgroups`.

use super::{Invocation, devices, fields::Fields};
use crate::{
    BlockIo, BlockThrottle, BlockWeight, Cgroup, CgroupDriver, Cpu, HugepageLimit, Memory,
    NetworkClass, Resources, defaults, problems::Findings,
};

pub(super) fn driver(invocation: &Invocation) -> CgroupDriver {
    if invocation.systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
}

/// `None` when the file has none: then no cgroup is made at all.
pub(super) fn lower(
    fields: &mut Fields,
    invocation: &Invocation,
    is_nested: bool,
    findings: &mut Findings,
) -> Option<Cgroup> {
    let mut group = fields.object("cgroups", findings)?;
    let path = path(&mut group, invocation, findings);
    let resources = Resources {
        memory: memory(&mut group, is_nested, findings),
        cpu: cpu(&mut group, findings),
        block_io: block_io(&mut group, findings),
        hugepages: hugepages(&mut group, findings),
        network: network(&mut group, findings),
        devices: policy(&mut group, is_nested, findings),
        ..Resources::default()
    };
    if let Some(state) = group.filled("freezer", findings)
        && state != "THAWED"
    {
        let what = format_args!("{state:?}: a container cannot start frozen, use `pause`");
        findings.problem(group.place("freezer"), what);
    }
    group.finish(findings);
    Some(Cgroup { path: path.into(), driver: driver(invocation), resources })
}

fn path(group: &mut Fields, invocation: &Invocation, findings: &mut Findings) -> String {
    let name = group.filled("name", findings);
    let parent = group.text("parent", findings);
    let slice = group.filled("slice", findings);
    // Without either, the old program used process 1's own cgroup, and denied it every device.
    let name = match (name, parent.is_empty()) {
        (Some(name), _) => name,
        (None, _) => invocation.unique_name.clone(),
    };
    if invocation.systemd {
        let slice = slice.unwrap_or_else(|| "system.slice".to_owned());
        let prefix = if parent.is_empty() { "nsinit" } else { parent.trim_matches('/') };
        return format!("{slice}:{}:{name}", prefix.replace('/', "-"));
    }
    let joined = format!("/{parent}/{name}");
    joined
        .split('/')
        .filter(|part| !part.is_empty())
        .fold(String::new(), |path, part| path + "/" + part)
}

fn memory(group: &mut Fields, is_nested: bool, findings: &mut Findings) -> Memory {
    let limit = group.set("memory", findings);
    let swap = group.set("memory_swap", findings);
    // The nested generation allowed as much swap as memory, unless -1 said "do not limit".
    let twice = limit.filter(|_| is_nested && swap.is_none());
    let twice = twice.and_then(|limit| limit.checked_mul(2));
    Memory {
        limit,
        reservation: group.set("memory_reservation", findings),
        swap: swap.filter(|swap| *swap > 0).or(twice),
        kernel: group.set("kernel_memory", findings),
        // Absent meant 0, since Go has no other absence, and containers began to avoid swap
        // without being asked; what is written is taken as it is.
        swappiness: group
            .number("memory_swappiness", findings)
            .and_then(|swappiness| u64::try_from(swappiness).ok())
            .filter(|swappiness| *swappiness <= 100),
        disable_oom_killer: group.flag("oom_kill_disable", findings).then_some(true),
        ..Memory::default()
    }
}

/// Two pairs of Go fields had the same JSON names, so that Go ignored quota and period altogether.
fn cpu(group: &mut Fields, findings: &mut Findings) -> Cpu {
    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    Cpu {
        shares: positive(group.set("cpu_shares", findings)),
        quota: group.set("cpu_quota", findings),
        period: positive(group.set("cpu_period", findings)),
        realtime_runtime: group.set("cpu_rt_runtime", findings),
        realtime_period: positive(group.set("cpu_rt_period", findings)),
        cpus: group.filled("cpuset_cpus", findings),
        mems: group.filled("cpuset_mems", findings),
        ..Cpu::default()
    }
}

fn block_io(group: &mut Fields, findings: &mut Findings) -> BlockIo {
    let weight: u16 = group.narrow("blkio_weight", findings);
    if weight != 0 && !(10..=1000).contains(&weight) {
        findings.problem(group.place("blkio_weight"), "is between 10 and 1000");
    }
    let mut throttle = |name: &'static str| {
        let raw = group.filled(name, findings);
        let row = raw.map(|text| device_value(&text).ok_or(text));
        match row {
            Some(Err(text)) => {
                let what = format_args!("{text:?} is not \"MAJOR:MINOR VALUE\"");
                findings.problem(group.place(name), what);
                None
            }
            other => other.and_then(Result::ok),
        }
    };
    let weights = throttle("blkio_weight_device");
    let mut rates = |name| {
        let row = throttle(name);
        row.map(|(major, minor, rate)| BlockThrottle { major, minor, rate }).into_iter().collect()
    };
    BlockIo {
        weight: (weight != 0).then_some(weight),
        read_bps: rates("blkio_throttle_read_bps_device"),
        write_bps: rates("blkio_throttle_write_bps_device"),
        read_iops: rates("blkio_throttle_read_iops_device"),
        write_iops: rates("blkio_throttle_write_iops_device"),
        weight_devices: weights
            .map(|(major, minor, weight)| BlockWeight {
                major,
                minor,
                weight: u16::try_from(weight).ok(),
                leaf_weight: None,
            })
            .into_iter()
            .collect(),
        ..BlockIo::default()
    }
}

/// `MAJOR:MINOR VALUE`
fn device_value(text: &str) -> Option<(u32, u32, u64)> {
    let (device, value) = text.trim().split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?, value.trim().parse().ok()?))
}

fn hugepages(group: &mut Fields, findings: &mut Findings) -> Vec<HugepageLimit> {
    let lower = |row: &mut Fields, findings: &mut Findings| {
        let page_size = row.text("page_size", findings);
        Some(HugepageLimit { page_size, limit: row.narrow("limit", findings) })
    };
    group.objects("hugetlb_limit", findings, lower).unwrap_or_default()
}

fn network(group: &mut Fields, findings: &mut Findings) -> NetworkClass {
    let class = group.filled("net_cls_classid", findings).map(|text| {
        let hexadecimal = text.strip_prefix("0x").map(|text| u32::from_str_radix(text, 16));
        hexadecimal.unwrap_or_else(|| text.parse()).map_err(|_| format!("{text:?} is no class"))
    });
    let lower = |row: &mut Fields, findings: &mut Findings| {
        Some((row.text("interface", findings), row.narrow("priority", findings)))
    };
    NetworkClass {
        class_id: class.and_then(|class| findings.take(group.place("net_cls_classid"), class)),
        priorities: group.objects("net_prio_ifpriomap", findings, lower).unwrap_or_default(),
    }
}

/// Deny everything, then allow what is listed; or, with `allow_all_devices`, allow everything and then
/// deny what is listed (the flat generation).
fn policy(group: &mut Fields, is_nested: bool, findings: &mut Findings) -> Vec<crate::DeviceRule> {
    let names = if is_nested { devices::NESTED } else { devices::FLAT };
    let everything = group.flag("allow_all_devices", findings);
    let allowed = devices::rules(group, "allowed_devices", names, true, findings);
    let denied = devices::rules(group, "denied_devices", names, false, findings);
    let (first, rest) = match (everything, allowed) {
        (true, _) => (true, denied.unwrap_or_default()),
        (false, Some(allowed)) => (false, allowed),
        // A hand-written file without the list wants the usual devices, not none.
        (false, None) => (false, defaults::device_rules()),
    };
    std::iter::once(defaults::every_device(first)).chain(rest).collect()
}

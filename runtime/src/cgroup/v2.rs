//! Limits, version 2: one directory (cgroup-v2.txt), and the conversions from version 1's scales that
//! runtimes have agreed on.

use std::path::Path;

use configs::{BlockIo, BlockThrottle, Cpu, Memory, Resources};
use rustix::io::Errno;

use super::{
    Place, devices,
    file::{try_write, write},
    v1::{number_or_max, rdma, refuse_below_usage},
};
use crate::{Error, Result};

pub(super) fn apply(place: &Place, resources: &Resources) -> Result<()> {
    let Some(directory) = place.unified_directory() else { return Ok(()) };
    refuse_legacy(resources)?;
    devices::apply_v2(directory, &resources.devices)?;
    memory(directory, &resources.memory)?;
    cpu(directory, &resources.cpu)?;
    set(directory, "pids.max", resources.pids.map(number_or_max))?;
    block_io(directory, &resources.block_io)?;
    for page in &resources.hugepages {
        let size = &page.page_size;
        set(directory, &format!("hugetlb.{size}.max"), Some(page.limit))?;
        set_if_present(directory, &format!("hugetlb.{size}.rsvd.max"), &page.limit.to_string())?;
    }
    for (device, limit) in &resources.rdma {
        set(directory, "rdma.max", Some(rdma(device, limit)))?;
    }
    unified(directory, resources)
}

/// D-37: what version 2 does not have.
fn refuse_legacy(resources: &Resources) -> Result<()> {
    let (memory, cpu, network) = (&resources.memory, &resources.cpu, &resources.network);
    let io = &resources.block_io;
    let leaf = io.leaf_weight.is_some()
        || io.weight_devices.iter().any(|device| device.leaf_weight.is_some());
    let asked = [
        ("a kernel memory limit", memory.kernel.is_some()),
        ("a kernel TCP memory limit", memory.kernel_tcp.is_some()),
        ("swappiness", memory.swappiness.is_some()),
        ("disabling the OOM killer", memory.disable_oom_killer == Some(true)),
        ("realtime scheduling limits", cpu.realtime_runtime.or(Some(0)) != Some(0)),
        ("realtime scheduling limits", cpu.realtime_period.or(Some(0)) != Some(0)),
        ("block device leaf weights", leaf),
        ("a network class", network.class_id.or(Some(0)) != Some(0)),
        ("network priorities", !network.priorities.is_empty()),
    ];
    match asked.iter().find(|row| row.1) {
        Some((what, _)) => Err(Error::Unsupported(format!("cgroup version 2 has no {what}"))),
        None => Ok(()),
    }
}

fn set(directory: &Path, file: &str, value: Option<impl ToString>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    match try_write(directory, file, &value.to_string()) {
        Ok(()) => Ok(()),
        // Not handed down, or not in this kernel.
        Err(Errno::NOENT) => {
            let controller = file.split('.').next().unwrap_or(file);
            Err(Error::Unsupported(format!(
                "a limit needs the cgroup file {file}: the controller {controller} is not available \
                 in {}",
                directory.display()
            )))
        }
        Err(errno) => Err(Error::call(
            format!("write {:?} to {}/{file}", value.to_string(), directory.display()),
            errno,
        )),
    }
}

fn set_if_present(directory: &Path, file: &str, value: &str) -> Result<bool> {
    match try_write(directory, file, value) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => {
            Err(Error::call(format!("write {value:?} to {}/{file}", directory.display()), errno))
        }
    }
}

fn memory(directory: &Path, memory: &Memory) -> Result<()> {
    if memory.check_before_update
        && let Some(limit) = memory.limit
    {
        refuse_below_usage(directory, "memory.current", limit)?;
    }
    if let Some(swap) = swap(memory)? {
        // A kernel without swap accounting has no file, and nothing that could exceed zero.
        if swap <= 0 {
            set_if_present(directory, "memory.swap.max", &number_or_max(swap))?;
        } else {
            set(directory, "memory.swap.max", Some(number_or_max(swap)))?;
        }
    }
    set(directory, "memory.max", memory.limit.map(number_or_max))?;
    set(directory, "memory.low", memory.reservation.map(number_or_max))
}

/// Version 1 limits the sum of memory and swap, version 2 swap alone.
pub(super) fn swap(memory: &Memory) -> Result<Option<i64>> {
    let sum = match (memory.limit, memory.swap) {
        (Some(-1), None) | (_, Some(-1)) => return Ok(Some(-1)),
        (_, None | Some(0)) => return Ok(None),
        (_, Some(sum)) => sum,
    };
    match memory.limit {
        Some(limit) if limit >= 0 && sum >= limit => Ok(Some(sum - limit)),
        Some(limit) if limit >= 0 => Err(Error::Unsupported(format!(
            "the limit of memory and swap, {sum}, is below that of memory, {limit}"
        ))),
        _ => Err(Error::Unsupported("a limit of memory and swap needs one of memory".into())),
    }
}

fn cpu(directory: &Path, cpu: &Cpu) -> Result<()> {
    set(directory, "cpu.idle", cpu.idle)?;
    // The kernel refuses a weight for an idle group.
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0)
        && cpu.idle != Some(1)
    {
        set(directory, "cpu.weight", Some(weight_of_shares(shares)))?;
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = cpu.quota.filter(|&quota| quota > 0).map_or("max".into(), |it| it.to_string());
        let value = match cpu.period {
            Some(period) if period != 0 => format!("{quota} {period}"),
            // The kernel keeps the period that is in force.
            _ => quota,
        };
        // A burst has to fit in the quota, old or new.
        let early = cpu
            .burst
            .is_some_and(|burst| try_write(directory, "cpu.max.burst", &burst.to_string()).is_ok());
        set(directory, "cpu.max", Some(value))?;
        set(directory, "cpu.max.burst", if early { None } else { cpu.burst })?;
    } else {
        set(directory, "cpu.max.burst", cpu.burst)?;
    }
    set(directory, "cpuset.cpus", cpu.cpus.as_deref())?;
    set(directory, "cpuset.mems", cpu.mems.as_deref())
}

/// 2…262144 with 1024 as normal becomes 1…10000 with 100 as normal, on the curve runc, crun and
/// systemd's users agreed on: quadratic in the logarithm, through (2, 1), (1024, 100), (262144, 10000).
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    const MAX_SHARES: u64 = 262_144;
    const MAX_WEIGHT: u64 = 10_000;
    if shares <= 2 {
        return 1;
    }
    if shares >= MAX_SHARES {
        return MAX_WEIGHT;
    }
    let Ok(shares) = u32::try_from(shares) else { return MAX_WEIGHT };
    let log = f64::from(shares).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::as_conversions, reason = "between 1 and 10000, since the ends are dealt with")]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

/// 10…1000 becomes 1…10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9_999 / 990
}

fn block_io(directory: &Path, io: &BlockIo) -> Result<()> {
    if let Some(weight) = io.weight.filter(|&weight| weight != 0)
        // bfq has version 1's scale and a file of its own.
        && !set_if_present(directory, "io.bfq.weight", &weight.to_string())?
    {
        set(directory, "io.weight", Some(format!("default {}", io_weight(weight))))?;
    }
    for device in &io.weight_devices {
        let Some(weight) = device.weight else { continue };
        let number = format!("{}:{}", device.major, device.minor);
        if !set_if_present(directory, "io.bfq.weight", &format!("{number} {weight}"))? {
            set(directory, "io.weight", Some(format!("{number} {}", io_weight(weight))))?;
        }
    }
    for (key, throttles) in [
        ("rbps", &io.read_bps),
        ("wbps", &io.write_bps),
        ("riops", &io.read_iops),
        ("wiops", &io.write_iops),
    ] {
        for BlockThrottle { major, minor, rate } in throttles {
            // Version 1 writes 0 to lift a limit.
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            set(directory, "io.max", Some(format!("{major}:{minor} {key}={rate}")))?;
        }
    }
    Ok(())
}

/// Settings as the user wrote them. Names are one component, so that nothing outside is written (D-31).
fn unified(directory: &Path, resources: &Resources) -> Result<()> {
    for (name, value) in &resources.unified {
        if name.contains('/') || !name.contains('.') {
            return Err(Error::Unsafe(format!("{name:?} is not the name of a cgroup setting")));
        }
        if name.starts_with("cgroup.")
            && name != "cgroup.max.descendants"
            && name != "cgroup.max.depth"
        {
            return Err(Error::Unsafe(format!("{name} is not a limit")));
        }
        for line in value.lines() {
            match try_write(directory, name, line) {
                Err(Errno::NOENT) => set(directory, name, Some(line))?,
                _ => write(directory, name, line)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (1024, 100),
            (512, 59),
            (2048, 174),
            (262_144, 10_000),
            (1 << 40, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(500), io_weight(1000)), (1, 4950, 10_000));
    }

    #[test]
    fn swap_is_told_from_the_sum() {
        let check = |limit, swap, expected: Option<Option<i64>>| {
            let memory = Memory { limit, swap, ..Memory::default() };
            assert_eq!(super::swap(&memory).ok(), expected, "{limit:?} {swap:?}");
        };
        check(Some(100), Some(150), Some(Some(50)));
        check(Some(100), Some(100), Some(Some(0)));
        check(Some(100), Some(-1), Some(Some(-1)));
        check(Some(-1), None, Some(Some(-1)));
        check(Some(100), None, Some(None));
        check(Some(100), Some(50), None);
        check(None, Some(50), None);
    }
}

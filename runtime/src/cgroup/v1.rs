//! Limits, version 1: a directory of files per controller (cgroup-v1/ in the kernel's documentation).

use std::path::Path;

use configs::{BlockIo, BlockThrottle, Cpu, Memory, Resources};
use rustix::io::Errno;

use super::{
    Place, devices,
    file::{try_read_number, try_write, write},
};
use crate::{Error, Result};

pub(super) fn apply(place: &Place, resources: &Resources) -> Result<()> {
    if let Some(name) = resources.unified.keys().next() {
        return Err(Error::Unsupported(format!(
            "the cgroup setting {name} needs cgroup version 2, this system has version 1"
        )));
    }
    let controller = |name| Controller { place, name };
    devices::apply_v1(place, &resources.devices)?;
    memory(&controller("memory"), &resources.memory)?;
    cpu(&controller("cpu"), &resources.cpu)?;
    cpuset(&controller("cpuset"), &resources.cpu)?;
    controller("pids").set("pids.max", resources.pids.map(number_or_max))?;
    block_io(&controller("blkio"), &resources.block_io)?;
    for page in &resources.hugepages {
        let hugetlb = controller("hugetlb");
        let size = &page.page_size;
        hugetlb.set(&format!("hugetlb.{size}.limit_in_bytes"), Some(page.limit))?;
        // Reservations are counted apart since Linux 5.7.
        hugetlb.set_if_present(&format!("hugetlb.{size}.rsvd.limit_in_bytes"), page.limit)?;
    }
    for (device, limit) in &resources.rdma {
        controller("rdma").set("rdma.max", Some(rdma(device, limit)))?;
    }
    controller("net_cls").set("net_cls.classid", resources.network.class_id)?;
    for (interface, priority) in &resources.network.priorities {
        controller("net_prio")
            .set("net_prio.ifpriomap", Some(format!("{interface} {priority}")))?;
    }
    Ok(())
}

/// One line of `rdma.max`, the same in both versions.
pub(super) fn rdma(device: &str, limit: &configs::RdmaLimit) -> String {
    let mut line = device.to_owned();
    for (name, value) in [("hca_handle", limit.handles), ("hca_object", limit.objects)] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

/// Negative is no limit.
pub(super) fn number_or_max(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}

/// A controller that may not be there; it is missed only when a limit needs it.
struct Controller<'a> {
    place: &'a Place,
    name: &'static str,
}

impl Controller<'_> {
    fn directory(&self) -> Result<&Path> {
        self.place.legacy_directory(self.name).ok_or_else(|| {
            Error::Unsupported(format!("a limit needs the cgroup controller {}", self.name))
        })
    }

    fn set(&self, file: &str, value: Option<impl ToString>) -> Result<()> {
        match value {
            Some(value) => write(self.directory()?, file, value.to_string()),
            None => Ok(()),
        }
    }

    fn set_if_present(&self, file: &str, value: impl ToString) -> Result<()> {
        let directory = self.directory()?;
        match try_write(directory, file, &value.to_string()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::call(format!("write {}/{file}", directory.display()), errno)),
        }
    }
}

fn memory(controller: &Controller<'_>, memory: &Memory) -> Result<()> {
    if memory.check_before_update
        && let Some(limit) = memory.limit
    {
        refuse_below_usage(controller.directory()?, "memory.usage_in_bytes", limit)?;
    }
    memory_and_swap(controller, memory)?;
    controller.set("memory.soft_limit_in_bytes", memory.reservation)?;
    controller.set("memory.kmem.limit_in_bytes", memory.kernel)?;
    controller.set("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)?;
    controller.set("memory.swappiness", memory.swappiness)?;
    controller.set("memory.oom_control", memory.disable_oom_killer.map(u8::from))?;
    controller.set("memory.use_hierarchy", memory.use_hierarchy.map(u8::from))
}

/// Refuses a limit the kernel would have to reach by killing.
pub(super) fn refuse_below_usage(directory: &Path, file: &str, limit: i64) -> Result<()> {
    let usage = try_read_number(directory, file)
        .map_err(|errno| Error::call(format!("read {}/{file}", directory.display()), errno))?;
    if u64::try_from(limit).is_ok_and(|limit| limit < usage) {
        return Err(Error::Unsupported(format!(
            "the memory limit {limit} is below the {usage} bytes in use (checkBeforeUpdate)"
        )));
    }
    Ok(())
}

/// The kernel wants memory ≤ memory and swap at every moment, so which is written first depends on
/// whether they grow or shrink.
fn memory_and_swap(controller: &Controller<'_>, memory: &Memory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    // No limit at all means none on the sum either, which may not be accounted here.
    let swap = match (memory.limit, memory.swap) {
        (Some(-1), None) => return unlimited(controller),
        (_, swap) => swap,
    };
    let (Some(limit), Some(swap)) = (memory.limit, swap) else {
        controller.set(LIMIT, memory.limit)?;
        return controller.set(SWAP, swap);
    };
    let current = try_read_number(controller.directory()?, SWAP).unwrap_or(u64::MAX);
    if u64::try_from(limit).unwrap_or(u64::MAX) > current {
        controller.set(SWAP, Some(swap))?;
        controller.set(LIMIT, Some(limit))
    } else {
        controller.set(LIMIT, Some(limit))?;
        controller.set(SWAP, Some(swap))
    }
}

fn unlimited(controller: &Controller<'_>) -> Result<()> {
    controller.set_if_present("memory.memsw.limit_in_bytes", -1)?;
    controller.set("memory.limit_in_bytes", Some(-1))
}

fn cpu(controller: &Controller<'_>, cpu: &Cpu) -> Result<()> {
    controller.set("cpu.shares", cpu.shares)?;
    realtime(controller, cpu)?;
    quota(controller, cpu)?;
    controller.set("cpu.idle", cpu.idle)
}

/// The kernel refuses a runtime above the period, and a ratio of the two above the parent's: what the old
/// runtime makes too much of goes second.
fn realtime(controller: &Controller<'_>, cpu: &Cpu) -> Result<()> {
    const PERIOD: &str = "cpu.rt_period_us";
    const RUNTIME: &str = "cpu.rt_runtime_us";
    if let (Some(period), Some(runtime)) = (cpu.realtime_period, cpu.realtime_runtime)
        && try_write(controller.directory()?, PERIOD, &period.to_string()) == Err(Errno::INVAL)
    {
        controller.set(RUNTIME, Some(runtime))?;
        return controller.set(PERIOD, Some(period));
    }
    controller.set(PERIOD, cpu.realtime_period)?;
    controller.set(RUNTIME, cpu.realtime_runtime)
}

/// The ratio of the old quota to the new period may be more than the parent allows for a moment; then
/// the quota goes first.
fn quota(controller: &Controller<'_>, cpu: &Cpu) -> Result<()> {
    const PERIOD: &str = "cpu.cfs_period_us";
    let mut period = cpu.period;
    if let Some(value) = period
        && try_write(controller.directory()?, PERIOD, &value.to_string()).is_ok()
    {
        period = None;
    }
    // A burst has to fit in the quota, old or new.
    let burst = cpu.burst;
    let early = burst.is_some_and(|burst| {
        try_write(
            controller.place.legacy_directory("cpu").unwrap_or(Path::new("")),
            "cpu.cfs_burst_us",
            &burst.to_string(),
        )
        .is_ok()
    });
    controller.set("cpu.cfs_quota_us", cpu.quota)?;
    controller.set(PERIOD, period)?;
    controller.set("cpu.cfs_burst_us", if early { None } else { burst })
}

fn cpuset(controller: &Controller<'_>, cpu: &Cpu) -> Result<()> {
    controller.set("cpuset.cpus", cpu.cpus.as_deref())?;
    controller.set("cpuset.mems", cpu.mems.as_deref())
}

fn block_io(controller: &Controller<'_>, io: &BlockIo) -> Result<()> {
    // The files are named after the scheduler that does the weighing: bfq, earlier cfq.
    let weigh = |suffix: &str, value: String| {
        let directory = controller.directory()?;
        match try_write(directory, &format!("blkio.bfq.{suffix}"), &value) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => write(directory, &format!("blkio.{suffix}"), value),
            Err(errno) => Err(Error::call(
                format!("write {value:?} to {}/blkio.bfq.{suffix}", directory.display()),
                errno,
            )),
        }
    };
    if let Some(weight) = io.weight {
        weigh("weight", weight.to_string())?;
    }
    controller.set("blkio.leaf_weight", io.leaf_weight)?;
    for device in &io.weight_devices {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = device.weight {
            weigh("weight_device", line(weight))?;
        }
        controller.set("blkio.leaf_weight_device", device.leaf_weight.map(line))?;
    }
    for (file, throttles) in [
        ("blkio.throttle.read_bps_device", &io.read_bps),
        ("blkio.throttle.write_bps_device", &io.write_bps),
        ("blkio.throttle.read_iops_device", &io.read_iops),
        ("blkio.throttle.write_iops_device", &io.write_iops),
    ] {
        for BlockThrottle { major, minor, rate } in throttles {
            controller.set(file, Some(format!("{major}:{minor} {rate}")))?;
        }
    }
    Ok(())
}

//! Counters of version 1, a directory per controller.

use std::path::Path;

use super::{
    BlockIoCount, BlockIoStatistics, CpuStatistics, MemoryStatistics, PidsStatistics, Statistics,
    Usage, count, device, page_sizes, pairs, rdma, text,
};
use crate::{Result, cgroup::Place};

pub(super) fn statistics(place: &Place) -> Result<Statistics> {
    let directory = |controller| place.legacy_directory(controller);
    let mut statistics = Statistics { cpu: cpu(place)?, ..Statistics::default() };
    if let Some(path) = directory("memory") {
        statistics.memory = memory(path)?;
    }
    if let Some(path) = directory("pids") {
        let (current, limit) = (count(path, "pids.current")?, count(path, "pids.max")?);
        statistics.pids = PidsStatistics { current, limit };
    }
    if let Some(path) = directory("blkio") {
        statistics.block_io = block_io(path)?;
    }
    if let Some(path) = directory("hugetlb") {
        for size in page_sizes() {
            let usage = usage(path, &format!("hugetlb.{size}."))?;
            statistics.hugepages.insert(size, usage);
        }
    }
    if let Some(path) = directory("rdma") {
        statistics.rdma = rdma(&text(path, "rdma.current")?);
    }
    Ok(statistics)
}

fn cpu(place: &Place) -> Result<CpuStatistics> {
    let mut cpu = CpuStatistics::default();
    if let Some(path) = place.legacy_directory("cpuacct") {
        cpu.total = count(path, "cpuacct.usage")?;
        cpu.user = count(path, "cpuacct.usage_user")?;
        cpu.kernel = count(path, "cpuacct.usage_sys")?;
        cpu.per_cpu = numbers(&text(path, "cpuacct.usage_percpu")?);
        cpu.per_cpu_user = numbers(&text(path, "cpuacct.usage_percpu_user")?);
        cpu.per_cpu_kernel = numbers(&text(path, "cpuacct.usage_percpu_sys")?);
    }
    if let Some(path) = place.legacy_directory("cpu") {
        let stat = pairs(&text(path, "cpu.stat")?);
        let field = |name: &str| stat.get(name).copied().unwrap_or_default();
        cpu.periods = field("nr_periods");
        cpu.throttled_periods = field("nr_throttled");
        cpu.throttled_time = field("throttled_time");
    }
    Ok(cpu)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn memory(path: &Path) -> Result<MemoryStatistics> {
    let raw = pairs(&text(path, "memory.stat")?);
    Ok(MemoryStatistics {
        usage: usage(path, "memory.")?,
        swap: usage(path, "memory.memsw.")?,
        kernel: usage(path, "memory.kmem.")?,
        kernel_tcp: usage(path, "memory.kmem.tcp.")?,
        cache: raw.get("cache").copied().unwrap_or_default(),
        raw,
        pressure: None,
    })
}

fn usage(path: &Path, prefix: &str) -> Result<Usage> {
    let file = |name: &str| count(path, &format!("{prefix}{name}"));
    Ok(Usage {
        current: file("usage_in_bytes")?,
        peak: file("max_usage_in_bytes")?,
        limit: file("limit_in_bytes")?,
        failures: file("failcnt")?,
    })
}

/// The files are named after the scheduler that counts; the throttling layer counts in any case.
fn block_io(path: &Path) -> Result<BlockIoStatistics> {
    let find = |name: &str| -> Result<Vec<BlockIoCount>> {
        for prefix in ["blkio.", "blkio.bfq.", "blkio.throttle."] {
            let counts = counts(&text(path, &format!("{prefix}{name}_recursive"))?);
            if !counts.is_empty() {
                return Ok(counts);
            }
        }
        Ok(Vec::new())
    };
    Ok(BlockIoStatistics {
        service_bytes: find("io_service_bytes")?,
        serviced: find("io_serviced")?,
        queued: find("io_queued")?,
        service_time: find("io_service_time")?,
        wait_time: find("io_wait_time")?,
        merged: find("io_merged")?,
        time: find("time")?,
        sectors: find("sectors")?,
        pressure: None,
    })
}

/// `8:0 Read 4096`, or `8:0 4096`; the total at the end has no device.
fn counts(text: &str) -> Vec<BlockIoCount> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = device(words.next()?)?;
            let (first, second) = (words.next()?, words.next());
            let (operation, value) = second.map_or(("", first), |value| (first, value));
            let (operation, value) = (operation.to_owned(), value.parse().ok()?);
            Some(BlockIoCount { major, minor, operation, value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_counts_are_read_with_and_without_an_operation() {
        let read = counts("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n259:1 12\n");
        let words: Vec<_> = read
            .iter()
            .map(|each| {
                format!("{}:{} {:?} {}", each.major, each.minor, each.operation, each.value)
            })
            .collect();
        assert_eq!(words, ["8:0 \"Read\" 4096", "8:0 \"Total\" 4096", "259:1 \"\" 12"]);
    }
}

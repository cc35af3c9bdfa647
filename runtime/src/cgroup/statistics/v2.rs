//! Counters of version 2, one directory.

use std::path::Path;

use super::{
    BlockIoCount, BlockIoStatistics, CpuStatistics, MemoryStatistics, PidsStatistics, Pressure,
    Stall, Statistics, Usage, count, device, page_sizes, pairs, rdma, text,
};
use crate::{Result, cgroup::Place};

pub(super) fn statistics(place: &Place) -> Result<Statistics> {
    let Some(path) = place.unified_directory() else { return Ok(Statistics::default()) };
    let mut statistics = Statistics {
        cpu: cpu(path)?,
        memory: memory(path)?,
        pids: PidsStatistics {
            current: count(path, "pids.current")?,
            limit: count(path, "pids.max")?,
        },
        block_io: block_io(path)?,
        rdma: rdma(&text(path, "rdma.current")?),
        ..Statistics::default()
    };
    for size in page_sizes() {
        let file = |name: &str| format!("hugetlb.{size}.{name}");
        let events = pairs(&text(path, &file("events"))?);
        let usage = Usage {
            current: count(path, &file("current"))?,
            peak: 0,
            limit: count(path, &file("max"))?,
            failures: events.get("max").copied().unwrap_or_default(),
        };
        statistics.hugepages.insert(size, usage);
    }
    Ok(statistics)
}

fn cpu(path: &Path) -> Result<CpuStatistics> {
    let stat = pairs(&text(path, "cpu.stat")?);
    let nanoseconds = |name: &str| stat.get(name).map_or(0, |us| us.saturating_mul(1000));
    let field = |name: &str| stat.get(name).copied().unwrap_or_default();
    Ok(CpuStatistics {
        total: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        kernel: nanoseconds("system_usec"),
        periods: field("nr_periods"),
        throttled_periods: field("nr_throttled"),
        throttled_time: nanoseconds("throttled_usec"),
        pressure: pressure(&text(path, "cpu.pressure")?),
        ..CpuStatistics::default()
    })
}

fn memory(path: &Path) -> Result<MemoryStatistics> {
    let raw = pairs(&text(path, "memory.stat")?);
    let events = pairs(&text(path, "memory.events")?);
    let usage = Usage {
        current: count(path, "memory.current")?,
        peak: count(path, "memory.peak")?,
        limit: count(path, "memory.max")?,
        failures: events.get("max").copied().unwrap_or_default(),
    };
    // In version 1's terms; peaks of two things at different times do not add up, so there is none.
    let swap = Usage {
        current: usage.current.saturating_add(count(path, "memory.swap.current")?),
        peak: 0,
        limit: usage.limit.saturating_add(count(path, "memory.swap.max")?),
        failures: pairs(&text(path, "memory.swap.events")?).get("max").copied().unwrap_or_default(),
    };
    Ok(MemoryStatistics {
        usage,
        swap,
        kernel: Usage::default(),
        kernel_tcp: Usage::default(),
        cache: raw.get("file").copied().unwrap_or_default(),
        raw,
        pressure: pressure(&text(path, "memory.pressure")?),
    })
}

fn block_io(path: &Path) -> Result<BlockIoStatistics> {
    let mut io = BlockIoStatistics {
        pressure: pressure(&text(path, "io.pressure")?),
        ..BlockIoStatistics::default()
    };
    for line in text(path, "io.stat")?.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut io.service_bytes, "Read"),
                "wbytes" => (&mut io.service_bytes, "Write"),
                "dbytes" => (&mut io.service_bytes, "Discard"),
                "rios" => (&mut io.serviced, "Read"),
                "wios" => (&mut io.serviced, "Write"),
                "dios" => (&mut io.serviced, "Discard"),
                _ => continue,
            };
            let (operation, value) = (operation.to_owned(), value.parse().unwrap_or_default());
            list.push(BlockIoCount { major, minor, operation, value });
        }
    }
    Ok(io)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; the file is empty where the kernel was told not
/// to measure.
fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let stall = match kind {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        *stall = parse_stall(rest);
    }
    (!text.is_empty()).then_some(pressure)
}

fn parse_stall(words: &str) -> Stall {
    let mut stall = Stall::default();
    for (key, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        match key {
            "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
            "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
            "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
            "total" => stall.total = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    stall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=7\nfull avg10=0.00 total=3\n";
        let pressure = pressure(text).unwrap_or_default();
        assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.total), (1.5, 7, 3));
        assert_eq!(super::pressure(""), None);
    }
}

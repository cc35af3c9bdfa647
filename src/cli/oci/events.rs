//! `events`: what a container uses, again and again, and when it runs out of memory.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use runtime::{
    Container, ContainerId, Status,
    cgroup::{BlockIoCount, Cgroup, OomEvent, Statistics, Usage},
    network::InterfaceStatistics,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::load;
use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Events {
    /// Print once, and return
    #[arg(long)]
    stats: bool,

    /// How often to print: 500ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

/// Go's way to write short times.
fn interval(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no time such as 500ms, 5s or 1m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let interval = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err(refuse()),
    };
    if interval.is_zero() {
        Err("the interval must be greater than zero".to_owned())
    } else {
        Ok(interval)
    }
}

impl Verb for Events {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = load(globals, &self.id)?;
        if container.status()? == Status::Stopped {
            bail!("container {} is not running", self.id);
        }
        let cgroup = container.cgroup().context("the container has no cgroup of its own")?;
        if self.stats {
            self.print_statistics(&container, &cgroup)?;
        } else {
            self.follow(&container, &cgroup)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Events {
    fn follow(&self, container: &Container, cgroup: &Cgroup) -> anyhow::Result<()> {
        let mut watch = cgroup.watch_oom()?;
        loop {
            let due = Instant::now() + self.interval;
            loop {
                match watch.next(due.saturating_duration_since(Instant::now()))? {
                    OomEvent::OutOfMemory => {
                        Self::print(&Event { kind: "oom", id: &self.id, data: None })?;
                    }
                    OomEvent::Ended => return Ok(()),
                    OomEvent::Nothing => break,
                }
            }
            self.print_statistics(container, cgroup)?;
        }
    }

    fn print_statistics(&self, container: &Container, cgroup: &Cgroup) -> anyhow::Result<()> {
        let data = data(&cgroup.statistics()?, &container.interfaces()?);
        Self::print(&Event { kind: "stats", id: &self.id, data: Some(data) })
    }

    fn print(event: &Event<'_>) -> anyhow::Result<()> {
        Ok(output::line(serde_json::to_string(&event)?)?)
    }
}

/// One line. The order is runc's, which scripts look for.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a ContainerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// runc's keys.
fn data(statistics: &Statistics, interfaces: &[InterfaceStatistics]) -> Value {
    let (cpu, memory, io) = (&statistics.cpu, &statistics.memory, &statistics.block_io);
    let hugepages: serde_json::Map<String, Value> =
        statistics.hugepages.iter().map(|(size, used)| (size.clone(), usage(used))).collect();
    json!({
        "cpu": {
            "usage": {
                "total": cpu.total,
                "percpu": cpu.per_cpu,
                "percpu_kernel": cpu.per_cpu_kernel,
                "percpu_user": cpu.per_cpu_user,
                "kernel": cpu.kernel,
                "user": cpu.user,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "memory": {
            "cache": memory.cache,
            "usage": usage(&memory.usage),
            "swap": usage(&memory.swap),
            "kernel": usage(&memory.kernel),
            "kernelTCP": usage(&memory.kernel_tcp),
            "raw": memory.raw,
        },
        "pids": { "current": statistics.pids.current, "limit": bounded(statistics.pids.limit) },
        "blkio": {
            "ioServiceBytesRecursive": counts(&io.service_bytes),
            "ioServicedRecursive": counts(&io.serviced),
            "ioQueueRecursive": counts(&io.queued),
            "ioServiceTimeRecursive": counts(&io.service_time),
            "ioWaitTimeRecursive": counts(&io.wait_time),
            "ioMergedRecursive": counts(&io.merged),
            "ioTimeRecursive": counts(&io.time),
            "sectorsRecursive": counts(&io.sectors),
        },
        "hugetlb": hugepages,
        "network_interfaces": interfaces.iter().map(interface).collect::<Vec<Value>>(),
    })
}

/// runc writes 0 for a number of tasks without a limit.
fn bounded(limit: u64) -> u64 {
    if limit == u64::MAX { 0 } else { limit }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "limit": usage.limit,
        "usage": usage.current,
        "max": usage.peak,
        "failcnt": usage.failures,
    })
}

fn counts(counts: &[BlockIoCount]) -> Vec<Value> {
    let count = |it: &BlockIoCount| json!({ "major": it.major, "minor": it.minor, "op": it.operation, "value": it.value });
    counts.iter().map(count).collect()
}

fn interface(it: &InterfaceStatistics) -> Value {
    json!({
        "Name": it.name,
        "RxBytes": it.rx_bytes,
        "RxPackets": it.rx_packets,
        "RxErrors": it.rx_errors,
        "RxDropped": it.rx_dropped,
        "TxBytes": it.tx_bytes,
        "TxPackets": it.tx_packets,
        "TxErrors": it.tx_errors,
        "TxDropped": it.tx_dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_go_does() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "-1s", "0s", "5d"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}

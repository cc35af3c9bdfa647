//! `stats`: what a container uses, with nsinit's keys: the older version's for a container of this
//! directory's container.json, the later one's for a container with an id.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runtime::{
    cgroup::{BlockIoCount, BlockIoStatistics, Statistics, Usage},
    network::InterfaceStatistics,
};
use serde_json::{Value, json};

use super::place::Id;
use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Stats {
    #[command(flatten)]
    id: Id,
}

impl Verb for Stats {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = self.id.load(globals)?;
        let cgroup = container.cgroup().map(|cgroup| cgroup.statistics()).transpose()?;
        let cgroup = cgroup.unwrap_or_default();
        container.state()?.pid.context("the container is not running")?;
        let interfaces = container.interfaces()?;
        let document = if self.id.is_given() {
            later(&cgroup, &interfaces)
        } else {
            without_zeroes(older(&cgroup, &interfaces))
        };
        output::text(tabs(&document)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Tab-indented, without a newline at the end.
fn tabs(document: &Value) -> serde_json::Result<String> {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn older(cgroup: &Statistics, interfaces: &[InterfaceStatistics]) -> Value {
    let sum = |field: fn(&InterfaceStatistics) -> u64| {
        let real = interfaces.iter().filter(|interface| interface.name != "lo");
        real.map(field).sum::<u64>()
    };
    json!({
        "network_stats": {
            "rx_bytes": sum(|it| it.rx_bytes),
            "rx_packets": sum(|it| it.rx_packets),
            "rx_errors": sum(|it| it.rx_errors),
            "rx_dropped": sum(|it| it.rx_dropped),
            "tx_bytes": sum(|it| it.tx_bytes),
            "tx_packets": sum(|it| it.tx_packets),
            "tx_errors": sum(|it| it.tx_errors),
            "tx_dropped": sum(|it| it.tx_dropped),
        },
        "cgroup_stats": {
            "cpu_stats": cpu(cgroup),
            "memory_stats": {
                "usage": cgroup.memory.usage.current,
                "max_usage": cgroup.memory.usage.peak,
                "stats": cgroup.memory.raw,
                "failcnt": cgroup.memory.usage.failures,
            },
            "blkio_stats": block_io(&cgroup.block_io),
        },
    })
}

fn later(cgroup: &Statistics, interfaces: &[InterfaceStatistics]) -> Value {
    let usage = |usage: &Usage| json!({ "usage": usage.current, "max_usage": usage.peak, "failcnt": usage.failures });
    let interface = |it: &InterfaceStatistics| {
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
    };
    let hugepages: serde_json::Map<String, Value> =
        cgroup.hugepages.iter().map(|(size, used)| (size.clone(), usage(used))).collect();
    let real = interfaces.iter().filter(|interface| interface.name != "lo");
    json!({
        "Interfaces": real.map(interface).collect::<Vec<Value>>(),
        "CgroupStats": {
            "cpu_stats": cpu(cgroup),
            "memory_stats": {
                "cache": cgroup.memory.cache,
                "usage": usage(&cgroup.memory.usage),
                "swap_usage": usage(&cgroup.memory.swap),
                "kernel_usage": usage(&cgroup.memory.kernel),
                "stats": cgroup.memory.raw,
            },
            "blkio_stats": block_io(&cgroup.block_io),
            "hugetlb_stats": hugepages,
        },
    })
}

fn cpu(cgroup: &Statistics) -> Value {
    let cpu = &cgroup.cpu;
    json!({
        "cpu_usage": {
            "total_usage": cpu.total,
            "percpu_usage": cpu.per_cpu,
            "usage_in_kernelmode": cpu.kernel,
            "usage_in_usermode": cpu.user,
        },
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_time,
        },
    })
}

fn block_io(io: &BlockIoStatistics) -> Value {
    let list = |counts: &[BlockIoCount]| -> Vec<Value> {
        let entry = |it: &BlockIoCount| json!({ "major": it.major, "minor": it.minor, "op": it.operation, "value": it.value });
        counts.iter().map(entry).collect()
    };
    json!({
        "io_service_bytes_recursive": list(&io.service_bytes),
        "io_serviced_recursive": list(&io.serviced),
        "io_queue_recursive": list(&io.queued),
        "io_service_time_recursive": list(&io.service_time),
        "io_wait_time_recursive": list(&io.wait_time),
        "io_merged_recursive": list(&io.merged),
        "io_time_recursive": list(&io.time),
        "sectors_recursive": list(&io.sectors),
    })
}

/// The older version left zeroes out, but for these.
fn without_zeroes(value: Value) -> Value {
    const KEPT: [&str; 3] = ["usage_in_kernelmode", "usage_in_usermode", "failcnt"];
    let Value::Object(entries) = value else { return value };
    let is_zero = |value: &Value| {
        value == &json!(0) || value == &json!("") || value == &json!([]) || value == &json!({})
    };
    let entries = entries.into_iter().map(|(key, value)| (key, without_zeroes(value)));
    entries.filter(|(key, value)| KEPT.contains(&key.as_str()) || !is_zero(value)).collect()
}

//! What went through a container's interfaces.

use std::fs;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::{Result, error::OrFail};

/// Counters of one interface, from the container's point of view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in /proc/net/dev")]
pub struct InterfaceStatistics {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Every interface of the network namespace a process is in, loopback first.
pub fn statistics(pid: Pid) -> Result<Vec<InterfaceStatistics>> {
    // proc(5): read from outside, without entering the namespace.
    let path = format!("/proc/{}/net/dev", pid.as_raw_nonzero());
    let table = fs::read_to_string(&path).or_fail(|| format!("read {path}"))?;
    Ok(table.lines().filter_map(interface).collect())
}

/// One line; the two of the heading have no colon.
fn interface(line: &str) -> Option<InterfaceStatistics> {
    let (name, counters) = line.rsplit_once(':')?;
    let counters: Vec<u64> =
        counters.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let counter = |at: usize| counters.get(at).copied().unwrap_or_default();
    Some(InterfaceStatistics {
        name: name.trim().to_owned(),
        rx_bytes: counter(0),
        rx_packets: counter(1),
        rx_errors: counter(2),
        rx_dropped: counter(3),
        tx_bytes: counter(8),
        tx_packets: counter(9),
        tx_errors: counter(10),
        tx_dropped: counter(11),
    })
}

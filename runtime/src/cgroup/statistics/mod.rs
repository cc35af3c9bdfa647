//! What a container has used, in the same terms for both versions.

mod v1;
mod v2;

use std::{collections::BTreeMap, path::Path};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    Place,
    file::{try_read, try_read_number},
};
use crate::{Error, Result};

/// A look at a cgroup's counters; what the kernel does not count is zero, empty or absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub struct Statistics {
    pub cpu: CpuStatistics,
    pub memory: MemoryStatistics,
    pub pids: PidsStatistics,
    pub block_io: BlockIoStatistics,
    /// By page size, such as `2MB`.
    pub hugepages: BTreeMap<String, Usage>,
    /// By device.
    pub rdma: BTreeMap<String, configs::RdmaLimit>,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub struct CpuStatistics {
    pub total: u64,
    pub user: u64,
    pub kernel: u64,
    /// Version 1 only, as are the next two.
    pub per_cpu: Vec<u64>,
    pub per_cpu_user: Vec<u64>,
    pub per_cpu_kernel: Vec<u64>,
    /// Periods in which the group ran.
    pub periods: u64,
    /// Those in which its quota was used up.
    pub throttled_periods: u64,
    pub throttled_time: u64,
    /// Version 2 only.
    pub pressure: Option<Pressure>,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryStatistics {
    /// Memory.
    pub usage: Usage,
    /// Memory and swap together, as version 1 counts.
    pub swap: Usage,
    /// The kernel's part (version 1 only).
    pub kernel: Usage,
    /// TCP buffers (version 1 only).
    pub kernel_tcp: Usage,
    /// Of files.
    pub cache: u64,
    /// `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    /// Version 2 only.
    pub pressure: Option<Pressure>,
}

impl MemoryStatistics {
    /// What docker shows: without the part of the page cache that can go at once.
    pub fn without_inactive_files(&self) -> u64 {
        let inactive =
            self.raw.get("total_inactive_file").or_else(|| self.raw.get("inactive_file"));
        self.usage.current.saturating_sub(inactive.copied().unwrap_or_default())
    }
}

/// How much of something is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Now.
    pub current: u64,
    /// At its highest.
    pub peak: u64,
    /// The limit; `u64::MAX` is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStatistics {
    /// Now.
    pub current: u64,
    /// `u64::MAX` is none.
    pub limit: u64,
}

/// Counters by device and operation, named as version 1's files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in cgroup-v1/blkio-controller.rst")]
pub struct BlockIoStatistics {
    pub service_bytes: Vec<BlockIoCount>,
    pub serviced: Vec<BlockIoCount>,
    pub queued: Vec<BlockIoCount>,
    pub service_time: Vec<BlockIoCount>,
    pub wait_time: Vec<BlockIoCount>,
    pub merged: Vec<BlockIoCount>,
    pub time: Vec<BlockIoCount>,
    pub sectors: Vec<BlockIoCount>,
    /// Version 2 only.
    pub pressure: Option<Pressure>,
}

/// One counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub struct BlockIoCount {
    pub major: u32,
    pub minor: u32,
    /// Such as `Read`; empty where there is only one.
    pub operation: String,
    pub value: u64,
}

/// How much time was lost waiting, psi.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// By some tasks.
    pub some: Stall,
    /// By all at once.
    pub full: Stall,
}

/// Percentages over the last seconds, and microseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in the pressure files")]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

pub(super) fn statistics(place: &Place) -> Result<Statistics> {
    if place.is_unified() { v2::statistics(place) } else { v1::statistics(place) }
}

/// A counter's file; an empty text when the kernel does not count it.
fn text(directory: &Path, file: &str) -> Result<String> {
    absent_is_default(directory, file, try_read(directory, file))
}

fn count(directory: &Path, file: &str) -> Result<u64> {
    absent_is_default(directory, file, try_read_number(directory, file))
}

fn absent_is_default<T: Default>(
    directory: &Path,
    file: &str,
    result: Result<T, Errno>,
) -> Result<T> {
    match result {
        // ENODEV: the cgroup was removed while the file was open.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(T::default()),
        other => other.map_err(|errno| {
            Error::call(format!("read {}", directory.join(file).display()), errno)
        }),
    }
}

/// Lines of a name and a number.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// `8:0`
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The page sizes of this machine, as the cgroup files name them.
fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        large if large >= 1 << 20 => format!("{}GB", large >> 20),
        medium if medium >= 1 << 10 => format!("{}MB", medium >> 10),
        small => format!("{small}KB"),
    }
}

/// `rdma.current`, the same in both versions.
fn rdma(text: &str) -> BTreeMap<String, configs::RdmaLimit> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let device = words.next()?.to_owned();
            let mut used = configs::RdmaLimit::default();
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key {
                    "hca_handle" => used.handles = value.parse().ok(),
                    "hca_object" => used.objects = value.parse().ok(),
                    _ => {}
                }
            }
            Some((device, used))
        })
        .collect()
}

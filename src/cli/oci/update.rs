//! `update`: change limits of a container while it runs.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use configs::{
    BlockIo, Cpu, Memory, Resources,
    flags::{Bytes, MemoryLimit, TaskLimit},
    oci,
};
use runtime::ContainerId;

use super::{bundle::warn, load};
use crate::cli::{Globals, Verb};

#[derive(Args, Debug)]
pub(super) struct Update {
    /// Read all limits from this file, or from standard input (-); other flags are ignored then
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// Microseconds a quota is for
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,

    /// Microseconds a quota may be exceeded by
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,

    /// Weight among other containers, 1024 is normal
    #[arg(long, alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<u64>,

    /// Microseconds a realtime runtime is for
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,

    /// Microseconds of realtime in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,

    /// Processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Run only when nothing else wants to
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,

    /// Limit of memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<MemoryLimit>,

    /// Memory to keep under pressure
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<Bytes>,

    /// Limit of memory and swap together; -1 is none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<MemoryLimit>,

    /// Number of tasks; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<TaskLimit>,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,
}

impl Verb for Update {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let container = load(globals, &self.id)?;
        let resources = match &self.resources {
            Some(file) => from_file(file)?,
            None => self.flags(),
        };
        container.update(&resources)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn from_file(file: &Path) -> anyhow::Result<Resources> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let lowered = oci::parse_resources(&text).with_context(|| file.display().to_string())?;
    Ok(warn(lowered))
}

impl Update {
    /// Zero has always meant "leave it" here.
    fn flags(self) -> Resources {
        Resources {
            memory: Memory {
                limit: self.memory.map(|limit| limit.0).filter(|limit| *limit != 0),
                reservation: (self.memory_reservation)
                    .and_then(|size| i64::try_from(size.0).ok())
                    .filter(|size| *size != 0),
                swap: self.memory_swap.map(|limit| limit.0).filter(|limit| *limit != 0),
                ..Memory::default()
            },
            cpu: Cpu {
                shares: self.cpu_share.filter(|shares| *shares != 0),
                quota: self.cpu_quota.filter(|quota| *quota != 0),
                burst: self.cpu_burst,
                period: self.cpu_period.filter(|period| *period != 0),
                realtime_runtime: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
                realtime_period: self.cpu_rt_period.filter(|period| *period != 0),
                cpus: self.cpuset_cpus.filter(|list| !list.is_empty()),
                mems: self.cpuset_mems.filter(|list| !list.is_empty()),
                idle: self.cpu_idle,
            },
            pids: self.pids_limit.map(|limit| limit.0),
            block_io: BlockIo {
                weight: self.blkio_weight.filter(|weight| *weight != 0),
                ..BlockIo::default()
            },
            ..Resources::default()
        }
    }
}

//! The flags that describe a container, with docker's names: shared by the commands that make one.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;
use configs::{
    Rlimit, Signal,
    flags::{
        Bytes, Cpus, DeviceFlag, DeviceRuleFlag, Dns, HostEntry, MemoryLimit, MountFlag,
        NamespaceChoice, SecurityOption, TaskLimit, TmpfsFlag, VolumeFlag,
    },
    image::{Limits, Overrides},
};

use crate::{request::Request, streams::Stream};

// What kind of container is wanted. (A doc comment would become the command's description.)
#[derive(Args, Clone, Debug)]
pub(super) struct ContainerArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,

    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Pass on only this stream: stdin, stdout, stderr (all, when none is named)
    #[arg(short, long, value_name = "STREAM", ignore_case = true, hide_possible_values = true)]
    pub(super) attach: Vec<Stream>,

    /// Set a variable of the environment; without a value, pass ours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// User to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Add a group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,

    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// NIS domain name of the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,

    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,

    /// Run a small init that reaps orphans and forwards signals
    #[arg(long)]
    init: bool,

    /// Show a host directory, a named volume or an empty directory in the container
    #[arg(short, long, value_name = "[SOURCE:]DESTINATION[:OPTIONS]")]
    volume: Vec<VolumeFlag>,

    /// Mount something: type=bind|volume|tmpfs,source=…,destination=…
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<MountFlag>,

    /// Mount an empty tmpfs
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    tmpfs: Vec<TmpfsFlag>,

    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<Bytes>,

    /// Give the container a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    device: Vec<DeviceFlag>,

    /// Add a rule to the device policy
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<DeviceRuleFlag>,

    /// Add a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,

    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,

    /// Give all capabilities and devices, and take no precautions
    #[arg(long)]
    privileged: bool,

    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE …
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,

    /// Network: none or private (only loopback), host, ns:PATH
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,

    /// PID namespace: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    pid: Option<NamespaceChoice>,

    /// IPC namespace: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    ipc: Option<NamespaceChoice>,

    /// UTS namespace: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    uts: Option<NamespaceChoice>,

    /// Cgroup namespace: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<NamespaceChoice>,

    /// Put the container's cgroup below this one
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<PathBuf>,

    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<HostEntry>,

    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,

    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Resolver option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,

    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<Bytes>,

    /// Limit of memory and swap together; -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<MemoryLimit>,

    /// Memory kept when memory gets short
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<Bytes>,

    /// How readily its memory is swapped, 0 to 100
    #[arg(long, value_name = "NUMBER")]
    memory_swappiness: Option<u64>,

    /// Do not kill it when its memory limit is reached
    #[arg(long)]
    oom_kill_disable: bool,

    /// How readily the kernel kills it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,

    /// How many processors' worth of time it may use
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,

    /// Relative weight of its processor time; 1024 is normal
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,

    /// Period of the processor time limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// Processor time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// Processors it may run on, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// How many processes and threads it may have; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<TaskLimit>,

    /// Relative weight of its disk access, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// Limit per process, such as nofile=1024:2048
    #[arg(long, value_name = "TYPE=SOFT[:HARD]")]
    ulimit: Vec<Rlimit>,

    /// Kernel setting of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,

    /// Label of the container
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,

    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// Annotation of the container, for hooks and engines
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,

    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,

    /// Print help
    // `-h` is docker's --hostname.
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
}

impl ContainerArgs {
    /// What was typed, as a request that still has to be completed from the host.
    pub(super) fn request(self, args: Vec<String>) -> anyhow::Result<Request> {
        let network = self.network.as_deref().map(network).transpose()?.unwrap_or_default();
        let mounts = (self.volume.into_iter().map(|flag| MountFlag::Volume(flag.0)))
            .chain(self.mount)
            .chain(self.tmpfs.into_iter().map(|flag| MountFlag::Tmpfs(flag.0)));
        let overrides = Overrides {
            args,
            entrypoint: self.entrypoint.map(|program| vec![program]),
            workdir: self.workdir,
            user: self.user,
            group_add: self.group_add,
            hostname: self.hostname,
            domainname: self.domainname,
            terminal: self.tty,
            init: self.init,
            privileged: self.privileged,
            read_only: self.read_only,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            security: self.security_opt,
            network,
            pid: self.pid.unwrap_or_default(),
            ipc: self.ipc.unwrap_or_default(),
            uts: self.uts.unwrap_or_default(),
            cgroup_namespace: self.cgroupns.unwrap_or_default(),
            limits: Limits {
                memory: self.memory,
                memory_swap: self.memory_swap,
                memory_reservation: self.memory_reservation,
                memory_swappiness: self.memory_swappiness,
                oom_kill_disable: self.oom_kill_disable,
                oom_score_adj: self.oom_score_adj,
                cpus: self.cpus,
                cpu_shares: self.cpu_shares,
                cpu_period: self.cpu_period,
                cpu_quota: self.cpu_quota,
                cpuset_cpus: self.cpuset_cpus,
                cpuset_mems: self.cpuset_mems,
                pids: self.pids_limit,
                blkio_weight: self.blkio_weight,
            },
            ulimits: self.ulimit,
            mounts: mounts.collect(),
            shm_size: self.shm_size,
            device_rules: self.device_cgroup_rule,
            sysctls: self.sysctl,
            annotations: self.annotation,
            labels: self.label,
            stop_signal: self.stop_signal,
            ..Overrides::default()
        };
        Ok(Request {
            overrides,
            // Naming standard input is asking for it.
            interactive: self.interactive || self.attach.contains(&Stream::Stdin),
            attach: self.attach,
            env: self.env,
            env_files: self.env_file,
            label_files: self.label_file,
            devices: self.device,
            cgroup_parent: self.cgroup_parent,
            hosts: self.add_host,
            dns: Dns { servers: self.dns, search: self.dns_search, options: self.dns_option },
        })
    }
}

/// Networks with a name or an address of their own do not exist yet; saying so beats a container that
/// quietly has none.
fn network(mode: &str) -> anyhow::Result<NamespaceChoice> {
    mode.parse().map_err(|_| {
        crate::report::advise(
            format!("--network {mode}: there are no named or bridged networks yet"),
            "use --network host for the host's network, or none for only loopback",
        )
    })
}

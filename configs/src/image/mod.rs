//! An image's configuration and what the command line asked → [`Spec`], with docker's meaning.

mod limits;
mod mounts;
mod process;
mod security;

use std::{collections::BTreeMap, path::PathBuf};

use oci_spec::image::{Config, ImageConfiguration};

use crate::{
    CgroupDriver, IdMaps, Lowered, Namespace, NamespaceKind, Namespaces, Problems, Process, Rlimit,
    Signal, Size, Spec, check, defaults,
    flags::{
        Bytes, Cpus, DeviceRuleFlag, HostDevice, MemoryLimit, MountFlag, NamespaceChoice,
        SecurityOption, TaskLimit,
    },
    problems::Findings,
};

/// What a command line asked for. `Default` is a command line without flags.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The command; empty takes the image's.
    pub args: Vec<String>,
    /// Replaces the image's entrypoint, and drops its command.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, or `NAME` to unset; later wins. Files' lines come before flags.
    pub env: Vec<String>,
    /// Working directory.
    pub workdir: Option<PathBuf>,
    /// `USER[:GROUP]`
    pub user: Option<String>,
    /// Groups to add, by name or number.
    pub group_add: Vec<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Allocate a pseudo-terminal.
    pub terminal: bool,
    /// Its first size.
    pub console_size: Option<Size>,
    /// Run a small init as process 1: the caller's business, no part of a Spec.
    pub init: bool,
    /// Every capability and device, no filter and no masks.
    pub privileged: bool,
    /// The root is read-only.
    pub read_only: bool,
    /// With or without `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    /// See `cap_add`.
    pub cap_drop: Vec<String>,
    /// In order; later wins.
    pub security: Vec<SecurityOption>,
    /// What the file of the last `seccomp=FILE` holds.
    pub seccomp_profile: Option<String>,
    /// AppArmor profile when no option names one (`docker-default` where it is loaded).
    pub default_apparmor: Option<String>,
    /// `--network`
    pub network: NamespaceChoice,
    /// `--pid`
    pub pid: NamespaceChoice,
    /// `--ipc`
    pub ipc: NamespaceChoice,
    /// `--uts`
    pub uts: NamespaceChoice,
    /// `--cgroupns`
    pub cgroup_namespace: NamespaceChoice,
    /// A user namespace with these maps; `None` shares the caller's.
    pub user_namespace: Option<IdMaps>,
    /// Resource limits.
    pub limits: Limits,
    /// Resource limits of each process.
    pub ulimits: Vec<Rlimit>,
    /// `-v`, `--mount`, `--tmpfs`. Named volumes have been given a path.
    pub mounts: Vec<MountFlag>,
    /// Relative host paths begin here.
    pub host_directory: PathBuf,
    /// Size of `/dev/shm`.
    pub shm_size: Option<Bytes>,
    /// `--device`; with `privileged`, every device of the host.
    pub devices: Vec<HostDevice>,
    /// `--device-cgroup-rule`
    pub device_rules: Vec<DeviceRuleFlag>,
    /// `KEY=value`
    pub sysctls: Vec<String>,
    /// `KEY=value`
    pub annotations: Vec<String>,
    /// `KEY=value`, added to the image's.
    pub labels: Vec<String>,
    /// Replaces the image's.
    pub stop_signal: Option<Signal>,
    /// Where the container is accounted; `None` leaves it in the caller's cgroup.
    pub cgroup: Option<(PathBuf, CgroupDriver)>,
}

/// Limits, by docker's flags.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named as docker's flags")]
pub struct Limits {
    pub memory: Option<Bytes>,
    pub memory_swap: Option<MemoryLimit>,
    pub memory_reservation: Option<Bytes>,
    pub memory_swappiness: Option<u64>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: Option<i32>,
    pub cpus: Option<Cpus>,
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub pids: Option<TaskLimit>,
    pub blkio_weight: Option<u16>,
}

/// A container made of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Everything but `root.path` or `root.overlay`, which the caller knows.
    pub spec: Spec,
    /// What `stop` sends.
    pub stop_signal: Signal,
    /// The image's labels and the command line's: shown, never obeyed (D-12).
    pub labels: BTreeMap<String, String>,
}

/// Lowers an image and a command line; without an image, the command line alone.
pub fn lower(
    image: Option<&ImageConfiguration>,
    asked: &Overrides,
) -> Result<Lowered<Container>, Problems> {
    let config = image.and_then(|image| image.config().as_ref());
    let mut findings = Findings::default();
    let spec = spec(config, asked, &mut findings);
    check::check(&spec, &mut findings);
    let stop_signal = stop_signal(config, asked, &mut findings);
    let labels = labels(config, asked, &mut findings);
    findings.finish(Container { spec, stop_signal, labels })
}

/// Lowers another process for a container that runs, from its first process and a command line.
pub fn lower_exec(first: &Process, asked: &Overrides) -> Result<Process, Problems> {
    let mut findings = Findings::default();
    let process = process::lower_exec(first, asked, &mut findings);
    findings.finish(process).map(|lowered| lowered.value)
}

fn spec(config: Option<&Config>, asked: &Overrides, findings: &mut Findings) -> Spec {
    let mut spec = Spec {
        process: Some(process::lower(config, asked, findings)),
        hostname: asked.hostname.clone(),
        domainname: asked.domainname.clone(),
        namespaces: namespaces(asked),
        id_maps: asked.user_namespace.clone().unwrap_or_default(),
        mounts: mounts::lower(config, asked, findings),
        devices: defaults::devices(),
        dev_links: true,
        sysctl: sysctl(asked, findings),
        annotations: pairs("--annotation", &asked.annotations, findings).collect(),
        ..Spec::default()
    };
    spec.root.read_only = asked.read_only;
    spec.devices.extend(asked.devices.iter().map(|device| device.node.clone()));
    defaults::leave_hosts_dev_alone(&mut spec);
    defaults::leave_out_unmapped_tty_group(&mut spec);
    defaults::show_hosts_sys(&mut spec);
    spec.cgroup = limits::lower(asked, findings);
    security::apply(&mut spec, asked, findings);
    spec
}

fn namespaces(asked: &Overrides) -> Namespaces {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let private = NamespaceChoice::Private;
    let user = asked.user_namespace.as_ref().map_or(NamespaceChoice::Host, |_| private.clone());
    let mut namespaces = Namespaces::default();
    for (kind, choice) in [
        (User, &user),
        (Cgroup, &asked.cgroup_namespace),
        (Ipc, &asked.ipc),
        (Uts, &asked.uts),
        (Network, &asked.network),
        (Pid, &asked.pid),
        (Mount, &private),
    ] {
        let join = match choice {
            NamespaceChoice::Host => continue,
            NamespaceChoice::Private => None,
            NamespaceChoice::Path(path) => Some(path.clone()),
        };
        // Cannot be a duplicate: the kinds above differ.
        let _ = namespaces.insert(Namespace { kind, join });
    }
    namespaces
}

fn sysctl(asked: &Overrides, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut sysctl = BTreeMap::new();
    if asked.network == NamespaceChoice::Private {
        // docker's two: any user may bind low ports and ping, since only the container is affected.
        sysctl.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        if asked.user_namespace.is_none() {
            let everybody = "0 2147483647".to_owned();
            sysctl.insert("net.ipv4.ping_group_range".to_owned(), everybody);
        }
    }
    sysctl.extend(
        pairs("--sysctl", &asked.sysctls, findings)
            .map(|(key, value)| (check::dotted_sysctl(&key), value)),
    );
    sysctl
}

/// `KEY=value` flags.
fn pairs<'a>(
    flag: &'static str,
    items: &'a [String],
    findings: &'a mut Findings,
) -> impl Iterator<Item = (String, String)> + 'a {
    items.iter().filter_map(move |item| match item.split_once('=') {
        Some(("", _)) => {
            findings.problem(flag, format_args!("{item:?} has no key"));
            None
        }
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        // docker allows a label without a value.
        None if flag == "--label" || flag == "--annotation" => Some((item.clone(), String::new())),
        None => {
            findings.problem(flag, format_args!("{item:?} is not KEY=value"));
            None
        }
    })
}

fn labels(
    config: Option<&Config>,
    asked: &Overrides,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let image = config.and_then(|config| config.labels().clone()).unwrap_or_default();
    image.into_iter().chain(pairs("--label", &asked.labels, findings)).collect()
}

fn stop_signal(config: Option<&Config>, asked: &Overrides, findings: &mut Findings) -> Signal {
    if let Some(signal) = asked.stop_signal {
        return signal;
    }
    match config.and_then(|config| config.stop_signal().as_deref()) {
        None | Some("") => Signal::TERM,
        Some(name) => name.parse().unwrap_or_else(|error| {
            // An image's word is no reason to refuse a container that may never be stopped.
            findings.warn("image: StopSignal", error);
            Signal::TERM
        }),
    }
}

#[cfg(test)]
mod tests;

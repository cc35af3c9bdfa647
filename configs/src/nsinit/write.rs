//! [`Spec`] → container.json of the flat generation.

use std::path::Path;

use super::{
    document::{
        Cgroup, Command, Device, Document, HugepageLimit, IdMap, Mount, Namespace, Network,
        Priority, Rlimit, Route,
    },
    mounts::FLAGS,
};
use crate::{
    BlockThrottle, Capability, DeviceKind, DeviceRule, Hook, Hooks, Interface, Lowered,
    MountSource, Problems, Propagation, Spec, UserId, capability, defaults, options,
    problems::Findings,
};

/// The document that lowers into this Spec. What the format cannot say is a warning each.
pub fn write(spec: &Spec) -> Result<Lowered<Document>, Problems> {
    let mut findings = Findings::default();
    unsayable(spec, &mut findings);
    let process = spec.process.clone().unwrap_or_default();
    let names = capability::in_mask(process.capabilities.bounding);
    let document = Document {
        no_pivot_root: spec.no_pivot,
        parent_death_signal: spec.parent_death_signal,
        rootfs: text(&spec.root.path),
        readonlyfs: spec.root.read_only,
        privatefs: spec.root.propagation == Some(Propagation::Private),
        mounts: filled(spec.mounts.iter().map(|it| mount(it, &mut findings)).collect()),
        devices: filled(spec.devices.iter().map(node).collect()),
        mount_label: spec.mount_label.clone().unwrap_or_default(),
        hostname: spec.hostname.clone().unwrap_or_default(),
        namespaces: filled(spec.namespaces.iter().map(namespace).collect()),
        capabilities: filled(names.filter_map(Capability::short_name).map(str::to_owned).collect()),
        networks: filled(spec.interfaces.iter().map(network).collect()),
        routes: filled(spec.routes.iter().map(route).collect()),
        cgroups: spec.cgroup.as_ref().map(cgroup),
        apparmor_profile: process.apparmor_profile.unwrap_or_default(),
        process_label: process.selinux_label.unwrap_or_default(),
        rlimits: filled(
            (process.rlimits.iter())
                .map(|it| Rlimit { r#type: it.resource.0, hard: it.hard, soft: it.soft })
                .collect(),
        ),
        additional_groups: filled(process.user.groups.additional.iter().map(id).collect()),
        uid_mappings: filled(id_maps(&spec.id_maps.uids)),
        gid_mappings: filled(id_maps(&spec.id_maps.gids)),
        mask_paths: filled(spec.masked_paths.iter().map(|it| text(it)).collect()),
        readonly_paths: filled(spec.read_only_paths.iter().map(|it| text(it)).collect()),
        system_properties: (!spec.sysctl.is_empty()).then(|| spec.sysctl.clone()),
        ..Document::default()
    };
    findings.finish(document)
}

fn unsayable(spec: &Spec, findings: &mut Findings) {
    let process = spec.process.as_ref();
    let sets = process.map(|process| process.capabilities).unwrap_or_default();
    let rows = [
        (process.is_none_or(|it| it.args.is_empty()), "process.args", "say it to `nsinit exec`"),
        (spec.hooks == Hooks::default(), "hooks", "nothing takes their place"),
        (spec.seccomp.is_none(), "linux.seccomp", "choose `nsinit exec --security`"),
        (spec.annotations.is_empty(), "annotations", "nothing takes their place"),
        (sets.ambient == 0, "process.capabilities.ambient", "nothing takes its place"),
        (spec.personality.is_none(), "linux.personality", "nothing takes its place"),
        (spec.net_devices.is_empty(), "linux.netDevices", "nothing takes their place"),
        (spec.domainname.is_none(), "domainname", "nothing takes its place"),
    ];
    for (fine, place, advice) in rows {
        if !fine {
            findings.warn(place, format_args!("container.json cannot say this: {advice}"));
        }
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn id(id: &UserId) -> String {
    match id {
        UserId::Number(number) => number.to_string(),
        UserId::Name(name) => name.clone(),
    }
}

fn mount(mount: &crate::Mount, findings: &mut Findings) -> Mount {
    let place = text(&mount.destination);
    let mut data = Vec::new();
    let mut flags = bits(options::attribute_words(mount.set, mount.clear, false));
    let (device, source) = match &mount.source {
        MountSource::Bind { path, recursive } => {
            flags |= 1 << 12 | if *recursive { 1 << 14 } else { 0 };
            ("bind".to_owned(), text(path))
        }
        MountSource::Filesystem(filesystem) => {
            let known = ["proc", "sysfs", "mqueue", "tmpfs", "devpts"];
            if !known.contains(&filesystem.kind.as_str()) {
                let what = format_args!("{place}: container.json has no {}", filesystem.kind);
                findings.warn("mounts", what);
            }
            flags |= bits(options::superblock_words(filesystem.flags).map(str::to_owned));
            data.extend(filesystem.parameters.iter().map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            }));
            (filesystem.kind.clone(), filesystem.source.clone())
        }
        MountSource::Cgroup => ("cgroup".to_owned(), String::new()),
        MountSource::Remount => {
            flags |= 1 << 5 | 1 << 12;
            ("bind".to_owned(), String::new())
        }
    };
    if let Some((propagation, recursive)) = mount.propagation {
        flags |= bits([options::propagation_word(propagation, false)].into_iter());
        flags |= if recursive { 1 << 14 } else { 0 };
    }
    let recursive_words = !mount.set_recursive.is_empty() || !mount.clear_recursive.is_empty();
    if recursive_words || mount.id_map.is_some() || mount.copy_up {
        findings.warn("mounts", format_args!("{place}: options container.json cannot say"));
    }
    Mount {
        source,
        destination: place,
        device,
        flags,
        data: data.join(","),
        relabel: String::new(),
        premount_cmds: filled(mount.before.iter().map(command).collect()),
        postmount_cmds: filled(mount.after.iter().map(command).collect()),
    }
}

fn bits(words: impl Iterator<Item = String>) -> u64 {
    words.fold(0, |bits, word| bits | FLAGS.iter().find(|row| row.1 == word).map_or(0, |row| row.0))
}

fn command(hook: &Hook) -> Command {
    Command {
        path: text(&hook.path),
        args: filled(hook.args.iter().skip(1).cloned().collect()),
        env: hook.env.clone().and_then(filled),
        dir: hook.dir.as_deref().map(text).unwrap_or_default(),
    }
}

fn letter(kind: Option<DeviceKind>) -> u32 {
    u32::from(match kind {
        Some(DeviceKind::Character) => 'c',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Fifo) => 'p',
        None => 'a',
    })
}

fn node(device: &crate::Device) -> Device {
    Device {
        r#type: letter(Some(device.kind)),
        path: text(&device.path),
        major: device.major.into(),
        minor: device.minor.into(),
        permissions: "rwm".to_owned(),
        file_mode: device.mode,
        uid: device.uid,
        gid: device.gid,
    }
}

fn rule(rule: &DeviceRule) -> Device {
    let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    Device {
        r#type: letter(rule.kind),
        major: rule.major.map_or(-1, i64::from),
        minor: rule.minor.map_or(-1, i64::from),
        permissions: letters.iter().filter(|row| row.0).map(|row| row.1).collect(),
        ..Device::default()
    }
}

fn namespace(namespace: &crate::Namespace) -> Namespace {
    Namespace {
        r#type: namespace.kind.nsinit_name().to_owned(),
        path: namespace.join.as_deref().map(text).unwrap_or_default(),
    }
}

fn network(interface: &Interface) -> Network {
    let family = |four: bool| {
        let mut networks = interface.addresses.iter();
        networks.find(|it| it.address.is_ipv4() == four).map(cidr).unwrap_or_default()
    };
    let gateway = |four: bool| {
        let mut gateways = interface.gateways.iter();
        gateways.find(|it| it.is_ipv4() == four).map(ToString::to_string).unwrap_or_default()
    };
    let mac = interface.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    Network {
        r#type: "veth".to_owned(),
        name: interface.name.clone(),
        bridge: interface.bridge.name.clone(),
        mac_address: mac.unwrap_or_default(),
        address: family(true),
        gateway: gateway(true),
        ipv6_address: family(false),
        ipv6_gateway: gateway(false),
        mtu: interface.mtu.unwrap_or_default(),
        txqueuelen: interface.tx_queue_length.unwrap_or_default(),
        host_interface_name: interface.host_name.clone(),
        hairpin_mode: interface.bridge.hairpin,
    }
}

fn cidr(network: &crate::Network) -> String {
    format!("{}/{}", network.address, network.prefix)
}

fn route(route: &crate::Route) -> Route {
    Route {
        destination: route.destination.as_ref().map(cidr).unwrap_or_default(),
        source: route.source.map(|it| it.to_string()).unwrap_or_default(),
        gateway: route.gateway.map(|it| it.to_string()).unwrap_or_default(),
        interface_name: route.interface.clone().unwrap_or_default(),
    }
}

fn id_maps(maps: &[crate::IdMap]) -> Vec<IdMap> {
    let write = |map: &crate::IdMap| IdMap {
        container_id: map.container,
        host_id: map.host,
        size: map.size,
    };
    maps.iter().map(write).collect()
}

fn cgroup(cgroup: &crate::Cgroup) -> Cgroup {
    let resources = &cgroup.resources;
    let (memory, cpu, io) = (&resources.memory, &resources.cpu, &resources.block_io);
    let signed = |number: Option<u64>| {
        number.and_then(|number| i64::try_from(number).ok()).unwrap_or_default()
    };
    let throttle = |list: &[BlockThrottle]| {
        list.first().map(|it| format!("{}:{} {}", it.major, it.minor, it.rate)).unwrap_or_default()
    };
    let file_name = cgroup.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let parent = cgroup.path.parent().map(text).unwrap_or_default();
    let allow_all = resources.devices.first() == Some(&defaults::every_device(true));
    let rules = filled(resources.devices.iter().skip(1).map(rule).collect());
    let (allowed_devices, denied_devices) = if allow_all { (None, rules) } else { (rules, None) };
    Cgroup {
        name: file_name.unwrap_or_default(),
        parent: parent.trim_matches('/').to_owned(),
        allow_all_devices: allow_all,
        allowed_devices,
        denied_devices,
        memory: memory.limit.unwrap_or_default(),
        memory_reservation: memory.reservation.unwrap_or_default(),
        memory_swap: memory.swap.unwrap_or_default(),
        kernel_memory: memory.kernel.unwrap_or_default(),
        cpu_shares: signed(cpu.shares),
        cpu_quota: cpu.quota.unwrap_or_default(),
        cpu_period: signed(cpu.period),
        cpuset_cpus: cpu.cpus.clone().unwrap_or_default(),
        cpuset_mems: cpu.mems.clone().unwrap_or_default(),
        blkio_throttle_read_bps_device: throttle(&io.read_bps),
        blkio_throttle_write_bps_device: throttle(&io.write_bps),
        blkio_throttle_read_iops_device: throttle(&io.read_iops),
        blkio_throttle_write_iops_device: throttle(&io.write_iops),
        blkio_weight: io.weight.map(i64::from).unwrap_or_default(),
        blkio_weight_device: (io.weight_devices.first())
            .and_then(|it| Some(format!("{}:{} {}", it.major, it.minor, it.weight?)))
            .unwrap_or_default(),
        hugetlb_limit: filled(
            (resources.hugepages.iter())
                .map(|it| HugepageLimit { page_size: it.page_size.clone(), limit: it.limit })
                .collect(),
        ),
        oom_kill_disable: memory.disable_oom_killer == Some(true),
        memory_swappiness: memory.swappiness.map_or(-1, |it| i64::try_from(it).unwrap_or(-1)),
        net_prio_ifpriomap: filled(
            (resources.network.priorities.iter())
                .map(|(interface, priority)| Priority {
                    interface: interface.clone(),
                    priority: i64::from(*priority),
                })
                .collect(),
        ),
        net_cls_classid: (resources.network.class_id).map(|it| it.to_string()).unwrap_or_default(),
        ..Cgroup::default()
    }
}

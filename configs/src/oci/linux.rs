//! `linux`.

use super::{Bundle, document, filled, process::number_list, resources, seccomp, words};
use crate::{
    Device, DeviceKind, IdMap, IdMaps, IntelRdt, MemoryPolicy, Namespace, NamespaceKind,
    Namespaces, NetDevice, Personality, Spec, TimeOffset, TimeOffsets, check, defaults, options,
    problems::Findings,
};

pub(super) fn lower(
    document: document::Linux,
    bundle: Bundle<'_>,
    spec: &mut Spec,
    findings: &mut Findings,
) {
    spec.namespaces = namespaces(document.namespaces.unwrap_or_default(), findings);
    spec.id_maps = IdMaps {
        uids: id_maps(document.uid_mappings.unwrap_or_default()),
        gids: id_maps(document.gid_mappings.unwrap_or_default()),
    };
    spec.devices = devices(document.devices.unwrap_or_default(), findings);
    spec.dev_links = true;
    defaults::leave_hosts_dev_alone(spec);
    let sysctl = document.sysctl.unwrap_or_default();
    spec.sysctl =
        sysctl.into_iter().map(|(key, value)| (check::dotted_sysctl(&key), value)).collect();

    let mut cgroup = super::cgroup(document.cgroups_path, bundle, findings);
    let asked = document.resources.unwrap_or_default();
    cgroup.resources = resources::lower(asked, "linux.resources.", findings);
    cgroup.resources.devices = resources::policy(cgroup.resources.devices);
    spec.cgroup = Some(cgroup);

    spec.seccomp = document.seccomp.and_then(|policy| seccomp::lower(policy, findings));
    spec.root.propagation = filled(document.rootfs_propagation).and_then(|word| {
        let known = options::propagation(&word).map(|found| found.0);
        findings.take("linux.rootfsPropagation", known.ok_or("is no propagation"))
    });
    let paths = |list: Option<Vec<String>>| -> Vec<std::path::PathBuf> {
        list.unwrap_or_default().into_iter().map(Into::into).collect()
    };
    spec.masked_paths = paths(document.masked_paths);
    spec.read_only_paths = paths(document.readonly_paths);
    spec.mount_label = filled(document.mount_label);
    spec.net_devices = net_devices(document.net_devices.unwrap_or_default());
    spec.intel_rdt = document.intel_rdt.map(intel_rdt);
    spec.memory_policy = document.memory_policy.and_then(|it| memory_policy(it, findings));
    spec.personality = document.personality.and_then(|it| personality(it, findings));
    spec.time_offsets = time_offsets(document.time_offsets.unwrap_or_default(), findings);
}

fn namespaces(list: Vec<document::Namespace>, findings: &mut Findings) -> Namespaces {
    let mut namespaces = Namespaces::default();
    for (index, entry) in list.into_iter().enumerate() {
        let place = format_args!("linux.namespaces[{index}]");
        let name = entry.r#type.unwrap_or_default();
        let Some(kind) = NamespaceKind::from_oci(&name) else {
            findings.problem(place, format_args!("no such namespace {name:?}"));
            continue;
        };
        let join = filled(entry.path);
        if join.as_ref().is_some_and(|path| !path.starts_with('/')) {
            findings.problem(format_args!("{place}.path"), "is not an absolute path");
        }
        if namespaces.insert(Namespace { kind, join: join.map(Into::into) }).is_err() {
            findings.problem(place, format_args!("there is a {name} namespace already"));
        }
    }
    namespaces
}

pub(super) fn id_maps(maps: Vec<document::IdMapping>) -> Vec<IdMap> {
    let lower = |map: document::IdMapping| IdMap {
        container: map.container_id.unwrap_or_default(),
        host: map.host_id.unwrap_or_default(),
        size: map.size.unwrap_or_default(),
    };
    maps.into_iter().map(lower).collect()
}

/// The document's, over the ones every container has.
fn devices(list: Vec<document::Device>, findings: &mut Findings) -> Vec<Device> {
    let mut devices = defaults::devices();
    for (index, device) in list.into_iter().enumerate() {
        let place = format_args!("linux.devices[{index}]");
        let Some(device) = findings.take(place, self::device(device)) else { continue };
        match devices.iter_mut().find(|known| known.path == device.path) {
            Some(known) => *known = device,
            None => devices.push(device),
        }
    }
    devices
}

fn device(device: document::Device) -> Result<Device, String> {
    let kind = match device.r#type.as_deref().unwrap_or_default() {
        "c" | "u" => DeviceKind::Character,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => return Err(format!("no such device type {other:?}")),
    };
    let number = |number: Option<i64>| match number {
        // A pipe has no number.
        _ if kind == DeviceKind::Fifo => Ok(0),
        Some(number) => u32::try_from(number).map_err(|_| format!("{number} is no device number")),
        None => Err("a device needs a major and a minor number".to_owned()),
    };
    Ok(Device {
        path: device.path.unwrap_or_default().into(),
        kind,
        major: number(device.major)?,
        minor: number(device.minor)?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or_default(),
        gid: device.gid.unwrap_or_default(),
    })
}

fn net_devices(devices: std::collections::BTreeMap<String, document::NetDevice>) -> Vec<NetDevice> {
    let lower = |(host_name, device): (String, document::NetDevice)| {
        let name = filled(device.name).unwrap_or_else(|| host_name.clone());
        NetDevice { host_name, name }
    };
    devices.into_iter().map(lower).collect()
}

fn intel_rdt(rdt: document::IntelRdt) -> IntelRdt {
    // The older two fields are lines of the same file.
    let older = [filled(rdt.l3_cache_schema), filled(rdt.mem_bw_schema)];
    let schemata = rdt.schemata.unwrap_or_default();
    let monitoring = [rdt.enable_monitoring, rdt.enable_cmt, rdt.enable_mbm];
    IntelRdt {
        clos_id: filled(rdt.clos_id),
        schemata: older.into_iter().flatten().chain(schemata).collect(),
        monitoring: monitoring.contains(&Some(true)),
    }
}

fn memory_policy(policy: document::MemoryPolicy, findings: &mut Findings) -> Option<MemoryPolicy> {
    const PLACE: &str = "linux.memoryPolicy";
    let mode = policy.mode.unwrap_or_default();
    let mode = words::number(words::MEMORY_MODES, "mode", &mode);
    let mut mode = findings.take(format_args!("{PLACE}.mode"), mode)?;
    for (index, flag) in policy.flags.unwrap_or_default().iter().enumerate() {
        let bit = words::number(words::MEMORY_FLAGS, "flag", flag);
        mode |= findings.take(format_args!("{PLACE}.flags[{index}]"), bit).unwrap_or_default();
    }
    let nodes = number_list(&policy.nodes.unwrap_or_default());
    let nodes = findings.take(format_args!("{PLACE}.nodes"), nodes)?;
    Some(MemoryPolicy { mode: u32::try_from(mode).ok()?, nodes })
}

fn personality(personality: document::Personality, findings: &mut Findings) -> Option<Personality> {
    const PLACE: &str = "linux.personality";
    if personality.flags.is_some_and(|flags| !flags.is_empty()) {
        findings.problem(format_args!("{PLACE}.flags"), "the specification names none");
    }
    let domain = personality.domain.unwrap_or_default();
    let number = words::number(words::DOMAINS, "domain", &domain);
    findings.take(format_args!("{PLACE}.domain"), number).map(Personality)
}

fn time_offsets(
    offsets: std::collections::BTreeMap<String, document::TimeOffset>,
    findings: &mut Findings,
) -> TimeOffsets {
    let mut lowered = TimeOffsets::default();
    for (clock, offset) in offsets {
        let nanoseconds = offset.nanosecs.unwrap_or_default();
        let offset = Some(TimeOffset { seconds: offset.secs.unwrap_or_default(), nanoseconds });
        match clock.as_str() {
            "monotonic" => lowered.monotonic = offset,
            "boottime" => lowered.boottime = offset,
            _ => {
                let what = format_args!("a time namespace has no clock {clock:?}");
                findings.problem("linux.timeOffsets", what);
            }
        }
        if nanoseconds > 999_999_999 {
            let place = format_args!("linux.timeOffsets.{clock}.nanosecs");
            findings.problem(place, "is more than a second");
        }
    }
    lowered
}

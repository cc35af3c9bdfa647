//! The flat generation (2015): mounts are explicit, and the process comes from the command line.

use std::{collections::BTreeMap, path::Path};

use super::{
    Invocation, cgroup, devices, fields::Fields, json::Json, mounts, network, process, seccomp,
};
use crate::{
    IdMap, IdMaps, Mount, NamespaceKind, Process, Propagation, Root, Spec, check, defaults,
    flags::parse_user, problems::Findings,
};

/// What the old program put before the command line's variables.
const ENVIRONMENT: [&str; 3] = [defaults::PATH, "HOSTNAME=nsinit", "TERM=xterm"];

pub(super) fn lower(fields: &mut Fields, invocation: &Invocation, findings: &mut Findings) -> Spec {
    let root = root(fields, invocation, findings);
    let mounts = mounts(fields, &root.path, findings);
    let nodes = devices::nodes(fields, "devices", devices::FLAT, findings);
    // pivot_root(".", ".") needs no directory in the root, read-only or not.
    fields.text("pivot_dir", findings);
    let mut spec = Spec {
        process: Some(process(fields, invocation, findings)),
        root,
        hostname: fields.filled("hostname", findings),
        domainname: fields.filled("domainname", findings),
        namespaces: process::namespaces(fields, findings),
        id_maps: IdMaps {
            uids: process::id_maps(fields, "uid_mappings", findings),
            gids: process::id_maps(fields, "gid_mappings", findings),
        },
        mounts,
        devices: nodes
            .unwrap_or_else(|| if invocation.strict { Vec::new() } else { defaults::devices() }),
        dev_links: true,
        masked_paths: paths(fields, "mask_paths", findings),
        read_only_paths: paths(fields, "readonly_paths", findings),
        sysctl: properties(fields, findings),
        cgroup: cgroup::lower(fields, invocation, false, findings),
        seccomp: seccomp::lower(fields, findings),
        routes: network::routes(fields, findings),
        mount_label: fields.filled("mount_label", findings),
        no_pivot: fields.flag("no_pivot_root", findings),
        parent_death_signal: fields.narrow("parent_death_signal", findings),
        ..Spec::default()
    };
    spec.interfaces = fields
        .objects("networks", findings, |row, findings| network::interface(row, false, findings))
        .unwrap_or_default();
    own_devices_inside(&mut spec);
    // Its filters were installed with no_new_privs, always.
    if let Some(process) = &mut spec.process {
        process.no_new_privileges = spec.seccomp.is_some();
    }
    if !invocation.strict {
        add_system_mounts(&mut spec, findings);
    }
    spec
}

fn root(fields: &mut Fields, invocation: &Invocation, findings: &mut Findings) -> Root {
    let path = fields.text("rootfs", findings);
    if !path.starts_with('/') && invocation.root.is_none() {
        let what = format_args!("{path} is not an absolute path or is a symlink");
        findings.problem("rootfs", what);
    }
    let private = fields.flag("privatefs", findings);
    Root {
        path: path.into(),
        read_only: fields.flag("readonlyfs", findings),
        propagation: Some(if private { Propagation::Private } else { Propagation::Slave }),
        overlay: None,
    }
}

fn mounts(fields: &mut Fields, root: &Path, findings: &mut Findings) -> Vec<Mount> {
    let lower = |row: &mut Fields, findings: &mut Findings| mounts::flat(row, root, findings);
    fields.objects("mounts", findings, lower).unwrap_or_default()
}

/// The file has the owners of devices as the host numbers them.
fn own_devices_inside(spec: &mut Spec) {
    let inside = |maps: &[IdMap], host: u32| {
        let map =
            maps.iter().find(|map| host.checked_sub(map.host).is_some_and(|at| at < map.size));
        map.map_or(host, |map| map.container.saturating_add(host - map.host))
    };
    if spec.namespaces.creates(NamespaceKind::User) {
        for device in &mut spec.devices {
            device.uid = inside(&spec.id_maps.uids, device.uid);
            device.gid = inside(&spec.id_maps.gids, device.gid);
        }
    }
}

/// The samples of 2.0 lack the system's mounts, because those were still implied when they were made.
fn add_system_mounts(spec: &mut Spec, findings: &mut Findings) {
    let is_there = |mount: &Mount| mount.destination == Path::new("/proc");
    if spec.namespaces.get(NamespaceKind::Mount).is_none() || spec.mounts.iter().any(is_there) {
        return;
    }
    let mut missing = mounts::system(false);
    missing.retain(|mount| !spec.mounts.iter().any(|own| own.destination == mount.destination));
    let names: Vec<String> =
        missing.iter().map(|mount| mount.destination.display().to_string()).collect();
    findings
        .warn("mounts", format_args!("/proc is missing, so these are added: {}", names.join(" ")));
    missing.append(&mut spec.mounts);
    spec.mounts = missing;
}

fn process(fields: &mut Fields, invocation: &Invocation, findings: &mut Findings) -> Process {
    // Root, whether or not the container has a file that names it.
    let mut user = parse_user("").unwrap_or_default();
    user.groups.additional = process::additional_groups(fields, findings);
    let mut process = Process {
        args: invocation.process.args.clone(),
        env: ENVIRONMENT.map(str::to_owned).to_vec(),
        cwd: "/".into(),
        user,
        capabilities: process::capabilities(fields, true, findings),
        rlimits: process::rlimits(fields, findings),
        apparmor_profile: fields.filled("apparmor_profile", findings),
        selinux_label: fields.filled("process_label", findings),
        ..Process::default()
    };
    process::apply(&mut process, &invocation.process, findings);
    process
}

fn paths(
    fields: &mut Fields,
    name: &'static str,
    findings: &mut Findings,
) -> Vec<std::path::PathBuf> {
    let texts = fields.texts(name, findings).unwrap_or_default();
    texts.iter().map(|path| Path::new("/").join(path)).collect()
}

fn properties(fields: &mut Fields, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut sysctl = BTreeMap::new();
    for (key, value) in fields.entries("system_properties", findings) {
        let value = match value {
            Json::Text(text) => text,
            Json::Number(number) => number.to_string(),
            other => {
                let place = format_args!("system_properties.{key}");
                findings.problem(place, format_args!("must be a string, not {}", other.kind()));
                continue;
            }
        };
        sysctl.insert(check::dotted_sysctl(&key), value);
    }
    sysctl
}

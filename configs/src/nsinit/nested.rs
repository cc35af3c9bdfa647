//! The nested generation (2014), in all its spellings: the process is in the file, and the system's
//! mounts are implied.

use std::path::PathBuf;

use super::{
    Invocation, beneath, cgroup, devices, fields::Fields, json::Json, mounts, network, process,
};
use crate::{
    IdMap, IdMaps, Mount, NamespaceKind, Namespaces, Process, Propagation, Root, Spec, defaults,
    flags::parse_user, problems::Findings,
};

/// SIGKILL: containers of 2014 never outlived nsinit.
const PARENT_DEATH_SIGNAL: i32 = 9;

pub(super) fn lower(fields: &mut Fields, invocation: &Invocation, findings: &mut Findings) -> Spec {
    let mut context =
        Fields::of(fields.value("context").unwrap_or(Json::Null), "context", findings);
    let restrict =
        fields.flag("restrict_sys", findings) | context.filled("restrictions", findings).is_some();
    let root = fields.filled("root_fs", findings);
    let files = files(fields, restrict, invocation, findings);
    let namespaces = namespaces(fields, findings);
    let mut spec = Spec {
        process: Some(process(fields, &mut context, invocation, findings)),
        root: Root {
            path: beneath(&invocation.directory, root.as_deref().unwrap_or_default()),
            read_only: files.read_only,
            propagation: Some(if files.no_pivot {
                Propagation::Slave
            } else {
                Propagation::Private
            }),
            overlay: None,
        },
        hostname: fields.filled("hostname", findings),
        domainname: fields.filled("domainname", findings),
        mounts: files.mounts,
        devices: files.devices,
        dev_links: true,
        mount_label: files.label.or_else(|| context.filled("mount_label", findings)),
        no_pivot: files.no_pivot,
        cgroup: cgroup::lower(fields, invocation, true, findings),
        routes: network::routes(fields, findings),
        parent_death_signal: PARENT_DEATH_SIGNAL,
        namespaces,
        ..Spec::default()
    };
    networks(fields, &mut spec, findings);
    map_caller(&mut spec, invocation);
    if restrict {
        spec.masked_paths = vec!["/proc/kcore".into()];
        spec.read_only_paths = super::template::READ_ONLY_PATHS.map(PathBuf::from).to_vec();
    }
    context.finish(findings);
    spec
}

fn process(
    fields: &mut Fields,
    context: &mut Fields,
    invocation: &Invocation,
    findings: &mut Findings,
) -> Process {
    let env = fields.texts("environment", findings).unwrap_or_default();
    for (index, entry) in env.iter().enumerate() {
        if !entry.contains('=') {
            let place = format_args!("environment[{index}]");
            findings.problem(place, format_args!("invalid environment '{entry}'"));
        }
    }
    let user = fields.text("user", findings);
    let mut user = findings.take("user", parse_user(&user)).unwrap_or_default();
    user.groups.additional = process::additional_groups(fields, findings);
    let label = fields.filled("process_label", findings);
    let profile = fields.filled("apparmor_profile", findings);
    let mut process = Process {
        args: invocation.process.args.clone(),
        env,
        cwd: fields.filled("working_dir", findings).unwrap_or_else(|| "/".to_owned()).into(),
        terminal: fields.flag("tty", findings),
        user,
        capabilities: process::capabilities(fields, false, findings),
        rlimits: process::rlimits(fields, findings),
        selinux_label: label.or_else(|| context.filled("process_label", findings)),
        apparmor_profile: profile.or_else(|| context.filled("apparmor_profile", findings)),
        ..Process::default()
    };
    process::apply(&mut process, &invocation.process, findings);
    process
}

/// What `mount_config` holds, or the top level of the oldest files.
struct Files {
    mounts: Vec<Mount>,
    devices: Vec<crate::Device>,
    read_only: bool,
    no_pivot: bool,
    label: Option<String>,
}

fn files(
    fields: &mut Fields,
    restrict: bool,
    invocation: &Invocation,
    findings: &mut Findings,
) -> Files {
    let mut inside = fields.object("mount_config", findings);
    // Without mount_config the old program crashed; the oldest files have the same at the top.
    let holder = inside.as_mut().unwrap_or(fields);
    let mut mounts = mounts::system(restrict);
    mounts.extend(holder.objects("mounts", findings, mounts::nested).unwrap_or_default());
    let nodes = devices::nodes(holder, "device_nodes", devices::NESTED, findings);
    let files = Files {
        mounts,
        devices: nodes
            .unwrap_or_else(|| if invocation.strict { Vec::new() } else { defaults::devices() }),
        read_only: holder.flag("readonly_fs", findings),
        no_pivot: holder.flag("no_pivot_root", findings),
        label: holder.filled("mount_label", findings),
    };
    if let Some(inside) = inside {
        inside.finish(findings);
    }
    files
}

/// The list, and 2014's separate path of an ipc namespace.
fn namespaces(fields: &mut Fields, findings: &mut Findings) -> Namespaces {
    let mut namespaces = process::namespaces(fields, findings);
    if let Some(path) = fields.filled("ipc", findings) {
        namespaces.set(NamespaceKind::Ipc, Some(Some(path.into())));
    }
    namespaces
}

fn networks(fields: &mut Fields, spec: &mut Spec, findings: &mut Findings) {
    let mut join = None;
    let lower = |row: &mut Fields, findings: &mut Findings| {
        // The oldest files join a network by an entry of its own kind.
        if let Some(path) = joined_network(row, findings) {
            join = Some(path);
            return None;
        }
        network::interface(row, true, findings)
    };
    spec.interfaces = fields.objects("networks", findings, lower).unwrap_or_default();
    if let Some(path) = join {
        spec.namespaces.set(NamespaceKind::Network, Some(Some(path)));
    }
}

fn joined_network(row: &mut Fields, findings: &mut Findings) -> Option<PathBuf> {
    if !row.is("type", "netns") {
        return None;
    }
    row.value("type");
    let mut context = row.object("context", findings)?;
    let path = context.filled("nspath", findings);
    if path.as_ref().is_none_or(|path| !path.starts_with('/')) {
        findings.problem(context.place("nspath"), "is not an absolute path");
    }
    context.finish(findings);
    path.map(PathBuf::from)
}

/// A user namespace could be asked for but never worked, since there were no maps.
fn map_caller(spec: &mut Spec, invocation: &Invocation) {
    if spec.namespaces.creates(NamespaceKind::User) {
        let (uid, gid) = invocation.caller;
        let root = |host| vec![IdMap { container: 0, host, size: 1 }];
        spec.id_maps = IdMaps { uids: root(uid), gids: root(gid) };
    }
}

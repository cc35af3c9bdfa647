//! What both generations say about the process: powers, limits, groups, namespaces and maps.

use std::path::PathBuf;

use super::{ProcessFlags, fields::Fields, json::Json};
use crate::{
    Capabilities, Capability, IdMap, Namespace, NamespaceKind, Namespaces, Process, Resource,
    Rlimit, UserId,
    flags::{parse_id, parse_user},
    problems::Findings,
};

/// Puts what the command line says over what the file says. A later value of a variable wins.
pub(super) fn apply(process: &mut Process, flags: &ProcessFlags, findings: &mut Findings) {
    if let Some(user) = &flags.user {
        let groups = std::mem::take(&mut process.user.groups.additional);
        process.user = findings.take("--user", parse_user(user)).unwrap_or_default();
        process.user.groups.additional = groups;
    }
    if let Some(directory) = flags.cwd.as_ref().filter(|directory| !directory.is_empty()) {
        process.cwd = directory.into();
    }
    for entry in &flags.env {
        match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => {
                let same =
                    |known: &String| known.split_once('=').is_some_and(|(known, _)| known == name);
                process.env.retain(|known| !same(known));
                process.env.push(entry.clone());
            }
            _ => findings.problem("--env", format_args!("invalid environment '{entry}'")),
        }
    }
    process.terminal |= flags.tty;
}

/// The old programs' sets: bounding, effective and permitted as listed. They also made them
/// inheritable, which lets a program's file capabilities reach further than the list (CVE-2022-29162).
pub(super) fn capabilities(
    fields: &mut Fields,
    unknown_is_fatal: bool,
    findings: &mut Findings,
) -> Capabilities {
    let mut mask = 0;
    let names = fields.texts("capabilities", findings).unwrap_or_default();
    for (index, name) in names.iter().enumerate() {
        let place = format_args!("capabilities[{index}]");
        match name.parse::<Capability>() {
            Ok(capability) => mask |= capability.bit(),
            Err(_) if unknown_is_fatal => {
                findings.problem(place, format_args!("unknown capability {name:?}"));
            }
            Err(_) => findings.warn(place, format_args!("unknown capability {name:?}: ignored")),
        }
    }
    // 2014's first spelling lists all, and says which are kept.
    let switches = fields.objects("capabilities_mask", findings, |row, findings| {
        let name = row.text("key", findings);
        let kept = row.flag("enabled", findings);
        row.value("value");
        row.value("file");
        let capability = name.parse::<Capability>();
        if capability.is_err() {
            findings.warn(row.place("key"), format_args!("unknown capability {name:?}: ignored"));
        }
        capability.ok().filter(|_| kept)
    });
    let kept = switches.unwrap_or_default().into_iter();
    Capabilities::usable(kept.fold(mask, |mask, capability| mask | capability.bit()))
}

pub(super) fn rlimits(fields: &mut Fields, findings: &mut Findings) -> Vec<Rlimit> {
    let lower = |row: &mut Fields, findings: &mut Findings| {
        let number: u32 = row.narrow("type", findings);
        // Infinity is 2^64-1, which no signed number holds.
        let soft = amount(row, "soft", findings);
        let hard = amount(row, "hard", findings);
        let Some(resource) = Resource::from_number(number) else {
            findings.problem(row.place("type"), format_args!("no such limit {number}"));
            return None;
        };
        Some(Rlimit { resource, soft, hard })
    };
    fields.objects("rlimits", findings, lower).unwrap_or_default()
}

fn amount(row: &mut Fields, name: &'static str, findings: &mut Findings) -> u64 {
    match row.value(name) {
        None => 0,
        Some(Json::Number(number)) if number.as_u64().is_some() => {
            number.as_u64().unwrap_or_default()
        }
        Some(other) => {
            let what = format_args!("must be a whole number of at least 0, not {}", other.kind());
            findings.problem(row.place(name), what);
            0
        }
    }
}

/// Numbers at first, names or numbers later.
pub(super) fn additional_groups(fields: &mut Fields, findings: &mut Findings) -> Vec<UserId> {
    let groups = fields.texts("additional_groups", findings).unwrap_or_default();
    let take = |(index, group): (usize, &String)| {
        findings.take(format_args!("additional_groups[{index}]"), parse_id(group))
    };
    groups.iter().enumerate().filter_map(take).collect()
}

/// Every spelling there was.
pub(super) fn namespaces(fields: &mut Fields, findings: &mut Findings) -> Namespaces {
    let mut namespaces = Namespaces::default();
    let entries = match fields.value("namespaces") {
        // {"NEWPID": true}
        Some(Json::Object(switches)) => switches
            .into_iter()
            .filter(|(_, wanted)| *wanted == Json::Bool(true))
            .map(|(name, _)| (name, None))
            .collect(),
        Some(Json::List(items)) => list(items, findings),
        None => Vec::new(),
        Some(other) => {
            findings.problem("namespaces", format_args!("must be a list, not {}", other.kind()));
            Vec::new()
        }
    };
    for (index, (name, join)) in entries.into_iter().enumerate() {
        let place = format_args!("namespaces[{index}]");
        let Some(kind) = NamespaceKind::from_nsinit(&name) else {
            findings.problem(place, format_args!("no such namespace {name:?}"));
            continue;
        };
        if namespaces.insert(Namespace { kind, join }).is_err() {
            findings.problem(place, format_args!("{name} is there already"));
        }
    }
    namespaces
}

/// `[{"type": "NEWPID", "path": ""}]`, `[{"name": …}]`, `[{"key": …, "enabled": true}]`
fn list(items: Vec<Json>, findings: &mut Findings) -> Vec<(String, Option<PathBuf>)> {
    let mut entries = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut row = Fields::of(item, &format!("namespaces[{index}]"), findings);
        let names = ["type", "name", "key"].map(|key| row.text(key, findings));
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let is_off = row.value("enabled") == Some(Json::Bool(false));
        // An empty path has always meant "create", never "join the current directory".
        let join = row.filled("path", findings);
        if join.as_ref().is_some_and(|path| !path.starts_with('/')) {
            findings.problem(row.place("path"), "is not an absolute path");
        }
        row.value("value");
        row.value("file");
        row.finish(findings);
        if !is_off {
            entries.push((name, join.map(PathBuf::from)));
        }
    }
    entries
}

pub(super) fn id_maps(
    fields: &mut Fields,
    name: &'static str,
    findings: &mut Findings,
) -> Vec<IdMap> {
    let lower = |row: &mut Fields, findings: &mut Findings| {
        Some(IdMap {
            container: row.narrow("container_id", findings),
            host: row.narrow("host_id", findings),
            size: row.narrow("size", findings),
        })
    };
    fields.objects(name, findings, lower).unwrap_or_default()
}

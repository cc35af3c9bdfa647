//! Telling the generations of container.json apart, by their keys and never by a file's name.

use super::json::Json;
use crate::problems::Findings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// 2014, in all its spellings.
    Nested,
    /// 2015, up to the last release before runc.
    Flat,
    /// runc and later.
    Oci,
}

/// Keys that only the nested spellings had, and the few that only very old ones of them had.
const NESTED: [&str; 14] = [
    "mount_config",
    "environment",
    "tty",
    "user",
    "working_dir",
    "restrict_sys",
    "root_fs",
    "readonly_fs",
    "device_nodes",
    "capabilities_mask",
    "context",
    "ipc",
    "network_config",
    "ipc_ns_path",
];

const FLAT: [&str; 13] = [
    "rootfs",
    "readonlyfs",
    "privatefs",
    "devices",
    "mask_paths",
    "readonly_paths",
    "uid_mappings",
    "gid_mappings",
    "system_properties",
    "seccomp",
    "parent_death_signal",
    "pivot_dir",
    "mount_label",
];

impl Generation {
    /// Notes the two keys that conflict, when there are such.
    pub(super) fn of(document: &Json, findings: &mut Findings) -> Self {
        let Json::Object(entries) = document else { return Self::Flat };
        let has = |name: &str| entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if has("ociVersion").is_some() {
            return Self::Oci;
        }
        let first = |names: &[&'static str]| names.iter().copied().find(|name| has(name).is_some());
        let namespaces = has("namespaces").map(|entry| &entry.1);
        let is_map = matches!(namespaces, Some(Json::Object(_)));
        let switches = matches!(namespaces, Some(Json::List(items)) if items.iter().any(is_switch));
        let nested = first(&NESTED)
            .or_else(|| (is_map || switches).then_some("namespaces (of before 2015)"));
        match (nested, first(&FLAT)) {
            (Some(nested), Some(flat)) => {
                let what = "belong to different generations of container.json";
                findings.problem("", format_args!("{nested:?} and {flat:?} {what}"));
                Self::Flat
            }
            (Some(_), None) => Self::Nested,
            // `no_pivot_root` and `mounts` are of both; a file that decides nothing is the later kind.
            (None, _) => Self::Flat,
        }
    }
}

/// `{"key": "NEWNET", "enabled": true}`
fn is_switch(item: &Json) -> bool {
    matches!(item, Json::Object(entries) if entries.iter().any(|(key, _)| key.eq_ignore_ascii_case("enabled")))
}

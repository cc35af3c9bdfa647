//! The document `spec` writes: a container to start from.

use super::{
    document::{Document, IdMapping, Mount, Namespace},
    write::indented,
};
use crate::Problems;

const TEMPLATE: &str = include_str!("template.json");

/// A config.json to start from; with a caller's ids, one that needs no privileges. A cgroup namespace is
/// in it where engines' containers have one, which is not on cgroup version 1.
pub fn template(caller: Option<(u32, u32)>, cgroup_namespace: bool) -> Result<String, Problems> {
    let mut document: Document = super::read(TEMPLATE)?;
    if !cgroup_namespace && let Some(linux) = &mut document.linux {
        let namespaces = linux.namespaces.get_or_insert_default();
        namespaces.retain(|namespace| namespace.r#type.as_deref() != Some("cgroup"));
    }
    if let Some((uid, gid)) = caller {
        without_privileges(&mut document, uid, gid);
    }
    indented(&document).map_err(|error| Problems::one("", error))
}

/// What an ordinary user may not do is left out: limits, networks, groups other than his own.
fn without_privileges(document: &mut Document, uid: u32, gid: u32) {
    let linux = document.linux.get_or_insert_default();
    linux.resources = None;
    let namespaces = linux.namespaces.get_or_insert_default();
    namespaces.retain(|namespace| namespace.r#type.as_deref() != Some("network"));
    namespaces.push(Namespace { r#type: Some("user".to_owned()), path: None });
    let root = |id| vec![IdMapping { container_id: Some(0), host_id: Some(id), size: Some(1) }];
    linux.uid_mappings = Some(root(uid));
    linux.gid_mappings = Some(root(gid));
    for mount in document.mounts.iter_mut().flatten() {
        // The host's network stays, and sysfs may only be mounted by its owner.
        if mount.destination.as_deref() == Some("/sys") {
            *mount = bind_sys();
        }
        if let Some(options) = &mut mount.options {
            options.retain(|option| !option.starts_with("gid="));
        }
    }
}

fn bind_sys() -> Mount {
    let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
    Mount {
        destination: Some("/sys".to_owned()),
        r#type: Some("none".to_owned()),
        source: Some("/sys".to_owned()),
        options: Some(options.map(str::to_owned).to_vec()),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;
    use crate::{CgroupDriver, NamespaceKind, oci};

    #[test]
    fn both_templates_can_be_lowered() {
        let directory = std::path::Path::new("/bundle");
        let bundle = oci::Bundle { directory, id: "box", driver: CgroupDriver::Cgroupfs };
        let spec = oci::parse(&template(None, true).unwrap(), bundle).unwrap();
        assert_eq!(spec.warnings, []);
        assert!(spec.value.namespaces.creates(NamespaceKind::Network));
        let spec = oci::parse(&template(Some((1000, 1001)), true).unwrap(), bundle).unwrap().value;
        assert!(spec.namespaces.creates(NamespaceKind::User));
        assert_eq!(spec.id_maps.gids.first().map(|map| map.host), Some(1001));
    }
}

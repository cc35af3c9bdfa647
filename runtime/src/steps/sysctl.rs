//! Kernel settings of the container's own namespaces, and its names.

use configs::{NamespaceKind, Spec};

use crate::{Error, Result, child::Child, error::OrFail};

/// Sets host and domain name.
pub(crate) fn name_host(child: &mut Child<'_>) -> Result<()> {
    if let Some(name) = &child.spec.hostname {
        rustix::system::sethostname(name.as_bytes()).or_fail(|| format!("sethostname {name:?}"))?;
    }
    if let Some(name) = &child.spec.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .or_fail(|| format!("setdomainname {name:?}"))?;
    }
    Ok(())
}

/// Writes the settings the Spec lists.
pub(crate) fn apply(child: &mut Child<'_>) -> Result<()> {
    for (name, value) in &child.spec.sysctl {
        child.prepared.procfs.write(&format!("sys/{}", path_of(name)), value)?;
    }
    Ok(())
}

/// Checked before anything is made: what is not of a namespace this container newly creates is the
/// host's (D-32, CVE-2022-0811).
pub(crate) fn check(spec: &Spec) -> Result<()> {
    for (name, value) in &spec.sysctl {
        let allowed =
            path_of(name).split('/').all(|part| !part.is_empty() && part != "." && part != "..")
                && namespace_of(&path_of(name)).is_some_and(|kind| spec.namespaces.creates(kind));
        if !allowed {
            return Err(Error::Unsupported(format!(
                "sysctl {name} is not of a namespace this container creates"
            )));
        }
        if name_is_fixed(spec, name, value) {
            return Err(Error::Unsupported(format!("sysctl {name} contradicts the host name")));
        }
    }
    Ok(())
}

/// Both separators mean the same; in `a/b.c` the dot belongs to a name (sysctl.d(5)).
fn path_of(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes().get(first) == Some(&b'.') => {
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

fn swap(separator: char) -> char {
    match separator {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn namespace_of(path: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    if path.starts_with("net/") {
        return Some(NamespaceKind::Network);
    }
    if path.starts_with("fs/mqueue/") {
        return Some(NamespaceKind::Ipc);
    }
    match path.strip_prefix("kernel/")? {
        "domainname" | "hostname" => Some(NamespaceKind::Uts),
        name if IPC.contains(&name) => Some(NamespaceKind::Ipc),
        _ => None,
    }
}

/// Whether the Spec has another name where the setting would put this one.
fn name_is_fixed(spec: &Spec, name: &str, value: &str) -> bool {
    let fixed = match path_of(name).as_str() {
        "kernel/hostname" => &spec.hostname,
        "kernel/domainname" => &spec.domainname,
        _ => return false,
    };
    fixed.as_ref().is_some_and(|fixed| fixed != value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use configs::Namespace;

    use super::*;

    #[track_caller]
    fn check_name(name: &str, allowed: bool) {
        let mut spec = Spec::default();
        for kind in [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts] {
            spec.namespaces.insert(Namespace { kind, join: None }).unwrap();
        }
        spec.sysctl.insert(name.into(), "1".into());
        assert_eq!(check(&spec).is_ok(), allowed, "{name}");
    }

    #[test]
    fn only_settings_of_own_namespaces_pass() {
        for name in ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax"] {
            check_name(name, true);
        }
        for name in
            ["kernel.core_pattern", "vm.swappiness", "net", "net/../kernel/core_pattern", "kernel/"]
        {
            check_name(name, false);
        }
        check_name("net.ipv4.conf.eth0/1.forwarding", true);
        check_name("net....kernel.core_pattern", false);
    }

    #[test]
    fn the_hosts_settings_stay_when_the_namespace_is_shared() {
        let mut spec = Spec::default();
        spec.sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
        assert!(check(&spec).is_err());
    }
}

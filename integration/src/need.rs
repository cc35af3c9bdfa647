//! What a test may require of the machine, and how it says that it was skipped.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Something a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Effective user id 0, able to make namespaces and device nodes.
    Root,
    /// overlayfs on the filesystem that holds the tests' directories.
    Overlay,
    /// cgroup version 1 hierarchies, or a hybrid.
    CgroupV1,
    /// A unified cgroup hierarchy with controllers.
    CgroupV2,
    /// A program on the search path, from the Debian package of the second name.
    Program(&'static str, &'static str),
    /// User namespaces are not switched off.
    UserNamespaces,
    /// systemd is process 1, or the ordinary user's own is there.
    Systemd,
    /// The kernel obeys AppArmor profiles.
    AppArmor,
    /// The tests themselves run as an ordinary user.
    OrdinaryUser,
}

impl Need {
    /// Why the machine cannot do this; `None` if it can.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".into()),
            Self::Overlay => (!contains("/proc/filesystems", "overlay"))
                .then(|| "the kernel has no overlay filesystem".into()),
            Self::CgroupV1 => (!contains("/proc/self/mountinfo", " - cgroup "))
                .then(|| "no cgroup v1 hierarchy is mounted".into()),
            Self::CgroupV2 => (!contains("/sys/fs/cgroup/cgroup.controllers", "memory"))
                .then(|| "cgroup v2 has no memory controller here".into()),
            Self::Program(name, package) => find(name)
                .is_none()
                .then(|| format!("{name} is not installed (Debian package {package})")),
            Self::Systemd => {
                let uid = nix::unistd::geteuid();
                let own = match uid.is_root() {
                    true => "/run/systemd/private".to_owned(),
                    false => format!("/run/user/{uid}/systemd/private"),
                };
                (!Path::new(&own).exists()).then(|| "systemd does not run here".into())
            }
            Self::AppArmor => (!contains("/sys/module/apparmor/parameters/enabled", "Y"))
                .then(|| "the kernel has no AppArmor".into()),
            Self::OrdinaryUser => {
                nix::unistd::geteuid().is_root().then(|| "is for an ordinary user".into())
            }
            Self::UserNamespaces => (fs::read_to_string("/proc/sys/user/max_user_namespaces")
                .is_ok_and(|limit| limit.trim() == "0"))
            .then(|| "user.max_user_namespaces is 0".into()),
        }
    }
}

/// Where a program is on the search path; the administrator's directories count too.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|directory| Path::new(directory).join(name))
        .find(|file| file.is_file())
}

/// Says on the real standard error, past the test harness's capture, that a test did not run.
///
/// `$CRUN_CARGO_SKIPS` names a file that collects the same lines, for the summary of `make test`.
pub fn announce(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = io::stderr().write_all(line.as_bytes());
    if let Ok(list) = std::env::var("CRUN_CARGO_SKIPS")
        && let Ok(mut list) = fs::OpenOptions::new().append(true).create(true).open(list)
    {
        let _ = list.write_all(line.as_bytes());
    }
}

fn contains(file: &str, text: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|content| content.contains(text))
}

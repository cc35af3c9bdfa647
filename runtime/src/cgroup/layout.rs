//! Which cgroup hierarchies this system has, and where.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::{Result, error::OrFail};

/// Where everybody mounts them (systemd, openrc, docker's cgroupfs-mount).
const USUAL: &str = "/sys/fs/cgroup";

/// `CGROUP2_SUPER_MAGIC`, statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// `CGROUP_SUPER_MAGIC`, statfs(2): any hierarchy of version 1.
const CGROUP1_MAGIC: u64 = 0x0027_e0eb;

/// The hierarchies of a system, by mount point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Version 1, by their controllers as /proc/self/cgroup writes them (`cpu,cpuacct`); the last
    /// component of the mount point, so `systemd` for the one without controllers.
    pub(super) legacy: Vec<(String, PathBuf)>,
    /// Version 2; alone, or beside the others with the controllers they leave (hybrid).
    pub(super) unified: Option<PathBuf>,
}

/// Looks at the usual place, and only if nothing is there at all mounts.
pub(super) fn detect() -> Result<Layout> {
    let usual = Path::new(USUAL);
    if is(CGROUP2_MAGIC, usual) {
        return Ok(Layout { unified: Some(usual.to_owned()), ..Layout::default() });
    }
    let layout = directories(usual).unwrap_or_default();
    if layout == Layout::default() { mounted() } else { Ok(layout) }
}

fn is(magic: u64, path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(magic))
}

/// A directory per hierarchy; links (`cpu` to `cpu,cpuacct`) are other names of the same. A directory
/// where nothing is mounted, or something else is, belongs to nobody's hierarchy.
fn directories(usual: &Path) -> io::Result<Layout> {
    let mut layout = Layout::default();
    for entry in fs::read_dir(usual)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if name == "unified" {
            layout.unified = is(CGROUP2_MAGIC, &path).then_some(path);
        } else if is(CGROUP1_MAGIC, &path) {
            layout.legacy.push((name, path));
        }
    }
    layout.legacy.sort_unstable();
    Ok(layout)
}

/// From /proc/self/mountinfo, proc_pid_mountinfo(5): long on machines with many containers.
fn mounted() -> Result<Layout> {
    let table =
        fs::read_to_string("/proc/self/mountinfo").or_fail(|| "read /proc/self/mountinfo")?;
    let mut layout = Layout::default();
    for line in table.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut fields = filesystem.split(' ');
        match fields.next() {
            Some("cgroup2") if layout.unified.is_none() => layout.unified = Some(point),
            Some("cgroup") => {
                let options = fields.nth(1).unwrap_or_default();
                let name = controllers(options);
                if !layout.legacy.iter().any(|known| known.0 == name) {
                    layout.legacy.push((name, point));
                }
            }
            _ => {}
        }
    }
    Ok(layout)
}

/// The controllers among superblock options.
fn controllers(options: &str) -> String {
    const FLAGS: [&str; 6] = ["rw", "ro", "xattr", "noprefix", "clone_children", "all"];
    let names: Vec<&str> = options
        .split(',')
        .filter(|option| !FLAGS.contains(option) && !option.starts_with("release_agent="))
        .map(|option| option.strip_prefix("name=").unwrap_or(option))
        .collect();
    names.join(",")
}

/// A process' cgroup, by default the caller's, in each hierarchy: `/proc/self/cgroup`, cgroups(7).
pub(super) struct Own(String);

impl Own {
    pub(super) fn read() -> Result<Self> {
        fs::read_to_string("/proc/self/cgroup").or_fail(|| "read /proc/self/cgroup").map(Self)
    }

    /// Another process', as seen from ours.
    pub(super) fn of(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        fs::read_to_string(&path).or_fail(|| format!("read {path}")).map(Self)
    }

    /// By the name [`Layout`] has for the hierarchy; the empty name is version 2.
    pub(super) fn path(&self, hierarchy: &str) -> Option<&Path> {
        self.0.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            (name == hierarchy).then(|| Path::new(path))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_told_from_options() {
        assert_eq!(controllers("rw,cpu,cpuacct"), "cpu,cpuacct");
        assert_eq!(controllers("rw,xattr,release_agent=/bin/x,name=systemd"), "systemd");
    }

    #[test]
    fn the_own_cgroup_is_found_in_each_hierarchy() {
        let own = Own("9:name=systemd:/a\n4:cpu,cpuacct:/b:c\n0::/d\n".into());
        assert_eq!(own.path("systemd"), Some(Path::new("/a")));
        assert_eq!(own.path("cpu,cpuacct"), Some(Path::new("/b:c")));
        assert_eq!(own.path(""), Some(Path::new("/d")));
        assert_eq!(own.path("pids"), None);
    }
}

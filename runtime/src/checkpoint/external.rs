//! What reaches into a container from outside.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use configs::{MountSource, Spec};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, cgroup::Cgroup, error::OrFail};

/// Where a mount comes from; what is mounted when it is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum External {
    /// The directory of the Spec's mount with this destination.
    Bind,
    /// A node of the host's /dev: what masks a file, among others.
    Device(PathBuf),
    /// The container's cgroup; in this hierarchy.
    Cgroup(PathBuf),
}

/// A line of mountinfo, proc_pid_mountinfo(5).
struct Line<'a> {
    id: u32,
    device: &'a str,
    root: &'a str,
    point: &'a str,
    kind: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let id = fields.next()?.parse().ok()?;
        let (_, device, root, point) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { id, device, root, point, kind: filesystem.split(' ').next()? })
    }

    /// Filesystems criu makes anew.
    fn is_virtual(&self) -> bool {
        self.root == "/" && matches!(self.kind, "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue")
    }
}

/// A container's mounts from outside, in its own order.
pub(super) fn mounts(table: &str, spec: &Spec) -> Result<Vec<(PathBuf, External)>> {
    let lines: Vec<Line<'_>> = table.lines().filter_map(Line::parse).collect();
    let binds: Vec<&Path> = (spec.mounts.iter())
        .filter(|mount| matches!(mount.source, MountSource::Bind { .. }))
        .map(|mount| mount.destination.as_path())
        .collect();
    let mut found = Vec::new();
    for line in lines.iter().filter(|line| line.point != "/") {
        let point = PathBuf::from(line.point);
        let external = if binds.contains(&point.as_path()) {
            External::Bind
        } else if line.kind == "devtmpfs" && line.root != "/" {
            External::Device(Path::new("/dev").join(line.root.trim_start_matches('/')))
        } else if line.kind == "cgroup" || line.kind == "cgroup2" {
            External::Cgroup(point.file_name().map(PathBuf::from).unwrap_or_default())
        } else if line.is_virtual() || is_part_of_virtual(line, &lines) {
            continue;
        } else {
            return Err(Error::Unsupported(format!(
                "a container with the mount {} cannot be checkpointed",
                line.point
            )));
        };
        found.push((point, external));
    }
    Ok(found)
}

/// Such as `/proc/sys`, bound on itself to be read-only.
fn is_part_of_virtual(line: &Line<'_>, lines: &[Line<'_>]) -> bool {
    lines.iter().any(|other| other.device == line.device && other.is_virtual())
}

impl External {
    /// What a restored container gets there.
    pub(super) fn source(
        &self,
        point: &Path,
        spec: &Spec,
        cgroup: Option<&Cgroup>,
    ) -> Result<PathBuf> {
        let source = match self {
            Self::Device(path) => Some(path.clone()),
            Self::Bind => spec.mounts.iter().find_map(|mount| match &mount.source {
                MountSource::Bind { path, .. } if mount.destination == point => Some(path.clone()),
                _ => None,
            }),
            Self::Cgroup(name) => cgroup.and_then(|cgroup| {
                let mounts = cgroup.mounts();
                let named = mounts.iter().find(|mount| mount.name == name);
                // With version 2 there is one, whatever it is called.
                let only = (mounts.len() == 1).then(|| mounts.first()).flatten();
                named.or(only).map(|mount| mount.source.to_owned())
            }),
        };
        source.ok_or_else(|| {
            Error::Unsupported(format!(
                "the dump has a mount at {} that the configuration does not have",
                point.display()
            ))
        })
    }
}

/// criu's names of the standard descriptors of a process that lead outside.
pub(super) fn stdio(pid: i32, table: &str) -> Result<[Option<String>; 3]> {
    let inside: Vec<u32> = table.lines().filter_map(Line::parse).map(|line| line.id).collect();
    let mut names = [None, None, None];
    for (number, name) in names.iter_mut().enumerate() {
        *name = descriptor(pid, number, &inside)?;
    }
    Ok(names)
}

fn descriptor(pid: i32, number: usize, inside: &[u32]) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/fd/{number}");
    let Ok(target) = fs::read_link(&path) else { return Ok(None) };
    let target = target.to_string_lossy();
    if target.starts_with("pipe:[") {
        return Ok(Some(target.into_owned()));
    }
    let metadata = fs::metadata(&path).or_fail(|| format!("stat {path}"))?;
    if target.starts_with("socket:[") || target.starts_with("/dev/pts/") || target == "/dev/tty" {
        return Err(Error::Unsupported(format!(
            "a container whose descriptor {number} is {target} cannot be checkpointed"
        )));
    }
    let info = format!("/proc/{pid}/fdinfo/{number}");
    let text = fs::read_to_string(&info).or_fail(|| format!("read {info}"))?;
    let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    let mount: u32 = mount.unwrap_or_default();
    if inside.contains(&mount) {
        return Ok(None);
    }
    Ok(Some(format!("file[{mount:x}:{:x}]", metadata.ino())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use configs::Mount;

    use super::*;

    const TABLE: &str = "\
52 37 0:29 /bb/rootfs / rw - tmpfs tmp rw
53 52 0:32 / /proc rw - proc proc rw
54 52 0:33 / /dev rw - tmpfs tmpfs rw
59 58 0:27 /cc/t1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw
63 53 0:32 /sys /proc/sys ro - proc proc rw
66 53 0:6 /null /proc/kcore rw - devtmpfs d rw
70 52 8:1 /srv /data rw - ext4 d rw
";

    #[test]
    fn mounts_from_outside_are_told_from_those_inside() {
        let source = MountSource::Bind { path: "/srv".into(), recursive: false };
        let spec = Spec { mounts: vec![Mount::new("/data".into(), source)], ..Spec::default() };
        let found = mounts(TABLE, &spec).unwrap();
        let expected = [
            ("/sys/fs/cgroup", External::Cgroup("cgroup".into())),
            ("/proc/kcore", External::Device("/dev/null".into())),
            ("/data", External::Bind),
        ];
        assert_eq!(found, expected.map(|(point, external)| (PathBuf::from(point), external)));
        assert!(mounts(TABLE, &Spec::default()).is_err(), "nobody knows where /data comes from");
        let path = External::Bind.source(Path::new("/data"), &spec, None).unwrap();
        assert_eq!(path, Path::new("/srv"));
    }
}

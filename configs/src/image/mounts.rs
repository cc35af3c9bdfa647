//! docker's mount flags, over its default mounts.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;

use super::Overrides;
use crate::{
    AttrFlags, Filesystem, Mount, MountSource, Propagation, defaults,
    flags::{MountFlag, Tmpfs, Volume, VolumeSource},
    options::Options,
    problems::Findings,
};

/// The defaults that nothing asked for replaces, then what was asked for, shallow before deep.
pub(super) fn lower(
    config: Option<&Config>,
    asked: &Overrides,
    findings: &mut Findings,
) -> Vec<Mount> {
    let mut wanted: Vec<Mount> = Vec::new();
    for flag in &asked.mounts {
        let mount = match flag {
            MountFlag::Volume(volume) => bind(volume, &asked.host_directory, findings),
            MountFlag::Tmpfs(asked) => Some(tmpfs(asked)),
        };
        let Some(mount) = mount else { continue };
        if wanted.iter().any(|other| same(&other.destination, &mount.destination)) {
            let place = mount.destination.display();
            findings.problem("--mount", format_args!("two mounts at {place}"));
        }
        wanted.push(mount);
    }
    wanted.extend(declared_volumes(config, asked, &wanted));
    // A mount below another must come after it, whatever the order of the flags.
    wanted.sort_by_key(|mount| mount.destination.components().count());

    let covered = |mount: &Mount| {
        let replaces_dev = |other: &Mount| {
            same(&other.destination, Path::new("/dev")) && mount.destination.starts_with("/dev")
        };
        wanted
            .iter()
            .any(|other| same(&other.destination, &mount.destination) || replaces_dev(other))
    };
    let shm_size = asked.shm_size.map_or(defaults::SHM_SIZE, |size| size.0);
    let mut mounts = defaults::mounts(shm_size);
    mounts.retain(|mount| !covered(mount));
    if asked.privileged {
        mounts.iter_mut().for_each(|mount| mount.set.0 &= !AttrFlags::RDONLY.0);
    }
    mounts.extend(wanted);
    mounts
}

/// The same place, whatever the slashes.
fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

fn bind(volume: &Volume, host_directory: &Path, findings: &mut Findings) -> Option<Mount> {
    let place = volume.destination.display();
    let path = match &volume.source {
        VolumeSource::Path(path) => absolute(host_directory, path),
        VolumeSource::Name(name) => {
            findings.problem("--volume", format_args!("{place}: no such volume {name:?}"));
            return None;
        }
        // A caller with a place on disk has put its path here; this is for one without.
        VolumeSource::Anonymous => return Some(defaults::tmpfs(volume.destination.clone())),
    };
    if volume.relabel {
        findings.warn(
            "--volume",
            format_args!("{place}: z and Z are ignored: no SELinux labels are set"),
        );
    }
    let source = MountSource::Bind { path, recursive: volume.recursive };
    let mut mount = Mount::new(volume.destination.clone(), source);
    mount.propagation = volume.propagation.or(Some((Propagation::Private, volume.recursive)));
    if volume.read_only {
        mount.set = AttrFlags::RDONLY;
        if volume.recursive {
            mount.set_recursive = AttrFlags::RDONLY;
        }
    }
    Some(mount)
}

/// Beneath the caller's directory, without `.` parts; `..` is the kernel's business.
fn absolute(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path).components().collect()
}

fn tmpfs(asked: &Tmpfs) -> Mount {
    let words = ["nosuid", "nodev", "noexec"].into_iter();
    let options = Options::read(words.chain(asked.options.iter().map(String::as_str)));
    let filesystem = Filesystem {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        flags: options.superblock,
        parameters: options.parameters,
    };
    Mount {
        set: options.set,
        propagation: options.propagation,
        copy_up: options.copy_up,
        ..Mount::new(asked.destination.clone(), MountSource::Filesystem(filesystem))
    }
}

/// Volumes an image declares. The container's own writable layer holds them as it holds everything
/// else; only a read-only root needs a place to write to. It starts empty (D-12, CVE-2022-23648).
fn declared_volumes(config: Option<&Config>, asked: &Overrides, wanted: &[Mount]) -> Vec<Mount> {
    let declared = config.and_then(|config| config.volumes().as_deref()).unwrap_or_default();
    if !asked.read_only {
        return Vec::new();
    }
    let mut volumes: Vec<PathBuf> = declared
        .iter()
        .map(|path| Path::new("/").join(path))
        .filter(|path| path.components().count() > 1)
        .filter(|path| !wanted.iter().any(|mount| same(&mount.destination, path)))
        .collect();
    volumes.sort();
    volumes.dedup();
    volumes.into_iter().map(defaults::tmpfs).collect()
}

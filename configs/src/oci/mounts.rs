//! `mounts`.

use std::path::{Path, PathBuf};

use super::{beneath, document};
use crate::{
    AttrFlags, Filesystem, IdMap, Mount, MountIdMap, MountSource,
    options::{MS_RDONLY, Options},
    problems::Findings,
};

pub(super) fn lower(
    mounts: Vec<document::Mount>,
    directory: &Path,
    findings: &mut Findings,
) -> Vec<Mount> {
    let mut lowered = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.into_iter().enumerate() {
        lowered.extend(self::mount(mount, index, directory, findings));
    }
    lowered
}

fn mount(
    document: document::Mount,
    index: usize,
    directory: &Path,
    findings: &mut Findings,
) -> Option<Mount> {
    let place = format_args!("mounts[{index}]");
    let destination = document.destination.unwrap_or_default();
    if destination.is_empty() {
        findings.problem(format_args!("{place}.destination"), "is missing");
        return None;
    }
    let words = document.options.unwrap_or_default();
    let mut options = Options::read(words.iter().map(String::as_str));
    let kind = document.r#type.unwrap_or_default();
    let source = document.source.unwrap_or_default();
    let parameters = std::mem::take(&mut options.parameters);
    let may_have_parameters = matches!(Kind::of(&kind, &options), Kind::Filesystem);
    for (word, value) in parameters.iter().filter(|_| !may_have_parameters) {
        let place = format_args!("{place}.options");
        match value {
            // What mount(2) does with them where no filesystem is made; engines copy whole lists.
            Some(_) => findings.warn(place, format_args!("{word} has no effect here: ignored")),
            None => findings.problem(place, format_args!("no such option {word:?}")),
        }
    }
    let source = match Kind::of(&kind, &options) {
        Kind::Remount => MountSource::Remount,
        Kind::Cgroup => MountSource::Cgroup,
        Kind::Bind if source.is_empty() => {
            findings.problem(format_args!("{place}.source"), "is missing");
            return None;
        }
        Kind::Bind => MountSource::Bind {
            path: beneath(directory, &source),
            recursive: options.bind.unwrap_or_default(),
        },
        Kind::Filesystem if kind.is_empty() => {
            findings.problem(format_args!("{place}.type"), "is missing, and it is no bind mount");
            return None;
        }
        Kind::Filesystem => {
            let flags = options.superblock | superblock_read_only(&kind, options.set);
            options.clear_nothing();
            MountSource::Filesystem(Filesystem { kind, source, flags, parameters })
        }
    };
    if options.copy_up && !matches!(&source, MountSource::Filesystem(it) if it.kind == "tmpfs") {
        findings.problem(format_args!("{place}.options"), "tmpcopyup needs a tmpfs");
    }
    let uids = super::linux::id_maps(document.uid_mappings.unwrap_or_default());
    let gids = super::linux::id_maps(document.gid_mappings.unwrap_or_default());
    Some(Mount {
        // Relative destinations are deprecated, and mean the root's.
        destination: rooted(&destination),
        source,
        set: options.set,
        clear: options.clear,
        set_recursive: options.set_recursive,
        clear_recursive: options.clear_recursive,
        propagation: options.propagation,
        id_map: id_map(uids, gids, options.id_map),
        copy_up: options.copy_up,
        no_follow: options.no_follow,
        relabel: None,
        before: Vec::new(),
        after: Vec::new(),
    })
}

enum Kind {
    Bind,
    Remount,
    Cgroup,
    Filesystem,
}

impl Kind {
    fn of(kind: &str, options: &Options) -> Self {
        match kind {
            _ if options.remount => Self::Remount,
            "bind" | "rbind" => Self::Bind,
            _ if options.bind.is_some() => Self::Bind,
            "cgroup" | "cgroup2" => Self::Cgroup,
            _ => Self::Filesystem,
        }
    }
}

/// A filesystem on a device is not to be written to when its mount is read-only; memory filesystems
/// are filled by us first, and the kernel's own are shared with others.
fn superblock_read_only(kind: &str, set: AttrFlags) -> u64 {
    const FILLED_OR_SHARED: [&str; 6] = ["tmpfs", "proc", "sysfs", "mqueue", "devpts", "ramfs"];
    let apart = set.contains(AttrFlags::RDONLY) && !FILLED_OR_SHARED.contains(&kind);
    if apart { MS_RDONLY } else { 0 }
}

fn rooted(destination: &str) -> PathBuf {
    Path::new("/").join(destination)
}

/// Maps alone ask for a mapped mount; the word alone asks for the container's own maps.
fn id_map(uids: Vec<IdMap>, gids: Vec<IdMap>, word: Option<bool>) -> Option<MountIdMap> {
    (word.is_some() || !uids.is_empty() || !gids.is_empty()).then(|| MountIdMap {
        uids,
        gids,
        recursive: word.unwrap_or_default(),
    })
}

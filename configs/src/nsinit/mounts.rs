//! Mounts: what both generations implied or wrote, and the kernel's raw flags.

use std::path::{Path, PathBuf};

use super::{fields::Fields, json::Json};
use crate::{
    AttrFlags, Filesystem, Hook, Mount, MountSource, Propagation, Relabel, defaults,
    options::Options, problems::Findings,
};

/// mount(2)'s flags, as the file has them in decimal, and the words for them.
pub(super) const FLAGS: [(u64, &str); 21] = [
    (1, "ro"),
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "sync"),
    (1 << 5, "remount"),
    (1 << 6, "mand"),
    (1 << 7, "dirsync"),
    (1 << 8, "nosymfollow"),
    (1 << 10, "noatime"),
    (1 << 11, "nodiratime"),
    (1 << 12, "bind"),
    (1 << 14, "rec"),
    (1 << 15, "silent"),
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
    (1 << 21, "relatime"),
    (1 << 24, "strictatime"),
    (1 << 25, "lazytime"),
];
const MS_REC: u64 = 1 << 14;

const CLOSED: AttrFlags = AttrFlags::NOSUID.union(AttrFlags::NODEV).union(AttrFlags::NOEXEC);

/// The six system mounts of the nested generation, in its order.
pub(super) fn system(read_only_sys: bool) -> Vec<Mount> {
    let filesystem = |destination: &str, kind: &str, set: AttrFlags, data: &str| {
        let filesystem = Filesystem {
            kind: kind.to_owned(),
            source: kind.to_owned(),
            flags: 0,
            parameters: Options::read(data.split(',')).parameters,
        };
        Mount { set, ..Mount::new(destination.into(), MountSource::Filesystem(filesystem)) }
    };
    let sys = if read_only_sys { CLOSED.union(AttrFlags::RDONLY) } else { CLOSED };
    let dev = AttrFlags::NOSUID.union(AttrFlags::STRICTATIME);
    let pts = AttrFlags::NOSUID.union(AttrFlags::NOEXEC);
    vec![
        filesystem("/proc", "proc", CLOSED, ""),
        filesystem("/dev", "tmpfs", dev, "mode=755"),
        filesystem("/dev/shm", "tmpfs", CLOSED, "mode=1777,size=65536k"),
        filesystem("/dev/mqueue", "mqueue", CLOSED, ""),
        filesystem("/dev/pts", "devpts", pts, "newinstance,ptmxmode=0666,mode=620,gid=5"),
        filesystem("/sys", "sysfs", sys, ""),
    ]
}

/// A mount of the nested generation.
pub(super) fn nested(row: &mut Fields, findings: &mut Findings) -> Option<Mount> {
    let kind = row.text("type", findings);
    let source = row.text("source", findings);
    let destination = row.text("destination", findings);
    let writable = row.flag("writable", findings);
    let relabel = relabel(row, findings);
    let (private, slave) = (row.flag("private", findings), row.flag("slave", findings));
    match kind.as_str() {
        "bind" => {
            let source = MountSource::Bind { path: source.into(), recursive: true };
            let mut mount = Mount::new(rooted(&destination, Path::new("/")), source);
            // Read-only unless asked for otherwise, which was a surprise then as well.
            if !writable {
                mount.set = AttrFlags::RDONLY;
            }
            mount.propagation = match (private, slave) {
                (_, true) => Some((Propagation::Slave, true)),
                (true, false) => Some((Propagation::Private, true)),
                (false, false) => None,
            };
            mount.relabel = relabel;
            forbid_special(row, &mount.destination, findings);
            Some(mount)
        }
        "tmpfs" => Some(defaults::tmpfs(rooted(&destination, Path::new("/")))),
        _ => {
            let what = format_args!("unsupported mount type {kind} for {destination}");
            findings.problem(row.place("type"), what);
            None
        }
    }
}

/// A mount of the flat generation.
pub(super) fn flat(row: &mut Fields, root: &Path, findings: &mut Findings) -> Option<Mount> {
    let source = row.text("source", findings);
    let destination = rooted(&row.text("destination", findings), root);
    let device = row.text("device", findings);
    let mut options = flags(row, findings);
    let data = row.text("data", findings);
    let relabel = relabel(row, findings);
    let before = commands(row, "premount_cmds", findings);
    let after = commands(row, "postmount_cmds", findings);
    let source = match device.as_str() {
        "bind" => {
            forbid_special(row, &destination, findings);
            MountSource::Bind { path: source.into(), recursive: options.bind == Some(true) }
        }
        "cgroup" => {
            // Each controller's own directory, read-only, whatever the flags.
            options.set = options.set.union(AttrFlags::RDONLY);
            MountSource::Cgroup
        }
        "proc" | "sysfs" | "mqueue" | "tmpfs" | "devpts" => {
            // The old program ignored data for the first two, and so did the kernel.
            let ignored = matches!(device.as_str(), "proc" | "sysfs");
            let data = if ignored { "" } else { data.as_str() };
            data.split(',').for_each(|word| options.apply(word));
            options.clear_nothing();
            MountSource::Filesystem(Filesystem {
                kind: device,
                source,
                flags: options.superblock,
                parameters: std::mem::take(&mut options.parameters),
            })
        }
        _ => {
            let place = row.place("device");
            let destination = destination.display();
            findings.problem(
                place,
                format_args!("unknown mount device {device:?} to \"{destination}\""),
            );
            return None;
        }
    };
    Some(Mount {
        set: options.set,
        clear: options.clear,
        propagation: options.propagation,
        relabel,
        before,
        after,
        ..Mount::new(destination, source)
    })
}

/// The raw bit set, or a list of words.
fn flags(row: &mut Fields, findings: &mut Findings) -> Options {
    let bits = match row.value("flags") {
        None => 0,
        Some(Json::Number(number)) if number.as_u64().is_some() => {
            number.as_u64().unwrap_or_default()
        }
        Some(Json::List(items)) => {
            let words: Vec<&str> = items
                .iter()
                .filter_map(|item| match item {
                    Json::Text(word) => Some(word.as_str()),
                    _ => None,
                })
                .collect();
            let options = Options::read(words);
            if let Some((word, _)) = options.parameters.first() {
                findings.problem(row.place("flags"), format_args!("no such option {word:?}"));
            }
            return options;
        }
        Some(other) => {
            let what = format_args!("must be a number or a list of words, not {}", other.kind());
            findings.problem(row.place("flags"), what);
            0
        }
    };
    let known = FLAGS.iter().fold(0, |known, row| known | row.0);
    if bits & !known != 0 {
        findings.problem(row.place("flags"), format_args!("unknown bits {:#x}", bits & !known));
    }
    let recursive = bits & MS_REC != 0;
    let chosen = FLAGS.iter().filter(|(bit, _)| bits & bit != 0 && *bit != MS_REC);
    let words: Vec<String> = chosen
        .map(|(_, word)| match *word {
            // MS_REC concerns binds and propagation, never the attributes.
            "bind" | "private" | "slave" | "shared" | "unbindable" if recursive => {
                format!("r{word}")
            }
            word => word.to_owned(),
        })
        .collect();
    Options::read(words.iter().map(String::as_str))
}

fn relabel(row: &mut Fields, findings: &mut Findings) -> Option<Relabel> {
    match row.text("relabel", findings).as_str() {
        "" => None,
        "z" => Some(Relabel::Shared),
        "Z" => Some(Relabel::Private),
        other => {
            findings.problem(row.place("relabel"), format_args!("{other:?} is neither z nor Z"));
            None
        }
    }
}

fn commands(row: &mut Fields, name: &'static str, findings: &mut Findings) -> Vec<Hook> {
    let lower = |row: &mut Fields, findings: &mut Findings| {
        let path = row.text("path", findings);
        let rest = row.texts("args", findings).unwrap_or_default();
        Some(Hook {
            args: std::iter::once(path.clone()).chain(rest).collect(),
            env: Some(row.texts("env", findings).unwrap_or_default()),
            timeout: None,
            dir: row.filled("dir", findings).map(PathBuf::from),
            path: path.into(),
        })
    };
    row.objects(name, findings, lower).unwrap_or_default()
}

/// A destination may be written with the root's own path in front.
fn rooted(destination: &str, root: &Path) -> PathBuf {
    let path = Path::new("/").join(destination);
    match path.strip_prefix(root) {
        Ok(inside) if root != Path::new("/") => Path::new("/").join(inside),
        _ => path,
    }
}

/// CVE-2015-3627 and its kin: a bind over the root or into /proc undoes what the mounts before did.
fn forbid_special(row: &Fields, destination: &Path, findings: &mut Findings) {
    let place = row.place("destination");
    let shown = destination.display();
    if destination.components().count() <= 1 {
        findings.problem(place, "mounting into / is prohibited");
    } else if destination.starts_with("/proc") {
        let what =
            format_args!("{shown:?} cannot be mounted because it is located inside \"/proc\"");
        findings.problem(place, what);
    }
}

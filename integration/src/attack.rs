//! What a process inside does to others that enter: it waits for them and tries to get hold of anything of
//! theirs, in a busy loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{IoSliceMut, Read},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

/// Something that can be tried on a process, and whether it worked.
type Way = (&'static str, fn(u32) -> bool);

const WAYS: [Way; 13] = [
    ("read exe", |pid| File::open(entry(pid, "exe")).is_ok()),
    ("write exe", |pid| File::options().write(true).open(entry(pid, "exe")).is_ok()),
    ("follow exe", |pid| fs::read_link(entry(pid, "exe")).is_ok()),
    ("list root", |pid| fs::read_dir(entry(pid, "root/")).is_ok()),
    ("list cwd", |pid| fs::read_dir(entry(pid, "cwd/")).is_ok()),
    ("follow a descriptor", |pid| descriptors(pid).any(|fd| fs::read_link(fd).is_ok())),
    ("open a descriptor", |pid| descriptors(pid).any(|fd| File::open(fd).is_ok())),
    ("read mem", |pid| {
        let memory = File::open(entry(pid, "mem"));
        memory.is_ok_and(|memory| memory.read_at(&mut [0; 16], PROGRAM).is_ok_and(|read| read > 0))
    }),
    ("read environ", |pid| has_content(pid, "environ")),
    ("read maps", |pid| has_content(pid, "maps")),
    ("follow a namespace", |pid| fs::read_link(entry(pid, "ns/mnt")).is_ok()),
    ("read its memory", |pid| {
        let pid = Pid::from_raw(pid.cast_signed());
        let there = RemoteIoVec { base: PROGRAM.try_into().unwrap_or(0), len: 16 };
        process_vm_readv(pid, &mut [IoSliceMut::new(&mut [0; 16])], &[there]).is_ok()
    }),
    ("take a descriptor", |pid| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        pidfd.is_some_and(|pidfd| {
            (0..12).any(|fd| pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()).is_ok())
        })
    }),
];

/// Where a program that is not position independent begins.
const PROGRAM: u64 = 0x40_0000;

fn entry(pid: u32, name: &str) -> String {
    format!("/proc/{pid}/{name}")
}

fn descriptors(pid: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(entry(pid, "fd")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn has_content(pid: u32, name: &str) -> bool {
    File::open(entry(pid, name)).is_ok_and(|mut file| {
        let mut start = [0; 16];
        file.read(&mut start).is_ok_and(|read| read > 0)
    })
}

fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(entry(pid, "comm")).ok()?.trim().to_owned())
}

/// Attacks every process whose name is none of the container's own, until a file appears.
///
/// Something was reached only if its owner still was the stranger afterwards: a program of the container's
/// own has nothing to hide.
pub fn attack(own: &[&str], until: &Path) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    let stranger = |pid| name(pid).filter(|name| !own.contains(&name.as_str()));
    let mut seen = BTreeSet::new();
    let mut reached = BTreeMap::new();
    while !until.exists() && Instant::now() < end {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let Some(found) = stranger(pid) else { continue };
            seen.insert(pid);
            for (what, works) in WAYS {
                if works(pid) && stranger(pid).as_ref() == Some(&found) {
                    *reached.entry(format!("{what} of {found}")).or_insert(0) += 1;
                }
            }
        }
    }
    json!({"seen": seen.len(), "reached": reached})
}

//! Stopping, continuing, finding and killing everything in a cgroup.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use super::{
    Place,
    file::{read, try_read, try_write, write},
};
use crate::{Error, Result, error::OrFail};

/// How long a process may take to stop or die before we give up on it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How deep cgroups may be nested below a container's; the kernel has no limit of its own.
const MAX_DEPTH: usize = 64;

pub(super) fn freeze(place: &Place) -> Result<()> {
    set_frozen(place, true)
}

pub(super) fn thaw(place: &Place) -> Result<()> {
    set_frozen(place, false)
}

pub(super) fn is_frozen(place: &Place) -> Result<bool> {
    match freezer(place)? {
        Freezer::V1(path) => Ok(read(path, "freezer.state")?.trim() != "THAWED"),
        // What was asked for, not what `cgroup.events` reports: a cgroup without processes never
        // gets to be frozen, but may well be paused.
        Freezer::V2(path) => Ok(read(path, "cgroup.freeze")?.trim() == "1"),
    }
}

enum Freezer<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

/// Version 1's where it is, since on a hybrid system people look at that one.
fn freezer(place: &Place) -> Result<Freezer<'_>> {
    (place.legacy_directory("freezer").map(Freezer::V1))
        .or_else(|| place.unified_directory().map(Freezer::V2))
        .ok_or_else(|| Error::Unsupported("this system has no cgroup freezer".into()))
}

fn set_frozen(place: &Place, frozen: bool) -> Result<()> {
    match freezer(place)? {
        Freezer::V1(path) => set_frozen_v1(path, frozen),
        Freezer::V2(path) => set_frozen_v2(path, frozen),
    }
}

/// There is no event to wait for. Freezing may get stuck at FREEZING while processes fork or wait for
/// each other; thawing for a moment lets them pass.
fn set_frozen_v1(path: &Path, frozen: bool) -> Result<()> {
    let (word, opposite) = if frozen { ("FROZEN", "THAWED") } else { ("THAWED", "FROZEN") };
    let deadline = Instant::now() + PATIENCE;
    let mut wait = Duration::from_micros(50);
    let mut tries = 0_u32;
    loop {
        write(path, "freezer.state", word)?;
        if read(path, "freezer.state")?.trim() == word {
            return Ok(());
        }
        if Instant::now() > deadline {
            write(path, "freezer.state", opposite)?;
            return Err(Error::call(format!("{word} {}", path.display()), Errno::TIMEDOUT));
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(10));
        tries += 1;
        if frozen && tries.is_multiple_of(25) {
            write(path, "freezer.state", "THAWED")?;
        }
    }
}

fn set_frozen_v2(path: &Path, frozen: bool) -> Result<()> {
    write(path, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    // Without processes there is nothing to freeze, and no event.
    let done = |events: &str| {
        field(events, "frozen") == Some(u64::from(frozen)) || field(events, "populated") == Some(0)
    };
    if wait_for_event(path, PATIENCE, done)? {
        return Ok(());
    }
    Err(Error::call(format!("freeze {}", path.display()), Errno::TIMEDOUT))
}

/// Waits until `cgroup.events` says what it should; the kernel reports changes by POLLPRI. Of a cgroup that
/// somebody else has removed meanwhile there is nothing left to wait for.
pub(super) fn wait_for_event(
    path: &Path,
    patience: Duration,
    done: impl Fn(&str) -> bool,
) -> Result<bool> {
    let what = || format!("watch {}/cgroup.events", path.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::open(path.join("cgroup.events"), flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        other => other.or_fail(what)?,
    };
    let deadline = Instant::now() + patience;
    loop {
        let mut text = [0; 256];
        let length = match rustix::io::pread(&file, &mut text, 0) {
            Err(Errno::NODEV) => return Ok(true),
            other => other.or_fail(what)?,
        };
        let text = text.get(..length).unwrap_or_default();
        if done(&String::from_utf8_lossy(text)) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        wait(&mut polled, left).or_fail(what)?;
    }
}

/// poll(2) with a time limit; interrupted is as good as an event.
pub(super) fn wait(polled: &mut [PollFd<'_>], limit: Duration) -> Result<(), Errno> {
    let limit = Timespec::try_from(limit).map_err(|_| Errno::INVAL)?;
    match poll(polled, Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The number behind a word of a flat keyed file, cgroup-v2.txt.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

pub(super) fn kill(place: &Place) -> Result<()> {
    if let Some(path) = place.unified_directory() {
        // Linux 5.14; kills what is forking at this moment, too.
        match try_write(path, "cgroup.kill", "1") {
            Ok(()) => {
                // A process the v1 freezer holds does not get to die.
                if place.legacy_directory("freezer").is_some_and(|path| !gone(path)) {
                    thaw(place)?;
                }
                return Ok(());
            }
            // Removed meanwhile: there was nobody in it any more.
            Err(Errno::NODEV) => return Ok(()),
            Err(Errno::NOENT) if gone(path) => return Ok(()),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(Error::call("write 1 to cgroup.kill", errno)),
        }
    }
    kill_one_by_one(place)
}

/// Frozen processes neither fork nor end, so the numbers stay true while signals are sent.
fn kill_one_by_one(place: &Place) -> Result<()> {
    if processes(place)?.is_empty() {
        return Ok(());
    }
    let frozen = freeze(place);
    let processes = processes(place)?;
    for pid in processes {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::call(format!("kill {pid:?}"), errno)),
        }
    }
    thaw(place)?;
    frozen
}

fn gone(path: &Path) -> bool {
    rustix::fs::stat(path).err() == Some(Errno::NOENT)
}

/// From one hierarchy; a container's processes are in all of them.
pub(super) fn processes(place: &Place) -> Result<Vec<Pid>> {
    let path = (place.unified_directory())
        .or_else(|| place.legacy_directory("pids"))
        .or_else(|| place.legacy.first().map(|directory| directory.path.as_path()));
    let mut pids = Vec::new();
    for directory in path.map(tree).transpose()?.unwrap_or_default() {
        match try_read(&directory, "cgroup.procs") {
            Ok(text) => pids.extend(text.lines().filter_map(pid)),
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => {
                return Err(Error::call(
                    format!("read {}/cgroup.procs", directory.display()),
                    errno,
                ));
            }
        }
    }
    Ok(pids)
}

/// Zero is a process of a pid namespace we cannot see into.
fn pid(line: &str) -> Option<Pid> {
    Pid::from_raw(line.trim().parse().ok()?)
}

/// A directory and all below it, parents before children. What vanishes meanwhile is left out.
pub(super) fn tree(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![(top.to_owned(), 0)];
    let mut at = 0;
    while let Some((path, depth)) = found.get(at).cloned() {
        at += 1;
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).or_fail(|| format!("list {}", path.display())),
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < MAX_DEPTH {
                found.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(found.into_iter().map(|(path, _)| path).collect())
}

//! Taking a container's cgroup directories away.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{AtFlags, CWD, unlinkat},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    Place,
    control::{self, PATIENCE, field, tree, wait, wait_for_event},
};
use crate::{Error, Result, error::OrFail};

/// Kills what is left in it, and goes on past failures: whatever can be removed is.
pub(super) fn remove(place: &Place) -> Result<()> {
    let mut errors: Vec<Error> = (place.directories().rev())
        .filter_map(|directory| remove_directory(place, &directory.path).err())
        .collect();
    match errors.pop() {
        None => Ok(()),
        Some(only) if errors.is_empty() => Err(only),
        Some(last) => {
            errors.push(last);
            Err(Error::Several(errors))
        }
    }
}

fn remove_directory(place: &Place, path: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    loop {
        match rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // EBUSY: children, or processes. Usually there are none any more.
            Err(Errno::BUSY) if Instant::now() < deadline => control::kill(place)?,
            Err(errno) => {
                return Err(Error::call(format!("remove the cgroup {}", path.display()), errno));
            }
        }
        for child in tree(path)?.iter().skip(1).rev() {
            // One that is busy makes the next round try again.
            let _ = rmdir(child);
        }
        match rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) => wait_for_the_dying(place, deadline, &mut pause)?,
        }
    }
}

pub(super) fn rmdir(path: &Path) -> Result<(), Errno> {
    unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

/// Version 2 says when a cgroup is empty. Version 1 does not, but its processes can be waited for;
/// between a process' death and the moment its cgroup knows there is nothing left to wait on, and only
/// there we sleep.
fn wait_for_the_dying(place: &Place, deadline: Instant, pause: &mut Duration) -> Result<()> {
    let patience = deadline.saturating_duration_since(Instant::now());
    if let Some(path) = place.unified_directory()
        && rustix::fs::stat(path).is_ok()
    {
        wait_for_event(path, patience, |events| field(events, "populated") == Some(0))?;
    } else {
        control::processes(place)?.into_iter().try_for_each(|pid| wait_for(pid, deadline))?;
    }
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(Duration::from_millis(20));
    Ok(())
}

fn wait_for(pid: Pid, deadline: Instant) -> Result<()> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(Error::call(format!("pidfd_open {pid:?}"), errno)),
    };
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    wait(&mut polled, deadline.saturating_duration_since(Instant::now()))
        .or_fail(|| format!("wait for {pid:?}"))
}

//! Hearing of the OOM killer.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd},
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    Place,
    control::{field, wait},
    file::write,
};
use crate::{Error, Result, error::OrFail};

/// Watches one cgroup.
#[derive(Debug)]
pub struct OomWatch {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Signalled by the kernel, cgroup-v1/memory.rst, "OOM Control".
    V1 { event: OwnedFd, _control: OwnedFd },
    /// `memory.events` and `cgroup.events`.
    V2 { memory: OwnedFd, cgroup: OwnedFd, kills: u64 },
}

/// What a watch saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// The cgroup ran out of memory.
    OutOfMemory,
    /// It has no processes any more, or is gone.
    Ended,
    /// The time was up.
    Nothing,
}

impl OomWatch {
    pub(super) fn new(place: &Place) -> Result<Self> {
        if let Some(path) = place.legacy_directory("memory") {
            return Self::v1(path);
        }
        match place.unified_directory() {
            Some(path) if place.is_unified() => Self::v2(path),
            _ => Err(Error::Unsupported("this system has no cgroup controller memory".into())),
        }
    }

    fn v1(path: &Path) -> Result<Self> {
        let control = open(path, "memory.oom_control")?;
        let event =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).or_fail(|| "eventfd")?;
        let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_fd().as_raw_fd());
        write(path, "cgroup.event_control", line)?;
        Ok(Self { path: path.to_owned(), source: Source::V1 { event, _control: control } })
    }

    fn v2(path: &Path) -> Result<Self> {
        let (memory, cgroup) = (open(path, "memory.events")?, open(path, "cgroup.events")?);
        let kills = read(&memory).map_or(0, |text| field(&text, "oom_kill").unwrap_or(0));
        Ok(Self { path: path.to_owned(), source: Source::V2 { memory, cgroup, kills } })
    }

    /// Waits for the next event, at most that long.
    pub fn next(&mut self, patience: Duration) -> Result<OomEvent> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(event) = self.look()? {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(OomEvent::Nothing);
            }
            self.wait(left).or_fail(|| format!("watch {}", self.path.display()))?;
        }
    }

    fn wait(&self, patience: Duration) -> Result<(), Errno> {
        match &self.source {
            Source::V1 { event, .. } => wait(&mut [PollFd::new(event, PollFlags::IN)], patience),
            Source::V2 { memory, cgroup, .. } => wait(
                &mut [PollFd::new(memory, PollFlags::PRI), PollFd::new(cgroup, PollFlags::PRI)],
                patience,
            ),
        }
    }

    /// What has happened already.
    fn look(&mut self) -> Result<Option<OomEvent>> {
        match &mut self.source {
            Source::V1 { event, .. } => {
                match rustix::io::read(event, &mut [0; 8]) {
                    Ok(_) => {}
                    Err(Errno::AGAIN) => return Ok(None),
                    Err(errno) => return Err(Error::call("read the eventfd", errno)),
                }
                // Removing the cgroup signals, too.
                let gone = rustix::fs::stat(&self.path).is_err();
                Ok(Some(if gone { OomEvent::Ended } else { OomEvent::OutOfMemory }))
            }
            Source::V2 { memory, cgroup, kills } => {
                let Some(text) = read(memory) else { return Ok(Some(OomEvent::Ended)) };
                let now = field(&text, "oom_kill").unwrap_or(0);
                if now > *kills {
                    *kills = now;
                    return Ok(Some(OomEvent::OutOfMemory));
                }
                let populated = read(cgroup).and_then(|text| field(&text, "populated"));
                Ok((populated != Some(1)).then_some(OomEvent::Ended))
            }
        }
    }
}

fn open(path: &Path, file: &str) -> Result<OwnedFd> {
    let path = path.join(file);
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .or_fail(|| format!("open {}", path.display()))
}

/// From the start; `None` once the cgroup is gone (ENODEV).
fn read(file: &OwnedFd) -> Option<String> {
    let mut bytes = [0; 512];
    let length = rustix::io::pread(file, &mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(bytes.get(..length)?).into_owned())
}

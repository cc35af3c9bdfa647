//! A device node made in a running container, from outside: no program in it has a say.

use configs::{Device, DeviceKind};
use rustix::{
    fs::{FileType, Mode, OFlags, makedev, mknodat},
    process::Pid,
};

use crate::{Error, Result, error::OrFail};

/// Makes a node in the mount namespace of a process, which the caller holds a pidfd of. Whether anything
/// inside may open it is the device policy's business.
pub(crate) fn make(init: Pid, device: &Device) -> Result<()> {
    // A magic link, which leads to the directory itself, mounts and all (proc(5)).
    let link = format!("/proc/{}/root", init.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&link, flags, Mode::empty()).or_fail(|| format!("open {link}"))?;
    let root = sys::Root::from_directory(root).or_fail(|| format!("open {link}"))?;
    let what = || format!("make {}", device.path.display());
    let (directory, name) = root.parent_of(&device.path).or_fail(what)?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    mknodat(directory, name, kind, mode, makedev(device.major, device.minor))
        .map_err(|errno| Error::call(what(), errno))
}

//! Reading and writing cgroup files. Nothing here creates a file: one that is missing means that the
//! kernel lacks the controller or the setting, never that a plain file should appear in its place.

use std::path::Path;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{Error, Result};

/// Writes a setting in one write(2), as the kernel wants it.
pub(super) fn write(directory: &Path, name: &str, value: impl AsRef<str>) -> Result<()> {
    let value = value.as_ref();
    try_write(directory, name, value)
        .map_err(|errno| Error::call(describe(directory, name, value), errno))
}

/// The same for callers that know what to do about an error.
pub(super) fn try_write(directory: &Path, name: &str, value: &str) -> Result<(), Errno> {
    let path = directory.join(name);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
    Ok(())
}

/// Reads a whole file.
pub(super) fn read(directory: &Path, name: &str) -> Result<String> {
    try_read(directory, name)
        .map_err(|errno| Error::call(format!("read {}", directory.join(name).display()), errno))
}

/// The same for callers that know what to do about an error.
pub(super) fn try_read(directory: &Path, name: &str) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(directory.join(name), flags, Mode::empty())?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        bytes.reserve(4096);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
}

/// Reads a setting of one line, which the kernel hands out in one read(2).
pub(super) fn read_line(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // Long enough for the processor list of any machine.
    let mut line = [0; 4096];
    rustix::fs::open(&path, flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut line))
        .map(|length| {
            String::from_utf8_lossy(line.get(..length).unwrap_or_default()).trim().to_owned()
        })
        .map_err(|errno| Error::call(format!("read {}", path.display()), errno))
}

/// Reads a number; `max` is the greatest.
pub(super) fn try_read_number(directory: &Path, name: &str) -> Result<u64, Errno> {
    let text = try_read(directory, name)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        digits => digits.parse().map_err(|_| Errno::INVAL),
    }
}

fn describe(directory: &Path, name: &str, value: &str) -> String {
    format!("write {:?} to {}", value.trim_end(), directory.join(name).display())
}

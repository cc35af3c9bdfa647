//! A procfs that is one: the way to every file whose writing has security meaning (D-25).

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::{Mode, OFlags, fstat, fstatfs};
use sys::Root;

use crate::{Error, Result, error::OrFail};

/// A descriptor proven to be the root of a procfs, opened while only the host could have mounted it.
///
/// Kept across entering a container, whose own /proc may be anything (CVE-2019-16884, CVE-2025-52881).
#[derive(Debug)]
pub(crate) struct Procfs(Root);

/// The root's inode number, linux/proc_fs.h: a directory of a procfs, such as `/proc/PID`, is no procfs.
const PROC_ROOT_INO: u64 = 1;

impl Procfs {
    pub(crate) fn open() -> Result<Self> {
        let root = Root::open(Path::new("/proc")).or_fail(|| "open /proc")?;
        let kind = fstatfs(&root).or_fail(|| "fstatfs /proc")?.f_type;
        let inode = fstat(&root).or_fail(|| "stat /proc")?.st_ino;
        if kind != rustix::fs::PROC_SUPER_MAGIC || inode != PROC_ROOT_INO {
            return Err(Error::Unsafe("/proc is not a procfs".into()));
        }
        Ok(Self(root))
    }

    /// Opens a file of it, over which nothing is mounted (NO_XDEV).
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        self.0.open_unmounted(Path::new(name), flags).or_fail(|| format!("open /proc/{name}"))
    }

    /// The start of a file, in one read: enough for the small ones.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        let mut buffer = [0; 4096];
        let length =
            rustix::io::read(&file, &mut buffer).or_fail(|| format!("read /proc/{name}"))?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    }

    pub(crate) fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = self.open_file(name, OFlags::WRONLY)?;
        let written = rustix::io::write(&file, value.as_bytes());
        match written {
            Ok(length) if length == value.len() => Ok(()),
            Ok(_) => Err(Error::call(
                format!("write /proc/{name}"),
                io::Error::from_raw_os_error(libc::EIO),
            )),
            Err(error) => Err(Error::call(format!("write {value:?} to /proc/{name}"), error)),
        }
    }

    /// Opens the root directory of a process: by a magic link, the one kind that names an object.
    pub(crate) fn open_root(&self, pid: i32) -> Result<OwnedFd> {
        let path = format!("{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, &path, flags, Mode::empty())
            .or_fail(|| format!("open /proc/{path}"))
    }

    /// Opens a namespace of a process. The link is a magic one, the one kind that names an object; that
    /// it leads to nsfs is checked by whoever joins it.
    pub(crate) fn open_namespace(&self, pid: &str, name: &str) -> Result<OwnedFd> {
        let path = Path::new(pid).join("ns").join(name);
        rustix::fs::openat(&self.0, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .or_fail(|| format!("open /proc/{}", path.display()))
    }
}

//! Running from an object that nobody inside a container can open for writing (D-20, CVE-2019-5736).
//!
//! What that is needed for, and where it is not, is explained in `steps/program.rs`. It costs no copy:
//! a clone of the mount our binary lies on, made read-only and attached nowhere, and one exec from it.

use std::{
    convert::Infallible,
    ffi::CString,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
};

use configs::AttrFlags;
use rustix::{
    fs::{
        CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, memfd_create,
        statvfs,
    },
    mount::{OpenTreeFlags, open_tree},
};
use sys::{MountAttr, mount_setattr};

use crate::{Error, Result, error::OrFail};

const SELF: &str = "/proc/self/exe";

/// Whether our binary cannot be written through `/proc/PID/exe`: its mount is read-only, or it is a
/// sealed file without a name.
pub fn is_read_only() -> bool {
    let on_read_only_mount =
        statvfs(SELF).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    on_read_only_mount || is_sealed()
}

fn is_sealed() -> bool {
    let seals = std::fs::File::open(SELF)
        .map_err(|_| ())
        .and_then(|file| rustix::fs::fcntl_get_seals(&file).map_err(|_| ()));
    seals.is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// Starts this program again, from an object nobody can write to; returns at once if it is one already.
///
/// To be called by programs before they do anything else that joins a container, when their arguments
/// say that they will: the program begins anew, with the same arguments and environment.
pub fn protect() -> Result<()> {
    if is_read_only() {
        return Ok(());
    }
    let Err(error) = restart();
    Err(error)
}

fn restart() -> Result<Infallible> {
    let strings = |values: Vec<Vec<u8>>| -> Result<Vec<CString>> {
        let text = |bytes| CString::new(bytes).map_err(|_| Error::Unsafe("a NUL byte".into()));
        values.into_iter().map(text).collect()
    };
    let args = strings(std::env::args_os().map(OsStringExt::into_vec).collect())?;
    let env = strings(
        std::env::vars_os()
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                name.into_vec()
            })
            .collect(),
    )?;
    let binary = open_read_only()?;
    sys::exec_descriptor(binary.as_fd(), &args, &env).or_fail(|| "start ourselves again")
}

/// Our binary as such an object.
pub(crate) fn open_read_only() -> Result<OwnedFd> {
    if is_read_only() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        return rustix::fs::open(SELF, flags, Mode::empty()).or_fail(|| "open our own binary");
    }
    // An ordinary user cannot clone mounts, and old kernels cannot change them.
    read_only_clone().or_else(|_| sealed_copy()).or_fail(|| "make a read-only view of ourselves")
}

fn read_only_clone() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, SELF, flags)?;
    let attr = MountAttr { set: AttrFlags::RDONLY.0, ..MountAttr::default() };
    mount_setattr(clone.as_fd(), c"", &attr)?;
    Ok(clone)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create("crun-cargo", flags)?);
    io::copy(&mut std::fs::File::open(SELF)?, &mut copy)?;
    copy.flush()?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn neither_view_of_ourselves_can_be_written() {
        for view in [read_only_clone(), sealed_copy()].into_iter().flatten() {
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&view));
            let opened = std::fs::OpenOptions::new().write(true).open(name);
            let written = opened.and_then(|mut file| file.write_all(b"x"));
            assert!(written.is_err());
        }
    }
}

//! Extended attributes by descriptor, O_PATH descriptors and symlinks included.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{fs::XattrFlags, io::Errno};

/// Largest value the kernel passes (XATTR_SIZE_MAX) and largest list of names (XATTR_LIST_MAX).
const MAX: usize = 65_536;

/// Reads one attribute; `None` when the file does not have it or cannot have any.
pub fn get(file: impl AsFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let (file, name) = (file.as_fd(), c_string(name)?);
    let fill = |buffer: &mut [u8]| match rustix::fs::fgetxattr(file, &name, &mut *buffer) {
        Err(Errno::BADF) => rustix::fs::getxattr(path_of(file), &name, buffer),
        other => other,
    };
    match grow(fill) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names of all attributes, in the kernel's order; none where the filesystem has none.
pub fn list(file: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let file = file.as_fd();
    let fill = |buffer: &mut [u8]| match rustix::fs::flistxattr(file, &mut *buffer) {
        Err(Errno::BADF) => rustix::fs::listxattr(path_of(file), buffer),
        other => other,
    };
    match grow(fill) {
        Ok(names) => Ok(names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Sets one attribute, replacing an older value.
pub fn set(file: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let (file, name) = (file.as_fd(), c_string(name)?);
    match rustix::fs::fsetxattr(file, &name, value, XattrFlags::empty()) {
        Err(Errno::BADF) => {
            Ok(rustix::fs::setxattr(path_of(file), &name, value, XattrFlags::empty())?)
        }
        other => Ok(other?),
    }
}

/// Removes one attribute.
pub fn remove(file: impl AsFd, name: &OsStr) -> io::Result<()> {
    let (file, name) = (file.as_fd(), c_string(name)?);
    match rustix::fs::fremovexattr(file, &name) {
        Err(Errno::BADF) => Ok(rustix::fs::removexattr(path_of(file), &name)?),
        other => Ok(other?),
    }
}

/// The path that leads to an open file whatever its name is now. The f*xattr calls refuse O_PATH
/// descriptors (EBADF), and symlinks and device nodes can be had as nothing else.
fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn c_string(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL.into())
}

/// Most values are short: try a small buffer first, then the largest there is.
fn grow(fill: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = match fill(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; MAX];
            fill(&mut buffer)?
        }
        other => other?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, Mode, OFlags};

    use super::*;

    #[test]
    fn values_survive_on_files_directories_and_links() {
        let base = std::path::PathBuf::from(format!("/var/tmp/sys-xattr-{}", std::process::id()));
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("file", base.join("link")).unwrap();
        for name in ["file", "link", "."] {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(CWD, base.join(name), flags, Mode::empty()).unwrap();
            let key = OsStr::new("trusted.test");
            if let Err(error) = set(&file, key, b"value\0with zero") {
                assert!(matches!(error.raw_os_error(), Some(1 | 95)), "{error}");
                continue;
            }
            assert_eq!(get(&file, key).unwrap().unwrap(), b"value\0with zero");
            assert!(list(&file).unwrap().contains(&b"trusted.test".to_vec()));
            remove(&file, key).unwrap();
            assert_eq!(get(&file, key).unwrap(), None);
        }
        fs::remove_dir_all(&base).unwrap();
    }
}

//! From a tree into a tar.
//!
//! A file is opened once and described by its descriptor; one that is replaced between being listed and
//! being opened is the new one or is left out, and a directory that became a link is not entered.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    vec,
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags},
    io::Errno,
};
use sys::Root;

use super::Tree;
use crate::{
    error::{During, Result},
    name,
    pack::Packer,
};

/// Filesystems in which there is nothing but the kernel's own state (statfs(2)).
const OF_THE_KERNEL: [i64; 10] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
];

impl Tree {
    /// Writes what is at `path` as a tar in which it is called `called`; with an empty name, what is in
    /// that directory.
    ///
    /// Directories of the kernel's own filesystems are written without what is in them.
    pub fn pack(
        &self,
        path: &Path,
        follow: bool,
        called: &OsStr,
        output: &mut dyn Write,
    ) -> Result<()> {
        let top = self.open(path, follow).during("open", path.display())?;
        let mut output = output;
        let mut packer = Packer::plain(&mut output);
        let pack = || -> io::Result<()> {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&top)?.st_mode);
            if kind == FileType::Directory {
                directory(&mut packer, top, called.as_bytes())?;
            } else {
                packer.opened(top, called.as_bytes())?;
            }
            packer.end()
        };
        pack().during("copy", path.display())
    }
}

/// A directory on the way down: its path below the top, and the names in it that are left.
type Level = (Vec<u8>, vec::IntoIter<Vec<u8>>);

/// Writes a directory and everything in it, names sorted. The way down is on a list, as a tree may be
/// deeper than a stack.
fn directory<W: Write>(packer: &mut Packer<'_, W>, top: OwnedFd, called: &[u8]) -> io::Result<()> {
    let root = Root::from_directory(top.try_clone()?)?;
    if !called.is_empty() {
        packer.opened(top, called)?;
    }
    let mut way: Vec<Level> = vec![(Vec::new(), names(&root, b"")?)];
    while let Some((above, left)) = way.last_mut() {
        let Some(last) = left.next() else {
            way.pop();
            continue;
        };
        let path = name::join(above, &last);
        let Some(file) = present(open(&root, &path, OFlags::PATH))? else { continue };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        packer.opened(file, &name::join_any(called, &path))?;
        if kind == FileType::Directory
            && let Some(inside) = present(names(&root, &path))?
        {
            way.push((path, inside));
        }
    }
    Ok(())
}

/// The names in a directory, sorted; none in those of the kernel.
fn names(root: &Root, path: &[u8]) -> io::Result<vec::IntoIter<Vec<u8>>> {
    let directory = if path.is_empty() {
        rustix::fs::openat(
            root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?
    } else {
        open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?
    };
    let mut names = Vec::new();
    if path.is_empty() || !is_of_the_kernel(&directory)? {
        for child in Dir::read_from(&directory)? {
            let name = child?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names.into_iter())
}

fn open(root: &Root, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    root.open_plain(Path::new(OsStr::from_bytes(path)), flags)
}

/// Something else may be at a path by now, or nothing.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
            ) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn is_of_the_kernel(directory: impl AsFd) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(directory)?.f_type;
    Ok(OF_THE_KERNEL.contains(&(kind & 0xffff_ffff)))
}

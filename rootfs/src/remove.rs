//! Removing trees whose content is not ours, by descriptor: no link is followed, no mount is entered, no
//! depth is too deep, and no space is needed (D-54).

use std::{
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    error::{During, Result},
    store::Store,
};

/// Deeper directories are moved up first, so that descriptors do not run out.
const MAX_OPEN: usize = 64;

/// Takes a directory out of the way at once, then removes it.
pub(crate) fn to_trash(store: &Store, path: &Path) -> Result<()> {
    match set_aside(store, path)? {
        Some(trash) => tree(&trash).during("remove", trash.display()),
        None => Ok(()),
    }
}

/// Takes a directory out of the way, and returns where it is now, for removal when no lock is held.
pub(crate) fn set_aside(store: &Store, path: &Path) -> Result<Option<PathBuf>> {
    let trash = store.temporary("trash");
    match fs::rename(path, &trash) {
        Ok(()) => Ok(Some(trash)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A disk so full that even a name finds no room: remove it where it is.
        Err(_) => tree(path).map(|()| None).during("remove", path.display()),
    }
}

/// Removes a file or a directory with everything in it; what is not there is removed already.
pub(crate) fn tree(path: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    empty(&top)?;
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Removes everything in a directory.
pub(crate) fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut way: Vec<(OwnedFd, Dir, CString)> = vec![level(top.try_clone()?, CString::default())?];
    let mut moved = 0_u64;
    while let Some((directory, entries, _)) = way.last_mut() {
        let Some(entry) = entries.next() else {
            let Some((_, _, name)) = way.pop() else { break };
            let Some((above, entries, _)) = way.last_mut() else {
                if moved == 0 {
                    break;
                }
                moved = 0; // what was moved up may have been missed by the listing under way
                way.push(level(top.try_clone()?, CString::default())?);
                continue;
            };
            match rustix::fs::unlinkat(&*above, &name, AtFlags::REMOVEDIR) {
                // Something was missed while the directory changed under the listing: once more.
                Err(Errno::NOTEMPTY) => entries.rewind(),
                Err(Errno::NOENT) => {}
                other => other?,
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = entry.file_type();
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(&*directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) if kind == FileType::Unknown => {}
                Err(error) => return Err(error.into()),
            }
        }
        if rustix::fs::unlinkat(&*directory, name, AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        let name = name.to_owned();
        let child = match open_here(directory, &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if way.len() < MAX_OPEN {
            way.push(level(child, name)?);
        } else {
            let (directory, _, _) = way.last_mut().ok_or(Errno::INVAL)?;
            move_up(directory, &name, top, &mut moved)?;
        }
    }
    Ok(())
}

fn level(directory: OwnedFd, name: CString) -> io::Result<(OwnedFd, Dir, CString)> {
    // Nor must they keep the user from removing what is inside.
    if !rustix::process::geteuid().is_root() {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    let entries = Dir::read_from(&directory)?;
    Ok((directory, entries, name))
}

fn move_up(from: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let up = format!(".deep-{moved}");
        match rustix::fs::renameat_with(from, name, top, up, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a child directory, refusing links and mount points.
fn open_here(parent: &OwnedFd, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let open = || rustix::fs::openat2(parent, name, flags, Mode::empty(), how);
    let opened = match open() {
        // Modes inside an unprivileged user's own tree must not keep the user out.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()
        }
        other => other,
    };
    match opened {
        Err(Errno::NOSYS) => {
            let child = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            same_filesystem(parent, &child)?;
            Ok(child)
        }
        Err(Errno::XDEV) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("something is mounted at {}", OsStr::from_bytes(name.to_bytes()).display()),
        )),
        other => Ok(other?),
    }
}

/// Before Linux 5.6 a bind mount of the same filesystem cannot be told apart this way.
fn same_filesystem(parent: impl AsFd, child: impl AsFd) -> io::Result<()> {
    if rustix::fs::fstat(parent)?.st_dev == rustix::fs::fstat(child)?.st_dev {
        Ok(())
    } else {
        Err(io::ErrorKind::CrossesDevices.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn deep_and_linked_trees_go_and_nothing_else() {
        let base = std::env::temp_dir().join(format!("rootfs-remove-{}", std::process::id()));
        fs::create_dir_all(base.join("canary")).unwrap();
        fs::write(base.join("canary/file"), "x").unwrap();
        fs::create_dir_all(base.join("tree/a/b")).unwrap();
        symlink("../canary", base.join("tree/link")).unwrap();
        symlink("/", base.join("tree/a/root")).unwrap();
        let mut at = rustix::fs::open(base.join("tree"), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("..", &at, "up").unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        drop(at);
        tree(&base.join("tree")).unwrap();
        assert!(!base.join("tree").exists());
        assert!(base.join("canary/file").exists());
        tree(&base).unwrap();
    }
}

//! Making directories and files where an image has links that lead nowhere yet.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat},
    io::Errno,
};
use sys::Root;

/// As many links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Makes a directory with all that leads to it. Links are followed inside the root only, also where what
/// they name has to be made first: an image may link `/data` to a place it leaves to its user.
pub(super) fn make_directories(root: &Root, name: &Path) -> io::Result<OwnedFd> {
    let mut name = name.to_owned();
    for _ in 0..MAX_LINKS {
        match make_until_link(root, &name)? {
            Made::All(directory) => return Ok(directory),
            Made::Link(instead) => name = instead,
        }
    }
    Err(Errno::LOOP.into())
}

/// Makes a directory with all that leads to it, where no part may be a link.
pub(super) fn make_plain_directories(root: &Root, name: &Path) -> io::Result<OwnedFd> {
    match root.open_plain(name, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut here = root.open_plain(Path::new("/"), PLACE | OFlags::DIRECTORY)?;
    for component in name.components() {
        let part = match component {
            Component::Normal(part) => part,
            Component::ParentDir => return Err(Errno::INVAL.into()),
            _ => continue,
        };
        match mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        here = openat(&here, part, PLACE | OFlags::DIRECTORY, Mode::empty())?;
    }
    Ok(here)
}

/// Makes an empty file, and the directories that lead to it, in the same way.
pub(super) fn make_file(root: &Root, name: &Path) -> io::Result<OwnedFd> {
    let mut name = name.to_owned();
    for _ in 0..MAX_LINKS {
        let last = name.file_name().ok_or(Errno::INVAL)?;
        let parent = make_directories(root, name.parent().unwrap_or(Path::new("/")))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match openat(&parent, last, flags, Mode::from_raw_mode(0o644)) {
            // Closed at once: with a writer the root could not be made read-only.
            Ok(made) => drop(made),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let found = openat(&parent, last, PLACE, Mode::empty())?;
        if file_type(&found)? != FileType::Symlink {
            return Ok(found);
        }
        name = name.parent().unwrap_or(Path::new("/")).join(link_target(&found)?);
    }
    Err(Errno::LOOP.into())
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn file_type(file: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn link_target(link: &OwnedFd) -> io::Result<PathBuf> {
    let target = readlinkat(link, "", Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

enum Made {
    All(OwnedFd),
    /// A link was in the way; this is the same place with it replaced by its target.
    Link(PathBuf),
}

fn make_until_link(root: &Root, name: &Path) -> io::Result<Made> {
    let mut done = PathBuf::from("/");
    let mut here = root.open_at(&done, PLACE | OFlags::DIRECTORY, Mode::empty())?;
    let mut components = name.components();
    while let Some(component) = components.next() {
        let part = match component {
            Component::Normal(part) => part,
            // What was done so far has no links in it, so its text is where it is; `/..` is `/`.
            Component::ParentDir => {
                done.pop();
                here = root.open_plain(&done, PLACE | OFlags::DIRECTORY)?;
                continue;
            }
            _ => continue,
        };
        let next = match openat(&here, part, PLACE, Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(&here, part, Mode::from_raw_mode(0o755))?;
                openat(&here, part, PLACE | OFlags::DIRECTORY, Mode::empty())?
            }
            other => other?,
        };
        if file_type(&next)? == FileType::Symlink {
            // An absolute target replaces what was done, since it begins at the root.
            let instead = done.join(link_target(&next)?).join(components.as_path());
            return Ok(Made::Link(instead));
        }
        done.push(part);
        here = next;
    }
    Ok(Made::All(here))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_that_lead_nowhere_yet_are_followed_inside() {
        let base = std::env::temp_dir().join(format!("places-{}", std::process::id()));
        let image = base.join("image");
        fs::create_dir_all(&image).unwrap();
        symlink("/new/deep", image.join("absolute")).unwrap();
        symlink("../../../up", image.join("relative")).unwrap();
        symlink("loop", image.join("loop")).unwrap();
        let root = Root::open(&image).unwrap();
        for name in ["/absolute/a", "/relative/b", "/plain/../c"] {
            make_directories(&root, Path::new(name)).unwrap();
        }
        assert!(make_directories(&root, Path::new("/loop/x")).is_err());
        symlink("../run/resolve/conf", image.join("plain/link")).unwrap();
        make_file(&root, Path::new("/plain/link")).unwrap();
        assert!(image.join("run/resolve/conf").is_file());
        for made in ["new/deep/a", "up/b", "c"] {
            assert!(image.join(made).is_dir(), "{made}");
        }
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1, "nothing beside the image");
        fs::remove_dir_all(base).unwrap();
    }
}

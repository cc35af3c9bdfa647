//! [`Root`]: a directory that names from an image may be resolved in, and never out of (D-1).

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags},
    io::Errno,
};

/// How often a lookup that raced with a rename is tried again (openat2(2): EAGAIN).
const ATTEMPTS: usize = 32;

/// What the kernel allows, and so what the fallback allows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The kernel's PATH_MAX; keeps a hostile chain of links from growing the list of what is left.
const MAX_PATH: usize = 4096;

/// Set once this kernel was found to lack openat2(2) (before Linux 5.6).
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A directory that names from an image may be resolved in, and never out of.
///
/// Symlinks on the way are followed as a chroot would follow them; magic links of procfs never are.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    walk: bool,
}

impl Root {
    /// Opens `path`, which must be a directory and no symlink.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { directory, walk: false })
    }

    /// Takes a directory that is open already.
    pub fn from_directory(directory: OwnedFd) -> io::Result<Self> {
        match file_type(directory.as_fd())? {
            FileType::Directory => Ok(Self { directory, walk: false }),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// The same directory, resolved component by component even where openat2(2) exists.
    ///
    /// For tests of what older kernels get.
    pub fn without_openat2(self) -> Self {
        Self { walk: true, ..self }
    }

    /// Another handle on the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { directory: self.directory.try_clone()?, walk: self.walk })
    }

    /// Opens `name` beneath this directory, following symlinks inside it, the last one too unless
    /// `flags` has `NOFOLLOW`.
    ///
    /// With `CREATE` the last component is never followed.
    pub fn open_at(&self, name: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        if flags.contains(OFlags::CREATE) {
            let (parent, last) = self.parent_of(name)?;
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(rustix::fs::openat(parent, last, flags, mode)?);
        }
        self.resolve(name, flags | OFlags::CLOEXEC, ResolveFlags::empty())
    }

    /// Opens `name` beneath this directory where no component may be a symlink (ELOOP otherwise).
    pub fn open_plain(&self, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens `name` where nothing may be mounted over any component (EXDEV).
    pub fn open_unmounted(&self, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(name, flags | OFlags::CLOEXEC, ResolveFlags::NO_XDEV)
    }

    /// Opens the directory that holds `name`, and returns it with the last component.
    ///
    /// The last component is not looked up: callers pass it to an `*at` call that does not follow. A
    /// name without a last component (`/`, `a/..`) is EINVAL.
    pub fn parent_of<'n>(&self, name: &'n Path) -> io::Result<(OwnedFd, &'n OsStr)> {
        let Some(last) = last_component(name) else {
            return Err(Errno::INVAL.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = name.parent().unwrap_or(Path::new(""));
        Ok((self.resolve(parent, flags, ResolveFlags::empty())?, last))
    }

    /// Opens the directory `name`, making every component that is missing with `mode`.
    ///
    /// Links on the way are followed inside the root; a dangling one is an error, not a place to create.
    pub fn make_directories(&self, name: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.resolve(name, flags, ResolveFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut done = std::path::PathBuf::new();
        for component in name.components() {
            done.push(component);
            match self.resolve(&done, flags, ResolveFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(_) => continue,
            }
            let (parent, last) = self.parent_of(&done)?;
            match rustix::fs::mkdirat(&parent, last, mode) {
                // Made by somebody else meanwhile; or a dangling link, which the last lookup reports.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.resolve(name, flags, ResolveFlags::empty())
    }

    fn resolve(&self, name: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        if !self.walk && !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
            match self.resolve_by_kernel(name, flags, more) {
                Err(Errno::NOSYS) => WITHOUT_OPENAT2.store(true, Ordering::Relaxed),
                other => return Ok(other?),
            }
        }
        walk(self.directory.as_fd(), name, flags, more)
    }

    fn resolve_by_kernel(
        &self,
        name: &Path,
        flags: OFlags,
        more: ResolveFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = rustix::fs::openat2(&self.directory, name, flags, Mode::empty(), how);
            // EAGAIN: a rename or mount somewhere on the machine raced with a `..` of ours.
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn last_component(name: &Path) -> Option<&OsStr> {
    // `a/.` and `a/` would be normalised to `a` by Path; the first must be refused, as it means a.
    if name.as_os_str().as_bytes().ends_with(b"/.") {
        return None;
    }
    match name.components().next_back() {
        Some(Component::Normal(last)) => Some(last),
        _ => None,
    }
}

fn file_type(file: BorrowedFd<'_>) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Which mount an open file lies on, statx(2); ENOSYS where the kernel does not tell (before Linux 5.8).
fn mount_id(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(file, "", flags, StatxFlags::MNT_ID)?;
    let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    if told { Ok(found.stx_mnt_id) } else { Err(Errno::NOSYS) }
}

/// What openat2(2) does, one component at a time, for kernels without it.
///
/// Every step opens a single component without following it, so nothing another process renames can
/// lead out; `..` goes back to a directory we passed, never to where that directory is now.
fn walk(
    root: BorrowedFd<'_>,
    name: &Path,
    flags: OFlags,
    rules: ResolveFlags,
) -> io::Result<OwnedFd> {
    let refuse_links = rules.contains(ResolveFlags::NO_SYMLINKS);
    let own_mount = rules.contains(ResolveFlags::NO_XDEV).then(|| mount_id(root)).transpose()?;
    let mut passed: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    let mut left = components(name.as_os_str());
    let must_be_directory = ends_with_slash(name.as_os_str());
    while let Some(component) = left.pop_front() {
        let here = passed.last().map_or(root, AsFd::as_fd);
        match component.as_bytes() {
            b"/" => passed.clear(),
            b"." => {}
            b".." => drop(passed.pop()),
            _ => {
                let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = rustix::fs::openat(here, &component, step, Mode::empty())?;
                if own_mount.is_some_and(|own| mount_id(found.as_fd()).ok() != Some(own)) {
                    return Err(Errno::XDEV.into());
                }
                let is_last = left.is_empty();
                let kept = is_last && flags.contains(OFlags::NOFOLLOW) && !must_be_directory;
                let kind = file_type(found.as_fd())?;
                if kind != FileType::Symlink || kept {
                    if is_last {
                        return reopen(here, &component, &found, flags);
                    }
                    if kind != FileType::Directory {
                        return Err(Errno::NOTDIR.into());
                    }
                    passed.push(found);
                    continue;
                }
                links += 1;
                if refuse_links || links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = link_target(&found)?;
                let mut more = components(&target);
                more.append(&mut left);
                if more.iter().map(|part| part.len() + 1).sum::<usize>() > MAX_PATH {
                    return Err(Errno::NAMETOOLONG.into());
                }
                left = more;
            }
        }
    }
    let here = passed.last().map_or(root, AsFd::as_fd);
    Ok(rustix::fs::openat(here, ".", flags, Mode::empty())?)
}

/// Opens with the caller's flags what was found with O_PATH, provided it still is the same file.
fn reopen(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    found: &OwnedFd,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let opened = rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let (wanted, got) = (rustix::fs::fstat(found)?, rustix::fs::fstat(&opened)?);
    if (wanted.st_dev, wanted.st_ino) != (got.st_dev, got.st_ino) {
        return Err(Errno::AGAIN.into());
    }
    Ok(opened)
}

/// Where a symlink leads, unless it is one of procfs' magic links, whose text is not their target.
fn link_target(link: &OwnedFd) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes();
    let in_procfs = rustix::fs::fstatfs(link)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
    // True symlinks of procfs (`self`, `mounts`, `net`) are relative and plain.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/".contains(byte);
    if in_procfs && (target.first() == Some(&b'/') || !target.iter().all(plain)) {
        return Err(Errno::LOOP.into());
    }
    if target.is_empty() {
        return Err(Errno::NOENT.into());
    }
    Ok(OsStr::from_bytes(&target).to_owned())
}

/// The components of a path, `.` and a leading `/` among them; a trailing slash is a `.`.
fn components(path: &OsStr) -> VecDeque<OsString> {
    let bytes = path.as_bytes();
    let mut parts = VecDeque::new();
    if bytes.first() == Some(&b'/') {
        parts.push_back(OsString::from("/"));
    }
    for part in bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        parts.push_back(OsStr::from_bytes(part).to_owned());
    }
    if ends_with_slash(path) {
        parts.push_back(OsString::from("."));
    }
    parts
}

fn ends_with_slash(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use super::*;

    /// An image's tree and a canary beside it; removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let base = std::env::temp_dir().join(format!("sys-root-{}-{name}", std::process::id()));
            let image = base.join("image");
            fs::create_dir_all(image.join("etc/deep")).unwrap();
            fs::write(base.join("canary"), "outside").unwrap();
            fs::write(image.join("etc/passwd"), "inside").unwrap();
            symlink("../../../../../../etc", image.join("up")).unwrap();
            symlink("/etc", image.join("absolute")).unwrap();
            symlink("loop", image.join("loop")).unwrap();
            symlink("../canary", image.join("out")).unwrap();
            symlink("etc/passwd", image.join("leaf")).unwrap();
            symlink("nowhere", image.join("dangling")).unwrap();
            Self(base)
        }

        fn roots(&self) -> [Root; 2] {
            let open = || Root::open(&self.0.join("image")).unwrap();
            [open(), open().without_openat2()]
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn read(root: &Root, name: &str) -> Result<String, Errno> {
        let file = root.open_at(Path::new(name), OFlags::RDONLY, Mode::empty()).map_err(errno)?;
        Ok(io::read_to_string(fs::File::from(file)).unwrap())
    }

    fn errno(error: io::Error) -> Errno {
        Errno::from_io_error(&error).unwrap()
    }

    #[test]
    fn both_ways_of_resolving_agree() {
        let tree = Tree::new("agree");
        for root in tree.roots() {
            for name in ["etc/passwd", "up/passwd", "absolute/passwd", "leaf", "/etc/passwd"] {
                assert_eq!(read(&root, name).as_deref(), Ok("inside"), "{name} {root:?}");
            }
            for name in ["etc/deep/../passwd", "../../etc/passwd", "up/../etc//./passwd"] {
                assert_eq!(read(&root, name).as_deref(), Ok("inside"), "{name} {root:?}");
            }
            assert_eq!(read(&root, "out"), Err(Errno::NOENT));
            assert_eq!(read(&root, "loop"), Err(Errno::LOOP));
            assert_eq!(read(&root, "dangling"), Err(Errno::NOENT));
            assert_eq!(read(&root, "etc/passwd/"), Err(Errno::NOTDIR));
            assert_eq!(read(&root, "etc/passwd/.."), Err(Errno::NOTDIR));
            let plain = |name| root.open_plain(Path::new(name), OFlags::PATH).map(drop);
            assert!(plain("etc/deep").is_ok());
            assert_eq!(errno(plain("absolute/deep").unwrap_err()), Errno::LOOP);
        }
    }

    #[test]
    fn a_last_component_is_returned_unfollowed_and_must_exist_as_a_name() {
        let tree = Tree::new("parent");
        for root in tree.roots() {
            let (directory, last) = root.parent_of(Path::new("up/passwd")).unwrap();
            assert_eq!(last, "passwd");
            let opened =
                rustix::fs::openat(&directory, last, OFlags::RDONLY, Mode::empty()).unwrap();
            assert_eq!(io::read_to_string(fs::File::from(opened)).unwrap(), "inside");
            for name in ["", "/", ".", "..", "etc/..", "etc/."] {
                assert!(root.parent_of(Path::new(name)).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn directories_are_made_inside_only() {
        let tree = Tree::new("make");
        for (round, root) in tree.roots().into_iter().enumerate() {
            let name = format!("../../up/new{round}/sub");
            root.make_directories(Path::new(&name), Mode::from_raw_mode(0o755)).unwrap();
            assert!(tree.0.join(format!("image/etc/new{round}/sub")).is_dir());
            let dangling =
                root.make_directories(Path::new("dangling/x"), Mode::from_raw_mode(0o755));
            assert!(dangling.is_err());
            assert!(!tree.0.join("image/nowhere").exists());
        }
    }

    #[test]
    fn created_files_do_not_follow_a_link() {
        let tree = Tree::new("create");
        for root in tree.roots() {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let result = root.open_at(Path::new("dangling"), flags, Mode::from_raw_mode(0o600));
            assert_eq!(errno(result.unwrap_err()), Errno::LOOP);
        }
    }

    #[test]
    fn magic_links_are_not_followed() {
        for root in [Root::open(Path::new("/proc")), Root::open(Path::new("/proc"))]
            .into_iter()
            .zip([false, true])
            .map(|(root, walk)| if walk { root.unwrap().without_openat2() } else { root.unwrap() })
        {
            for name in ["self/root/etc", "self/cwd/.", "self/fd/0", "self/exe"] {
                assert_eq!(read(&root, name).unwrap_err(), Errno::LOOP, "{name}");
            }
            assert!(read(&root, "mounts").is_ok(), "plain links of procfs work");
        }
    }
}

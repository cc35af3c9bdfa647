//! What differs between a root filesystem and the branch it has checked out.
//!
//! A file whose stamp is the one we took is untouched and is not opened. Directories are only listed
//! when their own stamp says that names came or went. What is left is looked at closely.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    num::NonZero,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use sha2::{Digest, Sha256};
use sys::Root;

use super::{
    error::{Error, Result},
    files::privileged,
    inode::{Content, Inode, pointer_text},
    manifest::{Line, What},
    oid::{Hasher, Kind, ObjectId},
    populate::{relative, split},
    repository::{GITFILE, MOUNTED, OURS},
    scan::{self, LOOK, READ},
    stamp::Stamp,
    state::State,
    view::{MAX_DEPTH, Node, View},
};

/// What a commit would bring.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Parents first; a layer in the form of a manifest, with whiteouts for what is gone.
    pub(crate) lines: Vec<Line>,
    /// For each of the lines, and for paths that merely were touched.
    pub(crate) stamps: BTreeMap<Vec<u8>, Stamp>,
    /// Paths that were added, changed or removed; the lines also have the directories they are in.
    pub(crate) paths: Vec<Vec<u8>>,
}

/// Compares the root filesystem at `directory` with what was checked out. Paths in `exclude`, and what
/// is below them, count as unchanged.
///
/// Files larger than `large` are named by what git has in their place.
pub(crate) fn changes(
    directory: &Path,
    state: &State,
    exclude: &[Vec<u8>],
    large: u64,
) -> Result<Changes> {
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let device = rustix::fs::fstat(&root)
        .map_err(|error| Error::io("examine", directory)(error.into()))?
        .st_dev;
    let tree = Tree { directory, root, state, exclude, large, device };
    let found = tree.compare()?;
    tree.look_closely(found)
}

/// A root filesystem, and what it was.
struct Tree<'a> {
    directory: &'a Path,
    root: Root,
    state: &'a State,
    exclude: &'a [Vec<u8>],
    large: u64,
    device: u64,
}

/// What the comparison by stamps found.
enum Found {
    /// Nobody there any more.
    Removed(Vec<u8>),
    /// Not as it was, or not known to be.
    Touched(Vec<u8>, Stat),
    /// Was not there before.
    Added(Vec<u8>, Stat),
}

impl Tree<'_> {
    fn fail(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
        let path = self.path(path);
        move |error| Error::Io { action, path, source: error.into() }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.directory.join(relative(path))
    }

    fn view(&self) -> &View {
        &self.state.view
    }

    fn stamp(&self, node: &Node) -> Option<&Stamp> {
        self.state.stamps.get(node.inode).and_then(Option::as_ref)
    }

    fn ignored(&self, path: &[u8]) -> bool {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        // Our own files are ours only while the image has none of the name.
        let same = |ours: &&str| ours.as_bytes() == name;
        let ours = OURS.iter().any(same);
        (ours && (name == GITFILE.as_bytes() || self.view().find(path).is_none()))
            || self.exclude.iter().any(|excluded| excluded == path)
    }

    /// Compares stamps, on a few threads: it is the kernel's work, and there are many files.
    fn compare(&self) -> Result<Vec<Found>> {
        let mut directories = Vec::new();
        self.view().walk(&mut |path, node| {
            if self.view().inode(node).is_directory() && !self.ignored_with_parents(path) {
                directories.push((path.to_vec(), node));
            }
            Ok(())
        })?;
        const PIECE: usize = 32;
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        let worker = || -> Result<()> {
            let mut mine = Vec::new();
            loop {
                let start = next.fetch_add(PIECE, Ordering::Relaxed);
                let Some(rest) = directories.get(start..) else { break };
                for (path, node) in rest.iter().take(PIECE) {
                    self.compare_directory(path, node, &mut mine)?;
                }
            }
            found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
            Ok(())
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(4);
        thread::scope(|scope| -> Result<()> {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
            let mut result = worker();
            for other in others {
                result = result.and(other.join().unwrap_or(Ok(())));
            }
            result
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn ignored_with_parents(&self, path: &[u8]) -> bool {
        self.ignored(path)
            || path.starts_with(b"/.git/")
            || self.exclude.iter().any(|excluded| {
                path.strip_prefix(excluded.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
            })
    }

    fn compare_directory(&self, path: &[u8], node: &Node, found: &mut Vec<Found>) -> Result<()> {
        let opened = match self.root.open_plain(relative(path), LOOK | OFlags::DIRECTORY) {
            Ok(opened) => opened,
            Err(error) if path.is_empty() => return Err(Error::io("open", self.directory)(error)),
            Err(_) => return self.no_directory(path, found),
        };
        let stat = rustix::fs::fstat(&opened).map_err(self.fail("examine", path))?;
        if stat.st_dev != self.device {
            log::warn!("{} is another filesystem, and not looked at", self.path(path).display());
            return Ok(());
        }
        let mut full = path.to_vec();
        full.push(b'/');
        let length = full.len();
        for (name, child) in &node.children {
            // Directories have their own turn.
            if self.view().inode(child).is_directory() {
                continue;
            }
            full.truncate(length);
            full.extend_from_slice(name);
            self.compare_entry(&opened, &full, OsStr::from_bytes(name), child, found)?;
        }
        if self.stamp(node) == Some(&Stamp::new(&stat)) {
            return Ok(());
        }
        found.push(Found::Touched(path.to_vec(), stat));
        let listed = self
            .root
            .open_plain(relative(path), READ | OFlags::DIRECTORY)
            .map_err(Error::io("open", &self.path(path)))?;
        for name in scan::names(&listed).map_err(self.fail("list", path))? {
            full.truncate(length);
            full.extend_from_slice(&name);
            if !node.children.contains_key(&name) {
                self.added(&listed, &full, OsStr::from_bytes(&name), found, 0)?;
            }
        }
        Ok(())
    }

    /// Where a directory was: gone, or something else now.
    fn no_directory(&self, path: &[u8], found: &mut Vec<Found>) -> Result<()> {
        let (parent, name) = split(path);
        let Ok(parent) = self.root.open_plain(relative(parent), LOOK | OFlags::DIRECTORY) else {
            found.push(Found::Removed(path.to_vec()));
            return Ok(());
        };
        match rustix::fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => found.push(Found::Touched(path.to_vec(), stat)),
            Err(Errno::NOENT) => found.push(Found::Removed(path.to_vec())),
            Err(error) => return Err(self.fail("examine", path)(error)),
        }
        Ok(())
    }

    fn compare_entry(
        &self,
        directory: &OwnedFd,
        path: &[u8],
        name: &OsStr,
        node: &Node,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        if self.ignored(path) {
            return Ok(());
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                // A device node this user could not make is not one that was removed.
                let device = matches!(
                    self.view().inode(node).kind(),
                    FileType::CharacterDevice | FileType::BlockDevice
                );
                if privileged() || !device {
                    found.push(Found::Removed(path.to_vec()));
                }
                return Ok(());
            }
            Err(error) => return Err(self.fail("examine", path)(error)),
        };
        // A file mounted over the image's own is no change of the image.
        if stat.st_dev != self.device || self.stamp(node) == Some(&Stamp::new(&stat)) {
            return Ok(());
        }
        found.push(Found::Touched(path.to_vec(), stat));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.added_below(directory, path, name, found, 0)?;
        }
        Ok(())
    }

    /// Something new, and everything below it.
    fn added(
        &self,
        directory: &OwnedFd,
        path: &[u8],
        name: &OsStr,
        found: &mut Vec<Found>,
        depth: usize,
    ) -> Result<()> {
        if self.ignored(path) {
            return Ok(());
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(self.fail("examine", path))?,
        };
        // A layer cannot have sockets, and nobody listens on one that was copied.
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket || stat.st_dev != self.device {
            return Ok(());
        }
        // Left behind by a container.
        if stat.st_size == 0 && MOUNTED.contains(&path) {
            return Ok(());
        }
        if path == STATE && is_nsinits(directory, name) {
            return Ok(());
        }
        found.push(Found::Added(path.to_vec(), stat));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.added_below(directory, path, name, found, depth)?;
        }
        Ok(())
    }

    fn added_below(
        &self,
        parent: &OwnedFd,
        path: &[u8],
        name: &OsStr,
        found: &mut Vec<Found>,
        depth: usize,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(self.fail("descend into", path)(Errno::NAMETOOLONG));
        }
        let flags = READ | OFlags::DIRECTORY;
        let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(self.fail("open", path))?,
        };
        for name in scan::names(&directory).map_err(self.fail("list", path))? {
            let full = [path, b"/", &name].concat();
            self.added(&directory, &full, OsStr::from_bytes(&name), found, depth + 1)?;
        }
        Ok(())
    }

    /// Opens what was found, and keeps what truly differs.
    fn look_closely(&self, found: Vec<Found>) -> Result<Changes> {
        let mut removed = Vec::new();
        // Sorted by path, so that parents come first and the first name of a file is the same each time.
        let mut there = BTreeMap::new();
        for item in found {
            match item {
                Found::Removed(path) => removed.push(path),
                Found::Touched(path, stat) | Found::Added(path, stat) => {
                    there.insert(key(&path), (path, stat));
                }
            }
        }
        let mut changes = Changes::default();
        let mut changed = BTreeMap::new();
        let mut files: HashMap<(u64, u64), Vec<Vec<u8>>> = HashMap::new();
        for (path, stat) in there.values() {
            let Some((inode, stamp)) = self.look_again(path)? else {
                removed.push(path.clone());
                continue;
            };
            let (node, is_directory) = (self.view().find(path), inode.is_directory());
            let same = node.is_some_and(|node| self.is_same(&inode, node));
            changes.stamps.insert(path.clone(), stamp);
            if stat.st_nlink > 1 && !is_directory {
                files.entry((stat.st_dev, stat.st_ino)).or_default().push(path.clone());
            }
            changed.insert(path.clone(), (inode, !same));
        }
        self.join_names(&files, &mut changed);
        changes.paths.extend(changed.iter().filter(|(_, row)| row.1).map(|row| row.0.clone()));
        changes
            .paths
            .extend(removed.iter().filter(|path| self.view().find(path).is_some()).cloned());
        changes.paths.sort();
        self.write_lines(&mut changes, changed, &removed, &files)?;
        Ok(changes)
    }

    /// The names of a file belong together: a layer has all of them or none.
    fn join_names(
        &self,
        files: &HashMap<(u64, u64), Vec<Vec<u8>>>,
        changed: &mut BTreeMap<Vec<u8>, (Inode, bool)>,
    ) {
        for names in files.values() {
            let first =
                names.first().and_then(|name| self.view().find(name)).map(|node| node.inode);
            let together = first.is_some()
                && names.iter().all(|name| self.view().find(name).map(|node| node.inode) == first);
            let any = names.iter().any(|name| changed.get(name).is_some_and(|row| row.1));
            if any || !together {
                for name in names {
                    if let Some(row) = changed.get_mut(name) {
                        row.1 = true;
                    }
                }
            }
        }
    }

    fn write_lines(
        &self,
        changes: &mut Changes,
        changed: BTreeMap<Vec<u8>, (Inode, bool)>,
        removed: &[Vec<u8>],
        files: &HashMap<(u64, u64), Vec<Vec<u8>>>,
    ) -> Result<()> {
        let first_names: HashMap<&[u8], &[u8]> = files
            .values()
            .filter_map(|names| Some((names.first()?, names)))
            .flat_map(|(first, names)| names.iter().skip(1).map(|name| (&**name, &**first)))
            .collect();
        let mut lines: BTreeMap<Vec<Vec<u8>>, Line> = BTreeMap::new();
        for path in &changes.paths {
            // Every layer says what the directories on the way to its files are like.
            let mut parent = split(path).0;
            while !lines.contains_key(&key(parent)) {
                let inode = match changed.get(parent) {
                    Some((inode, _)) => Some(inode.clone()),
                    None => self.view().find(parent).map(|node| self.view().inode(node).clone()),
                };
                if let Some(inode) = inode.filter(Inode::is_directory) {
                    lines.insert(key(parent), Line::own(absolute(parent), inode));
                }
                if parent.is_empty() {
                    break;
                }
                parent = split(parent).0;
            }
            let what = match (changed.get(path), first_names.get(path.as_slice())) {
                (Some(_), Some(first)) => What::Link(first.to_vec()),
                (Some((inode, _)), None) => What::Own(inode.clone()),
                (None, _) => What::Own(Inode::whiteout()),
            };
            lines.insert(key(path), Line { path: absolute(path), what });
        }
        // Below a directory that is gone, or is none any more, there is nothing left to remove.
        for path in removed {
            let above = split(path).0;
            let kept = |line: &Line| matches!(&line.what, What::Own(inode) if inode.is_directory());
            let hidden =
                prefixes(above).any(|path| lines.get(&key(path)).is_some_and(|line| !kept(line)));
            if hidden {
                lines.remove(&key(path));
            }
        }
        changes.lines = lines.into_values().collect();
        Ok(())
    }

    /// A file somebody is writing is looked at again, a few times.
    fn look_again(&self, path: &[u8]) -> Result<Option<(Inode, Stamp)>> {
        for _ in 0..5 {
            match self.look(path) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
        self.look(path)
    }

    /// Everything about a path; `None` if it is gone by now.
    fn look(&self, path: &[u8]) -> Result<Option<(Inode, Stamp)>> {
        if path.is_empty() {
            let stat = rustix::fs::fstat(&self.root).map_err(self.fail("examine", path))?;
            let handle = self.root.as_fd().try_clone_to_owned();
            let handle = handle.map_err(Error::io("examine", self.directory))?;
            let inode =
                scan::look_in_tree(&handle, &stat).map_err(Error::io("examine", self.directory))?;
            return Ok(Some((inode, Stamp::new(&stat))));
        }
        let (parent, name) = split(path);
        let Ok(parent) = self.root.open_plain(relative(parent), LOOK | OFlags::DIRECTORY) else {
            return Ok(None);
        };
        let name = OsStr::from_bytes(name);
        let file = match rustix::fs::openat(&parent, name, LOOK, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(self.fail("open", path))?,
        };
        let fail = |action| Error::io(action, &self.path(path));
        let stat = rustix::fs::fstat(&file).map_err(self.fail("examine", path))?;
        let mut inode = scan::look_in_tree(&file, &stat).map_err(fail("examine"))?;
        if inode.is_regular() {
            // The file itself, not whatever has its name by now: it was looked at without being opened,
            // since opening a device can do things.
            let data = rustix::fs::openat(&parent, name, READ, Mode::empty())
                .map_err(self.fail("open", path))?;
            let again = rustix::fs::fstat(&data).map_err(self.fail("examine", path))?;
            if Stamp::new(&again) != Stamp::new(&stat) {
                return Err(fail("read")(Errno::AGAIN.into()));
            }
            inode.content =
                self.content(path, File::from(data), inode.size).map_err(fail("read"))?;
        }
        if !privileged() {
            self.keep_owner(path, &mut inode);
        }
        Ok(Some((inode, Stamp::new(&stat))))
    }

    /// Names a file's content. What was too large for git stays so while its size remains.
    fn content(&self, path: &[u8], mut file: File, size: u64) -> std::io::Result<Content> {
        let was = self.view().find(path).map(|node| self.view().inode(node));
        let was_large =
            was.is_some_and(|was| matches!(was.content, Content::Large { .. }) && was.size == size);
        if was_large || size > self.large {
            let sha256 = hash_large(&mut file, size)?;
            let pointer = ObjectId::of(Kind::Blob, pointer_text(&sha256, size).as_bytes());
            return Ok(Content::Large { sha256, pointer });
        }
        hash(&mut file, size).map(Content::Blob)
    }

    /// Without privileges all files are ours, whatever the image says; new ones are meant to be root's.
    fn keep_owner(&self, path: &[u8], inode: &mut Inode) {
        let (uid, gid) = match self.view().find(path) {
            Some(node) => (self.view().inode(node).uid, self.view().inode(node).gid),
            None => (0, 0),
        };
        (inode.uid, inode.gid) = (uid, gid);
    }

    /// Whether a file is what it was. Directories get a new time whenever something comes or goes in
    /// them, which by itself is no change.
    fn is_same(&self, now: &Inode, node: &Node) -> bool {
        let was = self.view().inode(node);
        now.content == was.content
            && (now.is_directory() || now.mtime == was.mtime)
            && (now.mode, now.uid, now.gid, now.rdev) == (was.mode, was.uid, was.gid, was.rdev)
            && now.xattrs == was.xattrs
    }
}

/// What nsinit keeps beside container.json while the container runs.
const STATE: &[u8] = b"/state.json";

fn is_nsinits(directory: &OwnedFd, name: &OsStr) -> bool {
    let mut text = String::new();
    rustix::fs::openat(directory, name, READ, Mode::empty())
        .is_ok_and(|file| File::from(file).take(1 << 20).read_to_string(&mut text).is_ok())
        && text.contains("\"init_pid\"")
        && text.contains("\"init_start_time\"")
}

/// The name git has for a file's content.
pub(crate) fn hash(file: &mut File, size: u64) -> io::Result<ObjectId> {
    let mut hasher = Hasher::new(Kind::Blob, size);
    read(file, size, |bytes| hasher.update(bytes))?;
    Ok(hasher.finish())
}

/// What names a file that git has only a pointer to.
pub(crate) fn hash_large(file: &mut File, size: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    read(file, size, |bytes| hasher.update(bytes))?;
    Ok(hasher.finalize().into())
}

/// Reads a whole file, which must have the size that was seen: EAGAIN if somebody is writing it.
fn read(file: &mut File, size: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(size.clamp(1, 256 << 10)).unwrap_or(4096)];
    let mut total = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        each(buffer.get(..count).unwrap_or_default());
        total += u64::try_from(count).unwrap_or_default();
    }
    if total == size { Ok(()) } else { Err(Errno::AGAIN.into()) }
}

/// A path as its components: in this order parents come first, and what they hold comes next.
pub(crate) fn key(path: &[u8]) -> Vec<Vec<u8>> {
    super::view::components(path).map(<[u8]>::to_vec).collect()
}

/// The path and all above it, without the root.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| Some(split(path).0))
        .take_while(|path| !path.is_empty())
}

fn absolute(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b"/".to_vec() } else { path.to_vec() }
}

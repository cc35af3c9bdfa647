//! `checkout -r DIR BRANCH`, and what is left to do after stock git's own checkout.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use sys::Root;

use super::{
    changes::{self, changes},
    create::{now, remember},
    error::{Error, Result},
    escape::escape,
    files::{self, Current},
    history, index,
    inode::{Content, Inode},
    objects::Objects,
    oid::{Kind, ObjectId},
    populate::{relative, split},
    refs,
    repository::{GITFILE, Repository},
    scan::{self, LOOK, READ},
    stamp::Stamp,
    state::State,
    uses::{self, Entered},
    view::{Node, View},
};

/// Finds the bytes of a file that git has only a pointer to, by their SHA-256 and its path.
pub(crate) type Large<'a> = &'a dyn Fn(&[u8; 32], &Path) -> Option<File>;

/// Makes `directory` show another branch.
///
/// Changes that were not committed are an error, unless `force` says to drop them; new files stay.
pub(crate) fn checkout(
    directory: &Path,
    repositories: &Path,
    branch: &str,
    force: bool,
    large: Large<'_>,
) -> Result<()> {
    let repository = uses::enter(directory, repositories)?.repository;
    let _lock = repository.lock()?;
    let refs = repository.refs();
    let target = refs
        .get(&format!("refs/heads/{branch}"))?
        .ok_or_else(|| Error::NoBranch(branch.to_owned()))?;
    let objects = Objects::open(&repository.objects())?;
    let old = current(&repository, &objects)?;
    let changes = changes(directory, &old, &[], u64::MAX)?;
    if let Some(example) = changes.paths.first().filter(|_| !force) {
        return Err(Error::Uncommitted {
            count: changes.paths.len(),
            example: String::from_utf8_lossy(example).into_owned(),
        });
    }
    // What was changed is no longer known to be what the old branch says.
    let mut stamps = old.stamps;
    for path in &changes.paths {
        if let Some(node) = old.view.find(path)
            && let Some(stamp) = stamps.get_mut(node.inode)
        {
            *stamp = None;
        }
    }
    let old = State { stamps, ..old };
    refs.set_head(branch)?;
    show(directory, &repository, &objects, &old, target, Whose::Ours, large)
}

/// Restores what git cannot store, after stock git has checked out another commit. `previous` is the one
/// it came from. Contents that differ from the commit's are the user's changes and stay.
pub(crate) fn restore(
    directory: &Path,
    repositories: &Path,
    previous: Option<ObjectId>,
    large: Large<'_>,
) -> Result<()> {
    let Entered { repository, original } = uses::enter(directory, repositories)?;
    if let Some(original) = original {
        give_back(&original)?;
    }
    let _lock = repository.lock()?;
    let objects = Objects::open(&repository.objects())?;
    let target = repository.refs().head_commit()?;
    let target = target.ok_or_else(|| Error::NotARepository(directory.to_owned()))?;
    let known = State::load(&repository.state())?;
    let old = match (known, previous) {
        (Some(state), _) => state,
        (None, Some(previous)) if objects.contains(previous)? => {
            unstamped(&repository, &objects, previous)?
        }
        (None, _) => unstamped(&repository, &objects, target)?,
    };
    show(directory, &repository, &objects, &old, target, Whose::Gits, large)
}

/// Git, called in a copy, moved the branch of the root filesystem that was copied: that one still shows
/// what it showed.
fn give_back(original: &Repository) -> Result<()> {
    let _lock = original.lock()?;
    let refs = original.refs();
    let Some(shown) = State::load(&original.state())? else { return Ok(()) };
    if refs.head_commit()? == Some(shown.commit) {
        return Ok(());
    }
    if let Some((branch, _)) = refs.branches()?.into_iter().find(|row| row.1 == shown.commit) {
        refs.set_head(&branch)?;
        refs::replace(&original.index(), &index::encode(&shown.view, &shown.stamps)?)?;
    }
    Ok(())
}

/// What is checked out: as remembered, or from the manifests.
pub(crate) fn current(repository: &Repository, objects: &Objects) -> Result<State> {
    let head = repository.refs().head_commit()?;
    let head = head.ok_or_else(|| Error::NotARepository(repository.directory.clone()))?;
    match State::load(&repository.state())? {
        Some(state) if state.commit == head => Ok(state),
        _ => unstamped(repository, objects, head),
    }
}

pub(crate) fn unstamped(
    repository: &Repository,
    objects: &Objects,
    commit: ObjectId,
) -> Result<State> {
    let ancestors = history::line(objects, &repository.refs(), commit)?;
    let view = history::view(objects, &ancestors)?;
    let stamps = vec![None; view.inodes.len()];
    Ok(State { commit, view, stamps })
}

/// Who put the contents of the target into the work tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// We are to do it.
    Ours,
    /// Stock git has.
    Gits,
}

fn show(
    directory: &Path,
    repository: &Repository,
    objects: &Objects,
    old: &State,
    target: ObjectId,
    whose: Whose,
    large: Large<'_>,
) -> Result<()> {
    let new = unstamped(repository, objects, target)?;
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let names = names(&old.view)?;
    let mut shown =
        Show { directory, root, objects, old, names, whose, large, new, first: BTreeMap::new() };
    shown.remove_what_is_gone()?;
    let paths = paths(&shown.new.view)?;
    for path in &paths {
        shown.path(path)?;
    }
    for path in paths.iter().rev() {
        shown.finish_directory(path)?;
    }
    shown.take_stamps(&paths)?;
    repository.write_exclude(&shown.new.view)?;
    remember(repository, &shown.new, now())
}

/// The names of each inode of a view.
fn names(view: &View) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut names = vec![Vec::new(); view.inodes.len()];
    view.walk(&mut |path, node| {
        if let Some(row) = names.get_mut(node.inode) {
            row.push(path.to_vec());
        }
        Ok(())
    })?;
    Ok(names)
}

/// All paths of a view that a work tree can have, parents first.
fn paths(view: &View) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    view.walk(&mut |path, _| {
        if !is_gits(path) {
            paths.push(path.to_vec());
        }
        Ok(())
    })?;
    Ok(paths)
}

fn is_gits(path: &[u8]) -> bool {
    let gitfile = GITFILE.as_bytes();
    path.strip_prefix(b"/")
        .and_then(|path| path.strip_prefix(gitfile))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

struct Show<'a> {
    directory: &'a Path,
    root: Root,
    objects: &'a Objects,
    old: &'a State,
    /// In the old view.
    names: Vec<Vec<Vec<u8>>>,
    whose: Whose,
    large: Large<'a>,
    new: State,
    /// The first name of each inode, once it is in place.
    first: BTreeMap<usize, Vec<u8>>,
}

impl Show<'_> {
    fn full(&self, path: &[u8]) -> PathBuf {
        self.directory.join(relative(path))
    }

    fn fail(&self, action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(action, &self.full(path))
    }

    /// The directory of a path, and the last component.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr)> {
        let (parent, name) = split(path);
        let opened = self.root.open_plain(relative(parent), READ | OFlags::DIRECTORY);
        Ok((opened.map_err(self.fail("open", parent))?, OsStr::from_bytes(name)))
    }

    /// Removes what the old view had and the new one has not, or has as something else. Never a file the
    /// user changed or made: directories that are not empty stay.
    fn remove_what_is_gone(&self) -> Result<()> {
        let mut gone = paths(&self.old.view)?;
        gone.retain(|path| {
            let kind = |view: &View| view.find(path).map(|node| view.inode(node).kind());
            kind(&self.new.view) != kind(&self.old.view)
        });
        for path in gone.iter().rev() {
            let Ok((parent, name)) = self.parent(path) else { continue };
            let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let Some(node) = self.old.view.find(path) else { continue };
            let was_directory = self.old.view.inode(node).is_directory();
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_directory != was_directory
                || (!is_directory && self.whose == Whose::Gits && !self.is_untouched(node, &stat))
            {
                continue;
            }
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match rustix::fs::unlinkat(&parent, name, flags) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(self.fail("remove", path)(error.into())),
            }
        }
        Ok(())
    }

    fn is_untouched(&self, node: &Node, stat: &rustix::fs::Stat) -> bool {
        let stamp = self.old.stamps.get(node.inode).and_then(Option::as_ref);
        // Without a stamp, what git cannot know is ours to remove all the same.
        stamp.is_none_or(|stamp| *stamp == Stamp::new(stat))
    }

    /// Brings one path to what the new view says.
    fn path(&mut self, path: &[u8]) -> Result<()> {
        let Some(node) = self.new.view.find(path) else { return Ok(()) };
        let (number, inode) = (node.inode, self.new.view.inode(node).clone());
        if path.is_empty() {
            return Ok(());
        }
        if let Some(first) = self.first.get(&number).cloned() {
            return self.link(path, &first);
        }
        self.first.insert(number, path.to_vec());
        if self.whose == Whose::Gits {
            self.remove_escaped(path, &inode)?;
        }
        let (parent, name) = self.parent(path)?;
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(self.fail("examine", path)(error.into())),
        };
        if let Some(stat) = &stat
            && self.is_kept(path, number, &inode, stat)
        {
            return Ok(());
        }
        let same_kind =
            stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == inode.kind());
        if inode.is_directory() && same_kind {
            // Ours alone while files are put into it; it gets its metadata at the end.
            return Ok(());
        }
        if inode.is_regular() {
            return self.regular(path, &parent, name, &inode, stat.is_some());
        }
        if stat.is_some() {
            if self.whose == Whose::Gits && !same_kind {
                return Ok(());
            }
            self.unlink(path, &parent, name)?;
        }
        files::make(&parent, name, &inode).map_err(self.fail("create", path))?;
        Ok(())
    }

    /// Whether a file is the old view's, untouched, and the new one wants the very same.
    fn is_kept(&self, path: &[u8], number: usize, inode: &Inode, stat: &rustix::fs::Stat) -> bool {
        let Some(node) = self.old.view.find(path) else { return false };
        let stamp = self.old.stamps.get(node.inode).and_then(Option::as_ref);
        // A file that had other names then, or has others now, is another file.
        let old_names = self.names.get(node.inode).map(Vec::as_slice).unwrap_or_default();
        let same_names = old_names
            .iter()
            .all(|name| self.new.view.find(name).is_some_and(|node| node.inode == number));
        // Git replaces the files it writes, so one that is the same file has only been changed by the user.
        let untouched = match self.whose {
            Whose::Ours => stamp == Some(&Stamp::new(stat)),
            Whose::Gits => stamp.is_some_and(|stamp| stamp.number == stat.st_ino),
        };
        !inode.is_directory() && untouched && self.old.view.inode(node) == inode && same_names
    }

    fn regular(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &OsStr,
        inode: &Inode,
        is_there: bool,
    ) -> Result<()> {
        if is_there && let Some(file) = self.has_content(path, parent, name, inode)? {
            let current = Current::of(&file).map_err(self.fail("examine", path))?;
            let alone = rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink == 1);
            if alone {
                return files::describe(&file, inode, &current)
                    .map_err(self.fail("set the metadata of", path));
            }
        } else if self.whose == Whose::Gits && !self.git_could_not(path, parent, name, inode)? {
            // Deleted or changed by the user, and carried along by git.
            return Ok(());
        }
        if is_there {
            self.unlink(path, parent, name)?;
        }
        self.write(path, parent, name, inode)
    }

    /// Opens a file if it has the content of the inode.
    fn has_content(
        &self,
        path: &[u8],
        parent: &OwnedFd,
        name: &OsStr,
        inode: &Inode,
    ) -> Result<Option<OwnedFd>> {
        let Ok(file) = rustix::fs::openat(parent, name, READ, Mode::empty()) else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| self.fail("examine", path)(e.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size != inode.size {
            return Ok(None);
        }
        let mut data = File::from(file);
        let same = match &inode.content {
            Content::Large { sha256, .. } => {
                changes::hash_large(&mut data, size).map(|sum| sum == *sha256)
            }
            content => changes::hash(&mut data, size).map(|id| *content == Content::Blob(id)),
        };
        Ok(same.map_err(self.fail("read", path))?.then(|| data.into()))
    }

    /// Whether git cannot have put the right file here: it has it under another name, or as a pointer.
    fn git_could_not(
        &self,
        path: &[u8],
        parent: &OwnedFd,
        name: &OsStr,
        inode: &Inode,
    ) -> Result<bool> {
        if path.split(|byte| *byte == b'/').any(|part| *escape(part) != *part) {
            return Ok(true);
        }
        let Content::Large { pointer, .. } = &inode.content else { return Ok(false) };
        let Ok(file) = rustix::fs::openat(parent, name, READ, Mode::empty()) else {
            return Ok(false);
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| self.fail("examine", path)(e.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let id = changes::hash(&mut File::from(file), size).map_err(self.fail("read", path))?;
        Ok(id == *pointer)
    }

    fn write(&self, path: &[u8], parent: &OwnedFd, name: &OsStr, inode: &Inode) -> Result<()> {
        let mut source: Box<dyn io::Read> = match &inode.content {
            Content::Blob(id) => Box::new(io::Cursor::new(self.objects.read_as(*id, Kind::Blob)?)),
            Content::Large { sha256, .. } => {
                let shown = relative(path);
                Box::new((self.large)(sha256, shown).ok_or_else(|| Error::Io {
                    action: "find the content of",
                    path: self.full(path),
                    source: io::ErrorKind::NotFound.into(),
                })?)
            }
            _ => Box::new(io::empty()),
        };
        let mut write = || -> io::Result<()> {
            let mut file = File::from(files::create(parent, name)?);
            io::copy(&mut source, &mut file)?;
            file.flush()?;
            files::describe(&file, inode, &Current::new())
        };
        write().map_err(self.fail("write", path))
    }

    /// Gives a file that is in place another name.
    fn link(&self, path: &[u8], first: &[u8]) -> Result<()> {
        let ((from, from_name), (parent, name)) = (self.parent(first)?, self.parent(path)?);
        let stat = |directory: &OwnedFd, name| {
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        let (Some(one), other) = (stat(&from, from_name), stat(&parent, name)) else {
            return Ok(());
        };
        if let Some(other) = other {
            if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) {
                return Ok(());
            }
            let node = self.new.view.find(path).map(|node| self.new.view.inode(node).clone());
            let same = node.is_some_and(|inode| {
                !inode.is_regular()
                    || matches!(self.has_content(path, &parent, name, &inode), Ok(Some(_)))
            });
            if self.whose == Whose::Gits && !same {
                return Ok(());
            }
            self.unlink(path, &parent, name)?;
        } else if self.whose == Whose::Gits && self.old.view.find(path).is_some() {
            // The user removed this name.
            return Ok(());
        }
        rustix::fs::linkat(&from, from_name, &parent, name, AtFlags::empty())
            .map_err(|error| self.fail("link", path)(error.into()))
    }

    fn unlink(&self, path: &[u8], parent: &OwnedFd, name: &OsStr) -> Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                let removed = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
                removed.map_err(|error| self.fail("replace", path)(error.into()))
            }
            other => other.map_err(|error| self.fail("remove", path)(error.into())),
        }
    }

    /// Git has written a file under the name it has for it; the true name is ours to write.
    fn remove_escaped(&self, path: &[u8], inode: &Inode) -> Result<()> {
        let stored: Vec<_> = path.split(|byte| *byte == b'/').map(|part| escape(part)).collect();
        let stored = stored.join(&b'/');
        if stored == path || inode.blob().is_none() {
            return Ok(());
        }
        let Ok((parent, name)) = self.parent(&stored) else { return Ok(()) };
        if matches!(self.has_content(&stored, &parent, name, inode), Ok(Some(_))) {
            self.unlink(&stored, &parent, name)?;
            // The directories git made on the way, as far as they are empty now.
            let mut above = split(&stored).0;
            while !above.is_empty() && self.new.view.find(above).is_none() {
                let Ok((parent, name)) = self.parent(above) else { break };
                if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                    break;
                }
                above = split(above).0;
            }
        }
        Ok(())
    }

    fn finish_directory(&self, path: &[u8]) -> Result<()> {
        let Some(node) = self.new.view.find(path) else { return Ok(()) };
        let inode = self.new.view.inode(node);
        if !inode.is_directory() {
            return Ok(());
        }
        let Ok(opened) = self.root.open_plain(relative(path), READ | OFlags::DIRECTORY) else {
            return Ok(());
        };
        let describe = || files::describe(&opened, inode, &Current::of(&opened)?);
        describe().map_err(self.fail("set the metadata of", path))
    }

    /// Stamps what is in place and is what the view says; the rest is looked at by the next command.
    fn take_stamps(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        for path in paths {
            let Some(node) = self.new.view.find(path) else { continue };
            let (number, inode) = (node.inode, self.new.view.inode(node));
            let file = match path.is_empty() {
                true => self.root.open_plain(Path::new("."), LOOK | OFlags::DIRECTORY),
                false => self.root.open_plain(relative(path), LOOK),
            };
            let Ok(file) = file else { continue };
            let stat =
                rustix::fs::fstat(&file).map_err(|e| self.fail("examine", path)(e.into()))?;
            let found = scan::look_in_tree(&file, &stat).map_err(self.fail("examine", path))?;
            let owner = |inode: &Inode| (files::privileged()).then_some((inode.uid, inode.gid));
            let same = (found.mode, found.size, found.rdev) == (inode.mode, inode.size, inode.rdev)
                && owner(&found) == owner(inode)
                && found.xattrs == inode.xattrs
                && (inode.is_directory() || found.mtime == inode.mtime)
                && (found.kind() != FileType::Symlink || found.content == inode.content);
            if same && let Some(stamp) = self.new.stamps.get_mut(number) {
                *stamp = Some(Stamp::new(&stat));
            }
        }
        Ok(())
    }
}

//! What a container changed: the difference between its own files and the layers below; and what differs
//! between any two sets of layers.

use std::{
    collections::BTreeMap, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, path::PathBuf,
};

use oci_spec::image::Digest;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};

use crate::{
    error::{During, Result},
    image::StoredImage,
    layer::record::Record,
    name,
    overlay::{self, Namespace},
    snapshot::{Snapshot, SnapshotKind},
    store::Store,
    union::{Found, Union},
};

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// Bytes of data the path has now, or had before it was deleted; zero for what has none.
    pub size: u64,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It was, but different; a directory also when something in it changed.
    Modified,
    /// It is not there any more.
    Deleted,
}

/// A path that differs, found among the container's own files.
pub(crate) enum Difference {
    /// It is there, new or changed.
    Present { stat: Stat, existed: bool },
    /// What was below is gone.
    Gone { before: Stat },
}

/// Differences by path: sorted, a directory before what is in it.
pub(crate) type Differences = BTreeMap<Vec<u8>, Difference>;

impl Store {
    /// What the container changed, sorted by path.
    pub fn diff(&self, snapshot: &Snapshot) -> Result<Vec<Change>> {
        Ok(listed(snapshot.differences()?))
    }

    /// What is different on one side compared with another, sorted by path.
    pub fn compare(&self, before: &Side, after: &Side) -> Result<Vec<Change>> {
        let found = between(&after.union, &before.union);
        let mut found = found.during("compare", "the files")?;
        forget(&mut found, &before.mount_points);
        forget(&mut found, &after.mount_points);
        Ok(listed(found))
    }

    /// A layer by itself, by the beginning of its diff id or of the digest of its compressed form; `None`
    /// if there is none.
    pub fn layer_side(&self, id: &str) -> Result<Option<Side>> {
        let Some(layer) = self.find_layer(id)? else { return Ok(None) };
        let path = self.layer_path(&layer)?;
        let record = Record::read(&path)?;
        Ok(Some(Side::new(Union::new(vec![path.join("files")], record.namespace))))
    }

    /// What an image's topmost layer lies on.
    pub fn side_below(&self, image: &StoredImage) -> Result<Side> {
        let diff_ids: Vec<Digest> =
            image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let below = diff_ids.split_last().map_or(&[][..], |(_, below)| below);
        let chain = self.assemble(below)?;
        let absolute = |path: &PathBuf| self.root().join(path);
        let mut layers: Vec<PathBuf> = chain.lower.iter().map(absolute).collect();
        if layers.is_empty() {
            layers.push(self.root().join("empty"));
        }
        let root = chain.root.as_ref().map(absolute);
        Ok(Side::new(Union::new(layers, chain.namespace).with_root(root.as_deref())))
    }
}

/// Files as they are seen through layers: one side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    union: Union,
    mount_points: Vec<PathBuf>,
}

impl Side {
    fn new(union: Union) -> Self {
        Self { union, mount_points: Vec::new() }
    }
}

impl StoredImage {
    /// Everything the image holds.
    pub fn side(&self) -> Side {
        Side::new(self.union())
    }
}

impl Snapshot {
    /// Everything the container sees.
    pub fn side(&self) -> Side {
        Side { union: self.union(), mount_points: self.mount_points.clone() }
    }
}

fn listed(found: Differences) -> Vec<Change> {
    let changes = found.into_iter().map(|(path, difference)| {
        let (kind, stat) = match difference {
            Difference::Present { stat, existed: false } => (ChangeKind::Added, stat),
            Difference::Present { stat, existed: true } => (ChangeKind::Modified, stat),
            Difference::Gone { before } => (ChangeKind::Deleted, before),
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Change { kind, path: Path::new("/").join(OsStr::from_bytes(&path)), size }
    });
    changes.filter(|change| change.path != Path::new("/")).collect()
}

impl Snapshot {
    /// Bytes of data in the container's own files.
    pub fn size(&self) -> Result<u64> {
        let mut sum = 0_u64;
        let own = Union::new(vec![self.changes().to_owned()], self.namespace);
        own.walk(|_, found| -> io::Result<()> {
            if found.kind() == FileType::RegularFile {
                sum = sum.saturating_add(u64::try_from(found.stat.st_size).unwrap_or(0));
            }
            Ok(())
        })
        .during("list", self.changes().display())?;
        Ok(sum)
    }

    /// What differs from below; with every difference come the directories above it.
    pub(crate) fn differences(&self) -> Result<Differences> {
        let below = Union::new(self.below.clone(), self.namespace);
        let found = match &self.kind {
            SnapshotKind::Overlay { upper, .. } => of_upper(upper, &below, self.namespace),
            SnapshotKind::Directory(directory) => of_copy(directory, &below, self.namespace),
        };
        let mut found = found.during("compare", self.changes().display())?;
        forget(&mut found, &self.mount_points);
        Ok(found)
    }
}

/// Takes out the empty files that are there only for something to be mounted on them, and the directory each
/// is in when nothing else in it changed.
fn forget(found: &mut Differences, mount_points: &[PathBuf]) {
    let clean = |path: &Path| {
        let path = path.as_os_str().as_bytes();
        path.strip_prefix(b"/").unwrap_or(path).to_vec()
    };
    let mut above = Vec::new();
    for path in mount_points.iter().map(|path| clean(path)) {
        let is_place = found.get(&path).is_some_and(|difference| {
            let (Difference::Present { stat, .. } | Difference::Gone { before: stat }) = difference;
            stat.st_size == 0 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        });
        if is_place {
            found.remove(&path);
            above.push(name::split(&path).0.to_vec());
        }
    }
    for directory in above.iter().filter(|directory| !directory.is_empty()) {
        let is_inside = |path: &Vec<u8>| path != directory && name::is_within(path, directory);
        if !found.keys().any(is_inside) {
            found.remove(directory);
        }
    }
}

/// Overlay's upper directory holds the changes alone.
fn of_upper(upper: &Path, below: &Union, namespace: Namespace) -> io::Result<Differences> {
    let upper = sys::Root::open(upper)?;
    let mut found = Collected::default();
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = upper.open_plain(Path::new(OsStr::from_bytes(&path)), flags)?;
        let before = below.lookup(&path)?.filter(Found::is_directory);
        let mut here = Vec::new();
        for child in Dir::read_from(&directory)? {
            let child = child?;
            let last = child.file_name().to_bytes();
            if matches!(last, b"." | b"..") {
                continue;
            }
            let stat =
                rustix::fs::statat(&directory, child.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            let child_path = name::join(&path, last);
            let before = below.lookup(&child_path)?;
            if overlay::is_whiteout(&stat) {
                // Without anything below, it was made and removed again.
                if let Some(before) = before {
                    found.changed(&child_path, Difference::Gone { before: before.stat });
                }
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                found.directory(&child_path, &stat, before.as_ref());
                left.push(child_path);
            } else {
                let existed = before.is_some();
                found.changed(&child_path, Difference::Present { stat, existed });
            }
            here.push(last.to_vec());
        }
        if let Some(before) = before
            && !path.is_empty()
            && overlay::is_opaque(&directory, namespace)?
        {
            for (last, child) in below.children(&path, &before)? {
                if !here.contains(&last) {
                    let gone = Difference::Gone { before: child.stat };
                    found.changed(&name::join(&path, &last), gone);
                }
            }
        }
    }
    Ok(found.finish())
}

/// A copy must be compared as a whole.
pub(crate) fn of_copy(
    directory: &Path,
    below: &Union,
    namespace: Namespace,
) -> io::Result<Differences> {
    between(&Union::new(vec![directory.to_owned()], namespace), below)
}

/// Compares two trees as a whole.
fn between(now: &Union, below: &Union) -> io::Result<Differences> {
    let mut found = Collected::default();
    now.walk(|path, shown| -> io::Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let before = below.lookup(path)?;
        if shown.is_directory() {
            found.directory(path, &shown.stat, before.as_ref());
        } else if before.as_ref().is_none_or(|before| !is_same(&before.stat, &shown.stat)) {
            let existed = before.is_some();
            found.changed(path, Difference::Present { stat: shown.stat, existed });
        }
        Ok(())
    })?;
    let mut gone: Option<Vec<u8>> = None;
    below.walk(|path, before| -> io::Result<()> {
        let is_within = |gone: &Vec<u8>| name::is_within(path, gone);
        if gone.as_ref().is_some_and(is_within) || now.lookup(path)?.is_some() {
            return Ok(());
        }
        gone = Some(path.to_vec());
        found.changed(path, Difference::Gone { before: before.stat });
        Ok(())
    })?;
    Ok(found.finish())
}

/// Copies keep times to the nanosecond, and writing changes them.
fn is_same(before: &Stat, now: &Stat) -> bool {
    let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
    if (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino) {
        return true; // of the same layer
    }
    let key = |stat: &Stat| {
        let size = if is_file { stat.st_size } else { 0 };
        (
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev,
            size,
            stat.st_mtime,
            stat.st_mtime_nsec,
        )
    };
    key(before) == key(now)
}

#[derive(Default)]
struct Collected {
    found: Differences,
    /// Directories that are among the container's files; they differ if something in them does.
    directories: BTreeMap<Vec<u8>, (Stat, bool)>,
}

impl Collected {
    fn changed(&mut self, path: &[u8], difference: Difference) {
        self.found.insert(path.to_vec(), difference);
    }

    fn directory(&mut self, path: &[u8], stat: &Stat, before: Option<&Found>) {
        let existed = before.is_some();
        let is_same =
            before.is_some_and(|before| before.is_directory() && is_same(&before.stat, stat));
        self.directories.insert(path.to_vec(), (*stat, existed));
        if !is_same {
            self.changed(path, Difference::Present { stat: *stat, existed });
        }
    }

    fn finish(mut self) -> Differences {
        let mut above = Vec::new();
        for path in self.found.keys() {
            let mut path = path.as_slice();
            while !path.is_empty() {
                path = name::split(path).0;
                if self.found.contains_key(path) {
                    break;
                }
                above.push(path.to_vec());
            }
        }
        for path in above {
            if let Some((stat, existed)) = self.directories.get(&path) {
                let (stat, existed) = (*stat, *existed);
                self.found.insert(path, Difference::Present { stat, existed });
            }
        }
        self.found
    }
}

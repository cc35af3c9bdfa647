//! A writable root for one container: an overlay's directories, or a copy where overlay is refused.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    copy::{self, Attributes},
    error::{During, Error, Result},
    image::StoredImage,
    lock,
    overlay::Namespace,
    remove,
    store::{Store, create, is_there},
    union::Union,
};

/// A writable root, as data: whoever starts the container mounts it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The container it belongs to.
    pub name: String,
    /// The image it was made from, by record; none for a directory of the host.
    pub image: Option<StoredImage>,
    /// What to mount.
    pub kind: SnapshotKind,
    pub(crate) namespace: Namespace,
    /// Everything below the container's own changes.
    pub(crate) below: Vec<PathBuf>,
    /// Where files of the runtime's are shown in the container.
    pub(crate) mount_points: Vec<PathBuf>,
    directory: PathBuf,
}

/// How a snapshot is made of directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// Arguments of an overlay mount, as absolute paths.
    Overlay {
        /// Read-only layers, topmost first; never empty.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// Scratch directory on the same filesystem.
        work: PathBuf,
        /// Options of the mount.
        options: Vec<(String, Option<String>)>,
    },
    /// A directory that is simply used.
    Directory(PathBuf),
}

/// How a snapshot is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotOptions {
    /// It will be removed with its container: nothing in it need survive a crash, so the mount is
    /// `volatile`, and unmounting it does not wait for the disk.
    pub ephemeral: bool,
    /// Copy all files instead of mounting an overlay.
    pub copy: bool,
}

/// What keeps parts of the store from being collected.
pub(crate) struct Needs {
    pub(crate) container: String,
    /// File name of the image's record.
    pub(crate) image: Option<String>,
    pub(crate) parts: Vec<PathBuf>,
}

/// Kept as JSON in the container's `record`.
#[derive(Serialize, Deserialize)]
struct Record {
    /// File name of the image's record.
    image: Option<String>,
    /// Directories of the store the snapshot needs, so that they are not collected.
    needs: Vec<PathBuf>,
    below: Vec<PathBuf>,
    namespace: Namespace,
    copied: bool,
    ephemeral: bool,
}

impl Store {
    /// Makes a writable root of an image. The name must be free; making it is one atomic step.
    pub fn snapshot(
        &self,
        image: &StoredImage,
        name: &str,
        options: SnapshotOptions,
    ) -> Result<Snapshot> {
        self.make()?;
        let record_name = image.record_name();
        // Until the container's record names what it needs, nothing of that may be collected.
        let _busy = self.lock_store(lock::Mode::Shared)?;
        if !is_there(&self.path("images", &record_name)) {
            return Err(Error::NoImage(image.id.to_string()));
        }
        let record = Record {
            image: Some(record_name),
            needs: image.needs().map(Path::to_owned).collect(),
            below: image.lower(),
            namespace: image.namespace(),
            copied: options.copy || self.overlay_is_refused()?,
            ephemeral: options.ephemeral,
        };
        let root = image.root();
        self.make_snapshot(name, record, root.as_deref(), Some(image.clone()))
    }

    /// Makes a writable view of a directory of the host, which itself stays as it is.
    pub fn snapshot_of_directory(
        &self,
        directory: &Path,
        name: &str,
        options: SnapshotOptions,
    ) -> Result<Snapshot> {
        self.make()?;
        let directory = real_path(directory).during("find", directory.display())?;
        let record = Record {
            image: None,
            needs: Vec::new(),
            below: vec![directory.clone()],
            namespace: Namespace::probe_store(self.root())?,
            copied: options.copy || self.overlay_is_refused()?,
            ephemeral: options.ephemeral,
        };
        self.make_snapshot(name, record, Some(&directory), None)
    }

    /// Finds the snapshot of a container.
    pub fn open_snapshot(&self, name: &str) -> Result<Snapshot> {
        check_name(name)?;
        let directory = self.path("containers", name);
        let record = self.snapshot_record(name)?;
        let image = record.image.as_deref().map(|image| self.read_image(image));
        // An image that was removed by force leaves its containers their layers.
        Ok(describe(name, directory, record, image.and_then(Result::ok)))
    }

    /// The names of all snapshots.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        let mut names = self.names_in("containers")?;
        names.sort();
        Ok(names)
    }

    /// Removes a snapshot with everything the container wrote; nothing may be mounted from it.
    pub fn remove_snapshot(&self, name: &str) -> Result<()> {
        check_name(name)?;
        remove::to_trash(self, &self.path("containers", name))
    }

    /// Directories of the store that snapshots need, and the image records they were made from.
    pub(crate) fn snapshot_needs(&self) -> Result<Vec<Needs>> {
        let mut needs = Vec::new();
        for name in self.names_in("containers")? {
            match self.snapshot_record(&name) {
                Ok(record) => {
                    needs.push(Needs { container: name, image: record.image, parts: record.needs });
                }
                Err(Error::NoSnapshot(_)) => {} // removed meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(needs)
    }

    fn snapshot_record(&self, name: &str) -> Result<Record> {
        let path = self.path("containers", name).join("record");
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoSnapshot(name.to_owned()))
            }
            Err(error) => Err(error).during("read", path.display()),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|problem| Error::Damaged { path, problem: problem.to_string() }),
        }
    }

    /// Builds everything under a temporary name, then takes the container's name, or fails if it is taken.
    fn make_snapshot(
        &self,
        name: &str,
        record: Record,
        root: Option<&Path>,
        image: Option<StoredImage>,
    ) -> Result<Snapshot> {
        check_name(name)?;
        let directory = self.path("containers", name);
        if is_there(&directory) {
            return Err(Error::NameInUse(name.to_owned()));
        }
        let temporary = self.temporary("container");
        let result = self.fill_snapshot(&temporary, &record, root).and_then(|()| {
            match rustix::fs::renameat_with(
                CWD,
                &temporary,
                CWD,
                &directory,
                RenameFlags::NOREPLACE,
            ) {
                Err(Errno::EXIST) => Err(Error::NameInUse(name.to_owned())),
                other => other.during("create", directory.display()),
            }
        });
        if let Err(error) = result {
            // The error is what matters; what is left is collected later.
            let _ = remove::tree(&temporary);
            return Err(error);
        }
        Ok(describe(name, directory, record, image))
    }

    fn fill_snapshot(&self, directory: &Path, record: &Record, root: Option<&Path>) -> Result<()> {
        let make = |name: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            rustix::fs::mkdir(&path, Mode::RWXU).during("create", path.display())?;
            Ok(path)
        };
        make("")?;
        let path = directory.join("record");
        serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|bytes| io::Write::write_all(&mut create(&path)?, &bytes))
            .during("write", path.display())?;
        if record.copied {
            let files = make("files")?;
            let union = Union::new(record.below.clone(), record.namespace).with_root(root);
            return copy::tree(&union, &files).during("copy to", files.display());
        }
        make("work")?;
        let upper = make("upper")?;
        imitate(root, &upper, record.namespace).during("set the metadata of", upper.display())
    }

    /// How snapshots are made here: `overlay`, or `copy` where overlay is refused.
    pub fn storage_driver(&self) -> Result<&'static str> {
        self.make()?;
        Ok(if self.overlay_is_refused()? { "copy" } else { "overlay" })
    }

    /// Filesystems that overlayfs takes no upper directory from.
    fn overlay_is_refused(&self) -> Result<bool> {
        const REFUSED: [u32; 8] = [
            0x794c_7630, // overlayfs itself
            0x6969,      // NFS
            0x6573_5546, // FUSE, whose attributes cannot be relied on
            0x0102_1997, // 9p
            0xf15f,      // eCryptfs
            0x4d44,      // FAT
            0xff53_4d42, // CIFS
            0xfe53_4d42, // SMB2
        ];
        let root = self.root();
        let kind = rustix::fs::statfs(root).during("examine", root.display())?.f_type;
        // The type's width and sign differ between architectures; magic numbers have 32 bits.
        let kind = u32::try_from(kind & 0xffff_ffff).unwrap_or(0);
        Ok(REFUSED.contains(&kind))
    }
}

impl Snapshot {
    /// The directory whose content differs from what is below: overlay's upper, or the whole copy.
    pub fn changes(&self) -> &Path {
        match &self.kind {
            SnapshotKind::Overlay { upper, .. } => upper,
            SnapshotKind::Directory(directory) => directory,
        }
    }

    /// The same, where empty new files at these paths are only what something was mounted on, and no change
    /// of the container's.
    pub fn with_mount_points<'p>(mut self, paths: impl IntoIterator<Item = &'p str>) -> Self {
        self.mount_points.extend(paths.into_iter().map(PathBuf::from));
        self
    }

    /// Lets a `volatile` overlay be mounted again, which overlayfs refuses by itself: it cannot know that
    /// the machine did not crash meanwhile.
    pub fn forget_volatile(&self) -> Result<()> {
        let mark = self.directory.join("work/work/incompat/volatile");
        remove::tree(&mark).during("remove", mark.display())
    }
}

fn describe(
    name: &str,
    directory: PathBuf,
    record: Record,
    image: Option<StoredImage>,
) -> Snapshot {
    let kind = if record.copied {
        SnapshotKind::Directory(directory.join("files"))
    } else {
        SnapshotKind::Overlay {
            lower: record.below.clone(),
            upper: directory.join("upper"),
            work: directory.join("work"),
            options: mount_options(&record),
        }
    };
    let (namespace, below) = (record.namespace, record.below);
    let mount_points = Vec::new();
    Snapshot { name: name.to_owned(), image, kind, namespace, below, mount_points, directory }
}

/// The path of a directory without links in it, as the kernel knows it.
fn real_path(directory: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn mount_options(record: &Record) -> Vec<(String, Option<String>)> {
    let off = Some("off".to_owned());
    let mut options = match record.namespace {
        // With these on, the upper directory alone would not be the difference.
        Namespace::Trusted => vec![
            ("redirect_dir".to_owned(), off.clone()),
            ("metacopy".to_owned(), off.clone()),
            ("index".to_owned(), off),
        ],
        Namespace::User => vec![("userxattr".to_owned(), None)],
    };
    if record.ephemeral {
        options.push(("volatile".to_owned(), None));
    }
    options
}

/// An overlay shows its upper directory's metadata as the root's.
fn imitate(root: Option<&Path>, upper: &Path, namespace: Namespace) -> io::Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let upper = open(upper)?;
    let Some(root) = root else {
        return Ok(rustix::fs::fchmod(&upper, Mode::from_raw_mode(0o755))?);
    };
    let root = open(root)?;
    let stat = rustix::fs::fstat(&root)?;
    copy::directory_metadata(&root, &stat, &upper, namespace, Attributes::Stored)
}

/// Names that can be file names and arguments (D-16).
fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte));
    if first && rest && name.len() <= 255 { Ok(()) } else { Err(Error::BadName(name.to_owned())) }
}

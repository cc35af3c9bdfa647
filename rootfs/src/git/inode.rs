//! What there is to know about a file besides its names.

use rustix::fs::{FileType, Stat};

use super::oid::ObjectId;

/// The attribute by which an overlay directory hides everything below it.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// A moment, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Time {
    pub(crate) fn new(seconds: i64, nanos: u64) -> Self {
        Self { seconds, nanos: u32::try_from(nanos).unwrap_or_default() }
    }

    pub(crate) fn modified(stat: &Stat) -> Self {
        Self::new(stat.st_mtime, stat.st_mtime_nsec)
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing of its own: directories, devices, pipes; and regular files not looked at yet.
    #[default]
    None,
    /// A regular file, whose bytes are a blob of the repository.
    Blob(ObjectId),
    /// A regular file too large for the repository; its bytes stay in the store.
    Large {
        /// Of the bytes.
        sha256: [u8; 32],
        /// The blob with the pointer text that stands for them.
        pointer: ObjectId,
    },
    /// Where a symlink leads.
    Link(Vec<u8>),
}

/// A file, whatever its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Kind and permissions, as stat(2) has them.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of device nodes.
    pub(crate) rdev: u64,
    /// Of regular files and symlinks.
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    /// Sorted by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) content: Content,
}

impl Inode {
    /// What stat(2) tells.
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let sized = matches!(kind, FileType::RegularFile | FileType::Symlink);
        let device = matches!(kind, FileType::BlockDevice | FileType::CharacterDevice);
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: if device { stat.st_rdev } else { 0 },
            size: if sized { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
            mtime: Time::modified(stat),
            ..Self::default()
        }
    }

    /// The mark that a layer leaves where it removes something: a character device 0:0.
    pub(crate) fn whiteout() -> Self {
        Self { mode: FileType::CharacterDevice.as_raw_mode(), ..Self::default() }
    }

    /// A directory nobody described.
    pub(crate) fn directory() -> Self {
        Self { mode: FileType::Directory.as_raw_mode() | 0o755, ..Self::default() }
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.rdev == 0
    }

    pub(crate) fn is_opaque(&self) -> bool {
        self.is_directory()
            && self.xattrs.iter().any(|(name, value)| name == OPAQUE && value == b"y")
    }

    /// The blob that git has in the file's place, if git can have the file at all.
    pub(crate) fn blob(&self) -> Option<ObjectId> {
        match &self.content {
            Content::Blob(id) => Some(*id),
            Content::Large { pointer, .. } => Some(*pointer),
            Content::Link(target) => Some(ObjectId::of(super::oid::Kind::Blob, target)),
            Content::None => None,
        }
    }
}

/// The text git has in place of a large file; the form is that of git-lfs, which tools know.
pub(crate) fn pointer_text(sha256: &[u8; 32], size: u64) -> String {
    let digest: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n")
}

//! Named files, in a directory or in a tar file: readers need not know which.

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{Error, Result};

const MAX_ENTRIES: usize = 100_000;
const MAX_LINKS: usize = 8;
/// What an archive may become when decompressed.
const MAX_UNPACKED: u64 = 64 << 30;

/// Files by name. Names are made by us from checked digests, or looked up in the archive's own list.
pub(super) enum Tree {
    Directory(PathBuf),
    Archive { path: PathBuf, file: Arc<File>, entries: HashMap<String, Entry> },
}

pub(super) enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// Old daemons stored a layer that occurs twice as a link to its first place.
    Link(String),
}

impl Tree {
    pub(super) fn directory(path: &Path) -> Result<Self> {
        let metadata = path.metadata().map_err(failed("open", path))?;
        if !metadata.is_dir() {
            return Err(failed("open", path)(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self::Directory(path.to_owned()))
    }

    /// Reads the headers of a tar file, and nothing else of it.
    pub(super) fn archive(path: &Path, scratch: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(failed("open", path))?;
        let mut start = [0; 4];
        // A pipe has no positions, and shows it here.
        file.read_at(&mut start, 0).map_err(failed("read", path))?;
        if start.starts_with(&[0x1f, 0x8b]) {
            file = decompressed(&file, path, scratch)?;
        } else if start == [0x28, 0xb5, 0x2f, 0xfd] {
            let problem = "the archive is compressed with zstd: decompress it first";
            return Err(Error::Unsupported { place: path.display().to_string(), problem });
        }
        let mut start = file.try_clone().map_err(failed("open", path))?;
        start.rewind().map_err(failed("read", path))?;
        let reader = BufReader::new(start);
        let entries = list(reader).map_err(|error| match error.raw_os_error() {
            Some(_) => failed("read", path)(error),
            // The parser's own words name fields of headers.
            None => {
                let problem = "it is no tar archive, or only a part of one";
                Error::Unsupported { place: path.display().to_string(), problem }
            }
        })?;
        Ok(Self::Archive { path: path.to_owned(), file: Arc::new(file), entries })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.size(name).is_ok()
    }

    pub(super) fn size(&self, name: &str) -> Result<u64> {
        match self {
            Self::Directory(directory) => Ok(open(&directory.join(name))?.1),
            Self::Archive { .. } => Ok(self.find(name)?.1),
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let size = self.size(name)?;
        let what = format!("{self}/{name}");
        if size > limit {
            return Err(Error::TooLarge { what, limit });
        }
        let mut bytes = Vec::new();
        let path = PathBuf::from(&what);
        self.open(name, 0)?.take(limit).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        Ok(bytes)
    }

    pub(super) fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                let (mut file, _) = open(&path)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed("read", &path))?;
                Ok(Box::new(file))
            }
            Self::Archive { file, .. } => {
                let (start, size) = self.find(name)?;
                let position = start.saturating_add(offset.min(size));
                let end = start.saturating_add(size);
                Ok(Box::new(Section { file: file.clone(), position, end }))
            }
        }
    }

    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let Self::Archive { path, entries, .. } = self else {
            return Err(failed("read", Path::new(name))(io::ErrorKind::NotFound.into()));
        };
        let mut name = normal(Path::new(name), Path::new("")).unwrap_or_default();
        for _ in 0..MAX_LINKS {
            match entries.get(&name) {
                Some(Entry::File { offset, size }) => return Ok((*offset, *size)),
                Some(Entry::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(failed("read", &path.join(name))(io::ErrorKind::NotFound.into()))
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) | Self::Archive { path, .. } => path.display().fmt(f),
        }
    }
}

/// Opens a regular file. Not a FIFO that blocks for ever, and not a link to somewhere else.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(failed("open", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    if !metadata.is_file() {
        let place = path.display().to_string();
        return Err(Error::Unsupported { place, problem: "it is no regular file" });
    }
    Ok((file, metadata.len()))
}

/// `docker save | gzip`: unpacked into a file without a name, because layers are read in any order.
fn decompressed(file: &File, path: &Path, scratch: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    let mut unnamed = options.open(scratch).map_err(failed("create a file in", scratch))?;
    let reader = BufReader::with_capacity(128 << 10, file);
    let mut plain = flate2::bufread::MultiGzDecoder::new(reader).take(MAX_UNPACKED);
    let length = io::copy(&mut plain, &mut unnamed).map_err(failed("decompress", path))?;
    if length == MAX_UNPACKED {
        return Err(Error::TooLarge { what: path.display().to_string(), limit: MAX_UNPACKED });
    }
    Ok(unnamed)
}

fn list(reader: impl Read + Seek) -> io::Result<HashMap<String, Entry>> {
    let mut archive = tar::Archive::new(reader);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        let Some(name) = normal(&name, Path::new("")) else { continue };
        let kind = entry.header().entry_type();
        let found = if kind.is_file() {
            Entry::File { offset: entry.raw_file_position(), size: entry.size() }
        } else if let Some(target) = entry.link_name()? {
            let start = if kind.is_symlink() { Path::new(&name).parent() } else { None };
            match normal(&target, start.unwrap_or(Path::new(""))) {
                Some(target) => Entry::Link(target),
                None => continue,
            }
        } else {
            continue;
        };
        if entries.len() >= MAX_ENTRIES {
            return Err(io::Error::other("more than 100000 entries"));
        }
        entries.insert(name, found);
    }
    Ok(entries)
}

/// `./a/../b` relative to `start`; `None` when it leads out or is not text.
fn normal(path: &Path, start: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in start.components().chain(path.components()) {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// A part of a file, read at positions of its own, so that layers can be read in parallel.
struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let part = buffer.get_mut(..length).unwrap_or_default();
        let count = self.file.read_at(part, self.position)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

fn failed<'p>(doing: &'static str, path: &'p Path) -> impl Fn(io::Error) -> Error + 'p {
    move |source| Error::File { doing, path: path.into(), source }
}

//! Writing one pack and its index (gitformat-pack(5)): all new objects of an operation in two files,
//! instead of a file each.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{
    error::{Error, Result},
    oid::{Hasher, Kind, ObjectId},
};

/// Most objects are smaller; a larger one goes to the pack piece by piece.
pub(crate) const WHOLE: u64 = 4 << 20;

/// Collected before they are written.
const BUFFER: usize = 512 << 10;

/// Where the number of objects stands in the header.
const COUNT_AT: u64 = 8;

/// A pack being written, by several threads if need be.
pub(crate) struct PackWriter {
    directory: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    path: PathBuf,
    /// Where `pending` goes.
    written: u64,
    pending: Vec<u8>,
    /// What is in the pack, or being compressed for it by some thread.
    known: HashSet<ObjectId>,
    entries: Vec<Entry>,
    finished: bool,
}

struct Entry {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

/// A thread's compressor; making one costs more than most objects do.
pub(crate) struct Encoder {
    compress: Compress,
    output: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        // What is packed is in the store already, compressed well: here speed is worth more than size,
        // and `git gc` does the rest if anybody asks for it.
        Self { compress: Compress::new(Compression::fast(), true), output: Vec::new() }
    }

    /// The object as it stands in a pack.
    fn encode(&mut self, kind: Kind, content: &[u8]) -> io::Result<&[u8]> {
        self.begin(kind, content.len());
        self.push(content, FlushCompress::Finish)?;
        Ok(&self.output)
    }

    fn begin(&mut self, kind: Kind, mut length: usize) {
        self.compress.reset();
        self.output.clear();
        // Four bits of the length beside the kind, then seven to a byte, each saying whether more follow.
        let mut bits = kind.number() << 4 | low_bits(length, 4);
        length >>= 4;
        while length > 0 {
            self.output.push(bits | 0x80);
            bits = low_bits(length, 7);
            length >>= 7;
        }
        self.output.push(bits);
    }

    fn push(&mut self, mut content: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.output.reserve(content.len() / 2 + 64);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(content, &mut self.output, flush)?;
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(content.len());
            content = content.get(taken..).unwrap_or_default();
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => content.is_empty(),
            };
            if done {
                return Ok(());
            }
        }
    }
}

fn low_bits(number: usize, bits: u32) -> u8 {
    u8::try_from(number & ((1 << bits) - 1)).unwrap_or_default()
}

impl PackWriter {
    /// Begins a pack below a repository's `objects` directory.
    pub(crate) fn create(objects: &Path) -> Result<Self> {
        let directory = objects.join("pack");
        let path = directory.join(format!("tmp_pack_{}", std::process::id()));
        let fail = Error::io("create", &path);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let inner = Inner {
            file: file.map_err(fail)?,
            path,
            written: 0,
            // The number of objects is filled in at the end.
            pending: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            known: HashSet::new(),
            entries: Vec::new(),
            finished: false,
        };
        Ok(Self { directory, inner: Mutex::new(inner) })
    }

    /// Adds an object and returns its name.
    pub(crate) fn add(
        &self,
        encoder: &mut Encoder,
        kind: Kind,
        content: &[u8],
    ) -> Result<ObjectId> {
        let id = ObjectId::of(kind, content);
        if !self.lock().known.insert(id) {
            return Ok(id);
        }
        let encoded =
            encoder.encode(kind, content).map_err(Error::io("compress", &self.directory))?;
        let mut crc = Crc::new();
        crc.update(encoded);
        let mut inner = self.lock();
        let offset = inner.position();
        inner.entries.push(Entry { id, crc: crc.sum(), offset });
        inner.append(encoded)?;
        Ok(id)
    }

    /// Adds a blob that is too large to have in memory. The pack is locked meanwhile.
    ///
    /// `each` sees every piece as it passes.
    pub(crate) fn add_large(
        &self,
        encoder: &mut Encoder,
        length: u64,
        content: &mut dyn Read,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<ObjectId> {
        let fail = || Error::io("compress", &self.directory);
        let mut inner = self.lock();
        let start = inner.position();
        let mut hasher = Hasher::new(Kind::Blob, length);
        let mut crc = Crc::new();
        let mut piece = vec![0; BUFFER];
        let mut left = length;
        encoder.begin(Kind::Blob, usize::try_from(length).unwrap_or(usize::MAX));
        loop {
            let count = content.read(&mut piece).map_err(fail())?;
            let read = piece.get(..count).unwrap_or_default();
            left = left
                .checked_sub(u64::try_from(count).unwrap_or(u64::MAX))
                .filter(|left| count > 0 || *left == 0)
                .ok_or_else(|| Error::damaged("a file", "its size changed while it was read"))?;
            hasher.update(read);
            each(read)?;
            let flush = if count == 0 { FlushCompress::Finish } else { FlushCompress::None };
            encoder.push(read, flush).map_err(fail())?;
            crc.update(&encoder.output);
            inner.append(&encoder.output)?;
            encoder.output.clear();
            if count == 0 {
                break;
            }
        }
        let id = hasher.finish();
        if inner.known.insert(id) {
            inner.entries.push(Entry { id, crc: crc.sum(), offset: start });
        } else {
            inner.truncate(start)?;
        }
        Ok(id)
    }

    /// Completes the pack, or removes it when nothing new came.
    ///
    /// The index is put in place last: a pack without one does not exist for git.
    pub(crate) fn finish(self) -> Result<()> {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        if inner.entries.is_empty() {
            return Ok(());
        }
        let checksum = inner.seal()?;
        inner.entries.sort_by_key(|entry| entry.id);
        let index = encode_index(&inner.entries, checksum);
        let name = |ending| self.directory.join(format!("pack-{checksum}.{ending}"));
        let temporary = inner.path.with_extension("idx");
        std::fs::write(&temporary, index).map_err(Error::io("write", &temporary))?;
        inner.finished = true;
        for (from, to) in [(&inner.path, name("pack")), (&temporary, name("idx"))] {
            std::fs::rename(from, &to).map_err(Error::io("create", &to))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked leaves a pack that is never finished; its lock is harmless.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn position(&self) -> u64 {
        self.written + u64::try_from(self.pending.len()).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all_at(&self.pending, self.written)
            .map_err(Error::io("write", &self.path))?;
        self.written = self.position();
        self.pending.clear();
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        self.flush()?;
        self.file.set_len(length).map_err(Error::io("shorten", &self.path))?;
        self.written = length;
        Ok(())
    }

    /// Fills in the number of objects and appends the checksum over everything.
    fn seal(&mut self) -> Result<ObjectId> {
        let count = u32::try_from(self.entries.len())
            .map_err(|_| Error::damaged("pack", "too many objects"))?;
        self.flush()?;
        let write = |bytes: &[u8], at| {
            self.file.write_all_at(bytes, at).map_err(Error::io("write", &self.path))
        };
        write(&count.to_be_bytes(), COUNT_AT)?;
        let mut hasher = Hasher::plain();
        let mut piece = vec![0; BUFFER];
        let mut at = 0;
        while at < self.written {
            let count = self.file.read_at(&mut piece, at).map_err(Error::io("read", &self.path))?;
            if count == 0 {
                return Err(Error::damaged("pack", "it became shorter while it was written"));
            }
            hasher.update(piece.get(..count).unwrap_or_default());
            at += u64::try_from(count).unwrap_or_default();
        }
        let checksum = hasher.finish();
        write(checksum.as_bytes(), self.written)?;
        Ok(checksum)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whatever went wrong is reported elsewhere; git ignores and later removes such files anyway.
        if !self.finished
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The pack's index, version 2. `entries` are sorted.
fn encode_index(entries: &[Entry], pack: ObjectId) -> Vec<u8> {
    let mut index = Vec::with_capacity(1100 + entries.len() * 28);
    index.extend_from_slice(b"\xfftOc\0\0\0\x02");
    let mut counted = entries.iter().peekable();
    let mut total = 0_u32;
    for first in 0..=u8::MAX {
        while counted.next_if(|entry| entry.id.as_bytes().first() <= Some(&first)).is_some() {
            total += 1;
        }
        index.extend_from_slice(&total.to_be_bytes());
    }
    for entry in entries {
        index.extend_from_slice(entry.id.as_bytes());
    }
    for entry in entries {
        index.extend_from_slice(&entry.crc.to_be_bytes());
    }
    let mut far = Vec::new();
    for entry in entries {
        // Beyond 2 GiB the offset stands in a second table.
        let short = u32::try_from(entry.offset).ok().filter(|offset| *offset < 1 << 31);
        let offset = short.unwrap_or_else(|| {
            far.push(entry.offset);
            1 << 31 | u32::try_from(far.len() - 1).unwrap_or_default()
        });
        index.extend_from_slice(&offset.to_be_bytes());
    }
    for offset in far {
        index.extend_from_slice(&offset.to_be_bytes());
    }
    index.extend_from_slice(pack.as_bytes());
    let mut hasher = Hasher::plain();
    hasher.update(&index);
    index.extend_from_slice(hasher.finish().as_bytes());
    index
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::git::scratch::Scratch;

    #[test]
    fn stock_git_verifies_and_reads_the_pack() {
        let scratch = Scratch::new("pack");
        scratch.git(&["init", "-q", "."]);
        let pack = PackWriter::create(&scratch.path.join(".git/objects")).unwrap();
        let mut encoder = Encoder::new();
        let large: Vec<u8> =
            (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let mut names = Vec::new();
        for content in [&b""[..], b"x", b"hello\n", b"hello\n", &large[..100_000]] {
            names.push((pack.add(&mut encoder, Kind::Blob, content).unwrap(), content));
        }
        let length = u64::try_from(large.len()).unwrap();
        for _ in 0..2 {
            let id = pack.add_large(&mut encoder, length, &mut &large[..], |_| Ok(())).unwrap();
            names.push((id, &large));
        }
        pack.finish().unwrap();
        scratch.git(&["fsck", "--strict"]);
        for (id, content) in names {
            let shown = scratch.output(&["cat-file", "blob", &id.to_string()]);
            assert_eq!(shown, content);
        }
        let left = std::fs::read_dir(scratch.path.join(".git/objects/pack")).unwrap().count();
        assert_eq!(left, 2, "one pack and one index, nothing temporary");
    }

    #[test]
    fn a_file_that_changes_its_size_is_an_error() {
        let scratch = Scratch::new("pack-size");
        scratch.git(&["init", "-q", "."]);
        let pack = PackWriter::create(&scratch.path.join(".git/objects")).unwrap();
        let mut encoder = Encoder::new();
        for length in [2, 4] {
            assert!(pack.add_large(&mut encoder, length, &mut &b"abc"[..], |_| Ok(())).is_err());
        }
    }
}

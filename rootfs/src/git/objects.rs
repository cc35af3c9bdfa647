//! Reading objects: from packs, our own or git's with their deltas, and loose ones.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flate2::read::ZlibDecoder;

use super::{
    error::{Error, Result},
    oid::{Kind, ObjectId},
};

/// Longest chain of deltas followed. Git makes 50 by default and 4095 at most.
const MAX_CHAIN: usize = 4096;

/// Largest object read into memory; bases of deltas and files alike.
const MAX_OBJECT: u64 = 2 << 30;

/// Commits and trees that are asked for again and again while histories are walked.
const CACHED: usize = 64 << 10;

/// All objects of a repository.
pub(crate) struct Objects {
    directory: PathBuf,
    packs: Vec<Pack>,
    small: Mutex<HashMap<ObjectId, (Kind, Vec<u8>)>>,
}

struct Pack {
    index: File,
    data: File,
    path: PathBuf,
    /// How many objects begin with a byte up to this one.
    fanout: Vec<u32>,
}

/// Where a pack's index has its names; before them stand magic, version and fan-out.
const NAMES_AT: u64 = 8 + 256 * 4;

impl Objects {
    /// Opens the `objects` directory of a repository.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let pack_directory = directory.join("pack");
        let mut packs = Vec::new();
        let entries =
            std::fs::read_dir(&pack_directory).map_err(Error::io("list", &pack_directory))?;
        for entry in entries {
            let path = entry.map_err(Error::io("list", &pack_directory))?.path();
            if path.extension().is_some_and(|ending| ending == "idx") {
                packs.push(Pack::open(&path)?);
            }
        }
        Ok(Self { directory: directory.to_owned(), packs, small: Mutex::default() })
    }

    /// Whether the repository has the object.
    pub(crate) fn contains(&self, id: ObjectId) -> Result<bool> {
        for pack in &self.packs {
            if pack.find(id)?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.loose_path(id).exists())
    }

    /// Reads an object of any kind.
    pub(crate) fn read(&self, id: ObjectId) -> Result<(Kind, Vec<u8>)> {
        self.read_deep(id, 0)
    }

    /// Reads an object that must be of one kind.
    pub(crate) fn read_as(&self, id: ObjectId, kind: Kind) -> Result<Vec<u8>> {
        let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((found, content)) = small.get(&id).filter(|(found, _)| *found == kind) {
            debug_assert_eq!(*found, kind);
            return Ok(content.clone());
        }
        let (found, content) = self.read(id)?;
        if found != kind {
            let why = format!("a {} where a {} was expected", found.name(), kind.name());
            return Err(Error::damaged(format!("git object {id}"), why));
        }
        if kind != Kind::Blob && content.len() <= CACHED {
            small.insert(id, (kind, content.clone()));
        }
        Ok(content)
    }

    fn read_deep(&self, id: ObjectId, depth: usize) -> Result<(Kind, Vec<u8>)> {
        for pack in &self.packs {
            if let Some(offset) = pack.find(id)? {
                return self.read_packed(pack, offset, depth);
            }
        }
        self.read_loose(id)
    }

    /// Reads the object at an offset: deltas are collected down to their base, then applied upward.
    fn read_packed(&self, pack: &Pack, offset: u64, depth: usize) -> Result<(Kind, Vec<u8>)> {
        let mut at = offset;
        let mut deltas = Vec::new();
        let (kind, mut content) = loop {
            if depth + deltas.len() > MAX_CHAIN {
                return Err(pack.damaged("a chain of deltas without end"));
            }
            match pack.entry(at)? {
                Packed::Whole(kind, content) => break (kind, content),
                Packed::Near(distance, delta) => {
                    deltas.push(delta);
                    at = at
                        .checked_sub(distance)
                        .ok_or_else(|| pack.damaged("a delta points before the pack"))?;
                }
                Packed::Named(base, delta) => {
                    deltas.push(delta);
                    break self.read_deep(base, depth + deltas.len())?;
                }
            }
        };
        for delta in deltas.iter().rev() {
            content =
                apply_delta(&content, delta).ok_or_else(|| pack.damaged("malformed delta"))?;
        }
        Ok((kind, content))
    }

    fn loose_path(&self, id: ObjectId) -> PathBuf {
        let name = id.to_string();
        let (directory, file) = name.split_at(2);
        self.directory.join(directory).join(file)
    }

    fn read_loose(&self, id: ObjectId) -> Result<(Kind, Vec<u8>)> {
        let path = self.loose_path(id);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(id));
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        let mut whole = Vec::new();
        ZlibDecoder::new(file)
            .take(MAX_OBJECT)
            .read_to_end(&mut whole)
            .map_err(Error::io("read", &path))?;
        let damaged = || Error::damaged(format!("git object {id}"), "malformed header");
        let end = whole.iter().take(64).position(|byte| *byte == 0).ok_or_else(damaged)?;
        let content = whole.split_off(end + 1);
        let (kind, length) = whole
            .strip_suffix(b"\0")
            .and_then(|header| std::str::from_utf8(header).ok())
            .and_then(|header| header.split_once(' '))
            .ok_or_else(damaged)?;
        if length.parse() != Ok(content.len()) {
            return Err(damaged());
        }
        Ok((Kind::from_name(kind.as_bytes()).ok_or_else(damaged)?, content))
    }
}

/// What a pack has at an offset.
enum Packed {
    Whole(Kind, Vec<u8>),
    /// A delta, and how far before it its base stands.
    Near(u64, Vec<u8>),
    /// A delta, and the name of its base.
    Named(ObjectId, Vec<u8>),
}

impl Pack {
    fn open(index_path: &Path) -> Result<Self> {
        let path = index_path.with_extension("pack");
        let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
        let (index, data) = (open(index_path)?, open(&path)?);
        let mut header = [0; 8 + 256 * 4];
        index.read_exact_at(&mut header, 0).map_err(Error::io("read", index_path))?;
        let (magic, fanout) = header.split_at(8);
        if magic != b"\xfftOc\0\0\0\x02" {
            let what = index_path.display().to_string();
            return Err(Error::damaged(what, "not a pack index of version 2"));
        }
        let fanout = fanout.chunks_exact(4).map(big_endian).collect();
        Ok(Self { index, data, path, fanout })
    }

    fn damaged(&self, why: &str) -> Error {
        Error::damaged(self.path.display().to_string(), why)
    }

    /// Where the pack has an object.
    fn find(&self, id: ObjectId) -> Result<Option<u64>> {
        let first = usize::from(*id.as_bytes().first().unwrap_or(&0));
        let bound = |at: usize| self.fanout.get(at).copied().unwrap_or_default();
        let mut low = if first == 0 { 0 } else { bound(first - 1) };
        let mut high = bound(first);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut name = [0; ObjectId::LENGTH];
            self.read_index(&mut name, NAMES_AT + u64::from(middle) * 20)?;
            match id.as_bytes().cmp(&name) {
                std::cmp::Ordering::Less => high = middle,
                std::cmp::Ordering::Greater => low = middle + 1,
                std::cmp::Ordering::Equal => return self.offset(middle).map(Some),
            }
        }
        Ok(None)
    }

    fn offset(&self, number: u32) -> Result<u64> {
        let total = u64::from(self.fanout.last().copied().unwrap_or_default());
        // After the names come as many checksums, then the offsets, then those that need 64 bits.
        let offsets = NAMES_AT + total * 24;
        let mut short = [0; 4];
        self.read_index(&mut short, offsets + u64::from(number) * 4)?;
        let short = u32::from_be_bytes(short);
        if short >> 31 == 0 {
            return Ok(short.into());
        }
        let mut far = [0; 8];
        self.read_index(&mut far, offsets + total * 4 + u64::from(short & 0x7fff_ffff) * 8)?;
        Ok(u64::from_be_bytes(far))
    }

    fn read_index(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.index.read_exact_at(buffer, at).map_err(Error::io("read", &self.path))
    }

    fn entry(&self, at: u64) -> Result<Packed> {
        let mut header = [0; 64];
        let count = self.data.read_at(&mut header, at).map_err(Error::io("read", &self.path))?;
        let header = header.get(..count).unwrap_or_default();
        let (number, length, mut rest) =
            entry_header(header).ok_or_else(|| self.damaged("malformed entry"))?;
        let mut kind = None;
        let mut near = 0;
        let mut named = None;
        match number {
            6 => (near, rest) = distance(rest).ok_or_else(|| self.damaged("malformed distance"))?,
            7 => {
                let (name, tail) = rest
                    .split_at_checked(ObjectId::LENGTH)
                    .ok_or_else(|| self.damaged("it ends early"))?;
                (named, rest) = (ObjectId::from_slice(name), tail);
            }
            _ => kind = Some(Kind::from_number(number).ok_or_else(|| self.damaged("odd entry"))?),
        }
        let start = at + u64::try_from(header.len() - rest.len()).unwrap_or_default();
        let content = self.inflate(start, length)?;
        Ok(match (kind, named) {
            (Some(kind), _) => Packed::Whole(kind, content),
            (None, Some(base)) => Packed::Named(base, content),
            (None, None) => Packed::Near(near, content),
        })
    }

    fn inflate(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        if length > MAX_OBJECT {
            return Err(self.damaged("an object is too large to read"));
        }
        let mut content = Vec::new();
        ZlibDecoder::new(ReadAt { file: &self.data, at })
            .take(length)
            .read_to_end(&mut content)
            .map_err(Error::io("read", &self.path))?;
        if u64::try_from(content.len()) != Ok(length) {
            return Err(self.damaged("an object is shorter than announced"));
        }
        Ok(content)
    }
}

/// Reads on from a position without moving the file's own.
struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The kind's number and the length, and what follows them.
fn entry_header(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let mut length = u64::from(first & 0x0f);
    let mut shift = 4;
    let mut last = *first;
    while last & 0x80 != 0 {
        (last, rest) = rest.split_first().map(|(byte, rest)| (*byte, rest))?;
        length |= u64::from(last & 0x7f).checked_shl(shift).filter(|_| shift < 57)?;
        shift += 7;
    }
    Some((first >> 4 & 7, length, rest))
}

/// The distance of a delta to its base: seven bits a byte, most significant first, one added per byte.
fn distance(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let mut number = u64::from(first & 0x7f);
    let mut last = *first;
    while last & 0x80 != 0 {
        (last, rest) = rest.split_first().map(|(byte, rest)| (*byte, rest))?;
        number = number.checked_add(1)?.checked_mul(128)? | u64::from(last & 0x7f);
    }
    Some((number, rest))
}

/// Applies a delta: copies from the base, and bytes of its own.
fn apply_delta(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let (base_length, rest) = varint(delta)?;
    let (length, mut rest) = varint(rest)?;
    if base_length != base.len() || u64::try_from(length).ok()? > MAX_OBJECT {
        return None;
    }
    let mut result = Vec::with_capacity(length);
    while let Some((&code, tail)) = rest.split_first() {
        rest = tail;
        if code & 0x80 == 0 {
            let (own, tail) = rest.split_at_checked(usize::from(code)).filter(|_| code != 0)?;
            result.extend_from_slice(own);
            rest = tail;
        } else {
            // Which bytes of offset (four) and size (three) are given; the others are zero.
            let mut given = |bits: u8| {
                (0..8_u32).filter(|bit| bits >> bit & 1 == 1).try_fold(0_usize, |number, bit| {
                    let (byte, tail) = rest.split_first()?;
                    rest = tail;
                    Some(number | usize::from(*byte) << (bit * 8))
                })
            };
            let offset = given(code & 0x0f)?;
            let size = match given(code >> 4 & 0x07)? {
                0 => 0x10000,
                size => size,
            };
            result.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        }
        if result.len() > length {
            return None;
        }
    }
    (result.len() == length).then_some(result)
}

/// A length in a delta: seven bits a byte, least significant first.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_usize;
    let mut rest = bytes;
    for shift in (0..56).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, rest));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::git::scratch::Scratch;

    /// Two large, similar files, so that git packs one as a delta of the other.
    #[test]
    fn loose_packed_and_deltified_objects_are_read() {
        let scratch = Scratch::new("objects");
        scratch.git(&["init", "-q", "."]);
        let text: String = (0..4000).map(|n| format!("line {n} of a file\n")).collect();
        let mut expected = HashMap::new();
        for n in 0..5 {
            let content = text.replacen("line 7 ", &format!("LINE {n}{n}{n} "), 1) + &"x".repeat(n);
            std::fs::write(scratch.path.join("file"), &content).unwrap();
            scratch.git(&["add", "file"]);
            scratch.git(&["commit", "-q", "-m", &n.to_string()]);
            expected.insert(ObjectId::of(Kind::Blob, content.as_bytes()), content);
        }
        let check = |note| {
            let objects = Objects::open(&scratch.path.join(".git/objects")).unwrap();
            for (id, content) in &expected {
                assert_eq!(
                    objects.read(*id).unwrap(),
                    (Kind::Blob, content.clone().into()),
                    "{note}"
                );
                assert!(objects.contains(*id).unwrap());
            }
            assert!(matches!(objects.read(ObjectId::EMPTY_TREE), Err(Error::Missing(_))));
        };
        check("loose");
        scratch.git(&["gc", "-q", "--aggressive"]);
        check("packed");
        scratch.git(&["-c", "repack.usedeltabaseoffset=false", "repack", "-adfq"]);
        check("packed with named bases");
    }

    #[test]
    fn damaged_deltas_are_refused() {
        // Copy beyond the base, an instruction of length zero, a result that is too short.
        for delta in [&[3, 2, 0x91, 2, 2][..], &[3, 1, 0], &[3, 4, 1, b'x'], &[2, 0], &[0xff; 12]] {
            assert_eq!(apply_delta(b"abc", delta), None);
        }
        assert_eq!(apply_delta(b"abc", &[3, 3, 0x91, 1, 2, 1, b'x']).unwrap(), b"bcx");
    }
}

//! A strict, streaming tar reader (D-6).
//!
//! The `tar` crate would be the natural choice, but it hands out entries without the bytes of their
//! extension headers (which an identical tar needs), reads negative and overlong numbers as something
//! else, passes over malformed PAX records, and does not know the PAX forms of sparse files.

mod field;
mod pax;
mod sparse;
pub(crate) mod writer;

use std::io::{self, BufRead};

pub(crate) use sparse::Segment;

/// Header and padding unit.
pub(crate) const BLOCK: usize = 512;

/// Longest PAX or GNU extension body, and longest sparse map.
const MAX_EXTENSION: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The archive breaks a rule of the format.
    #[error("{0}")]
    Malformed(&'static str),
    /// The bytes did not arrive.
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member of an archive, extension headers applied.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    /// Permission bits, setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) device: (u32, u32),
    /// Bytes of data that follow in the archive.
    pub(crate) stored: u64,
    /// Length of the file; more than `stored` when it is sparse.
    pub(crate) size: u64,
    /// Where the stored bytes belong, when they are not simply the whole file.
    pub(crate) segments: Option<Vec<Segment>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Seconds and nanoseconds since 1970; the nanoseconds are never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Reads an archive from front to back.
///
/// Every byte that is not file data is collected: [`Archive::take_headers`] must be emptied between
/// entries by whoever wants an identical archive later.
pub(crate) struct Archive<R> {
    input: R,
    headers: Vec<u8>,
    /// Data of the current entry that was not read yet.
    data: u64,
    padding: usize,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, headers: Vec::new(), data: 0, padding: 0 }
    }

    /// Headers, extension bodies and padding passed since the last call.
    pub(crate) fn take_headers(&mut self) -> std::vec::Drain<'_, u8> {
        self.headers.drain(..)
    }

    /// The next member, or `None` at the end marker or a clean end of the stream.
    ///
    /// The data of the one before must have been read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.data > 0 {
            return Err(Error::Malformed("data of an entry was left unread"));
        }
        self.pass_padding()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.header_block()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(Error::Malformed("the archive ends after an extension header"))
                };
            };
            match block[156] {
                b'x' => {
                    let records = pax::parse(&self.extension(&block)?)?;
                    if extensions.pax.replace(records).is_some() {
                        return Err(Error::Malformed("two PAX headers for one entry"));
                    }
                }
                // Global headers change nothing in the tools that make images, so they change
                // nothing here; but they must be well-formed.
                b'g' => drop(pax::parse(&self.extension(&block)?)?),
                b'L' => extensions.name = Some(long_name(&self.extension(&block)?)?),
                b'K' => extensions.link = Some(long_name(&self.extension(&block)?)?),
                _ => return self.entry(&block, extensions).map(Some),
            }
        }
    }

    /// The next piece of the current entry's data; empty when there is no more.
    ///
    /// [`Archive::consume`] says how much of it was used.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let piece = self.input.fill_buf()?;
        if piece.is_empty() {
            return Err(Error::Malformed("the archive ends inside an entry"));
        }
        let wanted = usize::try_from(self.data).unwrap_or(usize::MAX);
        Ok(piece.get(..wanted).unwrap_or(piece))
    }

    /// Marks bytes that [`Archive::data`] returned as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.data = self.data.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Passes what follows the end marker, which is never parsed, to `each`.
    pub(crate) fn rest(&mut self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        loop {
            let piece = self.input.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            each(piece)?;
            let length = piece.len();
            self.input.consume(length);
        }
    }

    /// The next header; `None` after two blocks of zeros, or where the stream ends between entries.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            field::check_sum(&block)?;
            return Ok(Some(block));
        }
        match self.block()? {
            None => Ok(None),
            Some(second) if second == [0; BLOCK] => Ok(None),
            Some(_) => Err(Error::Malformed("a lone block of zeros between entries")),
        }
    }

    /// 512 bytes, kept among the headers; `None` where the stream ends before the first.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::Malformed("the archive ends inside a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.headers.extend_from_slice(&block);
        Ok(Some(block))
    }

    /// The body of an extension header.
    fn extension(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>> {
        let size = field::size(&block[124..136])?;
        if size > MAX_EXTENSION {
            return Err(Error::Malformed("an extension header is larger than 1 MiB"));
        }
        let mut body = Vec::new();
        while u64::try_from(body.len()).unwrap_or(u64::MAX) < size {
            let Some(block) = self.block()? else {
                return Err(Error::Malformed("the archive ends inside an extension header"));
            };
            body.extend_from_slice(&block);
        }
        body.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(body)
    }

    fn pass_padding(&mut self) -> Result<()> {
        let mut left = std::mem::take(&mut self.padding);
        while left > 0 {
            let piece = self.input.fill_buf()?;
            if piece.is_empty() {
                return Err(Error::Malformed("the archive ends inside an entry"));
            }
            let piece = piece.get(..left).unwrap_or(piece);
            self.headers.extend_from_slice(piece);
            let length = piece.len();
            self.input.consume(length);
            left -= length;
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8; BLOCK], extensions: Extensions) -> Result<Entry> {
        let mut entry = field::entry(block)?;
        let mut layout = None;
        if let Some(records) = extensions.pax {
            layout = records.apply(&mut entry)?;
        }
        if let Some(name) = extensions.name {
            entry.path = name;
        }
        if let Some(link) = extensions.link {
            entry.link = link;
        }
        // A directory of the oldest format is a file whose name ends in a slash.
        if block[156] == 0 && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File {
            // The rule of the tools that make images: these have no data, whatever the size says.
            (entry.size, entry.stored) = (0, 0);
        }
        let padded = entry.stored.checked_next_multiple_of(512);
        let padded = padded.ok_or(Error::Malformed("an entry's size is out of range"))?;
        self.padding = usize::try_from(padded - entry.stored).unwrap_or(0);
        if entry.kind == Kind::File {
            self.read_sparse_map(block, layout, &mut entry)?;
        }
        self.data = entry.stored;
        Ok(entry)
    }

    fn read_sparse_map(
        &mut self,
        block: &[u8; BLOCK],
        layout: Option<sparse::Layout>,
        entry: &mut Entry,
    ) -> Result<()> {
        let segments = if block[156] == b'S' {
            entry.size = field::size(&block[483..495])?;
            let mut map = sparse::from_header(block)?;
            let mut more = block[482] != 0;
            while more {
                if map.len() > sparse::MAX_SEGMENTS {
                    return Err(Error::Malformed("a sparse map is too long"));
                }
                let Some(next) = self.block()? else {
                    return Err(Error::Malformed("the archive ends inside a sparse map"));
                };
                more = sparse::extend(&mut map, &next)?;
            }
            map
        } else {
            match layout {
                None => return Ok(()),
                Some(sparse::Layout::Known { size, segments }) => {
                    entry.size = size;
                    segments
                }
                Some(sparse::Layout::InData { size }) => {
                    entry.size = size;
                    self.map_in_data(entry)?
                }
            }
        };
        sparse::check(&segments, entry.size, entry.stored)?;
        entry.segments = Some(segments);
        Ok(())
    }

    /// PAX sparse format 1.0: the map stands in front of the data, in blocks of its own.
    fn map_in_data(&mut self, entry: &mut Entry) -> Result<Vec<Segment>> {
        let mut text = Vec::new();
        let (mut lines, mut needed) = (0, None);
        loop {
            if needed.is_none() {
                needed = sparse::lines(&text)?;
            }
            if needed.is_some_and(|needed| lines >= needed) {
                return sparse::from_text(&text);
            }
            let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
            let left = entry.stored.checked_sub(512);
            let (Some(left), true) = (left, size < MAX_EXTENSION) else {
                return Err(Error::Malformed("a sparse map does not end"));
            };
            let Some(block) = self.block()? else {
                return Err(Error::Malformed("the archive ends inside a sparse map"));
            };
            entry.stored = left;
            lines += block.iter().filter(|byte| **byte == b'\n').count();
            text.extend_from_slice(&block);
        }
    }
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extensions {
    pax: Option<pax::Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// The body of a GNU long name: the name, a NUL, and nothing but NULs after it.
fn long_name(body: &[u8]) -> Result<Vec<u8>> {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Error::Malformed("a NUL in a name"));
    }
    Ok(name.to_vec())
}

#[cfg(test)]
mod tests;

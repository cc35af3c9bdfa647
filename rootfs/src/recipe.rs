//! The recipe of a layer: everything of its tar that is not in its files, in order.
//!
//! Together with the files it gives the identical tar again, so a layer whose blob was dropped can still
//! be sent, and every stored file can be checked against the layer's diff id. A recipe is a zstd stream
//! of items: `0 length bytes` is part of the tar itself (headers, padding, data that no file holds);
//! `1 length path count (offset length)*` says which bytes of which file come next. Numbers are LEB128.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sys::Root;

use crate::tar::Segment;

const VERBATIM: u8 = 0;
const DATA: u8 = 1;

/// Enough for headers, which are mostly zeros; level 1 already shrinks them thirtyfold.
const LEVEL: i32 = 1;

/// Longest piece of verbatim bytes held in memory.
const PIECE: usize = 64 * 1024;

/// Writes a recipe while the tar passes.
pub(crate) struct Writer {
    output: zstd::Encoder<'static, File>,
    pending: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        Ok(Self { output: zstd::Encoder::new(file, LEVEL)?, pending: Vec::new() })
    }

    /// These bytes are in the tar.
    pub(crate) fn verbatim(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Then come these bytes of this file.
    pub(crate) fn data(&mut self, path: &[u8], segments: &[Segment]) -> io::Result<()> {
        self.flush()?;
        let mut item = vec![DATA];
        number(&mut item, to_u64(path.len()));
        item.extend_from_slice(path);
        number(&mut item, to_u64(segments.len()));
        for segment in segments {
            number(&mut item, segment.offset);
            number(&mut item, segment.length);
        }
        self.output.write_all(&item)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.output.finish().map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut head = vec![VERBATIM];
        number(&mut head, to_u64(self.pending.len()));
        self.output.write_all(&head)?;
        self.output.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

fn number(item: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        item.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    item.push(u8::try_from(value).unwrap_or(0));
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Files of the tar that a later entry of the same tar replaced, oldest first, by path.
pub(crate) type Lost = HashMap<Vec<u8>, std::collections::VecDeque<PathBuf>>;

/// The tar of a layer, made again from its recipe and its files.
pub(crate) struct Tar {
    recipe: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    files: Root,
    lost: Lost,
    /// Bytes of the recipe itself that come next.
    verbatim: u64,
    data: Option<Data>,
}

struct Data {
    file: File,
    segments: std::vec::IntoIter<Segment>,
    current: Segment,
}

impl Tar {
    pub(crate) fn open(layer: &Path, lost: Lost) -> io::Result<Self> {
        let recipe = zstd::Decoder::new(File::open(layer.join("recipe"))?)?;
        let files = Root::open(&layer.join("files"))?;
        Ok(Self { recipe: BufReader::new(recipe), files, lost, verbatim: 0, data: None })
    }

    /// Reads the next item; false at the recipe's end.
    fn next_item(&mut self) -> io::Result<bool> {
        let mut tag = [0];
        if self.recipe.read(&mut tag)? == 0 {
            return Ok(false);
        }
        match tag {
            [VERBATIM] => self.verbatim = self.read_number()?,
            [DATA] => {
                let length = self.read_number()?;
                let mut path = Vec::new();
                (&mut self.recipe).take(length.min(1 << 20)).read_to_end(&mut path)?;
                let mut segments = Vec::new();
                for _ in 0..self.read_number()? {
                    let (offset, length) = (self.read_number()?, self.read_number()?);
                    segments.push(Segment { offset, length });
                }
                let file = self.open_file(&path)?;
                let current = Segment { offset: 0, length: 0 };
                self.data = Some(Data { file, segments: segments.into_iter(), current });
            }
            _ => return Err(malformed()),
        }
        Ok(true)
    }

    fn open_file(&mut self, path: &[u8]) -> io::Result<File> {
        if let Some(lost) = self.lost.get_mut(path).and_then(std::collections::VecDeque::pop_front)
        {
            return File::open(lost);
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let file: OwnedFd = self.files.open_plain(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        Ok(file.into())
    }

    fn read_number(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.recipe.read_exact(&mut byte)?;
            let [byte] = byte;
            value |= u64::from(byte & 0x7f).checked_shl(shift).ok_or_else(malformed)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    fn read_verbatim(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.recipe.fill_buf()?;
        let count = piece.len().min(buffer.len());
        let count = count.min(usize::try_from(self.verbatim).unwrap_or(usize::MAX));
        let (Some(from), Some(to)) = (piece.get(..count), buffer.get_mut(..count)) else {
            return Err(malformed());
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.copy_from_slice(from);
        self.recipe.consume(count);
        self.verbatim = self.verbatim.saturating_sub(to_u64(count));
        Ok(count)
    }
}

impl Data {
    /// Reads on; zero when every segment was read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.length == 0 {
            match self.segments.next() {
                Some(segment) => self.current = segment,
                None => return Ok(0),
            }
        }
        let wanted = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.read_at(room, self.current.offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.current.offset = self.current.offset.saturating_add(to_u64(count));
        self.current.length = self.current.length.saturating_sub(to_u64(count));
        Ok(count)
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.verbatim > 0 {
                return self.read_verbatim(buffer);
            }
            if let Some(data) = &mut self.data {
                match data.read(buffer)? {
                    0 => self.data = None,
                    count => return Ok(count),
                }
            }
            if !self.next_item()? {
                return Ok(0);
            }
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer's recipe is malformed")
}

//! Blocks of bytes passed from thread to thread: a bounded channel whose buffers come back.

use std::{
    io::{self, BufRead, Read, Write},
    sync::mpsc::{self, Receiver, Sender, SyncSender},
};

/// Large enough that a hand-over costs nothing, small enough to stay in the cache.
pub(crate) const BLOCK: usize = 128 * 1024;

/// Blocks under way between two threads.
const DEPTH: usize = 6;

/// Some bytes.
pub(crate) struct Block {
    bytes: Box<[u8]>,
    length: usize,
}

enum Message {
    Block(Block),
    End,
}

/// The two ends of a pipe of blocks. Memory is bounded: the writer waits for buffers to come back.
pub(crate) fn pipe() -> (Writer, Blocks) {
    let (full, incoming) = mpsc::sync_channel(DEPTH);
    let (back, empty) = mpsc::channel();
    let blocks = Blocks { incoming, back, current: None, position: 0, ended: false };
    (Writer { full, empty, made: 0, current: None, delayed: None }, blocks)
}

/// The end that fills blocks.
pub(crate) struct Writer {
    full: SyncSender<Message>,
    empty: Receiver<Block>,
    made: usize,
    /// What was written but not handed over yet.
    current: Option<Block>,
    /// The source's failure, kept until the bytes before it were handed over.
    delayed: Option<io::Error>,
}

impl Writer {
    /// Fills one block by reading until it is full or the source ends, and hands it over.
    ///
    /// `each` sees the bytes first. Returns how many there were: zero at the source's end.
    pub(crate) fn fill(
        &mut self,
        source: &mut dyn Read,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        if let Some(error) = self.delayed.take() {
            return Err(error);
        }
        let mut block = self.empty_block()?;
        while let Some(room) = block.bytes.get_mut(block.length..).filter(|room| !room.is_empty()) {
            match source.read(room) {
                Ok(0) => break,
                Ok(count) => block.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if block.length == 0 => return Err(error),
                // What came before it is good, and a later pull can go on from there.
                Err(error) => {
                    self.delayed = Some(error);
                    break;
                }
            }
        }
        let length = block.length;
        if length == 0 {
            return Ok(0);
        }
        each(block.bytes.get(..length).unwrap_or_default())?;
        self.full.send(Message::Block(block)).map_err(|_| gone())?;
        Ok(length)
    }

    /// Says that everything was written. A writer dropped without it has failed.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(block) = self.current.take() {
            self.full.send(Message::Block(block)).map_err(|_| gone())?;
        }
        self.full.send(Message::End).map_err(|_| gone())
    }

    fn empty_block(&mut self) -> io::Result<Block> {
        if self.made < DEPTH {
            self.made += 1;
            return Ok(Block { bytes: vec![0; BLOCK].into_boxed_slice(), length: 0 });
        }
        let mut block = self.empty.recv().map_err(|_| gone())?;
        block.length = 0;
        Ok(block)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut block = match self.current.take() {
            Some(block) => block,
            None => self.empty_block()?,
        };
        let room = block.bytes.get_mut(block.length..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        block.length += count;
        if block.length == block.bytes.len() {
            self.full.send(Message::Block(block)).map_err(|_| gone())?;
        } else {
            self.current = Some(block);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other thread failed; its own error is the one worth reporting.
#[derive(Debug, thiserror::Error)]
#[error("the other thread failed")]
struct Gone;

fn gone() -> io::Error {
    io::Error::other(Gone)
}

/// Whether an error only says that the other end of a pipe failed.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Gone>())
}

/// The end that empties blocks.
pub(crate) struct Blocks {
    incoming: Receiver<Message>,
    back: Sender<Block>,
    current: Option<Block>,
    position: usize,
    ended: bool,
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|block| self.position >= block.length) && !self.ended {
            if let Some(block) = self.current.take() {
                // The writer may be done and gone; then nobody wants the buffer.
                let _ = self.back.send(block);
            }
            self.position = 0;
            match self.incoming.recv() {
                Ok(Message::Block(block)) => self.current = Some(block),
                Ok(Message::End) => self.ended = true,
                Err(_) => return Err(gone()),
            }
        }
        let block = self.current.as_ref();
        Ok(block.and_then(|block| block.bytes.get(self.position..block.length)).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        let (Some(from), Some(to)) = (piece.get(..count), buffer.get_mut(..count)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.consume(count);
        Ok(count)
    }
}

/// Hashes what is read through it, once, as it comes.
pub(crate) struct Hashed<R> {
    inner: R,
    hasher: sha2::Sha256,
    /// Bytes at the front of the inner buffer that were hashed but not consumed.
    hashed: usize,
    total: u64,
}

impl<R: BufRead> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: sha2::Digest::new(), hashed: 0, total: 0 }
    }

    /// Digest and length of everything that was read.
    pub(crate) fn finish(self) -> (String, u64) {
        (super::hex(self.hasher), self.total)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let piece = self.inner.fill_buf()?;
        if let Some(fresh) = piece.get(self.hashed..) {
            sha2::Digest::update(&mut self.hasher, fresh);
            self.hashed = piece.len();
        }
        Ok(piece)
    }

    fn consume(&mut self, count: usize) {
        self.hashed = self.hashed.saturating_sub(count);
        self.total += u64::try_from(count).unwrap_or(0);
        self.inner.consume(count);
    }
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        let (Some(from), Some(to)) = (piece.get(..count), buffer.get_mut(..count)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.consume(count);
        Ok(count)
    }
}

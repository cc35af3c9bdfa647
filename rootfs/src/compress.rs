//! Compression on two threads whose output does not depend on how they were scheduled.
//!
//! The input is cut into pieces of one size. Gzip: each piece becomes a run of deflate blocks that ends on
//! a byte, all in one member, as pigz does. Zstd: each piece becomes a frame.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{
        Mutex,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use flate2::{Compress, Crc, FlushCompress};
use oci_spec::image::{Descriptor, Digest, MediaType};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result},
    layer::{self, Compression},
};

/// What each thread compresses at a time: large enough to lose little at the seams.
const PIECE: usize = 512 * 1024;

const THREADS: usize = 2;

/// Pieces under way, being compressed or waiting to be written.
const DEPTH: usize = 4;

/// What came out of a compressor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the compressed bytes, as `sha256:…`.
    pub digest: String,
    /// How many there are.
    pub size: u64,
}

impl Compressed {
    /// As a layer's blob.
    pub(crate) fn into_blob(self, compression: Compression) -> Result<Descriptor> {
        let digest: Digest =
            self.digest.parse().map_err(|_| Error::UnsupportedDigest(self.digest.clone()))?;
        let media_type = match compression {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        };
        Ok(Descriptor::new(media_type, self.size, digest))
    }
}

/// Compresses everything `input` gives. The level is the codec's own; `None` is its usual one.
pub fn compress(
    input: &mut dyn Read,
    output: &mut (dyn Write + Send),
    compression: Compression,
    level: Option<i32>,
) -> io::Result<Compressed> {
    with_compressor(output, compression, level, |compressor| {
        let mut piece = vec![0; 128 * 1024];
        loop {
            match input.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => compressor.write_all(piece.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
    .map(|((), compressed)| compressed)
}

/// Lets `feed` write to a compressor.
pub(crate) fn with_compressor<T>(
    output: &mut (dyn Write + Send),
    compression: Compression,
    level: Option<i32>,
    feed: impl FnOnce(&mut Compressor<'_>) -> io::Result<T>,
) -> io::Result<(T, Compressed)> {
    let (jobs, queue) = mpsc::sync_channel::<Job>(DEPTH);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new()
                .name("compress".into())
                .spawn_scoped(scope, || work(&queue, compression, level))?;
        }
        let mut compressor = Compressor {
            jobs,
            waiting: VecDeque::new(),
            piece: Vec::new(),
            output: Hashing { output, hasher: Sha256::new(), size: 0 },
            compression,
            checksum: Crc::new(),
            is_empty: true,
        };
        compressor.begin()?;
        let value = feed(&mut compressor)?;
        Ok((value, compressor.finish()?))
    })
}

struct Job {
    input: Vec<u8>,
    reply: SyncSender<io::Result<Piece>>,
}

/// A compressed piece, and the buffer it came from.
struct Piece {
    output: Vec<u8>,
    checksum: Crc,
}

/// Takes the bytes to compress.
pub(crate) struct Compressor<'o> {
    jobs: SyncSender<Job>,
    /// Pieces in order, each with the place its result will come from.
    waiting: VecDeque<Receiver<io::Result<Piece>>>,
    piece: Vec<u8>,
    output: Hashing<'o>,
    compression: Compression,
    checksum: Crc,
    is_empty: bool,
}

struct Hashing<'o> {
    output: &'o mut (dyn Write + Send),
    hasher: Sha256,
    size: u64,
}

impl Hashing<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.output.write_all(bytes)
    }
}

impl Compressor<'_> {
    fn begin(&mut self) -> io::Result<()> {
        match self.compression {
            // No name, no time, no system: nothing that differs between machines (RFC 1952).
            Compression::Gzip => self.output.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]),
            Compression::Zstd | Compression::None => Ok(()),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        let input = std::mem::take(&mut self.piece);
        self.is_empty = false;
        if self.compression == Compression::None {
            return self.output.write_all(&input);
        }
        while self.waiting.len() >= DEPTH {
            self.write_next()?;
        }
        let (reply, result) = mpsc::sync_channel(1);
        self.jobs.send(Job { input, reply }).map_err(|_| gone())?;
        self.waiting.push_back(result);
        Ok(())
    }

    fn write_next(&mut self) -> io::Result<()> {
        let Some(result) = self.waiting.pop_front() else { return Ok(()) };
        let piece = result.recv().map_err(|_| gone())??;
        self.checksum.combine(&piece.checksum);
        self.output.write_all(&piece.output)
    }

    fn finish(mut self) -> io::Result<Compressed> {
        // Nothing at all still is one empty frame.
        if !self.piece.is_empty() || (self.is_empty && self.compression == Compression::Zstd) {
            self.submit()?;
        }
        while !self.waiting.is_empty() {
            self.write_next()?;
        }
        if self.compression == Compression::Gzip {
            // An empty last block, the checksum, and the length modulo 2^32.
            self.output.write_all(&[3, 0])?;
            self.output.write_all(&self.checksum.sum().to_le_bytes())?;
            self.output.write_all(&self.checksum.amount().to_le_bytes())?;
        }
        let digest = format!("sha256:{}", layer::hex(self.output.hasher));
        Ok(Compressed { digest, size: self.output.size })
    }
}

impl Write for Compressor<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
        let room = PIECE.saturating_sub(self.piece.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() >= PIECE {
            self.submit()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>, compression: Compression, level: Option<i32>) {
    let level = |usual: i32| level.unwrap_or(usual);
    loop {
        let next = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return, // the other thread panicked, and that is reported
        };
        let Ok(Job { input, reply }) = next else { return };
        let mut checksum = Crc::new();
        let output = match compression {
            Compression::Gzip => {
                checksum.update(&input);
                deflate(&input, level(6))
            }
            Compression::Zstd => zstd_frame(&input, level(3)),
            Compression::None => Ok(input),
        };
        // Whoever asked may have failed meanwhile.
        let _ = reply.send(output.map(|output| Piece { output, checksum }));
    }
}

fn deflate(input: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let level = u32::try_from(level).ok().filter(|level| *level <= 9);
    let level = level
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "gzip levels are 0 to 9"))?;
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    let mut output = Vec::with_capacity(input.len() / 2 + 64);
    loop {
        let used = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let left = input.get(used..).unwrap_or_default();
        compress.compress_vec(left, &mut output, FlushCompress::Sync).map_err(io::Error::other)?;
        let used = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        // With room to spare the flush is complete.
        if used == input.len() && output.len() < output.capacity() {
            return Ok(output);
        }
        output.reserve(input.len() / 2 + 64);
    }
}

fn zstd_frame(input: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(u64::try_from(input.len()).ok())?;
    encoder.write_all(input)?;
    encoder.finish()
}

fn gone() -> io::Error {
    io::Error::other("the compressing thread is gone")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back_and_is_always_the_same() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes().map(|byte| byte & 0x3f)
        };
        let long: Vec<u8> = (0..700_000).flat_map(|_| next()).collect();
        for input in [b"".as_slice(), b"x", long.get(..PIECE).unwrap(), &long] {
            for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
                let (mut one, mut other) = (Vec::new(), Vec::new());
                let first = compress(&mut &*input, &mut one, compression, None).unwrap();
                compress(&mut &*input, &mut other, compression, None).unwrap();
                assert!(one == other, "{compression:?}");
                assert_eq!(first.size, u64::try_from(one.len()).unwrap());
                let mut back = Vec::new();
                match compression {
                    Compression::Gzip => {
                        flate2::bufread::GzDecoder::new(&*one).read_to_end(&mut back).unwrap()
                    }
                    Compression::Zstd => {
                        zstd::Decoder::new(&*one).unwrap().read_to_end(&mut back).unwrap()
                    }
                    Compression::None => one.as_slice().read_to_end(&mut back).unwrap(),
                };
                assert!(back == input, "{compression:?} of {} bytes", input.len());
            }
        }
    }
}

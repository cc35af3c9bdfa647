//! Decompression, chosen by what the bytes are; every member, frame and checksum is read (D-8).

use std::io::{self, BufRead, BufReader, Read};

/// Largest zstd window: 128 MiB, as the zstd program accepts.
const WINDOW_LOG_MAX: u32 = 27;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One gzip member or several.
    Gzip,
    /// One zstd frame or several.
    Zstd,
}

impl Compression {
    /// Media types are wrong often enough that the first bytes decide, as they do elsewhere. A tar
    /// cannot begin with either magic: a header's first bytes are a name.
    fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// What an archive holds that may be compressed with gzip or zstd.
pub fn decompressed<'r>(input: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    reader(BufReader::with_capacity(128 << 10, input))
}

/// Whether an archive that begins like this is compressed, be it in a way that [`decompressed`] refuses.
pub fn is_compressed(beginning: &[u8]) -> bool {
    Compression::of(beginning) != Compression::None
        || FOREIGN.iter().any(|(magic, _)| beginning.starts_with(magic))
}

/// Compressions that are recognised only to be refused by name.
const FOREIGN: [(&[u8], &str); 3] =
    [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")];

/// The decompressed stream of `input`.
pub(crate) fn reader<'r>(
    mut input: impl BufRead + Send + 'r,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let beginning = input.fill_buf()?;
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| beginning.starts_with(magic)) {
        let problem = format!("it is compressed with {name}: decompress it first");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(match Compression::of(beginning) {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

//! What is inside a layer, for those images whose documents do not say.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
};

use oci_spec::image::Digest;

use crate::digest::Hasher;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
}

/// Reads a layer from its start, and returns the digest of the tar inside.
pub(crate) fn diff_id(file: &mut File) -> io::Result<(Compression, Digest)> {
    file.rewind()?;
    let mut start = [0; 2];
    let length = file.read(&mut start)?;
    file.rewind()?;
    let mut hasher = Hasher::default();
    let mut reader = BufReader::with_capacity(128 << 10, file);
    if length == 2 && start == [0x1f, 0x8b] {
        hash(&mut flate2::bufread::MultiGzDecoder::new(reader), &mut hasher)?;
        return Ok((Compression::Gzip, hasher.finish()));
    }
    hash(&mut reader, &mut hasher)?;
    Ok((Compression::None, hasher.finish()))
}

/// Reads to the end.
pub(crate) fn hash(reader: &mut dyn Read, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

//! The checksum of a layer as Docker's first registries wanted it: a tarsum.
//!
//! Each entry is hashed with the names and values of its header's fields and its content; the sums,
//! sorted, are hashed again. What it leaves out (here: times) may differ without a difference.

use std::io::{BufReader, Read};

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};
use crate::{
    Store,
    tar::{Archive, Entry, Kind},
};

/// The tarsum of a stored layer, in the form krgo printed.
pub(crate) fn of_layer(store: &Store, diff_id: &Digest) -> Result<String> {
    let tar = store.layer_tar(diff_id)?;
    let sum = sum(tar).map_err(|error| Error::damaged("the layer's tar", error.to_string()))?;
    Ok(format!("tarsum.dev+sha256:{sum}"))
}

fn sum(tar: impl Read) -> std::result::Result<String, crate::tar::Error> {
    let mut archive = Archive::new(BufReader::with_capacity(128 << 10, tar));
    let mut sums = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        archive.take_headers();
        let mut hasher = Sha256::new();
        header(&entry, |key, value| {
            hasher.update(key);
            hasher.update(value);
        });
        loop {
            let piece = archive.data()?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            hasher.update(piece);
            archive.consume(count);
        }
        sums.push(crate::layer::hex(hasher));
    }
    sums.sort();
    let whole = sums.iter().fold(Sha256::new(), |hasher, sum| hasher.chain_update(sum));
    Ok(crate::layer::hex(whole))
}

/// The fields that count, in the order in which they do.
fn header(entry: &Entry, mut field: impl FnMut(&[u8], &[u8])) {
    let mut name = entry.path.clone();
    if entry.kind == Kind::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    let number = |number: u64| number.to_string().into_bytes();
    let kind = match entry.kind {
        Kind::File => b"0",
        Kind::HardLink => b"1",
        Kind::Symlink => b"2",
        Kind::CharacterDevice => b"3",
        Kind::BlockDevice => b"4",
        Kind::Directory => b"5",
        Kind::Fifo => b"6",
    };
    let fields: [(&str, Vec<u8>); 11] = [
        ("name", name),
        ("mode", number(entry.mode.into())),
        ("uid", number(entry.uid.into())),
        ("gid", number(entry.gid.into())),
        ("size", number(entry.size)),
        ("typeflag", kind.to_vec()),
        ("linkname", entry.link.clone()),
        ("uname", Vec::new()),
        ("gname", Vec::new()),
        ("devmajor", number(entry.device.0.into())),
        ("devminor", number(entry.device.1.into())),
    ];
    for (key, value) in fields {
        field(key.as_bytes(), &value);
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (key, value) in xattrs {
        field(key, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_sum_of_nothing() {
        assert_eq!(
            sum(&[0_u8; 1024][..]).unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}

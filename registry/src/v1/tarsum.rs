//! TarSum: a checksum of a tar's contents that does not depend on the order of its entries.
//!
//! Version 0 is what v1 registries check uploads against. It was never collision-free enough to trust (two
//! archives that unpack differently may share it), so nothing here relies on it.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::digest::hex;

/// The label that v1 registries expect, for a tar that is read here to its end. `seed` is the layer's JSON.
pub(super) fn tarsum(tar: impl Read, seed: &[u8]) -> io::Result<String> {
    let mut sums = Vec::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut hasher = Sha256::new();
        for (key, value) in fields(&entry) {
            hasher.update(key);
            hasher.update(value);
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            match entry.read(&mut buffer)? {
                0 => break,
                count => hasher.update(buffer.get(..count).unwrap_or_default()),
            }
        }
        sums.push(hex(&hasher.finalize()));
    }
    sums.sort_unstable();
    let mut hasher = Sha256::new();
    hasher.update(seed);
    sums.iter().for_each(|sum| hasher.update(sum));
    Ok(format!("tarsum+sha256:{}", hex(&hasher.finalize())))
}

/// What is hashed of a header, in this order, as key and value without anything between.
fn fields<R: Read>(entry: &tar::Entry<'_, R>) -> [(&'static str, Vec<u8>); 12] {
    let header = entry.header();
    // A blank field is zero, as the servers' own readers had it.
    let decimal = |number: io::Result<u64>| number.unwrap_or(0).to_string().into_bytes();
    let device = |number: io::Result<Option<u32>>| number.map(|it| it.unwrap_or(0).into());
    let text = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
    [
        ("name", entry.path_bytes().into_owned()),
        ("mode", decimal(header.mode().map(u64::from))),
        ("uid", decimal(header.uid())),
        ("gid", decimal(header.gid())),
        ("size", decimal(Ok(entry.size()))),
        ("mtime", decimal(header.mtime())),
        ("typeflag", vec![header.entry_type().as_byte()]),
        ("linkname", entry.link_name_bytes().unwrap_or_default().into_owned()),
        ("uname", text(header.username_bytes())),
        ("gname", text(header.groupname_bytes())),
        ("devmajor", decimal(device(header.device_major()))),
        ("devminor", decimal(device(header.device_minor()))),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_order_of_entries_does_not_matter_and_the_seed_does() {
        let sum = |names: &[&str], seed: &[u8]| tarsum(&*archive(names), seed).unwrap();
        assert_eq!(sum(&["a", "b"], b"{}"), sum(&["b", "a"], b"{}"));
        assert_ne!(sum(&["a", "b"], b"{}"), sum(&["a", "b"], b"[]"));
        assert_ne!(sum(&["a", "b"], b"{}"), sum(&["a"], b"{}"));
    }

    #[test]
    fn an_empty_tar_has_the_sum_of_its_seed() {
        let expected = hex(&Sha256::digest(b"seed"));
        assert_eq!(tarsum(&[0; 1024][..], b"seed").unwrap(), format!("tarsum+sha256:{expected}"));
    }
}

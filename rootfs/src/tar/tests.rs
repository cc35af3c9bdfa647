//! What is written is read back; what is malformed is not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn entry(kind: Kind, path: &str) -> Entry {
    Entry {
        kind,
        path: path.as_bytes().to_vec(),
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1_000_000_000, nanoseconds: 0 },
        device: (0, 0),
        stored: 0,
        size: 0,
        segments: None,
        xattrs: Vec::new(),
    }
}

#[track_caller]
fn comes_back(entry: &Entry) {
    let mut bytes = Vec::new();
    writer::header(&mut bytes, entry).unwrap();
    writer::end(&mut bytes).unwrap();
    assert_eq!(bytes.len() % BLOCK, 0);
    let mut archive = Archive::new(bytes.as_slice());
    let mut back = archive.next_entry().unwrap().unwrap();
    if entry.kind == Kind::Directory {
        assert_eq!(back.path.pop(), Some(b'/'));
    }
    assert_eq!(format!("{back:?}"), format!("{entry:?}"));
    assert!(archive.next_entry().unwrap().is_none());
    assert_eq!(archive.take_headers().as_slice(), bytes, "every byte is accounted for");
}

#[test]
fn entries_survive_writing_and_reading() {
    for kind in [Kind::File, Kind::Directory, Kind::Fifo] {
        comes_back(&entry(kind, "a/b"));
    }
    let link = |kind, target: &str| Entry { link: target.as_bytes().to_vec(), ..entry(kind, "l") };
    comes_back(&link(Kind::Symlink, "target"));
    comes_back(&link(Kind::HardLink, &"t".repeat(300)));
    for kind in [Kind::CharacterDevice, Kind::BlockDevice] {
        comes_back(&Entry { device: (4095, 1_048_575), ..entry(kind, "dev") });
    }
    for length in [99, 100, 101, 255, 4000] {
        comes_back(&entry(Kind::File, &"n".repeat(length)));
        comes_back(&entry(Kind::Directory, &"n".repeat(length)));
    }
    comes_back(&Entry { mode: 0o7777, uid: 2_097_151, gid: 2_097_152, ..entry(Kind::File, "o") });
    comes_back(&Entry { uid: u32::MAX - 1, ..entry(Kind::File, "o") });
    comes_back(&Entry { path: b"\xff\n\x01".to_vec(), ..entry(Kind::File, "") });
    let xattrs = vec![(b"user.a".to_vec(), b"=\n\0".to_vec()), (b"user.b".to_vec(), Vec::new())];
    comes_back(&Entry { xattrs, ..entry(Kind::File, "x") });
}

#[test]
fn times_survive_to_the_nanosecond() {
    for (seconds, nanoseconds) in
        [(0, 0), (0, 1), (1, 999_999_999), (-1, 0), (-1, 500_000_000), (-2, 1), (1 << 40, 0)]
    {
        let mtime = Time { seconds, nanoseconds };
        comes_back(&Entry { mtime, ..entry(Kind::File, "t") });
    }
}

#[test]
fn data_is_bounded_by_the_header() {
    let mut bytes = Vec::new();
    writer::header(&mut bytes, &Entry { stored: 3, size: 3, ..entry(Kind::File, "f") }).unwrap();
    bytes.extend_from_slice(b"abc");
    writer::padding(&mut bytes, 3).unwrap();
    writer::end(&mut bytes).unwrap();
    let mut archive = Archive::new(bytes.as_slice());
    archive.next_entry().unwrap().unwrap();
    assert_eq!(archive.data().unwrap(), b"abc");
    assert!(archive.next_entry().is_err(), "data must be read first");
    archive.consume(3);
    assert!(archive.data().unwrap().is_empty());
    assert!(archive.next_entry().unwrap().is_none());
}

#[test]
fn old_checksums_over_signed_bytes_are_accepted() {
    let mut bytes = Vec::new();
    writer::header(&mut bytes, &Entry { path: b"\xe9t\xe9".to_vec(), ..entry(Kind::File, "") })
        .unwrap();
    let signed: i64 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte })
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    bytes[148..155].copy_from_slice(format!("{signed:06o}\0").as_bytes());
    assert!(Archive::new(bytes.as_slice()).next_entry().unwrap().is_some());
}

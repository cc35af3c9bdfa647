//! What git cannot store, a line per path: the manifest of a layer.
//!
//! The form is that of composefs-dump(5), so that tools for composefs images read it:
//!
//! ```text
//! PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST [XATTR=VALUE …]
//! ```
//!
//! A manifest has what its layer has, in the form the layer has unpacked for overlayfs: a whiteout is a
//! character device 0:0, an opaque directory has the attribute `trusted.overlay.opaque`. The payload of
//! a regular file is its blob, written as git would name the loose object; of one that git has only a
//! pointer to, `sha256/` and its digest.

use super::{
    error::{Error, Result},
    inode::{Content, Inode, Time, pointer_text},
    oid::{Kind, ObjectId, hex_pair},
};

/// A path of a layer, absolute, and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Begins with a slash; the root is `/`.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file of its own.
    Own(Inode),
    /// Another name of the file at a path earlier in the manifest.
    Link(Vec<u8>),
}

impl Line {
    pub(crate) fn own(path: impl Into<Vec<u8>>, inode: Inode) -> Self {
        Self { path: path.into(), what: What::Own(inode) }
    }
}

/// The text of a manifest. Lines keep their order: parents first, files before further names of them.
pub(crate) fn encode(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len() * 128);
    for line in lines {
        escape(&mut text, &line.path, false);
        match &line.what {
            What::Own(inode) => encode_inode(&mut text, inode),
            What::Link(target) => {
                text.extend_from_slice(b" 0 @100644 1 0 0 0 0.0 ");
                escape(&mut text, target, false);
                text.extend_from_slice(b" - -");
            }
        }
        text.push(b'\n');
    }
    text
}

fn encode_inode(text: &mut Vec<u8>, inode: &Inode) {
    let Inode { mode, uid, gid, rdev, size, mtime, .. } = inode;
    let Time { seconds, nanos } = mtime;
    let fields = format!(" {size} {mode:o} 1 {uid} {gid} {rdev} {seconds}.{nanos:09} ");
    text.extend_from_slice(fields.as_bytes());
    match &inode.content {
        Content::Blob(id) if inode.size > 0 => {
            let name = id.to_string();
            let (directory, file) = name.split_at(2);
            text.extend_from_slice(format!("{directory}/{file}").as_bytes());
        }
        Content::Blob(_) | Content::None => text.push(b'-'),
        Content::Large { sha256, .. } => {
            text.extend_from_slice(b"sha256/");
            sha256.iter().for_each(|byte| text.extend_from_slice(format!("{byte:02x}").as_bytes()));
        }
        Content::Link(target) => escape(text, target, false),
    }
    text.extend_from_slice(b" - -");
    for (name, value) in &inode.xattrs {
        text.push(b' ');
        escape(text, name, true);
        text.push(b'=');
        escape(text, value, true);
    }
}

/// Writes a field. `-` alone means "not set", so a field that is `-` is escaped.
fn escape(text: &mut Vec<u8>, field: &[u8], attribute: bool) {
    if field == b"-" {
        text.extend_from_slice(b"\\x2d");
        return;
    }
    for byte in field {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            b'=' if attribute => text.extend_from_slice(b"\\x3d"),
            0x21..=0x7e => text.push(*byte),
            _ => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

/// Reads a manifest. What it says is checked as if it came from elsewhere, since with `git fetch` it may.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<Line>> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut lines = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = decode_line(line).ok_or_else(|| {
            Error::damaged(format!("line {} of the manifest", number + 1), "malformed field")
        })?;
        lines.push(line);
    }
    Ok(lines)
}

fn decode_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = unescape(fields.next()?)?;
    if !is_plain(&path) {
        return None;
    }
    let size = number(fields.next()?, 10)?;
    let mode = fields.next()?;
    let _links = fields.next()?;
    let uid = u32::try_from(number(fields.next()?, 10)?).ok()?;
    let gid = u32::try_from(number(fields.next()?, 10)?).ok()?;
    let rdev = number(fields.next()?, 10)?;
    let mtime = time(fields.next()?)?;
    let payload = fields.next()?;
    let (_content, _digest) = (fields.next()?, fields.next()?);
    if mode.starts_with(b"@") {
        let target = unescape(payload).filter(|target| is_plain(target))?;
        return Some(Line { path, what: What::Link(target) });
    }
    let xattrs: Option<Vec<_>> = fields
        .map(|field| {
            let at = field.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (unescape(field.get(..at)?)?, unescape(field.get(at + 1..)?)?);
            (!name.is_empty() && !name.contains(&0)).then_some((name, value))
        })
        .collect();
    let mode = u32::try_from(number(mode, 8)?).ok()?;
    let mut inode =
        Inode { mode, uid, gid, rdev, size, mtime, xattrs: xattrs?, content: Content::None };
    inode.content = decode_payload(&inode, payload)?;
    Some(Line::own(path, inode))
}

fn decode_payload(inode: &Inode, payload: &[u8]) -> Option<Content> {
    use rustix::fs::FileType;
    match inode.kind() {
        FileType::Symlink => {
            let target = unescape(payload).filter(|target| !target.is_empty())?;
            (!target.contains(&0)).then_some(Content::Link(target))
        }
        FileType::RegularFile if payload == b"-" && inode.size == 0 => {
            Some(Content::Blob(ObjectId::of(Kind::Blob, b"")))
        }
        FileType::RegularFile => match payload.strip_prefix(b"sha256/") {
            Some(digest) => {
                let bytes: Option<Vec<u8>> = digest.chunks(2).map(hex_pair).collect();
                let sha256 = <[u8; 32]>::try_from(bytes?).ok()?;
                let text = pointer_text(&sha256, inode.size);
                Some(Content::Large { sha256, pointer: ObjectId::of(Kind::Blob, text.as_bytes()) })
            }
            None => {
                let (directory, file) = payload.split_at_checked(2)?;
                let name = [directory, file.strip_prefix(b"/")?].concat();
                Some(Content::Blob(std::str::from_utf8(&name).ok()?.parse().ok()?))
            }
        },
        FileType::Unknown => None,
        _ => Some(Content::None),
    }
}

/// Whether a path is absolute, with no empty component and none that means another place.
fn is_plain(path: &[u8]) -> bool {
    let plain =
        |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && part.len() <= 255;
    match path.strip_prefix(b"/") {
        Some(b"") => true,
        Some(rest) => !rest.contains(&0) && rest.split(|byte| *byte == b'/').all(plain),
        None => false,
    }
}

fn time(field: &[u8]) -> Option<Time> {
    let (seconds, nanos) = std::str::from_utf8(field).ok()?.split_once('.')?;
    let nanos = u32::try_from(number(nanos.as_bytes(), 10)?).ok()?;
    (nanos < 1_000_000_000).then_some(Time { seconds: seconds.parse().ok()?, nanos })
}

fn number(field: &[u8], base: u32) -> Option<u64> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(field).ok()?, base).ok()
}

fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (code, tail) = rest.split_first()?;
        rest = tail;
        bytes.push(match code {
            b'\\' | b'=' => *code,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let (pair, tail) = rest.split_at_checked(2)?;
                rest = tail;
                hex_pair(&pair.to_ascii_lowercase())?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn inode(mode: u32, content: Content) -> Inode {
        let mtime = Time { seconds: -5, nanos: 7 };
        Inode { mode, uid: 1, gid: u32::MAX - 1, mtime, content, ..Inode::default() }
    }

    #[test]
    fn every_kind_of_file_reads_back() {
        let blob = ObjectId::of(Kind::Blob, b"x");
        let text = pointer_text(&[7; 32], 9);
        let large =
            Content::Large { sha256: [7; 32], pointer: ObjectId::of(Kind::Blob, text.as_bytes()) };
        let xattrs = vec![
            (b"security.capability".to_vec(), b"\0\xff= \\".to_vec()),
            (b"user.a=b\n".to_vec(), Vec::new()),
        ];
        let lines = vec![
            Line::own("/", inode(0o40755, Content::None)),
            Line::own("/ a\tb\n\\=", Inode { xattrs, ..inode(0o41777, Content::None) }),
            Line::own("/-", Inode { size: 1, ..inode(0o104755, Content::Blob(blob)) }),
            Line { path: b"/hard".to_vec(), what: What::Link(b"/-".to_vec()) },
            Line::own("/dev", Inode { rdev: 0x103, ..inode(0o20666, Content::None) }),
            Line::own("/empty", inode(0o100600, Content::Blob(ObjectId::of(Kind::Blob, b"")))),
            Line::own("/gone", Inode::whiteout()),
            Line::own("/large", Inode { size: 9, ..inode(0o100644, large) }),
            Line::own("/link", Inode { size: 1, ..inode(0o120777, Content::Link(b"-".to_vec())) }),
            Line::own("/pipe", inode(0o10600, Content::None)),
            Line::own(*b"/\xff\xfe", inode(0o140600, Content::None)),
        ];
        let text = encode(&lines);
        assert!(text.iter().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e)), "plain ASCII");
        assert_eq!(decode(&text).unwrap(), lines);
    }

    #[test]
    fn paths_that_lead_elsewhere_and_malformed_fields_are_refused() {
        let good = "/a 1 100644 1 0 0 0 1.000000000 e6/9de29bb2d1d6434b8b29ae775ad8c2e48c5391 - -";
        assert!(decode(good.as_bytes()).is_ok());
        for (from, to) in [
            ("/a", "a"),
            ("/a", "/../a"),
            ("/a", "//a"),
            ("/a", "/a\\x00"),
            ("/a", "/a\\q"),
            (" 1 ", " +1 "),
            ("100644", "177777777777"),
            ("100644", "@100644"),
            ("1.0", "1"),
            ("1.000000000", "1.1000000000"),
            ("e6/9d", "e69d"),
            ("e6/9d", "../9d"),
            (" - -", " -"),
            (" - -", " - - novalue"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

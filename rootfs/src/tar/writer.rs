//! Writing tar: ustar headers, and PAX records for whatever those cannot say.
//!
//! The same entries always give the same bytes.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind, Time};

/// Most that a field of so many octal digits holds.
const MAX_OWNER: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// Writes the headers of an entry. Its data follows, then [`padding`].
pub(crate) fn header(output: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory {
        path.push(b'/');
    }
    let mut records = Vec::new();
    if path.len() > 100 {
        record(&mut records, b"path", &path);
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    if entry.stored > MAX_SIZE {
        record(&mut records, b"size", entry.stored.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > MAX_OWNER {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let time = entry.mtime;
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= MAX_SIZE);
    if seconds.is_none() || time.nanoseconds > 0 {
        record(&mut records, b"mtime", decimal(time).as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if !records.is_empty() {
        let size = u64::try_from(records.len()).map_err(io::Error::other)?;
        let name = [b"PaxHeaders/", path.as_slice()].concat();
        let fields =
            Fields { kind: b'x', name: &name, link: b"", mode: 0o644, size, ..Fields::new() };
        output.write_all(&block(&fields))?;
        output.write_all(&records)?;
        padding(output, size)?;
    }
    output.write_all(&block(&Fields {
        kind: letter(entry.kind),
        name: &path,
        link: &entry.link,
        mode: entry.mode,
        uid: entry.uid.min(MAX_OWNER),
        gid: entry.gid.min(MAX_OWNER),
        size: entry.stored.min(MAX_SIZE),
        seconds: seconds.unwrap_or(0),
        device: entry.device,
    }))
}

/// Fills up to the next block after so many bytes of data.
pub(crate) fn padding(output: &mut impl Write, size: u64) -> io::Result<()> {
    let zeros = [0; BLOCK];
    let used = usize::try_from(size % 512).map_err(io::Error::other)?;
    if used == 0 { Ok(()) } else { output.write_all(zeros.get(used..).unwrap_or_default()) }
}

/// The end marker.
pub(crate) fn end(output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[0; 2 * BLOCK])
}

struct Fields<'f> {
    kind: u8,
    name: &'f [u8],
    link: &'f [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    seconds: u64,
    device: (u32, u32),
}

impl Fields<'_> {
    const fn new() -> Self {
        Self {
            kind: b'0',
            name: b"",
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            seconds: 0,
            device: (0, 0),
        }
    }
}

fn block(fields: &Fields<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    text(&mut block[0..100], fields.name);
    octal(&mut block[100..108], u64::from(fields.mode));
    octal(&mut block[108..116], u64::from(fields.uid));
    octal(&mut block[116..124], u64::from(fields.gid));
    octal(&mut block[124..136], fields.size);
    octal(&mut block[136..148], fields.seconds);
    block[148..156].fill(b' ');
    block[156] = fields.kind;
    text(&mut block[157..257], fields.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], u64::from(fields.device.0));
    octal(&mut block[337..345], u64::from(fields.device.1));
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn text(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// Digits with leading zeros; the field's last byte stays a NUL.
fn octal(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev().skip(1) {
        *digit = b'0' + u8::try_from(value % 8).unwrap_or(0);
        value /= 8;
    }
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with a fraction; before 1970 both count away from it.
fn decimal(time: Time) -> String {
    let (mut seconds, mut nanoseconds) = (time.seconds, time.nanoseconds);
    let mut sign = "";
    if seconds < 0 {
        sign = "-";
        if nanoseconds > 0 {
            seconds += 1;
            nanoseconds = 1_000_000_000 - nanoseconds;
        }
    }
    let seconds = seconds.unsigned_abs();
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

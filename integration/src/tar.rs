//! A tar writer of our own: it writes what a test asks for, also what no sane archiver would.

use std::collections::BTreeMap;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name for this earlier file.
    Hardlink(Vec<u8>),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// Any type byte.
    Other(u8),
}

/// One entry, before it becomes blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it will stand in the archive; any bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Content of a regular file.
    pub data: Vec<u8>,
    /// Extended attributes, as PAX `SCHILY.xattr.` records.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Further PAX records, verbatim; they win over ours.
    pub pax: Vec<(String, Vec<u8>)>,
    /// Bytes to overwrite in the finished header, by offset, before the checksum.
    pub patches: Vec<(usize, Vec<u8>)>,
    /// Write a checksum that is wrong.
    pub bad_checksum: bool,
    /// Use GNU long name entries instead of PAX for names that do not fit.
    pub gnu_names: bool,
}

impl Entry {
    fn new(name: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: (1_400_000_000, 0),
            data: Vec::new(),
            xattrs: BTreeMap::new(),
            pax: Vec::new(),
            patches: Vec::new(),
            bad_checksum: false,
            gnu_names: false,
        }
    }

    /// A regular file, mode 0644.
    pub fn file(name: impl AsRef<[u8]>, data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), ..Self::new(name, Kind::File, 0o644) }
    }

    /// A program, mode 0755.
    pub fn program(name: impl AsRef<[u8]>, data: impl Into<Vec<u8>>) -> Self {
        Self::file(name, data).mode(0o755)
    }

    /// A directory, mode 0755.
    pub fn directory(name: impl AsRef<[u8]>) -> Self {
        Self::new(name, Kind::Directory, 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(name, Kind::Symlink(target.as_ref().to_vec()), 0o777)
    }

    /// A hard link.
    pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(name, Kind::Hardlink(target.as_ref().to_vec()), 0o644)
    }

    /// A character device.
    pub fn char(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self::new(name, Kind::Char(major, minor), 0o600)
    }

    /// A block device.
    pub fn block(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self::new(name, Kind::Block(major, minor), 0o600)
    }

    /// A named pipe.
    pub fn fifo(name: impl AsRef<[u8]>) -> Self {
        Self::new(name, Kind::Fifo, 0o644)
    }

    /// An entry with any type byte.
    pub fn other(name: impl AsRef<[u8]>, kind: u8) -> Self {
        Self::new(name, Kind::Other(kind), 0o644)
    }

    /// Deletes a name of the layers below.
    pub fn whiteout(name: &str) -> Self {
        let (directory, last) = name.rsplit_once('/').unwrap_or(("", name));
        let slash = if directory.is_empty() { "" } else { "/" };
        Self::file(format!("{directory}{slash}.wh.{last}"), "")
    }

    /// Hides everything the layers below have in a directory.
    pub fn opaque(directory: &str) -> Self {
        Self::file(format!("{directory}/.wh..wh..opq"), "")
    }

    /// Sets the permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the owner and group.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Sets the time of the last change.
    pub fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.mtime = (seconds, nanoseconds);
        self
    }

    /// Adds an extended attribute.
    pub fn xattr(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.xattrs.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a PAX record.
    pub fn pax(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.pax.push((key.to_owned(), value.into()));
        self
    }

    /// Overwrites bytes of the header.
    pub fn patch(mut self, offset: usize, bytes: impl Into<Vec<u8>>) -> Self {
        self.patches.push((offset, bytes.into()));
        self
    }

    /// Breaks the checksum.
    pub fn bad_checksum(mut self) -> Self {
        self.bad_checksum = true;
        self
    }

    /// Prefers GNU long names.
    pub fn gnu(mut self) -> Self {
        self.gnu_names = true;
        self
    }
}

/// A whole archive, with its end marker.
pub fn archive<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = unfinished(entries);
    out.extend([0; 1024]);
    out
}

/// An archive without its end marker.
pub fn unfinished<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        write(entry, &mut out);
    }
    out
}

fn write(entry: &Entry, out: &mut Vec<u8>) {
    let mut name = entry.name.clone();
    if entry.kind == Kind::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    let link = match &entry.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => target.clone(),
        _ => Vec::new(),
    };
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    if entry.gnu_names {
        long_name(b'L', &name, out);
        long_name(b'K', &link, out);
    } else {
        if name.len() > 100 || !name.is_ascii() {
            records.push(("path".into(), name.clone()));
        }
        if link.len() > 100 || !link.is_ascii() {
            records.push(("linkpath".into(), link.clone()));
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || !(0..1 << 33).contains(&seconds) {
        records.push(("mtime".into(), pax_time(seconds, nanoseconds).into_bytes()));
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id >= 1 << 21 {
            records.push((key.into(), id.to_string().into_bytes()));
        }
    }
    for (name, value) in &entry.xattrs {
        records.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }
    for (key, value) in &entry.pax {
        records.retain(|record| record.0 != *key);
        records.push((key.clone(), value.clone()));
    }
    if !records.is_empty() {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut header = blank(b"././@PaxHeader", b'x', body.len() as u64);
        seal(&mut header);
        push(&header, &body, out);
    }
    let mut header = blank(&name, type_byte(&entry.kind), entry.data.len() as u64);
    octal(&mut header[100..108], u64::from(entry.mode));
    octal(&mut header[108..116], entry.uid.min(0o7_777_777));
    octal(&mut header[116..124], entry.gid.min(0o7_777_777));
    octal(&mut header[136..148], u64::try_from(seconds).unwrap_or(0).min(0o77_777_777_777));
    let shown = &link[..link.len().min(100)];
    header[157..157 + shown.len()].copy_from_slice(shown);
    if let Kind::Char(major, minor) | Kind::Block(major, minor) = entry.kind {
        octal(&mut header[329..337], u64::from(major));
        octal(&mut header[337..345], u64::from(minor));
    }
    for (offset, bytes) in &entry.patches {
        header[*offset..*offset + bytes.len()].copy_from_slice(bytes);
    }
    seal(&mut header);
    if entry.bad_checksum {
        header[148] ^= 1;
    }
    push(&header, &entry.data, out);
}

fn type_byte(kind: &Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Char(..) => b'3',
        Kind::Block(..) => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(byte) => *byte,
    }
}

fn blank(name: &[u8], kind: u8, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let shown = &name[..name.len().min(100)];
    header[..shown.len()].copy_from_slice(shown);
    octal(&mut header[100..108], 0o644);
    octal(&mut header[108..116], 0);
    octal(&mut header[116..124], 0);
    octal(&mut header[124..136], size);
    octal(&mut header[136..148], 0);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(text.as_bytes());
}

fn seal(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn push(header: &[u8; 512], data: &[u8], out: &mut Vec<u8>) {
    out.extend(header);
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn long_name(kind: u8, name: &[u8], out: &mut Vec<u8>) {
    if name.len() > 100 {
        let mut header = blank(b"././@LongLink", kind, name.len() as u64 + 1);
        seal(&mut header);
        push(&header, &[name, &[0]].concat(), out);
    }
}

/// `length key=value\n`, where the length counts its own digits.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        // PAX writes a decimal number: -1 s + 0.25 s is -0.75.
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// A sparse file in PAX format 1.0: pieces of data at offsets, in a file of this size.
pub fn sparse(name: &str, size: u64, pieces: &[(u64, &[u8])]) -> Entry {
    let mut data = format!("{}\n", pieces.len()).into_bytes();
    for (offset, piece) in pieces {
        data.extend(format!("{offset}\n{}\n", piece.len()).into_bytes());
    }
    data.resize(data.len().next_multiple_of(512), 0);
    for (_, piece) in pieces {
        data.extend(*piece);
    }
    Entry::file(format!("GNUSparseFile.0/{name}"), data)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", name)
        .pax("GNU.sparse.realsize", size.to_string())
}

//! Tree objects: one directory each, as git stores it.

use std::cmp::Ordering;

use super::{
    error::{Error, Result},
    oid::ObjectId,
};

/// What a tree's entry is. Git knows these five and no other mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    File,
    Executable,
    Symlink,
    Directory,
    /// A submodule: another repository's commit.
    Commit,
}

impl Mode {
    const TABLE: [(Self, &[u8], u32); 5] = [
        (Self::File, b"100644", 0o100_644),
        (Self::Executable, b"100755", 0o100_755),
        (Self::Symlink, b"120000", 0o120_000),
        (Self::Directory, b"40000", 0o40_000),
        (Self::Commit, b"160000", 0o160_000),
    ];

    fn text(self) -> &'static [u8] {
        Self::TABLE.iter().find(|row| row.0 == self).map_or(b"", |row| row.1)
    }

    /// As the index has it.
    pub(crate) fn number(self) -> u32 {
        Self::TABLE.iter().find(|row| row.0 == self).map_or(0, |row| row.2)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            // Written by a git of 2005, and by some exporters since.
            b"100664" => Some(Self::File),
            b"040000" => Some(Self::Directory),
            _ => Self::TABLE.iter().find(|row| row.1 == text).map(|row| row.0),
        }
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: Mode,
    /// As stored: escaped where git would refuse the true name.
    pub(crate) name: Vec<u8>,
    pub(crate) id: ObjectId,
}

/// Git's order: by bytes, directories as if their name ended in a slash. The index, sorted by whole
/// paths, comes out in the same order.
pub(crate) fn order(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let slash = |directory: bool| directory.then_some(&b'/');
    a.0.iter().chain(slash(a.1)).cmp(b.0.iter().chain(slash(b.1)))
}

/// The content of a tree object; the entries may come in any order.
pub(crate) fn encode(mut entries: Vec<Entry>) -> Vec<u8> {
    let key = |entry: &Entry| entry.mode == Mode::Directory;
    entries.sort_by(|a, b| order((&a.name, key(a)), (&b.name, key(b))));
    let mut content = Vec::with_capacity(entries.len() * 40);
    for entry in &entries {
        content.extend_from_slice(entry.mode.text());
        content.push(b' ');
        content.extend_from_slice(&entry.name);
        content.push(0);
        content.extend_from_slice(entry.id.as_bytes());
    }
    content
}

/// The entries of a tree object.
pub(crate) fn decode(id: ObjectId, content: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (entry, tail) = decode_entry(rest)
            .ok_or_else(|| Error::damaged(format!("tree {id}"), "malformed entry"))?;
        entries.push(entry);
        rest = tail;
    }
    Ok(entries)
}

fn decode_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (mode, rest) = split_at_byte(bytes, b' ')?;
    let (name, rest) = split_at_byte(rest, 0)?;
    let (id, rest) = rest.split_at_checked(ObjectId::LENGTH)?;
    let entry =
        Entry { mode: Mode::parse(mode)?, name: name.to_vec(), id: ObjectId::from_slice(id)? };
    (!name.is_empty() && !name.contains(&b'/')).then_some((entry, rest))
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|other| *other == byte)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn entry(mode: Mode, name: &str) -> Entry {
        Entry { mode, name: name.into(), id: ObjectId::EMPTY_TREE }
    }

    #[test]
    fn directories_sort_as_if_their_name_ended_in_a_slash() {
        let entries =
            vec![entry(Mode::Directory, "a"), entry(Mode::File, "a-b"), entry(Mode::File, "a0")];
        let content = encode(entries);
        let names: Vec<_> = decode(ObjectId::EMPTY_TREE, &content).unwrap();
        let names: Vec<_> = names.iter().map(|entry| entry.name.as_slice()).collect();
        assert_eq!(names, [&b"a-b"[..], b"a", b"a0"]);
    }

    #[test]
    fn damaged_trees_are_refused() {
        for bad in ["100644 a\0short", "7 a\0", "100644 a/b\0aaaaaaaaaaaaaaaaaaaa"] {
            assert!(decode(ObjectId::EMPTY_TREE, bad.as_bytes()).is_err());
        }
    }
}

//! Names of git objects: SHA-1 over a short header and the content.

use std::{fmt, str::FromStr};

use sha1::{Digest, Sha1};

/// The kinds of objects, with the numbers a pack uses for them (gitformat-pack(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    const NAMES: [(Self, &str); 4] =
        [(Self::Commit, "commit"), (Self::Tree, "tree"), (Self::Blob, "blob"), (Self::Tag, "tag")];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.1.as_bytes() == name).map(|row| row.0)
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Tree => 2,
            Self::Blob => 3,
            Self::Tag => 4,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.0.number() == number).map(|row| row.0)
    }
}

/// The name of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; Self::LENGTH]);

impl ObjectId {
    pub(crate) const LENGTH: usize = 20;

    /// The tree without entries.
    pub(crate) const EMPTY_TREE: Self = Self([
        0x4b, 0x82, 0x5d, 0xc6, 0x42, 0xcb, 0x6e, 0xb9, 0xa0, 0x60, 0xe5, 0x4b, 0xf8, 0xd6, 0x92,
        0x88, 0xfb, 0xee, 0x49, 0x04,
    ]);

    /// Names an object that is in memory.
    pub(crate) fn of(kind: Kind, content: &[u8]) -> Self {
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let mut hasher = Hasher::new(kind, length);
        hasher.update(content);
        hasher.finish()
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl From<[u8; Self::LENGTH]> for ObjectId {
    fn from(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no object name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: 40 lower-case hex digits are needed")]
pub struct BadObjectId;

impl FromStr for ObjectId {
    type Err = BadObjectId;

    fn from_str(text: &str) -> Result<Self, BadObjectId> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::LENGTH {
            return Err(BadObjectId);
        }
        let mut id = [0; Self::LENGTH];
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = hex_pair(pair).ok_or(BadObjectId)?;
        }
        Ok(Self(id))
    }
}

/// The value of two lower-case hex digits.
pub(crate) fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Names an object whose length is known and whose content comes in pieces.
pub(crate) struct Hasher(Sha1);

impl Hasher {
    pub(crate) fn new(kind: Kind, length: u64) -> Self {
        let mut hasher = Sha1::new();
        hasher.update(format!("{} {length}\0", kind.name()));
        Self(hasher)
    }

    /// Without an object's header: for the checksums of packs and of the index.
    pub(crate) fn plain() -> Self {
        Self(Sha1::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> ObjectId {
        ObjectId(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_git() {
        let hello = ObjectId::of(Kind::Blob, b"hello\n");
        assert_eq!(hello.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(hello.to_string().parse(), Ok(hello));
        assert_eq!(ObjectId::of(Kind::Tree, b""), ObjectId::EMPTY_TREE);
    }

    #[test]
    fn only_forty_lower_case_digits_are_a_name() {
        for bad in ["", "ce01", "CE013625030ba8dba906f756967f9e9ca394464a"] {
            assert_eq!(bad.parse::<ObjectId>(), Err(BadObjectId));
        }
    }
}

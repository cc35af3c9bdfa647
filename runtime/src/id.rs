//! A container's name.

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A container's name: `[A-Za-z0-9][A-Za-z0-9_.+-]*`, at most 255 bytes (D-16), so that it can be a file
/// name, a cgroup's name and an argument without being anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_valid(name: &str) -> bool {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
        name.len() <= 255
            && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && name.bytes().all(rest)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::try_from(name.to_owned())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        if Self::is_valid(&name) { Ok(Self(name)) } else { Err(Error::InvalidId(name)) }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl AsRef<Path> for ContainerId {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, valid: bool) {
        assert_eq!(name.parse::<ContainerId>().is_ok(), valid, "{name:?}");
    }

    #[test]
    fn only_plain_names_are_ids() {
        for name in ["a", "web-1", "A_b.c+d", "0", &"x".repeat(255)] {
            check(name, true);
        }
        for name in ["", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "ä", &"x".repeat(256)] {
            check(name, false);
        }
    }
}

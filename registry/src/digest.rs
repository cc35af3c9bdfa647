//! Digests we are willing to rely on, and bytes checked against them.

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::{Error, Result};

/// Parses a digest: a known algorithm, its exact length, lower-case hexadecimal.
///
/// Only a digest that passed here may become part of a path or a URL (CVE-2024-3727).
pub fn parse_digest(text: &str) -> Result<Digest> {
    let digest = Digest::try_from(text).map_err(|_| Error::BadDigest(text.to_owned()))?;
    check_algorithm(&digest)?;
    Ok(digest)
}

/// Refuses algorithms that we could not verify.
pub(crate) fn check_algorithm(digest: &Digest) -> Result<()> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 | DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => Ok(()),
        _ => Err(Error::BadDigest(digest.to_string())),
    }
}

/// The SHA-256 digest of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// Computes a digest while bytes pass by.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Default for Hasher {
    fn default() -> Self {
        Self::Sha256(Sha256::new())
    }
}

impl Hasher {
    /// A hasher of the kind that made `digest`.
    pub(crate) fn like(digest: &Digest) -> Result<Self> {
        match digest.algorithm() {
            DigestAlgorithm::Sha256 => Ok(Self::default()),
            DigestAlgorithm::Sha384 => Ok(Self::Sha384(Sha384::new())),
            DigestAlgorithm::Sha512 => Ok(Self::Sha512(Sha512::new())),
            _ => Err(Error::BadDigest(digest.to_string())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let text = match self {
            Self::Sha256(hasher) => format!("sha256:{}", hex(&hasher.finalize())),
            Self::Sha384(hasher) => format!("sha384:{}", hex(&hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex(&hasher.finalize())),
        };
        Digest::try_from(text).expect("an algorithm's full output in hexadecimal is a digest")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Checks a whole document against what promised it.
pub(crate) fn verify(bytes: &[u8], expected: &Digest, what: &str) -> Result<()> {
    let mut hasher = Hasher::like(expected)?;
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *expected {
        return Ok(());
    }
    Err(Error::DigestMismatch { what: what.to_owned(), expected: expected.clone(), found })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(digest_of(b"").to_string(), EMPTY);
        verify(b"", &parse_digest(EMPTY).unwrap(), "nothing").unwrap();
        assert!(verify(b"x", &parse_digest(EMPTY).unwrap(), "x").is_err());
    }

    #[test]
    fn odd_digests_are_refused() {
        let upper = EMPTY.to_uppercase();
        let short = &EMPTY[..70];
        for text in ["", "sha256:", "sha256:../../etc/passwd", "md5:00", &upper, short] {
            assert!(parse_digest(text).is_err(), "{text}");
        }
    }
}

//! Which of an image's variants runs here, or is wanted.

use std::{fmt, str::FromStr};

use oci_spec::image::Platform as Declared;

use crate::Error;

/// Operating system, architecture and perhaps variant, in the names of the Go project that images use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`
    pub architecture: String,
    /// `v7` of `arm/v7`, `v3` of `amd64/v3`
    pub variant: Option<String>,
}

impl Platform {
    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = normal(architecture);
        let variant = variant.or(implied).map(str::to_owned).filter(|text| !text.is_empty());
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image built for `declared` serves us; less is better, `None` is not at all.
    pub(crate) fn distance(&self, declared: &Declared) -> Option<u32> {
        let declared = Self::new(
            &declared.os().to_string(),
            &declared.architecture().to_string(),
            declared.variant().as_deref(),
        );
        if self.os != declared.os || self.architecture != declared.architecture {
            return None;
        }
        let (wanted, offered) = (self.level(), declared.level());
        if self.variant == declared.variant || wanted == offered {
            return Some(0);
        }
        // An older instruction set runs on a newer processor, never the other way round.
        wanted?.checked_sub(offered?)
    }

    /// The variant as a number, with what an absent one stands for.
    fn level(&self) -> Option<u32> {
        match (&self.variant, self.architecture.as_str()) {
            (Some(variant), _) => variant.strip_prefix('v')?.split('.').next()?.parse().ok(),
            (None, "arm") => Some(7),
            (None, "arm64") => Some(8),
            (None, "amd64") => Some(1),
            (None, _) => None,
        }
    }
}

/// Other people's names for an architecture, and the variant that such a name implies.
fn normal(architecture: &str) -> (&str, Option<&str>) {
    match architecture {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" | "armv7" | "armv7l" => ("arm", Some("v7")),
        "armel" | "armv6l" => ("arm", Some("v6")),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", None),
        "powerpc64le" => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    }
}

/// Whether a word alone is an architecture, in Go's names; beside an operating system, any word may be.
fn is_known(architecture: &str) -> bool {
    const KNOWN: [&str; 13] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
        "ppc64le", "riscv64", "s390x",
    ];
    KNOWN.contains(&architecture)
}

impl Default for Platform {
    /// This machine.
    fn default() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let words: Vec<&str> = text.split('/').collect();
        if !words.iter().all(is_word) {
            return Err(Error::BadPlatform(text.to_owned()));
        }
        match words.as_slice() {
            [os @ ("linux" | "windows" | "freebsd" | "darwin")] => {
                Ok(Self { os: (*os).to_owned(), ..Self::default() })
            }
            [architecture] if is_known(normal(architecture).0) => {
                Ok(Self::new(std::env::consts::OS, architecture, None))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(Error::BadPlatform(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl From<&Declared> for Platform {
    fn from(declared: &Declared) -> Self {
        Self {
            os: declared.os().to_string(),
            architecture: declared.architecture().to_string(),
            variant: declared.variant().clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn distance(wanted: &str, offered: &str) -> Option<u32> {
        let offered: Platform = offered.parse().unwrap();
        let mut declared = Declared::default();
        declared.set_os(offered.os.as_str().into());
        declared.set_architecture(offered.architecture.as_str().into());
        declared.set_variant(offered.variant);
        wanted.parse::<Platform>().unwrap().distance(&declared)
    }

    #[test]
    fn spellings_of_one_platform_are_equal() {
        for (text, shown) in [
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        assert!("linux/a/b/c".parse::<Platform>().is_err());
        assert!("linux//v7".parse::<Platform>().is_err());
        assert!("".parse::<Platform>().is_err());
    }

    #[test]
    fn an_older_variant_serves_and_a_newer_does_not() {
        assert_eq!(distance("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(distance("linux/amd64", "linux/arm64"), None);
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(distance("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(distance("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(distance("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(distance("linux/arm", "linux/arm/v5"), Some(2));
    }
}

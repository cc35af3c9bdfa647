//! A place that holds an image: a registry, or files in one of the layouts in use.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{Error, Reference, Result};

/// Where an image is, or is to be put.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `debian:jessie`, `docker://debian:jessie`
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI image layout
    OciLayout {
        /// The directory with `index.json`
        directory: PathBuf,
        /// Which image of several, by its `org.opencontainers.image.ref.name`
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: an OCI image layout in a tar file
    OciArchive {
        /// The tar file
        file: PathBuf,
        /// Which image of several
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes
    DockerArchive {
        /// The tar file
        file: PathBuf,
        /// Which image of several
        name: Option<Reference>,
    },
    /// `dir:DIR`: manifest and blobs as plain files
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |problem| Error::BadReference { text: text.to_owned(), problem, hint: None };
        let Some((transport, rest)) = text.split_once(':') else {
            return text.parse().map(Self::Registry);
        };
        if matches!(transport, "oci" | "oci-archive" | "docker-archive" | "dir") && rest.is_empty()
        {
            return Err(bad("the path is missing"));
        }
        match transport {
            "docker" if rest.starts_with("//") => {
                rest.trim_start_matches('/').parse().map(Self::Registry)
            }
            "oci" => {
                let (path, tag) = path_and_name(rest);
                Ok(Self::OciLayout { directory: path, tag: tag.map(str::to_owned) })
            }
            "oci-archive" => {
                let (path, tag) = path_and_name(rest);
                Ok(Self::OciArchive { file: path, tag: tag.map(str::to_owned) })
            }
            "docker-archive" => {
                let (path, name) = path_and_name(rest);
                Ok(Self::DockerArchive { file: path, name: name.map(str::parse).transpose()? })
            }
            "dir" => Ok(Self::Directory(rest.into())),
            _ => text.parse().map(Self::Registry),
        }
    }
}

/// The first colon ends the path, since the names that follow may have colons of their own.
fn path_and_name(text: &str) -> (PathBuf, Option<&str>) {
    match text.split_once(':') {
        Some((path, name)) if !name.is_empty() => (path.into(), Some(name)),
        Some((path, _)) => (path.into(), None),
        None => (text.into(), None),
    }
}

impl From<Reference> for Source {
    fn from(reference: Reference) -> Self {
        Self::Registry(reference)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::OciLayout { directory, tag } => ("oci", directory, tag.clone()),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag.clone()),
            Self::DockerArchive { file, name } => {
                ("docker-archive", file, name.as_ref().map(Reference::to_string))
            }
            Self::Directory(directory) => ("dir", directory, None),
        };
        write!(f, "{transport}:{}", path.display())?;
        name.map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn transports_are_recognised_and_shown_again() {
        for text in [
            "oci:/tmp/x",
            "oci:rel/x:latest",
            "oci-archive:/tmp/a.tar:v1",
            "docker-archive:a.tar",
            "docker-archive:a.tar:docker.io/library/debian:jessie",
            "dir:/tmp/d",
            "docker.io/library/debian:jessie",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        let hub = "docker.io/library/debian:jessie";
        assert_eq!("docker://debian:jessie".parse::<Source>().unwrap().to_string(), hub);
        assert!("oci:".parse::<Source>().is_err());
    }

    #[test]
    fn an_image_called_like_a_transport_is_still_an_image() {
        assert!(matches!("docker:latest".parse().unwrap(), Source::Registry(_)));
        assert!(matches!("oci".parse().unwrap(), Source::Registry(_)));
    }
}

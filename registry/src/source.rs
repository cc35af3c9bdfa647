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
    /// `v1-static:DIR:NAME`, `ssh://HOST/DIR:NAME`: the answers of a registry of 2013, as files
    V1Static {
        /// Where the files are
        place: Place,
        /// Which image of several
        name: Reference,
    },
}

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Here
    Directory(PathBuf),
    /// On another machine, read by ssh(1)
    Ssh {
        /// `[USER@]HOST`, as ssh(1) takes it
        host: String,
        /// The directory there
        directory: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "v1-static:{}", directory.display()),
            Self::Ssh { host, directory } => write!(f, "ssh://{host}{directory}"),
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |problem| Error::BadReference { text: text.to_owned(), problem, hint: None };
        let Some((transport, rest)) = text.split_once(':') else {
            return text.parse().map(Self::Registry);
        };
        const FILES: [&str; 5] = ["oci", "oci-archive", "docker-archive", "dir", "v1-static"];
        if FILES.contains(&transport) && rest.is_empty() {
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
            "v1-static" => {
                let (path, name) = path_and_name(rest);
                let name = name.ok_or_else(|| bad("the image's name after the path is missing"))?;
                Ok(Self::V1Static { place: Place::Directory(path), name: name.parse()? })
            }
            "ssh" => {
                let rest =
                    rest.strip_prefix("//").ok_or_else(|| bad("it is not ssh://HOST/DIR"))?;
                let slash =
                    rest.find('/').ok_or_else(|| bad("the path after the host is missing"))?;
                let (host, rest) = rest.split_at(slash);
                // What begins like an option would be one for ssh.
                if host.is_empty() || host.starts_with('-') {
                    return Err(bad("that is no host"));
                }
                let (directory, name) = rest.split_once(':').unwrap_or((rest, ""));
                if name.is_empty() {
                    return Err(bad("the image's name after the path is missing"));
                }
                let (host, directory) = (host.to_owned(), directory.to_owned());
                Ok(Self::V1Static { place: Place::Ssh { host, directory }, name: name.parse()? })
            }
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
            Self::V1Static { place, name } => return write!(f, "{place}:{name}"),
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
            "v1-static:/mnt/tree:docker.io/library/debian:jessie",
            "ssh://me@host/srv/tree:docker.io/me/app:1",
            "docker.io/library/debian:jessie",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        let hub = "docker.io/library/debian:jessie";
        assert_eq!("docker://debian:jessie".parse::<Source>().unwrap().to_string(), hub);
        for bad in ["oci:", "v1-static:/x", "ssh://host/x", "ssh://-oProxyCommand=x/y:z", "ssh:x"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_called_like_a_transport_is_still_an_image() {
        assert!(matches!("docker:latest".parse().unwrap(), Source::Registry(_)));
        assert!(matches!("oci".parse().unwrap(), Source::Registry(_)));
    }
}

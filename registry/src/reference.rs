//! `debian:jessie` → registry, repository, tag or digest.

use std::{fmt, str::FromStr};

use oci_spec::image::Digest;

use crate::{Error, Result, digest::parse_digest};

const HUB: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image in a registry, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    /// The name without registry as it was typed; only such names have aliases and search registries.
    short: Option<String>,
}

impl Reference {
    /// `host` or `host:port`; Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path inside the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. Absent only when there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// As people write it: without what the defaults would add.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        let short = short.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        short.or(full.strip_prefix("docker.io/")).unwrap_or(&full).to_owned()
    }

    /// The same image under another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(bad(tag, "that is no tag", None));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at exactly this digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The name as typed, when it named no registry.
    pub(crate) fn short(&self) -> Option<&str> {
        self.short.as_deref()
    }

    /// This tag or digest in another repository.
    pub(crate) fn at(&self, registry: &str, repository: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            short: None,
            ..self.clone()
        }
    }

    /// What comes after `manifests/` in a URL.
    pub(crate) fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = parse_digest(digest)
                    .map_err(|_| bad(text, "what follows @ is no digest", digest_hint(digest)))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(text, "what follows the last colon is no tag", None));
        }
        let (registry, path) = split_registry(name);
        check_path(text, path)?;
        if registry.is_some_and(|registry| !is_host(registry)) {
            return Err(bad(text, "what precedes the first slash is no registry", None));
        }
        if name.len() > MAX_NAME {
            return Err(bad(text, "it is longer than 255 characters", None));
        }
        let registry_or_hub = match registry {
            None | Some("index.docker.io" | "registry-1.docker.io") => HUB,
            Some(registry) => registry,
        };
        let repository = if registry_or_hub == HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            registry: registry_or_hub.to_owned(),
            repository,
            tag,
            digest,
            short: registry.is_none().then(|| path.to_owned()),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A colon after the last slash starts a tag; an earlier one belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let after_slash = text.rfind('/').map_or(0, |slash| slash + 1);
    match text.get(after_slash..).and_then(|last| last.find(':')) {
        Some(colon) => {
            let (name, tag) = text.split_at(after_slash + colon);
            (name, tag.strip_prefix(':'))
        }
        None => (text, None),
    }
}

/// The first component is a registry when it could not be a user's name: it has a dot, a port, or is
/// `localhost`.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '[']) || first == "localhost" || has_upper_case(first) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, port.strip_prefix(':').or(Some("x"))),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_is_fine = if text.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    let all_digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    host_is_fine && port.is_none_or(|port| all_digits(port) && port.parse::<u16>().is_ok())
}

pub(crate) fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn check_path(text: &str, path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(bad(text, "the name is missing", None));
    }
    if has_upper_case(path) {
        let hint = format!("names are lower case: try {}", text.to_lowercase());
        return Err(bad(text, "it has an upper-case letter", Some(hint)));
    }
    if path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let hint = format!("a digest is written NAME@sha256:{path}");
        return Err(bad(text, "64 hexadecimal digits are not a name", Some(hint)));
    }
    if path.split('/').all(is_component) {
        return Ok(());
    }
    let scheme = text.split_once("://").map(|(_, rest)| format!("leave the scheme out: {rest}"));
    Err(bad(
        text,
        "names are lower-case letters and digits, joined by single . or -, _ or __, and /",
        scheme,
    ))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well = |byte: Option<u8>| byte.is_some_and(is_alphanumeric);
    if !ends_well(text.bytes().next()) || !ends_well(text.bytes().next_back()) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

fn digest_hint(digest: &str) -> Option<String> {
    let bare = digest.strip_prefix("sha256:").unwrap_or(digest);
    (bare.len() != 64).then(|| "a sha256 digest has 64 hexadecimal digits".to_owned())
}

fn bad(text: &str, problem: &'static str, hint: Option<String>) -> Error {
    Error::BadReference { text: text.to_owned(), problem, hint }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_are_those_of_docker() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:jessie", "docker.io/library/debian:jessie", "debian:jessie"),
            ("user/app:1", "docker.io/user/app:1", "user/app:1"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("quay.io/a__b/c--d.e", "quay.io/a__b/c--d.e:latest", "quay.io/a__b/c--d.e:latest"),
        ] {
            assert_eq!(parse(text).to_string(), full);
            assert_eq!(parse(text).familiar(), familiar);
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_wins_over_one() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let plain = parse(&format!("debian@{digest}"));
        assert_eq!((plain.tag(), plain.tag_or_digest()), (None, digest.clone()));
        let both = parse(&format!("debian:jessie@{digest}"));
        assert_eq!((both.tag(), both.tag_or_digest()), (Some("jessie"), digest));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a/".repeat(200);
        for text in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:b:c",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "a@",
            "a@sha256:12",
            "a:-t",
            "../a",
            "https://quay.io/a",
            "ho_st.x/a",
            "x:99999/a",
            "a\u{e9}",
            "a\n",
            "[::1/a",
            "host:+1/a",
            &"a".repeat(64),
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_capital_letter_gets_a_hint() {
        let error = "Debian".parse::<Reference>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "names are lower case: try debian");
    }

    #[test]
    fn only_names_without_registry_are_short() {
        assert_eq!(parse("debian").short(), Some("debian"));
        assert_eq!(parse("user/app").short(), Some("user/app"));
        assert_eq!(parse("docker.io/debian").short(), None);
    }
}

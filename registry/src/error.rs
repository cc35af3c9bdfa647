//! What can go wrong between us and a registry, each with one line and, where known, advice.

use std::{io, path::PathBuf, time::Duration};

use oci_spec::image::Digest;

/// The result of anything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be had or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named by the messages that show them")]
pub enum Error {
    /// The text is not the name of an image.
    #[error("{text:?} is no image name: {problem}")]
    BadReference { text: String, problem: &'static str, hint: Option<String> },
    /// The text is not a platform.
    #[error("{0:?} is no platform")]
    BadPlatform(String),
    /// The text is not a digest we can verify.
    #[error("{0:?} is no digest that can be verified")]
    BadDigest(String),
    /// The repository does not exist, or we may not know that it does.
    #[error("{name}: no such image")]
    UnknownName { name: String },
    /// The repository exists and the tag does not.
    #[error("{name}: no such tag {tag:?}")]
    UnknownTag { name: String, tag: String, nearest: Vec<String> },
    /// The registry does not have a blob that a manifest names.
    #[error("{name}: the registry does not have blob {digest}")]
    UnknownBlob { name: String, digest: Digest },
    /// The registry wants other credentials, or some.
    #[error("{registry} refuses {what}: {}", if *.with_credentials { "wrong user name or password" } else { "credentials are needed" })]
    Unauthorized { registry: String, what: String, with_credentials: bool },
    /// The credentials are right, the permission is missing.
    #[error("{registry} does not permit {what}")]
    Denied { registry: String, what: String },
    /// Too many requests.
    #[error("{registry} limits how often one may ask")]
    RateLimited { registry: String, wait: Option<Duration>, with_credentials: bool },
    /// `registries.conf` forbids this registry.
    #[error("{registry} is blocked by {file}", file = .file.display())]
    Blocked { registry: String, file: PathBuf },
    /// TLS was started and something else answered.
    #[error("{registry} does not speak HTTPS")]
    PlainHttp { registry: String },
    /// No address for the name.
    #[error("cannot find the address of {host}")]
    Address {
        host: String,
        #[source]
        source: Cause,
    },
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: Cause,
    },
    /// The other side could not prove who it is.
    #[error("cannot trust {host}")]
    Tls {
        host: String,
        #[source]
        source: Cause,
    },
    /// The connection broke.
    #[error("cannot {doing}")]
    Transfer {
        doing: String,
        #[source]
        source: Cause,
    },
    /// Nothing arrived for too long.
    #[error("cannot {doing}: nothing arrived for {} s", .after.as_secs())]
    Stalled { doing: String, after: Duration },
    /// The answer has a status we did not expect.
    #[error("cannot {doing}: {registry} answered {status}{}", said(.message))]
    Status {
        doing: String,
        registry: String,
        status: u16,
        message: Option<String>,
        retry_after: Option<Duration>,
    },
    /// A redirect, token server or upload address that we will not use.
    #[error("{from} sends us to {to}, which is refused: {problem}")]
    Elsewhere { from: String, to: String, problem: &'static str },
    /// What arrived is not what was promised.
    #[error("{what} is damaged: expected {expected}, found {found}")]
    DigestMismatch { what: String, expected: Digest, found: Digest },
    /// More or less arrived than was promised.
    #[error("{what} has {found} bytes where {expected} were promised")]
    SizeMismatch { what: String, expected: u64, found: u64 },
    /// Larger than we are willing to hold.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    /// A document that breaks its rules.
    #[error("{what} cannot be used: {problem}")]
    Document { what: String, problem: String },
    /// The image does not exist for the platform.
    #[error("{name} does not exist for {wanted}")]
    NoPlatform { name: String, wanted: String, available: Vec<String> },
    /// A file or directory could not be used.
    #[error("cannot {doing} {path}", path = .path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A configuration file breaks its rules.
    #[error("{path} cannot be used: {problem}", path = .path.display())]
    Configuration { path: PathBuf, problem: String },
    /// A credential helper failed.
    #[error("docker-credential-{name}: {problem}")]
    Helper { name: String, problem: String },
    /// The thread for the network could not be started.
    #[error("cannot start the network thread")]
    Thread(#[source] io::Error),
    /// The request makes no sense for this kind of place.
    #[error("{place}: {problem}")]
    Unsupported { place: String, problem: &'static str },
}

/// A cause from a library whose type is nobody's business.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

fn was_reset(cause: &Cause) -> bool {
    let system = cause.downcast_ref::<io::Error>();
    system.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Text from outside, fit for a terminal and for one line of it.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let clean = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c });
    clean.collect::<String>().trim().to_owned()
}

fn said(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

impl Error {
    /// What the reader can try, when the cause is known to us.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadReference { hint, .. } => hint.clone(),
            Self::BadPlatform(_) => Some("platforms look like linux/amd64 or linux/arm/v7".into()),
            Self::UnknownName { name } => Some(format!(
                "check the spelling; if the image is private, log in to {} first",
                name.split('/').next().unwrap_or(name)
            )),
            Self::UnknownTag { nearest, .. } if !nearest.is_empty() => {
                Some(format!("there is {}", nearest.join(", ")))
            }
            Self::UnknownTag { name, .. } => {
                Some(format!("`crun-cargo tags {name}` lists those there are"))
            }
            Self::Unauthorized { registry, with_credentials, .. } => Some(if *with_credentials {
                format!("log in again: crun-cargo login {registry}")
            } else {
                format!("crun-cargo login {registry}, or give --creds USER[:PASSWORD]")
            }),
            Self::Denied { registry, .. } => {
                Some(format!("log in to {registry} as a user who may do this"))
            }
            Self::RateLimited { wait: Some(wait), .. } => {
                Some(format!("try again in {} s", wait.as_secs()))
            }
            Self::RateLimited { registry, with_credentials: false, .. }
                if registry.ends_with("docker.io") =>
            {
                Some(
                    "Docker Hub allows anonymous users few pulls per hour: \
                     crun-cargo login docker.io allows more"
                        .into(),
                )
            }
            Self::RateLimited { .. } => Some("wait some minutes and try again".into()),
            Self::PlainHttp { registry } => Some(format!(
                "if plain HTTP is right for {registry}, say --tls-verify=false \
                 or mark it insecure in registries.conf"
            )),
            Self::Address { .. } => {
                Some("check the name and the network; /etc/resolv.conf names the servers".into())
            }
            Self::Connect { .. } => Some("check the network, the port and any proxy".into()),
            Self::Tls { host, .. } => Some(format!(
                "if {host} has a certificate of its own, put its authority's certificate \
                 into /etc/containers/certs.d/{host}/ca.crt"
            )),
            Self::Stalled { .. } => Some("what arrived is kept: try again to continue".into()),
            Self::NoPlatform { available, .. } if !available.is_empty() => {
                Some(format!("it exists for {}", available.join(", ")))
            }
            Self::SizeMismatch { .. } | Self::DigestMismatch { .. } => Some(
                "what arrived is not what was promised: try again, or ask whoever runs the registry"
                    .into(),
            ),
            Self::Document { .. } | Self::TooLarge { .. } => {
                Some("it arrived as its author made it: the image itself is faulty".into())
            }
            Self::Unsupported { .. } => Some(
                "places beside registries are oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE \
                 and dir:DIR"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Whether asking again may help: the network failed us, or the server had a bad moment.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Transfer { .. } | Self::Stalled { .. } => true,
            // A host that is not there will not be there in a second either, and people wait for the answer.
            Self::Connect { source, .. } => was_reset(source),
            Self::Address { .. } => false,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 500 | 502..=504),
            Self::RateLimited { .. } => true,
            _ => false,
        }
    }

    /// The same in the middle of a transfer, when the registry was there a moment ago.
    pub(crate) fn is_interruption(&self) -> bool {
        self.is_temporary() || matches!(self, Self::Connect { .. } | Self::Address { .. })
    }

    /// How long the registry asks us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::RateLimited { wait, .. } => *wait,
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// For readers, whose errors must be `io::Error`; the original can be had with `downcast`.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Stalled { .. } => io::ErrorKind::TimedOut,
            Error::SizeMismatch { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

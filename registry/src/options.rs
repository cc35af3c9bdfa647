//! What a client may do and where it looks, decided by the program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{credentials::Credentials, registries::Registries, transport::Proxies};

/// How a [`crate::Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we are, at which registry.
    pub credentials: Credentials,
    /// `false` accepts any certificate, and plain HTTP, from every registry.
    pub tls_verify: bool,
    /// How to get out of this network.
    pub proxies: Proxies,
    /// `registries.conf` and its drop-ins, read when first needed.
    pub registries: Registries,
    /// Directories with one directory of certificates per registry (`certs.d`).
    pub certificates: Vec<PathBuf>,
    /// How often a request is tried again.
    pub retries: u32,
    /// How long we wait.
    pub timeouts: Timeouts,
    /// Where an archive that is compressed is unpacked to be read; nothing stays there.
    pub scratch: PathBuf,
    /// How to speak to registries.
    pub protocol: Protocol,
    /// How we introduce ourselves.
    pub user_agent: String,
}

/// Which of the two protocols a registry speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The distribution specification's, and the one of 2013 if the registry knows no other.
    #[default]
    Any,
    /// The one of 2013.
    V1,
    /// The distribution specification's.
    V2,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Any),
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(format!("{text:?} is none of auto, v1, v2")),
        }
    }
}

/// How long to wait for what. No limit on the whole of a transfer exists: it may be slow, not idle.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// Without a byte arriving or leaving.
    pub stall: Duration,
    /// For a registry to store what we sent; large layers are moved and hashed before it answers.
    pub finish: Duration,
    /// What a registry may ask us to wait before the next try.
    pub retry_after: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            finish: Duration::from_secs(600),
            retry_after: Duration::from_secs(60),
        }
    }
}

impl Default for Options {
    /// No credentials, no proxies, no configuration files.
    fn default() -> Self {
        Self {
            credentials: Credentials::default(),
            tls_verify: true,
            proxies: Proxies::default(),
            registries: Registries::default(),
            certificates: Vec::new(),
            retries: 5,
            timeouts: Timeouts::default(),
            scratch: "/var/tmp".into(),
            protocol: Protocol::Any,
            user_agent: concat!("crun-cargo/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Options {
    /// The places and settings other container tools use, from environment variables that `variable` looks up.
    ///
    /// No file is opened here.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let configuration = set("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        let mut certificates = vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()];
        if let Some(configuration) = &configuration {
            certificates.insert(0, configuration.join("containers/certs.d"));
        }
        Self {
            credentials: Credentials::from_environment(
                &set,
                home.as_deref(),
                configuration.as_deref(),
            ),
            proxies: Proxies::from_environment(&set),
            registries: Registries::from_environment(&set, configuration.as_deref()),
            certificates,
            scratch: set("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from),
            ..Self::default()
        }
    }
}

/// Joins, when there is a directory to join to.
pub(crate) fn below(directory: Option<&Path>, path: &str) -> Option<PathBuf> {
    directory.map(|directory| directory.join(path))
}

//! Making sure an image is in the store: the glue between `registry` and `rootfs`.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use registry::{Client, Image, Layer, Platform, Reference, Source, credentials::Login};
use rootfs::{LayerState, Store, StoredImage};

use crate::{
    home::Home,
    progress::{Item, Progress},
    report::advise,
};

/// Layers worked on at once. Each keeps an inflating and a writing thread busy, so two fill two
/// processors; the third covers the others' waits for the network.
const AT_ONCE: usize = 3;

/// When to ask the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Always ask, and fail when it cannot be asked
    Always,
    /// Only when the image is not here
    Missing,
    /// Ask, and be content with what is here when it cannot be asked
    Newer,
    /// Never
    Never,
}

/// How to reach registries.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tls_verify: bool,
    pub(crate) creds: Option<String>,
    pub(crate) authfile: Option<PathBuf>,
}

impl Access {
    /// A client that uses the logins, proxies and settings of this user.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let mut options = registry::Options::from_environment(&|name| std::env::var_os(name));
        options.tls_verify = self.tls_verify;
        if let Some(file) = &self.authfile {
            options.credentials.files = vec![file.clone()];
        }
        // Cannot fail: any text is a user name.
        options.credentials.given = self.creds.as_ref().and_then(|text| text.parse::<Login>().ok());
        Ok(Client::new(options)?)
    }
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) source: Source,
    /// `None` takes this machine's, and accepts any other that is here already.
    pub(crate) platform: Option<Platform>,
    pub(crate) policy: Policy,
    pub(crate) access: &'a Access,
}

/// The image as it is in the store, pulled if the policy says so.
pub(crate) fn ensure(
    store: &Store,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> anyhow::Result<StoredImage> {
    let here = match wanted.policy {
        Policy::Always => None,
        Policy::Missing | Policy::Newer | Policy::Never => here(store, wanted)?,
    };
    match (wanted.policy, here) {
        (Policy::Missing | Policy::Never, Some(image)) => Ok(image),
        (Policy::Never, None) => Err(advise(
            format!("{} is not here, and --pull=never forbids to get it", wanted.source),
            "`crun-cargo images` lists what is here",
        )),
        (_, here) => {
            let client = wanted.access.client()?;
            match (pull(store, &client, wanted, progress), here) {
                (Ok(image), _) => Ok(image),
                (Err(error), Some(image)) => {
                    log::warn!("using the {} that is here: {error:#}", wanted.source);
                    Ok(image)
                }
                (Err(error), None) => Err(error),
            }
        }
    }
}

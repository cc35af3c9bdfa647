//! `pull IMAGE -r DIR [-g]`: an image as a root filesystem, with a branch for each layer if asked.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use registry::{Reference, Source};
use rootfs::{Store, StoredImage, git::Rootfs};

use super::{directory, login};
use crate::{
    cli::{Globals, Verb},
    images::{self, Access, Policy, Wanted},
    output,
    progress::{self, Progress},
};

// What `pull` takes besides an image to make a root filesystem of it. (No doc comment: it would become the
// command's description.)
#[derive(Args, Clone, Debug)]
pub(crate) struct RootfsArgs {
    /// Make this directory the image's root filesystem
    #[arg(short, long, value_name = "DIR")]
    rootfs: Option<PathBuf>,

    /// With a git branch for each layer
    #[arg(short, long)]
    git_layering: bool,

    /// Log in, this time only
    #[arg(short, long, value_name = "USER:PASSWORD")]
    user: Option<String>,

    /// In git only as a pointer: files larger than this (--git-large=pointer means 50 MB)
    #[arg(long, value_name = "BYTES", value_parser = large)]
    git_large: Option<u64>,

    /// Tell what is done in the lines of: krgo
    #[arg(long, value_name = "PROGRAM", value_parser = ["krgo"])]
    output: Option<String>,

    /// Speak the registry protocol of this version
    #[arg(short = 'v', value_name = "VERSION", hide = true)]
    version: Option<String>,
}

/// Above it, git becomes slow.
const LARGE: u64 = 50_000_000;

fn large(text: &str) -> Result<u64, std::num::ParseIntError> {
    if text == "pointer" { Ok(LARGE) } else { text.parse() }
}

impl RootfsArgs {
    /// Whether a root filesystem was asked for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.rootfs.is_some() || self.git_layering
    }

    /// Whether krgo's lines were asked for.
    pub(crate) fn is_krgo(&self) -> bool {
        self.output.is_some()
    }

    /// The login, for commands that have no other way to say it.
    pub(crate) fn creds(&self) -> Option<String> {
        login::typed(self.user.as_deref())
    }

    /// Says what an old flag means today.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.version.as_deref() {
            None => {}
            Some("2") => output::note("-v2: every registry speaks version 2 today; ignored"),
            Some(other) => anyhow::bail!("-v{other}: there is no such registry protocol"),
        }
        Ok(())
    }

    /// Makes the root filesystem. Returns its directory and its branches.
    pub(crate) fn make(
        &self,
        store: &Store,
        image: &StoredImage,
    ) -> anyhow::Result<(PathBuf, Vec<String>)> {
        let directory = self.rootfs.clone().unwrap_or_else(|| directory::DEFAULT.into());
        let rootfs = Rootfs::new(store, &directory);
        let doing = || format!("cannot make {} a root filesystem", directory.display());
        let branches = if self.git_layering {
            rootfs.pull(image, &program(), self.git_large).with_context(doing)?
        } else {
            rootfs.unpack(image).with_context(doing)?;
            Vec::new()
        };
        Ok((directory, branches))
    }
}

/// This program, for git's hook to call.
fn program() -> PathBuf {
    // The hook looks for `crun-cargo` in the path when there is nothing here.
    std::env::current_exe().unwrap_or_else(|_| Path::new("crun-cargo").to_owned())
}

/// Pull an image into a directory
#[derive(Args, Debug)]
pub(super) struct Pull {
    /// Image to pull, such as `debian:jessie`
    image: Source,

    #[command(flatten)]
    rootfs: RootfsArgs,
}

impl Verb for Pull {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let Self { image: source, rootfs } = self;
        rootfs.check()?;
        let store = globals.store()?;
        let access = Access { creds: rootfs.creds(), ..Access::default() };
        let typed = source.to_string();
        let wanted = Wanted { source, platform: None, policy: Policy::Always, access: &access };
        tell(&store, &typed, &wanted, &rootfs)
    }
}

/// Pulls an image into a directory, and tells it in krgo's lines.
pub(crate) fn tell(
    store: &Store,
    typed: &str,
    wanted: &Wanted<'_>,
    rootfs: &RootfsArgs,
) -> anyhow::Result<ExitCode> {
    let shown = shown(&wanted.source);
    output::line(format_args!("Pulling image {shown} ..."))?;
    // Standard output has krgo's lines; whoever watches a terminal sees more beside them.
    let quiet = !std::io::IsTerminal::is_terminal(&std::io::stderr());
    let progress = Progress::new(progress::Mode::Auto, quiet);
    let image = images::ensure(store, typed, wanted, &progress)?;
    drop(progress);
    let layers = rootfs::git::layer_ids(&image);
    let id = layers.last().cloned().unwrap_or_default();
    output::line(format_args!("Image ID: {id}"))?;
    output::line(format_args!("Pulling {} layers:", layers.len()))?;
    for id in &layers {
        output::line(format_args!("\t{id}"))?;
    }
    for id in &layers {
        output::line(format_args!("\tDone {id}"))?;
    }
    output::line("Downloading layers:")?;
    let (directory, _) = rootfs.make(store, &image)?;
    for id in &layers {
        output::line(format_args!("\t{id} ... done"))?;
    }
    output::line(format_args!("Done. Rootfs of {shown} in {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The name as krgo showed it: with `library/` and the tag, without the hub.
pub(super) fn shown(source: &Source) -> String {
    let Source::Registry(reference) = source else { return source.to_string() };
    hubless(reference)
}

/// The name without the hub's own.
pub(super) fn hubless(reference: &Reference) -> String {
    let full = reference.to_string();
    full.strip_prefix("docker.io/").unwrap_or(&full).to_owned()
}

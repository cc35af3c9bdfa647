//! `pull`: bring an image from its registry into the local store.

use std::process::ExitCode;

use clap::Args;
use registry::{Platform, Source};
use rootfs::Settings;

use super::access::{AccessArgs, ProgressArgs};
use crate::{
    cli::{
        Globals, Verb,
        krgo::{self, RootfsArgs},
    },
    images::{self, Policy, Wanted},
    output,
    progress::Progress,
    report::advise,
};

/// Pull an image
///
/// Besides registries, images can be taken from oci:DIR[:TAG], oci-archive:FILE[:TAG],
/// docker-archive:FILE[:NAME], dir:DIR, v1-static:DIR:NAME and ssh://HOST/DIR:NAME, files that a registry of 2013
/// would have answered with.
#[derive(Args, Debug)]
pub(super) struct Pull {
    /// Image to pull, such as `debian:jessie`
    image: Source,

    /// Variant to choose when the image has several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Pull every tag of the repository
    #[arg(short, long)]
    all_tags: bool,

    /// When to pull: always, missing, newer, never
    #[arg(long, value_name = "POLICY", default_value = "always", hide_possible_values = true)]
    policy: Policy,

    /// Keep the compressed layers, so that a push sends the very same bytes; =false saves their space
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    keep_blobs: bool,

    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    rootfs: RootfsArgs,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,
}

impl Verb for Pull {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let settings = Settings { keep_blobs: self.keep_blobs, ..Settings::default() };
        let store = globals.store_with(settings)?;
        self.rootfs.check()?;
        let mut access = self.access.clone().access();
        access.creds = access.creds.or_else(|| self.rootfs.creds());
        let progress = Progress::new(self.progress.progress, self.quiet);
        let sources =
            if self.all_tags { every_tag(&self.image, &access)? } else { vec![self.image.clone()] };
        if self.all_tags && self.rootfs.is_wanted() {
            return Err(advise(
                "--all-tags: one directory cannot be several images",
                "pull one tag",
            ));
        }
        if self.rootfs.is_krgo() {
            let (name, source) = (self.image.to_string(), self.image);
            let wanted =
                Wanted { source, platform: self.platform, policy: self.policy, access: &access };
            return krgo::tell_pull(&store, &name, &wanted, &self.rootfs);
        }
        for source in sources {
            let name = source.to_string();
            let platform = self.platform.clone();
            let wanted = Wanted { source, platform, policy: self.policy, access: &access };
            let image = images::ensure(&store, &name, &wanted, &progress)?;
            if self.rootfs.is_wanted() {
                let (directory, branches) = self.rootfs.make(&store, &image)?;
                progress.say(&format!("{} is in {}", image.id, directory.display()));
                branches.iter().for_each(|branch| progress.say(branch));
            }
            output::line(&image.id)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn every_tag(image: &Source, access: &images::Access) -> anyhow::Result<Vec<Source>> {
    let Source::Registry(reference) = image else {
        return Err(advise(
            format!("{image}: only a registry has tags to pull all of"),
            "leave --all-tags out",
        ));
    };
    let tags = access.client()?.tags(reference)?;
    let tagged = tags.iter().map(|tag| Ok(Source::Registry(reference.with_tag(tag)?)));
    tagged.collect()
}

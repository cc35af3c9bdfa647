//! `adopt -r DIR`: an image out of a repository that krgo 1.4 or 1.5 made.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use registry::{Reference, Source};
use rootfs::git::Rootfs;

use crate::{
    cli::{Globals, Verb},
    images::{self, Access, Policy, Wanted},
    output,
    progress::{Mode, Progress},
};

/// Make an image of a root filesystem that krgo 1.4 or 1.5 pulled with -g
///
/// Git did not store owners, most modes, attributes, devices and empty directories. An image that has the
/// same files can supply them.
#[derive(Args, Debug)]
pub(crate) struct Adopt {
    /// The old root filesystem
    #[arg(short, long, value_name = "DIR", default_value = super::directory::DEFAULT)]
    rootfs: PathBuf,

    /// Give the image this name
    #[arg(short, long, value_name = "IMAGE")]
    tag: Option<Reference>,

    /// Take from this image what git did not store
    #[arg(long, value_name = "IMAGE")]
    repair_from: Option<Source>,
}

impl Verb for Adopt {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let truth = match self.repair_from {
            Some(source) => {
                let (typed, access) = (source.to_string(), Access::default());
                let wanted =
                    Wanted { source, platform: None, policy: Policy::Missing, access: &access };
                let progress = Progress::new(Mode::Auto, false);
                Some(images::ensure(&store, &typed, &wanted, &progress)?)
            }
            None => None,
        };
        let adopted = Rootfs::new(&store, &self.rootfs).adopt(truth.as_ref())?;
        if truth.is_some() {
            output::note(format_args!("{} files got their metadata back", adopted.repaired));
        } else {
            output::note(
                "warning: git did not store owners, modes but 644 and 755, attributes, times, devices, \
                 hard links and empty directories: they are lost; --repair-from IMAGE knows them if the \
                 image still exists",
            );
        }
        if adopted.nested > 0 {
            output::note(format_args!(
                "warning: {} nested repositories are lost: git stored only their names",
                adopted.nested
            ));
        }
        if let Some(name) = &self.tag {
            store.tag(&adopted.image, &name.to_string())?;
        }
        output::line(&adopted.image.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

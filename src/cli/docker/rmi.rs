//! `rmi`: remove images.

use std::process::ExitCode;

use clap::Args;
use registry::Reference;
use rootfs::Store;

use crate::{
    cli::{Globals, Verb},
    output,
    report,
};

/// Remove images
///
/// A name is taken away; the image itself goes with its last name.
#[derive(Args, Debug)]
pub(super) struct Rmi {
    /// Also when an id has several names
    #[arg(short, long)]
    force: bool,

    /// Images, by name or id
    #[arg(required = true)]
    image: Vec<String>,
}

impl Verb for Rmi {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        report::each_quietly(&self.image, globals.personality, |typed| {
            let name = typed.parse::<Reference>().ok().map(|reference| reference.to_string());
            let name = name.filter(|name| store.has_name(name)).unwrap_or_else(|| typed.clone());
            let removed = store.remove_image(&name, self.force)?;
            for name in &removed.untagged {
                output::line(format_args!("Untagged: {}", report::printable(name)))?;
            }
            if let Some(id) = &removed.deleted {
                output::line(format_args!("Deleted: {id}"))?;
            }
            Ok(())
        })
    }
}

//! `tag`, `untag`, `rmi`, `image prune`, `history`: names and ends of images.

use std::process::ExitCode;

use clap::Args;
use registry::Reference;
use rootfs::{Removed, Store};
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    images, output,
    progress::bytes,
    record,
    report::{self, advise},
    templates::Listing,
    timestamp,
};

/// Give an image another name
#[derive(Args, Debug)]
pub(super) struct Tag {
    /// Image, by name or id
    image: String,

    /// Names it shall have too
    #[arg(required = true)]
    name: Vec<Reference>,
}

impl Verb for Tag {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        let image = images::find(&store, &self.image)?;
        for name in &self.name {
            if name.digest().is_some() {
                return Err(advise(
                    format!("{name} names a digest, which is not ours to give"),
                    "use a tag",
                ));
            }
            store.tag(&image, &name.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Take names away; the images stay, even without any
#[derive(Args, Debug)]
pub(super) struct Untag {
    /// Names
    #[arg(required = true)]
    name: Vec<Reference>,
}

impl Verb for Untag {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        for name in &self.name {
            if !store.untag(&name.to_string())? {
                return Err(advise(
                    format!("there is no image {}", name.familiar()),
                    "`crun-cargo images` lists what is here",
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove images
///
/// A name is taken away; the image itself goes with its last name.
#[derive(Args, Debug)]
pub(super) struct Rmi {
    /// Also an image with several names, by its id, and one that containers use
    #[arg(short, long)]
    force: bool,

    /// Images, by name or id
    #[arg(required = true)]
    image: Vec<String>,
}

impl Verb for Rmi {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        report::each_quietly(&self.image, globals.personality, |typed| {
            let name = typed.parse::<Reference>().map(|reference| reference.to_string());
            let name = name.ok().filter(|name| store.image(name).is_ok());
            let removed = store.remove_image(name.as_ref().unwrap_or(typed), self.force);
            tell(&removed.map_err(|error| with_container_name(globals, error))?)
        })
    }
}

/// Remove images without a name, and what interrupted pulls left
#[derive(Args, Debug)]
pub(super) struct Prune {
    /// All images no container uses
    #[arg(short, long)]
    all: bool,

    /// Also branches of root filesystems that are not where they were pulled to; one that was only moved
    /// loses its history
    #[arg(long)]
    lost_rootfs: bool,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb for Prune {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let question = if self.all {
            "Remove all images no container uses?"
        } else {
            "Remove all images without a name?"
        };
        if !self.force && !report::confirm(question)? {
            return Ok(ExitCode::SUCCESS);
        }
        let store = globals.store()?;
        if self.lost_rootfs {
            store.remove_lost_rootfs()?;
        }
        let removed = store.prune(self.all)?;
        tell(&removed)?;
        for directory in &removed.lost {
            output::note(format_args!(
                "kept: the branches of {}, which is not there; --lost-rootfs removes them if it was not \
                 moved",
                report::printable(&directory.display().to_string())
            ));
        }
        output::line(format_args!("Total reclaimed space: {}", bytes(removed.bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The store knows containers by their ids only.
fn with_container_name(globals: &Globals, error: rootfs::Error) -> rootfs::Error {
    match error {
        rootfs::Error::InUse { image, container } => {
            let found = record::find(&globals.home, &container);
            let container = found.map_or(container, |found| found.name().to_owned());
            rootfs::Error::InUse { image, container }
        }
        other => other,
    }
}

fn tell(removed: &Removed) -> anyhow::Result<()> {
    for name in &removed.names {
        output::line(format_args!("Untagged: {}", report::printable(&images::familiar(name))))?;
    }
    for image in &removed.images {
        output::line(format_args!("Deleted: {image}"))?;
    }
    Ok(())
}

/// Show how an image was made, the newest step first
#[derive(Args, Debug)]
pub(super) struct History {
    /// Print commands in full
    #[arg(long)]
    no_trunc: bool,

    /// Print only ids
    #[arg(short, long)]
    quiet: bool,

    /// `json`, `table …` or a template such as `{{.CreatedBy}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Image, by name or id
    image: String,
}

impl Verb for History {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        let image = images::find(&store, &self.image)?;
        let configuration = image.configuration()?;
        let mut layers = image.layers.iter();
        let mut rows = Vec::new();
        for step in configuration.history().iter().flatten() {
            let layer = if step.empty_layer() == Some(true) { None } else { layers.next() };
            let mut by = step.created_by().clone().unwrap_or_default();
            if !self.no_trunc && by.chars().count() > 45 {
                by = by.chars().take(44).chain(['…']).collect();
            }
            let created = step.created().as_deref();
            let size = layer.map_or(0, |layer| layer.blob.size());
            rows.push(json!({
                "ID": layer.map_or("<none>", |layer| images::short(&layer.diff_id)),
                "CreatedAt": created,
                "CreatedSince": created.and_then(timestamp::parse).map(timestamp::ago),
                "CreatedBy": by,
                "Size": bytes(size),
                "Bytes": size,
                "Comment": step.comment().clone().unwrap_or_default(),
            }));
        }
        rows.reverse();
        Listing {
            default: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            headings: &[
                ("ID", "LAYER"),
                ("CreatedSince", "CREATED"),
                ("CreatedAt", "CREATED AT"),
                ("CreatedBy", "CREATED BY"),
                ("Size", "COMPRESSED SIZE"),
            ],
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

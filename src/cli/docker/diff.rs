//! `diff`: what a container changed, and what differs between any two of containers, images and layers.

use std::process::ExitCode;

use clap::Args;
use rootfs::{Change, ChangeKind, Side, Store};
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    images, launch, output,
    progress::bytes,
    record,
    report::advise,
    templates,
};

/// Show what a container changed: A added, C changed, D deleted
///
/// With two names, shows what is different in the second compared with the first; either may be a
/// container, an image, or a layer by its diff id or digest. An image alone is compared with the layers
/// below its topmost one.
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// Show sizes: of what is there, or was
    #[arg(short, long)]
    size: bool,

    /// `json`, or a template such as `{{.Kind}} {{.Path}} {{.Size}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Container, image or layer, by name or id
    name: String,

    /// What is compared with it
    other: Option<String>,
}

impl Verb for Diff {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let changes = match &self.other {
            None => alone(globals, &store, &self.name)?,
            Some(other) => {
                let before = side(globals, &store, &self.name)?;
                store.compare(&before, &side(globals, &store, other)?)?
            }
        };
        for change in changes {
            self.print(&change)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Diff {
    fn print(&self, change: &Change) -> anyhow::Result<()> {
        let kind = match change.kind {
            ChangeKind::Added => "A",
            ChangeKind::Modified => "C",
            ChangeKind::Deleted => "D",
        };
        let path = change.path.to_string_lossy();
        if let Some(format) = &self.format {
            let row = json!({ "Kind": kind, "Path": path, "Size": change.size });
            return templates::print_one(&row, format);
        }
        let path = crate::report::printable(&path);
        if self.size {
            output::line(format_args!("{kind} {path} {}", bytes(change.size)))?;
        } else {
            output::line(format_args!("{kind} {path}"))?;
        }
        Ok(())
    }
}

/// What a container changed, or an image's topmost layer.
fn alone(globals: &Globals, store: &Store, name: &str) -> anyhow::Result<Vec<Change>> {
    match record::find(&globals.home, name) {
        Ok(container) => Ok(store.diff(&launch::snapshot(store, &container)?)?),
        Err(error) if record::is_missing(&error) => match images::find(store, name) {
            Ok(image) => Ok(store.compare(&store.side_below(&image)?, &image.side())?),
            // The container is what people mean here.
            Err(other) if images::is_missing(&other) => Err(error),
            Err(other) => Err(other),
        },
        Err(error) => Err(error),
    }
}

fn side(globals: &Globals, store: &Store, name: &str) -> anyhow::Result<Side> {
    match record::find(&globals.home, name) {
        Ok(container) => return Ok(launch::snapshot(store, &container)?.side()),
        Err(error) if !record::is_missing(&error) => return Err(error),
        Err(_) => {}
    }
    match images::find(store, name) {
        Ok(image) => return Ok(image.side()),
        Err(error) if !images::is_missing(&error) => return Err(error),
        Err(_) => {}
    }
    store.layer_side(name)?.ok_or_else(|| {
        advise(
            format!("there is no container, image or layer {name:?}"),
            "`crun-cargo ps -a`, `images` and `history IMAGE` list what there is",
        )
    })
}

//! `check`, `system df`: is the store well, and how large is it.

use std::process::ExitCode;

use clap::Args;
use rootfs::Damage;
use serde_json::json;

use super::access::{AccessArgs, ProgressArgs};
use crate::{
    cli::{Globals, Verb},
    images::{self, Policy, Wanted},
    output,
    progress::{Progress, bytes},
    report::{self, printable},
    templates::Listing,
};

/// Verify everything in the store against its digests
///
/// Every layer's tar is made again from the files on disk and hashed. What is damaged is said exactly;
/// --repair removes it and pulls the images it belonged to again.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// Pull again what is damaged, or remove it
    #[arg(long)]
    repair: bool,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,
}

impl Verb for Check {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let usage = store.usage()?;
        let progress = Progress::new(self.progress.progress, false);
        let item = progress.item("store", usage.layer_bytes.saturating_add(usage.blob_bytes));
        item.begin("checking");
        let health = store.check(&|count| item.advance(count))?;
        item.end("checked");
        output::line(format_args!(
            "{} images, {} layers, {} blobs: {} damaged",
            health.images,
            health.layers,
            health.blobs,
            health.damage.len()
        ))?;
        for damage in &health.damage {
            output::line(sentence(damage))?;
        }
        if health.damage.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if !self.repair {
            output::note("hint: `crun-cargo check --repair` pulls it again, or removes it");
            return Ok(ExitCode::from(1));
        }
        let names: Vec<String> =
            health.damage.iter().flat_map(|damage| damage.images.clone()).collect();
        let removed = store.repair(&health.damage)?;
        let access = self.access.access();
        for name in names.iter().filter(|name| removed.names.contains(name)) {
            let Ok(source) = name.parse() else { continue };
            let wanted = Wanted { source, platform: None, policy: Policy::Always, access: &access };
            match images::ensure(&store, name, &wanted, &progress) {
                Ok(_) => output::line(format_args!("pulled again: {}", images::familiar(name)))?,
                Err(error) => {
                    output::line(format_args!("removed: {}", images::familiar(name)))?;
                    report::warn(&error);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn sentence(damage: &Damage) -> String {
    let images = match damage.images.len() {
        0 => String::new(),
        _ => format!(" (used by {})", damage.images.join(", ")),
    };
    printable(&format!("{}: {}{images}", damage.object, damage.problem)).into_owned()
}

/// Show how much room the store takes
#[derive(Args, Debug)]
pub(super) struct DiskUsage {
    /// `json`, `table …` or a template such as `{{.Type}} {{.Size}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for DiskUsage {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let usage = globals.store()?.usage()?;
        let row = |kind: &str, count: Option<usize>, size: u64, reclaimable: u64| {
            json!({
                "Type": kind,
                "Total": count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                "Size": bytes(size),
                "Bytes": size,
                "Reclaimable": bytes(reclaimable),
            })
        };
        let rows = [
            row("Images", Some(usage.images), usage.layer_bytes, usage.unused_layer_bytes),
            row("Compressed layers", None, usage.blob_bytes, usage.blob_bytes),
            row("Interrupted pulls", None, usage.partial_bytes, usage.partial_bytes),
            row("Containers", Some(usage.containers), usage.container_bytes, 0),
        ];
        Listing {
            default: "{{.Type}}\t{{.Total}}\t{{.Size}}\t{{.Reclaimable}}",
            headings: &[],
            quiet: None,
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

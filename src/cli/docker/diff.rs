//! `diff`: what a container changed.

use std::process::ExitCode;

use clap::Args;
use rootfs::{ChangeKind, Store};
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    launch, output,
    progress::bytes,
    record, templates,
};

/// Show what a container changed: A added, C changed, D deleted
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// Show sizes
    #[arg(short, long)]
    size: bool,

    /// `json`, or a template such as `{{.Kind}} {{.Path}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Container, by name or id
    container: String,
}

impl Verb for Diff {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        let container = record::find(&globals.home, &self.container)?;
        let snapshot = launch::snapshot(&store, &container)?;
        for change in launch::without_mount_points(store.diff(&snapshot)?) {
            let kind = match change.kind {
                ChangeKind::Added => "A",
                ChangeKind::Modified => "C",
                ChangeKind::Deleted => "D",
            };
            let path = change.path.to_string_lossy();
            if let Some(format) = &self.format {
                let row = json!({ "Kind": kind, "Path": path, "Size": change.size });
                templates::print_one(&row, format)?;
                continue;
            }
            let path = crate::report::printable(&path);
            if self.size {
                output::line(format_args!("{kind} {path} {}", bytes(change.size)))?;
            } else {
                output::line(format_args!("{kind} {path}"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

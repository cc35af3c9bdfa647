//! `tags`, `manifest inspect`: what a registry has, without pulling it.

use std::process::ExitCode;

use clap::Args;
use registry::{Platform, Reference, Source};
use serde_json::{Value, json};

use super::access::AccessArgs;
use crate::{
    cli::{Globals, Verb},
    output,
    report::printable,
    templates::Listing,
};

/// List the tags of a repository
#[derive(Args, Debug)]
pub(super) struct Tags {
    /// Repository, such as `debian` or `localhost:5000/app`
    repository: Reference,

    /// `json`, `table …` or a template such as `{{.Name}}:{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    #[command(flatten)]
    access: AccessArgs,
}

impl Verb for Tags {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let mut tags = self.access.access().client()?.tags(&self.repository)?;
        tags.sort();
        let name = self.repository.name();
        let rows: Vec<Value> =
            tags.iter().map(|tag| json!({ "Name": name, "Tag": printable(tag) })).collect();
        Listing {
            default: "{{.Name}}\t{{.Tag}}",
            headings: &[],
            quiet: Some("Tag"),
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Show the manifest of an image, or the index when it has one for each platform
#[derive(Args, Debug)]
pub(super) struct ManifestInspect {
    /// Image, such as `debian:jessie`; all of pull's sources can be used
    image: Source,

    /// Show this variant's manifest instead of the index
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Print the document exactly as it was received
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    access: AccessArgs,
}

impl Verb for ManifestInspect {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let client = self.access.access().client()?;
        let platform = self.platform.clone().unwrap_or_default();
        let image = client.resolve(&self.image, &platform)?;
        let bytes = match (&image.index, &self.platform) {
            (Some(index), None) => &index.bytes,
            _ => &image.manifest.bytes,
        };
        if self.raw {
            output::bytes(bytes)?;
        } else {
            let document: Value = serde_json::from_slice(bytes)?;
            output::line(serde_json::to_string_pretty(&document)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

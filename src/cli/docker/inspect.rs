//! `inspect`: everything known about containers and images, as JSON.

use std::{collections::BTreeSet, process::ExitCode};

use clap::{Args, ValueEnum};
use configs::MountSource;
use rootfs::{Store, StoredImage};
use runtime::Containers;
use serde_json::{Value, json};

use super::ps::origin;
use crate::{
    cli::{Globals, Verb},
    condition::{self, Condition},
    images, launch, output,
    record::{self, Container, Origin},
    report::{self, advise},
    templates,
};

/// Show everything known about containers or images
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// Print this instead: `json` or a template such as `{{.State.Status}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// What the names stand for; both are tried otherwise
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,

    /// Containers or images, by name or id
    #[arg(required = true)]
    name: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Kind {
    /// A container
    Container,
    /// An image
    Image,
}

impl Verb for Inspect {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let mut found = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for name in &self.name {
            match inspect(globals, self.kind, name) {
                Ok(value) => found.push(value),
                Err(error) => code = report::failure(globals.personality.name, &error, 1),
            }
        }
        match &self.format {
            Some(format) => {
                for value in &found {
                    templates::print_one(value, format)?;
                }
            }
            None => output::line(serde_json::to_string_pretty(&found)?)?,
        }
        Ok(code)
    }
}

fn inspect(globals: &Globals, kind: Option<Kind>, name: &str) -> anyhow::Result<Value> {
    if kind != Some(Kind::Image) {
        match record::find(&globals.home, name) {
            Ok(container) => return of_container(globals, &container),
            Err(error) if kind == Some(Kind::Container) || !record::is_missing(&error) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    let store = Store::open(&globals.home.root)?;
    match images::find(&store, name) {
        Ok(image) => of_image(&store, &image),
        Err(error) if kind.is_none() && images::is_missing(&error) => Err(advise(
            format!("there is no container and no image {name:?}"),
            "`crun-cargo ps -a` and `crun-cargo images` list what there is",
        )),
        Err(error) => Err(error),
    }
}

fn of_container(globals: &Globals, container: &Container) -> anyhow::Result<Value> {
    let containers = Containers::open(&globals.home.runroot)?;
    let condition = condition::of(&containers, container)?;
    let pid = match containers.load(&container.id()?) {
        Ok(running) => running.state()?.pid,
        Err(_) => None,
    };
    let record = &container.record;
    let (started, finished) = container.times();
    let image = match &record.origin {
        Origin::Image { id, .. } => id.clone(),
        _ => String::new(),
    };
    let spec = launch::spec(&globals.home, container).ok();
    let mounts =
        spec.iter().flat_map(|spec| &spec.mounts).filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(json!({
                "Type": "bind",
                "Source": path,
                "Destination": mount.destination,
                "RW": !mount.set.contains(configs::AttrFlags::RDONLY),
            })),
            _ => None,
        });
    Ok(json!({
        "Id": record.id,
        "Name": container.name(),
        "Created": record.created,
        "Path": record.command.first(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": {
            "Status": condition.word(),
            "Running": condition == Condition::Running,
            "Paused": condition == Condition::Paused,
            "Pid": pid.unwrap_or(0),
            "ExitCode": container.exit_code(),
            "StartedAt": started,
            "FinishedAt": finished,
        },
        "Image": image,
        "ImageName": origin(&record.origin),
        "Labels": record.labels,
        "Tty": record.terminal,
        "OpenStdin": record.interactive,
        "AutoRemove": record.remove,
        "StopSignal": record.stop_signal,
        "Config": record.config,
        "Mounts": mounts.collect::<Vec<_>>(),
        "Spec": spec,
    }))
}

fn of_image(store: &Store, image: &StoredImage) -> anyhow::Result<Value> {
    let configuration: Value = serde_json::from_str(&image.config)?;
    let names: Vec<String> =
        store.names_of(image)?.iter().map(|name| images::familiar(name)).collect();
    let digests: BTreeSet<String> = names
        .iter()
        .filter(|name| !name.contains('@'))
        .map(|name| {
            let repository =
                name.rsplit_once(':').map_or(name.as_str(), |(repository, _)| repository);
            format!("{repository}@{}", image.manifest)
        })
        .collect();
    let part = |name: &str| configuration.get(name).cloned().unwrap_or_default();
    Ok(json!({
        "Id": image.id,
        "RepoTags": names,
        "RepoDigests": digests,
        "Digest": image.manifest,
        "Created": part("created"),
        "Author": part("author"),
        "Architecture": part("architecture"),
        "Variant": part("variant"),
        "Os": part("os"),
        "Config": part("config"),
        "RootFS": { "Type": "layers", "Layers": configuration["rootfs"]["diff_ids"] },
        "History": part("history"),
        "CompressedSize": image.layers.iter().map(|layer| layer.blob.size()).sum::<u64>(),
    }))
}

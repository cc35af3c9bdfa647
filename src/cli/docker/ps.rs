//! `ps`: list containers.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use rootfs::Store;
use runtime::Containers;
use serde_json::{Value, json};

use crate::{
    cli::{Globals, Verb},
    condition::{self, Condition},
    progress::bytes,
    record::{self, Container, Origin},
    templates::Listing,
    timestamp,
};

/// List containers
///
/// Running ones, unless -a, -n or -l says otherwise.
#[derive(Args, Debug)]
pub(super) struct Ps {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,

    /// Show the last so many containers, whatever they are doing
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,

    /// Show the container made last
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,

    /// Print only ids
    #[arg(short, long)]
    quiet: bool,

    /// Print ids and commands in full
    #[arg(long)]
    no_trunc: bool,

    /// Show how much each container has written
    #[arg(short, long)]
    size: bool,

    /// Only those that match: name=, id=, status=, exited=, label=, ancestor=, since=, before=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// `json`, `table …` or a template such as `{{.Names}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Ps {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let containers = Containers::open(&globals.home.runroot)?;
        let mut found = Vec::new();
        for container in record::list(&globals.home)? {
            let condition = condition::of(&containers, &container)?;
            found.push((container, condition));
        }
        // The newest first.
        found.reverse();
        let filters = filters(&self.filter)?;
        keep_between(&mut found, &filters)?;
        let wants_size = self.size || self.format.as_deref().is_some_and(|it| it.contains(".Size"));
        let store = wants_size.then(|| globals.store()).transpose()?;
        let asks_status = filters.iter().any(|filter| matches!(filter.0, "status" | "exited"));
        let count = if self.latest { Some(1) } else { self.last };
        let rows: Vec<Value> = found
            .iter()
            .take(count.unwrap_or(usize::MAX))
            .filter(|(_, condition)| {
                self.all || count.is_some() || asks_status || condition.is_alive()
            })
            .filter(|(container, condition)| {
                filters.iter().all(|filter| matches(*filter, container, *condition))
            })
            .map(|(container, condition)| {
                let mut row = row(container, *condition, self.no_trunc);
                if let Some(store) = &store {
                    row["Size"] = json!(bytes(written(store, container)?));
                }
                Ok(row)
            })
            .collect::<anyhow::Result<_>>()?;
        let columns = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
        let with_size = format!("{columns}\t{{{{.Size}}}}");
        Listing {
            default: if self.size { &with_size } else { columns },
            headings: &[
                ("ID", "CONTAINER ID"),
                ("RunningFor", "CREATED"),
                ("CreatedAt", "CREATED AT"),
            ],
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a container's root came from, as people name it.
pub(super) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Image { name, .. } => name.clone(),
        Origin::Sandbox(path) | Origin::Directory(path) => path.display().to_string(),
    }
}

fn row(container: &Container, condition: Condition, full: bool) -> Value {
    let record = &container.record;
    let shorten = |text: &str, length: usize| {
        if full || text.chars().count() <= length {
            return text.to_owned();
        }
        text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
    };
    let id = if full { &record.id } else { record.id.get(..12).unwrap_or(&record.id) };
    let labels = record.labels.iter().map(|(key, value)| format!("{key}={value}"));
    json!({
        "ID": id,
        "Image": origin(&record.origin),
        "Command": shorten(&format!("\"{}\"", record.command.join(" ")), 20),
        "CreatedAt": record.created,
        "RunningFor": timestamp::parse(&record.created).map(timestamp::ago),
        "State": condition.word(),
        "Status": condition.sentence(container),
        "Ports": "",
        "Names": container.name(),
        "Labels": labels.collect::<Vec<_>>().join(","),
    })
}

/// What a container's own files hold beyond its image; nothing of one in a directory of the host itself.
fn written(store: &Store, container: &Container) -> anyhow::Result<u64> {
    match store.open_snapshot(&container.record.id) {
        Ok(snapshot) => Ok(store.diff(&snapshot)?.iter().map(|change| change.size).sum()),
        Err(rootfs::Error::NoSnapshot(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Obeys `since=` and `before=` on containers that are listed newest first.
fn keep_between(
    found: &mut Vec<(Container, Condition)>,
    filters: &[(&str, &str)],
) -> anyhow::Result<()> {
    for (key, value) in filters.iter().filter(|(key, _)| matches!(*key, "since" | "before")) {
        let is_meant = |container: &Container| {
            container.name() == *value || container.record.id.starts_with(value)
        };
        let Some(place) = found.iter().position(|(container, _)| is_meant(container)) else {
            bail!("--filter {key}={value}: there is no such container")
        };
        if *key == "since" {
            found.truncate(place);
        } else {
            found.drain(..=place);
        }
    }
    Ok(())
}

fn filters(typed: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    const KNOWN: [&str; 8] =
        ["name", "id", "status", "exited", "label", "ancestor", "since", "before"];
    let mut filters = Vec::new();
    for text in typed {
        match text.split_once('=') {
            Some((key, value)) if KNOWN.contains(&key) => filters.push((key, value)),
            _ => bail!("--filter {text:?}: one of {}, with = and a value", KNOWN.join(", ")),
        }
    }
    Ok(filters)
}

fn matches((key, value): (&str, &str), container: &Container, condition: Condition) -> bool {
    let record = &container.record;
    match key {
        "name" => container.name().contains(value),
        "id" => record.id.starts_with(value),
        "status" => condition.word() == value,
        "exited" => condition == Condition::Exited(value.parse().ok()),
        "label" => match value.split_once('=') {
            Some((key, value)) => record.labels.get(key).is_some_and(|known| known == value),
            None => record.labels.contains_key(value),
        },
        "ancestor" => match &record.origin {
            Origin::Image { name, id } => {
                let id = id.strip_prefix("sha256:").unwrap_or(id);
                name == value
                    || name.strip_suffix(":latest") == Some(value)
                    || id.starts_with(value)
            }
            _ => false,
        },
        // Obeyed before, with the whole list in sight.
        "since" | "before" => true,
        _ => false,
    }
}

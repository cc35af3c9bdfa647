//! `images`: list what is in the store.

use std::{process::ExitCode, str::FromStr, time::SystemTime};

use clap::Args;
use rootfs::{ImageSummary, Store};
use serde_json::{Value, json};

use crate::{
    cli::{Globals, Verb},
    images::familiar,
    progress::bytes,
    templates::Listing,
    timestamp,
};

/// List images
#[derive(Args, Debug)]
pub(super) struct Images {
    /// Only images of this name; `*` stands for anything
    name: Option<String>,

    /// All images, which is what is shown without it: there are no intermediate ones
    #[arg(short, long)]
    all: bool,

    /// Only those that match: reference=, dangling=, label=, before=, since=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,

    /// Print only ids
    #[arg(short, long)]
    quiet: bool,

    /// Show digests
    #[arg(long)]
    digests: bool,

    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,

    /// `json`, `table …` or a template such as `{{.Repository}}:{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Images {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        let mut images = store.images()?;
        for filter in &self.filter {
            images = filter.apply(&store, images)?;
        }
        images.sort_by(|one, other| other.created.cmp(&one.created));
        let mut rows = Vec::new();
        for image in &images {
            let (repository, tag) = image.name.as_deref().map_or_else(nameless, split);
            if self.is_wanted(&repository, &tag) {
                rows.push(self.row(image, &repository, &tag));
            }
        }
        let default = if self.digests {
            "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        } else {
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        };
        Listing {
            default,
            headings: &[
                ("ID", "IMAGE ID"),
                ("CreatedSince", "CREATED"),
                ("CreatedAt", "CREATED AT"),
            ],
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Images {
    fn is_wanted(&self, repository: &str, tag: &str) -> bool {
        self.name.as_ref().is_none_or(|name| is_called(name, repository, tag))
    }

    fn row(&self, image: &ImageSummary, repository: &str, tag: &str) -> Value {
        let id = image.id.digest();
        let created = image.created.as_deref();
        json!({
            "ID": if self.no_trunc { image.id.to_string() } else { id.get(..12).unwrap_or(id).to_owned() },
            "Repository": repository,
            "Tag": tag,
            "Digest": image.manifest.to_string(),
            "Platform": image.platform,
            "CreatedAt": created,
            "CreatedSince": created.and_then(timestamp::parse).map(timestamp::ago),
            "Size": bytes(image.size),
            "Bytes": image.size,
            "CompressedBytes": image.compressed_size,
        })
    }
}

/// `--filter`
#[derive(Clone, Debug, PartialEq)]
enum Filter {
    /// Of this name.
    Reference(String),
    /// Without any name.
    Dangling(bool),
    /// With this label, and this value if one is given.
    Label(String, Option<String>),
    /// Made before this image.
    Before(String),
    /// Made after it.
    Since(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        Ok(match (key, value) {
            ("reference", value) => Self::Reference(value.to_owned()),
            ("dangling", "true" | "1") => Self::Dangling(true),
            ("dangling", "false" | "0") => Self::Dangling(false),
            ("dangling", value) => {
                return Err(format!("dangling={value} is neither true nor false"));
            }
            ("label", value) => match value.split_once('=') {
                Some((label, value)) => Self::Label(label.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            ("before", value) => Self::Before(value.to_owned()),
            ("since", value) => Self::Since(value.to_owned()),
            _ => {
                return Err(format!(
                    "{key:?} is none of reference, dangling, label, before, since"
                ));
            }
        })
    }
}

impl Filter {
    fn apply(&self, store: &Store, images: Vec<ImageSummary>) -> anyhow::Result<Vec<ImageSummary>> {
        let created = |name: &str| -> anyhow::Result<Option<SystemTime>> {
            let image = crate::images::find(store, name)?.configuration()?;
            Ok(image.created().as_deref().and_then(timestamp::parse))
        };
        let when = |image: &ImageSummary| image.created.as_deref().and_then(timestamp::parse);
        let mut wanted = Vec::new();
        for image in images {
            let (repository, tag) = image.name.as_deref().map_or_else(nameless, split);
            let fits = match self {
                Self::Reference(pattern) => is_called(pattern, &repository, &tag),
                Self::Dangling(dangling) => image.name.is_none() == *dangling,
                Self::Label(label, value) => {
                    let configuration = store.image(image.id.as_ref())?.configuration()?;
                    let labels =
                        configuration.config().as_ref().and_then(|it| it.labels().as_ref());
                    let found = labels.and_then(|labels| labels.get(label));
                    found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
                }
                Self::Before(name) => when(&image) < created(name)?,
                Self::Since(name) => when(&image) > created(name)?,
            };
            if fits {
                wanted.push(image);
            }
        }
        Ok(wanted)
    }
}

/// Whether a name, in which `*` stands for anything, means this image.
fn is_called(name: &str, repository: &str, tag: &str) -> bool {
    match name.rsplit_once(':') {
        Some((wanted, wanted_tag)) if !wanted_tag.contains('/') => {
            fits(wanted, repository) && fits(wanted_tag, tag)
        }
        _ => fits(name, repository),
    }
}

fn nameless() -> (String, String) {
    ("<none>".to_owned(), "<none>".to_owned())
}

/// Repository and tag of a stored name, as people write them.
fn split(name: &str) -> (String, String) {
    let name = familiar(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') && !name.contains('@') => {
            (repository.to_owned(), tag.to_owned())
        }
        _ => match name.split_once('@') {
            Some((repository, _)) => (repository.to_owned(), "<none>".to_owned()),
            None => (name, "<none>".to_owned()),
        },
    }
}

/// Whether a pattern, whose `*` stands for anything, fits the whole text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        (rest, last) = (after, Some(part));
    }
    match last {
        None => rest.is_empty(),
        Some(last) => last.is_empty() || text.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("debian", "debian", true),
            ("debian", "debian2", false),
            ("deb*", "debian", true),
            ("*ian", "debian", true),
            ("d*b*n", "debian", true),
            ("d*x", "debian", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        let check = |name, repository: &str, tag: &str| {
            assert_eq!(split(name), (repository.to_owned(), tag.to_owned()));
        };
        check("docker.io/library/debian:jessie", "debian", "jessie");
        check("docker.io/me/app:1", "me/app", "1");
        check("localhost:5000/app:1", "localhost:5000/app", "1");
    }
}

//! `images`: list what is in the store.

use std::process::ExitCode;

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
        let Some(name) = &self.name else { return true };
        match name.rsplit_once(':') {
            Some((wanted, wanted_tag)) if !wanted_tag.contains('/') => {
                fits(wanted, repository) && fits(wanted_tag, tag)
            }
            _ => fits(name, repository),
        }
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

//! The OCI image layout: `index.json` and `blobs/ALGORITHM/HEX`.

use oci_spec::image::{Descriptor, Digest};

use super::tree::Tree;
use crate::{
    Error, Result,
    manifest::{self, Document, MAX_DOCUMENT},
};

/// The annotation that names an image in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd and docker put there as well: the full name.
const IMAGE_NAME: &str = "io.containerd.image.name";

pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// `index.json`, and the entry of it that is wanted. Without an entry the index itself is the image, in one
/// variant per platform.
pub(super) fn choose(tree: &Tree, tag: Option<&str>) -> Result<(Document, Option<Descriptor>)> {
    let what = format!("{tree}/index.json");
    let document = manifest::parse(tree.read("index.json", MAX_DOCUMENT)?, &[], &what)?;
    let Document::Index(index) = &document else {
        let problem = "it is no index".to_owned();
        return Err(Error::Document { what, problem });
    };
    let entries = index.manifests();
    let is_unnamed = |entry: &Descriptor| names(entry).next().is_none();
    let found = match tag {
        Some(tag) => entries.iter().find(|entry| names(entry).any(|name| name == tag)),
        None if entries.len() == 1 => entries.first(),
        None if !entries.is_empty() && entries.iter().all(is_unnamed) => {
            return Ok((document, None));
        }
        None => None,
    };
    let found = found.cloned().ok_or_else(|| {
        let nearest = entries.iter().flat_map(names).map(str::to_owned).collect();
        let tag = tag.unwrap_or_default().to_owned();
        Error::UnknownTag { name: tree.to_string(), tag, nearest }
    })?;
    Ok((document, Some(found)))
}

/// The name of every image; an only image may have none.
pub(super) fn tags(tree: &Tree) -> Result<Vec<Option<String>>> {
    let what = format!("{tree}/index.json");
    let document = manifest::parse(tree.read("index.json", MAX_DOCUMENT)?, &[], &what)?;
    let Document::Index(index) = &document else {
        return Err(Error::Document { what, problem: "it is no index".to_owned() });
    };
    let mut tags: Vec<Option<String>> = index
        .manifests()
        .iter()
        .filter_map(|entry| names(entry).next())
        .map(|name| Some(name.to_owned()))
        .collect();
    if tags.is_empty() {
        tags.push(None);
    }
    Ok(tags)
}

fn names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = entry.annotations().as_ref();
    [REF_NAME, IMAGE_NAME].into_iter().filter_map(move |key| Some(annotations?.get(key)?.as_str()))
}

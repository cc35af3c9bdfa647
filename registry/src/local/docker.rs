//! What `docker save` writes: `manifest.json` names a configuration and layers, all as plain files.

use std::{collections::HashMap, io::Read};

use oci_spec::image::{Descriptor, Digest, ImageManifest};
use serde::Deserialize;
use serde_json::json;

use super::tree::Tree;
use crate::{
    Error, Image, Layer, Reference, Result, Source,
    digest::{Hasher, digest_of},
    json as strict,
    layer::hash,
    manifest::{
        self, DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_LAYER_TAR, DOCKER_MANIFEST, MAX_DOCUMENT,
    },
};

const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The name of every image; an only image may have none.
pub(super) fn names(tree: &Tree, what: &str) -> Result<Vec<Option<Reference>>> {
    let entries: Vec<Entry> = strict::parse(&tree.read("manifest.json", MAX_DOCUMENT)?, what)?;
    let mut names = Vec::new();
    for entry in &entries {
        for name in &entry.repo_tags {
            names.push(Some(name.parse()?));
        }
    }
    if names.is_empty() {
        names.push(None);
    }
    Ok(names)
}

/// Reads the image, and which file holds which blob.
pub(super) fn read(
    tree: &Tree,
    source: &Source,
    wanted: Option<&Reference>,
) -> Result<(Image, HashMap<Digest, String>)> {
    let what = source.to_string();
    if !tree.has("manifest.json") {
        let problem = "there is no manifest.json in it: it was not written by `docker save`";
        return Err(Error::Document { what, problem: problem.to_owned() });
    }
    let bytes = tree.read("manifest.json", MAX_DOCUMENT)?;
    let entries: Vec<Entry> = strict::parse(&bytes, &what)?;
    let entry = choose(&entries, wanted, &what)?;
    let config_bytes = tree.read(&entry.config, MAX_DOCUMENT)?;
    let digest = digest_of(&config_bytes);
    let size = u64::try_from(config_bytes.len()).unwrap_or(u64::MAX);
    let config_descriptor = Descriptor::new(DOCKER_CONFIG.into(), size, digest.clone());
    let config = manifest::config(config_bytes, &config_descriptor, &what)?;

    let mut files = HashMap::from([(digest, entry.config.clone())]);
    let mut blobs = Vec::new();
    for (index, name) in entry.layers.iter().enumerate() {
        let diff_id = config.rootfs().diff_ids().get(index).map(String::as_str);
        let blob = layer(tree, name, diff_id, &what)?;
        files.insert(blob.digest().clone(), name.clone());
        blobs.push(blob);
    }
    let value = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": config_descriptor, "layers": blobs});
    let bytes = value.to_string().into_bytes();
    let value: ImageManifest = strict::from_value(value, &what)?;
    let layers: Vec<Layer> = manifest::layers(&value, &config, &what)?;
    let manifest = manifest::raw(bytes, DOCKER_MANIFEST.into(), value);
    let digest = manifest.digest.clone();
    let source = source.clone();
    Ok((Image { source, digest, manifest, config, layers, index: None }, files))
}

fn choose<'e>(entries: &'e [Entry], wanted: Option<&Reference>, what: &str) -> Result<&'e Entry> {
    let is_wanted = |entry: &&Entry| match wanted {
        None => entries.len() == 1,
        Some(wanted) => entry.repo_tags.iter().any(|tag| {
            tag.parse::<Reference>().is_ok_and(|tag| tag.to_string() == wanted.to_string())
        }),
    };
    entries.iter().find(is_wanted).ok_or_else(|| Error::UnknownTag {
        name: what.to_owned(),
        tag: wanted.map(Reference::familiar).unwrap_or_default(),
        nearest: entries.iter().flat_map(|entry| entry.repo_tags.clone()).collect(),
    })
}

/// Layers are normally plain tars, whose digest the configuration knows. A compressed one must be read once
/// to learn its digest.
fn layer(tree: &Tree, name: &str, diff_id: Option<&str>, what: &str) -> Result<Descriptor> {
    let size = tree.size(name)?;
    let failed = |source| Error::File { doing: "read", path: name.into(), source };
    let mut start = [0; 4];
    let mut reader = tree.open(name, 0)?;
    let length = reader.read(&mut start).map_err(failed)?;
    let media_type = match start.get(..length).unwrap_or_default() {
        [0x1f, 0x8b, ..] => DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => OCI_LAYER_ZSTD,
        _ => {
            let diff_id = diff_id.ok_or_else(|| Error::Document {
                what: what.to_owned(),
                problem: "it has more layers than diff ids".to_owned(),
            })?;
            let digest = crate::parse_digest(diff_id)?;
            return Ok(Descriptor::new(DOCKER_LAYER_TAR.into(), size, digest));
        }
    };
    let mut hasher = Hasher::default();
    hash(&mut *tree.open(name, 0)?, &mut hasher).map_err(failed)?;
    Ok(Descriptor::new(media_type.into(), size, hasher.finish()))
}

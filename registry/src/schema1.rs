//! Docker's image manifest, version 2, schema 1: read, never written.
//!
//! Such a manifest carries one `v1Compatibility` document per layer, newest first, and knows neither the sizes
//! of its blobs nor the digests of the tars inside. The image built here becomes complete when somebody has read
//! the layers and calls [`Image::with_diff_ids`]. Signatures are not judged: their keys were never
//! tied to anyone, and blobs are addressed by digest.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use oci_spec::image::{Descriptor, Digest, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Error, Image, Layer, Raw, Result, Source,
    digest::{check_algorithm, digest_of},
    json as strict,
    manifest::{self, DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST},
};

const MAX_LAYERS: usize = 1_000;

/// The gzip of an empty tar, which old daemons pushed for every instruction that changed no file.
const EMPTY_LAYER: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d663cb16422d00e8a7c22955b46d4";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    architecture: Option<String>,
    fs_layers: Vec<FsLayer>,
    history: Vec<Entry>,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct FsLayer {
    #[serde(rename = "blobSum")]
    blob_sum: Digest,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "v1Compatibility")]
    v1_compatibility: String,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

/// What a schema 1 manifest says, before sizes are known.
#[derive(Debug)]
pub(crate) struct Schema1 {
    /// Digest of what was signed, which is what the registry calls the manifest's digest.
    pub(crate) digest: Digest,
    /// Lowest first, empty ones left out.
    pub(crate) blobs: Vec<Digest>,
    config: Map<String, Value>,
}

pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Schema1> {
    let refuse = |problem: &str| Error::Document { what: what.into(), problem: problem.into() };
    let document: Manifest = strict::parse(bytes, what)?;
    if document.fs_layers.len() != document.history.len() || document.history.is_empty() {
        return Err(refuse("its layers and its history do not match"));
    }
    if document.fs_layers.len() > MAX_LAYERS {
        return Err(refuse("it has more than 1000 layers"));
    }
    let digest = digest_of(&signed_part(bytes, &document, what)?);
    let mut blobs = Vec::new();
    let mut history = Vec::new();
    let mut newest = Map::new();
    for (layer, entry) in document.fs_layers.iter().zip(&document.history).rev() {
        check_algorithm(&layer.blob_sum)?;
        let v1 = strict::parse_value(entry.v1_compatibility.as_bytes(), what)?;
        let Value::Object(v1) = v1 else { return Err(refuse("its history is malformed")) };
        let is_empty = v1.get("throwaway") == Some(&Value::Bool(true))
            || (layer.blob_sum.as_ref() == EMPTY_LAYER && !v1.contains_key("throwaway"));
        if !is_empty {
            blobs.push(layer.blob_sum.clone());
        }
        history.push(history_entry(&v1, is_empty));
        newest = v1;
    }
    let config = configuration(newest, history, document.architecture);
    Ok(Schema1 { digest, blobs, config })
}

/// The bytes before the signatures were spliced in.
fn signed_part(bytes: &[u8], document: &Manifest, what: &str) -> Result<Vec<u8>> {
    let Some(signature) = document.signatures.first() else { return Ok(bytes.to_vec()) };
    let refuse = || Error::Document { what: what.into(), problem: "malformed signature".into() };
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse());
    let protected: Protected = strict::parse(&decode(&signature.protected)?, what)?;
    let mut payload = bytes.get(..protected.format_length).ok_or_else(refuse)?.to_vec();
    payload.extend(decode(&protected.format_tail)?);
    Ok(payload)
}

pub(crate) fn history_entry(v1: &Map<String, Value>, is_empty: bool) -> Value {
    let mut entry = Map::new();
    for (from, to) in [("created", "created"), ("author", "author"), ("comment", "comment")] {
        if let Some(value) = v1.get(from).filter(|value| *value != "") {
            entry.insert(to.to_owned(), value.clone());
        }
    }
    let command = v1.get("container_config").and_then(|config| config.get("Cmd"));
    if let Some(words) = command.and_then(Value::as_array) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        entry.insert("created_by".to_owned(), words.join(" ").into());
    }
    if is_empty {
        entry.insert("empty_layer".to_owned(), true.into());
    }
    Value::Object(entry)
}

pub(crate) fn configuration(
    mut newest: Map<String, Value>,
    history: Vec<Value>,
    architecture: Option<String>,
) -> Map<String, Value> {
    for key in ["id", "parent", "parent_id", "layer_id", "Size", "throwaway"] {
        newest.remove(key);
    }
    if let Some(architecture) = architecture.filter(|text| !text.is_empty()) {
        newest.entry("architecture").or_insert(architecture.into());
    }
    newest.entry("architecture").or_insert_with(|| "amd64".into());
    newest.entry("os").or_insert_with(|| "linux".into());
    newest.insert("history".to_owned(), history.into());
    newest.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": []}));
    newest
}

impl Schema1 {
    /// The image, once the sizes of its blobs have been asked for.
    pub(crate) fn into_image(self, source: Source, sizes: &[u64], what: &str) -> Result<Image> {
        let layers: Vec<Layer> = self
            .blobs
            .into_iter()
            .zip(sizes)
            .map(|(digest, size)| Layer {
                descriptor: Descriptor::new(DOCKER_LAYER_GZIP.into(), *size, digest),
                diff_id: None,
            })
            .collect();
        let config = raw_config(self.config, what)?;
        let blobs: Vec<&Descriptor> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = raw_manifest(&config, &blobs, what)?;
        Ok(Image { source, digest: self.digest, manifest, config, layers, index: None })
    }
}

impl Image {
    /// Completes an image that came as schema 1, with the digests found while unpacking its layers.
    pub(crate) fn with_diff_ids(mut self, diff_ids: &[Digest]) -> Result<Self> {
        let what = self.source.to_string();
        if diff_ids.len() != self.layers.len() {
            let problem = format!("{} layers, {} diff ids", self.layers.len(), diff_ids.len());
            return Err(Error::Document { what, problem });
        }
        let mut config: Map<String, Value> = strict::parse(&self.config.bytes, &what)?;
        config.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
        for (layer, diff_id) in self.layers.iter_mut().zip(diff_ids) {
            layer.diff_id = Some(diff_id.clone());
        }
        self.config = raw_config(config, &what)?;
        let blobs: Vec<&Descriptor> = self.layers.iter().map(|it| &it.descriptor).collect();
        self.manifest = raw_manifest(&self.config, &blobs, &what)?;
        Ok(self)
    }
}

pub(crate) fn raw_config(
    config: Map<String, Value>,
    what: &str,
) -> Result<Raw<oci_spec::image::ImageConfiguration>> {
    let config = Value::Object(config);
    let bytes = config.to_string().into_bytes();
    let value = manifest::config_from_value(config, what)?;
    Ok(manifest::raw(bytes, DOCKER_CONFIG.into(), value))
}

pub(crate) fn raw_manifest(
    config: &Raw<oci_spec::image::ImageConfiguration>,
    layers: &[&Descriptor],
    what: &str,
) -> Result<Raw<ImageManifest>> {
    let value = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": config.descriptor(), "layers": layers});
    let bytes = value.to_string().into_bytes();
    let media_type = MediaType::from(DOCKER_MANIFEST);
    Ok(manifest::raw(bytes, media_type, strict::from_value(value, what)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn document(signatures: &str) -> String {
        let layer = |byte: &str| format!("sha256:{}", byte.repeat(32));
        format!(
            r##"{{"schemaVersion": 1, "name": "a", "tag": "b", "architecture": "amd64",
   "fsLayers": [{{"blobSum": "{}"}}, {{"blobSum": "{}"}}, {{"blobSum": "{}"}}],
   "history": [
      {{"v1Compatibility": "{{\"id\":\"3\",\"parent\":\"2\",\"created\":\"2015-01-01T00:00:00Z\",\"config\":{{\"Cmd\":[\"bash\"],\"Env\":null}},\"os\":\"linux\",\"throwaway\":true,\"container_config\":{{\"Cmd\":[\"/bin/sh\",\"-c\",\"#(nop) CMD\"]}}}}"}},
      {{"v1Compatibility": "{{\"id\":\"2\",\"parent\":\"1\"}}"}},
      {{"v1Compatibility": "{{\"id\":\"1\"}}"}}
   ]{signatures}
}}"##,
            EMPTY_LAYER,
            layer("bb"),
            layer("aa"),
        )
    }

    #[test]
    fn layers_come_lowest_first_without_the_empty_ones() {
        let schema1 = parse(document("").as_bytes(), "x").unwrap();
        let blobs: Vec<&str> = schema1.blobs.iter().map(|digest| &digest.digest()[..2]).collect();
        assert_eq!(blobs, ["aa", "bb"]);
        let image = schema1.into_image(Source::Directory("x".into()), &[1, 2], "x").unwrap();
        assert!(!image.is_complete());
        let before = image.manifest.digest.clone();
        let diff_id = digest_of(b"");
        let image = image.with_diff_ids(&[diff_id.clone(), diff_id.clone()]).unwrap();
        assert!(image.is_complete());
        assert_ne!(image.manifest.digest, before);
        assert_eq!(image.config.rootfs().diff_ids().len(), 2);
        let config = image.config.config().as_ref().unwrap();
        assert_eq!(config.cmd().as_deref(), Some(&["bash".to_owned()][..]));
        let history = image.config.history().as_ref().unwrap();
        assert_eq!(history.iter().filter(|entry| entry.empty_layer() == Some(true)).count(), 1);
        assert_eq!(image.manifest.config().digest(), &image.config.digest);
    }

    #[test]
    fn the_digest_is_that_of_the_signed_part() {
        let plain = document("");
        let cut = plain.rfind("\n}").unwrap();
        let protected = json!({"formatLength": cut,
            "formatTail": BASE64_URL_SAFE_NO_PAD.encode("\n}")})
        .to_string();
        let protected = BASE64_URL_SAFE_NO_PAD.encode(protected);
        let signed = document(&format!(r#","signatures":[{{"protected":"{protected}"}}]"#));
        assert_eq!(parse(signed.as_bytes(), "x").unwrap().digest, digest_of(plain.as_bytes()));
    }
}

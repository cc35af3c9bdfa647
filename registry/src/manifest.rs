//! The manifest formats that exist, told apart and checked.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;

use crate::{
    Error, Layer, Platform, Raw, Result,
    digest::{check_algorithm, digest_of, parse_digest, verify},
    error::printable,
    json,
};

/// Manifests, indexes and configurations larger than this are refused.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
const MAX_LAYERS: usize = 1_000;
const MAX_ENTRIES: usize = 65_536;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(crate) const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
pub(crate) const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What we can read, newest format first; sent with every request for a manifest.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, \
     application/vnd.docker.distribution.manifest.v1+json;q=0.5";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Index,
    Manifest,
    Schema1,
}

impl Kind {
    fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Manifest),
            SCHEMA1 | SCHEMA1_SIGNED => Some(Self::Schema1),
            _ => None,
        }
    }

    /// What the document's members say it is; a document that could be two things is none.
    fn of_content(document: &Value, what: &str) -> Result<Self> {
        let has = |key| document.get(key).is_some();
        let is_index = has("manifests");
        let is_manifest = has("layers") || has("config");
        let is_schema1 = has("fsLayers") || document.get("schemaVersion") == Some(&1.into());
        match (is_index, is_manifest, is_schema1) {
            (true, false, false) => Ok(Self::Index),
            (false, true, false) => Ok(Self::Manifest),
            (false, false, true) => Ok(Self::Schema1),
            (false, false, false) => Err(refused(what, "it is neither a manifest nor an index")),
            _ => Err(refused(what, "it is several kinds of document at once")),
        }
    }
}

/// A document that a name or descriptor led to.
#[allow(clippy::large_enum_variant, reason = "a handful exist at a time")]
#[derive(Clone, Debug)]
pub enum Document {
    /// One image for several platforms.
    Index(Raw<ImageIndex>),
    /// One image.
    Manifest(Raw<ImageManifest>),
    /// Docker's format of 2013, still served for images nobody has rebuilt.
    Schema1(Vec<u8>),
}

impl Document {
    /// Exactly as it was received.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Index(index) => &index.bytes,
            Self::Manifest(manifest) => &manifest.bytes,
            Self::Schema1(bytes) => bytes,
        }
    }

    /// What it is.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Index(index) => index.media_type.as_ref(),
            Self::Manifest(manifest) => manifest.media_type.as_ref(),
            Self::Schema1(_) => SCHEMA1_SIGNED,
        }
    }
}

/// Tells what a document is. `declared` are the media types that others gave for it: the descriptor that led
/// here and the HTTP header. All must agree with the document itself.
pub(crate) fn parse(bytes: Vec<u8>, declared: &[&str], what: &str) -> Result<Document> {
    let value = json::parse_value(&bytes, what)?;
    let kind = Kind::of_content(&value, what)?;
    let own = value.get("mediaType").and_then(Value::as_str).map(str::to_owned);
    let specific = declared.iter().copied().filter(|text| Kind::of_media_type(text).is_some());
    let mut media_type = own.as_deref();
    for declared in specific {
        if media_type.is_some_and(|known| known != declared) && kind != Kind::Schema1 {
            return Err(refused(what, "its media types do not agree"));
        }
        media_type = Some(declared);
    }
    if media_type.is_some_and(|known| Kind::of_media_type(known) != Some(kind)) {
        return Err(refused(what, "its media type and its content do not agree"));
    }
    let media_type = media_type.map(str::to_owned);
    match kind {
        Kind::Schema1 => Ok(Document::Schema1(bytes)),
        Kind::Index => {
            let index: ImageIndex = json::from_value(value, what)?;
            check_index(&index, what)?;
            let media_type = MediaType::from(media_type.as_deref().unwrap_or(OCI_INDEX));
            Ok(Document::Index(raw(bytes, media_type, index)))
        }
        Kind::Manifest => {
            let manifest: ImageManifest = json::from_value(value, what)?;
            check_manifest(&manifest, what)?;
            let media_type = MediaType::from(media_type.as_deref().unwrap_or(OCI_MANIFEST));
            Ok(Document::Manifest(raw(bytes, media_type, manifest)))
        }
    }
}

/// A value together with bytes whose digest is computed here.
pub(crate) fn raw<T>(bytes: Vec<u8>, media_type: MediaType, value: T) -> Raw<T> {
    Raw { digest: digest_of(&bytes), bytes, media_type, value }
}

fn check_index(index: &ImageIndex, what: &str) -> Result<()> {
    if index.manifests().len() > MAX_ENTRIES {
        return Err(refused(what, "it lists more than 65536 manifests"));
    }
    index.manifests().iter().try_for_each(|entry| check_algorithm(entry.digest()))
}

fn check_manifest(manifest: &ImageManifest, what: &str) -> Result<()> {
    if manifest.schema_version() != 2 {
        return Err(refused(what, "its schema version is not 2"));
    }
    if manifest.layers().len() > MAX_LAYERS {
        return Err(refused(what, "it has more than 1000 layers"));
    }
    if manifest.config().size() > MAX_DOCUMENT {
        let what = format!("the configuration of {what}");
        return Err(Error::TooLarge { what, limit: MAX_DOCUMENT });
    }
    let mut digests = manifest.layers().iter().chain([manifest.config()]).map(Descriptor::digest);
    digests.try_for_each(check_algorithm)
}

/// Whether a descriptor leads to a document of a kind we know.
pub(crate) fn is_readable(entry: &Descriptor) -> bool {
    Kind::of_media_type(entry.media_type().as_ref()).is_some()
}

/// Chooses the manifest of an index that serves `wanted` best.
pub(crate) fn choose<'i>(
    index: &'i ImageIndex,
    wanted: &Platform,
    what: &str,
) -> Result<&'i Descriptor> {
    let readable = || index.manifests().iter().filter(|entry| is_readable(entry));
    let best = readable()
        .filter_map(|entry| Some((wanted.distance(entry.platform().as_ref()?)?, entry)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    // Layouts written by hand, and some tools, leave the platform out when there is one image only.
    let mut unmarked = readable().filter(|entry| entry.platform().is_none());
    if let (Some(only), None) = (unmarked.next(), unmarked.next()) {
        return Ok(only);
    }
    let is_real = |platform: &Platform| platform.os != "unknown";
    let mut available: Vec<String> = readable()
        .filter_map(|entry| entry.platform().as_ref().map(Platform::from))
        .filter(is_real)
        .map(|platform| platform.to_string())
        .collect();
    available.dedup();
    Err(Error::NoPlatform { name: what.to_owned(), wanted: wanted.to_string(), available })
}

/// Whether a manifest's configuration is that of a container image at all.
pub(crate) fn check_is_image(manifest: &ImageManifest, what: &str) -> Result<()> {
    let media_type = manifest.config().media_type().as_ref();
    if matches!(media_type, OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "") {
        return Ok(());
    }
    Err(Error::Document {
        what: what.to_owned(),
        problem: format!("it is no container image but {}", printable(media_type)),
    })
}

/// Checks and reads a configuration.
pub(crate) fn config(
    bytes: Vec<u8>,
    descriptor: &Descriptor,
    what: &str,
) -> Result<Raw<ImageConfiguration>> {
    let what = format!("the configuration of {what}");
    verify(&bytes, descriptor.digest(), &what)?;
    let value = config_from_value(json::parse_value(&bytes, &what)?, &what)?;
    let media_type = descriptor.media_type().clone();
    Ok(Raw { bytes, media_type, digest: descriptor.digest().clone(), value })
}

/// Reads a configuration, forgiving what old builders left out.
pub(crate) fn config_from_value(mut value: Value, what: &str) -> Result<ImageConfiguration> {
    if let Some(members) = value.as_object_mut() {
        members.entry("os").or_insert_with(|| "linux".into());
        members.entry("architecture").or_insert_with(|| "amd64".into());
    }
    json::from_value(value, what)
}

/// Pairs the manifest's layers with the configuration's diff ids.
pub(crate) fn layers(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
    what: &str,
) -> Result<Vec<Layer>> {
    let (blobs, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if blobs.len() != diff_ids.len() {
        let problem = format!("it has {} layers and {} diff ids", blobs.len(), diff_ids.len());
        return Err(Error::Document { what: what.to_owned(), problem });
    }
    let pair = |(blob, diff_id): (&Descriptor, &String)| {
        Ok(Layer { descriptor: blob.clone(), diff_id: Some(parse_digest(diff_id)?) })
    };
    blobs.iter().zip(diff_ids).map(pair).collect()
}

fn refused(what: &str, problem: &str) -> Error {
    Error::Document { what: what.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(media_type: &str) -> Vec<u8> {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":
            "{OCI_CONFIG}","digest":"{DIGEST}","size":0}},"layers":[]}}"#
        )
        .into_bytes()
    }

    fn index(entries: &[(&str, &str)]) -> ImageIndex {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(architecture, variant)| {
                let mut platform = serde_json::json!({"os": "linux", "architecture": architecture});
                if !variant.is_empty() {
                    platform["variant"] = (*variant).into();
                }
                serde_json::json!({"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1,
                    "platform": platform})
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": entries}))
            .unwrap()
    }

    #[test]
    fn media_types_must_agree_everywhere() {
        assert!(parse(manifest(OCI_MANIFEST), &[OCI_MANIFEST], "x").is_ok());
        assert!(parse(manifest(OCI_MANIFEST), &["application/json"], "x").is_ok());
        assert!(parse(manifest(OCI_MANIFEST), &[DOCKER_MANIFEST], "x").is_err());
        assert!(parse(manifest(OCI_INDEX), &[], "x").is_err());
        assert!(parse(manifest(OCI_MANIFEST), &[OCI_MANIFEST, OCI_INDEX], "x").is_err());
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let both =
            format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":"{DIGEST}"}}"#);
        assert!(parse(both.into_bytes(), &[], "x").is_err());
        assert!(parse(b"{}".to_vec(), &[], "x").is_err());
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let index = index(&[("arm64", "v8"), ("arm", "v5"), ("arm", "v6"), ("amd64", "")]);
        let variant = |wanted: &str| {
            let entry = choose(&index, &wanted.parse().unwrap(), "x")?;
            Ok::<_, Error>(Platform::from(entry.platform().as_ref().unwrap()).to_string())
        };
        assert_eq!(variant("linux/arm/v7").unwrap(), "linux/arm/v6");
        assert_eq!(variant("linux/arm64").unwrap(), "linux/arm64/v8");
        assert_eq!(variant("linux/amd64/v3").unwrap(), "linux/amd64");
        let error = variant("linux/s390x").unwrap_err();
        assert!(error.hint().unwrap().contains("linux/amd64"), "{error}");
    }

    #[test]
    fn damaged_documents_never_panic() {
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}],"history":[{"v1Compatibility":"{\"id\":\"a\"}"}],"signatures":[{"protected":"eyJmb3JtYXRMZW5ndGgiOjUsImZvcm1hdFRhaWwiOiJmUSJ9"}]}"#;
        let index = serde_json::to_vec(&index(&[("arm64", "v8"), ("amd64", "")])).unwrap();
        let mut state: u64 = 88_172_645_463_325_252;
        let mut chance = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 1_000_003).unwrap() % below
        };
        for round in 0..30_000 {
            let mut bytes = match round % 3 {
                0 => manifest(OCI_MANIFEST),
                1 => index.clone(),
                _ => schema1.to_vec(),
            };
            for _ in 0..=chance(4) {
                let at = chance(bytes.len().max(1));
                match chance(4) {
                    0 if !bytes.is_empty() => drop(bytes.remove(at)),
                    0 | 1 => bytes.insert(at, u8::try_from(chance(256)).unwrap()),
                    2 => bytes.truncate(at.max(1)),
                    _ if bytes.is_empty() => {}
                    _ => bytes[at] = b"{}[]\":,0-e\\ntf"[chance(14)],
                }
            }
            match parse(bytes, &[], "x") {
                Ok(Document::Schema1(bytes)) => drop(crate::schema1::parse(&bytes, "x")),
                Ok(Document::Index(index)) => drop(choose(&index, &Platform::default(), "x")),
                Ok(Document::Manifest(_)) | Err(_) => {}
            }
        }
    }
}

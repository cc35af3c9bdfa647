//! A small image in a fake registry, and a client that does not wait long.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{io::Read, time::Duration};

use oci_spec::image::Descriptor;
use registry::{Client, Image, Options, Platform, Result, Source, digest_of, fake::Registry};
use serde_json::json;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes that differ everywhere, so that a piece in the wrong place shows.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Puts an image with these layers at `repository:tag`; returns the manifest's digest.
pub(crate) fn add_image(
    registry: &Registry,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> String {
    let manifest = manifest(registry, layers, "amd64");
    registry.add_manifest(repository, tag, manifest.as_bytes(), MANIFEST)
}

/// Stores blobs and returns the manifest that refers to them.
pub(crate) fn manifest(registry: &Registry, layers: &[Vec<u8>], architecture: &str) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|it| digest_of(it).to_string()).collect();
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let layers: Vec<_> = layers
        .iter()
        .map(|it| json!({"mediaType": LAYER, "digest": registry.add_blob(it), "size": it.len()}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers, "config":
        {"mediaType": CONFIG, "digest": registry.add_blob(config.as_bytes()), "size": config.len()}})
    .to_string()
}

/// Options under which a test ends soon.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.timeouts.stall = Duration::from_millis(400);
    options.timeouts.retry_after = Duration::from_secs(3);
    options
}

pub(crate) fn client() -> Client {
    Client::new(options()).unwrap()
}

pub(crate) fn source(text: &str) -> Source {
    text.parse().unwrap()
}

pub(crate) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// Resolves `name/image:1` at a registry.
pub(crate) fn resolve(client: &Client, registry: &Registry) -> Result<Image> {
    client.resolve(&source(&format!("{}/image:1", registry.name())), &amd64())
}

/// Reads a blob to its end.
pub(crate) fn read(
    client: &Client,
    image: &Image,
    blob: &Descriptor,
    offset: u64,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = client.blob(&image.source, blob, offset)?;
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

//! Pushing to a registry that breaks, and writing files that can be read again.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use oci_spec::image::Descriptor;
use registry::{
    Cause, Client, Copy, Error, Image, Progress, Push, Source, copy,
    fake::{Access, Kind, Registry},
};
use serde_json::json;
use support::*;

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("registry-push-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn image(layers: &[Vec<u8>]) -> (Registry, Client, Image) {
    let registry = Registry::start().unwrap();
    add_image(&registry, "image", "1", layers);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    (registry, client, image)
}

/// Pushes the image to `name` at another registry.
fn push(
    client: &Client,
    image: &Image,
    to: &Registry,
    name: &str,
) -> registry::Result<Vec<Progress>> {
    let told = Mutex::new(Vec::new());
    let blobs = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(client.blob(&image.source, blob, offset)?)
    };
    let progress = |_: &Descriptor, event: Progress| {
        if !matches!(event, Progress::Sent(_)) {
            told.lock().unwrap().push(event);
        }
    };
    let options = Push { progress: &progress, ..Push::new(&blobs) };
    let digest =
        client.push(&source(&format!("{}/{name}", to.name())), &image.manifest, &options)?;
    assert_eq!(digest, image.manifest.digest);
    Ok(told.into_inner().unwrap())
}

fn assert_has_all(registry: &Registry, image: &Image, name: &str) {
    let state = registry.state();
    let layers = image.layers.iter().map(|layer| &layer.descriptor);
    for blob in layers.chain([image.manifest.config()]) {
        let bytes = &state.blobs[&blob.digest().to_string()];
        assert_eq!(u64::try_from(bytes.len()).unwrap(), blob.size());
    }
    assert_eq!(state.manifests[name].0, image.manifest.bytes, "the same bytes");
}

#[test]
fn what_is_there_already_is_not_sent_again() {
    let (_from, client, image) = image(&[noise(1, 300_000), noise(2, 0), noise(3, 10)]);
    let to = Registry::start().unwrap();
    let told = push(&client, &image, &to, "copy:1").unwrap();
    assert_eq!(told, [Progress::Done; 4]);
    assert_has_all(&to, &image, "copy/1");
    let sent = to.count("POST", "/uploads/");
    assert_eq!(push(&client, &image, &to, "copy:2").unwrap(), [Progress::Exists; 4]);
    assert_eq!(to.count("POST", "/uploads/"), sent);
    assert_has_all(&to, &image, "copy/2");
}

#[test]
fn an_upload_that_breaks_continues_where_the_registry_says() {
    let (_from, client, image) = image(&[noise(1, 3_000_000)]);
    let to = Registry::start().unwrap();
    to.fault("PATCH", "/uploads/", 1, Kind::HangUp(1_000_000));
    push(&client, &image, &to, "copy:1").unwrap();
    assert_has_all(&to, &image, "copy/1");
    // The configuration may be the one that was hung up on; one of the two was asked about.
    assert!(to.count("GET", "/uploads/") >= 1);
}

#[test]
fn an_upload_that_the_registry_has_forgotten_starts_again() {
    let (_from, client, image) = image(&[noise(1, 500_000)]);
    let to = Registry::start().unwrap();
    to.fault("PATCH", "/uploads/", 1, Kind::HangUp(1000));
    to.fault("GET", "/uploads/", 1, Kind::Status(404, None));
    push(&client, &image, &to, "copy:1").unwrap();
    assert_has_all(&to, &image, "copy/1");
}

#[test]
fn tokens_may_expire_at_any_point_of_a_push() {
    let (_from, client, image) = image(&[noise(1, 100_000), noise(2, 100_000), noise(3, 100_000)]);
    for requests in 1..6 {
        let to = Registry::start().unwrap();
        to.state().access = Access::Token { requests };
        let blobs = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>, Cause> {
            Ok(client.blob(&image.source, blob, offset)?)
        };
        // One at a time: real tokens end with time, and are not used up by each other's requests.
        let options = Push { parallel: 1, ..Push::new(&blobs) };
        let name = source(&format!("{}/copy:1", to.name()));
        client.push(&name, &image.manifest, &options).unwrap();
        assert_has_all(&to, &image, "copy/1");
    }
}

#[test]
fn large_blobs_go_in_pieces_when_asked_to() {
    let (_from, client, image) = image(&[noise(1, 1000)]);
    let to = Registry::start().unwrap();
    let blobs = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(client.blob(&image.source, blob, offset)?)
    };
    let options = Push { chunk: Some(300), ..Push::new(&blobs) };
    client.push(&source(&format!("{}/copy:1", to.name())), &image.manifest, &options).unwrap();
    assert_has_all(&to, &image, "copy/1");
    assert!(to.count("PATCH", "/uploads/") >= 5, "four for the layer, one for the configuration");
}

#[test]
fn a_busy_registry_is_asked_again_and_a_refusing_one_is_not() {
    let (_from, client, image) = image(&[noise(1, 1000)]);
    let to = Registry::start().unwrap();
    to.fault("POST", "/uploads/", 1, Kind::Status(503, Some(("Retry-After", "1".into()))));
    to.fault("PUT", "/manifests/", 1, Kind::Status(429, Some(("Retry-After", "1".into()))));
    push(&client, &image, &to, "copy:1").unwrap();
    assert_has_all(&to, &image, "copy/1");
    let strict = Registry::start().unwrap();
    strict.fault("PUT", "/uploads/", 99, Kind::Status(400, None));
    assert!(matches!(push(&client, &image, &strict, "copy:1"), Err(Error::Status { .. })));
    assert!(!strict.state().manifests.contains_key("copy/1"), "no manifest without its blobs");
}

#[test]
fn blobs_of_a_neighbour_are_mounted() {
    let (registry, client, image) = image(&[noise(1, 1000)]);
    let (from, to) = (image.source.clone(), source(&format!("{}/other:1", registry.name())));
    // The fake has one pool of blobs; a real registry answers 404 for a repository without them.
    registry.fault("HEAD", "/v2/other/blobs/", 99, Kind::Status(404, None));
    copy((&client, &from), (&client, &to), &Copy::default()).unwrap();
    assert_eq!(registry.count("PATCH", ""), 0);
    assert!(registry.state().seen.iter().any(|it| it.query.contains("from=image")));
    assert_has_all(&registry, &image, "other/1");
}

#[test]
fn files_of_every_layout_hold_the_image() {
    let (_from, client, image) = image(&[noise(1, 5000), noise(2, 100)]);
    let scratch = Scratch::new();
    for (transport, keeps_digest) in [
        ("oci:DIR:v1", true),
        ("oci-archive:FILE1:v1", true),
        ("dir:PLAIN", true),
        ("docker-archive:FILE2:example.com/x:1", false),
    ] {
        let (kind, rest) = transport.split_once(':').unwrap();
        let to = source(&format!("{kind}:{}", scratch.join(rest)));
        copy((&client, &image.source), (&client, &to), &Copy::default()).unwrap();
        let found = client.resolve(&to, &amd64()).unwrap();
        assert_eq!(found.manifest.digest == image.manifest.digest, keeps_digest, "{transport}");
        assert_eq!(found.config.bytes, image.config.bytes);
        for (ours, theirs) in found.layers.iter().zip(&image.layers) {
            let ours = read(&client, &found, &ours.descriptor, 7).unwrap();
            assert_eq!(ours, read(&client, &image, &theirs.descriptor, 7).unwrap());
        }
    }
    let names: Vec<_> =
        fs::read_dir(&scratch.0).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "nothing half-made is left: {names:?}");
}

#[test]
fn a_compressed_archive_is_read_like_any_other() {
    let (_from, client, image) = image(&[noise(1, 5000)]);
    let scratch = Scratch::new();
    let to = source(&format!("docker-archive:{}", scratch.join("plain.tar")));
    copy((&client, &image.source), (&client, &to), &Copy::default()).unwrap();
    let file = fs::File::create_new(scratch.join("packed.tar.gz")).unwrap();
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packer.write_all(&fs::read(scratch.join("plain.tar")).unwrap()).unwrap();
    packer.finish().unwrap();
    let packed = source(&format!("docker-archive:{}", scratch.join("packed.tar.gz")));
    let found = client.resolve(&packed, &amd64()).unwrap();
    assert_eq!(found.config.bytes, image.config.bytes);
    assert_eq!(read(&client, &found, &found.layers[0].descriptor, 0).unwrap(), noise(1, 5000));
}

#[test]
fn a_layout_keeps_its_other_images() {
    let (registry, client, _) = image(&[noise(1, 50)]);
    add_image(&registry, "image", "2", &[noise(9, 60)]);
    let scratch = Scratch::new();
    for tag in ["1", "2", "1"] {
        let from = source(&format!("{}/image:{tag}", registry.name()));
        let to = source(&format!("oci:{}:{tag}", scratch.join("layout")));
        copy((&client, &from), (&client, &to), &Copy::default()).unwrap();
    }
    let index = fs::read_to_string(scratch.join("layout/index.json")).unwrap();
    assert_eq!(index.matches("ref.name").count(), 2, "{index}");
    let both = source(&format!("oci:{}", scratch.join("layout")));
    assert!(matches!(client.resolve(&both, &amd64()), Err(Error::UnknownTag { .. })));
}

#[test]
fn a_damaged_blob_never_gets_its_name() {
    let (registry, client, image) = image(&[noise(1, 5000)]);
    let scratch = Scratch::new();
    for kind in ["oci", "oci-archive", "docker-archive", "dir"] {
        registry.fault("GET", "/blobs/", 1, Kind::Flip(3));
        let path = scratch.join(kind);
        let to = source(&format!("{kind}:{path}"));
        let error = copy((&client, &image.source), (&client, &to), &Copy::default()).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{kind}: {error}");
        assert!(client.resolve(&to, &amd64()).is_err(), "{kind}");
    }
    let layer = image.layers[0].descriptor.digest().digest().to_owned();
    assert!(fs::metadata(scratch.0.join("oci/blobs/sha256").join(&layer)).is_err());
    assert!(fs::metadata(scratch.0.join("oci-archive")).is_err());
}

#[test]
fn an_index_is_copied_with_everything_below() {
    let registry = Registry::start().unwrap();
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let manifest = manifest(&registry, &[noise(5, 10)], architecture);
        let digest = registry.add_manifest("image", architecture, manifest.as_bytes(), MANIFEST);
        entries.push(json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = registry.add_manifest("image", "1", index.as_bytes(), INDEX);
    let from = source(&format!("{}/image:1", registry.name()));
    let client = client();
    let scratch = Scratch::new();
    let to = Registry::start().unwrap();
    let there = source(&format!("{}/copy:1", to.name()));
    let layout = source(&format!("oci:{}:x", scratch.join("layout")));
    let plain = source(&format!("dir:{}", scratch.join("plain")));
    for (from, to) in [(&from, &there), (&there, &layout), (&layout, &plain)] {
        let copied = copy((&client, from), (&client, to), &Copy::default()).unwrap();
        assert_eq!(copied.to_string(), digest);
        let image = client.resolve(to, &"linux/arm64".parse().unwrap()).unwrap();
        assert_eq!(image.digest.to_string(), digest);
        assert_eq!(image.config.architecture().to_string(), "arm64");
    }
    let one = Copy { platform: Some(amd64()), ..Copy::default() };
    let to: Source = source(&format!("docker-archive:{}:one", scratch.join("one.tar")));
    copy((&client, &from), (&client, &to), &one).unwrap();
    assert!(client.resolve(&to, &amd64()).is_ok());
}

//! The protocol of 2013, both ways.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{fs, io::Read};

use oci_spec::image::Descriptor;
use registry::{
    Cause, Client, Copy, Error, Image, Progress, Protocol, Push, Source, copy,
    fake::{Registry, V1Registry},
};
use support::*;

/// A tar with one file.
fn layer(name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
    builder.into_inner().unwrap()
}

fn push(client: &Client, image: &Image, to: &Source) -> usize {
    let sent = std::sync::atomic::AtomicUsize::new(0);
    let blobs = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(client.blob(&image.source, blob, offset)?)
    };
    let progress = |_: &Descriptor, event: Progress| {
        if event == Progress::Done {
            sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let options = Push { progress: &progress, ..Push::new(&blobs) };
    client.push(to, &image.manifest, &options).unwrap();
    sent.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn an_image_survives_the_way_to_a_v1_registry_and_back() {
    let origin = Registry::start().unwrap();
    let layers = [layer("a"), layer("b"), layer("c")];
    add_image(&origin, "image", "1", &layers);
    let old = V1Registry::start().unwrap();
    let there = source(&format!("{}/team/old:x", old.name()));
    let scratch = std::env::temp_dir().join(format!("registry-v1-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    for protocol in [Protocol::Any, Protocol::V1] {
        let mut options = options();
        (options.protocol, options.scratch) = (protocol, scratch.clone());
        let client = Client::new(options).unwrap();
        let from = source(&format!("{}/image:1", origin.name()));
        let image = support::client().resolve(&from, &amd64()).unwrap();
        let sent = push(&client, &image, &there);
        assert_eq!(sent, if protocol == Protocol::Any { 3 } else { 0 }, "known layers stay");
        assert_eq!(old.state().checked.len(), 3);

        old.state().cuts = 1;
        let image = client.resolve(&there, &amd64()).unwrap();
        let command = image.config.config().as_ref().unwrap().cmd().clone();
        assert_eq!(command.as_deref().unwrap(), ["sh"]);
        for (found, bytes) in image.layers.iter().zip(&layers) {
            assert_eq!(&read(&client, &image, &found.descriptor, 0).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1);
        drop(client);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing stays in the scratch");
    }

    let mut options = options();
    options.scratch = scratch.clone();
    let client = Client::new(options).unwrap();
    // From the old world into the new one, and from one old registry to another.
    let new = source(&format!("{}/new:1", origin.name()));
    copy((&client, &there), (&client, &new), &Copy::default()).unwrap();
    assert_eq!(support::client().resolve(&new, &amd64()).unwrap().layers.len(), 3);
    let other = V1Registry::start().unwrap();
    let across = source(&format!("{}/team/other:x", other.name()));
    copy((&client, &there), (&client, &across), &Copy::default()).unwrap();
    assert_eq!(other.state().checked.len(), 3);
    drop(client);
    let mut options = support::options();
    options.scratch = scratch.clone();
    let client = Client::new(options).unwrap();
    let ask = |name: &str| {
        let source = source(&format!("{}/{name}", old.name()));
        client.resolve(&source, &amd64()).unwrap_err()
    };
    assert!(matches!(ask("team/old:y"), Error::UnknownTag { .. }));
    assert!(matches!(ask("team/none:y"), Error::UnknownName { .. }));

    // A layer that is not what its checksum says.
    let id = old.state().checked.keys().next().unwrap().clone();
    old.state().layers.get_mut(&id).unwrap()[0] ^= 1;
    assert!(matches!(ask("team/old:x"), Error::DigestMismatch { .. }));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    fs::remove_dir_all(scratch).unwrap();
}

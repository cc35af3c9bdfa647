//! The protocol of 2013, both ways.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{cell::Cell, fs};

use registry::{
    Error,
    fake::{Registry, V1Registry},
    v1,
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

#[test]
fn an_image_survives_the_way_to_a_v1_registry_and_back() {
    let origin = Registry::start().unwrap();
    let layers = [layer("a"), layer("b"), layer("c")];
    add_image(&origin, "image", "1", &layers);
    let from = source(&format!("{}/image:1", origin.name()));
    let old = V1Registry::start().unwrap();
    let name = format!("{}/team/old:x", old.name()).parse().unwrap();
    let client = client();
    let moved = Cell::new(0);
    v1::push(&client, &from, &amd64(), &name, &|_, _| moved.set(moved.get() + 1)).unwrap();
    assert_eq!(old.state().checked.len(), 3);
    assert!(moved.get() >= 3);

    let uploads = || old.state().seen.iter().filter(|it| it.ends_with("/layer")).count();
    let before = uploads();
    v1::push(&client, &from, &amd64(), &name, &|_, _| {}).unwrap();
    assert_eq!(uploads(), before, "known layers are not sent again");

    let directory = std::env::temp_dir().join(format!("registry-v1-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    old.state().cuts = 1;
    let layout = v1::pull(&client, &name, &directory, &|_, _| {}).unwrap();
    let image = client.resolve(&layout, &amd64()).unwrap();
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref().unwrap(), ["sh"]);
    for (found, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &found.descriptor, 0).unwrap(), bytes);
    }
    assert!(
        fs::read_dir(&directory)
            .unwrap()
            .all(|it| { !it.unwrap().file_name().to_string_lossy().contains("partial") })
    );

    // A layer that is not what its checksum says.
    let id = old.state().checked.keys().next().unwrap().clone();
    old.state().layers.get_mut(&id).unwrap()[0] ^= 1;
    let error = v1::pull(&client, &name, &directory, &|_, _| {}).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");

    let unknown = format!("{}/team/old:y", old.name()).parse().unwrap();
    let error = v1::pull(&client, &unknown, &directory, &|_, _| {}).unwrap_err();
    assert!(matches!(error, Error::UnknownTag { .. }), "{error}");
    let nothing = format!("{}/team/none:y", old.name()).parse().unwrap();
    let error = v1::pull(&client, &nothing, &directory, &|_, _| {}).unwrap_err();
    assert!(matches!(error, Error::UnknownName { .. }), "{error}");
    fs::remove_dir_all(directory).unwrap();
}

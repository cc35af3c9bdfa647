//! Documents and files that somebody made to harm us: refused, and nothing else happens.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use registry::{
    Error, Image, Result,
    fake::{Kind, Registry},
};
use serde_json::{Value, json};
use support::*;

/// What becomes of an image whose good manifest was changed.
fn changed(change: impl Fn(&mut Value)) -> Result<Image> {
    let registry = Registry::start().unwrap();
    let mut value: Value =
        serde_json::from_str(&manifest(&registry, &[noise(1, 10)], "amd64")).unwrap();
    change(&mut value);
    registry.add_manifest("image", "1", value.to_string().as_bytes(), MANIFEST);
    resolve(&client(), &registry)
}

#[test]
fn the_unchanged_manifest_is_good() {
    changed(|_| {}).unwrap();
}

#[test]
fn malformed_descriptors_are_refused() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (pointer, value) in [
        ("/layers/0/digest", json!("sha256:../../../etc/passwd")),
        ("/layers/0/digest", json!(digest.to_uppercase())),
        ("/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e")),
        ("/layers/0/digest", json!("sha256:abc")),
        ("/layers/0/digest", json!(17)),
        ("/layers/0/size", json!(-1)),
        ("/layers/0/size", json!(1.5)),
        ("/layers/0/size", json!("10")),
        ("/config/size", json!(9 << 20)),
        ("/config/size", json!(1)),
        ("/config/digest", json!(digest)),
        ("/config/mediaType", json!("application/vnd.cncf.helm.config.v1+json")),
        ("/schemaVersion", json!(3)),
        ("/mediaType", json!("application/vnd.docker.distribution.manifest.v2+json")),
        ("/layers", json!([])),
        ("/layers", json!({})),
    ] {
        let result = changed(|document| *document.pointer_mut(pointer).unwrap() = value.clone());
        assert!(result.is_err(), "{pointer} = {value}");
    }
}

#[test]
fn a_manifest_that_is_also_an_index_is_refused() {
    let error = changed(|document| document["manifests"] = json!([])).unwrap_err();
    assert!(matches!(error, Error::Document { .. }), "{error}");
}

#[test]
fn a_key_that_appears_twice_is_refused() {
    let registry = Registry::start().unwrap();
    let text = manifest(&registry, &[noise(1, 10)], "amd64");
    let twice = text.replacen('{', r#"{"schemaVersion":2,"#, 1);
    registry.add_manifest("image", "1", twice.as_bytes(), MANIFEST);
    assert!(resolve(&client(), &registry).is_err());
}

#[test]
fn a_thousand_layers_are_the_limit() {
    for (count, fits) in [(1000, true), (1001, false)] {
        let registry = Registry::start().unwrap();
        let layers = vec![Vec::new(); count];
        add_image(&registry, "image", "1", &layers);
        assert_eq!(resolve(&client(), &registry).is_ok(), fits, "{count}");
    }
}

#[test]
fn four_nested_indexes_are_the_limit() {
    for (depth, fits) in [(4, true), (5, false)] {
        let registry = Registry::start().unwrap();
        let mut document = manifest(&registry, &[noise(1, 10)], "amd64");
        let mut media_type = MANIFEST;
        for level in 0..depth {
            let digest = registry.add_manifest(
                "image",
                &format!("l{level}"),
                document.as_bytes(),
                media_type,
            );
            document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
                {"mediaType": media_type, "digest": digest, "size": document.len()}]})
            .to_string();
            media_type = INDEX;
        }
        registry.add_manifest("image", "1", document.as_bytes(), media_type);
        assert_eq!(resolve(&client(), &registry).is_ok(), fits, "{depth}");
    }
}

#[test]
fn sixty_five_thousand_entries_are_the_limit_of_an_index() {
    for (count, fits) in [(65_536, true), (65_537, false)] {
        let registry = Registry::start().unwrap();
        let text = manifest(&registry, &[noise(1, 10)], "amd64");
        let digest = registry.add_manifest("image", "amd64", text.as_bytes(), MANIFEST);
        // As short as entries can be, or eight mebibytes would be the limit that counts.
        let entry =
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{}}}"#, text.len());
        let short = r#"{"mediaType":"a/b","size":1,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
        let entries = format!("{entry}{}", format!(",{short}").repeat(count - 1));
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#);
        assert!(index.len() <= 8 << 20, "{}", index.len());
        registry.add_manifest("image", "1", index.as_bytes(), INDEX);
        assert_eq!(resolve(&client(), &registry).is_ok(), fits, "{count}");
    }
}

/// Five redirects, five more attempts: the limits of section 6, at the limit and beyond.
#[test]
fn redirects_and_retries_are_counted() {
    for (hops, fits) in [(5, true), (6, false)] {
        let registry = Registry::start().unwrap();
        add_image(&registry, "image", "1", &[noise(1, 10)]);
        let location = Some(("Location", "/v2/image/manifests/1".to_owned()));
        registry.fault("GET", "/manifests/", hops, Kind::Status(307, location));
        assert_eq!(resolve(&client(), &registry).is_ok(), fits, "{hops} redirects");
    }
    for (failures, fits) in [(5, true), (6, false)] {
        let registry = Registry::start().unwrap();
        add_image(&registry, "image", "1", &[noise(1, 10)]);
        let soon = Some(("Retry-After", "0".to_owned()));
        registry.fault("GET", "/manifests/", failures, Kind::Status(503, soon));
        let mut options = options();
        options.retries = registry::Options::default().retries;
        let client = registry::Client::new(options).unwrap();
        assert_eq!(resolve(&client, &registry).is_ok(), fits, "{failures} failures");
    }
}

/// A flood of headers ends in an error, not in memory.
#[test]
fn a_flood_of_headers_is_refused() {
    let registry = Registry::start().unwrap();
    add_image(&registry, "image", "1", &[noise(1, 10)]);
    let flood = Some(("X-Flood", "x".repeat(1 << 20)));
    registry.fault("GET", "/manifests/", 99, Kind::Status(200, flood));
    assert!(resolve(&client(), &registry).is_err());
}

#[test]
fn what_a_registry_says_cannot_steer_the_terminal() {
    let error =
        changed(|document| document["config"]["mediaType"] = json!("\u{1b}[2Jx")).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    let error = changed(|document| document["layers"] = json!("\u{1b}]0;x\u{7}")).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
}

/// A layout in a scratch directory, whose only layer was replaced.
fn layout(replace: impl Fn(&PathBuf)) -> (registry::Client, Result<Image>, PathBuf) {
    use registry::{Copy, copy};
    let registry = Registry::start().unwrap();
    let bytes = noise(1, 10);
    add_image(&registry, "image", "1", std::slice::from_ref(&bytes));
    let client = client();
    let from = source(&format!("{}/image:1", registry.name()));
    let directory = std::env::temp_dir().join(format!(
        "registry-hostile-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let to = source(&format!("oci:{}", directory.display()));
    copy((&client, &from), (&client, &to), &Copy::default()).unwrap();
    let layer = registry::digest_of(&bytes);
    let path = directory.join("blobs/sha256").join(layer.digest());
    fs::remove_file(&path).unwrap();
    replace(&path);
    let image = client.resolve(&to, &amd64());
    (client, image, directory)
}

#[test]
fn a_blob_that_is_a_link_or_no_file_is_not_opened() {
    let secret: fn(&PathBuf) = |path| symlink("/etc/hostname", path).unwrap();
    let directory: fn(&PathBuf) = |path| fs::create_dir(path).unwrap();
    let short: fn(&PathBuf) = |path| fs::write(path, b"short").unwrap();
    let device: fn(&PathBuf) = |path| symlink("/dev/zero", path).unwrap();
    for replace in [secret, directory, short, device] {
        let (client, image, directory) = layout(replace);
        let image = image.unwrap();
        assert!(client.blob(&image.source, &image.layers[0].descriptor, 0).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}

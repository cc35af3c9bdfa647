//! Pulling from a registry that is slow, broken, strict or malicious.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::time::{Duration, Instant};

use registry::{
    Client, Error,
    credentials::Login,
    digest_of,
    fake::{Access, Kind, Registry},
};
use serde_json::json;
use support::*;

fn one_layer(length: usize) -> (Registry, Vec<u8>) {
    let registry = Registry::start().unwrap();
    let layer = noise(1, length);
    add_image(&registry, "image", "1", std::slice::from_ref(&layer));
    (registry, layer)
}

/// Pulls the only layer while `fault` happens; returns what arrived.
fn pull_with(fault: Kind, times: u32) -> (std::io::Result<Vec<u8>>, Registry, Vec<u8>) {
    let (registry, layer) = one_layer(300_000);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    let path: &'static str = Box::leak(image.layers[0].descriptor.digest().to_string().into());
    registry.fault("GET", path, times, fault);
    let result = read(&client, &image, &image.layers[0].descriptor, 0);
    (result, registry, layer)
}

fn cause(error: std::io::Error) -> Error {
    error.downcast().unwrap()
}

#[test]
fn an_image_is_described_and_its_layers_can_be_read() {
    let registry = Registry::start().unwrap();
    let layers = [noise(1, 10), noise(2, 0), noise(3, 100_000)];
    let digest = add_image(&registry, "image", "1", &layers);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    assert_eq!(image.digest.to_string(), digest);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref().unwrap(), ["sh"]);
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &layer.descriptor, 0).unwrap(), bytes);
        assert_eq!(layer.diff_id.as_ref().unwrap(), &digest_of(bytes));
    }
}

#[test]
fn a_partial_blob_is_continued_by_range() {
    let (registry, layer) = one_layer(1000);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    let blob = &image.layers[0].descriptor;
    assert_eq!(read(&client, &image, blob, 400).unwrap(), &layer[400..]);
    assert_eq!(registry.state().seen.last().unwrap().range.as_deref(), Some("bytes=400-"));
    assert_eq!(read(&client, &image, blob, 1000).unwrap(), b"");
    assert!(read(&client, &image, blob, 1001).is_err());
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let (result, registry, layer) = pull_with(Kind::Cut(100_000), 2);
    assert_eq!(result.unwrap(), layer);
    let ranges: Vec<_> = registry.state().seen.iter().filter_map(|it| it.range.clone()).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[test]
fn a_connection_that_says_nothing_is_given_up_and_resumed() {
    let (result, _, layer) = pull_with(Kind::Stall(1000, Duration::from_secs(5)), 1);
    assert_eq!(result.unwrap(), layer);
}

#[test]
fn a_slow_connection_is_not_a_dead_one() {
    let (registry, layer) = one_layer(60);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    registry.fault("GET", "/blobs/", 1, Kind::Trickle(Duration::from_millis(10)));
    assert_eq!(read(&client, &image, &image.layers[0].descriptor, 0).unwrap(), layer);
    assert_eq!(registry.count("GET", "/blobs/"), 2, "configuration and layer, once each");
}

#[test]
fn a_registry_without_ranges_starts_from_zero_and_that_is_noticed() {
    let (registry, layer) = one_layer(300_000);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    registry.fault("GET", "/blobs/", 1, Kind::Cut(123_456));
    registry.fault("GET", "/blobs/", 1, Kind::WholeBody);
    assert_eq!(read(&client, &image, &image.layers[0].descriptor, 0).unwrap(), layer);
}

#[test]
fn another_range_than_the_one_asked_for_is_refused() {
    let (registry, _) = one_layer(1000);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    registry.fault("GET", "/blobs/", 1, Kind::OtherRange);
    let error = read(&client, &image, &image.layers[0].descriptor, 10).unwrap_err();
    assert!(matches!(cause(error), Error::Document { .. }));
}

#[test]
fn a_wrong_length_is_refused_before_any_byte() {
    for more in [1, -1] {
        let (result, ..) = pull_with(Kind::Length(more), 9);
        assert!(matches!(cause(result.unwrap_err()), Error::SizeMismatch { .. }), "{more}");
    }
}

#[test]
fn a_registry_that_is_down_for_a_moment_is_asked_again() {
    let (registry, layer) = one_layer(1000);
    let client = client();
    registry.fault("GET", "/manifests/", 1, Kind::Status(503, Some(("Retry-After", "1".into()))));
    registry.fault("GET", "/blobs/", 2, Kind::Status(500, None));
    let started = Instant::now();
    let image = resolve(&client, &registry).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
    assert_eq!(read(&client, &image, &image.layers[0].descriptor, 0).unwrap(), layer);
}

#[test]
fn a_limit_without_an_end_in_sight_is_reported_at_once() {
    for retry_after in [None, Some(("Retry-After", "86400".to_owned()))] {
        let (registry, _) = one_layer(10);
        registry.fault("GET", "/manifests/", 99, Kind::Status(429, retry_after));
        let started = Instant::now();
        let error = resolve(&client(), &registry).unwrap_err();
        assert!(matches!(error, Error::RateLimited { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let registry = Registry::start().unwrap();
    let layers: Vec<Vec<u8>> = (0..6).map(|seed| noise(seed, 1000)).collect();
    add_image(&registry, "image", "1", &layers);
    registry.state().access = Access::Token { requests: 3 };
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &layer.descriptor, 0).unwrap(), bytes);
    }
    assert_eq!(registry.count("GET", "/token"), 3);
    // One probe; the first manifest without a token; two refused tokens.
    let asked = registry.count("GET", "/v2/");
    assert_eq!(asked, 1 + 1 + 8 + 2, "each refusal costs one request");
}

#[test]
fn a_token_that_is_never_good_enough_ends_in_an_error() {
    let (registry, _) = one_layer(10);
    registry.state().access = Access::Token { requests: 0 };
    assert!(resolve(&client(), &registry).is_err());
    assert_eq!(registry.count("GET", "/token"), 1);
}

#[test]
fn passwords_are_checked_and_used() {
    let (registry, _) = one_layer(10);
    registry.state().access = Access::Basic("user".into(), "secret".into());
    let with = |login: Option<&str>| {
        let mut options = options();
        options.credentials.given = login.map(|it| it.parse::<Login>().unwrap());
        Client::new(options).unwrap()
    };
    let refused = |client: &Client| match resolve(client, &registry).unwrap_err() {
        Error::Unauthorized { with_credentials, .. } => with_credentials,
        other => panic!("{other}"),
    };
    assert!(!refused(&with(None)));
    assert!(refused(&with(Some("user:wrong"))));
    resolve(&with(Some("user:secret")), &registry).unwrap();
    let login = "user:secret".parse().unwrap();
    assert!(client().check_login(&registry.name(), &login).unwrap());
    let wrong = "user:wrong".parse().unwrap();
    assert!(client().check_login(&registry.name(), &wrong).is_err());
}

#[test]
fn a_password_never_follows_a_redirect_to_another_origin() {
    let (registry, layer) = one_layer(1000);
    registry.state().access = Access::Basic("user".into(), "secret".into());
    let elsewhere = Registry::start().unwrap();
    let digest = elsewhere.add_blob(&layer);
    let mut options = options();
    options.credentials.given = Some("user:secret".parse().unwrap());
    let client = Client::new(options).unwrap();
    let image = resolve(&client, &registry).unwrap();
    let target = format!("http://{}/v2/image/blobs/{digest}", elsewhere.name());
    registry.fault("GET", "/blobs/", 1, Kind::Status(307, Some(("Location", target))));
    assert_eq!(read(&client, &image, &image.layers[0].descriptor, 0).unwrap(), layer);
    let seen = elsewhere.state().seen.clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].authorization, None);
    assert!(registry.state().seen.iter().any(|it| it.authorization.is_some()));
}

#[test]
fn redirects_in_circles_and_to_files_are_refused() {
    for (times, target) in
        [(99, "/v2/image/manifests/1"), (1, "file:///etc/passwd"), (1, "http://")]
    {
        let (registry, _) = one_layer(10);
        let location = Some(("Location", target.to_owned()));
        registry.fault("GET", "/manifests/", times, Kind::Status(302, location));
        let error = resolve(&client(), &registry).unwrap_err();
        assert!(matches!(error, Error::Elsewhere { .. }), "{error}");
        assert!(registry.count("GET", "/manifests/") <= 6);
    }
}

#[test]
fn unknown_names_and_tags_are_told_apart() {
    let (registry, _) = one_layer(10);
    let ask = |name: &str| {
        let source = source(&format!("{}/{name}", registry.name()));
        client().resolve(&source, &amd64()).unwrap_err()
    };
    assert!(matches!(ask("nothing:1"), Error::UnknownName { .. }));
    match ask("image:2") {
        Error::UnknownTag { nearest, .. } => assert_eq!(nearest, ["1"]),
        other => panic!("{other}"),
    }
    let missing = format!("image@{}", digest_of(b"nothing"));
    assert!(matches!(ask(&missing), Error::UnknownName { .. }));
}

#[test]
fn a_changed_manifest_or_configuration_is_noticed() {
    let (registry, _) = one_layer(10);
    let digest =
        registry.state().manifests.keys().find(|it| it.contains("sha256")).unwrap().clone();
    let digest = digest.rsplit_once('/').unwrap().1.to_owned();
    let by_digest = source(&format!("{}/image@{digest}", registry.name()));
    assert!(client().resolve(&by_digest, &amd64()).is_ok());
    // Inside the media type of the layer, so that the document stays readable.
    registry.fault("GET", "/manifests/", 1, Kind::Flip(200));
    assert!(client().resolve(&by_digest, &amd64()).is_err());
    registry.fault("GET", "/blobs/", 1, Kind::Flip(20));
    let error = resolve(&client(), &registry).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn documents_of_eight_mebibytes_are_the_limit() {
    let (registry, _) = one_layer(10);
    let plain = manifest(&registry, &[noise(1, 10)], "amd64");
    let limit = 8 << 20;
    for (length, fits) in [(limit, true), (limit + 1, false)] {
        let padded = format!("{plain}{}", " ".repeat(length - plain.len()));
        registry.add_manifest("image", "1", padded.as_bytes(), MANIFEST);
        let result = resolve(&client(), &registry);
        assert_eq!(result.is_ok(), fits, "{length}");
    }
}

#[test]
fn the_variant_for_the_platform_is_chosen_from_an_index() {
    let registry = Registry::start().unwrap();
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let manifest = manifest(&registry, &[noise(1, 10)], architecture);
        let digest = registry.add_manifest("image", architecture, manifest.as_bytes(), MANIFEST);
        entries.push(json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = registry.add_manifest("image", "1", index.as_bytes(), INDEX);
    let image = resolve(&client(), &registry).unwrap();
    assert_eq!(image.digest.to_string(), digest, "the name stands for the index");
    assert_eq!(image.config.architecture().to_string(), "amd64");
    assert!(image.index.is_some());
    let name = source(&format!("{}/image:1", registry.name()));
    let error = client().resolve(&name, &"linux/s390x".parse().unwrap()).unwrap_err();
    assert!(error.hint().unwrap().contains("linux/arm64"));

    // An entry that lies about the size of what it leads to.
    let lying = index.replacen("\"size\":", "\"size\":1", 2);
    registry.add_manifest("image", "1", lying.as_bytes(), INDEX);
    assert!(resolve(&client(), &registry).is_err());
}

#[test]
fn mirrors_are_asked_first_without_the_users_password() {
    let (registry, layer) = one_layer(1000);
    registry.state().access = Access::Basic("user".into(), "secret".into());
    let mirror = Registry::start().unwrap();
    let directory = std::env::temp_dir().join(format!("registry-mirror-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("registries.conf");
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        registry.name(),
        mirror.name()
    );
    std::fs::write(&file, text).unwrap();
    let client = || {
        let mut options = options();
        options.registries.files = vec![file.clone()];
        options.credentials.given = Some("user:secret".parse().unwrap());
        Client::new(options).unwrap()
    };
    // The mirror has nothing yet: the registry itself is asked.
    resolve(&client(), &registry).unwrap();
    assert!(mirror.count("GET", "/manifests/") > 0);
    assert!(registry.count("GET", "/manifests/") > 0);

    add_image(&mirror, "image", "1", std::slice::from_ref(&layer));
    let before = registry.state().seen.len();
    let asking = client();
    let image = resolve(&asking, &registry).unwrap();
    assert_eq!(read(&asking, &image, &image.layers[0].descriptor, 0).unwrap(), layer);
    assert_eq!(registry.state().seen.len(), before, "the mirror had everything");
    assert!(mirror.state().seen.iter().all(|it| it.authorization.is_none()));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn tags_come_from_all_pages() {
    let registry = Registry::start().unwrap();
    for tag in ["a", "b", "c"] {
        add_image(&registry, "image", tag, &[noise(1, 10)]);
    }
    let name = format!("{}/image", registry.name()).parse().unwrap();
    assert_eq!(client().tags(&name).unwrap(), ["a", "b", "c"]);
}

#[test]
fn an_image_of_2015_is_read_like_any_other() {
    let registry = Registry::start().unwrap();
    let layers = [noise(1, 500), noise(2, 700)];
    let digests: Vec<String> = layers.iter().map(|it| registry.add_blob(it)).collect();
    let history = |text: &str| json!({"v1Compatibility": text});
    let manifest = json!({"schemaVersion": 1, "name": "image", "tag": "1", "architecture": "amd64",
        "fsLayers": [{"blobSum": digests[1]}, {"blobSum": digests[0]}],
        "history": [history(r#"{"id":"b","parent":"a","os":"linux","config":{"Cmd":["bash"]}}"#),
            history(r#"{"id":"a"}"#)]})
    .to_string();
    let schema1 = "application/vnd.docker.distribution.manifest.v1+json";
    registry.add_manifest("image", "1", manifest.as_bytes(), schema1);
    let client = client();
    let image = resolve(&client, &registry).unwrap();
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &layer.descriptor, 0).unwrap(), bytes);
        assert_eq!(layer.diff_id.as_ref().unwrap(), &digest_of(bytes));
    }
    assert_eq!(image.digest, digest_of(manifest.as_bytes()), "as the registry calls it");
    assert_eq!(image.manifest.config().digest(), &digest_of(&image.config.bytes));
}

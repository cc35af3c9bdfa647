//! The threat model's classes, by effect: archives that try to escape, documents that lie, names that
//! are paths. The canary is a directory beside the store whose content, inodes and times may not change.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use integration::{
    Built, Canary, Compression, Finished, Image, Layer, TestEnv, gzip,
    http::{Response, Server},
    images, sha256,
    tar::{self, Entry},
};
use serde_json::{Value, json};

/// Pulls an image whose upper layers are these, then starts something in it.
fn pull(env: &TestEnv, tag: &str, layers: &[Vec<Entry>]) -> Finished {
    let mut image = images::busybox();
    image.layers.extend(layers.iter().map(|layer| Layer::of(layer)));
    pull_image(env, tag, &image.build())
}

fn pull_image(env: &TestEnv, tag: &str, image: &Built) -> Finished {
    let name = images::registry().push(&format!("security/{}:{tag}", env.token()), image);
    let pull = env.command(["pull", "-q", &name]).limit(Duration::from_secs(120)).run();
    if pull.status.success() {
        let run = ["run", "--rm", "--network", "none", &name, "true"];
        env.command(run).limit(Duration::from_secs(60)).run();
    }
    orderly(pull)
}

/// S7: success, or one line and a status. No panic, no signal, no hang.
#[track_caller]
fn orderly(run: Finished) -> Finished {
    if run.status.success() && !run.late { run } else { run.failure().one_clear_line() }
}

/// Names that lead out, each in a layer of its own: refused, or kept inside.
#[test]
fn names_cannot_lead_out() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let target = canary.path("file");
    let up = format!("{}{}", "../".repeat(20), target.trim_start_matches('/'));
    let long = format!("{}{up}", "x/../".repeat(60));
    let names = [
        target.clone(),
        up.clone(),
        format!("a/b/{up}"),
        format!("./{up}"),
        long,
        format!("//{up}"),
    ];
    for (number, name) in names.iter().enumerate() {
        for (way, entry) in [
            ("ustar", Entry::file(name, "escaped")),
            ("gnu", Entry::file(name, "escaped").gnu()),
            ("pax", Entry::file("innocent", "escaped").pax("path", name.as_str())),
            ("directory", Entry::directory(name).mode(0)),
            ("symlink", Entry::symlink(name, "/etc/passwd")),
            ("fifo", Entry::fifo(name)),
            ("whiteout", Entry::whiteout(name)),
            ("opaque", Entry::opaque(name)),
        ] {
            pull(&env, &format!("names-{way}-{number}"), &[vec![entry]]);
            canary.sings();
        }
    }
    // The old header's prefix field, and a sparse file's own name.
    let prefixed =
        Entry::file("file", "escaped").patch(345, format!("{}\0", canary.directory().display()));
    pull(&env, "names-prefix", &[vec![prefixed]]);
    pull(&env, "names-sparse", &[vec![tar::sparse(&up, 100, &[(0, b"escaped")])]]);
    pull(
        &env,
        "names-global",
        &[vec![Entry::other("g", b'g').pax("path", up.as_str()), Entry::file("x", "y")]],
    );
    canary.sings();
}

/// Links made by the image, then walked by the image, within a layer and across layers.
#[test]
fn links_cannot_lead_out() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let out = canary.directory().display().to_string();
    let up = format!("{}{}", "../".repeat(20), out.trim_start_matches('/'));
    for (which, target) in [("absolute", out.as_str()), ("relative", up.as_str())] {
        let through: Vec<(&str, Vec<Entry>)> = vec![
            ("write", vec![Entry::file("way/file", "escaped")]),
            ("new", vec![Entry::file("way/new", "escaped")]),
            ("mkdir", vec![Entry::directory("way/new/deep")]),
            ("chmod", vec![Entry::directory("way/directory").mode(0).owner(9, 9).time(1, 1)]),
            ("chmod-itself", vec![Entry::directory("way/").mode(0).owner(9, 9)]),
            ("hardlink-from", vec![Entry::hardlink("stolen", "way/file")]),
            ("hardlink-to", vec![Entry::file("own", ""), Entry::hardlink("way/new", "own")]),
            ("whiteout", vec![Entry::whiteout("way/file")]),
            ("opaque", vec![Entry::opaque("way")]),
            ("xattr", vec![Entry::file("way/file", "x").xattr("user.evil", "1")]),
            ("device", vec![Entry::char("way/new", 1, 3)]),
            ("symlink", vec![Entry::symlink("way/new", "file")]),
            ("chain", vec![Entry::symlink("second", "way"), Entry::file("second/file", "escaped")]),
            ("type-change", vec![Entry::directory("way"), Entry::file("way/file", "inside")]),
        ];
        for (what, entries) in through {
            let way = Entry::symlink("way", target);
            let together = [vec![way.clone()], entries.clone()].concat();
            pull(&env, &format!("links-{which}-{what}-together"), &[together]);
            pull(&env, &format!("links-{which}-{what}-apart"), &[vec![way], entries]);
            canary.sings();
        }
    }
    let outside = canary.path("file");
    for target in [
        outside.as_str(),
        &format!("../../../../../../../../../..{outside}"),
        "/etc/shadow",
        "/proc/self/exe",
    ] {
        let entries = vec![
            Entry::hardlink("stolen", target),
            Entry::file("stolen", "overwritten").mode(0o6777),
        ];
        pull(&env, "links-hard", &[entries]);
        canary.sings();
    }
}

/// A file that a hard link or symlink smuggled in would be readable inside.
#[test]
fn nothing_of_the_host_is_read_into_an_image() {
    let Some(env) = TestEnv::root() else { return };
    let secret = env.file("secret", "the host's secret");
    let path = secret.display().to_string();
    for (tag, entry) in [
        ("hard", Entry::hardlink("stolen", &path)),
        ("hard-relative", Entry::hardlink("stolen", format!("{}{}", "../".repeat(20), &path[1..]))),
        ("symlink", Entry::symlink("stolen", &path)),
        ("magic", Entry::symlink("stolen", format!("/proc/1/root{path}"))),
    ] {
        let mut image = images::busybox();
        image.layers.push(Layer::of(&[entry]));
        let name = images::registry().push(&format!("security/read:{tag}"), &image.build());
        let run = env.run(["run", "--rm", "--network", "none", &name, "cat", "/stolen"]);
        assert!(!run.text().contains("secret"), "{tag}");
    }
}

/// Whiteouts hide what is below and nothing else, whatever their names are.
#[test]
fn odd_whiteouts_are_harmless() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let odd = [
        ".wh.",
        ".wh..",
        ".wh...",
        ".wh..wh.",
        ".wh..wh..opq",
        ".wh..wh..opq/file",
        ".wh..wh.plnk",
        "a/.wh.",
        "a/.wh..",
        "a/.wh...",
        ".wh.a/b",
        ".wh..wh..wh.x",
    ];
    for (number, name) in odd.iter().enumerate() {
        pull(&env, &format!("whiteout-{number}"), &[vec![Entry::file(name, "")]]);
        pull(&env, &format!("whiteout-directory-{number}"), &[vec![Entry::directory(name)]]);
        pull(&env, &format!("whiteout-link-{number}"), &[vec![Entry::symlink(name, "/etc")]]);
        canary.sings();
    }
}

/// D-7: what the store's own markers look like is not taken from a layer.
#[test]
fn a_layer_cannot_imitate_the_stores_markers() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    image
        .layers
        .push(Layer::of(&[Entry::file("d/below", "must stay visible"), Entry::file("plain", "x")]));
    image.layers.push(Layer::of(&[
        Entry::directory("d")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("user.overlay.opaque", "y"),
        Entry::directory("moved").xattr("trusted.overlay.redirect", "/etc"),
        Entry::char("plain", 0, 0),
    ]));
    let name = images::registry().push("security/markers:1", &image.build());
    let pulled = orderly(env.run(["pull", "-q", &name]));
    if pulled.status.success() {
        let run = ["run", "--rm", "--network", "none", &name, "cat", "/d/below"];
        env.run(run).success().stdout("must stay visible");
        let run = ["run", "--rm", "--network", "none", &name, "ls", "/moved"];
        env.run(run).success().stdout("");
    }
}

/// Headers no archiver writes: an orderly answer, quickly, and the next pull works.
#[test]
fn broken_archives_are_refused_in_order() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let file = || Entry::file("file", "content");
    let good = tar::archive(&[file()]);
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("checksum", tar::archive(&[file().bad_checksum()])),
        ("size-letters", tar::archive(&[file().patch(124, *b"zzzzzzzzzzz\0")])),
        ("size-negative", tar::archive(&[file().patch(124, [0xff; 12])])),
        ("size-huge", tar::archive(&[file().patch(124, *b"77777777777\0")])),
        ("size-pax-huge", tar::archive(&[file().pax("size", "99999999999999999999")])),
        ("size-pax-negative", tar::archive(&[file().pax("size", "-1")])),
        ("size-pax-other", tar::archive(&[file().pax("size", "3")])),
        ("pax-garbage", tar::archive(&[Entry::other("x", b'x'), file()])),
        ("pax-length", {
            let mut bytes = tar::archive(&[file().pax("path", "other")]);
            bytes[512] = b'9';
            bytes
        }),
        ("pax-huge", tar::archive(&[file().pax("comment", vec![b'x'; 3 << 20])])),
        ("name-nul", tar::archive(&[file().pax("path", "a\0b")])),
        ("name-empty", tar::archive(&[file().pax("path", "")])),
        ("name-slash", tar::archive(&[Entry::file("/", "x"), Entry::file(".", "x")])),
        ("name-long", tar::archive(&[file().pax("path", "x".repeat(5000))])),
        ("component-long", tar::archive(&[file().pax("path", "x".repeat(300))])),
        ("name-deep", tar::archive(&[file().pax("path", "d/".repeat(40_000) + "x")])),
        ("id-huge", tar::archive(&[file().owner(1 << 32, 0), file().owner((1 << 32) - 1, 0)])),
        ("id-negative", tar::archive(&[file().pax("uid", "-5")])),
        ("time-extreme", tar::archive(&[file().time(i64::MAX, 0), file().time(i64::MIN + 1, 0)])),
        ("time-garbage", tar::archive(&[file().pax("mtime", "yesterday")])),
        ("type-unknown", tar::archive(&[Entry::other("odd", b'Z'), Entry::other("odd2", 0xff)])),
        ("type-multivolume", tar::archive(&[Entry::other("odd", b'M')])),
        ("xattr-large", tar::archive(&[file().xattr("user.large", vec![b'x'; 100_000])])),
        ("xattr-name", tar::archive(&[file().xattr("no-namespace", "x")])),
        ("sparse-overlap", tar::archive(&[tar::sparse("s", 10, &[(0, b"12345"), (3, b"67890")])])),
        ("sparse-outside", tar::archive(&[tar::sparse("s", 3, &[(1 << 40, b"12345")])])),
        ("sparse-huge", tar::archive(&[tar::sparse("s", 1 << 60, &[(0, b"12345")])])),
        (
            "sparse-garbage",
            tar::archive(&[file().pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0")]),
        ),
        ("hardlink-to-itself", tar::archive(&[Entry::hardlink("a", "a")])),
        ("hardlink-to-later", tar::archive(&[Entry::hardlink("a", "b"), Entry::file("b", "")])),
        (
            "hardlink-to-directory",
            tar::archive(&[Entry::directory("d"), Entry::hardlink("a", "d")]),
        ),
        ("hardlink-to-nothing", tar::archive(&[Entry::hardlink("a", "nowhere")])),
        ("truncated-header", good[..200].to_vec()),
        (
            "truncated-content",
            tar::unfinished(&[Entry::file("big", vec![b'x'; 5000])])[..2000].to_vec(),
        ),
        ("no-end", tar::unfinished(&[file()])),
        ("data-after-end", [good.clone(), b"after the end".repeat(100)].concat()),
        ("archive-after-end", [good.clone(), tar::archive(&[Entry::file("hidden", "")])].concat()),
        ("not-an-archive", b"hello ".repeat(1000)),
        ("empty", Vec::new()),
        ("zeros", vec![0; 100_000]),
    ];
    for (name, bytes) in archives {
        let layer = Layer { tar: bytes, compression: Compression::Gzip };
        let mut image = images::busybox();
        image.layers.push(layer);
        pull_image(&env, &format!("broken-{name}"), &image.build());
        canary.sings();
    }
    env.inside([] as [&str; 0], &["true"]).success();
}

/// Streams whose compression is wrong although their digests are right.
#[test]
fn broken_compression_is_refused_in_order() {
    let Some(env) = TestEnv::root() else { return };
    let tar = tar::archive(&[Entry::file("file", vec![b'x'; 20_000])]);
    let gz = gzip(&tar);
    let zst = zstd(&tar);
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0xff;
        bytes
    };
    let streams: Vec<(&str, Vec<u8>, &str)> = vec![
        ("crc", flip(&gz, gz.len() - 6), "tar+gzip"),
        ("length", flip(&gz, gz.len() - 1), "tar+gzip"),
        ("trailing", [&gz[..], b"trailing garbage"].concat(), "tar+gzip"),
        ("cut", gz[..gz.len() / 2].to_vec(), "tar+gzip"),
        ("no-trailer", gz[..gz.len() - 8].to_vec(), "tar+gzip"),
        ("flags", flip(&gz, 3), "tar+gzip"),
        ("empty", Vec::new(), "tar+gzip"),
        ("zstd-checksum", flip(&zst, zst.len() - 1), "tar+zstd"),
        ("zstd-cut", zst[..zst.len() / 2].to_vec(), "tar+zstd"),
        ("zstd-window", vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00], "tar+zstd"),
        ("type-says-zstd", gz.clone(), "tar+zstd"),
        ("type-says-plain", gz.clone(), "tar"),
    ];
    for (name, bytes, media_type) in streams {
        let mut built = Image::new(vec![]).build();
        let digest = sha256(&bytes);
        let mut config: Value = serde_json::from_slice(&built.blobs[&built.config]).unwrap();
        config["rootfs"]["diff_ids"] = json!([sha256(&tar)]);
        let config = config.to_string().into_bytes();
        built.config = sha256(&config);
        built.manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "size": config.len(), "digest": built.config},
            "layers": [{"mediaType": format!("application/vnd.oci.image.layer.v1.{media_type}"),
                "size": bytes.len(), "digest": digest}],
        })
        .to_string()
        .into_bytes();
        built.media_type = "application/vnd.oci.image.manifest.v1+json".into();
        built.blobs = BTreeMap::from([(built.config.clone(), config), (digest, bytes)]);
        let run = pull_image(&env, &format!("stream-{name}"), &built);
        // Some tools accept a wrong label; nobody may accept damage.
        assert!(!run.status.success() || name.starts_with("type-"), "{name} was accepted");
    }
    // Padding frames are legal.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zst].concat();
    assert!(!skippable.is_empty());
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let image =
        Image::new(vec![Layer { tar: bytes.to_vec(), compression: Compression::Zstd }]).build();
    image.blobs[&image.layers[0]].clone()
}

/// A little that becomes a lot: refused, or held in little memory; the machine stays usable.
#[test]
fn a_decompression_bomb_does_not_fill_memory() {
    let Some(env) = TestEnv::root() else { return };
    let layer = Layer {
        tar: tar::archive(&[Entry::file("zeros", vec![0; 200 << 20])]),
        compression: Compression::Gzip,
    };
    let name = images::registry().push("security/bomb:1", &Image::new(vec![layer]).build());
    let mut running = env.command(["pull", "-q", &name]).start();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while !running.ended() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!((1..128 << 10).contains(&peak), "{peak} KiB");
    orderly(running.finish());
}

/// Documents that contradict themselves, served by a registry that does what it wants.
#[test]
fn lying_documents_are_refused() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox().build();
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let index =
        String::from_utf8(images::index(&[&image], integration::Flavour::Docker).0).unwrap();
    let deep = "[".repeat(100_000);
    let wrong_digest = manifest.replace(&image.config, "sha256:../../../../etc/passwd");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("both", manifest.replacen('{', "{\"manifests\": [],", 1).into(), &image.media_type),
        ("twice", manifest.replacen('{', "{\"layers\": [],", 1).into(), &image.media_type),
        ("trailing", format!("{manifest}{{}}").into(), &image.media_type),
        ("deep", deep.clone().into(), &image.media_type),
        (
            "deep-inside",
            manifest.replacen('{', &format!("{{\"x\": {deep},"), 1).into(),
            &image.media_type,
        ),
        ("huge", format!("{manifest}{}", " ".repeat(9 << 20)).into(), &image.media_type),
        ("not-json", "<html></html>".into(), &image.media_type),
        ("empty", "".into(), &image.media_type),
        ("null", "null".into(), &image.media_type),
        ("digest-path", wrong_digest.into(), &image.media_type),
        ("digest-upper", manifest.replace("sha256:", "SHA256:").into(), &image.media_type),
        ("digest-short", manifest.replace(&image.config, "sha256:abcd").into(), &image.media_type),
        (
            "size-negative",
            manifest.replacen("\"size\": ", "\"size\": -", 1).into(),
            &image.media_type,
        ),
        (
            "size-float",
            manifest.replacen("\"size\": ", "\"size\": 1.5e", 1).into(),
            &image.media_type,
        ),
        (
            "size-huge",
            manifest.replacen("\"size\": ", "\"size\": 9999999999999", 1).into(),
            &image.media_type,
        ),
        ("type-differs", index.clone().into(), &image.media_type),
        (
            "schema-9",
            manifest.replace("\"schemaVersion\": 2", "\"schemaVersion\": 9").into(),
            &image.media_type,
        ),
        (
            "index-empty",
            "{\"schemaVersion\": 2, \"manifests\": []}".into(),
            "application/vnd.oci.image.index.v1+json",
        ),
    ];
    for (name, body, media_type) in cases {
        let env = TestEnv::new();
        let (blobs, media_type) = (image.blobs.clone(), media_type.to_owned());
        let server = Server::start(move |request| {
            let digest = request.path.rsplit('/').next().unwrap_or_default();
            if request.path.contains("/manifests/") {
                return Response::ok(&media_type, body.clone());
            }
            match blobs.get(digest) {
                Some(bytes) => Response::ok("application/octet-stream", bytes.clone()),
                None => Response::ok("application/json", "{}"),
            }
        });
        env.run(["pull", "-q", &format!("{}/lies:{name}", server.address())])
            .failure()
            .one_clear_line();
        env.run(["images", "-q"]).success().stdout("");
    }
    drop(env);
}

/// D-40, D-41: credentials stay with their registry, and redirects do not lead inside.
#[test]
fn redirects_carry_no_credentials_and_do_not_loop() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox().build();
    let (blobs, other_blobs) = (image.blobs.clone(), image.blobs.clone());
    let elsewhere = Server::start(move |request| {
        let digest = request.path.rsplit('/').next().unwrap_or_default();
        match other_blobs.get(digest) {
            Some(bytes) => Response::ok("application/octet-stream", bytes.clone()),
            None => Response::status(404),
        }
    });
    let (manifest, target) = (image.clone(), elsewhere.address());
    let server = Server::start(move |request| {
        if request.header("authorization").is_none() {
            return Response::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if request.path.contains("/manifests/loop") {
            return Response::status(307).with("Location", request.path.clone());
        }
        if request.path.contains("/manifests/file") {
            return Response::status(307).with("Location", "file:///etc/passwd");
        }
        if request.path.contains("/manifests/") {
            return Response::ok(&manifest.media_type, manifest.manifest.clone());
        }
        let digest = request.path.rsplit('/').next().unwrap_or_default();
        if blobs.contains_key(digest) {
            return Response::status(307).with("Location", format!("http://{target}/{digest}"));
        }
        Response::ok("application/json", "{}")
    });
    let pull = |tag: &str| {
        env.run([
            "pull",
            "-q",
            "--creds",
            "alice:wonderland",
            &format!("{}/r:{tag}", server.address()),
        ])
    };
    pull("loop").failure().one_clear_line();
    pull("file").failure().one_clear_line();
    pull("good");
    for request in elsewhere.requests() {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
}

/// D-42: foreign URLs in a manifest are not visited.
#[test]
fn foreign_urls_are_not_visited() {
    let Some(env) = TestEnv::root() else { return };
    let elsewhere = Server::start(|_| Response::status(404));
    let mut image = images::busybox().build();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["urls"] = json!([format!("http://{}/layer", elsewhere.address())]);
    image.manifest = manifest.to_string().into_bytes();
    // The registry itself refuses to store such a manifest, so it comes from a server of ours.
    let inside = image.clone();
    let server = Server::start(move |request| {
        let digest = request.path.rsplit('/').next().unwrap_or_default();
        if request.path.contains("/manifests/") {
            return Response::ok(&inside.media_type, inside.manifest.clone());
        }
        match inside.blobs.get(digest) {
            Some(bytes) => Response::ok("application/octet-stream", bytes.clone()),
            None => Response::ok("application/json", "{}"),
        }
    });
    env.run(["pull", "-q", &format!("{}/foreign:1", server.address())]);
    assert!(elsewhere.requests().is_empty());
}

/// D-15: what an image or a registry says is printed harmlessly.
#[test]
fn control_characters_are_not_printed() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox().set("Labels", json!({"a\u{1b}[31m": "b\u{1b}]0;title\u{7}"}));
    let name = images::registry().push("security/escapes:1", &image.build());
    env.run(["pull", "-q", &name]).success();
    for words in [vec!["images"], vec!["inspect", &name], vec!["images", "--format", "{{json .}}"]]
    {
        let run = env.run(&words);
        assert!(!run.stdout.contains(&0x1b) && !run.stdout.contains(&7), "{words:?}");
    }
    let server = Server::start(|_| Response {
        status: 403,
        body: b"\x1b[2Jgone\x07".to_vec(),
        ..Response::default()
    });
    let run = env.run(["pull", "-q", &format!("{}/x:1", server.address())]).failure();
    assert!(!run.stderr.contains(&0x1b) && !run.stderr.contains(&7));
}

/// D-12: no label, annotation or variable of an image changes how it is confined.
#[test]
fn an_image_cannot_widen_its_own_confinement() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox()
        .set(
            "Labels",
            json!({
                "run.oci.seccomp": "unconfined", "io.podman.annotations.privileged": "TRUE",
                "io.containers.capabilities": "SYS_ADMIN", "RUN": "run --privileged IMAGE",
                "io.kubernetes.cri.container-type": "sandbox", "run.oci.hooks.stdout": "/tmp/x",
            }),
        )
        .set(
            "Env",
            json!([
                "PATH=/bin:/usr/bin",
                "LD_PRELOAD=/evil.so",
                "CRUN_CARGO_ROOT=/",
                "_CONTAINERS_USERNS_CONFIGURED=1"
            ]),
        );
    let name = images::registry().push("security/labels:1", &image.build());
    let seen =
        env.run(["run", "--rm", "--network", "none", &name, "probe", "status"]).success().json();
    assert_eq!(seen["CapEff"], json!("00000000a80425fb"));
    assert_eq!(seen["Seccomp"], json!("2"));
}

/// The image's `/proc`, `/sys`, `/dev` and `/etc` may be anything; nothing of ours follows them out.
#[test]
fn system_directories_that_are_links_are_harmless() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let out = canary.directory().display().to_string();
    let probe = fs::read(integration::built("probe")).unwrap();
    for place in [
        "proc",
        "sys",
        "dev",
        "etc",
        "tmp",
        "etc/hosts",
        "etc/resolv.conf",
        "dev/pts",
        "dev/shm",
        "dev/null",
    ] {
        let target = if place == "etc/hosts" || place == "dev/null" {
            canary.path("file")
        } else {
            out.clone()
        };
        let layer =
            Layer::of(&[Entry::symlink(place, &target), Entry::program("probe", probe.clone())]);
        let tag = place.replace('/', "-");
        let name = images::registry()
            .push(&format!("security/system:{tag}"), &Image::new(vec![layer]).build());
        let run = env.run(["run", "--rm", "--network", "none", &name, "/probe", "status"]);
        canary.sings();
        if run.status.success() {
            assert_eq!(run.json()["CapEff"], json!("00000000a80425fb"), "{place}");
        } else {
            run.code(125);
        }
    }
}

/// D-20, S5: the program a container starts from cannot be written through /proc.
#[test]
fn our_own_program_cannot_be_overwritten_from_inside() {
    let Some(env) = TestEnv::root() else { return };
    let before = sha256(&fs::read(integration::program()).unwrap());
    let image = images::busybox()
        .set("Entrypoint", json!(["/proc/self/exe"]))
        .set("Cmd", json!(["version"]));
    let name = images::registry().push("security/exe:1", &image.build());
    env.run(["run", "--rm", "--network", "none", &name]);
    let attack =
        "for p in /proc/[0-9]*; do (echo evil >$p/exe) 2>/dev/null && echo wrote $p; done; sleep 1";
    let container = env.name("exe");
    let busybox = env.pulled_busybox();
    let flags = ["run", "--rm", "--network", "none", "--name", &container, &busybox, "sh", "-c"];
    let attack = format!("while :; do {attack}; done");
    let running = env.command(flags).arg(&attack).start();
    env.eventually("the container runs", || env.run(["exec", &container, "true"]).status.success());
    for _ in 0..20 {
        env.run(["exec", &container, "true"]);
    }
    env.run(["rm", "-f", &container]).success();
    assert!(!running.finish().text().contains("wrote"));
    assert_eq!(sha256(&fs::read(integration::program()).unwrap()), before);
}

/// D-20: what a process inside sees of `exec` while it tries, all the time, to open the programs of others.
fn onlookers_view(flags: &[&str], granted: &[&str]) -> Value {
    let Some(env) = TestEnv::root() else { return json!({"seen": 0, "writable": 0}) };
    let container = env.name("watched");
    let busybox = env.pulled_busybox();
    let run = env.command(["run", "--rm", "--network", "none", "--name", &container]).args(flags);
    let program = if granted.is_empty() { "probe onlook /stop" } else { "sleep 1000" };
    let running = run.args([&busybox, "sh", "-c", program]).start();
    env.eventually("the container runs", || env.run(["exec", &container, "true"]).status.success());
    let later = (!granted.is_empty()).then(|| {
        let exec =
            env.command(["exec"]).args(granted).args([&container, "probe", "onlook", "/stop"]);
        let later = exec.start();
        env.eventually("the onlooker runs", || {
            env.run(["exec", &container, "pidof", "probe"]).status.success()
        });
        later
    });
    for _ in 0..100 {
        env.run(["exec", &container, "probe", "exit", "0"]).success();
    }
    env.run(["exec", &container, "touch", "/stop"]).success();
    let seen = later.unwrap_or(running).finish().success().json();
    env.run(["rm", "-f", &container]);
    seen
}

#[test]
fn exec_shows_our_program_to_nobody() {
    let seen = onlookers_view(&[], &[]);
    assert_eq!(seen, json!({"seen": 0, "writable": 0}));
}

/// One with CAP_SYS_PTRACE can look at everything inside, and so at us, but never write to what it sees.
#[test]
fn exec_shows_a_program_that_cannot_be_written_to_who_may_look() {
    let before = sha256(&fs::read(integration::program()).unwrap());
    let from_the_start = onlookers_view(&["--cap-add", "SYS_PTRACE"], &[]);
    assert_eq!(from_the_start["writable"], 0, "{from_the_start}");
    let later = onlookers_view(&[], &["--privileged"]);
    assert_eq!(later["writable"], 0, "{later}");
    assert_eq!(sha256(&fs::read(integration::program()).unwrap()), before);
}

/// D-22: a working directory that is a descriptor of ours (CVE-2024-21626).
#[test]
fn the_working_directory_cannot_be_a_leaked_descriptor() {
    let Some(env) = TestEnv::root() else { return };
    let secret = env.file("outside-secret", "x");
    for fd in 3..20 {
        let place = format!("/proc/self/fd/{fd}");
        let run =
            env.inside(["-w", &place], &["ls", &format!("../../../../../..{}", secret.display())]);
        assert!(!run.status.success(), "descriptor {fd} led out");
    }
}

/// D-14: other users of the machine see nothing of the store.
#[test]
fn the_store_is_closed_to_others() {
    let Some(env) = TestEnv::root() else { return };
    env.pulled_busybox();
    let private = |path: &Path| fs::metadata(path).unwrap().mode() & 0o077 == 0;
    // The test made the two directories itself, open; what is below them is the program's.
    for root in [env.store(), env.runroot()] {
        for entry in fs::read_dir(root).unwrap().flatten() {
            assert!(private(&entry.path()), "{}", entry.path().display());
        }
    }
}

/// D-16: names are not paths, for every verb that takes one.
#[test]
fn names_given_to_verbs_are_not_paths() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    for verb in ["rm", "stop", "kill", "inspect", "diff", "exec", "rmi", "logs"] {
        for name in ["../../work/canary", "/etc", "..", ".", "a/../../b"] {
            let extra: &[&str] = if verb == "exec" { &["true"] } else { &[] };
            env.command([verb, name]).args(extra).run().failure();
            canary.sings();
        }
    }
}

/// What an image says of itself — its working directory, its volumes — is looked up inside it.
#[test]
fn an_images_own_directories_cannot_lead_out() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let out = canary.directory().display().to_string();
    let links = [Entry::symlink("way", &out), Entry::symlink("fds", "/proc/self/fd")];
    let cases: [(&str, serde_json::Value); 5] = [
        ("WorkingDir", json!("/way")),
        ("WorkingDir", json!("/way/new")),
        ("WorkingDir", json!("/fds/5")),
        ("WorkingDir", json!("/proc/self/root/../..")),
        ("Volumes", json!({"/way/volume": {}, "/fds/3": {}, "/../../../way": {}, "/proc": {}})),
    ];
    for (number, (key, value)) in cases.into_iter().enumerate() {
        let mut image = images::busybox().set(key, value.clone());
        image.layers.push(Layer::of(&links));
        let name = images::registry().push(&format!("security/places:{number}"), &image.build());
        let look = ["run", "--rm", "--network", "none", &name, "sh", "-c", "pwd; touch here; ls"];
        let run = env.run(look);
        canary.sings();
        assert!(!run.text().lines().any(|line| line == "directory"), "{key} {value}: {run:?}");
        if !run.status.success() {
            run.one_clear_line();
        }
    }
}

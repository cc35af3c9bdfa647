//! `push` and `copy`: to registries, archives and directories, the same bytes or others as asked.

use std::fs;

use integration::{Compression, Flavour, Image, Layer, Need, TestEnv, images, tar::Entry};
use serde_json::Value;

/// An image that nobody else has.
fn image(word: &str) -> Image {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", format!("{word}\n"))]));
    image
}

fn says(env: &TestEnv, name: &str, word: &str) {
    env.run(["run", "--rm", "--network", "none", name, "cat", "/word"])
        .success()
        .stdout(&format!("{word}\n"));
}

fn manifest(env: &TestEnv, name: &str) -> Value {
    env.run(["manifest", "inspect", name]).success().json()
}

#[test]
fn a_pulled_image_keeps_its_digest_wherever_it_goes() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    for flavour in [Flavour::Docker, Flavour::Oci] {
        for compression in [Compression::Gzip, Compression::TwoGzipMembers, Compression::None] {
            let word = format!("{flavour:?}-{compression:?}").to_lowercase();
            let built = image(&word).flavour(flavour).compression(compression).build();
            let name = images::registry().push(&format!("push/{word}:1"), &built);
            env.run(["pull", "-q", &name]).success();
            let to = registry.name(&format!("{word}:1"));
            env.run(["push", "-q", "--digestfile", "digest", &name, &to])
                .success()
                .stdout(&format!("{}\n", built.digest()));
            assert_eq!(fs::read_to_string(env.path("digest")).unwrap(), built.digest());
            let elsewhere = TestEnv::new();
            let by_digest = format!("{}@{}", to.trim_end_matches(":1"), built.digest());
            elsewhere.run(["pull", "-q", &by_digest]).success();
            says(&elsewhere, &by_digest, &word);
            for place in ["oci:layout:t", "oci-archive:a.tar:t", "dir:plain"] {
                let pushed = env.run(["push", "-q", &name, place]).success().word();
                assert_eq!(pushed, built.digest(), "{place}");
                let raw = env.run(["manifest", "inspect", "--raw", place]).success();
                assert_eq!(integration::sha256(&raw.stdout), built.digest(), "{place}");
            }
            fs::remove_dir_all(env.path("layout")).unwrap();
        }
    }
}

#[test]
fn an_index_for_several_platforms_is_copied_whole() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    for flavour in [Flavour::Docker, Flavour::Oci] {
        let mut arm = image("arm").flavour(flavour);
        (arm.architecture, arm.variant) = ("arm".into(), Some("v7".into()));
        let all = [image("own").flavour(flavour).build(), arm.build()];
        let all: Vec<_> = all.iter().collect();
        let index = images::index(&all, flavour);
        let tag = format!("{flavour:?}").to_lowercase();
        let name = images::registry().push_index(&format!("push/index:{tag}"), &all, index.clone());
        let digest = integration::sha256(&index.0);
        let to = registry.name(&format!("index:{tag}"));
        env.run(["copy", "-q", &name, &to]).success().stdout(&format!("{digest}\n"));
        env.run(["copy", "-q", &to, &format!("oci:layout-{tag}")])
            .success()
            .stdout(&format!("{digest}\n"));
        env.run([
            "copy",
            "-q",
            "--platform",
            "linux/arm/v7",
            &name,
            &format!("docker-archive:{tag}.tar"),
        ])
        .success();
        env.run(["run", "--rm", "--network", "none", &to, "cat", "/word"])
            .success()
            .stdout("own\n");
        // One variant of it keeps the digest of its own manifest.
        env.run(["pull", "-q", "--platform", "linux/arm/v7", &name]).success();
        env.run(["push", "-q", &name, &registry.name("variant:1")])
            .success()
            .stdout(&format!("{}\n", all[1].digest()));
    }
}

#[test]
fn layers_are_compressed_as_asked() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    for flavour in [Flavour::Docker, Flavour::Oci] {
        let built = image("recompressed").flavour(flavour).build();
        let name =
            images::registry().push(&format!("push/recompress:{flavour:?}").to_lowercase(), &built);
        env.run(["pull", "-q", &name]).success();
        for (method, ending, is_other) in [
            ("gzip", "gzip", false),
            ("gzip:9", "gzip", true),
            ("zstd", "zstd", true),
            ("zstd:5", "zstd", true),
            ("none", "tar", true),
        ] {
            let to = registry
                .name(&format!("again/{flavour:?}-{}:1", method.replace(':', "-")).to_lowercase());
            let pushed =
                env.run(["push", "-q", "--compression", method, &name, &to]).success().word();
            assert_eq!(pushed != built.digest(), is_other, "{method}");
            let manifest = manifest(&env, &to);
            for layer in manifest["layers"].as_array().unwrap() {
                let media_type = layer["mediaType"].as_str().unwrap();
                assert!(media_type.ends_with(ending), "{method}: {media_type}");
                // Docker's documents have no word for zstd.
                let is_oci = flavour == Flavour::Oci || ending == "zstd";
                assert_eq!(media_type.contains("oci"), is_oci, "{method}: {media_type}");
            }
            says(&TestEnv::new(), &to, "recompressed");
            // The same again: nothing depends on when or on how many threads.
            let again =
                env.run(["push", "-q", "--compression", method, &name, &to]).success().word();
            assert_eq!(again, pushed, "{method}");
        }
    }
    let name = env.pulled_busybox();
    for bad in ["lzma", "gzip:10", "zstd:0", "none:1", ""] {
        env.run(["push", "--compression", bad, &name, "dir:x"]).code(125).one_clear_line();
    }
    assert!(!env.path("x").exists());
}

/// The files and the recorded headers give the tar again; the compressor gives what it gives.
#[test]
fn an_image_whose_blobs_were_dropped_can_still_leave() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let name = images::registry().push("push/dropped:1", &image("dropped").build());
    env.run(["pull", "-q", "--keep-blobs=false", &name]).success();
    let kept = |env: &TestEnv| fs::read_dir(env.store().join("blobs/sha256")).unwrap().count();
    let before = kept(&env);
    let to = registry.name("dropped:1");
    env.run(["push", "-q", &name, &to]).success().stderr_has("cannot be made again as it was");
    says(&TestEnv::new(), &to, "dropped");
    assert_eq!(kept(&env), before, "nothing was kept for it");
    env.run(["save", "-o", "saved.tar", &name]).success();
    let other = TestEnv::new();
    let archive = env.path("saved.tar").display().to_string();
    other.run(["load", "-i", &archive]).success();
    says(&other, &name, "dropped");
    // What this program compressed it compresses again to the very same bytes.
    let mine = env.run(["manifest", "inspect", "--raw", &to]).success().stdout;
    let again = TestEnv::new();
    again.run(["pull", "-q", "--keep-blobs=false", &to]).success();
    let pushed = again.run(["push", "-q", &to, &registry.name("again:1")]).success();
    assert_eq!(pushed.word(), integration::sha256(&mine));
    assert_eq!(pushed.error(), "");
    let uncompressed = image("plain").compression(Compression::None).build();
    let name = images::registry().push("push/dropped:plain", &uncompressed);
    again.run(["pull", "-q", "--keep-blobs=false", &name]).success();
    again
        .run(["push", "-q", &name, &registry.name("plain:1")])
        .success()
        .stdout(&format!("{}\n", uncompressed.digest()));
}

#[test]
fn what_is_there_is_not_sent_and_neighbours_lend() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let built = image("sent once").build();
    let name = images::registry().push("push/once:1", &built);
    env.run(["pull", "-q", &name]).success();
    let first = registry.name("first:1");
    env.run(["tag", &name, &first]).success();
    let sends = || registry.log().lines().filter(|line| line.contains("\"PATCH /v2/")).count();
    env.run(["push", "-q", &first]).success();
    let before = sends();
    assert_eq!(before, built.blobs.len(), "each blob once");
    let again = env.run(["push", "--progress", "plain", &first]).success();
    again.stderr_has("already there");
    let mounted =
        env.run(["push", "--progress", "plain", &name, &registry.name("second:1")]).success();
    mounted.stderr_has("mounted from another repository");
    assert_eq!(sends(), before);
    // In small requests, for those who allow no large ones.
    let third = env.run([
        "push",
        "-q",
        "--chunk",
        "100k",
        "--compression",
        "gzip:1",
        &name,
        &registry.name("third:1"),
    ]);
    third.success();
    assert!(sends() > before + built.blobs.len(), "several requests for a blob");
    says(&TestEnv::new(), &registry.name("third:1"), "sent once");
}

#[test]
fn all_tags_of_a_repository_are_pushed() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let name = env.pulled_busybox();
    for tag in ["one", "two"] {
        env.run(["tag", &name, &registry.name(&format!("many:{tag}"))]).success();
    }
    env.run(["push", "-q", "--all-tags", &registry.name("many")]).success();
    env.run(["tags", &registry.name("many"), "--format", "{{.Tag}}"])
        .success()
        .stdout_has("one")
        .stdout_has("two");
    env.run(["push", "-q", "--all-tags", &registry.name("none")]).code(125).one_clear_line();
}

#[test]
fn what_cannot_be_pushed_is_said_in_one_line() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.pulled_busybox();
    env.run(["push", "-q", "no-such-image"]).code(125).stderr_has("no-such-image").one_clear_line();
    env.run(["push", "-q", &name, "127.0.0.1:9/app:1"])
        .code(125)
        .stderr_has("127.0.0.1:9")
        .one_clear_line();
    env.run(["push", "-q", &name, "docker-archive:/proc/none/a.tar"]).code(125).one_clear_line();
    env.run(["copy", "-q", "oci:/no/such/layout", "dir:x"]).code(125).one_clear_line();
    assert!(!env.path("x").exists());
}

/// From one end to the other, through every transport and back to a registry.
#[test]
fn copies_pass_through_every_transport() {
    let Some(env) = TestEnv::with(&[Need::Root]) else { return };
    let registry = env.registry();
    let built = image("travels").flavour(Flavour::Oci).build();
    let name = images::registry().push("push/travels:1", &built);
    let mut from = name;
    for to in ["oci:one:t", "dir:two", "oci-archive:three.tar:t"] {
        env.run(["copy", "-q", &from, to]).success().stdout(&format!("{}\n", built.digest()));
        from = to.to_owned();
    }
    let back = registry.name("back:1");
    env.run(["copy", "-q", &from, &back]).success().stdout(&format!("{}\n", built.digest()));
    env.run(["copy", "-q", &back, "docker-archive:four.tar:travels:1"]).success();
    env.run(["copy", "-q", "docker-archive:four.tar", &registry.name("docker:1")]).success();
    says(&env, &registry.name("docker:1"), "travels");
}

//! `diff` between any two of containers, images and layers.

use integration::{Layer, TestEnv, images, tar::Entry};

/// Two images of three layers: the lowest is shared, then each has its own.
fn pair(env: &TestEnv) -> [String; 2] {
    let [one, other] = [
        vec![
            Entry::file("same", "same"),
            Entry::file("changed", "before"),
            Entry::file("gone", "12345"),
        ],
        vec![
            Entry::file("same", "same"),
            Entry::file("changed", "afterwards"),
            Entry::file("added/file", "123"),
        ],
    ]
    .map(|entries| {
        let mut image = images::busybox();
        image.layers.push(Layer::of(&entries));
        image.build()
    });
    let names = [
        images::registry().push("compare/one:1", &one),
        images::registry().push("compare/other:1", &other),
    ];
    for name in &names {
        env.run(["pull", "-q", name]).success();
    }
    names
}

const CHANGES: &str = "A /added 0\nA /added/file 3\nC /changed 10\nD /gone 5\n";
const FORMAT: [&str; 3] = ["diff", "--format", "{{.Kind}} {{.Path}} {{.Size}}"];

#[test]
fn two_images_are_compared() {
    let Some(env) = TestEnv::root() else { return };
    let [one, other] = pair(&env);
    env.command(FORMAT).args([&one, &other]).run().success().stdout(CHANGES);
    env.command(FORMAT).args([&one, &one]).run().success().stdout("");
    env.run(["diff", "--size", &one, &other]).success().stdout_has("C /changed 10B");
    env.run(["diff", "--format", "json", &one, &other]).success().stdout_has(r#""Kind":"D""#);
}

#[test]
fn an_image_alone_is_compared_with_what_its_topmost_layer_lies_on() {
    let Some(env) = TestEnv::root() else { return };
    let [one, _] = pair(&env);
    let changes = "A /changed 6\nA /gone 5\nA /same 4\n";
    env.command(FORMAT).arg(&one).run().success().stdout(changes);
}

#[test]
fn layers_are_compared_by_diff_id_and_by_digest() {
    let Some(env) = TestEnv::root() else { return };
    let names = pair(&env);
    let layers = names.clone().map(|name| {
        let layers = env.run(["layers", "--json", &name]).success().json();
        layers.as_array().unwrap().last().unwrap()["diffId"].as_str().unwrap().to_owned()
    });
    env.command(FORMAT).args(&layers).run().success().stdout(CHANGES);
    let blobs = names.map(|name| {
        let manifest = env.run(["manifest", "inspect", &name]).success().json();
        let digest = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].clone();
        digest.as_str().unwrap().trim_start_matches("sha256:")[..16].to_owned()
    });
    env.command(FORMAT).args(&blobs).run().success().stdout(CHANGES);
}

#[test]
fn containers_are_compared_with_each_other_and_with_images() {
    let Some(env) = TestEnv::root() else { return };
    let [one, other] = pair(&env);
    let names =
        [(&one, "a", "echo x >/made"), (&other, "b", "rm /same")].map(|(image, name, script)| {
            let name = env.name(name);
            env.run(["run", "--network", "none", "--name", &name, image, "sh", "-c", script])
                .success();
            name
        });
    let changes = env.run(["diff", &names[0], &names[1]]).success().text();
    assert_eq!(changes, "A /added\nA /added/file\nC /changed\nD /gone\nD /made\nD /same\n");
    let changes = env.run(["diff", &one, &names[0]]).success().text();
    assert!(changes.contains("A /made\n") && !changes.contains("/same"), "{changes}");
    env.run(["diff", &one, "no-such-thing"]).code(125).stderr_has("no-such-thing").one_clear_line();
    env.run(["diff", "no-such-thing"]).code(125).stderr_has("no-such-thing").one_clear_line();
}

//! Lists of images and what is known of them: filters, templates, names, ends.

use integration::{Image, Layer, TestEnv, images, tar::Entry};
use serde_json::json;

fn pulled(env: &TestEnv, word: &str) -> String {
    let mut image: Image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", word)]));
    let image = image.set("Labels", json!({ "colour": word }));
    let name = images::registry().push(&format!("listing/{word}:1"), &image.build());
    env.run(["pull", "-q", &name]).success();
    name
}

#[test]
fn every_listing_takes_json_and_templates() {
    let Some(env) = TestEnv::root() else { return };
    let name = pulled(&env, "listed");
    let container = env.name("listed");
    env.run(["run", "--network", "none", "--name", &container, &name, "touch", "/x"]).success();
    let repository = name.trim_end_matches(":1");
    for (words, field) in [
        (vec!["images"], "Repository"),
        (vec!["image", "ls"], "Size"),
        (vec!["history", &name], "CreatedBy"),
        (vec!["system", "df"], "Type"),
        (vec!["ps", "-a"], "Names"),
        (vec!["tags", repository], "Tag"),
        (vec!["search", repository], "Name"),
        (vec!["diff", &container], "Path"),
    ] {
        let listed = env.command(&words).args(["--format", "json"]).run().success().text();
        for line in listed.lines() {
            let row: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{words:?}: {line}"));
            assert!(row[field].is_string(), "{words:?}: {line}");
        }
        let template = format!("<{{{{.{field}}}}}>");
        let shown = env.command(&words).args(["--format", &template]).run().success().text();
        assert!(
            shown.lines().count() > 0 && shown.lines().all(|line| line.starts_with('<')),
            "{words:?}: {shown}"
        );
        env.command(&words)
            .args(["--format", "{{.NoSuchField}}"])
            .run()
            .code(125)
            .stderr_has("NoSuchField")
            .one_clear_line();
        env.command(&words).args(["--format", "{{.ID"]).run().code(125).one_clear_line();
    }
}

#[test]
fn images_are_filtered() {
    let Some(env) = TestEnv::root() else { return };
    let (blue, red) = (pulled(&env, "blue"), pulled(&env, "red"));
    let listed = |filters: &[&str]| {
        let words = filters
            .iter()
            .fold(env.command(["images"]), |images, filter| images.args(["-f", filter]));
        let text = words.args(["--format", "{{.Repository}}"]).run().success().text();
        let mut names: Vec<_> =
            text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&[]), ["blue", "red"]);
    assert_eq!(listed(&["label=colour"]), ["blue", "red"]);
    assert_eq!(listed(&["label=colour=blue"]), ["blue"]);
    assert_eq!(listed(&["reference=*/red"]), ["red"]);
    assert_eq!(listed(&["reference=*/red:2"]), [""; 0]);
    assert_eq!(listed(&["dangling=true"]), [""; 0]);
    env.run(["untag", &red]).success();
    assert_eq!(listed(&["dangling=true"]), ["<none>"]);
    assert_eq!(listed(&["dangling=false", "label=colour"]), ["blue"]);
    for bad in ["colour=blue", "dangling=perhaps", "nothing"] {
        env.run(["images", "-f", bad]).code(125).one_clear_line();
    }
    env.run(["images", "-f", "before=no-such-image"]).code(125).stderr_has("no-such-image");
    env.run(["images", "-aq"])
        .success()
        .stdout_has(&env.run(["images", "-q", &blue.replace(":1", "")]).success().word());
}

#[test]
fn names_come_and_go_and_what_has_none_is_pruned() {
    let Some(env) = TestEnv::root() else { return };
    let name = pulled(&env, "green");
    env.run(["tag", &name, "mine:1", "mine:2"]).success();
    let shown = env
        .run(["inspect", "--format", "{{json .RepoTags}} {{len .RepoDigests}}", "mine:1"])
        .success()
        .text();
    assert!(shown.contains(r#""mine:1","mine:2""#) && shown.trim().ends_with('2'), "{shown}");
    env.run(["untag", "mine:2"]).success();
    env.run(["untag", "mine:2"]).code(125).stderr_has("mine:2").one_clear_line();
    env.run(["tag", &name, &format!("mine@{}", integration::sha256(b""))])
        .code(125)
        .one_clear_line();
    env.run(["tag", "no-such-image", "x:1"]).code(125).one_clear_line();
    // By its id only when one name is left, or by force.
    let id = env.run(["images", "-q", "--no-trunc", "mine"]).success().word();
    env.run(["rmi", &id]).code(1).stderr_has("several names").one_clear_line();
    env.run(["rmi", "mine:1"]).success().stdout_has("Untagged: mine:1").stdout_lacks("Deleted");
    env.run(["untag", &name]).success();
    env.run(["image", "prune"]).code(125).stderr_has("--force").one_clear_line();
    env.run(["image", "prune", "--force"]).success().stdout_has(&id).stdout_has("reclaimed");
    env.run(["images", "-q"]).success().stdout("");
    let usage = env.run(["system", "df", "--format", "{{.Type}} {{.Bytes}}"]).success().text();
    assert!(usage.contains("Images 0") && usage.contains("Compressed layers 0"), "{usage}");
}

#[test]
fn a_store_that_was_tampered_with_is_told_of_and_repaired() {
    let Some(env) = TestEnv::root() else { return };
    let name = pulled(&env, "checked");
    env.run(["check"]).success().stdout_has("0 damaged");
    let layers = env.store().join("layers");
    let mut words =
        std::fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().path().join("files/word"));
    let word = words.find(|word| word.exists()).unwrap();
    std::fs::write(&word, "CHECKED").unwrap();
    env.run(["check"]).code(1).stdout_has("1 damaged").stdout_has(&name);
    env.run(["check", "--repair"]).success().stdout_has("pulled again");
    env.run(["check"]).success().stdout_has("0 damaged");
    env.run(["run", "--rm", "--network", "none", &name, "cat", "/word"])
        .success()
        .stdout("checked");
}

#[test]
fn layers_are_drawn_with_what_is_wasted() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("large", vec![b'x'; 300_000])]));
    image.layers.push(Layer::of(&[Entry::whiteout("large"), Entry::file("small", "s")]));
    let name = images::registry().push("listing/wasted:1", &image.build());
    env.run(["pull", "-q", &name]).success();
    env.run(["layers", &name])
        .success()
        .stdout_has("/large")
        .stdout_has("wasted: 300kB")
        .stdout_has("█");
    let layers = env.run(["layers", "--json", &name]).success().json();
    assert_eq!(layers[2]["wasted"], json!(300_000));
    assert_eq!(layers[2]["biggestWasted"][0]["path"], json!("/large"));
}

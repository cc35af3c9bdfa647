//! What layers become: the torture image, whole and in the ways it may travel.

use integration::{
    Compression, Flavour, Image, Layer, Need, TestEnv, images, tar::Entry, torture, tree,
};

#[track_caller]
fn survives(env: &TestEnv, name: &str) {
    let run =
        ["run", "--rm", "--network", "none", "--read-only", "--security-opt", "seccomp=unconfined"];
    // trusted.* attributes are shown to CAP_SYS_ADMIN only; closed directories open to DAC_OVERRIDE.
    let run = env.command(run).args(["--cap-add", "SYS_ADMIN", name, "probe", "tree", "/t"]).run();
    let actual = serde_json::from_slice(&run.success().stdout).unwrap();
    let differences = tree::differences(&torture::expected(), &actual);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_torture_image_survives() {
    let Some(env) = TestEnv::root() else { return };
    for flavour in [Flavour::Docker, Flavour::Oci] {
        let image = torture::image().flavour(flavour).build();
        let name =
            images::registry().push(&format!("layers/torture:{flavour:?}").to_lowercase(), &image);
        survives(&env, &name);
    }
}

#[test]
fn the_torture_image_survives_zstd_and_no_compression() {
    let Some(env) = TestEnv::root() else { return };
    for compression in [Compression::Zstd, Compression::None, Compression::TwoGzipMembers] {
        let image = torture::image().flavour(Flavour::Oci).compression(compression).build();
        let name = format!("layers/torture-{compression:?}:1").to_lowercase();
        let name = images::registry().push(&name, &image);
        survives(&env, &name);
    }
}

#[test]
fn the_torture_image_survives_skopeo() {
    let needs = [Need::Root, Need::Program("skopeo", "skopeo")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let layout = env.path("layout");
    torture::image().flavour(Flavour::Oci).build().write_layout(&layout, "t");
    let archive = env.path("docker.tar");
    let copy = env.other("skopeo", ["--insecure-policy", "copy", "-q"]);
    let copy = copy.arg(format!("oci:{}:t", layout.display()));
    copy.arg(format!("docker-archive:{}:torture:1", archive.display())).run().success();
    survives(&env, &format!("docker-archive:{}", archive.display()));
}

/// A layer in a store already is used by a second image with other layers below it.
#[test]
fn a_layer_is_shared_by_images_with_different_parents() {
    let Some(env) = TestEnv::root() else { return };
    let top = Layer::of(&[Entry::file("kept/new", "new")]);
    for (tag, mode) in [("a", 0o711), ("b", 0o2750)] {
        let mut image = images::busybox();
        image
            .layers
            .push(Layer::of(&[Entry::directory("kept").mode(mode).owner(u64::from(mode), 3)]));
        image.layers.push(top.clone());
        let name = images::registry().push(&format!("layers/parents:{tag}"), &image.build());
        let run = ["run", "--rm", "--network", "none", &name, "stat", "-c", "%a %u", "/kept"];
        env.run(run).success().stdout(&format!("{mode:o} {mode}\n"));
    }
}

/// Overlay's option string is limited to a page; the mount API is not.
#[test]
fn an_image_may_have_very_many_layers() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    for number in 0..180 {
        let own = Entry::file(format!("n/{number}"), "x");
        image.layers.push(Layer::of(&[own, Entry::file("last", number.to_string())]));
    }
    let name = images::registry().push("layers/many:1", &image.build());
    let command = "ls /n | wc -l; cat /last";
    env.run(["run", "--rm", "--network", "none", &name, "sh", "-c", command])
        .success()
        .stdout("180\n179");
}

#[test]
fn the_same_layer_twice_is_legal() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    let again = Layer::of(&[Entry::file("twice", "twice")]);
    image.layers.extend([again.clone(), Layer::of(&[Entry::whiteout("twice")]), again]);
    let name = images::registry().push("layers/twice:1", &image.build());
    env.run(["run", "--rm", "--network", "none", &name, "cat", "/twice"]).success().stdout("twice");
}

#[test]
fn an_image_without_layers_or_with_an_empty_one_is_an_image() {
    let Some(env) = TestEnv::root() else { return };
    for (tag, layers) in [("none", vec![]), ("empty", vec![Layer::of(&[])])] {
        let name =
            images::registry().push(&format!("layers/empty:{tag}"), &Image::new(layers).build());
        env.run(["pull", "-q", &name]).success();
        env.run(["run", "--rm", "--network", "none", &name, "sh"]).code(127).one_clear_line();
    }
}

/// The copy-on-write root of one container is not another's.
#[test]
fn containers_of_one_image_do_not_see_each_other() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let names: Vec<_> = (0..3).map(|number| env.name(&format!("cow{number}"))).collect();
    for name in &names {
        let command =
            "test ! -e /mine && echo x >/mine && rm -r /home && mkdir /home && ls -A /home | wc -l";
        let run = ["run", "--network", "none", "--name", name, &image, "sh", "-c", command];
        env.run(run).success().stdout("0\n");
    }
    for name in &names {
        env.run(["rm", name]).success();
    }
}

#[test]
fn a_debian_image_made_here_runs() {
    let needs = [Need::Root, Need::Program("debootstrap", "debootstrap")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let image = match integration::debian() {
        Ok(image) => image.build(),
        Err(reason) => return integration::skip(&format!("no Debian image can be made: {reason}")),
    };
    let name = images::registry().push("layers/debian:1", &image);
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        &name,
        "bash",
        "-c",
        ". /etc/os-release; echo $ID; dpkg -l | wc -l",
    ];
    let run = env.run(run).success();
    let text = run.text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("debian"));
    assert!(lines.next().unwrap().parse::<u32>().unwrap() > 80);
}

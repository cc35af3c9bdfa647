//! Every example of README.md, run as a reader would run it.

use std::{fs, os::unix::fs::symlink, path::Path};

use integration::{Layer, Need, TestEnv, images, tar::Entry};

/// The shell blocks, each with the heading it stands under.
fn examples() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (mut heading, mut found, mut block) = (String::new(), Vec::new(), None::<String>);
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (None, _) => {
                if let Some(title) = line.strip_prefix("## ") {
                    heading = title.to_owned();
                }
            }
            (Some(_), "```") => found.push((heading.clone(), block.take().unwrap_or_default())),
            (Some(lines), _) => *lines += &format!("{line}\n"),
        }
    }
    found
}

#[test]
fn every_example_works() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("script", "bsdutils")]) else {
        return;
    };
    let mut image = images::busybox();
    // The examples say bash; the small image has another shell.
    image.layers.push(Layer::of(&[Entry::program("bin/bash", "#!/bin/sh\nexec /bin/sh \"$@\"\n")]));
    images::registry().push("readme/debian:jessie", &image.build());
    let conf = env.file(
        "registries.conf",
        format!(
            "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"{}/readme\"\ninsecure = true\n",
            images::registry().host()
        ),
    );
    let bin = env.path("bin");
    fs::create_dir(&bin).unwrap();
    symlink(integration::program(), bin.join("crun-cargo")).unwrap();
    let rootfs = env.rootfs("example-rootfs");
    let examples = examples();
    assert!(examples.len() >= 8, "README.md has its examples");
    for (number, (heading, example)) in examples.iter().enumerate() {
        let place = env.path(format!("example{number}"));
        fs::create_dir(&place).unwrap();
        let file = env.file(&format!("example{number}.sh"), format!("set -e\n{example}"));
        // script(1) gives the example a terminal, as the reader has.
        let command = format!("sh {}", file.display());
        let run = env.other("script", ["-q", "-e", "-c", &command, "/dev/null"]);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        println!("{heading}:\n{example}");
        run.env("PATH", path)
            .env("CONTAINERS_REGISTRIES_CONF", &conf)
            .env("CRUN_CARGO_ROOT", env.store())
            .env("CRUN_CARGO_RUNROOT", env.runroot())
            .env("EXAMPLE_ROOTFS", &rootfs)
            .current_dir(&place)
            .stdin("exit\n")
            .run()
            .success();
    }
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(target.starts_with("http") || root.join(target).exists(), "{name}: {target}");
        }
    }
}

#[test]
fn every_make_target_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    for name in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        for target in text.split("`make ").skip(1).filter_map(|rest| rest.split('`').next()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{name}: make {target}");
        }
    }
}

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
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() { root.join(name) } else { root.join(file) };
            let text = fs::read_to_string(there).unwrap_or_else(|_| panic!("{name}: {target}"));
            let is_there = text.lines().any(|line| line.starts_with('#') && slug(line) == heading);
            assert!(heading.is_empty() || is_there, "{name}: {target}");
        }
    }
}

/// A heading as links name it.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.replace(' ', "-").replace(|c: char| !c.is_alphanumeric() && c != '-', "")
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

/// Rows of a Markdown table in docs/docker-0.5.md: the word in the first column, and the last column.
fn docker_rows(heading: &str) -> Vec<(String, String)> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/docker-0.5.md");
    let text = fs::read_to_string(place).unwrap();
    let table = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let word = row[3..].split([' ', '`']).next().unwrap();
        let here = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        (word.to_owned(), here.to_owned())
    })
    .collect()
}

#[test]
fn docker_commands_of_2013_are_there_or_refused_with_a_sentence() {
    let env = TestEnv::new();
    let rows = docker_rows("## Commands");
    assert!(rows.len() > 25, "the table is where this test looks");
    for (command, here) in rows {
        if here.starts_with("later") {
            let run = env.run([&command, "x"]).code(125).one_clear_line();
            run.stderr_has("yet").stderr_has("hint: ");
        } else {
            env.run([&command, "--help"]).success().stdout_has("Usage: ");
        }
    }
}

#[test]
fn docker_flags_of_2013_work_or_are_refused() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    for (flag, here) in docker_rows("## Flags of") {
        let flag = here.split('`').find(|word| word.starts_with("--")).unwrap_or(&flag);
        let file = env.path("cid");
        let value: Vec<&str> = match flag {
            "-c" | "--cpu-shares" => vec!["512"],
            "--cidfile" => vec![file.to_str().unwrap()],
            "-e" => vec!["A=1"],
            "-h" => vec!["box"],
            "-m" => vec!["64m"],
            "-p" => vec!["80"],
            "-a" | "--attach" => vec!["stdout"],
            "-u" => vec!["0"],
            "--dns" => vec!["192.0.2.1"],
            "-v" => vec!["/var/tmp:/mnt:ro"],
            "-volumes-from" => vec!["other"],
            "--entrypoint" => vec!["true"],
            "--network none" => vec![],
            _ => vec![],
        };
        let run = env.command(["run", "--rm"]).args(flag.split(' ')).args(&value);
        let run = run.args([&image, "true"]).run();
        if here.starts_with("later") {
            run.code(125);
        } else {
            run.success();
        }
    }
}

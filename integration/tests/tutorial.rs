//! docs/tutorial.md, typed line by line against a real registry, with a real Debian image.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use integration::{Finished, Need, Registry, TestEnv};

/// The shell blocks of the tutorial below one heading, or of all others.
fn blocks(wanted: impl Fn(&str) -> bool) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md");
    let text = fs::read_to_string(page).unwrap();
    let (mut heading, mut inside, mut script) = (String::new(), false, String::new());
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside && wanted(&heading) => script += &format!("{line}\n"),
            _ if !inside => {
                if let Some(title) = line.strip_prefix("## ") {
                    heading = title.to_owned();
                }
            }
            _ => {}
        }
    }
    script
}

const OLD: &str = "The old commands";

/// A place with the programs' names, a registry, and a hub that is the same registry.
struct Place {
    env: TestEnv,
    registry: Registry,
    bin: PathBuf,
    conf: PathBuf,
}

impl Place {
    fn new() -> Option<Self> {
        let needs = [
            Need::Root,
            Need::Program("git", "git"),
            Need::Program("docker-registry", "docker-registry"),
            Need::Program("dpkg-deb", "dpkg"),
            Need::Program("script", "bsdutils"),
        ];
        let env = TestEnv::with(&needs)?;
        let image = match integration::debian() {
            Ok(image) => image,
            Err(reason) => {
                integration::skip(&format!("no Debian image: {reason}"));
                return None;
            }
        };
        let registry = env.registry();
        registry.push("library/debian:jessie", &image.build());
        let conf = env.file(
            "registries.conf",
            format!(
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\ninsecure = true\n",
                registry.host()
            ),
        );
        let bin = env.path("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["crun-cargo", "krgo", "nsinit"] {
            symlink(integration::program(), bin.join(name)).unwrap();
        }
        Some(Self { env, registry, bin, conf })
    }

    /// Types a script at a terminal, stopping at the first command that fails.
    fn type_in(&self, script: &str) -> Finished {
        let script = script.replace("localhost:5000", &self.registry.host());
        let file = self.env.file("typed.sh", format!("set -e\n{script}"));
        let place = self.env.path("place");
        fs::create_dir_all(&place).unwrap();
        let command = format!("bash -x {}", file.display());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display());
        self.env
            .other("script", ["-q", "-e", "-c", &command, "/dev/null"])
            .env("PATH", path)
            .env("CONTAINERS_REGISTRIES_CONF", &self.conf)
            .env("CRUN_CARGO_ROOT", self.env.store())
            .env("CRUN_CARGO_RUNROOT", self.env.runroot())
            .env("GIT_PAGER", "cat")
            .env("TERM", "dumb")
            .current_dir(place)
            .limit(Duration::from_secs(300))
            .run()
    }
}

#[test]
fn todays_commands_do_what_the_tutorial_says() {
    let Some(place) = Place::new() else { return };
    let script = blocks(|heading| heading != OLD);
    assert!(script.lines().count() > 25, "the tutorial has its commands");
    let mut typed = place.type_in(&script).success();
    for line in [
        "nothing to commit, working tree clean",
        "hello from a layer",
        "install hello",
        "usr/bin/hello-krgo",
    ] {
        typed = typed.stdout_has(line);
    }
}

#[test]
fn the_old_commands_still_work() {
    let Some(place) = Place::new() else { return };
    // While nsinit has no `exec`, there is nothing to type.
    let nsinit = place.env.other(place.bin.join("nsinit").to_str().unwrap(), ["--help"]).run();
    if !nsinit.text().contains("exec") {
        integration::skip("nsinit has no exec");
        return;
    }
    let typed = place.type_in(&blocks(|heading| heading == OLD)).success();
    let text = typed.text().replace('\r', "");
    let host = place.registry.host();
    for line in [
        "Pulling image library/debian:jessie ...".to_owned(),
        "Pulling 1 layers:".to_owned(),
        "Downloading layers:".to_owned(),
        "Done. Rootfs of library/debian:jessie in debian".to_owned(),
        "krgo-demo".to_owned(),
        "?? container.json".to_owned(),
        "Done".to_owned(),
        format!("Pushing image {host}/me/debian_curl:latest ..."),
        "Pushing 2 layers:".to_owned(),
        format!("Done. Rootfs of {host}/me/debian_curl:latest in rootfs"),
        "from nsinit".to_owned(),
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} is missing from\n{text}");
    }
    let id = value(&text, "Image ID: ");
    assert!(text.contains(&format!("Changes commited in layer_1_{id}")), "{text}");
    assert_ne!(value(&text, "Checksum: tarsum.dev+sha256:"), EMPTY);
    assert!(value(&text, "Layer size: ").parse::<u64>().unwrap() > 1024);
}

/// What krgo always printed: the sum of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The rest of the last line that begins so.
fn value(text: &str, start: &str) -> String {
    let found = text.lines().filter_map(|line| line.strip_prefix(start)).next_back();
    found.unwrap_or_else(|| panic!("no line {start:?} in\n{text}")).to_owned()
}

//! Root filesystems with a branch per layer, through the program and stock git.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use integration::{Finished, Image, Layer, Need, Registry, TestEnv, tar::Entry};

/// Two layers with what git cannot store.
fn image() -> Image {
    let base = [
        Entry::directory("bin"),
        Entry::directory("empty").mode(0o1777),
        Entry::program("bin/tool", "tool").mode(0o4755).owner(3, 4),
        Entry::file("etc-file", "one"),
        Entry::char("null", 1, 3),
    ];
    let upper = [Entry::file("etc-file", "two").mode(0o600), Entry::whiteout("empty")];
    Image::new(vec![Layer::of(&base), Layer::of(&upper)])
}

struct Place {
    env: TestEnv,
    registry: Registry,
}

impl Place {
    fn new() -> Option<Self> {
        let git = Need::Program("git", "git");
        let env =
            TestEnv::with(&[Need::Root, git, Need::Program("docker-registry", "docker-registry")])?;
        let registry = env.registry();
        registry.push("me/app:1", &image().build());
        Some(Self { env, registry })
    }

    fn git(&self, words: &[&str]) -> Finished {
        // Git and its hook are not told where the store is: the hook knows.
        self.env.other("git", words).current_dir(self.env.path("app")).run()
    }

    fn pull(&self) {
        let name = self.registry.name("me/app:1");
        self.env.run(["pull", "-q", &name, "-r", "app", "-g"]).success();
    }

    /// By the program's other name, which takes no flags of ours.
    fn krgo(&self, words: &[&str]) -> Finished {
        let mut command = self.env.bare();
        command.arg("krgo").args(words);
        integration::Invocation::new(command)
            .env("CRUN_CARGO_ROOT", self.env.store())
            .env("CRUN_CARGO_RUNROOT", self.env.runroot())
            .run()
    }

    fn branches(&self) -> Vec<String> {
        let listed = self.git(&["branch", "--format=%(refname:short)"]).success().text();
        listed.lines().map(str::to_owned).collect()
    }

    fn manifest(&self, registry: &Registry, repository: &str, tag: &str) -> Vec<u8> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let accept = [(
            "Accept",
            "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
        )];
        let answer = registry.ask("GET", &path, &accept, &[], repository);
        assert_eq!(answer.status, 200, "{path}");
        answer.body
    }
}

#[test]
fn what_was_pulled_is_pushed_byte_for_byte() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let empty = Registry::start(&place.env.path("empty"), integration::Guard::None);
    let name = empty.name("you/copy:2");
    place.env.run(["push", "-q", &name, "-r", "app"]).success();
    let (before, after) =
        (place.manifest(&place.registry, "me/app", "1"), place.manifest(&empty, "you/copy", "2"));
    assert_eq!(before, after, "the manifest names every digest");
}

#[test]
fn gits_own_checkout_is_completed_by_the_hook() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let branches = place.branches();
    assert_eq!(branches.len(), 2);
    let stat = |name: &str| fs::symlink_metadata(place.env.path("app").join(name));
    for round in 0..2 {
        let mode = stat("bin/tool").unwrap().mode() & 0o7777;
        assert_eq!((mode, stat("bin/tool").unwrap().uid()), (0o4755, 3), "round {round}");
        assert_eq!(stat("etc-file").unwrap().mode() & 0o7777, 0o600);
        assert!(stat("empty").is_err());
        place.git(&["checkout", "-q", &branches[0]]).success();
        assert_eq!(stat("empty").unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(stat("null").unwrap().rdev(), 0x103);
        place.git(&["status", "--porcelain"]).success().stdout("");
        place.git(&["checkout", "-q", &branches[1]]).success();
        place.git(&["status", "--porcelain"]).success().stdout("");
        place.git(&["fsck", "--strict"]).success();
    }
}

#[test]
fn commits_without_words_are_found_from_inside() {
    let Some(place) = Place::new() else { return };
    place.pull();
    fs::write(place.env.path("app/new"), "new").unwrap();
    let inside = place.env.path("app");
    let commit = |words: &[&str]| place.env.command(words).current_dir(&inside).run();
    commit(&["commit", "-m", "from inside"]).success();
    assert_eq!(place.branches().len(), 3);
    place.git(&["log", "-1", "--format=%s"]).success().stdout("from inside\n");
    commit(&["commit", "-r", "app", "-m", "again"]).failure().stderr_has("no changes to extract");
    let name = place.registry.name("me/app:2");
    commit(&["push", "-q", &name]).success();
    place.env.run(["run", "--rm", "--network", "none", &name, "/new"]).code(126);
}

#[test]
fn a_wrong_directory_gets_a_helpful_answer() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let result = place.env.run(["commit", "-r", "app_other", "-m", "x"]).failure();
    let found = "no rootfs at ./app_other; found ./app (layer_1_";
    result.stderr_has(found).stderr_has("use -r app").one_clear_line();
    let again = place.env.run(["pull", "-q", &place.registry.name("me/app:1"), "-r", "app", "-g"]);
    again.failure().stderr_has("is not empty");
    fs::create_dir(place.env.path("plain")).unwrap();
    place
        .env
        .run(["commit", "-r", "plain", "-m", "x"])
        .failure()
        .stderr_has("not a git repository");
}

#[test]
fn an_image_that_a_root_filesystem_needs_stays() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let name = place.registry.name("me/app:1");
    place.env.run(["rmi", &name]).failure().stderr_has("root filesystem");
    place.env.run(["image", "prune", "-a", "-f"]).success();
    fs::write(place.env.path("app/new"), "new").unwrap();
    place.env.run(["commit", "-r", "app", "-m", "x"]).success();
    fs::remove_dir_all(place.env.path("app")).unwrap();
    let prune = ["image", "prune", "-a", "-f"];
    place.env.run(prune).success().stderr_has("app, which is not there");
    place.env.run([&prune[..], &["--lost-rootfs"]].concat()).success().stderr_lacks("kept");
    place.env.run(["images", "-q"]).success().stdout("");
    assert_eq!(fs::read_dir(place.env.store().join("git")).unwrap().count(), 0);
}

#[test]
fn a_root_filesystem_that_was_moved_keeps_its_branches() {
    let Some(place) = Place::new() else { return };
    place.pull();
    fs::write(place.env.path("app/new"), "new").unwrap();
    place.env.run(["commit", "-r", "app", "-m", "first"]).success();
    fs::rename(place.env.path("app"), place.env.path("moved")).unwrap();
    place.env.run(["image", "prune", "-a", "-f"]).success();
    let name = place.registry.name("me/app:1");
    place.env.run(["rmi", &name]).failure().stderr_has("not there any more");
    fs::write(place.env.path("moved/new"), "newer").unwrap();
    place.env.run(["commit", "-r", "moved", "-m", "second"]).success();
    // Now it is known where it is.
    place.env.run(["image", "prune", "-a", "-f", "--lost-rootfs"]).success().stderr_lacks("kept");
    let name = place.registry.name("me/app:2");
    place.env.run(["push", "-q", &name, "-r", "moved"]).success();
    place.env.run(["run", "--rm", "--network", "none", &name, "/new"]).code(126);
}

#[test]
fn a_copy_of_a_root_filesystem_gets_branches_of_its_own() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let copy =
        || place.env.other("cp", ["-a", "app", "copy"]).current_dir(place.env.path(".")).run();
    copy().success();
    fs::write(place.env.path("copy/new"), "new").unwrap();
    place.env.run(["commit", "-r", "copy", "-m", "in the copy"]).success();
    assert_eq!(place.branches().len(), 2, "the first one has no new branch");
    place.git(&["status", "--porcelain"]).success().stdout("");
    let in_copy = |words: &[&str]| {
        place.env.other("git", words).current_dir(place.env.path("copy")).run().success()
    };
    in_copy(&["status", "--porcelain"]).stdout("");
    in_copy(&["fsck", "--strict"]);
    assert_eq!(in_copy(&["branch"]).text().lines().count(), 3);
    // Stock git knows nothing of copies until its hook tells us.
    fs::remove_dir_all(place.env.path("copy")).unwrap();
    copy().success();
    let (branches, shown) = (place.branches(), place.git(&["branch", "--show-current"]).text());
    in_copy(&["checkout", "-q", &branches[0]]);
    in_copy(&["branch", "--show-current"]).stdout(&format!("{}\n", branches[0]));
    in_copy(&["status", "--porcelain"]).stdout("");
    place.git(&["branch", "--show-current"]).stdout(&shown);
    place.git(&["status", "--porcelain"]).stdout("");
}

#[test]
fn a_repository_that_is_gone_is_made_again_around_the_files() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let before = place.branches();
    fs::write(place.env.path("app/etc-file"), "mine").unwrap();
    fs::remove_dir_all(place.env.store()).unwrap();
    let commit = ["commit", "-r", "app", "-m", "x"];
    place
        .env
        .run(commit)
        .failure()
        .stderr_has("the repository of app is gone")
        .stderr_has("pull IMAGE");
    let other = place.env.busybox();
    let refused = place.env.run(["pull", "-q", &other, "-r", "app", "-g"]).failure();
    refused.stderr_has("shows layer");
    place.pull();
    assert_eq!(place.branches(), before);
    assert_eq!(fs::read_to_string(place.env.path("app/etc-file")).unwrap(), "mine");
    place.git(&["status", "--porcelain"]).success().stdout(" M etc-file\n");
    place.git(&["fsck", "--strict"]).success();
    place.env.run(commit).success();
    assert_eq!(place.branches().len(), 3);
}

#[test]
fn a_killed_pull_is_simply_done_again() {
    let Some(place) = Place::new() else { return };
    // As after SIGKILL while files were being made.
    let app = place.env.path("app");
    fs::create_dir_all(app.join("half")).unwrap();
    fs::write(app.join(".crun-cargo-unfinished"), "").unwrap();
    place.pull();
    assert!(!Path::new(&app.join("half")).exists());
    place.git(&["status", "--porcelain"]).success().stdout("");
}

/// Line by line, by both ways to ask for them.
#[test]
fn krgos_lines_are_krgos() {
    let Some(place) = Place::new() else { return };
    let name = place.registry.name("me/app:1");
    let words = ["pull", &name, "-r", "app", "-g"];
    let pulled = place.krgo(&words).success().text();
    let branches = place.branches();
    let ids: Vec<&str> = branches.iter().map(|branch| branch.rsplit_once('_').unwrap().1).collect();
    let (base, top) = (ids[0], ids[1]);
    let shown = &name;
    let expected = format!(
        "Pulling image {shown} ...\nImage ID: {top}\nPulling 2 layers:\n\t{base}\n\t{top}\n\
         \tDone {base}\n\tDone {top}\nDownloading layers:\n\t{base} ... done\n\t{top} ... done\n\
         Done. Rootfs of {shown} in app\n"
    );
    assert_eq!(pulled, expected);
    fs::remove_dir_all(place.env.path("app")).unwrap();
    let flag = [&words[..], &["--output", "krgo"]].concat();
    place.env.run(flag).success().stdout(&expected);

    fs::write(place.env.path("app/new"), "new").unwrap();
    let commit = ["commit", "-r", "app", "-m", "x"];
    let told = place.krgo(&commit).success().text();
    let branch = place.git(&["branch", "--show-current"]).text().trim().to_owned();
    let id = branch.rsplit_once('_').unwrap().1;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], format!("Changes commited in {branch}"));
    assert_eq!(lines[1], format!("Image ID: {id}"));
    assert_eq!(lines[2], format!("Parent: {top}"));
    // TRAP: krgo printed the sum of nothing, or no sum at all.
    let sum = lines[3].strip_prefix("Checksum: tarsum.dev+sha256:").unwrap();
    assert!(sum.len() == 64 && !sum.starts_with("e3b0c442"), "{sum}");
    assert!(lines[4].strip_prefix("Layer size: ").unwrap().parse::<u64>().unwrap() > 1024);
    assert_eq!(lines[5..], ["Done"]);
    place.krgo(&commit).code(1).stderr_has("no changes to extract");

    let name = place.registry.name("me/app:2");
    let pushed = place.krgo(&["push", &name, "-r", "app"]).success();
    pushed.stdout(&format!(
        "Pushing image {name} ...\nPushing 3 layers:\n\t{base} ... done (already pushed)\n\
         \t{top} ... done (already pushed)\n\t{id} ... done\nDone: {name}\n"
    ));
}

/// An old tree in a museum: files, from a mount point, behind a web server.
#[test]
fn a_registry_of_2013_may_be_nothing_but_files() {
    let Some(place) = Place::new() else { return };
    place.pull();
    let name = place.registry.name("me/app:1");
    let tree = place.env.path("tree").display().to_string();
    place.env.run(["push", "-q", "--to", "v1-static", &name, &tree]).success();
    let moved = format!("v1-static:{tree}:museum/app:old");
    place.env.run(["push", "-q", &name, &moved]).success();
    let tags = fs::read_to_string(place.env.path("tree/v1/repositories/museum/app/tags")).unwrap();
    assert!(tags.starts_with("{\"old\":"), "{tags}");
    place.env.run(["pull", "-q", &moved, "-r", "from-files"]).success();
    assert_eq!(fs::read_to_string(place.env.path("from-files/etc-file")).unwrap(), "two");
    let mode = fs::metadata(place.env.path("from-files/bin/tool")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o4755);
    place
        .env
        .run(["pull", "-q", &format!("v1-static:{tree}:museum/app:new")])
        .failure()
        .stderr_has("no such tag \"new\"");
    place
        .env
        .run(["push", "-q", &name, "ssh://host/x:me/app:1"])
        .failure()
        .stderr_has("only be read");

    if let Some(reason) = Need::Program("busybox", "busybox-static").missing() {
        return integration::skip(&reason);
    }
    let address = integration::free_port().to_string();
    let words = ["httpd", "-f", "-p", &address, "-h", &tree];
    let server = place.env.other("busybox", words).start();
    place
        .env
        .eventually("the web server answers", || std::net::TcpStream::connect(&address).is_ok());
    let name = format!("{address}/museum/app:old");
    let pull = ["pull", "-q", "--tls-verify=false", "--protocol", "v1", &name, "-r", "from-web"];
    place.env.run(pull).success();
    assert_eq!(fs::read_to_string(place.env.path("from-web/etc-file")).unwrap(), "two");
    // Found out without being told, too.
    let found = ["pull", "-q", "--tls-verify=false", &name, "-r", "found"];
    place.env.run(found).success();
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = server.finish();
}

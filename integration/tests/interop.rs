//! Other programs read what we write, and we read what they write: the torture image, whole both times.

use std::{fs, path::Path, time::Duration};

use integration::{
    Daemon, Finished, Flavour, Need, TestEnv, images, torture,
    tree::{self, Tree},
};

/// What a program is known to lose on the way, and so is not looked at.
#[derive(Clone, Copy, Default)]
struct Loses {
    /// Attributes but file capabilities.
    xattrs: bool,
    /// Holes.
    holes: bool,
    /// Fractions of a second.
    fractions: bool,
    /// Times before 1970, which become its beginning.
    early: bool,
}

#[track_caller]
fn is_torture(found: &Tree, loses: Loses) {
    let forget = |tree: &Tree| -> Tree {
        let mut tree = tree.clone();
        for node in tree.values_mut() {
            if loses.xattrs {
                node.xattrs.retain(|name, _| name == "security.capability");
            }
            node.sparse &= !loses.holes;
            if loses.early && node.mtime.is_some_and(|(seconds, _)| seconds < 0) {
                node.mtime = Some((0, 0));
            }
            if loses.fractions {
                node.mtime = node.mtime.map(|(seconds, _)| (seconds, 0));
            }
        }
        tree
    };
    let differences = tree::differences(&forget(&torture::expected()), &forget(found));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The torture image as we write it: a layer of ours instead of the tests' own, in which a path may stand
/// twice, which the others refuse.
fn written(env: &TestEnv) -> String {
    let image = torture::image().flavour(Flavour::Oci).build();
    let name = images::registry().push(&format!("interop/{}:1", env.token()), &image);
    env.run(["pull", "-q", &name]).success();
    let archive = env.run(["export", &name]).success().stdout;
    let name = "localhost/torture:1".to_owned();
    env.command(["import", "-", &name]).stdin(archive).run().success();
    name
}

/// Pulled by us from where another program put it, and unpacked.
#[track_caller]
fn arrives(env: &TestEnv, source: &str, loses: Loses) {
    let other = TestEnv::new();
    other.command(["pull", "-q", source]).current_dir(env.path("")).run().success();
    let id = other.run(["images", "-q"]).success().word();
    other.run(["unpack", &id, "tree"]).success();
    is_torture(&tree::read(&other.path("tree/t")).unwrap(), loses);
}

fn patient(env: &TestEnv, program: &str, globals: &[String], words: &[&str]) -> Finished {
    let run = env.other(program, globals).args(words).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
    run.limit(Duration::from_secs(180)).run()
}

/// podman and buildah with directories of their own.
fn storage(env: &TestEnv, program: &str, words: &[&str]) -> Finished {
    let home = env.path("storage");
    let text = |name: &str| home.join(name).display().to_string();
    let mut globals = vec!["--root".to_owned(), text("root"), "--runroot".to_owned(), text("run")];
    globals.extend(["--storage-driver", "overlay"].map(str::to_owned));
    if program == "podman" {
        globals.extend(["--tmpdir".to_owned(), text("tmp")]);
        globals.extend(
            ["--events-backend", "none", "--cgroup-manager", "cgroupfs"].map(str::to_owned),
        );
    }
    patient(env, program, &globals, words).success()
}

#[test]
fn skopeo_carries_it_both_ways() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("skopeo", "skopeo")]) else { return };
    let name = written(&env);
    let skopeo = |from: &str, to: &str| {
        let words = [
            "--insecure-policy",
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            from,
            to,
        ];
        env.other("skopeo", words).run().success()
    };
    // Ours, read by it, written by it, read by us.
    for (ours, theirs) in [
        ("oci:ours:t", "docker-archive:theirs.tar:torture:1"),
        ("oci-archive:ours.tar:t", "oci:theirs:t"),
        ("docker-archive:ours-docker.tar:torture:1", "dir:theirs-dir"),
        ("dir:ours-dir", "oci-archive:theirs-oci.tar:t"),
    ] {
        env.run(["push", "-q", &name, ours]).success();
        skopeo(ours, theirs);
        arrives(&env, theirs, Loses::default());
    }
    let registry = env.registry();
    let (to, back) = (registry.name("torture:1"), registry.name("back:1"));
    env.run(["push", "-q", "--compression", "zstd", &name, &to]).success();
    skopeo(&format!("docker://{to}"), &format!("docker://{back}"));
    arrives(&env, &back, Loses::default());
}

#[test]
fn umoci_unpacks_ours_and_we_unpack_what_it_repacks() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("umoci", "umoci")]) else { return };
    let name = written(&env);
    env.run(["push", "-q", &name, "oci:layout:t"]).success();
    let umoci =
        |words: &[&str]| env.other("umoci", words).limit(Duration::from_secs(120)).run().success();
    umoci(&["unpack", "--image", "layout:t", "bundle"]);
    // It restores links before their targets' attributes, and fills holes.
    is_torture(
        &tree::read(&env.path("bundle/rootfs/t")).unwrap(),
        Loses { holes: true, ..Loses::default() },
    );
    fs::write(env.path("bundle/rootfs/new"), "new").unwrap();
    umoci(&["repack", "--image", "layout:u", "bundle"]);
    arrives(&env, "oci:layout:u", Loses::default());
    env.run(["run", "--rm", "--network", "none", "oci:layout:u", "cat", "/new"])
        .success()
        .stdout("new");
}

#[test]
fn podman_loads_pulls_and_saves_it() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("podman", "podman")]) else { return };
    let name = written(&env);
    let podman = |words: &[&str]| storage(&env, "podman", words);
    let shown = |image: &str, loses: Loses| {
        let place = podman(&["image", "mount", image]).word();
        is_torture(&tree::read(&Path::new(&place).join("t")).unwrap(), loses);
        podman(&["image", "unmount", image]);
    };
    let loses = Loses { holes: true, early: true, ..Loses::default() };
    env.run(["save", "-q", "-o", "docker.tar", &name]).success();
    podman(&["load", "-q", "-i", "docker.tar"]);
    shown(&name, loses);
    podman(&["rmi", "-f", &name]);
    env.run(["save", "-q", "--format", "oci-archive", "-o", "oci.tar", &name]).success();
    podman(&["load", "-q", "-i", "oci.tar"]);
    shown(&name, loses);
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}-theirs.tar");
        podman(&["save", "-q", "--format", format, "-o", &file, &name]);
        arrives(&env, &format!("{format}:{file}"), Loses::default());
    }
    let back = env.registry();
    podman(&["push", "-q", "--tls-verify=false", &name, &back.name("podman:1")]);
    arrives(&env, &back.name("podman:1"), Loses::default());
}

#[test]
fn buildah_builds_on_ours_and_we_run_what_it_commits() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("buildah", "buildah")]) else {
        return;
    };
    let name = written(&env);
    env.run(["push", "-q", &name, "oci:layout:t"]).success();
    let buildah = |words: &[&str]| storage(&env, "buildah", words);
    let container = buildah(&["from", "oci:layout:t"]).word();
    let place = buildah(&["mount", &container]).word();
    is_torture(
        &tree::read(&Path::new(&place).join("t")).unwrap(),
        Loses { holes: true, early: true, ..Loses::default() },
    );
    fs::write(Path::new(&place).join("new"), "new").unwrap();
    buildah(&["umount", &container]);
    buildah(&["config", "--cmd", "cat /new", &container]);
    for format in ["oci", "docker"] {
        let to = format!("oci:built-{format}:1");
        buildah(&["commit", "-q", "--format", format, &container, &to]);
        arrives(&env, &to, Loses::default());
        env.run(["run", "--rm", "--network", "none", &to]).success().stdout("new");
    }
}

#[test]
fn docker_loads_ours_and_we_load_what_it_saves() {
    let needs =
        [Need::Root, Need::Program("dockerd", "docker.io"), Need::Program("docker", "docker.io")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let name = written(&env);
    let daemon = match Daemon::dockerd(&env.path("daemon"), &[]) {
        Ok(daemon) => daemon,
        Err(reason) => return integration::skip(&format!("dockerd does not start: {reason}")),
    };
    let host = vec![format!("--host=unix://{}", daemon.socket.display())];
    let docker = |words: &[&str]| patient(&env, "docker", &host, words).success();
    env.run(["save", "-q", "-o", "ours.tar", &name]).success();
    docker(&["load", "-q", "-i", "ours.tar"]);
    let container = docker(&["create", &name, "true"]).word();
    docker(&["export", "-o", "tree.tar", &container]);
    fs::create_dir(env.path("tree")).unwrap();
    let unpack = env.other(
        "tar",
        ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "tree.tar", "-C", "tree"],
    );
    unpack.run().success();
    let loses = Loses { xattrs: true, holes: true, fractions: true, early: true };
    is_torture(&tree::read(&env.path("tree/t")).unwrap(), loses);
    docker(&["save", "-o", "theirs.tar", &name]);
    arrives(&env, "docker-archive:theirs.tar", Loses::default());
    // And a commit of ours is an image of docker's.
    let changed = env.name("changed");
    env.run(["run", "--network", "none", "--name", &changed, &name, "sh", "-c", "echo x >/x"])
        .success();
    env.run(["commit", "--format", "docker", &changed, "changed:1"]).success();
    let archive = env.run(["save", "-q", "changed:1"]).success().stdout;
    let load = env.other("docker", &host).args(["load"]).stdin(archive);
    load.limit(Duration::from_secs(60)).run().success().stdout_has("changed:1");
    docker(&["rm", &container]);
}

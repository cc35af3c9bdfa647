//! `cp`: docker's rules for what goes where, whose it is then, and a container that swaps links meanwhile.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use integration::{
    Running, TestEnv, gzip,
    tar::{self, Entry},
    tree,
};

/// A container that has ended, with files of its own.
fn ended(env: &TestEnv, script: &str) -> String {
    let (name, image) = (env.name("ended"), env.pulled_busybox());
    let run = ["run", "--network", "none", "--name", &name, &image, "sh", "-c", script];
    env.run(run).success();
    name
}

/// A container that runs a script and then stays.
fn running(env: &TestEnv, flags: &[&str], script: &str) -> (String, Running) {
    let (name, image) = (env.name("running"), env.pulled_busybox());
    let script = format!("{script}\ntouch /ready; sleep 600");
    let run = env.command(["run", "--network", "none", "--init", "--name", &name]).args(flags);
    let running = run.args([&image, "sh", "-c", &script]).start();
    env.eventually("the container is ready", || {
        env.run(["exec", &name, "test", "-e", "/ready"]).status.success()
    });
    (name, running)
}

const FILES: &str =
    "mkdir -p /data/sub; echo f >/data/f; echo x >/data/sub/x; ln -s f /data/link; ln -s data /dl";

fn names(directory: &Path) -> Vec<String> {
    tree::read(directory).unwrap().into_keys().collect()
}

#[test]
fn what_a_destination_means_depends_on_what_is_there() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(&env, FILES);
    for (source, destination, expected) in [
        ("/data", "there", vec!["data", "data/f", "data/link", "data/sub", "data/sub/x"]),
        ("/data", "new", vec!["f", "link", "sub", "sub/x"]),
        ("/data/", "new/", vec!["f", "link", "sub", "sub/x"]),
        ("/data/.", "there", vec!["f", "link", "sub", "sub/x"]),
        ("/data/.", "new", vec!["f", "link", "sub", "sub/x"]),
        // Links on the way are followed, and the last one when a slash says that a directory is meant.
        ("/dl/sub", "there", vec!["sub", "sub/x"]),
        ("/dl/", "new", vec!["f", "link", "sub", "sub/x"]),
        ("data/f", "there", vec!["f"]),
        ("/data/f", "there/renamed", vec!["renamed"]),
        ("/data/f", "there/", vec!["f"]),
        ("/data/link", "there", vec!["link"]),
    ] {
        let (out, base) = (env.path("out"), destination.trim_end_matches('/'));
        fs::create_dir_all(out.join("there")).unwrap();
        let from = format!("{name}:{source}");
        env.run(["cp", &from, &format!("out/{destination}")]).success();
        let base = base.split('/').next().unwrap();
        assert_eq!(names(&out.join(base)), expected, "{source} {destination}");
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn files_go_into_a_container_that_has_ended_and_are_there_when_it_starts() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(
        &env,
        "mkdir -p /data; echo old >/data/f; ln -s /data/f /link; ln -s /data/none /dangling",
    );
    env.file("new", "new\n");
    fs::create_dir_all(env.path("directory/inner")).unwrap();
    env.file("directory/inner/file", "inside\n");
    let to = |path: &str| format!("{name}:{path}");
    env.run(["cp", "new", &to("/data/f")]).success();
    env.run(["cp", "new", &to("/data")]).success();
    env.run(["cp", "new", &to("/dangling")]).success();
    env.run(["cp", "directory", &to("/made")]).success();
    env.run(["cp", "directory", &to("/data/")]).success();
    env.run(["cp", "directory/.", &to("/data")]).success();
    let read = |path: &str| {
        let archive = env.run(["cp", &to(path), "-"]).success().stdout;
        String::from_utf8_lossy(&archive).contains(if path == "/made/inner/file" {
            "inside"
        } else {
            "new"
        })
    };
    for path in ["/data/f", "/data/new", "/data/none", "/made/inner/file"] {
        assert!(read(path), "{path}");
    }
    for path in ["/data/directory/inner/file", "/data/inner/file"] {
        env.run(["cp", "-q", &to(path), "back"]).success().stdout("");
        assert_eq!(fs::read_to_string(env.path("back")).unwrap(), "inside\n");
    }
    // A link at the destination leads to what is replaced, and stays.
    env.run(["cp", "directory/inner/file", &to("/link")]).success();
    env.run(["cp", &to("/link"), "link"]).success();
    assert_eq!(fs::read_link(env.path("link")).unwrap(), Path::new("/data/f"));
    env.run(["cp", "-L", &to("/link"), "followed"]).success();
    assert_eq!(fs::read_to_string(env.path("followed")).unwrap(), "inside\n");
    env.run(["diff", &name]).success().stdout_has("A /made/inner/file");
}

#[test]
fn owners_and_privileges_arrive_as_the_flags_say() {
    let Some(env) = TestEnv::root() else { return };
    let script = "touch /f; chown 5:6 /f; chmod 6755 /f; mkdir /d; chown 7:8 /d; chmod 700 /d; touch /d/inner";
    let name = ended(&env, script);
    let look = |path: &str| {
        let found = fs::symlink_metadata(env.path(path)).unwrap();
        (found.uid(), found.gid(), found.permissions().mode() & 0o7777)
    };
    env.run(["cp", &format!("{name}:/f"), "plain"]).success();
    assert_eq!(look("plain"), (0, 0, 0o755));
    env.run(["cp", "-a", &format!("{name}:/f"), "kept"]).success();
    assert_eq!(look("kept"), (5, 6, 0o6755));
    env.run(["cp", &format!("{name}:/d"), "directory"]).success();
    assert_eq!(look("directory"), (0, 0, 0o700));
    env.run(["cp", "-a", &format!("{name}:/d"), "kept-directory"]).success();
    assert_eq!(look("kept-directory"), (7, 8, 0o700));
    // And back in: root's without -a, and a directory that is there keeps its owner.
    env.run(["cp", "kept", &format!("{name}:/in")]).success();
    env.run(["cp", "-a", "kept", &format!("{name}:/in-kept")]).success();
    env.run(["cp", "directory/.", &format!("{name}:/d")]).success();
    env.run(["cp", "-a", &format!("{name}:/in"), "in"]).success();
    env.run(["cp", "-a", &format!("{name}:/in-kept"), "in-kept"]).success();
    env.run(["cp", "-a", &format!("{name}:/d"), "d"]).success();
    assert_eq!(look("in"), (0, 0, 0o6755));
    assert_eq!(look("in-kept"), (5, 6, 0o6755));
    assert_eq!(look("d"), (7, 8, 0o700));
}

#[test]
fn archives_pass_through_standard_input_and_output() {
    let Some(env) = TestEnv::root() else { return };
    let (name, _running) = running(&env, &[], "mkdir /in; umask 022");
    let entries = [
        Entry::directory("tree").mode(0o750).owner(3, 4),
        Entry::program("tree/program", "content").owner(5, 6).xattr("user.note", "kept"),
        Entry::hardlink("tree/other-name", "tree/program"),
        Entry::symlink("tree/link", "program"),
        Entry::fifo("tree/fifo"),
        Entry::file("tree/.wh.plain", "no whiteout here"),
        tar::sparse("tree/sparse", 4 << 20, &[(1 << 20, b"island")]),
    ];
    let expected = tree::merged(&[&entries[..5]]);
    let archive = tar::archive(&entries);
    for input in [archive.clone(), gzip(&archive)] {
        env.command(["cp", "-", &format!("{name}:/in")]).stdin(input).run().success();
        let out = env.run(["cp", &format!("{name}:/in/tree"), "-"]).success().stdout;
        let back = env.path("back");
        fs::create_dir_all(&back).unwrap();
        let unpack = env.other("tar", ["--xattrs", "--xattrs-include=*", "-C"]).arg(&back);
        unpack.args(["-xp"]).stdin(out).run().success();
        let mut found = tree::read(&back).unwrap();
        assert_eq!(found.remove("tree/.wh.plain").unwrap().size, 16);
        assert_eq!(found.remove("tree/sparse").unwrap().size, 4 << 20);
        let differences = tree::differences(&expected, &found);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        fs::remove_dir_all(back).unwrap();
    }
}

#[test]
fn volumes_of_a_running_container_are_part_of_it_and_the_kernels_files_are_not() {
    let Some(env) = TestEnv::root() else { return };
    let volume = env.path("volume");
    fs::create_dir(&volume).unwrap();
    let flag = format!("{}:/volume", volume.display());
    let (name, _running) =
        running(&env, &["-v", &flag, "--tmpfs", "/scratch"], "echo t >/scratch/t");
    env.file("file", "content");
    env.run(["cp", "file", &format!("{name}:/volume/new")]).success();
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "content");
    env.run(["cp", &format!("{name}:/scratch/t"), "t"]).success();
    env.run(["cp", &format!("{name}:/."), "all"]).success();
    let all = names(&env.path("all"));
    for expected in ["volume/new", "scratch/t", "proc", "sys", "etc/hosts"] {
        assert!(all.iter().any(|name| name == expected), "{expected}");
    }
    let from_kernel = |name: &&String| name.starts_with("proc/") || name.starts_with("sys/");
    assert_eq!(all.iter().find(from_kernel), None);
}

#[test]
fn what_cannot_be_copied_is_said_in_one_line() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(&env, FILES);
    env.file("file", "content");
    fs::create_dir(env.path("data")).unwrap();
    env.file("data/sub", "in the way of a directory");
    fs::create_dir_all(env.path("other/f")).unwrap();
    let inside = |path: &str| format!("{name}:{path}");
    let fails = |words: [&str; 2], expected: &str| {
        env.command(["cp"])
            .args(words)
            .stdin("")
            .run()
            .code(125)
            .stderr_has(expected)
            .one_clear_line();
    };
    fails([&inside("/none"), "."], "there is no /none in container");
    fails([&inside("/data/f"), "no/such/place"], "there is no no/such/place");
    fails([&inside("/data/f"), "missing/"], "there is no missing/");
    fails([&inside("/data"), "file"], "a directory");
    fails(["file", &inside("/data/f/x")], "");
    fails(["file", &inside("/none/x")], "there is no /none/x in container");
    fails(["none", &inside("/")], "there is no none");
    fails(["file", "other"], "neither end is in a container");
    fails([&inside("/data"), &inside("/tmp")], "both ends are in containers");
    fails(["file", "no-such-container:/x"], "no-such-container");
    fails(["-", &inside("/data/f")], "is no directory");
    let read_only = env.name("read-only");
    let run = ["run", "--network", "none", "--read-only", "--name", &read_only];
    env.command(run).args([&env.pulled_busybox(), "true"]).run().success();
    fails(["file", &format!("{read_only}:/x")], "read-only");
    // A directory never takes a file's place, nor the other way round.
    fails([&inside("/data"), "."], "sub");
    fails([&inside("/data/f"), "other"], "it cannot take the place of a directory");
    assert_eq!(fs::read_to_string(env.path("data/sub")).unwrap(), "in the way of a directory");
}

/// D-38: an archive on standard input is as hostile as a layer.
#[test]
fn an_archive_cannot_lead_out() {
    let Some(env) = TestEnv::root() else { return };
    let canary = env.file("canary", "untouched");
    let (name, _running) = running(&env, &[], "mkdir /in");
    let up = format!("{}{}", "../".repeat(12), canary.display());
    let hostile: [Vec<Entry>; 6] = [
        vec![Entry::file(&up, "evil")],
        vec![Entry::file(canary.to_str().unwrap(), "evil")],
        vec![
            Entry::symlink("out", "/../../../"),
            Entry::file(format!("out{}", canary.display()), "evil"),
        ],
        vec![Entry::symlink("f", canary.to_str().unwrap()), Entry::file("f", "evil")],
        vec![Entry::hardlink("h", &up), Entry::file("h", "evil")],
        vec![
            Entry::symlink("s", canary.to_str().unwrap()),
            Entry::hardlink("h", "s"),
            Entry::file("h", "x"),
        ],
    ];
    for entries in &hostile {
        let copy =
            env.command(["cp", "-", &format!("{name}:/in")]).stdin(tar::archive(entries)).run();
        assert!(!copy.error().contains("panicked"), "{}", copy.error());
        assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched", "{entries:?}");
    }
    // What leads nowhere inside stays inside.
    env.run(["exec", &name, "ls", "/"]).success();
}

/// D-38: the container swaps a directory and links that lead out, all the time.
#[test]
fn a_container_that_swaps_links_is_neither_led_out_of_nor_hangs_a_copy() {
    let Some(env) = TestEnv::root() else { return };
    let secret = env.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "of the host").unwrap();
    let deep = format!("{}{}", "../".repeat(12), secret.display());
    let script = format!(
        "mkdir -p /a/dir /spare; echo mine >/a/dir/file; mkfifo /a/fifo\n\
         (while :; do mv /a/dir /spare/dir; ln -s {} /a/dir; rm /a/dir; ln -s {deep} /a/dir; rm /a/dir; \
         mv /spare/dir /a/dir; done) 2>/dev/null &",
        secret.display()
    );
    let (name, _running) = running(&env, &[], &script);
    env.file("evil", "from outside");
    for round in 0..60 {
        let out = env.path("out");
        // Any of these may find nothing, or something else; none may reach the host.
        env.run(["cp", &format!("{name}:/a"), "out"]);
        env.run(["cp", &format!("{name}:/a/dir/file"), "file"]);
        env.run(["cp", "evil", &format!("{name}:/a/dir/file")]);
        env.run(["cp", "evil", &format!("{name}:/a/dir/new")]);
        assert_eq!(
            fs::read_to_string(secret.join("file")).unwrap(),
            "of the host",
            "round {round}"
        );
        assert_eq!(names(&secret), ["file"], "round {round}");
        let leaked = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text == "of the host");
        let copied = out.join("dir/file");
        let is_link = fs::symlink_metadata(out.join("dir")).is_ok_and(|found| found.is_symlink());
        assert!(is_link || !leaked(&copied), "round {round}");
        assert!(!leaked(&env.path("file")), "round {round}");
        let _ = fs::remove_dir_all(out);
    }
}

/// A hostile tree cannot plant what works against the host's other users.
#[test]
fn devices_and_privileged_attributes_stay_where_they_are() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(&env, "mkdir /d; mknod /d/disk b 8 0; chmod 666 /d/disk; echo x >/d/f");
    env.run(["cp", &format!("{name}:/d"), "plain"]).success().stderr_has("is a device");
    assert_eq!(names(&env.path("plain")), ["f"]);
    env.run(["cp", "-a", &format!("{name}:/d"), "kept"]).success();
    assert_eq!(names(&env.path("kept")), ["disk", "f"]);
    // The host's own links at the destination are the operator's, and followed.
    fs::create_dir(env.path("real")).unwrap();
    symlink("real", env.path("to-real")).unwrap();
    env.run(["cp", &format!("{name}:/d/f"), "to-real"]).success();
    assert_eq!(names(&env.path("real")), ["f"]);
}

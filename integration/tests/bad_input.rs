//! What is wrong with a request is said in one line, with advice and the right exit code, and nothing
//! half-made is left of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use integration::{
    Guard, Image, Layer, Need, Registry, TestEnv, gzip,
    http::{Response, Server},
    images,
    tar::{self, Entry},
};

/// Every file and directory of the store that is more than its frame.
fn made(env: &TestEnv) -> BTreeSet<PathBuf> {
    fn walk(directory: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            // Locks' files and the store's version stay: they are nothing of an image's or container's.
            let is_frame = ["lock", "format"].iter().any(|name| path.ends_with(name));
            if is_frame || path.components().any(|part| part.as_os_str() == "locks") {
                continue;
            }
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&env.store(), &mut found);
    walk(&env.runroot(), &mut found);
    found
}

/// A program whose loader does not exist: an ELF header, and one program header that names it.
fn program_with_loader(loader: &str) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let name = format!("{loader}\0");
    let length = name.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2_u16.to_le_bytes(), machine.to_le_bytes()].concat());
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers; flags; sizes and counts.
    file.extend([0x40_0000_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
    // PT_INTERP, readable, its text right behind this header.
    file.extend([3_u32, 4].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([120_u64, 120, 120, length, length, 1].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(name.bytes());
    file
}

#[test]
fn a_wrong_run_is_explained_and_leaves_nothing() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[
        Entry::program("bin/no-loader", program_with_loader("/lib/ld-missing.so.9")),
        Entry::program("bin/links-nowhere", "#!/bin/dangling\n"),
        Entry::symlink("bin/dangling", "/not/there"),
    ]));
    let image = images::registry().push("bad/input:1", &image.build());
    env.run(["pull", "-q", &image]).success();
    let (store, traces) = (made(&env), env.traces());
    let name = env.name("bad");
    // What is typed between `run --name NAME` and its end, the exit code, and what must be named.
    let cases: &[(&[&str], i32, &str)] = &[
        (&["IMAGE", "no-such-program"], 127, "no-such-program"),
        (&["IMAGE", "/no/such/program"], 127, "/no/such/program"),
        (&["IMAGE", "no-interpreter"], 127, "/bin/missing"),
        (&["IMAGE", "links-nowhere"], 127, "/bin/dangling"),
        (&["IMAGE", "no-loader"], 127, "/lib/ld-missing.so.9"),
        (&["IMAGE", "/bin/not-executable"], 126, "/bin/not-executable"),
        (&["IMAGE", "/bin/garbage"], 126, "/bin/garbage"),
        (&["IMAGE", "/etc"], 126, "/etc"),
        (&["IMAGE", "/etc/passwd/x"], 127, "/etc/passwd/x"),
        (&["-u", "nobody-here", "IMAGE", "true"], 125, "nobody-here"),
        (&["-u", "0:nogroup-here", "IMAGE", "true"], 125, "nogroup-here"),
        (&["-u", "4294967295", "IMAGE", "true"], 125, "4294967295"),
        (&["--group-add", "nogroup-here", "IMAGE", "true"], 125, "nogroup-here"),
        (&["-w", "relative", "IMAGE", "true"], 125, "relative"),
        (&["-w", "/etc/passwd", "IMAGE", "true"], 125, "/etc/passwd"),
        (&["-v", "/a:/b:sideways", "IMAGE", "true"], 125, "sideways"),
        (&["-v", "/tmp:b", "IMAGE", "true"], 125, "--volume"),
        (
            &["--mount", "type=bind,src=/no/such/place,dst=/b", "IMAGE", "true"],
            125,
            "/no/such/place",
        ),
        (&["--mount", "type=sideways,dst=/b", "IMAGE", "true"], 125, "sideways"),
        (&["--tmpfs", "/x:sideways", "IMAGE", "true"], 125, "sideways"),
        (&["-m", "sideways", "IMAGE", "true"], 125, "--memory"),
        (&["-m", "4m", "--memory-swap", "2m", "IMAGE", "true"], 125, "--memory-swap"),
        (&["--cpus", "sideways", "IMAGE", "true"], 125, "--cpus"),
        (&["--cpuset-cpus", "9999", "IMAGE", "true"], 125, "cpuset"),
        (&["--ulimit", "sideways=1", "IMAGE", "true"], 125, "sideways"),
        (&["--cap-add", "SIDEWAYS", "IMAGE", "true"], 125, "SIDEWAYS"),
        (&["--device", "/dev/no-such-device", "IMAGE", "true"], 125, "/dev/no-such-device"),
        (&["--device", "/etc", "IMAGE", "true"], 125, "/etc"),
        (&["--security-opt", "seccomp=/no/such/file", "IMAGE", "true"], 125, "/no/such/file"),
        (&["--security-opt", "sideways", "IMAGE", "true"], 125, "sideways"),
        (&["--sysctl", "kernel.panic=5", "IMAGE", "true"], 125, "kernel.panic"),
        (&["--env-file", "/no/such/file", "IMAGE", "true"], 125, "/no/such/file"),
        (&["--stop-signal", "SIDEWAYS", "IMAGE", "true"], 125, "SIDEWAYS"),
        (&["--platform", "sideways", "IMAGE", "true"], 125, "sideways"),
        (&["--pull", "sideways", "IMAGE", "true"], 125, "sideways"),
        (&["--rootfs", "/no/such/place", "true"], 125, "/no/such/place"),
        (&["--rootfs", "/etc/passwd", "true"], 125, "/etc/passwd"),
        (&["--network", "sideways", "IMAGE", "true"], 125, "sideways"),
        (&["--sideways", "IMAGE", "true"], 125, "--sideways"),
        (&["--pull", "never", "never/pulled:1", "true"], 125, "never/pulled"),
        (&["No Reference", "true"], 125, "No Reference"),
    ];
    for (words, code, named) in cases {
        let words = words.iter().map(|word| if *word == "IMAGE" { &image } else { *word });
        let run = env.command(["run", "--name", &name]).args(words).run();
        run.code(*code).stdout("").stderr_has(named).stderr_has("hint: ").one_clear_line();
        assert_eq!(made(&env), store, "files are left of a failure about {named}");
        assert_eq!(env.traces(), traces, "something is left of a failure about {named}");
    }
    env.run(["run", "--rm", "--network", "none", "--name", &name, &image, "true"]).success();
}

#[test]
fn a_wrong_pull_is_explained_and_leaves_nothing() {
    let Some(env) = TestEnv::root() else { return };
    env.run(["images", "-q"]).success();
    let empty = made(&env);
    let registry = images::registry();
    registry.push("bad/there:1", &Image::new(vec![Layer::of(&[Entry::file("f", "x")])]).build());
    let here = |name: &str| registry.name(name);
    let cases = [
        (here("bad/there:no-such-tag"), "no-such-tag"),
        (here("bad/nowhere:1"), "bad/nowhere"),
        (
            here(
                "bad/there@sha256:1111111111111111111111111111111111111111111111111111111111111111",
            ),
            "sha256:1111",
        ),
        ("Upper".into(), "Upper"),
        ("a b".into(), "a b"),
        ("name@sha256:short".into(), "short"),
        ("127.0.0.1:9/app:1".into(), "127.0.0.1:9"),
        ("no-such-host.invalid/app:1".into(), "no-such-host.invalid"),
        ("oci:/no/such/layout".into(), "/no/such/layout"),
        ("oci-archive:/etc/passwd".into(), "/etc/passwd"),
        ("docker-archive:/no/such/file".into(), "/no/such/file"),
        ("dir:/etc".into(), "/etc"),
    ];
    for (name, named) in cases {
        let run = env.run(["pull", "--", &name]);
        run.code(125).stdout("").stderr_has(named).stderr_has("hint: ").one_clear_line();
        assert_eq!(made(&env), empty, "files are left of pulling {name}");
    }
}

#[test]
fn a_wrong_password_is_called_one() {
    let Some(env) = TestEnv::root() else { return };
    env.run(["images", "-q"]).success();
    let empty = made(&env);
    for guard in [Guard::Password, Guard::Token] {
        let registry = Registry::start(&env.path(format!("{guard:?}")), guard);
        let image = Image::new(vec![Layer::of(&[Entry::file("f", "x")])]).build();
        let name = registry.push("team/app:1", &image);
        for flags in [&["pull"][..], &["pull", "--creds", "alice:not-wonderland"]] {
            let run = env.command(flags).arg(&name).run().code(125).one_clear_line();
            run.stderr_has(&registry.host()).stderr_has("hint: ").stderr_lacks("not-wonderland");
            assert_eq!(made(&env), empty);
        }
        let words = ["login", "-u", "alice", "--password-stdin", &registry.host()];
        let login = env.command(words).stdin("not-wonderland").run().failure().one_clear_line();
        login.stderr_has("hint: ").stderr_lacks("not-wonderland");
        assert!(!env.directory().join("home/.config/containers/auth.json").exists());
    }
}

#[test]
fn a_layer_that_is_not_what_was_promised_is_never_seen() {
    let Some(env) = TestEnv::root() else { return };
    env.run(["images", "-q"]).success();
    let empty = made(&env);
    let honest = Image::new(vec![Layer::of(&[Entry::file("f", "an honest layer")])]).build();
    let (layer, bytes) = (honest.layers[0].clone(), honest.blobs[&honest.layers[0]].clone());
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    let truncated = &bytes[..bytes.len() - 9];
    let other = gzip(&tar::archive(&[Entry::file("evil", "evil")]));
    for (case, content) in [("flipped", &flipped[..]), ("truncated", truncated), ("other", &other)]
    {
        let (image, layer, content) = (honest.clone(), layer.clone(), content.to_vec());
        let server = Server::start(move |request| {
            let of_manifest = request.path.contains("/manifests/");
            let of_blob =
                |(digest, _): &(&String, &Vec<u8>)| request.path.ends_with(digest.as_str());
            match image.blobs.iter().find(of_blob) {
                _ if of_manifest => Response::ok(&image.media_type, image.manifest.clone()),
                Some((digest, _)) if *digest == layer => {
                    Response::ok("application/octet-stream", content.clone())
                }
                Some((_, honest)) => Response::ok("application/octet-stream", honest.clone()),
                None if request.path == "/v2/" => Response::status(200),
                None => Response::status(404),
            }
        });
        let name = format!("{}/bad:1", server.address());
        let run = env.run(["pull", &name]).code(125).stdout("").stderr_has("sha256:");
        run.stderr_has("hint: ").one_clear_line();
        assert_eq!(made(&env), empty, "files are left of a {case} layer");
    }
}

#[test]
fn a_layer_that_tries_to_escape_is_refused_whole() {
    let Some(env) = TestEnv::root() else { return };
    env.run(["images", "-q"]).success();
    let empty = made(&env);
    let canary = env.file("canary", "untouched");
    let up = "../".repeat(12);
    let outside = canary.display().to_string();
    for entries in [
        vec![Entry::file("good", "x"), Entry::file(format!("{up}{outside}"), "evil")],
        vec![Entry::hardlink("link", &outside)],
        vec![
            Entry::symlink("way", canary.parent().unwrap().to_str().unwrap()),
            Entry::hardlink("x", "way/canary"),
        ],
    ] {
        let image = Image::new(vec![Layer::of(&entries)]).build();
        let name = images::registry().push("bad/escape:1", &image);
        let run = env.run(["pull", &name]);
        assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
        if run.status.success() {
            // Taken as a name inside the root, where it does no harm.
            env.run(["rmi", "-f", &name]).success();
            continue;
        }
        run.code(125).stderr_has("hint: ").one_clear_line();
        // A layer whose links can only be judged with those below it is there; no image is.
        env.run(["images", "-q"]).success().stdout("");
        env.run(["image", "prune", "-f"]).success();
        assert_eq!(made(&env), empty, "files are left of {entries:?}");
    }
}

#[test]
fn a_full_disk_is_named_and_the_store_stays_as_it_was() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Overlay]) else { return };
    fs::create_dir_all(env.store()).unwrap();
    let mounted = env.other("mount", ["-t", "tmpfs", "-o", "size=6m", env.token()]);
    mounted.arg(env.store()).run().success();
    let noise: Vec<u8> =
        (0..8_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ 0x55).collect();
    let large = Image::new(vec![Layer::of(&[Entry::file("large", noise)])]).build();
    let large = images::registry().push("bad/large:1", &large);
    let small = Image::new(vec![Layer::of(&[Entry::file("small", "x")])]).build();
    let small = images::registry().push("bad/small:1", &small);
    let outcome = std::panic::catch_unwind(|| {
        env.run(["pull", &large])
            .code(125)
            .stderr_has("space")
            .stderr_has("hint: ")
            .one_clear_line();
        env.run(["images", "-q"]).success().stdout("");
        env.run(["run", "--rm", &large, "true"]).code(125).stderr_has("space").one_clear_line();
        env.run(["ps", "-aq"]).success().stdout("");
        env.run(["pull", "-q", &small]).success();
    });
    env.other("umount", ["-l"]).arg(env.store()).run();
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

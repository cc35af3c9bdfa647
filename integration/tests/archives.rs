//! `save`, `load`, `export`, `import`, `unpack`, `repack`: images and trees in files.

use std::fs;

use integration::{
    TestEnv, gzip,
    http::{Response, Server},
    images,
    tar::{self, Entry},
    torture, tree,
};

fn inside(env: &TestEnv, image: &str, script: &str) -> String {
    let run = ["run", "--rm", "--network", "none", image, "sh", "-c", script];
    env.run(run).success().text()
}

#[test]
fn several_images_are_saved_together_and_loaded_again() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.pulled_busybox();
    for name_of_two in ["one:1", "two:2"] {
        env.run(["tag", &name, name_of_two]).success();
    }
    for format in ["docker-archive", "oci-archive"] {
        let archive =
            env.run(["save", "--format", format, "-q", "one:1", "two:2"]).success().stdout;
        for (kind, bytes) in
            [("plain", archive.clone()), ("gzip", gzip(&archive)), ("zstd", zstd(&archive))]
        {
            let other = TestEnv::new();
            let file = other.file("archive", &bytes);
            let by_name = other.command(["load", "-q", "-i"]).arg(&file).run().success();
            by_name.stdout_has("one:1").stdout_has("two:2");
            let other = TestEnv::new();
            other.command(["load", "-q"]).stdin(bytes).run().success().stdout_has("two:2");
            assert_eq!(inside(&other, "one:1", "echo runs"), "runs\n", "{format} {kind}");
        }
    }
    env.run(["save", "--format", "oci-dir", "-o", "layout", "one:1"]).success();
    let other = TestEnv::new();
    let layout = env.path("layout").display().to_string();
    other.run(["load", "-q", "-i", &layout]).success().stdout_has("one:1");
    env.run(["save", "no-such-image"]).code(125).stderr_has("no-such-image").one_clear_line();
}

/// A frame of raw blocks (RFC 8878): magic, a window of 2 MiB, blocks of which the last one is marked.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let pieces: Vec<&[u8]> = bytes.chunks(100_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let is_last = usize::from(number + 1 == pieces.len());
        let header = u32::try_from(piece.len() << 3 | is_last).unwrap().to_le_bytes();
        frame.extend(&header[..3]);
        frame.extend(*piece);
    }
    frame
}

#[test]
fn what_is_no_archive_of_images_is_refused_in_one_line() {
    let Some(env) = TestEnv::root() else { return };
    let archive = env.command(["save", "-q"]).arg(env.pulled_busybox()).run().success().stdout;
    for (bytes, expected) in [
        (b"not an archive at all".to_vec(), "no tar archive"),
        (b"\xfd7zXZ\0 and more".to_vec(), "compressed with xz"),
        (b"BZh91AY".to_vec(), "compressed with bzip2"),
        (tar::archive(&[Entry::file("unrelated", "x")]), "there is no image in it"),
        (Vec::new(), ""),
        (archive[..archive.len() / 2].to_vec(), ""),
    ] {
        let other = TestEnv::new();
        let file = other.file("archive", &bytes);
        other
            .command(["load", "-q", "-i"])
            .arg(&file)
            .run()
            .code(125)
            .stderr_has(expected)
            .one_clear_line();
        other
            .command(["load", "-q"])
            .stdin(bytes)
            .run()
            .code(125)
            .stderr_has(expected)
            .one_clear_line();
        other.run(["images", "-q"]).success().stdout("");
    }
    env.run(["load", "-i", "/no/such/file"]).code(125).stderr_has("/no/such/file").one_clear_line();
}

#[test]
fn a_tree_goes_out_and_comes_in_as_a_tar() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("exported"), env.pulled_busybox());
    env.run(["run", "--network", "none", "--name", &name, &image, "sh", "-c", "echo mine >/mine"])
        .success();
    let archive = env.run(["export", &name]).success().stdout;
    env.run(["export", "-o", "file.tar", &name]).success();
    assert_eq!(fs::read(env.path("file.tar")).unwrap(), archive);
    let import = |bytes: Vec<u8>, more: &[&str], name: &str| {
        env.command(["import"]).args(more).args(["-", name]).stdin(bytes).run()
    };
    import(archive.clone(), &["-c", "CMD cat /mine", "-m", "from a tar"], "imported:1").success();
    env.run(["run", "--rm", "--network", "none", "imported:1"]).success().stdout("mine\n");
    env.run(["history", "--format", "{{.Comment}}", "imported:1"]).success().stdout("from a tar\n");
    import(gzip(&archive), &[], "imported:2").success();
    assert_eq!(inside(&env, "imported:2", "cat /mine"), "mine\n");
    env.run(["import", "file.tar", "imported:3"]).success();
    let served = gzip(&archive);
    let server = Server::start(move |request| match request.path.as_str() {
        "/rootfs.tar.gz" => Response::ok("application/gzip", served.clone()),
        _ => Response::status(404),
    });
    let url = |path: &str| format!("http://{}{path}", server.address());
    env.run(["import", &url("/rootfs.tar.gz"), "imported:4"]).success();
    assert_eq!(inside(&env, "imported:4", "cat /mine"), "mine\n");
    env.run(["import", &url("/none"), "imported:5"]).code(125).stderr_has("404").one_clear_line();
    env.run(["import", "no-such-file"]).code(125).stderr_has("no-such-file").one_clear_line();
    import(b"\xfd7zXZ\0 and more".to_vec(), &[], "imported:6")
        .code(125)
        .stderr_has("xz")
        .one_clear_line();
    import(b"no tar".to_vec(), &[], "imported:7").code(125).one_clear_line();
    env.run(["images", "-q", "imported:5"]).success().stdout("");
}

/// docker's word of 2013 for what a Dockerfile's ADD does.
#[test]
fn a_file_from_a_url_is_inserted_into_an_image() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let server = Server::start(|request| match request.path.as_str() {
        "/file" => Response::ok("text/plain", "inserted\n"),
        _ => Response::status(404),
    });
    let url = |path: &str| format!("http://{}{path}", server.address());
    env.run(["insert", &image, &url("/file"), "/new/place/file", "inserted:1"]).success();
    let look = "cat /new/place/file; stat -c '%a %u' /new/place/file";
    assert_eq!(inside(&env, "inserted:1", look), "inserted\n644 0\n");
    env.run(["insert", "inserted:1", &url("/file"), "etc/os-release", "inserted:2"]).success();
    assert_eq!(inside(&env, "inserted:2", "cat /etc/os-release"), "inserted\n");
    env.run(["history", "--format", "{{.CreatedBy}}", "--no-trunc", "inserted:2"])
        .success()
        .stdout_has(&format!("insert {} etc/os-release", url("/file")));
    let fails = |words: [&str; 3], expected: &str| {
        env.command(["insert"]).args(words).run().code(125).stderr_has(expected).one_clear_line();
    };
    fails([&image, &url("/none"), "/x"], "404");
    fails([&image, "file:///etc/passwd", "/x"], "file:///etc/passwd");
    fails([&image, &url("/file"), "/etc"], "place of a directory");
    fails([&image, &url("/file"), "/../x"], "..");
    fails(["no-such-image", &url("/file"), "/x"], "no-such-image");
}

#[test]
fn the_torture_image_is_unpacked_exactly_and_repacks_to_nothing_new() {
    let Some(env) = TestEnv::root() else { return };
    let name = images::registry().push("archives/torture:1", &torture::image().build());
    env.run(["pull", "-q", &name]).success();
    env.run(["unpack", &name, "tree"]).success();
    let found = tree::read(&env.path("tree/t")).unwrap();
    let differences = tree::differences(&torture::expected(), &found);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    env.run(["repack", &name, "tree", "repacked:1"]).success();
    env.run(["diff", &name, "repacked:1"]).success().stdout("");
    fs::write(env.path("tree/t/new"), "new").unwrap();
    fs::remove_file(env.path("tree/t/meta/none")).unwrap();
    env.run(["repack", "-m", "changed", &name, "tree", "repacked:2"]).success();
    env.run(["diff", "--format", "{{.Kind}} {{.Path}} {{.Size}}", &name, "repacked:2"])
        .success()
        .stdout_has("A /t/new 3\n")
        .stdout_has("D /t/meta/none 1\n");
    env.run(["unpack", &name, "tree"]).code(125).stderr_has("not empty").one_clear_line();
    // Through an export and back, too.
    let archive = env.run(["export", &name]).success().stdout;
    env.command(["import", "-", "again:1"]).stdin(archive).run().success();
    env.run(["unpack", "again:1", "again"]).success();
    let found = tree::read(&env.path("again/t")).unwrap();
    let differences = tree::differences(&torture::expected(), &found);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

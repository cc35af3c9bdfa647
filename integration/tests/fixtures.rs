//! The fixtures themselves: other people's programs must agree with them.

use std::fs;

use integration::{
    Built, Flavour, Guard, Image, Layer, Need, PASSWORD, Registry, TestEnv, USER, images,
    tar::{Entry, archive},
    torture, tree,
};

fn small() -> Built {
    Image::new(vec![Layer::of(&[Entry::file("hello", "world\n")])]).build()
}

/// skopeo reads what we pushed, behind each kind of guard.
#[test]
fn guarded_registries_serve_those_who_may() {
    let Some(env) = TestEnv::with(&[Need::Program("skopeo", "skopeo")]) else { return };
    for guard in [Guard::None, Guard::Password, Guard::Token] {
        let registry = Registry::start(&env.path(format!("{guard:?}")), guard);
        let name = format!("docker://{}", registry.push("team/app:1", &small()));
        let inspect = |credentials: &[&str]| {
            env.other("skopeo", ["inspect", "--tls-verify=false"])
                .args(credentials)
                .arg(&name)
                .run()
        };
        let account = format!("--creds={USER}:{PASSWORD}");
        inspect(&[&account]).success().stdout_has(&small().digest());
        if guard != Guard::None {
            inspect(&[]).failure();
            inspect(&["--creds=alice:wrong"]).failure();
        }
    }
}

/// tar(1) sees the names our writer wrote.
#[test]
fn the_archives_are_archives() {
    let env = TestEnv::new();
    let name = "deep/".repeat(60) + "file";
    let entries = [Entry::file(&name, "x"), Entry::file("\u{e4}", "").gnu(), Entry::fifo("f")];
    let file = env.file("a.tar", archive(&entries));
    env.other("tar", ["--quoting-style=literal", "-tf"])
        .arg(file)
        .env("LC_ALL", "C.UTF-8")
        .run()
        .success()
        .stdout(&format!("{name}\n\u{e4}\nf\n"));
}

/// umoci unpacks the torture image into the tree we worked out by hand.
#[test]
fn the_torture_image_becomes_the_expected_tree_with_umoci() {
    let needs = [Need::Root, Need::Program("umoci", "umoci")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let layout = env.path("layout");
    torture::image().flavour(Flavour::Oci).build().write_layout(&layout, "torture");
    let image = format!("{}:torture", layout.display());
    let bundle = env.path("bundle");
    env.other("umoci", ["unpack", "--image", &image]).arg(&bundle).run().success();
    let actual = tree::read(&bundle.join("rootfs").join(torture::PLACE)).unwrap();
    let mut expected = torture::expected();
    for node in expected.values_mut() {
        // umoci 0.4 writes holes as zeros and forgets the time of directories it fills later.
        node.sparse = false;
        if node.kind == "directory" {
            node.mtime = None;
        }
    }
    let differences = tree::differences(&expected, &actual);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The probe is static, so that it runs in an empty image.
#[test]
fn the_probe_needs_no_loader() {
    let bytes = fs::read(integration::built("probe")).unwrap();
    assert!(!bytes.windows(13).any(|window| window == b"/ld-linux-x86"));
    assert!(images::busybox_entries().len() > 200);
}

//! What honest layers become: every kind of file, layers on layers, and the identical tar again.
#![allow(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use rootfs::{
    ChangeKind, Compression, Format, NewImage, SnapshotKind, SnapshotOptions, Store, Times,
};
use support::{Header, Place, Tar, add_image, add_layer, digest, files_of, flatten, gzip, names};

#[track_caller]
fn tar_comes_back(tar: &[u8]) {
    let place = Place::new();
    let store = place.store();
    add_layer(&store, tar).unwrap();
    let mut again = Vec::new();
    store.layer_tar(&digest(tar)).unwrap().read_to_end(&mut again).unwrap();
    assert!(again == tar, "{} bytes instead of {}", again.len(), tar.len());
    let health = store.check(&|_| ()).unwrap();
    assert_eq!((health.damage, health.layers), (vec![], 1));
}

fn everything() -> Vec<u8> {
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let long = "n".repeat(120);
    Tar::new()
        .header(Header::new("./", b'5').mode(0o711))
        .file("plain", "hello")
        .header(Header::new("setuid", b'0').mode(0o4755).owner(12, 34))
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.key", b"a\0b"),
        ])
        .file("pax", "x")
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .file("capable", "x")
        .hard_link("also-plain", "plain")
        .symlink("link", "plain")
        .character_device("null", 1, 3)
        .header(Header::new("block", b'4').device(7, 0))
        .header(&Header::new("fifo", b'6'))
        .extension(b'L', format!("long/{long}\0").as_bytes())
        .file("short", "long name")
        .header(Header::new("sticky", b'5').mode(0o1777).owner(5, 6))
        .file("sticky/inner", "x")
        .end()
}

#[test]
fn every_kind_of_file_is_kept() {
    let place = Place::new();
    let tar = everything();
    add_layer(&place.store(), &tar).unwrap();
    let files = files_of(&place, &tar);
    let found = |name: &str| fs::symlink_metadata(files.join(name)).unwrap();
    assert_eq!(fs::read_to_string(files.join("plain")).unwrap(), "hello");
    assert_eq!(found("plain").ino(), found("also-plain").ino());
    assert_eq!(
        (found("setuid").mode() & 0o7777, found("setuid").uid(), found("setuid").gid()),
        (0o4755, 12, 34)
    );
    assert_eq!((found("pax").mtime(), found("pax").mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(found("pax").uid(), 3_000_000);
    let xattr = |name: &str, key: &str| {
        sys::xattr::get(support::rustix_open(&files.join(name)), key.as_ref()).unwrap().unwrap()
    };
    assert_eq!(xattr("pax", "user.key"), b"a\0b");
    assert_eq!(xattr("capable", "security.capability").len(), 20);
    assert_eq!(fs::read_link(files.join("link")).unwrap(), Path::new("plain"));
    assert!(found("null").file_type().is_char_device());
    assert!(found("block").file_type().is_block_device());
    assert!(found("fifo").file_type().is_fifo());
    assert!(files.join("long").join("n".repeat(120)).exists());
    assert_eq!((found("sticky").mode() & 0o7777, found("sticky").mtime()), (0o1777, 1_000_000_000));
    assert_eq!(found("").mode() & 0o7777, 0o711);
}

#[test]
fn the_identical_tar_comes_back() {
    tar_comes_back(&everything());
    tar_comes_back(&Tar::new().file("a", "x").0);
    tar_comes_back(b"");
    let junk = Tar::new().file("a", "x").end();
    tar_comes_back(&[junk, b"junk after the end".to_vec(), vec![0; 9000]].concat());
    // The same path several times, whiteouts with data, a directory that became a file.
    let replaced = Tar::new()
        .file("a", "first")
        .file("a", "second")
        .file(".wh.b", "unexpected data")
        .file("d/x", "in a directory")
        .hard_link("d/y", "a")
        .file("d", "now a file")
        .symlink("l", "e")
        .file("l/x", "through a link")
        .file("e/x", "directly")
        .file("a", "third")
        .character_device("zero", 0, 0)
        .file("zero", "data")
        .end();
    tar_comes_back(&replaced);
    let map: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"3,2,600,3"), ("GNU.sparse.size", b"5000")];
    tar_comes_back(&Tar::new().pax(&map).file("sparse", "abcde").end());
    tar_comes_back(&Tar::new().file("zeros", &"\0".repeat(100_000)).end());
}

#[test]
fn implied_directories_look_like_those_below() {
    let place = Place::new();
    let store = place.store();
    let lower = Tar::new()
        .header(Header::new("d", b'5').mode(0o2750).owner(9, 8))
        .header(Header::new("d/e", b'5').mode(0o700))
        .file("d/e/old", "x")
        .end();
    let upper = Tar::new().file("d/e/new", "x").file("own/new", "x").end();
    // The upper layer first: layers are unpacked in any order.
    add_layer(&store, &upper).unwrap();
    let image = add_image(&store, "x", &[lower, upper]).unwrap();
    let tree = flatten(&store, &image, "c");
    assert_eq!(names(&tree), ["d", "d/e", "d/e/new", "d/e/old", "own", "own/new"]);
    let found = |name: &str| fs::metadata(tree.join(name)).unwrap();
    assert_eq!(
        (found("d").mode() & 0o7777, found("d").uid(), found("d").mtime()),
        (0o2750, 9, 1_000_000_000)
    );
    assert_eq!(found("d/e").mode() & 0o7777, 0o700);
    assert_eq!(found("own").mode() & 0o7777, 0o755);
}

#[test]
fn a_directory_below_a_symlink_of_a_lower_layer_goes_where_it_leads() {
    let place = Place::new();
    let store = place.store();
    let lower = Tar::new()
        .header(Header::new("usr", b'5').mode(0o755))
        .header(Header::new("usr/lib", b'5').mode(0o751))
        .file("usr/lib/old.so", "old")
        .symlink("lib", "usr/lib")
        .end();
    let upper =
        Tar::new().file("lib/new.so", "new").file("lib/.wh.old.so", "").directory("lib/sub").end();
    let image = add_image(&store, "x", &[lower, upper]).unwrap();
    let tree = flatten(&store, &image, "c");
    assert!(fs::symlink_metadata(tree.join("lib")).unwrap().is_symlink());
    assert_eq!(names(&tree.join("usr/lib")), ["new.so", "sub"]);
    assert_eq!(fs::metadata(tree.join("usr/lib")).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn hard_links_to_lower_layers_are_one_file() {
    let place = Place::new();
    let store = place.store();
    let lower = Tar::new().file("d/a", "shared").end();
    let upper = Tar::new().hard_link("e/b", "d/a").end();
    let replaced = Tar::new().hard_link("e/c", "d/a").file("d/a", "new").end();
    let image = add_image(&store, "x", &[lower, upper, replaced]).unwrap();
    let tree = flatten(&store, &image, "c");
    assert_eq!(fs::read_to_string(tree.join("e/b")).unwrap(), "shared");
    assert_eq!(fs::read_to_string(tree.join("e/c")).unwrap(), "shared");
    assert_eq!(fs::read_to_string(tree.join("d/a")).unwrap(), "new");
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let place = Place::new();
    let store = place.store();
    let lower =
        Tar::new().file("a/x", "1").file("b/x", "1").file("c/x", "1").file("e/x", "1").end();
    let upper = Tar::new()
        .file(".wh.a", "")
        .file("b/new", "2")
        .file("b/.wh..wh..opq", "")
        .file(".wh.c", "")
        .directory("c")
        .file("c/new", "2")
        .file("e", "a file now")
        .end();
    let image = add_image(&store, "x", &[lower.clone(), upper]).unwrap();
    assert_eq!(names(&flatten(&store, &image, "c1")), ["b", "b/new", "c", "c/new", "e"]);
    let opaque_root = Tar::new().file(".wh..wh..opq", "").file("only", "2").end();
    let image = add_image(&store, "y", &[lower, opaque_root]).unwrap();
    assert_eq!(names(&flatten(&store, &image, "c2")), ["only"]);
}

#[test]
fn overlayfs_shows_the_same_tree_as_a_copy() {
    let place = Place::new();
    let store = place.store();
    let lower = Tar::new().file("a/x", "1").file("b/x", "1").file("h", "shared").end();
    let upper = Tar::new().file("a/y", "2").file("b/.wh.x", "").hard_link("h2", "h").end();
    let image = add_image(&store, "x", &[lower, upper]).unwrap();
    let tree = flatten(&store, &image, "copy");
    let Some(mount) = Mounted::new(&place, &store, &image, "overlay") else { return };
    assert_eq!(names(&mount.0), names(&tree));
}

/// A snapshot mounted as an overlay, for as long as it lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(place: &Place, store: &Store, image: &rootfs::StoredImage, name: &str) -> Option<Self> {
        let snapshot = store.snapshot(image, name, SnapshotOptions::default()).unwrap();
        let SnapshotKind::Overlay { lower, upper, work, .. } = snapshot.kind else { return None };
        let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            upper.display(),
            work.display()
        );
        let target = place.path(&format!("mount-{name}"));
        fs::create_dir(&target).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&target)
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Self(target))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

fn new_image(
    compression: Compression,
    configure: &mut dyn FnMut(&mut serde_json::Map<String, serde_json::Value>),
) -> NewImage<'_> {
    NewImage {
        created: "2001-09-09T01:46:40Z".to_owned(),
        author: Some("me".to_owned()),
        comment: None,
        created_by: "test".to_owned(),
        platform: ("linux".to_owned(), "amd64".to_owned()),
        format: Format::Oci,
        compression: (compression, None),
        times: Times { latest: Some(1_000_000_000) },
        squash: false,
        configure,
    }
}

fn change(tree: &Path) {
    fs::write(tree.join("d/new"), "new").unwrap();
    fs::write(tree.join("d/changed"), "changed").unwrap();
    fs::remove_file(tree.join("d/gone")).unwrap();
    fs::remove_dir_all(tree.join("e")).unwrap();
    fs::create_dir(tree.join("e")).unwrap();
    fs::write(tree.join("e/other"), "x").unwrap();
    fs::hard_link(tree.join("d/new"), tree.join("d/link")).unwrap();
    fs::set_permissions(tree.join("e/other"), fs::Permissions::from_mode(0o4711)).unwrap();
}

#[test]
fn a_commit_is_the_difference_and_reproducible() {
    let place = Place::new();
    let store = place.store();
    let base = Tar::new()
        .directory("d")
        .file("d/changed", "old")
        .file("d/gone", "x")
        .file("d/stays", "x")
        .directory("e")
        .file("e/old", "x")
        .end();
    let image = add_image(&store, "base", &[base]).unwrap();
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let (tree, mounted) = match Mounted::new(&place, &store, &image, name) {
            Some(mount) => (mount.0.clone(), Some(mount)),
            None => return, // no overlayfs here; the copy below is all there is
        };
        change(&tree);
        drop(mounted);
        let snapshot = store.open_snapshot(name).unwrap();
        let changes: Vec<(ChangeKind, String)> = store
            .diff(&snapshot)
            .unwrap()
            .into_iter()
            .map(|change| (change.kind, change.path.display().to_string()))
            .collect();
        use ChangeKind::{Added as A, Deleted as D, Modified as M};
        let expected = [
            (M, "/d"),
            (M, "/d/changed"),
            (D, "/d/gone"),
            (A, "/d/link"),
            (A, "/d/new"),
            (M, "/e"),
            (D, "/e/old"),
            (A, "/e/other"),
        ];
        assert_eq!(changes, expected.map(|(kind, path)| (kind, path.to_owned())));
        let mut configure = |run: &mut serde_json::Map<_, _>| {
            run.insert("Env".to_owned(), serde_json::json!(["A=b"]));
        };
        let new = new_image(Compression::Gzip, &mut configure);
        let committed = store.commit(&snapshot, Some(name), new).unwrap();
        assert_eq!(committed.layers.len(), 2);
        assert!(committed.config.contains("\"A=b\""));
        digests.push(committed.manifest.clone());
        let tree = flatten(&store, &committed, &format!("{name}-again"));
        assert_eq!(names(&tree), ["d", "d/changed", "d/link", "d/new", "d/stays", "e", "e/other"]);
        assert_eq!(fs::metadata(tree.join("e/other")).unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(fs::metadata(tree.join("d/new")).unwrap().nlink(), 2);
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(store.check(&|_| ()).unwrap().damage, []);
}

#[test]
fn a_copy_is_committed_like_an_overlay() {
    let place = Place::new();
    let store = place.store();
    let base = Tar::new()
        .directory("d")
        .file("d/changed", "old")
        .file("d/gone", "x")
        .directory("e")
        .file("e/old", "x")
        .end();
    let image = add_image(&store, "base", &[base]).unwrap();
    let tree = flatten(&store, &image, "c");
    change(&tree);
    let snapshot = store.open_snapshot("c").unwrap();
    let committed =
        store.commit(&snapshot, Some("new"), new_image(Compression::Zstd, &mut |_| ())).unwrap();
    let again = flatten(&store, &committed, "again");
    assert_eq!(names(&again), ["d", "d/changed", "d/link", "d/new", "e", "e/other"]);
}

#[test]
fn an_unpacked_image_can_be_changed_and_packed_again() {
    let place = Place::new();
    let store = place.store();
    let base = Tar::new()
        .header(Header::new("./", b'5').mode(0o711))
        .directory("d")
        .file("d/changed", "old")
        .file("d/gone", "x")
        .directory("e")
        .file("e/old", "x")
        .end();
    let image = add_image(&store, "base", &[base]).unwrap();
    let tree = place.path("unpacked");
    fs::create_dir(&tree).unwrap();
    store.unpack(&image, &tree).unwrap();
    assert_eq!(fs::metadata(&tree).unwrap().mode() & 0o7777, 0o711);
    change(&tree);
    let mut configure = |_: &mut serde_json::Map<_, _>| ();
    let new = new_image(Compression::Zstd, &mut configure);
    let packed = store.repack(&image, &tree, Some("packed"), new).unwrap();
    let again = flatten(&store, &packed, "again");
    assert_eq!(names(&again), names(&tree));
    let changes = store.compare(&image.side(), &packed.side()).unwrap();
    let of = |kind| changes.iter().filter(|change| change.kind == kind).count();
    assert_eq!((of(ChangeKind::Added), of(ChangeKind::Deleted)), (3, 2), "{changes:?}");
    assert_eq!(store.compare(&image.side(), &image.side()).unwrap(), []);
    let contents = store.contents(&packed, 5).unwrap();
    assert_eq!(contents.len(), 2);
    assert_eq!(contents[0].wasted, 5, "changed, gone and e/old");
    assert_eq!(contents[1].biggest[0].path, Path::new("/d/changed"));
}

#[test]
fn an_export_can_be_imported() {
    let place = Place::new();
    let store = place.store();
    let image = add_image(&store, "base", &[everything()]).unwrap();
    let mut tar = Vec::new();
    store.export_image(&image, &mut tar).unwrap();
    let imported = store
        .import(gzip(&tar).as_slice(), Some("imported"), new_image(Compression::Gzip, &mut |_| ()))
        .unwrap();
    let (one, other) = (flatten(&store, &image, "one"), flatten(&store, &imported, "other"));
    let plain = |tree: &Path| -> Vec<String> {
        let inode = |line: &String| {
            line.split(' ')
                .enumerate()
                .filter(|(field, _)| *field != 3)
                .map(|(_, text)| text)
                .collect::<Vec<_>>()
                .join(" ")
        };
        support::state(tree)
            .iter()
            .map(|line| inode(line).replace(tree.to_str().unwrap(), ""))
            .collect()
    };
    assert_eq!(plain(&one), plain(&other));
}

#[test]
fn without_its_blob_a_layer_is_still_exact() {
    let place = Place::new();
    let settings = rootfs::Settings { keep_blobs: false, ..Default::default() };
    let store = Store::with_settings(&place.path("store"), settings).unwrap();
    let tar = everything();
    let image = add_image(&store, "x", std::slice::from_ref(&tar)).unwrap();
    assert!(store.blob(image.layers[0].blob.digest()).is_err());
    let mut again = Vec::new();
    store.recompress(&image.layers[0], Compression::None, None, &mut again).unwrap();
    assert!(again == tar);
    assert_eq!(store.check(&|_| ()).unwrap().damage, []);
}

#[test]
fn images_are_found_by_name_and_id_and_removed_with_their_layers() {
    let place = Place::new();
    let store = place.store();
    assert!(store.images().unwrap().is_empty());
    let shared = Tar::new().file("shared", "x").end();
    let one = add_image(&store, "docker.io/library/one:1", std::slice::from_ref(&shared)).unwrap();
    add_image(&store, "two", &[shared.clone(), Tar::new().file("own", "x").end()]).unwrap();
    store.tag(&one, "another").unwrap();
    assert_eq!(store.image(&one.id.digest()[..12]).unwrap().id, one.id);
    assert_eq!(store.image(one.manifest.as_ref()).unwrap().id, one.id);
    assert_eq!(store.images().unwrap().len(), 3);
    assert!(store.remove_image(one.id.digest(), false).is_err(), "it has two names");
    assert!(store.remove_image("another", false).unwrap().images.is_empty());
    store.snapshot(&one, "user", SnapshotOptions::default()).unwrap();
    assert!(matches!(
        store.remove_image("docker.io/library/one:1", false),
        Err(rootfs::Error::InUse { .. })
    ));
    assert_eq!(store.remove_image("two", false).unwrap().layers.len(), 1);
    store.remove_snapshot("user").unwrap();
    assert_eq!(store.remove_image("docker.io/library/one:1", false).unwrap().layers.len(), 1);
    for directory in
        ["layers", "blobs/sha256", "images", "references", "chains", "tmp", "containers"]
    {
        assert!(names(&place.path("store").join(directory)).is_empty(), "{directory}");
    }
}

#[test]
fn names_of_containers_are_taken_once() {
    let place = Place::new();
    let store = place.store();
    let image = add_image(&store, "x", &[]).unwrap();
    store.snapshot(&image, "c", SnapshotOptions::default()).unwrap();
    assert!(matches!(
        store.snapshot(&image, "c", SnapshotOptions::default()),
        Err(rootfs::Error::NameInUse(_))
    ));
    for name in ["", ".", "..", "a/b", "-x", "a b", "\n", &"x".repeat(256)] {
        assert!(
            matches!(
                store.snapshot(&image, name, SnapshotOptions::default()),
                Err(rootfs::Error::BadName(_))
            ),
            "{name:?}"
        );
        assert!(store.remove_snapshot(name).is_err());
    }
}

#[test]
fn damage_is_found_named_and_repaired() {
    let place = Place::new();
    let store = place.store();
    let good = Tar::new().file("good", "x").end();
    let bad = Tar::new().file("bad", "content").end();
    add_image(&store, "good", &[good]).unwrap();
    let image = add_image(&store, "bad", std::slice::from_ref(&bad)).unwrap();
    fs::write(files_of(&place, &bad).join("bad"), "CONTENT").unwrap();
    let blob = image.layers[0].blob.digest();
    let blob_path = place.path("store/blobs/sha256").join(blob.digest());
    fs::write(&blob_path, "damaged").unwrap();
    let health = store.check(&|_| ()).unwrap();
    let mut found: Vec<String> =
        health.damage.iter().map(|damage| damage.object.to_string()).collect();
    found.sort();
    assert_eq!(found, [format!("blob {blob}"), format!("layer {}", digest(&bad))]);
    assert!(health.damage.iter().all(|damage| damage.images == ["bad"]));
    let removed = store.repair(&health.damage).unwrap();
    assert_eq!(removed.names, ["bad"]);
    assert_eq!(store.check(&|_| ()).unwrap().damage, []);
    assert!(store.image("good").is_ok());
    add_image(&store, "bad", std::slice::from_ref(&bad)).unwrap();
    fs::set_permissions(files_of(&place, &bad).join("bad"), fs::Permissions::from_mode(0o666))
        .unwrap();
    let health = store.check(&|_| ()).unwrap();
    assert_eq!(health.damage.len(), 1);
    assert_eq!(health.damage[0].problem, "bad: its mode is not that of the layer");
}

//! Killed, interrupted, contended, and out of room: the store works on, without repair.
#![allow(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::disallowed_methods,
    missing_docs,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    fs,
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rootfs::{LayerState, Settings, Store};
use support::{
    Place, Tar, add_image, add_layer, descriptor, digest, documents, explain, files_of, gzip, names,
};

/// Says where the store is to a copy of this test program that is going to be killed.
const STORE: &str = "ROOTFS_TEST_STORE";

fn layers() -> Vec<Vec<u8>> {
    let noise = |seed: u32, length: usize| {
        let mut state = seed;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        };
        (0..length).map(step).collect::<String>()
    };
    (0..3)
        .map(|layer| {
            let file = |tar: Tar, number: u32| {
                tar.file(&format!("d{layer}/f{number}"), &noise(layer * 1000 + number, 3000))
            };
            (0..120).fold(Tar::new(), file).end()
        })
        .collect()
}

#[test]
#[ignore = "the process that the next test kills"]
fn child_that_is_killed() {
    let Some(store) = std::env::var_os(STORE) else { return };
    loop {
        let store = Store::open(store.as_ref()).unwrap();
        add_image(&store, "image", &layers()).unwrap();
        let image = store.image("image").unwrap();
        store.snapshot(&image, "container", rootfs::SnapshotOptions::default()).unwrap();
        store.remove_snapshot("container").unwrap();
        store.tag(&image, "second").unwrap();
        store.remove_image("image", false).unwrap();
        store.remove_image("second", false).unwrap();
    }
}

#[test]
fn a_process_killed_at_any_point_leaves_a_store_that_works() {
    kill_and_look(25);
}

#[test]
#[ignore = "takes many minutes"]
fn a_process_killed_a_thousand_times_leaves_a_store_that_works() {
    kill_and_look(1000);
}

fn kill_and_look(usual: u64) {
    let place = Place::new();
    let rounds = std::env::var("ROOTFS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(usual);
    let store = place.store();
    add_image(&store, "kept", &[Tar::new().file("kept", "x").end()]).unwrap();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_that_is_killed"])
            .env(STORE, store.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 + (round * 37) % 400));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it must not end by itself");
        let health = store.check(&|_| ()).unwrap();
        // A name may outlive its image when the kill came between the two; nothing else may be wrong.
        assert_eq!(health.damage, [], "round {round}");
        assert!(store.image("kept").is_ok());
        // Every other round goes on from what was left.
        if round % 2 == 0 {
            let store = place.store();
            add_image(&store, "image", &layers()).unwrap();
            let _ = store.remove_snapshot("container");
            store.remove_image("image", true).unwrap();
            if store.image("second").is_ok() {
                store.remove_image("second", true).unwrap();
            }
            store.prune(false).unwrap();
            assert_eq!(
                names(&place.path("store/layers"))
                    .iter()
                    .filter(|name| !name.contains('/'))
                    .count(),
                1
            );
            assert!(names(&place.path("store/partial")).is_empty());
        }
    }
}

/// Gives some bytes, then fails.
struct Interrupted<'b>(&'b [u8]);

impl Read for Interrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn an_interrupted_pull_goes_on_where_it_stopped() {
    let tar = layers().remove(0);
    let blob = gzip(&tar);
    let place = Place::new();
    let half = blob.len() / 2;
    {
        let store = place.store();
        let LayerState::Missing(layer) =
            store.begin_layer(&descriptor(&blob), &digest(&tar)).unwrap()
        else {
            panic!("it cannot be there")
        };
        assert_eq!(layer.have(), 0);
        let error = layer.add(Interrupted(&blob[..half]), &|_| ()).unwrap_err();
        assert!(matches!(error, rootfs::Error::Receive { .. }));
    }
    let store = place.store();
    let LayerState::Missing(layer) = store.begin_layer(&descriptor(&blob), &digest(&tar)).unwrap()
    else {
        panic!("it cannot be there")
    };
    assert_eq!(layer.have(), half as u64);
    let seen = std::cell::Cell::new(0);
    layer.add(&blob[half..], &|count| seen.set(seen.get() + count)).unwrap();
    assert_eq!(seen.get(), blob.len() as u64);
    assert_eq!(names(&files_of(&place, &tar)).len(), 121);
}

#[test]
fn a_damaged_beginning_is_forgotten() {
    let tar = layers().remove(0);
    let blob = gzip(&tar);
    let place = Place::new();
    let store = place.store();
    fs::create_dir_all(store.root().join("partial")).unwrap();
    add_layer(&store, &Tar::new().end()).unwrap();
    let partial = store.root().join("partial").join(descriptor(&blob).digest().digest());
    fs::write(&partial, vec![7; 1000]).unwrap();
    let add = || match store.begin_layer(&descriptor(&blob), &digest(&tar)).unwrap() {
        LayerState::Missing(layer) => {
            let have = layer.have() as usize;
            layer.add(&blob[have..], &|_| ())
        }
        LayerState::Present => panic!("it cannot be there"),
    };
    let error = add().unwrap_err();
    assert!(error.is_stale_partial(), "{error}");
    add().unwrap();
}

#[test]
fn what_a_power_loss_may_have_hit_is_not_trusted() {
    let tar = layers().remove(0);
    let place = Place::new();
    add_layer(&place.store(), &tar).unwrap();
    let layer = files_of(&place, &tar).parent().unwrap().to_owned();
    let record = fs::read_to_string(layer.join("record")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(layer.join("record"), record.replace(boot.trim(), "another boot")).unwrap();
    fs::write(layer.join("files/d0/f0"), "lost").unwrap();
    let store = place.store();
    assert!(matches!(
        store.begin_layer(&descriptor(&gzip(&tar)), &digest(&tar)).unwrap(),
        LayerState::Missing(_)
    ));
    add_image(&store, "x", std::slice::from_ref(&tar)).unwrap();
    assert!(layer.join("durable").exists());
    assert_eq!(store.check(&|_| ()).unwrap().damage, []);
}

#[test]
fn concurrent_pulls_do_the_work_once() {
    let tar = layers().remove(0);
    let blob = gzip(&tar);
    let place = Place::new();
    let fetched = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = place.store();
                match store.begin_layer(&descriptor(&blob), &digest(&tar)).unwrap() {
                    LayerState::Present => {}
                    LayerState::Missing(layer) => {
                        fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(50));
                        layer.add(&*blob, &|_| ()).unwrap();
                    }
                }
                let tars = [tar.clone()];
                let (manifest, config) = documents(&tars);
                store.add_image(Some("x"), &manifest, support::MANIFEST, &config, None).unwrap();
            });
        }
    });
    assert_eq!(fetched.into_inner(), 1);
    assert_eq!(place.store().check(&|_| ()).unwrap().damage, []);
}

#[test]
fn nothing_is_collected_while_it_is_pulled() {
    let place = Place::new();
    let tars = layers();
    let store = place.store();
    for tar in &tars {
        add_layer(&store, tar).unwrap();
        let other = place.store();
        other.prune(true).unwrap();
    }
    let (manifest, config) = documents(&tars);
    store.add_image(Some("x"), &manifest, support::MANIFEST, &config, None).unwrap();
    drop(store);
    place.store().prune(false).unwrap();
    assert_eq!(place.store().check(&|_| ()).unwrap().damage, []);
    assert!(place.store().image("x").is_ok());
}

/// Swaps a directory and a symlink to the canary in a tree, as fast as it can, until dropped.
struct Swapper {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Swapper {
    fn new(tree: &std::path::Path, canary: &str) -> Self {
        use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
        fs::create_dir_all(tree.join("d/sub")).unwrap();
        fs::write(tree.join("d/file"), "mine").unwrap();
        std::os::unix::fs::symlink(canary, tree.join("link")).unwrap();
        // By descriptor: the tree itself may be moved.
        let tree = rustix::fs::openat(CWD, tree, OFlags::PATH, Mode::empty()).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = RenameFlags::EXCHANGE;
                if rustix::fs::renameat_with(&tree, "d", &tree, "link", exchange).is_ok() {
                    swaps += 1;
                }
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn links_that_are_swapped_meanwhile_lead_nowhere() {
    let place = Place::new();
    let canary = support::Canary::new(&place);
    let store = place.store();
    let image = add_image(&store, "x", &[Tar::new().file("f", "x").end()]).unwrap();
    let options = rootfs::SnapshotOptions { copy: true, ..Default::default() };
    let snapshot = store.snapshot(&image, "c", options).unwrap();
    let swapper = Swapper::new(&support::directory_of(&snapshot), canary.path());
    for _ in 0..500 {
        let mut tar = Vec::new();
        // It may fail, as what was found may be something else a moment later; it may not leak.
        let _ = store.export(&snapshot, &mut tar);
        let _ = store.diff(&snapshot);
        assert!(!tar.windows(8).any(|window| window == b"precious"));
    }
    assert!(swapper.finish() > 500);
    canary.is_untouched();
}

#[test]
fn removal_does_not_follow_links_that_are_swapped_meanwhile() {
    let place = Place::new();
    let canary = support::Canary::new(&place);
    let store = place.store();
    let image = add_image(&store, "x", &[]).unwrap();
    for _ in 0..500 {
        let snapshot = store.snapshot(&image, "c", rootfs::SnapshotOptions::default()).unwrap();
        let swapper = Swapper::new(&support::directory_of(&snapshot), canary.path());
        // Something may be missed while it moves; then it is removed the next time.
        let _ = store.remove_snapshot("c");
        swapper.finish();
        assert!(store.open_snapshot("c").is_err());
    }
    canary.is_untouched();
    store.prune(false).unwrap();
    assert!(names(&place.path("store/tmp")).is_empty());
}

/// A small filesystem, unmounted at the end.
struct Small(std::path::PathBuf);

impl Small {
    fn new(place: &Place, size: &str) -> Option<Self> {
        let path = place.path("small");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let place = Place::new();
    let Some(small) = Small::new(&place, "4m") else {
        eprintln!("skipped: a tmpfs cannot be mounted here");
        return;
    };
    let tars = layers();
    let settings = Settings { keep_blobs: false, ..Settings::default() };
    let open = || Store::with_settings(&small.0.join("store"), settings.clone()).unwrap();
    let kept = [tars[0].clone()];
    add_image(&open(), "kept", &kept).unwrap();
    let filler = small.0.join("filler");
    // Fewer free pages each time, so that every write in turn is the one that fails.
    for free in (0..150).step_by(3) {
        let _ = fs::remove_file(&filler);
        open().prune(false).unwrap();
        let room = rustix::fs::statvfs(&small.0).unwrap();
        let size = (room.f_bavail.saturating_sub(free)) * room.f_frsize;
        fs::write(&filler, vec![1; size as usize]).unwrap();
        match add_image(&open(), "image", &tars[..2]) {
            Ok(_) => drop(open().remove_image("image", false).unwrap()),
            Err(error) => {
                let text = explain(&error);
                assert!(
                    text.contains("No space left") || text.contains("no storage space"),
                    "{text}"
                );
            }
        }
        assert!(open().image("kept").is_ok(), "{free}");
    }
    open().remove_image("kept", false).unwrap();
    let _ = fs::remove_file(&filler);
    open().prune(false).unwrap();
    assert!(names(&small.0.join("store/layers")).is_empty());
    assert!(
        names(&small.0.join("store/tmp")).is_empty(),
        "{:?}",
        names(&small.0.join("store/tmp"))
    );
}

/// D-52: one small file each, so that a damaged one is only its own loss.
#[test]
fn a_damaged_name_is_no_other_names_loss() {
    let place = Place::new();
    let store = place.store();
    for name in ["first", "second"] {
        add_image(&store, name, &[Tar::new().file(name, "x").end()]).unwrap();
    }
    fs::write(place.path("store/references/first"), "{").unwrap();
    let names: Vec<_> = store.images().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(
        names,
        [None, Some("second".to_owned())],
        "the image is still there, without a name"
    );
    assert!(store.image("second").is_ok());
    assert!(store.image("first").is_err());
    let health = store.check(&|_| ()).unwrap();
    assert_eq!(health.damage.len(), 1, "{:?}", health.damage);
    // What has lost its name is not taken for something nobody wants.
    assert!(store.prune(false).is_err());
    assert_eq!(store.images().unwrap().len(), 2);
    store.repair(&health.damage).unwrap();
    assert_eq!(store.check(&|_| ()).unwrap().damage, []);
}

#[test]
fn a_thousand_images_are_listed_at_once() {
    let place = Place::new();
    let store = place.store();
    let image = add_image(&store, "first", &[Tar::new().file("f", "x").end()]).unwrap();
    for number in 0..1000 {
        store.tag(&image, &format!("registry.example/some/image-{number}:latest")).unwrap();
    }
    let start = Instant::now();
    assert_eq!(store.images().unwrap().len(), 1001);
    // A generous bound for a debug build on a busy machine; `make bench` has the real one.
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

//! The images most tests use, and the registry that serves them to one test binary.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
    thread,
};

use crate::{Guard, Image, Layer, Registry, built, need, tar::Entry};

pub use crate::image::{gzip, index, machine};

/// Entries every small image starts with: busybox and its names, accounts, a few directories.
pub fn busybox_entries() -> Vec<Entry> {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(make_busybox_entries).clone()
}

fn make_busybox_entries() -> Vec<Entry> {
    let busybox =
        need::find("busybox").expect("busybox-static is installed: see `make test-tools`");
    let names = Command::new(&busybox).arg("--list").output().expect("busybox runs").stdout;
    let mut entries: Vec<_> = ["bin", "etc", "root", "dev", "proc", "sys", "usr", "usr/bin", "var"]
        .iter()
        .map(Entry::directory)
        .collect();
    entries.push(Entry::directory("tmp").mode(0o1777));
    entries.push(Entry::directory("home"));
    entries.push(Entry::directory("home/alice").owner(1000, 1000));
    entries.push(Entry::program("bin/busybox", fs::read(&busybox).expect("busybox is readable")));
    for name in String::from_utf8_lossy(&names).lines().filter(|name| *name != "busybox") {
        entries.push(Entry::symlink(format!("bin/{name}"), "busybox"));
    }
    entries.push(Entry::file("etc/passwd", PASSWD));
    entries.push(Entry::file("etc/group", GROUP));
    entries.push(Entry::file("etc/os-release", "ID=test\nPRETTY_NAME=\"A test image\"\n"));
    entries.push(Entry::program("bin/script", "#!/bin/sh\necho script ran: \"$@\"\n"));
    entries.push(Entry::program("bin/no-interpreter", "#!/bin/missing\n"));
    entries.push(Entry::program("bin/garbage", "neither a script nor a program"));
    entries.push(Entry::file("bin/not-executable", "#!/bin/sh\n"));
    entries
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
bob:x:1001:1001:Bob:/home/bob:/bin/sh
4242:x:77:77:a name of digits:/:/bin/sh
";

const GROUP: &str = "root:x:0:
alice:x:1000:
bob:x:1001:
audio:x:29:alice,bob
video:x:44:alice
staff:x:50:
";

/// busybox and the probe, in two layers.
pub fn busybox() -> Image {
    let probe = fs::read(built("probe")).expect("the probe is readable");
    Image::new(vec![
        Layer::of(&busybox_entries()),
        Layer::of(&[Entry::directory("usr/bin"), Entry::program("usr/bin/probe", probe)]),
    ])
}

/// The whole small image as one archive.
pub fn busybox_archive() -> Vec<u8> {
    let mut entries = busybox_entries();
    entries.push(Entry::program(
        "usr/bin/probe",
        fs::read(built("probe")).expect("the probe is readable"),
    ));
    crate::tar::archive(&entries)
}

/// A plain registry that lives as long as the test binary.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        // The registry dies with the thread that started it, so that must not be a test's.
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            sweep(Path::new("/var/tmp"));
            let directory = PathBuf::from(format!("/var/tmp/cct{}-registry", std::process::id()));
            let _ = sender.send(Registry::start(&directory, Guard::None));
            loop {
                thread::park();
            }
        });
        receiver.recv().expect("the registry starts")
    })
}

/// Removes what the registries of earlier test binaries kept: nobody is left to do it when one ends.
fn sweep(places: &Path) {
    for entry in fs::read_dir(places).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|it| it.strip_prefix("cct")?.strip_suffix("-registry"));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another binary may be sweeping as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The name of an image in the shared registry, pushed when first asked for.
pub fn shared(name: &str) -> String {
    static PUSHED: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);
    let mut pushed = PUSHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pushed = pushed.get_or_insert_default();
    if let Some(reference) = pushed.get(name) {
        return reference.clone();
    }
    assert_eq!(name, "busybox:latest", "only this image is shared so far");
    let reference = registry().push(name, &busybox().build());
    pushed.insert(name.to_owned(), reference.clone());
    reference
}

//! Volumes, tmpfs and the root filesystem, as the program inside sees them.

use std::{fs, os::unix::fs::symlink};

use integration::{Layer, TestEnv, images, tar::Entry};
use serde_json::json;

const NOTHING: [&str; 0] = [];

fn options(mount: &serde_json::Value) -> Vec<String> {
    let words = mount["options"].as_str().unwrap_or_default().split(',');
    words.map(str::to_owned).collect()
}

#[test]
fn the_standard_mounts_are_there() {
    let Some(env) = TestEnv::root() else { return };
    let mounts = env.probe(NOTHING, &["mounts"]);
    for (place, kind, wanted) in [
        ("/proc", "proc", vec!["nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", vec!["nosuid"]),
        ("/dev/pts", "devpts", vec!["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", vec!["nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", "mqueue", vec!["nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", vec!["ro", "nosuid", "nodev", "noexec"]),
    ] {
        assert_eq!(mounts[place]["type"], json!(kind), "{place}");
        let found = options(&mounts[place]);
        for word in wanted {
            assert!(found.iter().any(|option| option == word), "{place} is not {word}: {found:?}");
        }
    }
    assert!(options(&mounts["/sys/fs/cgroup"]).contains(&"ro".to_owned()), "D-31");
}

#[test]
fn a_volume_shows_the_hosts_directory() {
    let Some(env) = TestEnv::root() else { return };
    env.file("data/in", "from the host");
    let volume = format!("{}:/data", env.path("data").display());
    env.inside(["-v", &volume], &["cat", "/data/in"]).success().stdout("from the host");
    env.inside(["-v", &volume], &["sh", "-c", "echo back >/data/out"]).success();
    assert_eq!(fs::read_to_string(env.path("data/out")).unwrap(), "back\n");
    let read_only = format!("{volume}:ro");
    env.inside(["-v", &read_only], &["sh", "-c", "echo no >/data/more"]).failure();
    assert!(!env.path("data/more").exists());
    let mounts = env.probe(["-v", &read_only], &["mounts"]);
    assert!(options(&mounts["/data"]).contains(&"ro".to_owned()));
    env.inside(["-v", &format!("{volume}:rw,z")], &["true"]).success();
}

#[test]
fn a_single_file_can_be_a_volume() {
    let Some(env) = TestEnv::root() else { return };
    let file = env.file("one", "just this");
    let volume = format!("{}:/etc/one:ro", file.display());
    env.inside(["-v", &volume], &["cat", "/etc/one"]).success().stdout("just this");
}

#[test]
fn mount_takes_dockers_words() {
    let Some(env) = TestEnv::root() else { return };
    env.file("data/in", "bound");
    let bind = format!("type=bind,source={},target=/data,readonly", env.path("data").display());
    env.inside(["--mount", &bind], &["cat", "/data/in"]).success().stdout("bound");
    env.inside(["--mount", &bind], &["touch", "/data/new"]).failure();
    let tmpfs = "type=tmpfs,destination=/fast,tmpfs-size=1m,tmpfs-mode=1770";
    let mounts = env.probe(["--mount", tmpfs], &["mounts"]);
    assert_eq!(mounts["/fast"]["type"], json!("tmpfs"));
    assert!(
        mounts["/fast"]["super"].as_str().unwrap().contains("size=1024k"),
        "{}",
        mounts["/fast"]
    );
    for wrong in [
        "type=bind,target=/x",
        "type=nfs,target=/x",
        "target",
        "type=bind,source=/,target=/x,colour=red",
    ] {
        env.inside(["--mount", wrong], &["true"]).code(125).one_clear_line();
    }
}

#[test]
fn a_tmpfs_is_as_open_as_what_it_covers_or_everybodys() {
    let Some(env) = TestEnv::root() else { return };
    let mode = |flag: &str, place: &str| {
        env.inside(["--tmpfs", flag], &["stat", "-c", "%a", place]).success().word()
    };
    assert_eq!(mode("/tmp", "/tmp"), "1777");
    assert_eq!(mode("/etc", "/etc"), "755");
    assert_eq!(mode("/new/place", "/new/place"), "1777");
    assert_eq!(mode("/new:mode=700", "/new"), "700");
    let flags = ["--tmpfs", "/scratch", "--user", "1000:1000", "--read-only"];
    env.inside(flags, &["touch", "/scratch/file"]).success();
}

#[test]
fn tmpfs_is_empty_and_gone_afterwards() {
    let Some(env) = TestEnv::root() else { return };
    let flags = ["--tmpfs", "/scratch:size=64k,mode=1777", "--read-only"];
    let command = "df /scratch | tail -1 | grep -q tmpfs && echo x >/scratch/x && ls /scratch";
    env.inside(flags, &["sh", "-c", command]).success().stdout("x\n");
    env.inside(flags, &["sh", "-c", "head -c 200000 /dev/zero >/scratch/big"]).failure();
}

#[test]
fn read_only_means_the_whole_root() {
    let Some(env) = TestEnv::root() else { return };
    for place in ["/", "/etc", "/usr/bin"] {
        let command = format!("! touch {place}/new 2>/dev/null");
        env.inside(["--read-only"], &["sh", "-c", &command]).success();
    }
    env.inside(["--read-only", "--tmpfs", "/tmp"], &["touch", "/tmp/new"]).success();
    env.inside(NOTHING, &["touch", "/new"]).success();
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let Some(env) = TestEnv::root() else { return };
    let size = |mounts: serde_json::Value| mounts["/dev/shm"]["super"].as_str().unwrap().to_owned();
    assert!(size(env.probe(NOTHING, &["mounts"])).contains("size=65536k"));
    assert!(size(env.probe(["--shm-size", "1m"], &["mounts"])).contains("size=1024k"));
}

#[test]
fn devices_are_there_only_when_asked_for() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(NOTHING, &["test", "-e", "/dev/fuse"]).code(1);
    let seen = env.probe(["--device", "/dev/full:/dev/brim"], &["stat", "/dev/brim"]);
    assert_eq!(seen["/dev/brim"]["device"], json!([1, 7]));
    env.inside(["--device", "/dev/no-such-device"], &["true"])
        .code(125)
        .stderr_has("no-such-device");
}

/// D-24: links in the image are resolved inside the image.
#[test]
fn a_volume_lands_inside_even_if_the_image_has_links() {
    let Some(env) = TestEnv::root() else { return };
    env.file("data/in", "volume");
    symlink(env.path("data"), env.path("link")).unwrap();
    let target = env.path("outside");
    fs::create_dir(&target).unwrap();
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[
        Entry::symlink("absolute", target.to_str().unwrap()),
        Entry::symlink("relative", format!("../../../..{}", target.display())),
        Entry::symlink("loop", "loop"),
    ]));
    let name = images::registry().push("mounts/links:1", &image.build());
    let volume = |place: &str| format!("{}:{place}", env.path("link").display());
    for place in ["/absolute/data", "/relative/data"] {
        let run = ["run", "--rm", "--network", "none", "-v", &volume(place), &name];
        env.command(run).args(["cat", &format!("{place}/in")]).run().success().stdout("volume");
    }
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "something was made on the host");
    let run = ["run", "--rm", "--network", "none", "-v", &volume("/loop/x"), &name, "true"];
    env.run(run).code(125).one_clear_line();
}

#[test]
fn proc_cannot_be_covered() {
    let Some(env) = TestEnv::root() else { return };
    for place in ["/proc", "/proc/self", "/proc/sys", "/"] {
        let volume = format!("{}:{place}", env.path("").display());
        env.inside(["-v", &volume], &["true"]).code(125);
    }
}

#[test]
fn what_is_wrong_with_a_volume_is_said() {
    let Some(env) = TestEnv::root() else { return };
    for (wrong, word) in
        [("/a:relative", "relative"), ("/a:/b:sideways", "sideways"), ("/a:/b:ro:x", "/a")]
    {
        env.inside(["-v", wrong], &["true"]).code(125).stderr_has(word).one_clear_line();
    }
}

/// `run --rootfs DIR`: any directory is a root, untouched unless asked otherwise.
#[test]
fn a_directory_can_be_the_root() {
    let Some(env) = TestEnv::root() else { return };
    let directory = env.rootfs("tree");
    let run = |suffix: &str, command: &str| {
        let place = format!("{}{suffix}", directory.display());
        env.run(["run", "--rm", "--network", "none", "--rootfs", &place, "sh", "-c", command])
    };
    run("", "touch /new").success();
    run(":O", "touch /new && rm -rf /bin/awk").success();
    assert!(
        !directory.join("new").exists() && directory.join("bin/awk").symlink_metadata().is_ok()
    );
    run(":ro", "touch /new").failure();
    run(":rw", "touch /new").success();
    assert!(directory.join("new").exists());
}

#[test]
fn the_machine_itself_can_be_sandboxed_and_its_changes_shown() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.name("sandbox");
    let command = "echo changed >/etc/cct-new && rm -rf /srv";
    let flags = ["run", "--network", "none", "--name", &name, "--rootfs", "/", "sh", "-c", command];
    env.run(flags).success();
    assert!(!std::path::Path::new("/etc/cct-new").exists());
    assert!(std::path::Path::new("/srv").is_dir());
    let changes = env.run(["diff", &name]).success().text();
    assert!(changes.lines().any(|line| line == "A /etc/cct-new"), "{changes}");
    assert!(changes.lines().any(|line| line == "D /srv"), "{changes}");
    env.run(["rm", &name]).success();
}

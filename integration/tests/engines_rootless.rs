//! An ordinary user's podman, with us as its runtime.

use std::{fs, os::unix::fs::symlink, time::Duration};

use integration::{Finished, Need, TestEnv, program};

const NEEDS: [Need; 3] = [Need::OrdinaryUser, Need::CgroupV2, Need::Program("podman", "podman")];

/// podman as the user has it, with directories of the test's own.
fn podman(env: &TestEnv, words: &[&str]) -> Finished {
    let link = env.path("crun-cargo-oci");
    if fs::symlink_metadata(&link).is_err() {
        symlink(program(), &link).expect("a link of ours");
    }
    let uid = nix::unistd::geteuid();
    let has_systemd = fs::exists(format!("/run/user/{uid}/systemd/private")).unwrap_or(false);
    let manager = if has_systemd { "systemd" } else { "cgroupfs" };
    let place = |name: &str| env.path("podman").join(name).display().to_string();
    let globals = [
        "--root",
        &place("root"),
        "--runroot",
        &place("run"),
        "--tmpdir",
        &place("tmp"),
        "--cgroup-manager",
        manager,
        "--events-backend",
        "none",
        "--runtime",
        link.to_str().unwrap(),
    ];
    let bus = format!("unix:path=/run/user/{uid}/bus");
    env.other("podman", globals)
        .args(words)
        .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
        .env("DBUS_SESSION_BUS_ADDRESS", bus)
        .limit(Duration::from_secs(240))
        .run()
}

/// `run` of the small image's files, as an image of podman's own.
fn image(env: &TestEnv) -> &'static str {
    let archive = env.file("busybox.tar", integration::images::busybox_archive());
    podman(env, &["import", "-q", archive.to_str().unwrap(), "box:1"]).success();
    "box:1"
}

#[test]
fn podman_of_an_ordinary_user_runs_containers_with_us() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let image = image(&env);
    let run = |flags: &[&str], command: &[&str]| {
        let fixed = ["run", "--rm", "--network", "none"];
        podman(&env, &[&fixed[..], flags, &[image], command].concat())
    };
    run(&[], &["echo", "hello"]).success().stdout("hello\n");
    run(&[], &["sh", "-c", "exit 7"]).code(7);
    run(&["--user", "33:33"], &["id", "-u"]).success().stdout("33\n");
    let limits = ["--memory", "64m", "--pids-limit", "55"];
    run(&limits, &["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"])
        .success()
        .stdout("67108864\n55\n");
    run(&["--network", "host"], &["ls", "/sys/class/net"]).success().stdout_has("lo");
    run(&["--read-only", "--tmpfs", "/tmp"], &["touch", "/tmp/x"]).success();
    run(&["--userns", "keep-id"], &["true"]).success();
}

#[test]
fn podman_of_an_ordinary_user_enters_and_stops_containers_with_us() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let (image, name) = (image(&env), env.name("long"));
    let run = ["run", "-d", "--name", &name, "--network", "none", image, "sleep", "100"];
    podman(&env, &run).success();
    podman(&env, &["exec", &name, "sh", "-c", "id -u; echo made >/made"]).success().stdout("0\n");
    podman(&env, &["exec", "--user", "33", &name, "cat", "/made"]).success().stdout("made\n");
    podman(&env, &["top", &name]).success().stdout_has("sleep");
    podman(&env, &["pause", &name]).success();
    podman(&env, &["unpause", &name]).success();
    podman(&env, &["stop", "-t", "1", &name]).success();
    podman(&env, &["rm", &name]).success();
    env.traces().nothing_lives();
}

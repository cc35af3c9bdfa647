//! Cgroups that systemd makes, asked over D-Bus: as root the system's, as an ordinary user their own.

use std::{fs, path::Path};

use integration::{Need, TestEnv};
use serde_json::{Value, json};

const NEEDS: [Need; 2] = [Need::CgroupV2, Need::Systemd];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// One property of a unit, as the responsible systemd has it.
fn property(env: &TestEnv, unit: &str, name: &str) -> String {
    let whose: &[&str] = if is_root() { &[] } else { &["--user"] };
    let uid = nix::unistd::geteuid();
    let bus = format!("unix:path=/run/user/{uid}/bus");
    env.other("systemctl", whose.iter().copied().chain(["show", "-P", name, unit]))
        .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
        .env("DBUS_SESSION_BUS_ADDRESS", bus)
        .run()
        .success()
        .word()
}

#[test]
fn a_container_of_an_image_gets_a_scope() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let (image, name) = (env.pulled_busybox(), env.name("scope"));
    let flags = ["--cgroup-manager", "systemd", "run", "--rm", "--network", "none"];
    let limits = ["-m", "64m", "--pids-limit", "33", "--cpus", "0.5", "--name", &name, &image];
    let command = ["sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; sleep 60"];
    let running = env.command(flags).args(limits).args(command).start();
    env.eventually("it runs", || env.run(["exec", &name, "true"]).status.success());
    let id = env.run(["ps", "-q", "--no-trunc"]).success().word();
    let unit = format!("crun-cargo-{id}.scope");
    assert_eq!(property(&env, &unit, "ActiveState"), "active");
    assert_eq!(property(&env, &unit, "MemoryMax"), "67108864");
    assert_eq!(property(&env, &unit, "TasksMax"), "33");
    assert_eq!(property(&env, &unit, "CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(property(&env, &unit, "Delegate"), "yes");
    let slice = if is_root() { "system.slice" } else { "user.slice" };
    assert_eq!(property(&env, &unit, "Slice"), slice);
    // Who joins is in the scope, too.
    env.run(["exec", &name, "cat", "/proc/self/cgroup"]).success().stdout("0::/\n");
    env.run(["pause", &name]).success();
    env.run(["unpause", &name]).success();
    env.run(["rm", "-f", &name]).success();
    let ended = running.finish();
    assert!(ended.text().starts_with("67108864\n33\n"), "{}", ended.text());
    env.eventually("the scope is gone", || property(&env, &unit, "LoadState") == "not-found");
}

fn bundle(env: &TestEnv, path: &str, resources: &Value) -> String {
    let bundle = env.bundle(|config| {
        config["process"]["args"] = json!(["sleep", "60"]);
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = resources.clone();
    });
    bundle.to_str().unwrap().to_owned()
}

/// A login session lies outside of what its user was given: nothing can be moved from there to a scope of
/// the user's own systemd, except by systemd.
#[test]
fn containers_can_be_run_from_a_login_session() {
    let Some(env) = TestEnv::with(&[&NEEDS[..], &[Need::Root]].concat()) else { return };
    if !Path::new("/run/user/1000/systemd/private").exists() {
        return integration::skip("user 1000 has no systemd of their own");
    }
    let image = env.pulled_busybox();
    env.other("chown", ["-R", "1000:1000"]).arg(env.directory()).run().success();
    let session = ["--quiet", "--scope", "--uid=1000", "--gid=1000", "--slice=user-1000.slice"];
    let user = |words: &[&str]| {
        let run = env.other("systemd-run", session).arg(integration::program());
        let run = run.arg("--root").arg(env.path("own")).arg("--runroot").arg(env.runroot());
        run.args(words)
    };
    let name = env.name("session");
    let run = ["run", "--name", &name, "--network", "none", "-m", "64m", &image];
    let command = ["sh", "-c", "cat /sys/fs/cgroup/memory.max; sleep 60"];
    let running = user(&[&run[..], &command].concat()).start();
    env.eventually("it runs", || user(&["exec", &name, "true"]).run().status.success());
    user(&["exec", &name, "cat", "/proc/self/cgroup"]).run().success().stdout("0::/\n");
    user(&["rm", "-f", &name]).run().success();
    running.finish().stdout("67108864\n");
}

#[test]
fn engines_choose_slice_and_name_and_change_limits() {
    let Some(env) = TestEnv::with(&[&NEEDS[..], &[Need::Root]].concat()) else { return };
    let id = env.name("oci");
    let slice = "cct-nested.slice";
    let resources = json!({
        "memory": {"limit": 67_108_864},
        "cpu": {"shares": 512, "cpus": "0"},
        "unified": {"memory.high": "50331648"},
    });
    let bundle = bundle(&env, &format!("{slice}:engine:{id}"), &resources);
    let oci = |words: &[&str]| env.oci([&["--systemd-cgroup"], words].concat());
    let run = ["--systemd-cgroup", "run", "-d", "--bundle", &bundle, &id];
    env.oci_detached(run, &env.file("output", "")).success();
    let unit = format!("engine-{id}.scope");
    let control = property(&env, &unit, "ControlGroup");
    assert_eq!(control, format!("/cct.slice/{slice}/{unit}"));
    let directory = Path::new("/sys/fs/cgroup").join(control.trim_start_matches('/'));
    let says = |file: &str| fs::read_to_string(directory.join(file)).unwrap().trim().to_owned();
    assert_eq!((says("memory.max"), says("memory.high")), ("67108864".into(), "50331648".into()));
    assert_eq!((says("cpu.weight"), says("cpuset.cpus")), ("59".into(), "0".into()));
    assert_eq!(property(&env, &unit, "AllowedCPUs"), "0");
    let pid = env.oci(["state", &id]).success().json()["pid"].to_string();
    assert_eq!(says("cgroup.procs"), pid, "nobody else is in there");

    oci(&["update", "--memory", "33554432", &id]).success();
    assert_eq!(property(&env, &unit, "MemoryMax"), "33554432");
    assert_eq!(says("memory.max"), "33554432");
    // A reload writes what systemd believes.
    env.other("systemctl", ["daemon-reload"]).run().success();
    assert_eq!(says("memory.max"), "33554432");

    oci(&["delete", "--force", &id]).success();
    env.eventually("the scope is gone", || property(&env, &unit, "LoadState") == "not-found");
    assert!(!directory.exists());
}

#[test]
fn a_wrong_slice_is_refused() {
    let Some(env) = TestEnv::with(&[&NEEDS[..], &[Need::Root]].concat()) else { return };
    for path in ["/plain/path", "a/b.slice:x:y", "system.slice:x:../y"] {
        let bundle = bundle(&env, path, &json!({}));
        let run = ["--systemd-cgroup", "run", "--bundle", &bundle, &env.name("wrong")];
        env.oci(run).code(1).one_clear_line();
    }
    env.traces().nothing_lives();
}

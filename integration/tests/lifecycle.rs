//! The life of a container as the runtime specification orders it, and what stands in its way.

use std::{fs, path::Path};

use integration::{Need, TestEnv};
use serde_json::{Value, json};

fn words(config: &mut Value, words: &[&str]) {
    config["process"]["args"] = json!(words);
}

/// Writes what its standard input says to a file.
fn keep_state(file: &Path) -> Value {
    let script = format!("cat >{}", file.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

#[track_caller]
fn document(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn only_a_stopped_container_is_deleted_without_force() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["true"]));
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("created"));
    env.oci_detached(["create", "--bundle", bundle, &id], Path::new("/dev/null")).success();
    env.oci(["delete", &id]).failure().stderr_has("it is created");
    assert_eq!(env.oci(["state", &id]).success().json()["status"], json!("created"));
    env.oci(["delete", "--force", &id]).success();
    env.traces().nothing_lives();
}

#[test]
fn each_kind_of_hook_is_told_how_far_the_container_is() {
    let Some(env) = TestEnv::root() else { return };
    let kinds = [
        ("prestart", "created"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    let bundle = env.bundle(|config| {
        words(config, &["true"]);
        for (kind, _) in kinds {
            config["hooks"][kind] = keep_state(&env.path(kind));
        }
    });
    let id = env.name("told");
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &id]).success();
    for (kind, status) in kinds {
        let state = document(&env.path(kind));
        assert_eq!(state["status"], json!(status), "{kind}");
        assert_eq!(state["id"], json!(id), "{kind}");
        assert_eq!(state["bundle"], json!(bundle.to_str().unwrap()), "{kind}");
    }
}

#[test]
fn a_hook_of_the_start_runs_inside_with_the_programs_environment() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["cat", "/seen"]);
        config["root"]["readonly"] = json!(false);
        config["process"]["env"] = json!(["PATH=/bin", "OF_THE_PROGRAM=1"]);
        let script = "cat >/state; grep -c '\"created\"' /state >/seen; env >>/seen";
        config["hooks"]["startContainer"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    let run = env
        .oci_command(["run", "--bundle", bundle.to_str().unwrap(), &env.name("inside")])
        .env("SECRET_OF_THE_HOST", "1")
        .run();
    run.success()
        .stdout_has("1\n")
        .stdout_has("OF_THE_PROGRAM=1")
        .stdout_lacks("SECRET_OF_THE_HOST");
}

#[test]
fn a_hook_without_an_environment_inherits_ours() {
    let Some(env) = TestEnv::root() else { return };
    let told = env.path("told");
    let script = format!("echo $GREETING >{}", told.display());
    let hook = |environment: Option<Value>| {
        let mut hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        if let Some(environment) = environment {
            hook[0]["env"] = environment;
        }
        let bundle = env.bundle(|config| {
            words(config, &["true"]);
            config["hooks"]["createRuntime"] = hook;
        });
        env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &env.name("greeted")])
            .env("GREETING", "hello")
            .run()
            .success();
        fs::read_to_string(&told).unwrap()
    };
    assert_eq!(hook(None), "hello\n");
    assert_eq!(hook(Some(json!([]))), "\n");
    assert_eq!(hook(Some(json!(["GREETING=own"]))), "own\n");
}

#[test]
fn hooks_of_the_creation_find_the_mounts_at_the_bundles_root() {
    let Some(env) = TestEnv::root() else { return };
    let (data, seen) = (env.path("data"), env.path("seen"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "mounted").unwrap();
    let bundle = env.bundle(|config| {
        words(config, &["cat", "/made"]);
        config["root"]["readonly"] = json!(false);
        config["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/mnt/data", "type": "bind", "source": data, "options": ["bind"]}));
        let script = format!(
            "cat rootfs/mnt/data/file >{}; test -e rootfs/proc/self && echo made >rootfs/made",
            seen.display()
        );
        config["hooks"]["createContainer"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("mounts")])
        .success()
        .stdout("made\n");
    assert_eq!(fs::read_to_string(seen).unwrap(), "mounted");
    assert!(!bundle.join("rootfs/proc/self").exists(), "the host sees nothing of it");
}

#[test]
fn a_failing_hook_after_the_start_takes_the_container_away() {
    let Some(env) = TestEnv::root() else { return };
    let stopped = env.path("stopped");
    let bundle = env.bundle(|config| {
        words(config, &["sleep", "60"]);
        config["hooks"]["poststart"] = json!([{"path": "/bin/false"}]);
        config["hooks"]["poststop"] = keep_state(&stopped);
    });
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("poststart"));
    env.oci_detached(["create", "--bundle", bundle, &id], Path::new("/dev/null")).success();
    env.oci(["start", &id]).failure().stderr_has("poststart");
    env.oci(["state", &id]).failure();
    assert_eq!(document(&stopped)["status"], json!("stopped"));
    env.oci(["run", "--bundle", bundle, &id]).failure().stderr_has("poststart");
    env.traces().nothing_lives();
}

#[test]
fn a_frozen_cgroup_is_refused_rather_than_entered() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::CgroupV1]) else { return };
    let name = format!("{}-frozen", env.token());
    let parent = Path::new("/sys/fs/cgroup/freezer").join(&name);
    fs::create_dir(&parent).unwrap();
    fs::write(parent.join("freezer.state"), "FROZEN").unwrap();
    let bundle = env.bundle(|config| {
        words(config, &["true"]);
        config["linux"]["cgroupsPath"] = json!(format!("/{name}/container"));
    });
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("frozen")]);
    fs::write(parent.join("freezer.state"), "THAWED").unwrap();
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let _ = fs::remove_dir(controller.unwrap().path().join(&name));
    }
    run.failure().stderr_has("frozen");
    env.traces().nothing_lives();
}

#[test]
fn without_namespaces_the_host_sees_no_mount_of_the_container() {
    let Some(env) = TestEnv::root() else { return };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split('.').take(2).filter_map(|it| it.parse().ok()).collect();
    if numbers < vec![6, 15] {
        return integration::skip("a kernel that mounts onto detached trees: Linux 6.15");
    }
    let bundle = env.bundle(|config| {
        words(config, &["sleep", "60"]);
        config["linux"]["namespaces"] = json!([]);
        config.as_object_mut().unwrap().remove("hostname");
    });
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("shared"));
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    env.oci_detached(["run", "--detach", "--bundle", bundle, &id], Path::new("/dev/null"))
        .success();
    let pid = env.oci(["state", &id]).success().json()["pid"].clone();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap(), ours, "{kind}");
    }
    // Others may mount and unmount meanwhile; nothing of this bundle may be among it.
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let news = after.lines().filter(|line| !before.lines().any(|known| known == *line));
    assert_eq!(news.filter(|line| line.contains(env.token())).count(), 0, "{after}");
    // Yet inside they are, and another process comes to the same place.
    let inside = ["exec", &id, "sh", "-c", "ls /; test -c /dev/null && test -e /proc/self/status"];
    env.oci(inside).success().stdout_has("proc").stdout_lacks("boot");
    env.oci(["exec", &id, "sh", "-c", "echo no >/bin/file"]).failure();
    env.oci(["kill", &id, "KILL"]).success();
    env.eventually("it stops", || {
        env.oci(["state", &id]).success().json()["status"] == json!("stopped")
    });
    env.oci(["delete", &id]).success();
    env.traces().nothing_lives();
}

#[test]
fn a_missing_working_directory_is_made_in_a_read_only_root() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["pwd"]);
        config["process"]["cwd"] = json!("/not/there/yet");
    });
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("cwd")])
        .success()
        .stdout("/not/there/yet\n");
}

#[test]
fn a_variable_set_twice_arrives_once() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["env"]);
        config["process"]["env"] =
            json!(["PATH=/bin", "ONE=first", "HOME=/elsewhere", "ONE=last", "HOME="]);
    });
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("env")]).success();
    let text = run.text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/root", "ONE=last", "PATH=/bin"]);
}

#[test]
fn where_the_caller_was_told_to_run_is_nothing_to_the_container() {
    let Some(env) = TestEnv::root() else { return };
    let list = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list"));
        line.unwrap_or_default().split_whitespace().last().unwrap_or_default().to_owned()
    };
    let all = list(&fs::read_to_string("/proc/self/status").unwrap());
    let bundle = env.bundle(|config| words(config, &["cat", "/proc/self/status"]));
    let pinned = format!(
        "taskset -c 0 {} --root {} run --bundle {} {}",
        integration::runtime().join(" ".as_ref()).display(),
        env.runroot().display(),
        bundle.display(),
        env.name("pinned"),
    );
    let run = env.other("sh", ["-c", &pinned]).run().success();
    assert_eq!(list(&run.text()), all);
}

#[test]
fn a_terminal_that_goes_to_a_pipe_keeps_its_line_ends() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["sh", "-c", "test -t 1 && echo a terminal"]);
        config["process"]["terminal"] = json!(true);
    });
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("lines")])
        .success()
        .stdout("a terminal\n");
}

#[test]
fn an_exec_that_cannot_be_done_exits_with_255() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["sleep", "60"]));
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("exec"));
    env.oci_detached(["run", "--detach", "--bundle", bundle, &id], Path::new("/dev/null"))
        .success();
    env.oci(["exec", &id, "/no/such/program"]).code(255).stderr_has("/no/such/program");
    env.oci(["pause", &id]).success();
    env.oci(["exec", &id, "true"]).code(255).stderr_has("it is paused");
    env.oci(["resume", &id]).success();
    env.oci(["exec", &id, "sh", "-c", "exit 1"]).code(1);
    env.oci(["delete", "--force", &id]).success();
}

#[test]
fn killing_the_first_process_leaves_no_other_behind() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["sh", "-c", "sleep 1234 & sleep 1234 & wait"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|it| it["type"] != "pid");
    });
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("shared"));
    env.oci_detached(["run", "--detach", "--bundle", bundle, &id], Path::new("/dev/null"))
        .success();
    let count =
        || env.oci(["ps", "--format", "json", &id]).success().json().as_array().unwrap().len();
    env.eventually("all run", || count() == 3);
    env.oci(["kill", &id, "KILL"]).success();
    env.eventually("all are gone", || count() == 0);
    env.oci(["delete", &id]).success();
    env.traces().nothing_lives();
}

#[test]
fn a_bind_mount_may_come_from_an_earlier_mount() {
    let Some(env) = TestEnv::root() else { return };
    let data = env.path("data");
    fs::create_dir_all(data.join("inner")).unwrap();
    fs::write(data.join("inner/file"), "found").unwrap();
    let bundle = env.bundle(|config| {
        words(config, &["cat", "/second/file"]);
        config["root"]["readonly"] = json!(false);
    });
    let file = bundle.join("config.json");
    let mut config = document(&file);
    let mounts = config["mounts"].as_array_mut().unwrap();
    for (place, source) in [("/first", data), ("/second", bundle.join("rootfs/first/inner"))] {
        mounts.push(
            json!({"destination": place, "type": "bind", "source": source, "options": ["bind"]}),
        );
    }
    fs::write(&file, config.to_string()).unwrap();
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("order")])
        .success()
        .stdout("found");
}

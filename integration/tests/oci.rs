//! The OCI runtime command line: what engines do with a runtime, by hand.

use std::{fs, io::Read, os::unix::net::UnixListener, path::Path};

use integration::{Need, TestEnv};
use serde_json::{Value, json};

#[track_caller]
fn status(env: &TestEnv, id: &str) -> String {
    let state = env.oci(["state", id]).success().json();
    state["status"].as_str().unwrap_or_default().to_owned()
}

fn words(config: &mut Value, words: &[&str]) {
    config["process"]["args"] = json!(words);
}

#[test]
fn a_bundle_runs() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["probe", "all"]));
    let bundle = bundle.to_str().unwrap();
    let seen = env.oci(["run", "--bundle", bundle, &env.name("run")]).success().json();
    assert_eq!(seen["ids"]["pid"], json!(1));
    // audit_write, kill and net_bind_service, as the configuration says.
    assert_eq!(seen["status"]["CapEff"], json!("0000000020000420"));
    assert_eq!(seen["status"]["NoNewPrivs"], json!("1"));
    assert_eq!(seen["fds"].as_object().unwrap().len(), 3, "{}", seen["fds"]);
    env.traces().nothing_lives();
}

#[test]
fn a_life_in_single_steps() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["sh", "-c", "echo started; sleep 60"]));
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("life"));
    let output = env.file("output", "");
    let pid_file = env.path("pid");
    let create = ["create", "--bundle", bundle, "--pid-file", pid_file.to_str().unwrap(), &id];
    env.oci_detached(create, &output).success();

    let state = env.oci(["state", &id]).success().json();
    assert_eq!(state["status"], json!("created"));
    assert_eq!(state["id"], json!(id));
    assert_eq!(state["bundle"], json!(bundle));
    assert!(state["ociVersion"].is_string());
    let pid = fs::read_to_string(env.path("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid.trim());
    assert_eq!(fs::read_to_string(&output).unwrap(), "");
    env.oci(["create", "--bundle", bundle, &id]).failure().stderr_has(&id);

    env.oci(["start", &id]).success();
    assert_eq!(status(&env, &id), "running");
    env.eventually("the program says so", || fs::read_to_string(&output).unwrap() == "started\n");
    env.oci(["start", &id]).failure();
    env.oci(["delete", &id]).failure();
    env.oci(["list"]).success().stdout_has(&id);
    env.oci(["list", "-q"]).success().stdout(&format!("{id}\n"));
    assert_eq!(env.oci(["list", "--format", "json"]).success().json()[0]["id"], json!(id));
    env.oci(["ps", &id]).success().stdout_has(pid.trim());

    env.oci(["exec", &id, "sh", "-c", "echo inside; exit 3"]).code(3).stdout("inside\n");
    env.oci(["pause", &id]).success();
    assert_eq!(status(&env, &id), "paused");
    env.oci(["resume", &id]).success();
    assert_eq!(status(&env, &id), "running");

    env.oci(["kill", &id, "KILL"]).success();
    env.eventually("it stops", || status(&env, &id) == "stopped");
    env.oci(["delete", &id]).success();
    env.oci(["state", &id]).code(1).stderr_has(&id);
    env.traces().nothing_lives();
}

#[test]
fn force_removes_whatever_there_is() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["sleep", "60"]));
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("force"));
    env.oci_detached(["create", "--bundle", bundle, &id], Path::new("/dev/null")).success();
    env.oci(["delete", "--force", &id]).success();
    env.traces().nothing_lives();
    // docker's contract: forcing what is not there is no failure.
    env.oci(["delete", "--force", &id]).success();
    env.oci(["delete", &id]).failure();
}

#[test]
fn exec_takes_a_process_document_and_flags() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["sleep", "60"]));
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("exec"));
    let running = env.oci_command(["run", "--bundle", bundle, &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    let process = env.file(
        "process.json",
        json!({"args": ["probe", "ids"], "cwd": "/tmp", "user": {"uid": 12, "gid": 34, "additionalGids": [56]},
               "env": ["PATH=/usr/bin"]})
        .to_string(),
    );
    let seen = env.oci(["exec", "--process", process.to_str().unwrap(), &id]).success().json();
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(12), &json!(34)));
    let flags = [
        "exec",
        "--user",
        "7:8",
        "--cwd",
        "/bin",
        "--env",
        "A=1",
        &id,
        "sh",
        "-c",
        "id -u; pwd; echo $A",
    ];
    env.oci(flags).success().stdout("7\n/bin\n1\n");
    let pid_file = env.path("pid");
    let exec = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &id, "sleep", "50"];
    env.oci_detached(exec, Path::new("/dev/null")).success();
    let pid = fs::read_to_string(env.path("pid")).unwrap();
    assert!(
        fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap().starts_with("sleep")
    );
    env.oci(["kill", "--all", &id, "9"]).success();
    running.finish();
    env.oci(["delete", "--force", &id]).success();
}

#[test]
fn namespaces_can_be_joined_by_path() {
    let Some(env) = TestEnv::root() else { return };
    let first = env.bundle(|config| words(config, &["sleep", "60"]));
    let id = env.name("first");
    let running = env.oci_command(["run", "--bundle", first.to_str().unwrap(), &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    let pid = env.oci(["state", &id]).success().json()["pid"].clone();
    let second = env.bundle(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap();
            if ["network", "ipc", "uts"].contains(&kind) {
                let file = if kind == "network" { "net" } else { kind };
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        }
        config["hostname"].take();
        config.as_object_mut().unwrap().remove("hostname");
        words(config, &["probe", "namespaces"]);
    });
    let seen = env
        .oci(["run", "--bundle", second.to_str().unwrap(), &env.name("second")])
        .success()
        .json();
    for kind in ["net", "ipc", "uts"] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(seen[kind], json!(theirs.to_str().unwrap()), "{kind}");
    }
    env.oci(["kill", &id, "KILL"]).success();
    running.finish();
    env.oci(["delete", "--force", &id]).success();
}

#[test]
fn a_console_socket_receives_the_terminal() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        words(config, &["sh", "-c", "stty size; tty; ls -l /dev/console"]);
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    });
    let socket = env.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let id = env.name("console");
    let flags = [
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--console-socket",
        socket.to_str().unwrap(),
        &id,
    ];
    env.oci(flags).success();
    let (stream, _) = listener.accept().unwrap();
    let mut terminal = received(&stream);
    env.oci(["start", &id]).success();
    let mut shown = Vec::new();
    let mut block = [0; 1024];
    // Reading the master of a terminal that was closed fails with EIO.
    while let Ok(count @ 1..) = terminal.read(&mut block) {
        shown.extend(&block[..count]);
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(shown.contains("33 99") && shown.contains("/dev/pts/0"), "{shown}");
    env.eventually("it stops", || status(&env, &id) == "stopped");
    env.oci(["delete", &id]).success();
}

/// The descriptor in one SCM_RIGHTS message.
fn received(stream: &std::os::unix::net::UnixStream) -> fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut text = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [std::io::IoSliceMut::new(&mut text)];
    recvmsg(stream, parts, &mut control, RecvFlags::empty()).unwrap();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().unwrap().into();
        }
    }
    panic!("no descriptor came");
}

#[test]
fn hooks_run_with_the_state_on_standard_input() {
    let Some(env) = TestEnv::root() else { return };
    let log = env.path("hooks");
    fs::create_dir(&log).unwrap();
    let hook = |name: &str| {
        let script = format!(
            "cat >{}/{name}; date +%N >>{}/order; echo {name} >>{}/names",
            log.display(),
            log.display(),
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    let bundle = env.bundle(|config| {
        words(config, &["true"]);
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    let id = env.name("hooks");
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &id]).success();
    let names = fs::read_to_string(log.join("names")).unwrap();
    assert_eq!(names, "prestart\ncreateRuntime\npoststart\npoststop\n");
    let state: Value =
        serde_json::from_slice(&fs::read(log.join("createRuntime")).unwrap()).unwrap();
    assert_eq!(state["id"], json!(id));
    assert!(state["pid"].as_u64().unwrap() > 1);
    let state: Value = serde_json::from_slice(&fs::read(log.join("poststop")).unwrap()).unwrap();
    assert_eq!(state["status"], json!("stopped"));
}

#[test]
fn a_failing_hook_stops_the_container() {
    let Some(env) = TestEnv::root() else { return };
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let bundle = env.bundle(|config| {
            words(config, &["echo", "ran"]);
            config["hooks"] = json!({kind: [{"path": "/bin/false", "args": ["false"]}]});
        });
        let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name(kind)]);
        run.failure().stdout("");
        env.traces().nothing_lives();
    }
}

#[test]
fn features_and_spec_are_documents() {
    let Some(env) = TestEnv::root() else { return };
    let features = env.oci(["features"]).success().json();
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    let namespaces = features["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!("time")) && namespaces.len() == 8, "{namespaces:?}");
    env.oci_command(["spec"]).current_dir(env.path("")).run().success();
    let config: Value =
        serde_json::from_slice(&fs::read(env.path("config.json")).unwrap()).unwrap();
    assert!(config["ociVersion"].is_string() && config["process"]["args"].is_array());
}

#[test]
fn limits_are_set_and_changed() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::CgroupV1]) else { return };
    let bundle = env.bundle(|config| {
        words(config, &["sleep", "60"]);
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    let id = env.name("limits");
    let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    let limit = |file: &str| env.oci(["exec", &id, "cat", file]).success().word();
    assert_eq!(limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"), "67108864");
    assert_eq!(limit("/sys/fs/cgroup/pids/pids.max"), "50");
    env.oci(["update", "--memory", "33554432", "--pids-limit", "20", &id]).success();
    assert_eq!(limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"), "33554432");
    assert_eq!(limit("/sys/fs/cgroup/pids/pids.max"), "20");
    let resources = json!({"cpu": {"shares": 300}}).to_string();
    env.oci_command(["update", "--resources", "-", &id]).stdin(resources).run().success();
    assert_eq!(limit("/sys/fs/cgroup/cpu/cpu.shares"), "300");
    let stats = env.oci(["events", "--stats", &id]).success().json();
    assert_eq!(stats["type"], json!("stats"));
    assert!(stats["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{stats}");
    env.oci(["kill", &id, "KILL"]).success();
    running.finish();
    env.oci(["delete", "--force", &id]).success();
    env.traces().nothing_lives();
}

#[test]
fn a_wrong_configuration_is_refused_with_every_problem() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        config["process"]["cwd"] = json!("relative");
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NO_SUCH"]);
        config["mounts"][0]["options"] = json!(["no-such-option"]);
        config["linux"]["namespaces"] =
            json!([{"type": "pid"}, {"type": "pid"}, {"type": "mount"}]);
    });
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("wrong")]).code(1);
    run.stdout("").stderr_has("cwd").stderr_has("namespaces");
    fs::write(bundle.join("config.json"), "{ not json").unwrap();
    env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("wrong")]).code(1);
    env.oci(["run", "--bundle", "/no/such/bundle", &env.name("wrong")]).code(1);
    env.traces().nothing_lives();
}

#[test]
fn every_mount_option_of_the_specification_works() {
    let Some(env) = TestEnv::root() else { return };
    let data = env.path("data");
    fs::create_dir_all(data.join("below")).unwrap();
    let source = data.to_str().unwrap();
    let bundle = env.bundle(|config| {
        words(config, &["probe", "mounts"]);
        let mounts = config["mounts"].as_array_mut().unwrap();
        for (place, options) in [
            ("/m/ro", json!(["bind", "ro"])),
            ("/m/flags", json!(["bind", "nosuid", "nodev", "noexec", "noatime"])),
            ("/m/rro", json!(["rbind", "rro"])),
            ("/m/rflags", json!(["rbind", "rnosuid", "rnodev", "rnoexec"])),
            ("/m/nosymfollow", json!(["bind", "nosymfollow"])),
        ] {
            mounts.push(json!({"destination": place, "type": "bind", "source": source, "options": options}));
        }
        mounts.push(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]}));
    });
    let mounts = env
        .oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("mounts")])
        .success()
        .json();
    let has = |place: &str, option: &str| {
        let options = mounts[place]["options"].as_str().unwrap_or_default();
        assert!(
            options.split(',').any(|found| found == option),
            "{place} is not {option}: {options}"
        );
    };
    has("/m/ro", "ro");
    for option in ["nosuid", "nodev", "noexec", "noatime"] {
        has("/m/flags", option);
    }
    has("/m/rro", "ro");
    has("/m/rflags", "nosuid");
    has("/m/nosymfollow", "nosymfollow");
    let bundle = env.bundle(|config| {
        words(config, &["cat", "/etc/passwd"]);
        config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
        );
    });
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("copyup")]);
    run.success().stdout_has("alice");
}

#[test]
fn other_names_of_the_program_mean_the_runtime() {
    let Some(env) = TestEnv::root() else { return };
    for name in ["runc", "crun", "crun-cargo-oci"] {
        let link = env.path(name);
        std::os::unix::fs::symlink(integration::program(), &link).unwrap();
        let bundle = env.bundle(|config| words(config, &["echo", "through a name"]));
        let run = env.other(link.to_str().unwrap(), ["--root"]).arg(env.runroot());
        run.args(["run", "--bundle", bundle.to_str().unwrap(), &env.name(name)])
            .run()
            .success()
            .stdout("through a name\n");
        env.other(link.to_str().unwrap(), ["--version"]).run().success().stdout_has("spec: 1.");
    }
}

#[test]
fn preserved_descriptors_and_no_others_go_in() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| words(config, &["probe", "fds"]));
    let run = |flags: &str| {
        let script = format!(
            "exec 3</etc/hostname 4</etc/hostname 9</etc/hostname; exec {} --root {} run {flags} --bundle {} {}",
            integration::runtime().join(" ".as_ref()).display(),
            env.runroot().display(),
            bundle.display(),
            env.name("fds"),
        );
        let seen = env.other("sh", ["-c", &script]).run().success().json();
        seen.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(run(""), ["0", "1", "2"]);
    assert_eq!(run("--preserve-fds 2"), ["0", "1", "2", "3", "4"]);
}

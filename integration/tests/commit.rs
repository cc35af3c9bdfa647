//! `commit`: what a container changed becomes a layer, the same one every time.

use integration::{Running, TestEnv};
use serde_json::{Value, json};

fn ended(env: &TestEnv, name: &str, script: &str) -> String {
    let (name, image) = (env.name(name), env.pulled_busybox());
    let run = ["run", "--network", "none", "--name", &name, &image, "sh", "-c", script];
    env.run(run).success();
    name
}

fn running(env: &TestEnv, script: &str) -> (String, Running) {
    let (name, image) = (env.name("running"), env.pulled_busybox());
    let script = format!("{script}\ntouch /ready; sleep 600");
    let run = ["run", "--network", "none", "--init", "--name", &name, &image, "sh", "-c", &script];
    let running = env.command(run).start();
    env.eventually("the container is ready", || {
        env.run(["exec", &name, "test", "-e", "/ready"]).status.success()
    });
    (name, running)
}

fn inspect(env: &TestEnv, name: &str) -> Value {
    env.run(["inspect", "--type", "image", name]).success().json()[0].clone()
}

fn inside(env: &TestEnv, image: &str, script: &str) -> String {
    let run = ["run", "--rm", "--network", "none", image, "sh", "-c", script];
    env.run(run).success().text()
}

#[test]
fn what_a_container_changed_is_in_the_image() {
    let Some(env) = TestEnv::root() else { return };
    let script = "echo new >/new; rm /etc/os-release; chmod 600 /etc/group; mkdir -p /a/b; ln /new /a/b/same";
    let name = ended(&env, "changed", script);
    env.run(["commit", "-m", "a word", "-a", "me", &name, "committed:1"]).success();
    let look =
        "cat /new; ls /etc/os-release 2>&1 | wc -l; stat -c %a /etc/group; stat -c %h /a/b/same";
    assert_eq!(inside(&env, "committed:1", look), "new\n1\n600\n2\n");
    let shown = inspect(&env, "committed:1");
    assert_eq!(shown["Author"], json!("me"));
    let history = env
        .run(["history", "--format", "{{.Comment}}|{{.CreatedBy}}", "committed:1"])
        .success()
        .text();
    assert!(history.starts_with("a word|sh -c echo new"), "{history}");
    // The places our own files of /etc were shown at are no change of the container's.
    let changes = env.run(["diff", "committed:1"]).success().text();
    assert!(changes.contains("A /new\n") && changes.contains("D /etc/os-release\n"), "{changes}");
    assert!(!changes.contains("/etc/hosts"), "{changes}");
}

#[test]
fn the_same_change_at_the_same_time_is_the_same_image() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(&env, "first", "echo same >/file; mkdir /d");
    let commit = |more: &[&str], container: &str| {
        env.command(["commit"]).args(more).arg(container).run().success().word()
    };
    let first = commit(&["--timestamp", "1000000000"], &name);
    assert_eq!(commit(&["--timestamp", "1000000000"], &name), first);
    let by_environment = env.command(["commit", &name]).env("SOURCE_DATE_EPOCH", "1000000000");
    assert_eq!(by_environment.run().success().word(), first);
    assert_ne!(commit(&["--timestamp", "1000000001"], &name), first);
    // Made again in another container, at another time.
    let again = ended(&env, "again", "echo same >/file; mkdir /d");
    assert_eq!(commit(&["--timestamp", "1000000000"], &again), first);
    assert_eq!(inspect(&env, &first)["Created"], json!("2001-09-09T01:46:40Z"));
    let bad = env.command(["commit", &name]).env("SOURCE_DATE_EPOCH", "yesterday").run();
    bad.failure().stderr_has("SOURCE_DATE_EPOCH").one_clear_line();
}

#[test]
fn every_instruction_changes_the_configuration() {
    let Some(env) = TestEnv::root() else { return };
    let name = ended(&env, "configured", "true");
    let changes = [
        r#"CMD ["cat", "/etc/group"]"#,
        r#"ENTRYPOINT ["/bin/sh", "-c"]"#,
        "ENV A=1 B='2 3'",
        "EXPOSE 80 53/udp",
        "LABEL colour=blue",
        "ONBUILD RUN make",
        "STOPSIGNAL SIGINT",
        "USER 1000:1000",
        "VOLUME /data",
        "WORKDIR /tmp",
        "HEALTHCHECK --interval=5s --start-interval=1s --retries=3 CMD true",
    ];
    let commit =
        changes.iter().fold(env.command(["commit"]), |commit, change| commit.args(["-c", change]));
    commit.args([&name, "configured:1"]).run().success();
    let text = env.run(["save", "--format", "oci-dir", "-o", "layout", "configured:1"]);
    text.success();
    let config = &inspect(&env, "configured:1")["Config"];
    for (key, expected) in [
        ("Cmd", json!(["cat", "/etc/group"])),
        ("Entrypoint", json!(["/bin/sh", "-c"])),
        ("ExposedPorts", json!({"80/tcp": {}, "53/udp": {}})),
        ("Labels", json!({"colour": "blue"})),
        ("OnBuild", json!(["RUN make"])),
        ("StopSignal", json!("SIGINT")),
        ("User", json!("1000:1000")),
        ("Volumes", json!({"/data": {}})),
        ("WorkingDir", json!("/tmp")),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let health = &config["Healthcheck"];
    assert_eq!(health["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(health["StartInterval"], json!(1_000_000_000));
    let variables = config["Env"].to_string();
    assert!(variables.contains("A=1") && variables.contains("B=2 3"), "{variables}");
    let run = ["run", "--rm", "--network", "none", "configured:1", "echo $A $B; id -u; pwd"];
    env.run(run).success().stdout("1 2 3\n1000\n/tmp\n");
    for bad in ["FROM scratch", "CMD", "ENV =x", "HEALTHCHECK --often CMD x"] {
        env.run(["commit", "-c", bad, &name]).code(125).one_clear_line();
    }
}

#[test]
fn a_running_container_is_frozen_meanwhile_and_goes_on() {
    let Some(env) = TestEnv::root() else { return };
    let (name, _running) = running(&env, "echo one >/file");
    for flags in [&["--pause=true"][..], &["--pause=false"], &[]] {
        env.command(["commit"]).args(flags).args([&name, "live:1"]).run().success();
        assert_eq!(inside(&env, "live:1", "cat /file"), "one\n");
        env.run(["ps", "--format", "{{.State}}"]).success().stdout("running\n");
    }
    // One that is paused stays so.
    env.run(["pause", &name]).success();
    env.run(["commit", &name]).success();
    env.run(["ps", "--format", "{{.State}}"]).success().stdout("paused\n");
    env.run(["unpause", &name]).success();
}

#[test]
fn squashing_and_dockers_format_and_the_latest_container() {
    let Some(env) = TestEnv::root() else { return };
    ended(&env, "squashed", "echo x >/x; rm /etc/os-release");
    env.run(["commit", "--squash", "--format", "docker"]).success();
    let id = env.run(["images", "-q", "--filter", "dangling=true"]).success().word();
    env.run(["tag", &id, "squashed:1"]).success();
    let layers = env.run(["layers", "--json", "squashed:1"]).success().json();
    assert_eq!(layers.as_array().unwrap().len(), 1);
    env.run(["save", "--format", "dir", "-o", "d", "squashed:1"]).success();
    let manifest = std::fs::read_to_string(env.path("d/manifest.json")).unwrap();
    assert!(manifest.contains("vnd.docker.distribution.manifest.v2+json"), "{manifest}");
    assert_eq!(
        inside(&env, "squashed:1", "cat /x; test -e /etc/os-release || echo gone"),
        "x\ngone\n"
    );
    // Without a container there is nothing to commit.
    TestEnv::new().run(["commit"]).code(125).stderr_has("no container").one_clear_line();
}

#[test]
fn a_sandbox_of_a_directory_becomes_an_image() {
    let Some(env) = TestEnv::root() else { return };
    let (name, rootfs) = (env.name("sandbox"), env.rootfs("rootfs"));
    let run = env.command(["run", "--network", "none", "--name", &name, "--rootfs"]).arg(&rootfs);
    run.args(["sh", "-c", "echo made >/made"]).run().success();
    env.run(["commit", &name, "sandbox:1"]).success();
    assert_eq!(inside(&env, "sandbox:1", "cat /made /etc/os-release | head -2"), "made\nID=test\n");
    assert!(!rootfs.join("made").exists());
    let id = env.run(["run", "--rm", "--network", "none", "sandbox:1", "id", "-u"]).success();
    id.stdout("0\n");
}

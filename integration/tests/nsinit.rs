//! nsinit's command line and its container.json.

use integration::TestEnv;
use serde_json::json;

/// A minimal document of the second generation.
fn container(env: &TestEnv, change: impl FnOnce(&mut serde_json::Value)) -> std::path::PathBuf {
    let mut document = json!({
        "rootfs": env.rootfs("rootfs"),
        "hostname": "nsinit-box",
        "namespaces": [
            {"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWIPC"}, {"type": "NEWPID"}, {"type": "NEWNET"},
        ],
        "capabilities": ["CHOWN", "KILL"],
        "cgroups": {"name": env.name("nsinit"), "parent": "", "allow_all_devices": false},
        "mounts": [],
    });
    change(&mut document);
    env.file("container.json", document.to_string())
}

fn nsinit(env: &TestEnv, words: &[&str]) -> integration::Invocation {
    let mut command = env.bare();
    command.args(["nsinit", "--root"]).arg(env.runroot()).args(words);
    integration::Invocation::new(command)
}

#[test]
fn a_container_json_runs() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let run =
        nsinit(&env, &["exec", "--config", config.to_str().unwrap(), "--id", "c1", "probe", "all"])
            .run();
    let seen = run.success().json();
    assert_eq!(seen["ids"]["pid"], json!(1));
    assert_eq!(seen["status"]["CapEff"], json!("0000000000000021"));
    env.traces().nothing_lives();
}

#[test]
fn options_stop_at_the_command() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let config = config.to_str().unwrap();
    for words in [vec!["ls", "-d", "/"], vec!["--", "ls", "-d", "/"]] {
        let words = [&["exec", "--config", config][..], &words].concat();
        nsinit(&env, &words).run().success().stdout("/\n");
    }
}

#[test]
fn exit_codes_pass_and_failures_are_one() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let config = config.to_str().unwrap();
    nsinit(&env, &["exec", "--config", config, "sh", "-c", "exit 42"]).run().code(42);
    nsinit(&env, &["exec", "--config", "/no/such/file", "true"]).run().code(1).one_clear_line();
}

#[test]
fn the_document_in_the_current_directory_is_used() {
    let Some(env) = TestEnv::root() else { return };
    container(&env, |_| {});
    nsinit(&env, &["exec", "hostname"]).run().success().stdout("nsinit-box\n");
    // The same door on the main command.
    env.run(["exec", "hostname"]).success().stdout("nsinit-box\n");
}

/// `exec --image`: the document gives the configuration, the image the files.
#[test]
fn an_image_can_supply_the_files() {
    let Some(env) = TestEnv::root() else { return };
    container(&env, |document| {
        document["rootfs"] = json!("/no/such/directory");
    });
    let image = env.busybox();
    env.run(["exec", "--image", &image, "sh", "-c", "hostname; cat /etc/os-release | head -1"])
        .success()
        .stdout("nsinit-box\nID=test\n");
    let config = env.path("container.json");
    let elsewhere =
        env.command(["exec", "--image", &image, "--config", config.to_str().unwrap(), "hostname"]);
    elsewhere.current_dir("/").run().success().stdout("nsinit-box\n");
}

#[test]
fn config_prints_a_document_that_runs() {
    let Some(env) = TestEnv::root() else { return };
    let rootfs = env.rootfs("rootfs");
    let text =
        nsinit(&env, &["config", "--rootfs", rootfs.to_str().unwrap()]).run().success().text();
    let file = env.file("printed.json", text);
    nsinit(&env, &["exec", "--config", file.to_str().unwrap(), "echo", "from the template"])
        .run()
        .success()
        .stdout("from the template\n");
}

/// A container of the current directory that lives until the file `stop` appears in it.
fn living(env: &TestEnv) -> integration::Running {
    container(env, |document| {
        // The older generation: what its program is like stands in the file.
        document["environment"] = json!(["PATH=/bin", "WHERE=file"]);
        let rootfs = document["rootfs"].take();
        document.as_object_mut().unwrap().remove("rootfs");
        document.as_object_mut().unwrap().remove("mounts");
        document["root_fs"] = rootfs;
        document["mount_config"] = json!({});
        document["cgroups"]["allow_all_devices"] = json!(true);
    });
    let script = "touch /ready; while [ ! -e /stop ]; do sleep 0.05; done; exit 5";
    let running = nsinit(env, &["exec", "sh", "-c", script]).start();
    env.eventually("the container is ready", || env.path("rootfs/ready").exists());
    running
}

fn stop(env: &TestEnv, running: integration::Running) {
    std::fs::write(env.path("rootfs/stop"), "").unwrap();
    running.finish().code(5);
}

#[test]
fn commands_join_the_running_container_two_at_once() {
    let Some(env) = TestEnv::root() else { return };
    let running = living(&env);
    let join = |word: &str| {
        nsinit(&env, &["exec", "sh", "-c", &format!("sleep 0.3; echo {word} $WHERE; hostname")])
    };
    let (one, two) = (join("one").start(), join("two").start());
    one.finish().success().stdout("one file\nnsinit-box\n");
    two.finish().success().stdout("two file\nnsinit-box\n");
    // TRAP: the older version returned 255 here.
    nsinit(&env, &["exec", "sh", "-c", "kill -9 $$"]).run().code(137);
    env.run(["exec", "sh", "-c", "exit 9"]).code(9);
    stop(&env, running);
    env.traces().nothing_lives();
}

#[test]
fn the_state_file_beside_the_document_tells_the_process_and_goes_with_it() {
    let Some(env) = TestEnv::root() else { return };
    // As after a crash: a process of that number that is another one.
    let state = env.file("state.json", r#"{"init_pid": 1, "init_start_time": "12345"}"#);
    let running = living(&env);
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let pid = document["init_pid"].as_i64().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let time = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    assert_eq!(document["init_start_time"], json!(time));
    assert_eq!(document["network_state"], json!({}));
    assert!(
        document["cgroup_paths"]["memory"].is_string() || document["cgroup_paths"][""].is_string()
    );
    // Known elsewhere, it is not started a second time.
    let mut other = env.bare();
    other.args(["nsinit", "--root"]).arg(env.path("elsewhere")).args(["exec", "true"]);
    integration::Invocation::new(other)
        .run()
        .code(1)
        .stderr_has("runs as process")
        .one_clear_line();
    stop(&env, running);
    assert!(!state.exists());
}

#[test]
fn functions_of_the_older_version_work_by_all_their_names() {
    let Some(env) = TestEnv::root() else { return };
    let list = nsinit(&env, &["exec", "--list"]).run().success().text();
    let names: Vec<_> = list.lines().map(|line| line.split_at(10).0.trim_end()).collect();
    assert_eq!(names, ["NAME", "exec", "ip", "mknod"]);
    let running = living(&env);
    nsinit(&env, &["exec", "--func", "mknod", "/dev/extra", "c", "1", "3"]).run().success();
    nsinit(&env, &["exec", "ls", "-l", "/dev/extra"]).run().success().stdout_has("1,   3");
    let few = nsinit(&env, &["exec", "--func", "mknod", "/dev/extra"]).run();
    few.code(1).stderr_has("expected mknod to have 4 arguments not 1");
    let table = nsinit(&env, &["exec", "--func", "ip"]).run().success().text();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("NAME      MTU       MAC       FLAG          ADDRS"));
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row, ["lo", "65536", "up|loopback", "127.0.0.1/8,::1/128"]);

    let document = std::fs::read(env.path("state.json")).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let pid = document["init_pid"].to_string();
    let called = |name: &str, words: &[&str]| {
        let link = env.path(name);
        if !link.exists() {
            std::os::unix::fs::symlink(integration::program(), &link).unwrap();
        }
        let words = [&["--nspid", &pid, "--"], words].concat();
        env.other(link.to_str().unwrap(), words).env("CRUN_CARGO_RUNROOT", env.runroot()).run()
    };
    called("nsenter-exec", &["sh", "-c", "hostname; exit 3"]).code(3).stdout("nsinit-box\n");
    called("nsenter-mknod", &["/dev/second", "b", "8", "0"]).success();
    called("nsenter-ip", &[]).success().stdout(&table);
    nsinit(&env, &["exec", "ls", "-l", "/dev/second"]).run().success().stdout_has("8,   0");
    let none = ["nsenter-exec", "--nspid", "1", "--", "true"];
    nsinit(&env, &none).run().code(1).stderr_has("not the first one of a container");
    stop(&env, running);
}

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

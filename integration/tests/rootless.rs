//! An ordinary user's containers: user namespaces, subordinate ids, and what is said where there are none.

use std::{fs, os::unix::fs::MetadataExt};

use integration::{Layer, Need, Ordinary, TestEnv, images, ordinary, tar::Entry};
use serde_json::json;

fn environment() -> Option<TestEnv> {
    TestEnv::with(&ordinary::NEEDS)
}

/// `run --rm --network none`, and the small image's name.
fn run<'w>(image: &'w str, flags: &[&'w str], command: &[&'w str]) -> Vec<&'w str> {
    [&["run", "--rm", "--network", "none"], flags, &[image], command].concat()
}

/// An image with files of several owners, some of them closed.
fn owned(tag: &str) -> String {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[
        Entry::directory("var/secret").mode(0o700).owner(33, 33),
        Entry::file("var/secret/key", "open").mode(0o600).owner(33, 33),
        Entry::char("var/device", 1, 3),
    ]));
    images::registry().push(&format!("rootless/owned:{tag}"), &image.build())
}

#[test]
fn an_ordinary_user_pulls_and_runs_images() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let image = owned("1");
    user.run(["pull", "-q", &image]).success();
    user.run(["images", "-q"]).success();
    let look = "id -u; stat -c '%u:%g %a' /var/secret /var/secret/key; wc -l </proc/self/uid_map";
    user.run(run(&image, &[], &["sh", "-c", look]))
        .success()
        .stdout("0\n33:33 700\n33:33 600\n2\n");
    user.run(run(&image, &["--user", "33:33"], &["cat", "/var/secret/key"]))
        .success()
        .stdout("open");
    user.run(run(&image, &["--user", "1000"], &["cat", "/var/secret/key"])).failure();
    user.run(["check"]).success();
    user.run(["rmi", &image]).success();
    // What the user unpacked is the user's to remove, whoever owns it inside.
    let layers = fs::read_dir(env.store().join("layers")).map_or(0, Iterator::count);
    assert_eq!(layers, 0, "layers are left");
}

#[test]
fn root_in_there_is_nobody_out_here() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let image = env.busybox();
    let shared = env.path("shared");
    fs::create_dir(&shared).unwrap();
    user.give(&shared);
    let volume = format!("{}:/shared", shared.display());
    let touch = "touch /shared/root; touch /shared/alice; chown 1000 /shared/alice";
    user.run(run(&image, &["-v", &volume], &["sh", "-c", touch])).success();
    let owner = |name: &str| fs::metadata(shared.join(name)).unwrap().uid();
    let own = fs::metadata(&shared).unwrap().uid();
    assert_eq!(owner("root"), own, "root inside is the user outside");
    assert!(owner("alice") >= 100_000, "others are the user's subordinate ids");
    // Only the host's root may read this.
    let shadow = run(&image, &["-v", "/etc:/host:ro"], &["cat", "/host/shadow"]);
    user.run(shadow).failure().stdout("");
    let mount = run(&image, &["-v", "/etc:/host"], &["touch", "/host/passwd"]);
    user.run(mount).failure();
}

#[test]
fn a_running_container_can_be_entered_and_ended_by_its_user() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let (image, name) = (env.busybox(), env.name("long"));
    user.run(["pull", "-q", &image]).success();
    let flags = ["run", "--name", &name, "--network", "none", "--user", "33:33", &image];
    let running = user.command(flags).args(["sleep", "60"]).start();
    env.eventually("it runs", || user.run(["exec", &name, "true"]).status.success());
    user.run(["exec", &name, "id", "-u"]).success().stdout("33\n");
    user.run(["exec", "--user", "0", &name, "sh", "-c", "id -u; touch /made; chown 5:5 /made"])
        .success()
        .stdout("0\n");
    user.run(["ps", "-q"]).success().stdout_has("\n");
    user.run(["top", &name]).success().stdout_has("sleep");
    user.run(["diff", &name]).success().stdout_has("A /made\n");
    // Files of the container's users, in and out.
    let out = env.path("out");
    fs::create_dir(&out).unwrap();
    user.give(&out);
    let file = out.join("made").display().to_string();
    user.run(["cp", &format!("{name}:/made"), &file]).success();
    user.run(["cp", &file, &format!("{name}:/again")]).success();
    user.run(["exec", &name, "ls", "/again"]).success();
    // Its processes are another user's, as the host sees it.
    user.run(["rm", "-f", &name]).success();
    running.finish();
    user.run(["ps", "-aq"]).success().stdout("");
    env.traces().nothing_lives();
}

#[test]
fn changes_become_an_image_with_their_owners() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let (image, name) = (owned("2"), env.name("change"));
    let change = "echo hello >/greeting; chown 7:8 /greeting; rm -r /var/secret";
    user.run(["run", "--name", &name, "--network", "none", &image, "sh", "-c", change]).success();
    user.run(["commit", &name, "changed:1"]).success();
    user.run(["rm", &name]).success();
    let look = "stat -c %u:%g /greeting; ls /var";
    user.run(run("changed:1", &[], &["sh", "-c", look]))
        .success()
        .stdout_has("7:8\n")
        .stdout_lacks("secret");
    let layout = format!("oci:{}", env.path("layout").display());
    user.run(["push", "changed:1", &layout]).success();
    user.run(run(&layout, &[], &["cat", "/greeting"])).success().stdout("hello\n");
    user.run(["rmi", "changed:1"]).success();
}

#[test]
fn the_hosts_network_can_be_shared() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let image = env.busybox();
    let look = "ls /sys/class/net | wc -l; touch /sys/kernel/x 2>/dev/null || echo refused";
    let shared = ["run", "--rm", "--network", "host", &image, "sh", "-c", look];
    let here = fs::read_dir("/sys/class/net").unwrap().count();
    user.run(shared).success().stdout(&format!("{here}\nrefused\n"));
    user.run(run(&image, &[], &["sh", "-c", "ls /sys/class/net"])).success().stdout("lo\n");
}

/// Without subordinate ids there is one owner, and whoever needs another is told why that cannot be.
#[test]
fn without_subordinate_ids_there_is_one_owner() {
    let Some(env) = TestEnv::with(&[&ordinary::NEEDS[..], &[Need::Root]].concat()) else { return };
    let user = Ordinary::without_grants(&env);
    let image = owned("3");
    user.run(["pull", "-q", &image]).success().stderr_has("/etc/subuid");
    let look = "stat -c %u:%g /var/secret; wc -l </proc/self/uid_map; cat /var/secret/key";
    user.run(run(&image, &[], &["sh", "-c", look])).success().stdout("0:0\n1\nopen");
    user.run(run(&image, &["--user", "33"], &["true"]))
        .code(125)
        .stderr_has("setuid 33")
        .stderr_has("/etc/subuid");
    user.run(["check"]).success();
    user.run(["rmi", &image]).success();
}

#[test]
fn a_limit_without_a_delegated_cgroup_is_refused() {
    let needs = [&ordinary::NEEDS[..], &[Need::Root, Need::CgroupV1]].concat();
    let Some(env) = TestEnv::with(&needs) else { return };
    let user = Ordinary::new(&env);
    let image = env.busybox();
    user.run(run(&image, &["-m", "64m"], &["true"])).code(125).stderr_has("delegated");
    user.run(["info"]).success().stdout_has("disabled");
}

#[test]
fn the_root_directory_itself_is_refused_with_a_reason() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    user.run(["run", "--rm", "--network", "none", "--rootfs", "/:O", "true"])
        .code(125)
        .stderr_has("mounts below it");
}

/// What `runc spec --rootless` describes: a user namespace with the caller as its root.
#[test]
fn a_rootless_bundle_runs_and_can_be_entered() {
    let Some(env) = environment() else { return };
    let user = Ordinary::new(&env);
    let bundle = env.path("bundle");
    env.rootfs("bundle/rootfs");
    user.give(&bundle);
    let oci = |words: &[&str]| {
        let root = env.runroot();
        let command = user.other(user.program(), ["oci", "--root"]).arg(root).args(words);
        command.current_dir(&bundle).run()
    };
    oci(&["spec", "--rootless"]).success();
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sleep", "60"]);
    fs::write(&file, config.to_string()).unwrap();
    let name = env.name("bundle");
    let detached = "exec \"$@\" >/dev/null 2>&1 </dev/null";
    let start = user.other("sh", ["-c", detached, "sh"]).arg(user.program());
    let start = start.args(["oci", "--root"]).arg(env.runroot());
    start.args(["run", "-d", &name]).current_dir(&bundle).run().success();
    oci(&["exec", &name, "sh", "-c", "id -u; cat /proc/1/comm"]).success().stdout("0\nsleep\n");
    oci(&["kill", &name, "KILL"]).success();
    env.eventually("it has stopped", || oci(&["state", &name]).text().contains("stopped"));
    oci(&["delete", &name]).success();
}

//! Who the program is inside: names from the image's own files, groups, user namespaces.

use integration::{Image, Layer, Need, TestEnv, images, tar::Entry};
use serde_json::{Value, json};

const NOTHING: [&str; 0] = [];

fn ids(env: &TestEnv, user: &str) -> Value {
    env.probe(["--user", user], &["ids"])
}

#[track_caller]
fn check(env: &TestEnv, user: &str, uid: u32, gid: u32, groups: &[u32]) {
    let seen = ids(env, user);
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(uid), &json!(gid)), "{user}: {seen}");
    let mut found: Vec<_> =
        seen["groups"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    found.sort_unstable();
    found.retain(|group| *group != u64::from(gid));
    assert_eq!(found, groups.iter().map(|g| u64::from(*g)).collect::<Vec<_>>(), "{user}");
}

#[test]
fn users_are_looked_up_in_the_images_files() {
    let Some(env) = TestEnv::root() else { return };
    check(&env, "alice", 1000, 1000, &[29, 44]);
    check(&env, "alice:video", 1000, 44, &[]);
    check(&env, "1001", 1001, 1001, &[29]);
    check(&env, "5555", 5555, 0, &[]);
    check(&env, "5555:6666", 5555, 6666, &[]);
}

/// D-13: digits are a number, whatever the files say.
#[test]
fn digits_are_a_number_and_nothing_else() {
    let Some(env) = TestEnv::root() else { return };
    check(&env, "4242", 4242, 0, &[]);
}

#[test]
fn an_unknown_user_is_an_error_and_never_root() {
    let Some(env) = TestEnv::root() else { return };
    for user in ["nobody-knows", "alice:no-such-group", "-1", "4294967296", "+1", " 1", "0x0", ""] {
        let run = env.inside(["--user", user], &["id"]);
        if user.is_empty() {
            continue; // docker takes it for "as the image says"
        }
        let run = run.failure();
        assert!(run.stdout.is_empty(), "{user:?} ran as {}", run.text());
    }
    env.inside(["--user", "nobody-knows"], &["id"])
        .failure()
        .stderr_has("nobody-knows")
        .one_clear_line();
}

#[test]
fn groups_can_be_added() {
    let Some(env) = TestEnv::root() else { return };
    let seen =
        env.probe(["--user", "1000:1000", "--group-add", "staff", "--group-add", "77"], &["ids"]);
    let groups = seen["groups"].as_array().unwrap();
    assert!(groups.contains(&json!(50)) && groups.contains(&json!(77)), "{seen}");
}

#[test]
fn home_follows_the_user_unless_it_is_set() {
    let Some(env) = TestEnv::root() else { return };
    assert_eq!(env.probe(["--user", "alice"], &["env"])["HOME"], json!("/home/alice"));
    assert_eq!(env.probe(["-u", "alice", "-e", "HOME=/tmp"], &["env"])["HOME"], json!("/tmp"));
}

#[test]
fn the_images_user_counts_when_none_is_given() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox().set("User", json!("alice")).build();
    let name = images::registry().push("users/alice:1", &image);
    let seen =
        env.run(["run", "--rm", "--network", "none", &name, "probe", "ids"]).success().json();
    assert_eq!(seen["uid"], json!(1000));
}

/// Account files are the image author's: links, pipes and devices in their place are refused or empty.
#[test]
fn hostile_account_files_do_no_harm() {
    let Some(env) = TestEnv::root() else { return };
    let files: [(&str, Vec<Entry>); 5] = [
        ("link-out", vec![Entry::symlink("etc/passwd", "../../../../../../etc/passwd")]),
        ("fifo", vec![Entry::fifo("etc/passwd")]),
        ("device", vec![Entry::char("etc/passwd", 1, 5)]),
        ("directory", vec![Entry::directory("etc/passwd")]),
        ("endless-line", vec![Entry::file("etc/passwd", vec![b'x'; 5 << 20])]),
    ];
    for (tag, entries) in files {
        let mut image = images::busybox();
        image.layers.push(Layer::of(&entries));
        let name = images::registry().push(&format!("users/hostile:{tag}"), &image.build());
        let run = |user: &str| {
            let flags = ["run", "--rm", "--network", "none", "--user", user, &name];
            env.command(flags)
                .args(["probe", "ids"])
                .limit(std::time::Duration::from_secs(20))
                .run()
        };
        // A name cannot be found; numbers need no file.
        let named = run("alice").failure();
        assert!(named.stdout.is_empty(), "{tag}");
        assert_eq!(run("12:34").success().json()["uid"], json!(12), "{tag}");
    }
}

#[test]
fn an_image_without_accounts_still_runs_as_root_and_by_number() {
    let Some(env) = TestEnv::root() else { return };
    let probe = std::fs::read(integration::built("probe")).unwrap();
    let image = Image::new(vec![Layer::of(&[Entry::program("probe", probe)])]).build();
    let name = images::registry().push("users/bare:1", &image);
    for (user, uid) in [("0", 0), ("7:7", 7)] {
        let seen =
            env.run(["run", "--rm", "--network", "none", "-u", user, &name, "/probe", "ids"]);
        assert_eq!(seen.success().json()["uid"], json!(uid));
    }
}

#[test]
fn a_user_namespace_maps_ids() {
    let needs = [Need::Root, Need::UserNamespaces];
    let Some(env) = TestEnv::with(&needs) else { return };
    let bundle = env.bundle(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        config["linux"]["uidMappings"] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["gidMappings"] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/uid_map; probe ids"]);
    });
    // Inside, the tree's files belong to nobody; they only have to be readable on the way.
    for place in [env.directory().to_owned(), env.path("")] {
        std::os::unix::fs::chown(&place, Some(0), Some(0)).unwrap();
    }
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("users")]).success();
    assert!(run.text().split_whitespace().take(3).eq(["0", "100000", "65536"]), "{}", run.text());
}

#[test]
fn ids_from_the_command_line_are_kept_by_exec() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.name("exec-user");
    let image = env.pulled_busybox();
    let flags = ["run", "--rm", "--network", "none", "--user", "alice", "--name", &name, &image];
    let running = env.command(flags).args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let seen = env.run(["exec", &name, "probe", "all"]).success().json();
    assert_eq!(seen["ids"]["uid"], json!(1000));
    assert_eq!(seen["status"]["CapEff"], json!("0000000000000000"));
    assert_eq!(seen["status"]["Seccomp"], json!("2"));
    let root = env.run(["exec", "--user", "0", &name, "probe", "ids"]).success().json();
    assert_eq!(root["uid"], json!(0));
    env.run(["rm", "-f", &name]).success();
    running.finish();
    let _ = NOTHING;
}

//! `login`, `logout`, `search`, credential helpers, tokens that expire: who we are at a registry.

use std::{fs, os::unix::fs::PermissionsExt};

use integration::{Guard, Image, Layer, PASSWORD, Registry, TestEnv, USER, images, tar::Entry};
use serde_json::{Value, json};

fn image() -> Image {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", "guarded\n")]));
    image
}

#[test]
fn a_login_is_checked_kept_where_it_is_said_and_forgotten() {
    let Some(env) = TestEnv::root() else { return };
    for guard in [Guard::Password, Guard::Token] {
        let registry = Registry::start(&env.path(format!("{guard:?}")), guard);
        let name = registry.push("team/app:1", &image().build());
        let login = |password: &str| {
            let login = env.command(["login", "-u", USER, "--password-stdin", &registry.host()]);
            login.stdin(format!("{password}\n")).run()
        };
        login("wrong").failure().one_clear_line();
        env.run(["pull", "-q", &name]).failure();
        let said = login(PASSWORD).success().text();
        let place = said.trim().rsplit(' ').next().unwrap().to_owned();
        let found = fs::metadata(&place).unwrap_or_else(|error| panic!("{said}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{place}");
        env.run(["pull", "-q", &name]).success();
        env.run(["push", "-q", &name, &registry.name("team/new:1")]).success();
        env.run(["tags", &registry.name("team/app")]).success().stdout_has("1");
        env.run(["logout", &registry.host()]).success().stdout_has(&place);
        env.run(["pull", "-q", &name]).failure().one_clear_line();
        env.run(["logout", &registry.host()]).failure().one_clear_line();
        env.command(["login", &registry.host()]).stdin("").run().code(125).one_clear_line();
    }
}

/// A program the user configured keeps the passwords; the protocol is docker's.
#[test]
fn a_credential_helper_keeps_and_gives_logins() {
    let Some(env) = TestEnv::root() else { return };
    let registry = Registry::start(&env.path("guarded"), Guard::Password);
    let name = registry.push("team/app:1", &image().build());
    let store = env.path("helper-store");
    let helper = format!(
        "#!/bin/sh\nread -r line\ncase $1 in\nstore) echo \"$line\" >{0};;\nget) cat {0} 2>/dev/null || \
         {{ echo 'credentials not found in native keychain'; exit 1; }};;\nerase) rm {0};;\nesac\n",
        store.display()
    );
    let helper = env.file("bin/docker-credential-test", helper);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({ "credHelpers": { registry.host(): "test" } });
    fs::create_dir_all(env.directory().join("home/.docker")).unwrap();
    fs::write(env.directory().join("home/.docker/config.json"), config.to_string()).unwrap();
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", env.path("bin").display());
    let run =
        |words: &[&str], input: &str| env.command(words).env("PATH", &path).stdin(input).run();
    run(&["pull", "-q", &name], "").failure().one_clear_line();
    let login = ["login", "-u", USER, "--password-stdin", &registry.host()];
    run(&login, PASSWORD).success().stdout_has("test");
    let kept: Value = serde_json::from_slice(&fs::read(&store).unwrap()).unwrap();
    assert_eq!((&kept["Username"], &kept["Secret"]), (&json!(USER), &json!(PASSWORD)));
    let config = fs::read_to_string(env.directory().join("home/.docker/config.json")).unwrap();
    assert!(!config.contains("YWxpY2U6"), "the file has no password: {config}");
    run(&["pull", "-q", &name], "").success();
    run(&["logout", &registry.host()], "").success();
    assert!(!store.exists());
}

#[test]
fn a_registry_is_searched_and_listed() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    for name in ["team/alpha:1", "team/beta:1", "team/beta:2"] {
        registry.push(name, &image().build());
    }
    let beta = registry.name("team/beta");
    env.run(["search", "--format", "{{.Name}}", &registry.name("beta")])
        .success()
        .stdout(&format!("{beta}\n"));
    env.run(["search", &registry.name("team")]).success().stdout_has("alpha").stdout_has("NAME");
    let json =
        env.run(["search", "--format", "json", "--limit", "1", &registry.name("team")]).success();
    assert_eq!(json.text().lines().count(), 1);
    env.run(["search", &registry.name("no-such-name")]).success().stdout_lacks("team");
    env.run(["tags", &beta]).success().stdout("1\n2\n");
    env.run(["tags", "--format", "json", &beta]).success().stdout_has(r#""Tag":"2""#);
    env.run(["tags", &registry.name("none")]).code(125).one_clear_line();
    env.run(["manifest", "inspect", &format!("{beta}:none")]).code(125).one_clear_line();
}

//! AppArmor: a profile of the machine's confines a container, and is seen in /proc/self/attr.

use integration::{Need, TestEnv};
use serde_json::json;

const NEEDS: [Need; 3] = [Need::Root, Need::AppArmor, Need::Program("apparmor_parser", "apparmor")];

/// Everything but writing to one file.
fn load(env: &TestEnv) -> String {
    let name = format!("{}-profile", env.token());
    let text = format!(
        "#include <tunables/global>\nprofile {name} flags=(attach_disconnected,mediate_deleted) {{\n  \
         capability,\n  file,\n  mount,\n  umount,\n  network,\n  signal,\n  ptrace,\n  unix,\n  \
         deny /forbidden w,\n}}\n"
    );
    let file = env.file("profile", text);
    env.other("apparmor_parser", ["-r", "-K"]).arg(file).run().success();
    name
}

fn unload(env: &TestEnv) {
    env.other("apparmor_parser", ["-R"]).arg(env.path("profile")).run().success();
}

const LOOK: &str = "cat /proc/self/attr/current; echo x >/allowed && echo wrote; \
    echo x 2>/dev/null >/forbidden || echo refused";

#[test]
fn a_profile_confines_a_container_and_who_joins_it() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let profile = load(&env);
    let seen = format!("{profile} (enforce)\nwrote\nrefused\n");
    let option = format!("apparmor={profile}");
    env.inside(["--security-opt", &option], &["sh", "-c", LOOK]).success().stdout(&seen);

    let (image, name) = (env.pulled_busybox(), env.name("joined"));
    let flags = ["run", "--name", &name, "--network", "none", "--security-opt", &option, &image];
    let running = env.command(flags).args(["sleep", "60"]).start();
    env.eventually("it runs", || env.run(["exec", &name, "true"]).status.success());
    env.run(["exec", &name, "sh", "-c", LOOK]).success().stdout(&seen);
    env.run(["rm", "-f", &name]).success();
    running.finish();
    unload(&env);
}

#[test]
fn a_bundle_names_its_profile() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let profile = load(&env);
    let bundle = env.bundle(|config| {
        config["process"]["args"] = json!(["cat", "/proc/self/attr/current"]);
        config["process"]["apparmorProfile"] = json!(profile);
    });
    let run = ["run", "--bundle", bundle.to_str().unwrap(), &env.name("bundle")];
    env.oci(run).success().stdout(&format!("{profile} (enforce)\n"));
    unload(&env);
}

#[test]
fn an_unknown_profile_is_refused() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    env.inside(["--security-opt", "apparmor=no-such-profile"], &["echo", "ran"])
        .code(125)
        .stdout("")
        .stderr_has("no-such-profile");
    env.inside(["--security-opt", "apparmor=unconfined"], &["cat", "/proc/self/attr/current"])
        .success()
        .stdout("unconfined\n");
}

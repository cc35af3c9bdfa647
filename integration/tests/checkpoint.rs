//! Checkpoint and restore by criu: a process goes on from where it was.

use std::{fs, path::Path, time::Duration};

use integration::{Need, TestEnv};
use serde_json::json;

/// Counts where everybody can see it.
const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i >/count/now; sleep 0.1; done";

fn environment() -> Option<TestEnv> {
    let env = TestEnv::with(&[Need::Root, Need::Program("criu", "criu")])?;
    // criu itself says whether it can work on this kernel.
    let check = env.other("criu", ["check"]).run();
    if !check.status.success() {
        let why = check.error();
        integration::skip(&format!("criu cannot work here: {}", why.lines().next().unwrap_or("")));
        return None;
    }
    Some(env)
}

fn count(place: &Path) -> u64 {
    fs::read_to_string(place.join("now")).ok().and_then(|it| it.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_process_goes_on_where_it_was() {
    let Some(env) = environment() else { return };
    let place = env.path("count");
    fs::create_dir(&place).unwrap();
    let bundle = env.bundle(|config| {
        config["process"]["args"] = json!(["sh", "-c", COUNT]);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/count", "type": "bind", "source": place, "options": ["bind", "rw"],
        }));
    });
    // A bind mount's place must be there: the root is read-only.
    fs::create_dir_all(bundle.join("rootfs/count")).unwrap();
    let (bundle, id) = (bundle.to_str().unwrap(), env.name("dump"));
    let (dump, log) = (env.path("dump"), env.file("output", ""));
    let dump = dump.to_str().unwrap();
    env.oci_detached(["run", "-d", "--bundle", bundle, &id], &log).success();
    env.eventually("it counts", || count(&place) >= 3);

    env.oci_command(["checkpoint", "--image-path", dump, &id])
        .limit(Duration::from_secs(120))
        .run()
        .success();
    // As with runc, the container has ended, and its name is free for what is restored.
    env.oci(["state", &id]).failure();
    let left_at = count(&place);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count(&place), left_at, "nobody counts");

    let restore = ["restore", "-d", "--bundle", bundle, "--image-path", dump, &id];
    env.oci_detached(restore, &log).success();
    env.eventually("it goes on", || count(&place) > left_at + 2);
    // From where it was: beginning anew, it would have needed as long as before to come this far.
    assert!(count(&place) < left_at + 100, "{} after {left_at}", count(&place));
    assert_eq!(env.oci(["state", &id]).success().json()["status"], json!("running"));
    env.oci(["exec", &id, "true"]).success();
    env.oci(["delete", "--force", &id]).success();
    env.traces().nothing_lives();
}

//! cgroup version 2, by the kernel's own files: `make test-vm` has a machine with nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use integration::{Need, TestEnv};
use serde_json::{Value, json};

const NEEDS: [Need; 2] = [Need::Root, Need::CgroupV2];

/// A container of the OCI command line that does what a test says, and its cgroup.
struct Sleeper<'e> {
    env: &'e TestEnv,
    id: String,
    cgroup: PathBuf,
}

impl<'e> Sleeper<'e> {
    fn start(env: &'e TestEnv, resources: Value) -> Self {
        let bundle = env.bundle(|config| {
            config["process"]["args"] = json!(["sleep", "60"]);
            config["linux"]["resources"] = resources;
        });
        let config: Value =
            serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
        let path = config["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/');
        let cgroup = Path::new("/sys/fs/cgroup").join(path);
        let id = env.name("sleeper");
        let run = ["run", "-d", "--bundle", bundle.to_str().unwrap(), &id];
        env.oci_detached(run, &env.file("output", "")).success();
        Self { env, id, cgroup }
    }

    /// A file of the cgroup.
    #[track_caller]
    fn says(&self, file: &str) -> String {
        let path = self.cgroup.join(file);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, &str)]) {
        for (file, value) in expected {
            assert_eq!(self.says(file), *value, "{file}");
        }
    }

    fn end(self) {
        self.env.oci(["delete", "--force", &self.id]).success();
        assert!(!self.cgroup.exists(), "{} is left", self.cgroup.display());
    }
}

#[test]
fn every_limit_reaches_its_file() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(
        &env,
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296},
            "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000,
                    "cpus": "0", "mems": "0"},
            "pids": {"limit": 77},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "unified": {"memory.high": "50331648", "memory.oom.group": "1"},
        }),
    );
    container.check(&[
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        // Version 1's sum, without the memory in it.
        ("memory.swap.max", "33554432"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 200000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "77"),
        ("hugetlb.2MB.max", "4194304"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
    ]);
    container.end();
}

#[test]
fn limits_of_devices_reach_their_files() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let Some((major, minor)) = disk() else { return integration::skip("there is no disk") };
    let limit = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let container = Sleeper::start(
        &env,
        json!({"blockIO": {
            "throttleReadBpsDevice": limit(1_048_576),
            "throttleWriteIOPSDevice": limit(100),
        }}),
    );
    let line = format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100");
    container.check(&[("io.max", &line)]);
    container.end();
}

/// The whole disk under `/sys/block` that is one: limits are for those.
fn disk() -> Option<(u64, u64)> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        let is_disk = name.starts_with("vd") || name.starts_with("sd") || name.starts_with("nvme");
        is_disk.then_some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[test]
fn limits_change_while_it_runs() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(&env, json!({"memory": {"limit": 67_108_864}}));
    let update = ["update", "--memory", "33554432", "--pids-limit", "9", "--cpu-quota", "20000"];
    env.oci(update.iter().copied().chain([container.id.as_str()])).success();
    container.check(&[("memory.max", "33554432"), ("pids.max", "9"), ("cpu.max", "20000 100000")]);
    let unified = r#"{"unified": {"memory.high": "16777216"}}"#;
    env.oci_command(["update", "--resources", "-", &container.id]).stdin(unified).run().success();
    container.check(&[("memory.high", "16777216")]);
    container.end();
}

#[test]
fn what_version_2_lacks_is_refused_by_name() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    for (resources, word) in [
        (json!({"memory": {"swappiness": 10}}), "swappiness"),
        (json!({"network": {"classID": 1}}), "network class"),
        (json!({"unified": {"no.such.file": "1"}}), "no.such.file"),
        (json!({"unified": {"../memory.max": "1"}}), "memory.max"),
        (json!({"unified": {"cgroup.procs": "1"}}), "cgroup.procs"),
    ] {
        let bundle = env.bundle(|config| config["linux"]["resources"] = resources);
        let run = ["run", "--bundle", bundle.to_str().unwrap(), &env.name("refused")];
        env.oci(run).code(1).stderr_has(word).one_clear_line();
    }
    env.traces().nothing_lives();
}

#[test]
fn it_is_frozen_and_let_go() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(&env, json!({}));
    env.oci(["pause", &container.id]).success();
    assert!(container.says("cgroup.events").contains("frozen 1"));
    assert_eq!(env.oci(["state", &container.id]).success().json()["status"], json!("paused"));
    env.oci(["resume", &container.id]).success();
    assert!(container.says("cgroup.events").contains("frozen 0"));
    // A frozen one can be removed, too.
    env.oci(["pause", &container.id]).success();
    container.end();
}

/// The policy is a program of the kernel's: the node can be made, and not be opened.
#[test]
fn devices_are_kept_away() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let Some((major, minor)) = disk() else { return integration::skip("there is no disk") };
    let open = format!("mknod /tmp/disk b {major} {minor} && exec 3</tmp/disk && echo opened");
    let open = ["sh", "-c", open.as_str()];
    let refused: [&str; 0] = [];
    env.inside(refused, &open).failure().stdout("").stderr_has("not permitted");
    let rule = format!("b {major}:{minor} rwm");
    env.inside(["--device-cgroup-rule", &rule], &open).success().stdout("opened\n");
    env.inside(["--privileged"], &open).success().stdout("opened\n");
}

#[test]
fn a_changed_policy_replaces_the_old_one() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let rule =
        |allow: bool| json!({"allow": allow, "type": "c", "major": 1, "minor": 5, "access": "rwm"});
    let deny = json!({"allow": false, "access": "rwm"});
    let container = Sleeper::start(&env, json!({"devices": [deny, rule(true)]}));
    let read = ["exec", container.id.as_str(), "head", "-c", "1", "/dev/zero"];
    env.oci(read).success();
    let update = json!({"devices": [deny, rule(true), rule(false)]}).to_string();
    env.oci_command(["update", "--resources", "-", &container.id]).stdin(update).run().success();
    env.oci(read).failure().stderr_has("not permitted");
    container.end();
}

#[test]
fn a_container_sees_its_own_cgroup_only() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let look =
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max; ls -d /sys/fs/cgroup/*/ 2>/dev/null";
    env.inside(["--pids-limit", "33"], &["sh", "-c", look]).failure().stdout("0::/\n33\n");
    let host = ["--cgroupns", "host", "--pids-limit", "33"];
    let seen = env.inside(host, &["cat", "/proc/self/cgroup"]).success().text();
    assert!(seen.starts_with("0::/crun-cargo/"), "{seen}");
}

/// What systemd in a container does: its own cgroup gets children with controllers, and can hold no
/// process any more. `exec` goes where the first process is.
#[test]
fn processes_join_where_the_first_one_went() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(&env, json!({}));
    let below = container.cgroup.join("init.scope");
    fs::create_dir(&below).unwrap();
    let first = container.says("cgroup.procs");
    fs::write(below.join("cgroup.procs"), &first).unwrap();
    fs::write(container.cgroup.join("cgroup.subtree_control"), "+pids").unwrap();
    let seen = env.oci(["exec", &container.id, "cat", "/proc/self/cgroup"]).success().text();
    assert_eq!(seen, "0::/init.scope\n");
    container.end();
}

/// Nothing is moved: the first process and each that joins are born where they belong (CLONE_INTO_CGROUP).
#[test]
fn processes_are_born_in_their_cgroup() {
    let Some(env) = TestEnv::with(&[&NEEDS[..], &[Need::Program("strace", "strace")]].concat())
    else {
        return;
    };
    let image = env.pulled_busybox();
    let log = env.path("calls");
    let calls = "trace=openat,openat2,clone3,unshare";
    let strace = ["-f", "-qq", "-e", calls, "-o", log.to_str().unwrap()];
    let run = ["run", "--rm", "--network", "none", &image, "cat", "/proc/self/cgroup"];
    env.other("strace", strace)
        .arg(integration::program())
        .arg("--root")
        .arg(env.store())
        .arg("--runroot")
        .arg(env.runroot())
        .args(run)
        .with(|command| {
            command.stdin(Stdio::null());
        })
        .run()
        .success()
        .stdout("0::/\n");
    let calls = fs::read_to_string(log).unwrap();
    assert!(calls.contains("CLONE_INTO_CGROUP"), "{calls}");
    let moves = |line: &&str| line.contains("cgroup.procs") && line.contains("O_WRONLY");
    assert_eq!(calls.lines().find(moves), None);
}

#[test]
fn a_container_is_killed_at_once_with_all_it_started() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(&env, json!({}));
    let spawn = "for i in 1 2 3 4 5; do setsid sleep 60 & done";
    env.oci(["exec", &container.id, "sh", "-c", spawn]).success();
    assert!(container.says("cgroup.procs").lines().count() >= 6);
    env.oci(["kill", "--all", &container.id, "KILL"]).success();
    env.eventually("all are gone", || container.says("cgroup.procs").is_empty());
    container.end();
}

#[test]
fn use_is_counted() {
    let Some(env) = TestEnv::with(&NEEDS) else { return };
    let container = Sleeper::start(&env, json!({"memory": {"limit": 67_108_864}}));
    let stats = env.oci(["events", "--stats", &container.id]).success().json();
    let data = &stats["data"];
    assert_eq!(data["memory"]["usage"]["limit"], json!(67_108_864), "{stats}");
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|used| used > 0), "{stats}");
    assert_eq!(data["pids"]["current"], json!(1), "{stats}");
    container.end();
}

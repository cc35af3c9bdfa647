//! Resource limits, by their effect and by the kernel's own books.

use std::time::{Duration, Instant};

use integration::{Need, TestEnv};

const NOTHING: [&str; 0] = [];

#[test]
fn memory_is_limited() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(["-m", "64m"], &["probe", "allocate", "16"]).success();
    env.inside(["-m", "32m", "--memory-swap", "32m"], &["probe", "allocate", "100"]).code(137);
    env.inside(["-m", "64m"], &["sh", "-c", MEMORY_LIMIT]).success().stdout("67108864\n");
    env.inside(["-m", "lots"], &["true"]).code(125).one_clear_line();
    env.inside(["-m", "1"], &["true"]).code(125).one_clear_line();
}

const MEMORY_LIMIT: &str =
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";

#[test]
fn processes_are_limited() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(["--pids-limit", "8"], &["fork", "20"]);
    let started = seen["started"].as_u64().unwrap();
    assert!((1..8).contains(&started), "{seen}");
    assert_eq!(env.probe(NOTHING, &["fork", "20"])["started"], 20);
}

#[test]
fn processor_time_is_limited() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(["--cpus", "0.25"], &["spin", "2"]);
    let used = seen["cpu_ms"].as_u64().unwrap();
    assert!((50..900).contains(&used), "2 s at a quarter of a processor used {used} ms");
    env.inside(["--cpus", "-1"], &["true"]).code(125).one_clear_line();
}

#[test]
fn shares_and_processors_are_set() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::CgroupV1]) else { return };
    env.inside(["--cpu-shares", "512"], &["cat", "/sys/fs/cgroup/cpu/cpu.shares"])
        .success()
        .stdout("512\n");
    env.inside(["--cpuset-cpus", "0"], &["grep", "Cpus_allowed_list", "/proc/self/status"])
        .success()
        .stdout("Cpus_allowed_list:\t0\n");
    env.inside(["--cpuset-cpus", "9999"], &["true"]).code(125).one_clear_line();
}

#[test]
fn limits_per_process_are_set() {
    let Some(env) = TestEnv::root() else { return };
    let flags = ["--ulimit", "nofile=77:99", "--ulimit", "core=0"];
    env.inside(flags, &["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"])
        .success()
        .stdout("77\n99\n0\n");
    env.inside(["--ulimit", "nofile=9:1"], &["true"]).code(125).one_clear_line();
    env.inside(["--ulimit", "colour=1"], &["true"]).code(125).stderr_has("colour").one_clear_line();
}

/// D-31: the container sees its own cgroup as the root, and cannot write it.
#[test]
fn cgroups_are_the_containers_own_and_read_only() {
    let Some(env) = TestEnv::root() else { return };
    let cgroup = env.probe(NOTHING, &["cgroup"]);
    for line in cgroup.as_str().unwrap().lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
    let write =
        "for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo 1 >$f && exit 1; done; true";
    env.inside(NOTHING, &["sh", "-c", &format!("({write}) 2>/dev/null")]).success();
    env.inside(NOTHING, &["mkdir", "/sys/fs/cgroup/memory/mine"]).failure();
}

#[test]
fn the_cgroup_is_gone_afterwards() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(["--name", &env.name("cg"), "-m", "64m", "--pids-limit", "9"], &["true"]).success();
    env.traces().nothing_lives();
}

#[test]
fn without_a_cgroup_manager_a_limit_is_refused() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let run = |flags: &[&str]| {
        let run = env.command(["--cgroup-manager", "disabled", "run", "--rm", "--network", "none"]);
        run.args(flags).args([&image, "echo", "ran"]).run()
    };
    run(&[]).success().stdout("ran\n");
    run(&["-m", "64m"]).code(125).stdout("").one_clear_line();
}

#[test]
fn a_fork_bomb_stays_small() {
    let Some(env) = TestEnv::root() else { return };
    let begun = Instant::now();
    let bomb = "b() { b | b & }; b 2>/dev/null; sleep 1; kill -9 -1; true";
    let name = env.busybox();
    let run = ["run", "--rm", "--network", "none", "--pids-limit", "30", &name, "sh", "-c", bomb];
    env.command(run).limit(Duration::from_secs(30)).run();
    assert!(begun.elapsed() < Duration::from_secs(30));
    env.eventually("all of it is gone", || env.traces().processes.is_empty());
}

//! Engines that call us as their OCI runtime: podman, containerd, dockerd.
//!
//! `RUNTIME=/usr/sbin/runc` runs the same tests with another runtime, which tells whether a failure is
//! ours or the machine's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use integration::{Daemon, Finished, Need, TestEnv, program};

/// The runtime under test, by a name that makes it an OCI runtime.
fn runtime(env: &TestEnv) -> PathBuf {
    if let Some(other) = std::env::var_os("RUNTIME") {
        return other.into();
    }
    let link = env.path("crun-cargo-oci");
    if fs::symlink_metadata(&link).is_err() {
        symlink(program(), &link).expect("a link of ours");
    }
    link
}

/// podman with directories of its own and limits that need no CAP_SYS_RESOURCE.
fn podman(env: &TestEnv, words: &[&str]) -> Finished {
    let home = env.path("podman");
    let text = |name: &str| home.join(name).display().to_string();
    let runtime = runtime(env).display().to_string();
    let globals = [
        "--root",
        &text("root"),
        "--runroot",
        &text("run"),
        "--tmpdir",
        &text("tmp"),
        "--storage-driver",
        "overlay",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "none",
        "--runtime",
        &runtime,
    ];
    env.other("podman", globals)
        .args(words)
        .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
        .limit(Duration::from_secs(120))
        .run()
}

const PODMAN: [Need; 2] = [Need::Root, Need::Program("podman", "podman")];

/// `run` of the small image, with what every container here needs.
fn podman_run<'w>(flags: &[&'w str], root: &'w str, command: &[&'w str]) -> Vec<&'w str> {
    let fixed =
        ["run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
    [&fixed[..], flags, &["--rootfs", root], command].concat()
}

#[test]
fn podman_runs_containers_with_us() {
    let Some(env) = TestEnv::with(&PODMAN) else { return };
    let root = env.rootfs("rootfs").display().to_string();
    podman(&env, &podman_run(&["--rm"], &root, &["echo", "hello"])).success().stdout("hello\n");
    podman(&env, &podman_run(&["--rm"], &root, &["sh", "-c", "exit 7"])).code(7);
    podman(&env, &podman_run(&["--rm", "--user", "1000:1000"], &root, &["id", "-u"]))
        .success()
        .stdout("1000\n");
    podman(&env, &podman_run(&["--rm", "--memory", "64m"], &root, &["true"])).success();
    podman(&env, &podman_run(&["--rm"], &root, &["/no/such/program"])).code(127);
}

#[test]
fn podman_starts_enters_and_stops_containers_with_us() {
    let Some(env) = TestEnv::with(&PODMAN) else { return };
    let root = env.rootfs("rootfs").display().to_string();
    let name = env.name("web");
    podman(&env, &podman_run(&["-d", "--name", &name], &root, &["sleep", "1000"])).success();
    podman(&env, &["exec", &name, "echo", "inside"]).success().stdout("inside\n");
    podman(&env, &["exec", "--user", "1000", &name, "id", "-u"]).success().stdout("1000\n");
    podman(&env, &["exec", &name, "sh", "-c", "exit 9"]).code(9);
    podman(&env, &["pause", &name]).success();
    podman(&env, &["unpause", &name]).success();
    podman(&env, &["top", &name]).success().stdout_has("sleep");
    podman(&env, &["stats", "--no-stream", &name]).success().stdout_has(&name);
    podman(&env, &["stop", "-t", "1", &name]).success();
    podman(&env, &["start", &name]).success();
    podman(&env, &["kill", &name]).success();
    podman(&env, &["rm", "-f", &name]).success();
}

/// A tarball that `ctr` and `docker` can load.
fn archive(env: &TestEnv, name: &str) -> PathBuf {
    let image = integration::images::busybox();
    env.file("image.tar", image.build().docker_archive(&image, name))
}

#[test]
fn containerd_runs_containers_with_us() {
    let needs = [Need::Root, Need::Program("ctr", "containerd")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let daemon = Daemon::containerd(&env.path("daemon")).expect("containerd starts");
    let ctr = |words: &[&str]| {
        let globals = ["-a", daemon.socket.to_str().expect("ours"), "-n", env.token()];
        env.other("ctr", globals).args(words).limit(Duration::from_secs(120)).run()
    };
    let (image, runtime) = ("docker.io/library/small:1", runtime(&env).display().to_string());
    ctr(&["images", "import", archive(&env, image).to_str().expect("ours")]).success();
    let run = ["run", "--runc-binary", &runtime];
    let (once, long) = (env.name("once"), env.name("long"));
    ctr(&[&run[..], &["--rm", image, &once, "echo", "hello"]].concat()).success().stdout("hello\n");
    ctr(&[&run[..], &["--rm", image, &once, "sh", "-c", "exit 7"]].concat()).code(7);
    ctr(&[&run[..], &["-d", image, &long, "sleep", "1000"]].concat()).success();
    ctr(&["task", "exec", "--exec-id", "one", &long, "echo", "inside"])
        .success()
        .stdout("inside\n");
    ctr(&["task", "ps", &long]).success();
    ctr(&["task", "metrics", &long]).success();
    ctr(&["task", "pause", &long]).success();
    ctr(&["task", "resume", &long]).success();
    ctr(&["task", "kill", "-s", "KILL", &long]).success();
    env.eventually("the task ends", || ctr(&["task", "ls"]).text().contains("STOPPED"));
    ctr(&["task", "rm", &long]).success();
    ctr(&["container", "rm", &long]).success();
}

/// A dockerd whose default runtime is the one under test, and a way to call its client.
struct Docker<'e> {
    env: &'e TestEnv,
    daemon: Daemon,
}

impl<'e> Docker<'e> {
    fn start(env: &'e TestEnv) -> Self {
        let runtime = runtime(env);
        let more = [
            format!("--add-runtime=ours={}", runtime.display()),
            "--default-runtime=ours".to_owned(),
        ];
        let daemon = Daemon::dockerd(&env.path("daemon"), &more).expect("dockerd starts");
        let docker = Self { env, daemon };
        docker.client(&["load", "-i", text(&archive(env, "small:1"))]).success();
        docker
    }

    fn client(&self, words: &[&str]) -> Finished {
        let host = format!("unix://{}", self.daemon.socket.display());
        self.env
            .other("/usr/bin/docker", ["-H", &host])
            .args(words)
            // The builder that needs no plugin.
            .env("DOCKER_BUILDKIT", "0")
            .limit(Duration::from_secs(120))
            .run()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of ours are text")
}

const DOCKER: [Need; 2] = [Need::Root, Need::Program("dockerd", "docker.io")];

#[test]
fn docker_runs_enters_measures_and_updates_containers_with_us() {
    let Some(env) = TestEnv::with(&DOCKER) else { return };
    let docker = Docker::start(&env);
    let run = ["run", "--rm", "--network", "none"];
    docker.client(&[&run[..], &["small:1", "echo", "hello"]].concat()).success().stdout("hello\n");
    docker.client(&[&run[..], &["small:1", "sh", "-c", "exit 7"]].concat()).code(7);
    docker.client(&[&run[..], &["small:1", "/no/such/program"]].concat()).code(127);
    docker.client(&[&run[..], &["--init", "small:1", "echo", "reaped"]].concat());
    let name = env.name("web");
    docker
        .client(&["run", "-d", "--network", "none", "--name", &name, "small:1", "sleep", "1000"])
        .success();
    docker.client(&["exec", &name, "echo", "inside"]).success().stdout("inside\n");
    docker.client(&["exec", "-u", "1000", "-w", "/tmp", &name, "pwd"]).success().stdout("/tmp\n");
    docker.client(&["stats", "--no-stream", &name]).success().stdout_has(&name);
    docker.client(&["update", "--memory", "64m", "--memory-swap", "128m", &name]).success();
    docker.client(&["top", &name]).success().stdout_has("sleep");
    docker.client(&["pause", &name]).success();
    docker.client(&["unpause", &name]).success();
    docker.client(&["stop", "-t", "1", &name]).success();
    docker.client(&["rm", &name]).success();
}

#[test]
fn docker_builds_images_with_us() {
    let Some(env) = TestEnv::with(&DOCKER) else { return };
    let docker = Docker::start(&env);
    env.file("context/Dockerfile", "FROM small:1\nRUN echo built > /result\nCMD cat /result\n");
    let context = env.path("context");
    docker.client(&["build", "--network", "none", "-t", "built:1", text(&context)]).success();
    docker.client(&["run", "--rm", "--network", "none", "built:1"]).success().stdout("built\n");
}

#[test]
fn a_swarm_service_runs_with_us() {
    let Some(env) = TestEnv::with(&DOCKER) else { return };
    let docker = Docker::start(&env);
    docker.client(&[
        "swarm",
        "init",
        "--advertise-addr",
        "127.0.0.1",
        "--listen-addr",
        "127.0.0.1:0",
    ]);
    let name = env.name("service");
    let made = docker.client(&[
        "service",
        "create",
        "--detach",
        "--name",
        &name,
        "--network",
        "host",
        "--no-resolve-image",
        "small:1",
        "sleep",
        "1000",
    ]);
    made.success();
    env.eventually("the service runs", || docker.client(&["service", "ls"]).text().contains("1/1"));
    docker.client(&["service", "rm", &name]).success();
    docker.client(&["swarm", "leave", "--force"]).success();
}

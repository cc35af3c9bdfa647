//! `serve`: the store as a registry for others, and as a mirror that pulls what it lacks.

use std::time::Duration;

use integration::{Built, Image, Layer, Need, Running, TestEnv, images, tar::Entry};
use nix::sys::signal::Signal;

fn image(word: &str) -> Image {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", format!("{word}\n"))]));
    image
}

/// A serving process; it is told to end when dropped.
struct Served {
    running: Option<Running>,
    host: String,
}

impl Served {
    fn start(env: &TestEnv, more: &[&str]) -> Self {
        let log = env.path("serve.log");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let script = format!("exec \"$@\" 2>{}", log.display());
        let command = env.other("sh", ["-c", &script, "sh"]).arg(integration::program());
        let command =
            command.arg("--root").arg(env.store()).args(["serve", "--addr", &host]).args(more);
        let running = command.limit(Duration::from_secs(300)).start();
        env.eventually("it listens", || std::net::TcpStream::connect(&host).is_ok());
        Self { running: Some(running), host }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// It ends in order when asked to.
    fn end(mut self) {
        let running = self.running.take().unwrap();
        running.signal(Signal::SIGINT);
        let finished = running.finish();
        assert!(!finished.late, "{finished:?}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGKILL);
            running.finish();
        }
    }
}

fn pulled(env: &TestEnv, word: &str) -> (String, Built) {
    let built = image(word).build();
    let name = images::registry().push(&format!("serve/{word}:1"), &built);
    env.run(["pull", "-q", &name]).success();
    (name, built)
}

#[test]
fn this_program_pulls_from_itself() {
    let Some(env) = TestEnv::root() else { return };
    let (_, built) = pulled(&env, "own");
    let served = Served::start(&env, &[]);
    let other = TestEnv::new();
    let name = served.name("serve/own:1");
    other
        .run(["run", "--rm", "--network", "none", &name, "cat", "/word"])
        .success()
        .stdout("own\n");
    let by_digest = format!("{}@{}", served.name("serve/own"), built.digest());
    other.run(["pull", "-q", &by_digest]).success();
    other.run(["tags", &served.name("serve/own")]).success().stdout_has("1");
    other.run(["pull", "-q", &served.name("serve/none:1")]).failure().one_clear_line();
    // It is read only.
    other.run(["push", "-q", &name, &served.name("serve/new:1")]).failure().one_clear_line();
    served.end();
}

#[test]
fn skopeo_and_podman_pull_from_us() {
    let needs = [Need::Root, Need::Program("skopeo", "skopeo"), Need::Program("podman", "podman")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let (_, built) = pulled(&env, "others");
    let served = Served::start(&env, &[]);
    let copy = env.other("skopeo", ["--insecure-policy", "copy", "-q", "--src-tls-verify=false"]);
    let copy = copy.arg(format!("docker://{}", served.name("serve/others:1")));
    copy.args(["--preserve-digests", "dir:copied"]).run().success();
    let copied = std::fs::read(env.path("copied/manifest.json")).unwrap();
    assert_eq!(integration::sha256(&copied), built.digest());
    let inspect = env.other("skopeo", ["list-tags", "--tls-verify=false"]);
    let inspect = inspect.arg(format!("docker://{}", served.name("serve/others")));
    inspect.run().success().stdout_has("\"1\"");
    podman(&env, &["pull", "-q", "--tls-verify=false", &served.name("serve/others:1")]);
    let digest = podman(
        &env,
        &["image", "inspect", "--format", "{{.Digest}}", &served.name("serve/others:1")],
    );
    assert_eq!(digest.trim(), built.digest());
    served.end();
}

fn podman(env: &TestEnv, words: &[&str]) -> String {
    let home = env.path("podman");
    let text = |name: &str| home.join(name).display().to_string();
    let globals = [
        "--root",
        &text("root"),
        "--runroot",
        &text("run"),
        "--tmpdir",
        &text("tmp"),
        "--storage-driver",
        "overlay",
        "--events-backend",
        "none",
    ];
    let podman =
        env.other("podman", globals).args(words).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
    podman.limit(Duration::from_secs(120)).run().success().text()
}

#[test]
fn what_is_not_here_is_pulled_from_upstream_once() {
    let Some(env) = TestEnv::root() else { return };
    let upstream = env.registry();
    upstream.push("team/app:1", &image("upstream").build());
    let served = Served::start(&env, &["--upstream", &upstream.host()]);
    for _ in 0..2 {
        let other = TestEnv::new();
        let run = ["run", "--rm", "--network", "none", &served.name("team/app:1"), "cat", "/word"];
        other.run(run).success().stdout("upstream\n");
    }
    let log = upstream.log();
    let fetched = log.lines().filter(|line| line.contains("\"GET /v2/team/app/blobs/")).count();
    assert_eq!(fetched, image("upstream").build().blobs.len(), "once each");
    TestEnv::new().run(["pull", "-q", &served.name("team/none:1")]).failure().one_clear_line();
    served.end();
}

#[test]
fn images_whose_blobs_were_dropped_are_served_all_the_same() {
    let Some(env) = TestEnv::root() else { return };
    let name = images::registry().push("serve/dropped:1", &image("dropped").build());
    env.run(["pull", "-q", "--keep-blobs=false", &name]).success();
    let served = Served::start(&env, &[]);
    for _ in 0..2 {
        let other = TestEnv::new();
        let run =
            ["run", "--rm", "--network", "none", &served.name("serve/dropped:1"), "cat", "/word"];
        other.run(run).success().stdout("dropped\n");
    }
    served.end();
}

#[test]
fn an_address_that_cannot_be_had_is_said_in_one_line() {
    let env = TestEnv::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    env.run(["serve", "--addr", &address]).code(125).stderr_has(&address).one_clear_line();
    env.run(["serve", "--addr", "nonsense"]).code(125).one_clear_line();
}

//! Damaged input of every kind, by the hundred and the same in every run: each ends in success or in one clear
//! line, without a panic, a signal, a hang or a mountain of memory (S7), and the next command works.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use integration::{
    Damage, Finished, TestEnv,
    http::{Response, Server},
    images,
};
use serde_json::json;

/// More than anything here needs; with it a document that asks for memory is refused it.
const MEMORY: &str = "ulimit -v 2000000; exec \"$@\"";

/// Runs the program with its memory limited, and looks at how it ended.
#[track_caller]
fn survives<'a>(env: &TestEnv, words: impl IntoIterator<Item = &'a str>, what: &str) -> Finished {
    let run = env.other("sh", ["-c", MEMORY, "sh"]).arg(integration::program());
    let run = run.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot());
    let run = run.args(words).limit(Duration::from_secs(20)).run();
    let said = run.error();
    let panicked = said.contains("panicked") || said.contains("memory allocation");
    if run.late || panicked || run.status.code().is_none() {
        run.complain(&format!("an orderly end, given {what:?}"));
    }
    // What came from outside is escaped.
    assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "given {what:?}: {said:?}");
    run
}

/// What a registry says to a request for a path, where it does not tell the truth.
type Answer = Box<dyn Fn(&str) -> Option<Response> + Send>;

/// A registry of one image whose documents and challenges are what the test has put there.
struct Liar {
    answer: Arc<Mutex<Answer>>,
    server: Server,
}

impl Liar {
    fn new() -> Self {
        let image = images::busybox().build();
        let answer: Answer = Box::new(|_| None);
        let answer = Arc::new(Mutex::new(answer));
        let asked = answer.clone();
        let server = Server::start(move |request| {
            if let Some(response) = (asked.lock().unwrap())(&request.path) {
                return response;
            }
            let digest = request.path.rsplit('/').next().unwrap_or_default();
            match image.blobs.get(digest) {
                _ if request.path.contains("/manifests/") => {
                    Response::ok(&image.media_type, image.manifest.clone())
                }
                Some(bytes) => Response::ok("application/octet-stream", bytes.clone()),
                None => Response::ok("application/json", "{}"),
            }
        });
        Self { answer, server }
    }

    fn pull(&self, env: &TestEnv, what: &str) {
        survives(env, ["pull", "-q", &format!("{}/damaged:1", self.server.address())], what);
    }

    fn answers(&self, answer: impl Fn(&str) -> Option<Response> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }
}

#[test]
fn manifests_and_indexes() {
    let Some(env) = TestEnv::root() else { return };
    let liar = Liar::new();
    let image = images::busybox().build();
    let index = images::index(&[&image], integration::Flavour::Docker).0;
    let mut damage = Damage::seeded(1);
    for (good, kind) in [
        (image.manifest.clone(), image.media_type.as_str()),
        (index, "application/vnd.docker.distribution.manifest.list.v2+json"),
    ] {
        for _ in 0..60 {
            let (bad, kind) = (damage.bytes(&good), kind.to_owned());
            let what = String::from_utf8_lossy(&bad).into_owned();
            liar.answers(move |path| {
                path.contains("/manifests/").then(|| Response::ok(&kind, bad.clone()))
            });
            liar.pull(&env, &what);
        }
    }
    liar.answers(|_| None);
    liar.pull(&env, "the good one");
    env.run(["images", "-q"]).success();
}

/// The configuration is served under its own digest, so that its content is looked at.
#[test]
fn image_configurations() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox()
        .set("Labels", json!({"a": "b"}))
        .set("User", json!("alice:staff"))
        .set("WorkingDir", json!("/tmp"))
        .set("Volumes", json!({"/data": {}}))
        .set("ExposedPorts", json!({"80/tcp": {}}))
        .set("Healthcheck", json!({"Test": ["CMD", "true"], "Interval": 1_000_000_000}))
        .set("StopSignal", json!("SIGTERM"))
        .build();
    let good = image.blobs[&image.config].clone();
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let liar = Liar::new();
    let mut damage = Damage::seeded(2);
    for _ in 0..80 {
        let bad = damage.bytes(&good);
        let digest = integration::sha256(&bad);
        let size = |bytes: &[u8]| format!("\"size\":{}", bytes.len());
        let compact: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let lies = compact.to_string().replace(&image.config, &digest);
        let lies = lies.replacen(&size(&good), &size(&bad), 1);
        let what = String::from_utf8_lossy(&bad).into_owned();
        let (kind, blobs) = (image.media_type.clone(), image.blobs.clone());
        liar.answers(move |path| {
            if path.contains("/manifests/") {
                return Some(Response::ok(&kind, lies.clone()));
            }
            let asked = path.rsplit('/').next().unwrap_or_default();
            let bytes = if asked == digest { Some(&bad) } else { blobs.get(asked) };
            bytes.map(|bytes| Response::ok("application/octet-stream", bytes.clone()))
        });
        liar.pull(&env, &what);
        let name = format!("{}/damaged:1", liar.server.address());
        survives(&env, ["run", "--rm", "--network", "none", &name, "true"], &what);
        survives(&env, ["inspect", &name], &what);
        survives(&env, ["images"], &what);
    }
}

#[test]
fn challenges() {
    let Some(env) = TestEnv::root() else { return };
    let liar = Liar::new();
    let mut damage = Damage::seeded(3);
    let address = liar.server.address();
    let good = format!(
        "Bearer realm=\"http://{address}/token\",service=\"it, \\\"self\\\"\",scope=\"repository:damaged:pull\", Basic realm=\"x\""
    );
    for _ in 0..120 {
        let bad = damage.word(&good);
        let header: String =
            bad.chars().filter(char::is_ascii).filter(|c| !c.is_control()).collect();
        liar.answers(move |path| {
            let token = path.contains("/token");
            (!token).then(|| Response::status(401).with("WWW-Authenticate", header.clone()))
        });
        liar.pull(&env, &bad);
    }
}

#[test]
fn references_templates_and_changes() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.pulled_busybox();
    let mut damage = Damage::seeded(4);
    let digest = format!("localhost:5000/a/b_c:t-1.0@sha256:{}", "a".repeat(64));
    let template = "{{range $i, $e := .Config.Env}}{{if eq $i 0}}{{json $e}}{{else}}{{printf \"%s\" .Id}}{{end}}{{end}} {{.Id | upper}}";
    for _ in 0..80 {
        for good in [digest.as_str(), name.as_str()] {
            let bad = damage.word(good);
            survives(&env, ["inspect", "--", &bad], &bad);
            survives(&env, ["tag", "--", &name, &bad], &bad);
        }
        let bad = damage.word(template);
        survives(&env, ["inspect", "--format", &bad, &name], &bad);
        let bad = damage.word("{{.ID}}\t{{.Repository}}:{{.Tag}} {{json .}}");
        survives(&env, ["images", "--format", &bad], &bad);
    }
    let archive = env.file("empty.tar", [0; 10240]);
    let archive = archive.to_str().unwrap();
    for good in [
        "CMD [\"a\", \"b\"]",
        "ENV A=\"b c\" D=e",
        "EXPOSE 80/tcp 90-99",
        "USER a:b",
        "HEALTHCHECK --interval=5s --retries=3 CMD [\"x\"]",
        "LABEL \"a b\"=c",
        "VOLUME [\"/a\"]",
        "WORKDIR /a",
        "ENTRYPOINT a b",
        "STOPSIGNAL 9",
    ] {
        for _ in 0..8 {
            let bad = damage.word(good);
            survives(&env, ["import", "--change", &bad, archive, "imported"], &bad);
        }
    }
}

#[test]
fn registries_conf() {
    let Some(env) = TestEnv::root() else { return };
    let server = Server::start(|_| Response::status(404));
    let name = format!("{}/x:1", server.address());
    let good = "unqualified-search-registries = [\"localhost:1\"]\nshort-name-mode = \"enforcing\"\n\
        [[registry]]\nprefix = \"*.example.com\"\nlocation = \"localhost:1/x\"\ninsecure = true\nblocked = false\n\
        [[registry.mirror]]\nlocation = \"localhost:2\"\npull-from-mirror = \"digest-only\"\n\
        [aliases]\n\"short\" = \"localhost:1/long\"\n";
    let mut damage = Damage::seeded(5);
    for _ in 0..80 {
        let bad = damage.text(good);
        let file = env.file("registries.conf", &bad);
        let run = env.command(["pull", "-q", &name]).limit(Duration::from_secs(20));
        run.env("CONTAINERS_REGISTRIES_CONF", file).run().failure().stderr_lacks("panicked");
    }
}

#[test]
fn accounts() {
    let Some(env) = TestEnv::root() else { return };
    let rootfs = env.rootfs("accounts");
    let rootfs_text = rootfs.to_str().unwrap();
    let good: Vec<_> = ["passwd", "group"]
        .map(|file| fs::read_to_string(rootfs.join("etc").join(file)).unwrap())
        .into();
    let mut damage = Damage::seeded(6);
    for _ in 0..60 {
        for (file, good) in ["passwd", "group"].iter().zip(&good) {
            fs::write(rootfs.join("etc").join(file), damage.bytes(good.as_bytes())).unwrap();
        }
        let what = fs::read_to_string(rootfs.join("etc/passwd")).unwrap_or_default();
        let run =
            ["run", "--rm", "--network", "none", "--user", "alice:audio", "--rootfs", rootfs_text];
        let run = survives(&env, run.into_iter().chain(["id", "-u"]), &what);
        // Whatever the files say, a name that is not found is not root.
        if run.status.success() && !what.contains("alice:x:0:") {
            assert_ne!(run.word(), "0", "{what:?}");
        }
    }
}

/// D-36, D-55: whatever its files say, a container can be asked about and removed, and others are untouched.
#[test]
fn states() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| config["process"]["args"] = json!(["sleep", "60"]));
    let mut damage = Damage::seeded(7);
    let mut innocent = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    for (number, file) in
        ["state.json", "spec.json", "init.json"].iter().cycle().take(36).enumerate()
    {
        let id = env.name(&format!("state{number}"));
        let create = ["create", "--bundle", bundle.to_str().unwrap(), &id];
        env.oci_detached(create, std::path::Path::new("/dev/null")).success();
        let path = env.runroot().join(&id).join(file);
        let good = fs::read(&path).unwrap();
        // Cut to nothing is what a killed creation leaves.
        let mut bad = if number < 3 { Vec::new() } else { damage.bytes(&good) };
        // It names the cgroup whose processes are killed: one that still is a document could name any.
        while *file == "state.json" && serde_json::from_slice::<serde_json::Value>(&bad).is_ok() {
            bad = damage.bytes(&good);
        }
        fs::write(&path, &bad).unwrap();
        let what = format!("{file}: {}", String::from_utf8_lossy(&bad));
        for words in [
            vec!["oci", "state", &id],
            vec!["oci", "list"],
            vec!["oci", "exec", &id, "true"],
            vec!["oci", "kill", &id, "0"],
            vec!["oci", "ps", &id],
            vec!["oci", "delete", "--force", &id],
        ] {
            let root = env.runroot();
            let root = ["--root", root.to_str().unwrap()];
            let oci = [&words[..1], &root, &words[1..]].concat();
            let run = env.other("sh", ["-c", MEMORY, "sh"]).arg(integration::program()).args(oci);
            let run = run.limit(Duration::from_secs(20)).run();
            if !run.status.success() {
                run.failure();
            }
        }
        assert!(innocent.try_wait().unwrap().is_none(), "{what}");
        // A state that still says what there is lets it be removed whole.
        if serde_json::from_slice::<serde_json::Value>(&bad).is_err() && *file == "init.json" {
            assert!(!env.runroot().join(&id).exists(), "{what}");
        }
        fs::write(&path, &good).unwrap_or_default();
        env.oci(["delete", "--force", &id]).success();
    }
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    env.traces().nothing_lives();
}

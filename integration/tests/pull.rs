//! Pulling: every format a registry serves, every guard before it, every way it can go wrong.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use integration::{
    Built, Compression, Flavour, Guard, Image, Layer, Need, PASSWORD, Registry, TestEnv, USER,
    gzip,
    http::{Request, Response, Server},
    images, sha256,
    tar::{self, Entry},
};
use nix::sys::signal::Signal;
use serde_json::json;

/// An image that says which one it is.
fn saying(word: &str) -> Image {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", format!("{word}\n"))]));
    image.set("Cmd", json!(["cat", "/word"]))
}

#[track_caller]
fn says(env: &TestEnv, name: &str, word: &str) {
    env.run(["run", "--rm", "--network", "none", name]).success().stdout(&format!("{word}\n"));
}

#[test]
fn every_format_and_compression_arrives() {
    let Some(env) = TestEnv::root() else { return };
    let registry = images::registry();
    for flavour in [Flavour::Docker, Flavour::Oci] {
        for compression in
            [Compression::Gzip, Compression::TwoGzipMembers, Compression::Zstd, Compression::None]
        {
            let word = format!("{flavour:?}-{compression:?}").to_lowercase();
            let image = saying(&word).flavour(flavour).compression(compression).build();
            let name = registry.push(&format!("pull/{word}:1"), &image);
            let shown = env.run(["pull", "-q", &name]).success();
            assert!(shown.word().starts_with("sha256:"), "{}", shown.word());
            says(&env, &name, &word);
        }
    }
}

#[test]
fn an_image_can_be_named_by_digest() {
    let Some(env) = TestEnv::root() else { return };
    let image = saying("by digest").build();
    let name = images::registry().push("pull/digest:1", &image);
    let by_digest = format!("{}@{}", name.trim_end_matches(":1"), image.digest());
    env.run(["pull", "-q", &by_digest]).success();
    says(&env, &by_digest, "by digest");
    let wrong = by_digest.replace(&image.digest(), &sha256(b"another"));
    env.run(["pull", "-q", &wrong]).failure().one_clear_line();
}

#[test]
fn the_platform_is_chosen() {
    let Some(env) = TestEnv::root() else { return };
    let machine = images::machine();
    for (tag, flavour) in [("docker", Flavour::Docker), ("oci", Flavour::Oci)] {
        let own = saying("this machine").flavour(flavour);
        let mut arm = saying("another machine").flavour(flavour);
        (arm.architecture, arm.variant) = ("arm".into(), Some("v7".into()));
        let (own, arm) = (own.build(), arm.build());
        let all = [&arm, &own];
        let name = images::registry().push_index(
            &format!("pull/platforms:{tag}"),
            &all,
            images::index(&all, flavour),
        );
        says(&env, &name, "this machine");
        env.run(["pull", "-q", "--platform", "linux/arm/v7", &name]).success();
        let shown = env.run(["inspect", &name]).success().text();
        assert!(shown.contains("arm"), "{shown}");
        env.run(["pull", "-q", "--platform", &format!("linux/{machine}"), &name]).success();
        says(&env, &name, "this machine");
        env.run(["pull", "-q", "--platform", "linux/s390x", &name])
            .failure()
            .stderr_has("s390x")
            .one_clear_line();
        env.run(["pull", "-q", "--platform", "not a platform", &name]).failure().one_clear_line();
    }
}

#[test]
fn all_tags_come_with_all_tags() {
    let Some(env) = TestEnv::root() else { return };
    for tag in ["one", "two", "three"] {
        images::registry().push(&format!("pull/many:{tag}"), &saying(tag).build());
    }
    env.run(["pull", "-q", "--all-tags", &images::registry().name("pull/many")]).success();
    let listed = env.run(["images", "--format", "{{.Tag}}"]).success().text();
    let mut tags: Vec<_> = listed.split_whitespace().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["one", "three", "two"]);
}

#[test]
fn sources_beside_a_registry() {
    let Some(env) = TestEnv::root() else { return };
    let image = saying("from a layout").flavour(Flavour::Oci);
    let built = image.build();
    let layout = env.path("layout");
    built.write_layout(&layout, "tag");
    says(&env, &format!("oci:{}:tag", layout.display()), "from a layout");

    let archive = env.path("layout.tar");
    let pack = env.other("tar", ["-C"]).arg(&layout).args(["-cf"]).arg(&archive).arg(".");
    pack.run().success();
    says(&env, &format!("oci-archive:{}", archive.display()), "from a layout");

    let docker = saying("from docker save").compression(Compression::None);
    let archive = docker.build().docker_archive(&docker, "name:tag");
    let archive = env.file("docker.tar", archive);
    says(&env, &format!("docker-archive:{}", archive.display()), "from docker save");

    let directory = env.path("dir");
    fs::create_dir(&directory).unwrap();
    for (digest, bytes) in &built.blobs {
        fs::write(directory.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
    }
    fs::write(directory.join("manifest.json"), &built.manifest).unwrap();
    fs::write(directory.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    says(&env, &format!("dir:{}", directory.display()), "from a layout");
}

#[test]
fn passwords_and_tokens_open_guarded_registries() {
    let Some(env) = TestEnv::root() else { return };
    for guard in [Guard::Password, Guard::Token] {
        let registry = Registry::start(&env.path(format!("{guard:?}")), guard);
        let word = format!("{guard:?}");
        let name = registry.push("team/app:1", &saying(&word).build());
        env.run(["pull", "-q", &name]).failure().one_clear_line();
        env.run(["pull", "-q", "--creds", "alice:wrong", &name]).failure().one_clear_line();
        env.run(["pull", "-q", "--creds", &format!("{USER}:{PASSWORD}"), &name]).success();
        says(&env, &name, &word);
        // The same from the file that logins of other tools write.
        let authority = json!({"auths": {registry.host(): {"auth": "YWxpY2U6d29uZGVybGFuZA=="}}});
        let file = env.file("auth.json", authority.to_string());
        env.run(["rmi", &name]).success();
        env.command(["pull", "-q", &name]).env("REGISTRY_AUTH_FILE", &file).run().success();
        env.run(["rmi", &name]).success();
        let home = env.directory().join("home/.docker");
        fs::create_dir_all(&home).unwrap();
        fs::copy(&file, home.join("config.json")).unwrap();
        env.run(["pull", "-q", &name]).success();
        fs::remove_dir_all(home).unwrap();
    }
}

#[test]
fn anonymous_tokens_open_what_is_public() {
    let Some(env) = TestEnv::root() else { return };
    let registry = Registry::start(&env.path("tokens"), Guard::Token);
    let name = registry.push("public/app:1", &saying("public").build());
    says(&env, &name, "public");
}

/// S6: neither the screen nor the log nor a world-readable file ever shows a password.
#[test]
fn passwords_are_not_shown() {
    let Some(env) = TestEnv::root() else { return };
    let registry = Registry::start(&env.path("guarded"), Guard::Token);
    let name = registry.push("team/app:1", &saying("x").build());
    let log = env.path("log");
    let pull = |password: &str| {
        let pull = env.command(["--debug", "--log"]).arg(&log);
        pull.args(["pull", "--creds", &format!("{USER}:{password}"), &name]).run()
    };
    for run in [pull(PASSWORD).success(), pull("hunter2-wrong").failure()] {
        let text = run.error() + &run.text() + &fs::read_to_string(&log).unwrap_or_default();
        for secret in [PASSWORD, "hunter2-wrong", "YWxpY2U6", "Bearer ey"] {
            assert!(!text.contains(secret), "{secret} is shown in\n{text}");
        }
    }
}

#[test]
fn policies_decide_whether_the_registry_is_asked() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let name = registry.push("moving:tag", &saying("old").build());
    let pull = |policy: &str| env.run(["pull", "-q", "--policy", policy, &name]);
    pull("never").failure().one_clear_line();
    pull("missing").success();
    registry.push("moving:tag", &saying("new").build());
    pull("missing").success();
    says(&env, &name, "old");
    pull("newer").success();
    says(&env, &name, "new");
    pull("always").success();
}

#[test]
fn layers_that_are_there_are_not_fetched_again() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let first = registry.push("first:1", &saying("first").build());
    let second = registry.push("second:1", &saying("second").build());
    env.run(["pull", "-q", &first]).success();
    let base = saying("first").build().layers[0].clone();
    let fetches = |registry: &Registry| {
        let log = registry.log();
        log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(&base)).count()
    };
    let before = fetches(&registry);
    assert_eq!(before, 1, "the registry logs what it serves");
    env.run(["pull", "-q", &second]).success();
    assert_eq!(fetches(&registry), before);
    says(&env, &second, "second");
}

/// Several processes pull the same image into one store: the work is done once, and right.
#[test]
fn concurrent_pulls_share_the_work() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let image = saying("shared").build();
    let name = registry.push("shared:1", &image);
    let all: Vec<_> = (0..5).map(|_| env.command(["pull", "-q", &name]).start()).collect();
    for running in all {
        running.finish().success();
    }
    says(&env, &name, "shared");
    let log = registry.log();
    for layer in &image.layers {
        let count =
            log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(layer)).count();
        assert_eq!(count, 1, "{layer} was fetched {count} times");
    }
}

/// A registry that hands out an image at a snail's pace, and counts.
fn slow_registry(image: &Built, pause: Duration) -> Server {
    let image = image.clone();
    Server::start(move |request| serve(&image, request, pause))
}

fn serve(image: &Built, request: &Request, pause: Duration) -> Response {
    let path = request.path.as_str();
    if path.trim_end_matches('/') == "/v2" {
        return Response::ok("application/json", "{}");
    }
    if path.contains("/manifests/") {
        let answer = Response::ok(&image.media_type, image.manifest.clone());
        return answer.with("Docker-Content-Digest", image.digest());
    }
    let digest = path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = image.blobs.get(digest) else { return Response::status(404) };
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let start = range.and_then(|range| range.split('-').next()?.parse::<usize>().ok());
    let mut answer = Response::ok("application/octet-stream", bytes[start.unwrap_or(0)..].to_vec());
    if let Some(start) = start {
        answer.status = 206;
        let content_range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        answer = answer.with("Content-Range", content_range);
    }
    if bytes.len() > 10_000 {
        answer.pause = Some(pause);
    }
    answer
}

/// A layer that cannot be compressed away.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// So long that a busy machine still interrupts the pull in the middle.
const PAUSE: Duration = Duration::from_secs(8);

#[test]
fn an_interrupted_pull_is_resumed_where_it_stopped() {
    let Some(env) = TestEnv::root() else { return };
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let env = TestEnv::new();
        let image = Image::new(vec![Layer::of(&[Entry::file("noise", noise(4 << 20))])]).build();
        let server = slow_registry(&image, PAUSE);
        let name = format!("{}/slow:1", server.address());
        let running = env.command(["pull", "-q", &name]).start();
        env.eventually("the layer is asked for", || {
            server.requests().iter().any(|request| request.path.contains(&image.layers[0]))
        });
        std::thread::sleep(Duration::from_millis(700));
        running.signal(signal);
        let finished = running.finish();
        assert!(!finished.status.success() && finished.took < PAUSE);
        env.run(["pull", "-q", &name]).success();
        let ranges: Vec<_> = server
            .requests()
            .iter()
            .filter(|request| request.path.contains(&image.layers[0]))
            .map(|request| request.header("range").unwrap_or("all").to_owned())
            .collect();
        assert!(ranges.len() >= 2 && ranges[1].starts_with("bytes="), "{signal}: {ranges:?}");
        env.run(["inspect", &name]).success();
    }
    drop(env);
}

/// Answers wrongly a few times, then rightly.
fn moody(image: &Built, moods: Vec<Response>, part: &'static str) -> Server {
    let image = image.clone();
    let count = Arc::new(AtomicUsize::new(0));
    Server::start(move |request| {
        let honest = serve(&image, request, Duration::ZERO);
        if !request.path.contains(part) {
            return honest;
        }
        match moods.get(count.fetch_add(1, Ordering::Relaxed)) {
            None => honest,
            Some(mood) if mood.status == 0 => Response { cut_after: mood.cut_after, ..honest },
            Some(mood) => mood.clone(),
        }
    })
}

#[test]
fn passing_failures_are_tried_again() {
    let Some(env) = TestEnv::root() else { return };
    let image = saying("at last").build();
    let cut = Response { cut_after: Some(1000), ..Response::default() };
    let busy = Response::status(429).with("Retry-After", "1");
    for (part, moods) in [
        ("/manifests/", vec![Response::status(503), Response::status(500)]),
        ("/manifests/", vec![busy.clone()]),
        ("/blobs/", vec![Response::status(502), busy]),
        ("/blobs/", vec![cut.clone(), cut]),
    ] {
        let env = TestEnv::new();
        let server = moody(&image, moods, part);
        let name = format!("{}/moody:1", server.address());
        env.run(["pull", "-q", &name]).success();
        says(&env, &name, "at last");
    }
    drop(env);
}

#[test]
fn a_rate_limit_that_stays_is_explained() {
    let env = TestEnv::new();
    let server = Server::start(|_| Response::status(429).with("Retry-After", "0"));
    env.run(["pull", "-q", &format!("{}/app:1", server.address())])
        .failure()
        .stderr_has("limits how often")
        .one_clear_line();
}

/// S2: bytes that are not what their digest promises never become part of anything.
#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let Some(env) = TestEnv::root() else { return };
    let image = saying("never seen").build();
    let layer = image.layers[2].clone();
    let honest = image.blobs[&layer].clone();
    let mut flipped = honest.clone();
    flipped[20] ^= 1;
    let other = gzip(&tar::archive(&[Entry::file("evil", "evil")]));
    let cases: [(&str, &str, Response); 7] = [
        ("flipped layer", &layer, Response::ok("application/octet-stream", flipped)),
        ("other layer", &layer, Response::ok("application/octet-stream", other)),
        (
            "short layer",
            &layer,
            Response::ok("application/octet-stream", &honest[..honest.len() - 1]),
        ),
        (
            "long layer",
            &layer,
            Response::ok("application/octet-stream", [&honest[..], b"x"].concat()),
        ),
        ("other configuration", &image.config, Response::ok("application/json", "{}")),
        ("empty layer", &layer, Response::ok("application/octet-stream", "")),
        ("a page", &layer, Response::ok("text/html", "<html>log in first</html>")),
    ];
    for (case, part, answer) in cases {
        let env = TestEnv::new();
        let (inside, part) = (image.clone(), part.to_owned());
        let server = Server::start(move |request| match request.path.contains(&part) {
            true => answer.clone(),
            false => serve(&inside, request, Duration::ZERO),
        });
        let name = format!("{}/wrong:1", server.address());
        env.run(["pull", "-q", &name]).failure().one_clear_line();
        env.run(["images", "-q"]).success().stdout("");
        env.run(["run", "--rm", "--network", "none", "--pull", "never", &name]).code(125);
        // The honest registry at the same place mends it.
        drop(server);
        println!("{case}: refused");
    }
    drop(env);
}

#[test]
fn a_diff_id_that_does_not_match_is_refused() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = saying("x").build();
    let config = String::from_utf8(image.blobs[&image.config].clone()).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&config).unwrap();
    document["rootfs"]["diff_ids"][2] = json!(sha256(b"something else"));
    replace_config(&mut image, &document);
    let name = images::registry().push("pull/diff-id:1", &image);
    env.run(["pull", "-q", &name]).failure().one_clear_line();
    document["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
    replace_config(&mut image, &document);
    let name = images::registry().push("pull/diff-id:2", &image);
    env.run(["pull", "-q", &name]).failure().one_clear_line();
    env.run(["images", "-q"]).success().stdout("");
}

fn replace_config(image: &mut Built, document: &serde_json::Value) {
    let bytes = document.to_string().into_bytes();
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    image.config = sha256(&bytes);
    manifest["config"]["digest"] = json!(image.config);
    manifest["config"]["size"] = json!(bytes.len());
    image.manifest = manifest.to_string().into_bytes();
    image.blobs.insert(image.config.clone(), bytes);
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let Some(env) = TestEnv::root() else { return };
    let registry = images::registry();
    registry.push("pull/there:1", &saying("x").build());
    let missing_tag = registry.name("pull/there:no-such-tag");
    env.run(["pull", "-q", &missing_tag]).failure().stderr_has("no-such-tag").one_clear_line();
    env.run(["pull", "-q", &registry.name("pull/nowhere:1")])
        .failure()
        .stderr_has("pull/nowhere")
        .one_clear_line();
    for wrong in ["Upper/Case", "a//b", "host:port/x", "name@sha256:short", ":tag", "a b", "-", ""]
    {
        env.run(["pull", "-q", "--", wrong]).failure().one_clear_line();
    }
    env.run(["pull", "-q", "Debian"]).failure().stderr_has("debian");
    // Nobody listens on the discard port.
    env.run(["pull", "-q", "127.0.0.1:9/app"]).failure().stderr_has("127.0.0.1:9").one_clear_line();
    env.run(["pull", "-q", "name.invalid/app"])
        .failure()
        .stderr_has("name.invalid")
        .one_clear_line();
    env.run(["pull", "-q", "oci:/no/such/layout"])
        .failure()
        .stderr_has("/no/such/layout")
        .one_clear_line();
    env.run(["images", "-q"]).success().stdout("");
}

/// D-43: plain HTTP is for loopback and for those who ask.
#[test]
fn plain_http_is_refused_elsewhere() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("ip", "iproute2")]) else { return };
    // Another of this machine's own addresses is not loopback, if it has one.
    let addresses = env.other("ip", ["-4", "-o", "addr", "show", "scope", "global"]).run().text();
    let Some(address) =
        addresses.split_whitespace().find(|word| word.contains('.') && word.contains('/'))
    else {
        return;
    };
    let address = address.split('/').next().unwrap();
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let name = format!("{address}:{}/app:1", listener.local_addr().unwrap().port());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let mut start = [0; 4];
            if stream.read_exact(&mut start).is_ok() {
                seen.lock().unwrap().push(start);
            }
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nClient sent plain text\n");
        }
    });
    env.command(["pull", "-q", &name])
        .limit(Duration::from_secs(60))
        .run()
        .failure()
        .one_clear_line();
    let seen = asked.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|start| start[0] == 0x16), "only TLS: {seen:?}");
}

#[test]
fn progress_is_shown_as_asked() {
    let Some(env) = TestEnv::root() else { return };
    let name = images::registry().push("pull/progress:1", &saying("x").build());
    let pull = |mode: &str| {
        let env = TestEnv::new();
        env.run(["pull", "--progress", mode, &name]).success()
    };
    assert!(!pull("plain").error().is_empty());
    assert!(!pull("plain").error().contains('\x1b'));
    assert!(!pull("auto").error().contains('\x1b'), "a pipe is no terminal");
    pull("none").stderr_has("");
    assert!(pull("none").error().is_empty());
    for line in pull("json").error().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    env.run(["pull", "--progress", "dancing", &name]).failure();
}

/// A machine can be told where short names live, and what may be spoken to.
#[test]
fn registries_conf_is_obeyed() {
    let Some(env) = TestEnv::root() else { return };
    images::registry().push("mirror/debian:jessie", &saying("mirrored").build());
    let host = images::registry().host();
    let conf = format!(
        "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"{host}/mirror\"\ninsecure = true\n\n\
         [[registry]]\nprefix = \"blocked.example\"\nlocation = \"blocked.example\"\nblocked = true\n\n\
         [aliases]\n\"short\" = \"{host}/mirror/debian\"\n"
    );
    let conf = env.file("registries.conf", conf);
    let run = |words: &[&str]| env.command(words).env("CONTAINERS_REGISTRIES_CONF", &conf).run();
    run(&["run", "--rm", "--network", "none", "debian:jessie"]).success().stdout("mirrored\n");
    run(&["run", "--rm", "--network", "none", "short:jessie"]).success().stdout("mirrored\n");
    run(&["pull", "blocked.example/app"]).failure().stderr_has("blocked").one_clear_line();
}

#[test]
fn images_are_listed_shown_and_removed() {
    let Some(env) = TestEnv::root() else { return };
    let image = saying("listed").build();
    let name = images::registry().push("pull/listed:1", &image);
    env.run(["pull", "-q", &name]).success();
    env.run(["images"]).success().stdout_has("pull/listed").stdout_has("REPOSITORY");
    let shown = env.run(["inspect", &name]).success().json();
    assert_eq!(shown[0]["Id"], json!(image.config), "{shown}");
    env.run(["images", "-q", "--no-trunc"]).success().stdout(&format!("{}\n", image.config));
    env.run(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .success()
        .stdout(&format!("{name}\n"));
    let text = env.run(["images", "--format", "json"]).success().text();
    serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap();
    env.run(["rmi", &name]).success();
    env.run(["images", "-q"]).success().stdout("");
    env.run(["rmi", &name]).failure().one_clear_line();
    env.run(["inspect", &name]).failure().one_clear_line();
}

#[test]
fn an_image_in_use_is_not_removed() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("user"), env.pulled_busybox());
    env.run(["run", "--network", "none", "--name", &name, &image, "true"]).success();
    env.run(["rmi", &image]).failure().stderr_has("is used by container").one_clear_line();
    env.run(["rm", &name]).success();
    env.run(["rmi", &image]).success();
}

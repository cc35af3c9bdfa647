//! Registries with conditions: old manifests, own authorities, proxies in between, tokens that run out.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use integration::{
    Built, Image, Layer, Need, TestEnv,
    http::{Request, Response, Server},
    images,
    tar::Entry,
};
use serde_json::json;

fn image(word: &str) -> Image {
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::file("word", format!("{word}\n"))]));
    image.set("Cmd", json!(["cat", "/word"]))
}

fn serve(image: &Built, request: &Request) -> Response {
    let path = request.path.as_str();
    if path.trim_end_matches('/').ends_with("/v2") {
        return Response::ok("application/json", "{}");
    }
    if path.contains("/manifests/") {
        return Response::ok(&image.media_type, image.manifest.clone());
    }
    let digest = path.rsplit('/').next().unwrap_or_default();
    match image.blobs.get(digest) {
        Some(bytes) => Response::ok("application/octet-stream", bytes.clone()),
        None => Response::status(404),
    }
}

/// Images of the days of jessie have a manifest of schema 1: layers topmost first, a history of JSON texts.
#[test]
fn a_manifest_of_schema_1_is_read() {
    let Some(env) = TestEnv::root() else { return };
    let built = image("from 2015").build();
    let mut manifest = json!({
        "schemaVersion": 1, "name": "old/app", "tag": "1", "architecture": images::machine(),
        "fsLayers": built.layers.iter().rev().map(|layer| json!({"blobSum": layer})).collect::<Vec<_>>(),
        "history": [],
    });
    let count = built.layers.len();
    let history = (0..count).rev().map(|number| {
        let id = format!("{number:064x}");
        let mut step = json!({"id": id, "created": "2015-06-01T00:00:00Z", "container_config": {"Cmd": ["step"]}});
        if number > 0 {
            step["parent"] = json!(format!("{:064x}", number - 1));
        }
        if number + 1 == count {
            step["config"] = json!({"Cmd": ["cat", "/word"], "Env": ["PATH=/bin:/usr/bin"]});
            step["os"] = json!("linux");
            step["architecture"] = json!(images::machine());
        }
        json!({"v1Compatibility": step.to_string()})
    });
    manifest["history"] = history.collect();
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    for media_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ] {
        let mut old = built.clone();
        (old.manifest, old.media_type) = (text.clone(), media_type.to_owned());
        let server = Server::start(move |request| serve(&old, request));
        let name = format!("{}/old/app:1", server.address());
        let env = TestEnv::new();
        env.run(["run", "--rm", "--network", "none", &name]).success().stdout("from 2015\n");
        // It goes on as an image of today.
        env.run(["push", "-q", &name, "oci:layout:t"]).success();
        env.run(["run", "--rm", "--network", "none", "oci:layout:t"])
            .success()
            .stdout("from 2015\n");
    }
    drop(env);
}

/// Each token opens a few doors only: the client must get another in the middle of a pull.
#[test]
fn a_token_that_runs_out_is_renewed_in_the_middle_of_a_pull() {
    let Some(env) = TestEnv::root() else { return };
    let built = image("renewed").build();
    let inside = built.clone();
    let uses = Arc::new(Mutex::new(Vec::new()));
    let known = uses.clone();
    let server = Server::start(move |request| {
        let mut uses = known.lock().unwrap();
        if request.path.starts_with("/token") {
            uses.push(0);
            let token = format!("token-{}", uses.len() - 1);
            return Response::ok("application/json", json!({"token": token}).to_string());
        }
        let token = request.header("authorization").and_then(|it| it.strip_prefix("Bearer token-"));
        let used = token.and_then(|number| uses.get_mut(number.parse::<usize>().ok()?));
        // After three answers a token is worth nothing: what goes on at once then shares the next.
        let Some(used) = used.filter(|used| **used < 3) else {
            let host = request.header("host").unwrap_or_default();
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"test\"");
            return Response::status(401).with("WWW-Authenticate", realm);
        };
        *used += 1;
        serve(&inside, request)
    });
    let name = format!("{}/app:1", server.address());
    env.run(["run", "--rm", "--network", "none", &name]).success().stdout("renewed\n");
    assert!(uses.lock().unwrap().len() >= 2, "one token was not enough");
}

/// Plain requests go through the proxy whole; what NO_PROXY names does not.
#[test]
fn proxies_from_the_environment_are_used() {
    let Some(env) = TestEnv::root() else { return };
    let built = image("through a proxy").build();
    let proxy = Server::start(move |request| {
        // A proxy is asked for whole addresses.
        match request.path.strip_prefix("http://registry.test:5000") {
            Some(path) => serve(&built, &Request { path: path.to_owned(), ..request.clone() }),
            None => Response::status(502),
        }
    });
    let address = format!("http://{}", proxy.address());
    let pull = |variables: &[(&str, &str)]| {
        let pull = env.command(["pull", "-q", "--tls-verify=false", "registry.test:5000/app:1"]);
        variables.iter().fold(pull, |pull, (name, value)| pull.env(name, value)).run()
    };
    pull(&[("HTTP_PROXY", &address), ("HTTPS_PROXY", "http://127.0.0.1:9")]).success();
    assert!(proxy.requests().iter().any(|request| request.path.contains("/manifests/1")));
    env.run(["run", "--rm", "--network", "none", "registry.test:5000/app:1"])
        .success()
        .stdout("through a proxy\n");
    let before = proxy.requests().len();
    pull(&[("http_proxy", &address), ("no_proxy", "registry.test")])
        .failure()
        .stderr_has("registry.test")
        .one_clear_line();
    assert_eq!(proxy.requests().len(), before);
}

/// A TLS server in front of a plain one, with a certificate of an authority of its own.
struct Guarded {
    child: Child,
    host: String,
}

impl Guarded {
    fn start(env: &TestEnv) -> Self {
        let openssl = |words: &[&str]| env.other("openssl", words).run().success();
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=an authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "host.key",
            "-out",
            "host.csr",
        ]);
        env.file("names", "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:false\n");
        openssl(&[
            "x509",
            "-req",
            "-in",
            "host.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "host.crt",
        ]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = env.path("").display().to_string();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {place}data}}\nhttp:\n  addr: 127.0.0.1:{port}\n  \
             tls: {{certificate: {place}host.crt, key: {place}host.key}}\n"
        );
        let config = env.file("tls.yml", config);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(config);
        command
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let host = format!("127.0.0.1:{port}");
        env.eventually("it listens", || TcpStream::connect(&host).is_ok());
        Self { child, host: format!("localhost:{port}") }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_certs_d_says_so() {
    let needs = [
        Need::Root,
        Need::Program("openssl", "openssl"),
        Need::Program("docker-registry", "docker-registry"),
    ];
    let Some(env) = TestEnv::with(&needs) else { return };
    let guarded = Guarded::start(&env);
    let (image, name) = (env.pulled_busybox(), format!("{}/app:1", guarded.host));
    env.run(["push", "-q", &image, &name]).failure().stderr_has("certificate").one_clear_line();
    env.run(["push", "-q", "--tls-verify=false", &image, &name]).success();
    let directory = env.directory().join("home/.config/containers/certs.d").join(&guarded.host);
    fs::create_dir_all(&directory).unwrap();
    fs::copy(env.path("ca.crt"), directory.join("ca.crt")).unwrap();
    env.run(["pull", "-q", &name]).success();
    env.run(["push", "-q", &image, &name]).success();
    fs::write(directory.join("ca.crt"), "no certificate").unwrap();
    env.run(["pull", "-q", &name]).failure().stderr_has("ca.crt").one_clear_line();
}

/// A registry that answers plain text where TLS was begun, and the other way round.
#[test]
fn the_wrong_protocol_is_explained() {
    let Some(env) = TestEnv::root() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut start = [0; 64];
            let _ = stream.read(&mut start);
            let _ = stream.write_all(b"\x15\x03\x01\x00\x02\x02\x16");
        }
    });
    env.run(["pull", "-q", &format!("{address}/app:1")])
        .failure()
        .stderr_has(&address.to_string())
        .one_clear_line();
}

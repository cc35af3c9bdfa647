//! A bad line between the program and a real registry: what it does ends right or fails clean, and the next
//! attempt goes on where the last one stopped (S2, S7, D-44, D-45).

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use integration::{
    Built, Fault, Guard, Image, Layer, Line, PASSWORD, Registry, Spoilt, TestEnv, USER, Way,
    http::{self, Response, Server},
    tar::Entry,
};

/// A layer that cannot be compressed away, so that its bytes are most of what passes.
fn image(seed: u64) -> Built {
    let mut state = seed | 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let noise: Vec<u8> = (0..1_000_000).map(|_| next()).collect();
    let small: Vec<Entry> =
        (0..50).map(|n| Entry::file(format!("d/{n}"), format!("{n}"))).collect();
    Image::new(vec![Layer::of(&[Entry::file("noise", noise)]), Layer::of(&small)]).build()
}

/// Every fault, early, in the middle and late in a connection.
fn faults(way: Way) -> Vec<Spoilt> {
    let kinds = [
        Fault::Reset,
        Fault::End,
        Fault::Stall(Duration::from_millis(700)),
        Fault::Trickle(20_000, Duration::from_millis(5)),
        Fault::Repeat(3000),
        Fault::Flip,
    ];
    let places = [0, 20, 400, 5000, 300_000, 999_000];
    let spoilt = |by| places.map(|after| Spoilt { way, after, by });
    // A registry that got a wrong head may wait for a body that never comes, for as long as it likes.
    let is_quick = |it: &Spoilt| {
        way == Way::Down || it.after > 5000 || !matches!(it.by, Fault::Repeat(_) | Fault::Flip)
    };
    kinds.into_iter().flat_map(spoilt).filter(is_quick).collect()
}

#[test]
fn pulls_over_a_bad_line_end_right_or_fail_clean() {
    let Some(env) = TestEnv::root() else { return };
    let (registry, built) = (env.registry(), image(1));
    registry.push("bad/line:1", &built);
    let line = Line::to(registry.address());
    let name = format!("{}/bad/line:1", line.host());
    for spoilt in faults(Way::Down) {
        let env = TestEnv::new();
        // The first connection asks for documents, the others fetch layers: each of them may be the bad one.
        for connections in 1..=2 {
            line.mend();
            let good = Spoilt { way: Way::Down, after: u64::MAX, by: Fault::End };
            line.spoil((1..connections).map(|_| good).chain([spoilt]));
            let pull = env.run(["pull", "-q", &name]);
            line.mend();
            if !pull.status.success() {
                pull.failure().one_clear_line();
                env.run(["images", "-q"]).success().stdout("");
                env.run(["pull", "-q", &name]).success();
            }
            env.run(["check"]).success();
            env.run(["inspect", "--format", "{{.Id}}", &name]).success().stdout_has(&built.config);
            env.run(["rmi", &name]).success();
        }
    }
}

#[test]
fn pushes_over_a_bad_line_end_right_or_fail_clean() {
    let Some(env) = TestEnv::root() else { return };
    let built = image(2);
    let source = env.registry();
    let from = source.push("good/line:1", &built);
    env.run(["pull", "-q", &from]).success();
    let target = Registry::start(&env.path("target"), Guard::None);
    let line = Line::to(target.address());
    for (number, spoilt) in faults(Way::Up).into_iter().chain(faults(Way::Down)).enumerate() {
        // A repository each: what another one has would be mounted and not sent.
        let repository = format!("bad/line{number}");
        let to = format!("{}/{repository}:1", line.host());
        line.spoil([spoilt, spoilt]);
        let push = env.run(["push", "-q", &from, &to]);
        line.mend();
        let stored = |name: &str| {
            let path = format!("/v2/{repository}/{name}");
            let accept = [("Accept", built.media_type.as_str())];
            http::send(target.address(), "GET", &path, &accept, &[]).unwrap()
        };
        if !push.status.success() {
            push.failure().one_clear_line();
            // A manifest never comes before what it names.
            let manifest = stored("manifests/1");
            assert!(manifest.status == 404 || manifest.body == built.manifest, "{spoilt:?}");
            env.run(["push", "-q", &from, &to]).success();
        }
        assert_eq!(stored("manifests/1").body, built.manifest, "{spoilt:?}");
        for (digest, bytes) in &built.blobs {
            assert!(&stored(&format!("blobs/{digest}")).body == bytes, "{spoilt:?}: {digest}");
        }
    }
}

/// A second attempt asks for what is missing, and for nothing else.
#[test]
fn a_pull_that_failed_goes_on_where_it_stopped() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    registry.push("resumed:1", &image(3));
    let line = Line::to(registry.address());
    let name = format!("{}/resumed:1", line.host());
    // So many breaks in a row that all retries are used up.
    let break_off = Spoilt { way: Way::Down, after: 100_000, by: Fault::Reset };
    let nothing = Spoilt { way: Way::Down, after: 0, by: Fault::Reset };
    line.spoil([break_off; 3]);
    line.spoil([nothing; 40]);
    env.run(["pull", "-q", &name]).failure().one_clear_line();
    let before = line.passed(Way::Down);
    assert!(before >= 100_000, "{before} bytes came");
    line.mend();
    env.run(["pull", "-q", &name]).success();
    let passed = line.passed(Way::Down) - before;
    assert!(passed < 1_000_000 - 60_000, "{passed} bytes came, though some were here already");
    env.run(["check"]).success();
}

/// The same for the other direction. docker-registry forgets an upload whose connection broke, so all of it is
/// sent again; that another registry's half is used, a test of the library shows.
#[test]
fn a_push_that_broke_is_taken_up_again() {
    let Some(env) = TestEnv::root() else { return };
    let source = env.registry();
    let from = source.push("resumed:1", &image(4));
    env.run(["pull", "-q", &from]).success();
    let target = Registry::start(&env.path("target"), Guard::None);
    let line = Line::to(target.address());
    line.spoil([Spoilt { way: Way::Up, after: 600_000, by: Fault::End }; 3]);
    env.run(["push", "-q", &from, &format!("{}/resumed:1", line.host())]).success();
    let passed = line.passed(Way::Up);
    assert!((1_600_000..3_300_000).contains(&passed), "{passed} bytes were sent");
}

/// Tokens that expire while a large image is on its way, in either direction.
#[test]
fn tokens_that_expire_in_the_middle_are_renewed() {
    let Some(env) = TestEnv::root() else { return };
    let built = image(5);
    let open = env.registry();
    let from = open.push("tokens:1", &built);
    env.run(["pull", "-q", &from]).success();
    let guarded = Registry::start(&env.path("guarded"), Guard::Token);
    let creds = format!("{USER}:{PASSWORD}");
    // docker-registry allows a minute of difference between clocks, so tokens are refused by us instead:
    // every request once, but for those that came without one and were told to get it.
    let refused = Arc::new(Mutex::new(HashSet::new()));
    let address = guarded.address();
    let list = refused.clone();
    let forgetful = Server::start(move |request| {
        let place = request.path.split('?').next().unwrap_or_default().to_owned();
        let is_new = list.lock().unwrap().insert((request.method.clone(), place));
        let names = ["accept", "authorization", "content-type", "content-range", "range"];
        let mut headers: Vec<(&str, &str)> =
            names.iter().filter_map(|name| Some((*name, request.header(name)?))).collect();
        if is_new {
            headers.retain(|(name, _)| *name != "authorization");
        }
        // What the registry calls itself is this server.
        headers.push(("x-forwarded-host", request.header("host").unwrap_or_default()));
        http::send(address, &request.method, &request.path, &headers, &request.body)
            .map(without_length)
            .unwrap_or_else(|_| Response::status(502))
    });
    let there = format!("{}/team/tokens:1", forgetful.address());
    env.run(["push", "-q", "--creds", &creds, &from, &there]).success();
    let env = TestEnv::new();
    env.run(["pull", "-q", "--creds", &creds, &there]).success();
    env.run(["check"]).success();
    assert!(refused.lock().unwrap().len() > 8);
}

/// The server sets its own; a HEAD's length describes a body that is not sent.
fn without_length(mut response: Response) -> Response {
    let length = response.header("content-length").and_then(|text| text.parse().ok());
    response.claimed_length = length;
    response.headers.retain(|(name, _)| {
        !["content-length", "connection"].contains(&name.to_ascii_lowercase().as_str())
    });
    response
}

/// 503 and 429 with a time to wait, for documents, blobs and uploads.
#[test]
fn a_registry_that_asks_for_patience_gets_it() {
    let Some(env) = TestEnv::root() else { return };
    let built = image(6);
    let registry = env.registry();
    let from = registry.push("patience:1", &built);
    env.run(["pull", "-q", &from]).success();
    let address = registry.address();
    let parts = ["/manifests/", "/blobs/sha256", "/blobs/uploads/"];
    let refused = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let seen = refused.clone();
    let busy = Server::start(move |request| {
        let part = parts.iter().position(|part| request.path.contains(part));
        if let Some(part) = part {
            let status = [429, 503][part % 2];
            if seen[part].fetch_add(1, Ordering::Relaxed) % 4 == 0 {
                return Response::status(status).with("Retry-After", "1");
            }
        }
        let names = ["accept", "content-type", "content-range", "range"];
        let mut headers: Vec<(&str, &str)> =
            names.iter().filter_map(|name| Some((*name, request.header(name)?))).collect();
        headers.push(("x-forwarded-host", request.header("host").unwrap_or_default()));
        http::send(address, &request.method, &request.path, &headers, &request.body)
            .map(without_length)
            .unwrap_or_else(|_| Response::status(502))
    });
    let there = format!("{}/busy:1", busy.address());
    let push = env.run(["push", "-q", &from, &there]).success();
    assert!(push.took >= Duration::from_secs(1), "{:?}", push.took);
    let env = TestEnv::new();
    let pull = env.run(["pull", "-q", &there]).success();
    assert!(pull.took >= Duration::from_secs(1), "{:?}", pull.took);
    for part in refused.iter() {
        assert!(part.load(Ordering::Relaxed) > 1);
    }
}

/// Nothing comes at all, for longer than anybody should wait.
#[test]
#[ignore = "waits for the minute that a silent registry is given"]
fn a_silent_registry_is_given_up() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    registry.push("silent:1", &image(7));
    let line = Line::to(registry.address());
    line.spoil([Spoilt { way: Way::Down, after: 300_000, by: Fault::Silence }]);
    let name = format!("{}/silent:1", line.host());
    let pull = env.command(["pull", "-q", &name]).limit(Duration::from_secs(180)).run().success();
    assert!(pull.took >= Duration::from_secs(55), "{:?}", pull.took);
    env.run(["check"]).success();
}

/// D-41: neither a redirect nor a realm nor a place for an upload leads into another network, such as to the
/// service that tells a cloud's machines their secrets.
#[test]
fn a_registry_cannot_send_us_to_another_network() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let from = registry.push("inside:1", &image(8));
    env.run(["pull", "-q", &from]).success();
    let inside = "http://169.254.169.254/latest";
    for refused in ["redirect", "realm", "place"] {
        let server = Server::start(move |request| match (refused, request.method.as_str()) {
            _ if request.path == "/v2/" => Response::ok("application/json", "{}"),
            ("redirect", _) => Response::status(307).with("Location", inside),
            ("realm", _) => {
                let challenge = format!("Bearer realm=\"{inside}\",service=\"x\"");
                Response::status(401).with("WWW-Authenticate", challenge)
            }
            ("place", "POST") => Response::status(202).with("Location", inside),
            _ => Response::status(404),
        });
        let name = format!("{}/inside:1", server.address());
        let run = match refused {
            "place" => env.run(["push", "-q", &from, &name]),
            _ => env.run(["pull", "-q", &name]),
        };
        run.failure().stderr_has("its address is private").one_clear_line();
    }
}

/// D-40: the place for an upload may be at another origin, which gets the bytes and not the password.
#[test]
fn a_password_does_not_follow_an_upload_elsewhere() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let from = registry.push("elsewhere:1", &image(9));
    env.run(["pull", "-q", &from]).success();
    let elsewhere = Server::start(|request| {
        let answer = Response::status(if request.method == "PUT" { 201 } else { 202 });
        answer.with("Location", request.path.clone())
    });
    let place = format!("http://{}/upload?x=1", elsewhere.address());
    let server = Server::start(move |request| {
        if request.header("authorization").is_none() {
            return Response::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.method.as_str() {
            "HEAD" => Response::status(404),
            "POST" => Response::status(202).with("Location", place.clone()),
            "PUT" => Response::status(201),
            _ => Response::ok("application/json", "{}"),
        }
    });
    let there = format!("{}/elsewhere:1", server.address());
    let creds = format!("{USER}:{PASSWORD}");
    env.run(["push", "-q", "--creds", &creds, &from, &there]).success();
    let requests = elsewhere.requests();
    assert!(requests.iter().any(|request| request.method == "PATCH"), "{requests:?}");
    for request in requests {
        assert_eq!(request.header("authorization"), None, "{} {}", request.method, request.path);
    }
}

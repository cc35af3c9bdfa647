//! A v1 registry as strict as the ones of 2014: tokens, cookies and checksums are asked for.

use std::{
    collections::HashMap,
    io::{self, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};

use super::lock;
use crate::{
    digest_of,
    server::http::{Incoming, Outgoing, Running},
};

/// What a v1 registry holds.
#[derive(Default)]
pub struct V1State {
    /// Descriptions by layer.
    pub jsons: HashMap<String, Vec<u8>>,
    /// Bytes by layer.
    pub layers: HashMap<String, Vec<u8>>,
    /// Checksums that were right, by layer.
    pub checked: HashMap<String, String>,
    /// Layers by `repository/tag`.
    pub tags: HashMap<String, String>,
    /// Requests, as `METHOD path`.
    pub seen: Vec<String>,
    /// How many answers with a layer are cut short from now on.
    pub cuts: u32,
}

/// The registry. It ends when dropped.
pub struct V1Registry {
    running: Running,
    state: Arc<Mutex<V1State>>,
}

impl V1Registry {
    /// An empty registry on a free loopback port.
    pub fn start() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(V1State::default()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?.to_string();
        let shared = state.clone();
        let handler = move |request: &mut Incoming<'_>, _: &mut TcpStream| {
            let mut sent = Vec::new();
            if request.body.read_to_end(&mut sent).is_err() {
                return None;
            }
            Some(answer(&mut lock(&shared), request, &sent, &address))
        };
        Ok(Self { running: Running::start(listener, Arc::new(handler))?, state })
    }

    /// `127.0.0.1:port`
    pub fn name(&self) -> String {
        self.running.address().to_string()
    }

    /// What it holds, for changing and for looking.
    pub fn state(&self) -> MutexGuard<'_, V1State> {
        lock(&self.state)
    }
}

fn answer(state: &mut V1State, request: &Incoming<'_>, sent: &[u8], address: &str) -> Outgoing {
    let path = request.path.trim_start_matches("/v1/").to_owned();
    state.seen.push(format!("{} {path}", request.method));
    if request.path.starts_with("/v2/") {
        return Outgoing::new(404, "");
    }
    if path == "_ping" {
        return Outgoing::new(200, "true");
    }
    let opens = path.starts_with("repositories/")
        && (path.ends_with("/images") || path.ends_with('/'))
        && request.header("x-docker-token") == Some("true");
    if !opens && request.header("authorization") != Some("Token signature=abc") {
        return Outgoing::new(401, "");
    }
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("PUT", ["repositories", name @ .., ""]) => {
            state.tags.entry(format!("{}/", name.join("/"))).or_default();
            opened(Outgoing::new(200, "\"\""), address)
        }
        ("PUT", ["repositories", .., "images"]) => Outgoing::new(204, ""),
        ("GET", ["repositories", name @ .., "images"]) => {
            let name = format!("{}/", name.join("/"));
            match state.tags.keys().any(|tag| tag.starts_with(&name)) {
                true => opened(Outgoing::new(200, "[]"), address),
                false => Outgoing::new(404, ""),
            }
        }
        ("GET", ["repositories", name @ .., "tags"]) => {
            let name = format!("{}/", name.join("/"));
            let tags = state.tags.iter().filter_map(|(tag, id)| {
                let tag = tag.strip_prefix(&name).filter(|tag| !tag.is_empty())?;
                Some((tag.to_owned(), Value::from(id.as_str())))
            });
            Outgoing::new(200, Value::Object(tags.collect()).to_string())
        }
        ("PUT", ["repositories", name @ .., "tags", tag]) => {
            let id: String = serde_json::from_slice(sent).unwrap_or_default();
            state.tags.insert(format!("{}/{tag}", name.join("/")), id);
            Outgoing::new(200, "true")
        }
        (method, ["images", id, what]) => image(state, method, id, what, request, sent),
        _ => Outgoing::new(404, ""),
    }
}

fn opened(answer: Outgoing, address: &str) -> Outgoing {
    answer.with("X-Docker-Token", "signature=abc").with("X-Docker-Endpoints", address)
}

fn image(
    state: &mut V1State,
    method: &str,
    id: &str,
    what: &str,
    request: &Incoming<'_>,
    sent: &[u8],
) -> Outgoing {
    match (method, what) {
        ("GET", "ancestry") => {
            let mut ids = vec![id.to_owned()];
            while let Some(parent) = ids.last().and_then(|id| parent(state, id)) {
                ids.push(parent);
            }
            Outgoing::new(200, json!(ids).to_string())
        }
        // A layer counts when its checksum has been confirmed.
        ("GET", "json") if state.checked.contains_key(id) => {
            let sum = state.checked.get(id).cloned().unwrap_or_default();
            let json = state.jsons.get(id).cloned().unwrap_or_default();
            Outgoing::new(200, json).with("X-Docker-Payload-Checksum", sum)
        }
        ("GET", "layer") if state.checked.contains_key(id) => {
            let layer = state.layers.get(id).cloned().unwrap_or_default();
            if state.cuts > 0 {
                state.cuts -= 1;
                let length = layer.len().to_string();
                return Outgoing::new(200, "")
                    .with("Content-Length", length)
                    .with("Connection", "close");
            }
            Outgoing::new(200, layer)
        }
        ("PUT", "json") => {
            state.jsons.insert(id.to_owned(), sent.to_vec());
            Outgoing::new(200, "").with("Set-Cookie", format!("session={id}; path=/"))
        }
        ("PUT", "layer") => {
            state.layers.insert(id.to_owned(), sent.to_vec());
            Outgoing::new(200, "")
        }
        ("PUT", "checksum") => {
            let is_right = request.header("x-docker-checksum-payload")
                == Some(payload_sum(state, id).as_str())
                && request.header("cookie").is_some_and(|it| it.contains(&format!("session={id}")))
                && request.header("x-docker-checksum").is_some_and(|it| it.starts_with("tarsum+"));
            if is_right {
                let sum = payload_sum(state, id);
                state.checked.insert(id.to_owned(), sum);
            }
            Outgoing::new(if is_right { 200 } else { 400 }, "")
        }
        _ => Outgoing::new(404, ""),
    }
}

fn parent(state: &V1State, id: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(state.jsons.get(id)?).ok()?;
    Some(json.get("parent")?.as_str()?.to_owned())
}

fn payload_sum(state: &V1State, id: &str) -> String {
    let mut bytes = state.jsons.get(id).cloned().unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend(state.layers.get(id).map(Vec::as_slice).unwrap_or_default());
    digest_of(&bytes).to_string()
}

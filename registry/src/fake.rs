//! A registry in this process that misbehaves on request, and a proxy that misbehaves in front of another.
//!
//! For tests only (feature `fake`). What it stores is in memory; what it was asked is kept for inspection.

mod v1;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    digest_of,
    server::http::{Content, Incoming, Outgoing, Running},
};

pub use v1::{V1Registry, V1State};

/// One way to misbehave, the next `times` times that a request matches.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `GET`, `PATCH` …; empty is any.
    pub method: &'static str,
    /// A part of the path.
    pub path: &'static str,
    /// How often.
    pub times: u32,
    /// What happens.
    pub kind: Kind,
}

/// What a fault does to the answer.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Answers with this status and header.
    Status(u16, Option<(&'static str, String)>),
    /// Sends so many bytes of the body, then closes the connection.
    Cut(usize),
    /// Sends so many bytes of the body, then nothing for a time, then closes.
    Stall(usize, Duration),
    /// Sends a byte at a time, so far apart.
    Trickle(Duration),
    /// Promises this many bytes more, or fewer, than it sends.
    Length(i64),
    /// Changes a byte of the body.
    Flip(usize),
    /// Pretends not to know about ranges.
    WholeBody,
    /// Answers a range with another one.
    OtherRange,
    /// Reads so many bytes of what the client sends, then closes the connection.
    HangUp(usize),
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET` and so on.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What followed the question mark.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
}

/// How the registry wants to be asked.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// By anybody.
    #[default]
    Open,
    /// With `Basic`, as this user with this password.
    Basic(String, String),
    /// With tokens that its own `/token` gives to anybody, each good for so many requests.
    Token {
        /// After which a token is refused.
        requests: u32,
    },
}

/// What the registry holds and knows.
#[derive(Default)]
pub struct State {
    /// By digest.
    pub blobs: HashMap<String, Vec<u8>>,
    /// By `repository/tag` and `repository/digest`: bytes and media type.
    pub manifests: HashMap<String, (Vec<u8>, String)>,
    /// Tried in order.
    pub faults: Vec<Fault>,
    /// Who may ask.
    pub access: Access,
    /// Oldest first.
    pub seen: Vec<Seen>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashMap<String, u32>,
    counter: u32,
}

/// The registry. It ends when dropped.
pub struct Registry {
    running: Running,
    state: Arc<Mutex<State>>,
}

impl Registry {
    /// An empty registry on a free loopback port.
    pub fn start() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = state.clone();
        let handler = move |request: &mut Incoming<'_>, connection: &mut TcpStream| {
            let fault = note(&shared, request);
            if let Some(Kind::HangUp(count)) = fault {
                hang_up(request, connection, count, Some(&shared));
                return None;
            }
            let answer = answer(&shared, request, address, &fault);
            misbehave(answer, fault, connection, request.method == "HEAD")
        };
        let running = Running::start(listener, Arc::new(handler))?;
        Ok(Self { running, state })
    }

    /// `127.0.0.1:port`
    pub fn name(&self) -> String {
        self.running.address().to_string()
    }

    /// What it holds, for changing and for looking.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Stores a blob and returns its digest.
    pub fn add_blob(&self, bytes: &[u8]) -> String {
        let digest = digest_of(bytes).to_string();
        self.state().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Stores a manifest under a tag and its digest, which is returned.
    pub fn add_manifest(
        &self,
        repository: &str,
        tag: &str,
        bytes: &[u8],
        media_type: &str,
    ) -> String {
        let digest = digest_of(bytes).to_string();
        let entry = (bytes.to_vec(), media_type.to_owned());
        let mut state = self.state();
        state.manifests.insert(format!("{repository}/{digest}"), entry.clone());
        state.manifests.insert(format!("{repository}/{tag}"), entry);
        digest
    }

    /// Misbehaves from now on.
    pub fn fault(&self, method: &'static str, path: &'static str, times: u32, kind: Kind) {
        self.state().faults.push(Fault { method, path, times, kind });
    }

    /// How many requests with this method had this in their path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let state = self.state();
        state.seen.iter().filter(|it| it.method == method && it.path.contains(path)).count()
    }
}

/// A proxy in front of a real registry: what passes can be made to go wrong.
pub struct Proxy {
    running: Running,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Forwards to a registry that speaks plain HTTP.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = state.clone();
        let handler = move |request: &mut Incoming<'_>, connection: &mut TcpStream| {
            let fault = note(&shared, request);
            if let Some(Kind::HangUp(count)) = fault {
                hang_up(request, connection, count, None);
                return None;
            }
            let answer = match fault {
                Some(Kind::Status(..)) => Outgoing::new(200, ""),
                _ => forward(request, upstream)
                    .unwrap_or_else(|error| Outgoing::new(502, error.to_string())),
            };
            misbehave(answer, fault, connection, request.method == "HEAD")
        };
        let running = Running::start(listener, Arc::new(handler))?;
        Ok(Self { running, state })
    }

    /// `127.0.0.1:port`
    pub fn name(&self) -> String {
        self.running.address().to_string()
    }

    /// Misbehaves from now on.
    pub fn fault(&self, method: &'static str, path: &'static str, times: u32, kind: Kind) {
        lock(&self.state).faults.push(Fault { method, path, times, kind });
    }

    /// What was asked, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a request down, and finds the fault that applies to it.
fn note(state: &Mutex<State>, request: &Incoming<'_>) -> Option<Kind> {
    let mut state = lock(state);
    state.seen.push(Seen {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        authorization: request.header("authorization").map(str::to_owned),
        range: request.header("range").map(str::to_owned),
    });
    let fault = state.faults.iter_mut().find(|fault| {
        fault.times > 0
            && (fault.method.is_empty() || fault.method == request.method)
            && request.path.contains(fault.path)
    })?;
    fault.times -= 1;
    Some(fault.kind.clone())
}

/// Takes some of what is sent and goes away. An upload keeps what had arrived.
fn hang_up(
    request: &mut Incoming<'_>,
    connection: &TcpStream,
    count: usize,
    state: Option<&Mutex<State>>,
) {
    let mut bytes = Vec::new();
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let _ = (&mut request.body).take(count).read_to_end(&mut bytes);
    if let Some(state) = state
        && let Some(upload) = lock(state).uploads.get_mut(&request.path)
    {
        upload.extend(bytes);
    }
    let _ = connection.shutdown(Shutdown::Both);
}

/// Sends an answer as a fault wants it; `None` when the connection is of no more use.
fn misbehave(
    mut answer: Outgoing,
    fault: Option<Kind>,
    connection: &mut TcpStream,
    is_head: bool,
) -> Option<Outgoing> {
    let Some(fault) = fault else { return Some(answer) };
    if let Kind::Status(status, header) = fault {
        let mut answer =
            Outgoing::new(status, r#"{"errors":[{"code":"FAULT","message":"a fault"}]}"#);
        answer.headers.extend(header);
        return Some(answer);
    }
    let mut body = contents(&mut answer.content);
    match fault {
        Kind::Flip(at) => {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1;
            }
            answer.content = Content::Bytes(body);
            return Some(answer);
        }
        Kind::WholeBody | Kind::OtherRange | Kind::Status(..) | Kind::HangUp(_) => {
            answer.content = Content::Bytes(body);
            return Some(answer);
        }
        _ => {}
    }
    let promised = match fault {
        Kind::Length(more) => i64::try_from(body.len()).unwrap_or(i64::MAX).saturating_add(more),
        _ => i64::try_from(body.len()).unwrap_or(i64::MAX),
    };
    answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    answer = answer.with("Content-Length", promised.max(0).to_string());
    let _ = connection.write_all(answer.head(false).as_bytes());
    if !is_head {
        let _ = send_badly(connection, &body, &fault);
    }
    let _ = connection.shutdown(Shutdown::Both);
    None
}

fn send_badly(connection: &mut TcpStream, body: &[u8], fault: &Kind) -> io::Result<()> {
    let part = |count: usize| body.get(..count.min(body.len())).unwrap_or_default();
    match fault {
        Kind::Cut(count) => connection.write_all(part(*count)),
        Kind::Stall(count, time) => {
            connection.write_all(part(*count))?;
            thread::sleep(*time);
            Ok(())
        }
        Kind::Trickle(time) => body.iter().try_for_each(|byte| {
            thread::sleep(*time);
            connection.write_all(&[*byte])
        }),
        _ => connection.write_all(body),
    }
}

fn contents(content: &mut Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    match content {
        Content::Bytes(all) => bytes.append(all),
        Content::File(file, length) => drop(file.take(*length).read_to_end(&mut bytes)),
        Content::Stream(reader, length) => drop(reader.take(*length).read_to_end(&mut bytes)),
    }
    bytes
}

fn refusal(status: u16, code: &str) -> Outgoing {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]}).to_string();
    Outgoing::new(status, body)
}

fn answer(
    state: &Mutex<State>,
    request: &mut Incoming<'_>,
    address: SocketAddr,
    fault: &Option<Kind>,
) -> Outgoing {
    let mut sent = Vec::new();
    if request.body.read_to_end(&mut sent).is_err() {
        return refusal(400, "SIZE_INVALID");
    }
    let mut state = lock(state);
    if request.path == "/token" {
        state.counter += 1;
        let token = format!("token-{}", state.counter);
        let Access::Token { requests } = state.access else { return refusal(404, "UNSUPPORTED") };
        state.tokens.insert(token.clone(), requests);
        return Outgoing::new(200, json!({"token": token, "expires_in": 300}).to_string());
    }
    if let Some(refusal) = refuse(&mut state, request, address) {
        return refusal;
    }
    let path = request.path.clone();
    match (request.method.as_str(), path.as_str()) {
        (_, "/v2/") => Outgoing::new(200, "{}"),
        ("GET", path) if path.ends_with("/tags/list") => tags(&state, path),
        (method, path) if path.contains("/manifests/") => {
            manifest(&mut state, method, path, request, sent)
        }
        (_, path) if path.contains("/blobs/uploads/") => upload(&mut state, request, path, &sent),
        (_, path) => blob(&state, path, request, fault),
    }
}

fn refuse(state: &mut State, request: &Incoming<'_>, address: SocketAddr) -> Option<Outgoing> {
    let authorization = request.header("authorization").unwrap_or_default();
    match state.access.clone() {
        Access::Open => None,
        Access::Basic(user, password) => {
            use base64::{Engine, prelude::BASE64_STANDARD};
            let right = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
            let challenge = "Basic realm=\"fake\"";
            (authorization != right)
                .then(|| refusal(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge))
        }
        Access::Token { .. } => {
            let token = authorization.trim_start_matches("Bearer ");
            if let Some(left) = state.tokens.get_mut(token).filter(|left| **left > 0) {
                *left -= 1;
                return None;
            }
            let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"fake\"");
            Some(refusal(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge))
        }
    }
}

fn tags(state: &State, path: &str) -> Outgoing {
    let repository = path.trim_start_matches("/v2/").trim_end_matches("tags/list");
    let known = state.manifests.keys().filter_map(|name| name.strip_prefix(repository));
    let mut tags: Vec<&str> = known.filter(|tag| !tag.contains([':', '/'])).collect();
    tags.sort_unstable();
    if tags.is_empty() {
        return refusal(404, "NAME_UNKNOWN");
    }
    Outgoing::new(200, json!({"tags": tags}).to_string())
}

fn manifest(
    state: &mut State,
    method: &str,
    path: &str,
    request: &Incoming<'_>,
    sent: Vec<u8>,
) -> Outgoing {
    let name = path.trim_start_matches("/v2/").replacen("/manifests/", "/", 1);
    if method == "PUT" {
        let digest = digest_of(&sent).to_string();
        let entry = (sent, request.header("content-type").unwrap_or_default().to_owned());
        let repository = name.rsplit_once('/').map_or("", |(repository, _)| repository);
        state.manifests.insert(format!("{repository}/{digest}"), entry.clone());
        state.manifests.insert(name, entry);
        return Outgoing::new(201, "").with("Docker-Content-Digest", digest);
    }
    match state.manifests.get(&name) {
        None => refusal(404, "MANIFEST_UNKNOWN"),
        Some((bytes, media_type)) => {
            Outgoing::new(200, bytes.clone()).with("Content-Type", media_type.clone())
        }
    }
}

fn upload(state: &mut State, request: &Incoming<'_>, path: &str, sent: &[u8]) -> Outgoing {
    let located = |status: u16, path: &str, length: usize| {
        let answer = Outgoing::new(status, "").with("Location", path);
        answer.with("Range", format!("0-{}", length.saturating_sub(1)))
    };
    if request.method == "POST" {
        let mounted = request.parameter("mount").filter(|it| state.blobs.contains_key(it));
        if mounted.is_some() {
            return Outgoing::new(201, "");
        }
        state.counter += 1;
        let path = format!("{path}{}", state.counter);
        state.uploads.insert(path.clone(), Vec::new());
        return located(202, &path, 0);
    }
    let Some(upload) = state.uploads.get_mut(path) else {
        return refusal(404, "BLOB_UPLOAD_UNKNOWN");
    };
    let start = request.header("content-range").and_then(|it| it.split('-').next()?.parse().ok());
    if request.method == "PATCH" && start.unwrap_or(0) != upload.len() {
        return located(416, path, upload.len());
    }
    upload.extend(sent);
    match request.method.as_str() {
        "PATCH" => located(202, path, upload.len()),
        "GET" => located(204, path, upload.len()),
        "DELETE" => {
            state.uploads.remove(path);
            Outgoing::new(204, "")
        }
        _ => {
            let digest = digest_of(upload).to_string();
            if request.parameter("digest") != Some(digest.clone()) {
                return refusal(400, "DIGEST_INVALID");
            }
            let bytes = state.uploads.remove(path).unwrap_or_default();
            state.blobs.insert(digest, bytes);
            Outgoing::new(201, "")
        }
    }
}

fn blob(state: &State, path: &str, request: &Incoming<'_>, fault: &Option<Kind>) -> Outgoing {
    let digest = path.rsplit_once("/blobs/").map_or("", |(_, digest)| digest);
    let Some(bytes) = state.blobs.get(digest) else { return refusal(404, "BLOB_UNKNOWN") };
    let start = request.header("range").and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-'));
    let start = start.and_then(|it| it.parse::<usize>().ok());
    let Some(start) = start.filter(|_| !matches!(fault, Some(Kind::WholeBody))) else {
        return Outgoing::new(200, bytes.clone());
    };
    let Some(part) = bytes.get(start..) else { return refusal(416, "RANGE_INVALID") };
    let shift = usize::from(matches!(fault, Some(Kind::OtherRange)));
    let (first, last) = (start + shift, bytes.len().saturating_sub(1));
    let range = format!("bytes {first}-{last}/{}", bytes.len());
    Outgoing::new(206, part.to_vec()).with("Content-Range", range)
}

/// Passes a request on, and reads the whole answer.
fn forward(request: &mut Incoming<'_>, upstream: SocketAddr) -> io::Result<Outgoing> {
    let mut sent = Vec::new();
    request.body.read_to_end(&mut sent)?;
    let mut connection = TcpStream::connect(upstream)?;
    let query = if request.query.is_empty() { "" } else { "?" };
    let mut head = format!(
        "{} {}{query}{} HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\n",
        request.method, request.path, request.query
    );
    for name in ["accept", "authorization", "content-range", "content-type", "range"] {
        if let Some(value) = request.header(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", sent.len()));
    connection.write_all(head.as_bytes())?;
    connection.write_all(&sent)?;
    let mut received = Vec::new();
    connection.read_to_end(&mut received)?;
    let malformed = || io::Error::other("the registry's answer is malformed");
    let end = received.windows(4).position(|it| it == b"\r\n\r\n").ok_or_else(malformed)?;
    let (head, body) = received.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(malformed)?;
    let mut answer = Outgoing::new(status, body.get(4..).unwrap_or_default());
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let known = [
            "Content-Type",
            "Docker-Content-Digest",
            "Location",
            "Range",
            "Content-Range",
            "WWW-Authenticate",
            "Link",
            "Content-Length",
            "Docker-Upload-UUID",
        ];
        if let Some(name) = known.into_iter().find(|it| it.eq_ignore_ascii_case(name)) {
            let value = value.trim().replace(&format!("http://{upstream}"), "");
            answer = answer.with(name, value);
        }
    }
    Ok(answer)
}

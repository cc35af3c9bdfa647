//! The token server of a guarded registry: RFC 7519 tokens as docker's registry checks them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use crate::{
    http::{Request, Response, Server},
    registry::{PASSWORD, USER},
};

const SERVICE: &str = "test-registry";
const ISSUER: &str = "test-issuer";

/// A running token server; it ends with this value.
pub struct TokenServer {
    server: Server,
    signer: Signer,
    lifetime: Arc<AtomicU64>,
}

impl TokenServer {
    /// Makes a key and starts answering `/token`.
    pub fn start(directory: &Path) -> Self {
        let signer = Signer::make(directory);
        let lifetime = Arc::new(AtomicU64::new(300));
        let (inside, seconds) = (signer.clone(), lifetime.clone());
        let server = Server::start(move |request| answer(request, &inside, &seconds));
        Self { server, signer, lifetime }
    }

    /// How long the tokens from now on are valid.
    pub fn set_lifetime(&self, seconds: u64) {
        self.lifetime.store(seconds, Ordering::Relaxed);
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// A token for one repository.
    pub fn issue(&self, user: &str, repository: &str, actions: &[&str]) -> String {
        self.signer.token(user, &[access(repository, actions)], 300)
    }

    /// The registry's side of the agreement.
    pub(crate) fn configuration(&self) -> String {
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: {SERVICE}\n    \
             issuer: {ISSUER}\n    rootcertbundle: {}\n",
            self.server.address(),
            self.signer.certificate.display(),
        )
    }
}

fn answer(request: &Request, signer: &Signer, lifetime: &AtomicU64) -> Response {
    let user = match request.header("authorization") {
        None => "",
        Some(value) if value == format!("Basic {}", base64(format!("{USER}:{PASSWORD}"))) => USER,
        Some(_) => return Response::status(401),
    };
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let granted: Vec<_> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("scope="))
        .map(|scope| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
        .filter_map(|scope| {
            let mut parts = scope.splitn(3, ':');
            let (_, name, actions) = (parts.next()?, parts.next()?.to_owned(), parts.next()?);
            let actions: Vec<_> = actions.split(',').map(str::to_owned).collect();
            let allowed = |action: &&str| {
                !user.is_empty() || (name.starts_with("public/") && *action == "pull")
            };
            let actions: Vec<_> = actions.iter().map(String::as_str).filter(allowed).collect();
            Some(access(&name, &actions))
        })
        .collect();
    let seconds = lifetime.load(Ordering::Relaxed);
    let token = signer.token(user, &granted, seconds);
    Response::ok("application/json", json!({"token": token, "expires_in": seconds}).to_string())
}

fn access(repository: &str, actions: &[&str]) -> serde_json::Value {
    json!({"type": "repository", "name": repository, "actions": actions})
}

/// A key and its certificate, used through openssl(1).
#[derive(Clone)]
struct Signer {
    key: PathBuf,
    certificate: PathBuf,
    chain: String,
}

impl Signer {
    fn make(directory: &Path) -> Self {
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=a test"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl is installed: see `make test-tools`");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = fs::read_to_string(&certificate).expect("made just now");
        // A PEM body is the base64 that `x5c` wants, in lines.
        let chain = text.lines().filter(|line| !line.starts_with("-----")).collect();
        Self { key, certificate, chain }
    }

    fn token(&self, user: &str, access: &[serde_json::Value], seconds: u64) -> String {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.chain]});
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": SERVICE, "access": access,
            "exp": now + seconds, "nbf": now - 10, "iat": now,
            "jti": SERIAL.fetch_add(1, Ordering::Relaxed).to_string(),
        });
        let signed = format!("{}.{}", url64(header.to_string()), url64(claims.to_string()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", url64(signature))
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl made the key");
        let mut input = child.stdin.take().expect("asked for a pipe");
        input.write_all(bytes).expect("openssl reads");
        drop(input);
        child.wait_with_output().expect("openssl ends").stdout
    }
}

/// Standard base64.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.as_ref().chunks(3) {
        let word = (0..3).fold(0, |word, i| word << 8 | usize::from(*chunk.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let used = digit <= chunk.len();
            text.push(if used { char::from(DIGITS[word >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    text
}

fn url64(bytes: impl AsRef<[u8]>) -> String {
    base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

#[test]
fn base64_is_what_others_write() {
    assert_eq!(base64("alice:wonderland"), "YWxpY2U6d29uZGVybGFuZA==");
    assert_eq!(base64([0xfb, 0xff, 0xfe]), "+//+");
    assert_eq!(url64([0xfb, 0xff]), "-_8");
}

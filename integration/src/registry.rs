//! A real registry (Debian's docker-registry) on a free loopback port.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Built, http, need, token::TokenServer};

/// What stands before the registry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Everybody may read and write.
    None,
    /// Basic authentication: `alice`, `wonderland`.
    Password,
    /// Bearer tokens from a token server of ours: the same account, or anonymous for `public/…`.
    Token,
}

/// The account that guarded registries know.
pub const USER: &str = "alice";
/// Its password.
pub const PASSWORD: &str = "wonderland";
/// Both, as HTTP sends them.
const BASIC: &str = "Basic YWxpY2U6d29uZGVybGFuZA==";
/// The password's bcrypt hash, cheap on purpose.
const HASH: &str = "$2b$05$abcdefghijklmnopqrstuuA0vov2GDneHB3.8.cv9UF9g.RdvScIW";

/// A running registry; it ends with this value.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    guard: Guard,
    tokens: Option<TokenServer>,
}

impl Registry {
    /// Starts a registry that keeps its content below a directory.
    pub fn start(directory: &Path, guard: Guard) -> Self {
        let program = need::find("docker-registry")
            .expect("docker-registry is installed: see `make test-tools`");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .expect("a place for it");
        let tokens = (guard == Guard::Token).then(|| TokenServer::start(directory));
        let mut failure = String::new();
        // Another process may take the free port before the registry does: try a few.
        for _ in 0..5 {
            let address = free_port();
            let config = directory.join("config.yml");
            let text = configuration(directory, address, guard, tokens.as_ref());
            fs::write(&config, text).expect("a file of ours");
            let log = fs::File::create(directory.join("log")).expect("a file of ours");
            // setpriv makes the kernel end the registry when the test that started it dies.
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .arg(&program)
                .arg("serve")
                .arg(&config)
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a descriptor"))
                .stderr(log)
                .spawn()
                .expect("setpriv starts");
            if answers(&mut child, address) {
                return Self { child, address, directory: directory.to_owned(), guard, tokens };
            }
            let _ = child.kill();
            let _ = child.wait();
            failure = fs::read_to_string(directory.join("log")).unwrap_or_default();
        }
        panic!("docker-registry does not start:\n{failure}");
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The full name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Uploads an image under `repository:tag` and gives its full name.
    pub fn push(&self, name: &str, image: &Built) -> String {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        for (digest, bytes) in &image.blobs {
            self.upload(repository, digest, bytes);
        }
        self.put_manifest(repository, tag, &image.media_type, &image.manifest);
        self.name(name)
    }

    /// Uploads a multi-platform image.
    pub fn push_index(&self, name: &str, images: &[&Built], index: (Vec<u8>, &str)) -> String {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        for image in images {
            for (digest, bytes) in &image.blobs {
                self.upload(repository, digest, bytes);
            }
            self.put_manifest(repository, &image.digest(), &image.media_type, &image.manifest);
        }
        self.put_manifest(repository, tag, index.1, &index.0);
        self.name(name)
    }

    /// Uploads one manifest under a tag or digest.
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, body: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.ask("PUT", &path, &[("Content-Type", media_type)], body, repository);
        assert_eq!(answer.status, 201, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }

    fn upload(&self, repository: &str, digest: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.ask("POST", &path, &[], &[], repository);
        let location = answer.header("location").unwrap_or_else(|| panic!("{path}: {answer:?}"));
        let place = location.trim_start_matches(&format!("http://{}", self.address)).to_owned();
        let path = format!("{place}&digest={digest}");
        let kind = [("Content-Type", "application/octet-stream")];
        let answer = self.ask("PUT", &path, &kind, bytes, repository);
        assert_eq!(answer.status, 201, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }

    /// Asks the registry something, with the account's credentials.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        repository: &str,
    ) -> http::Response {
        let mut headers = headers.to_vec();
        let authorization = match (self.guard, &self.tokens) {
            (Guard::Password, _) => BASIC.to_owned(),
            (_, Some(tokens)) => {
                format!("Bearer {}", tokens.issue(USER, repository, &["pull", "push"]))
            }
            _ => String::new(),
        };
        if !authorization.is_empty() {
            headers.push(("Authorization", &authorization));
        }
        http::send(self.address, method, path, &headers, body).expect("the registry answers")
    }

    /// The token server that guards it.
    pub fn tokens(&self) -> &TokenServer {
        self.tokens.as_ref().expect("a registry with `Guard::Token`")
    }

    /// Where it keeps a blob, for tests that damage it.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let place = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.directory.join(place)
    }

    /// What it logged: one line per request, among others.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn configuration(
    directory: &Path,
    address: SocketAddr,
    guard: Guard,
    tokens: Option<&TokenServer>,
) -> String {
    let place = directory.display();
    let mut text = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: false}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {place}/data}}\n  delete: {{enabled: true}}\n\
         http:\n  addr: {address}\n  secret: only for tests\n"
    );
    if guard == Guard::Password {
        let accounts = directory.join("htpasswd");
        fs::write(&accounts, format!("{USER}:{HASH}\n")).expect("a file of ours");
        text += &format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", accounts.display());
    }
    if let Some(tokens) = tokens {
        text += &tokens.configuration();
    }
    text
}

/// An address of this machine that nobody listens on.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}

fn answers(child: &mut Child, address: SocketAddr) -> bool {
    for _ in 0..1000 {
        if TcpStream::connect(address).is_ok() {
            // Somebody answers; it is ours only if it did not give up because the port was taken.
            thread::sleep(Duration::from_millis(5));
            return child.try_wait().is_ok_and(|status| status.is_none());
        }
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

//! HTTP: one request, one answer. Retries, logins and redirects are the business of [`crate::client`]'s hosts.
//!
//! The only modules that name reqwest, tokio or rustls are this one and those below it. Everything runs on one
//! thread with a current-thread runtime: a pull is limited by unpacking, and one thread moves bytes from
//! sockets into bounded channels several times faster than that.

mod body;
mod dns;
mod engine;
mod failure;
mod proxies;
mod tls;
mod upload;
mod zone;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
pub(crate) use reqwest::{
    Method, Url,
    header::{self, HeaderMap, HeaderValue},
};

pub(crate) use body::BodyReader;
pub use proxies::Proxies;
pub(crate) use zone::{Reach, Zone, is_loopback};

use crate::{Error, Options, Result, options::Timeouts};
use engine::Engine;

/// One request to one address.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trust: Trust,
    /// How long the answer may take, when the usual time is not enough.
    pub(crate) patience: Option<Duration>,
    /// For messages: completes "cannot …".
    pub(crate) doing: String,
}

/// What the other side has to prove, and which addresses may be used for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    pub(crate) verify: bool,
    /// The registry's directory below `certs.d`.
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) reach: Reach,
}

/// An answer whose body has not been read.
pub(crate) struct Response {
    inner: reqwest::Response,
    engine: Arc<Engine>,
    stall: Duration,
    doing: String,
    /// The address that answered, unless a proxy stands between.
    pub(crate) remote: Option<IpAddr>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    trust: Trust,
    is_tls: bool,
    proxy: Option<String>,
}

pub(crate) struct Transport {
    engine: Mutex<Option<Arc<Engine>>>,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
    tls: tls::Tls,
    dns: dns::Dns,
    proxies: Proxies,
    timeouts: Timeouts,
    user_agent: String,
}

impl Transport {
    /// Starts nothing and reads nothing.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            engine: Mutex::default(),
            clients: Mutex::default(),
            tls: tls::Tls::default(),
            dns: dns::Dns::default(),
            proxies: options.proxies.clone(),
            timeouts: options.timeouts,
            user_agent: options.user_agent.clone(),
        }
    }

    /// Sends a request and waits for the head of the answer. Redirects are not followed.
    pub(crate) fn send(&self, request: &Request) -> Result<Response> {
        let engine = self.engine()?;
        let host = authority(&request.url);
        let proxy = self.proxies.for_url(&request.url);
        let is_proxied = proxy.is_some();
        let client = self.client(request, proxy)?;
        let built = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .build()
            .map_err(|error| failure::classify(error, &host, &request.doing))?;
        log::debug!("{} {}", request.method, shown(&request.url));
        let stall = request.patience.unwrap_or(self.timeouts.stall);
        let answer =
            engine.wait(async { tokio::time::timeout(stall, client.execute(built)).await });
        let answer = answer
            .map_err(|_| Error::Stalled { doing: request.doing.clone(), after: stall })?
            .map_err(|error| failure::classify(error, &host, &request.doing))?;
        log::debug!("{} from {host}", answer.status());
        Ok(self.response(answer, engine, is_proxied, &request.doing))
    }

    fn response(
        &self,
        inner: reqwest::Response,
        engine: Arc<Engine>,
        is_proxied: bool,
        doing: &str,
    ) -> Response {
        let remote = inner.remote_addr().map(|address| address.ip()).filter(|_| !is_proxied);
        Response { inner, engine, stall: self.timeouts.stall, doing: doing.to_owned(), remote }
    }

    fn engine(&self) -> Result<Arc<Engine>> {
        let mut slot = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*slot {
            return Ok(engine.clone());
        }
        let engine = Arc::new(Engine::start()?);
        *slot = Some(engine.clone());
        Ok(engine)
    }

    fn client(&self, request: &Request, proxy: Option<String>) -> Result<reqwest::Client> {
        let key = ClientKey {
            trust: request.trust.clone(),
            is_tls: request.url.scheme() == "https",
            proxy,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(&key, &request.doing)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, key: &ClientKey, doing: &str) -> Result<reqwest::Client> {
        // A client that will only speak plain HTTP must not cost the reading of the trust store.
        let tls = if key.is_tls { self.tls.config(&key.trust)? } else { tls::unused() };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(&self.user_agent)
            .connect_timeout(self.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            // The defaults suit small answers; a layer on a fast, distant line needs more in flight.
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(16 << 20)
            .http2_max_frame_size(256 << 10)
            .http2_max_header_list_size(256 << 10)
            .retry(reqwest::retry::never())
            .no_proxy();
        // Behind a proxy the only name we resolve is the proxy's, which the user chose.
        let reach = if key.proxy.is_some() { Reach::Anywhere } else { key.trust.reach };
        builder = builder.dns_resolver(self.dns.reaching(reach));
        if let Some(proxy) = &key.proxy {
            let proxy = reqwest::Proxy::all(proxy)
                .map_err(|error| failure::classify(error, "the proxy", doing))?;
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|error| failure::classify(error, "any host", doing))
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header as text, if it is there once and readable.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn url(&self) -> &Url {
        self.inner.url()
    }

    /// Reads the whole body, of at most `limit` bytes.
    pub(crate) fn read_all(self, limit: u64) -> Result<Vec<u8>> {
        let limit_length = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut reader = self.into_reader();
        let mut bytes = Vec::new();
        while let Some(block) = reader.next_block()? {
            if block.len() > limit_length.saturating_sub(bytes.len()) {
                return Err(Error::TooLarge { what: "the answer".to_owned(), limit });
            }
            bytes.extend_from_slice(&block);
        }
        Ok(bytes)
    }

    /// Lets the body arrive in the background, a bounded number of blocks ahead.
    pub(crate) fn into_reader(self) -> BodyReader {
        body::start(self.inner, &self.engine, self.stall, self.doing)
    }
}

/// `host` or `host:port`, for messages and comparison.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Scheme, host and port: what credentials are bound to.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// An address for messages: signed query strings are secrets too.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

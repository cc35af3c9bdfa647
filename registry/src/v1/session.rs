//! Requests to a v1 registry: its token, its cookies, and the host it names for the layers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Each, Origin};
use crate::{
    Client, Error, Reference, Result,
    client::{
        backoff::Backoff,
        host::{Call, Host},
    },
    registries::Endpoint,
    transport::{Method, Reach, Response, Url, header},
};

pub(super) struct Session {
    /// Who knows the names.
    pub(super) index: Arc<Host>,
    /// Who has the layers; the same for a registry that stands alone.
    pub(super) layers: Arc<Host>,
    pub(super) repository: String,
    pub(super) what: String,
    /// Whether the index has heard of the repository; files behind any web server have no index.
    is_listed: bool,
    token: Option<String>,
    /// The servers of that time remember between requests what the last one was about.
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Session {
    /// Opens a repository with the request that gives the token: `GET` to read it, `PUT` to write it.
    pub(super) fn open(
        client: &Client,
        name: &Reference,
        method: Method,
        body: Bytes,
    ) -> Result<(Self, Response)> {
        let missing = || Error::UnknownName { name: name.name() };
        let endpoint = client.endpoints(name)?.pop().ok_or_else(missing)?;
        let index = client.host(&endpoint);
        let mut session = Self {
            layers: index.clone(),
            index,
            repository: endpoint.repository.clone(),
            what: name.familiar(),
            is_listed: true,
            token: None,
            cookies: Mutex::default(),
        };
        let path = match method {
            Method::GET => format!("/v1/repositories/{}/images", endpoint.repository),
            _ => format!("/v1/repositories/{}/", endpoint.repository),
        };
        let mut call = session.call(method, &path).with(TOKEN, "true");
        call.body = body;
        call.expected = &[404];
        let is_read = call.method == Method::GET;
        let answer = session.send(&session.index, call)?;
        // Files behind any web server need no index: whether the image is there is seen by its tags.
        session.is_listed = answer.status() != 404;
        if !session.is_listed && !is_read {
            return Err(missing());
        }
        let text = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        session.token = text("x-docker-token");
        if let Some(named) = text("x-docker-endpoints") {
            session.layers = other_host(client, &session, &endpoint, &named, &answer)?;
        }
        Ok((session, answer))
    }

    pub(super) fn call<'a>(&'a self, method: Method, path: &'a str) -> Call<'a> {
        let mut call = Call::new(method, path, &self.what);
        call.repository = &self.repository;
        call
    }

    /// Sends with token and cookies; keeps the cookies of the answer.
    pub(super) fn send(&self, host: &Host, call: Call<'_>) -> Result<Response> {
        let answer = host.send(&self.dressed(call))?;
        self.keep_cookies(&answer);
        Ok(answer)
    }

    /// The same for a body that is produced on the way.
    pub(super) fn upload(
        &self,
        call: Call<'_>,
        length: u64,
        produce: &mut dyn FnMut() -> Result<Option<Bytes>>,
    ) -> Result<()> {
        match self.layers.upload_once(&self.dressed(call), length, produce)? {
            Some(answer) => {
                self.keep_cookies(&answer);
                Ok(())
            }
            None => Err(Error::Transfer {
                doing: format!("push {}", self.what),
                source: "the login expired on the way".into(),
            }),
        }
    }

    pub(super) fn dressed<'a>(&self, mut call: Call<'a>) -> Call<'a> {
        if let Some(token) = &self.token {
            call = call.with(header::AUTHORIZATION, &format!("Token {token}"));
        }
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> =
            cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !pairs.is_empty() {
            call = call.with(header::COOKIE, &pairs.join("; "));
        }
        call
    }

    fn keep_cookies(&self, answer: &Response) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for value in answer.headers().get_all(header::SET_COOKIE) {
            let pair = value.to_str().ok().and_then(|text| text.split(';').next()?.split_once('='));
            if let Some((name, value)) = pair
                && cookies.len() < 50
            {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

impl Origin for Session {
    fn repository(&self) -> &str {
        &self.repository
    }

    fn what(&self) -> &str {
        &self.what
    }

    fn read(&self, path: &str, each: Each<'_>) -> Result<Option<String>> {
        let mut call = self.call(Method::GET, path);
        // A registry asks for the token that its index would have given, had it known the name.
        call.expected = if self.is_listed { &[404] } else { &[401, 404] };
        let answer = self.send(&self.layers, call)?;
        if matches!(answer.status(), 401 | 404) {
            return Err(Error::UnknownName { name: self.what.clone() });
        }
        let checksum = answer.header(PAYLOAD_CHECKSUM).map(str::to_owned);
        let mut body = answer.into_reader();
        while let Some(block) = body.next_block()? {
            each(&block)?;
        }
        Ok(checksum)
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(self.layers.backoff())
    }
}

/// Whether a registry speaks this protocol and not its successor.
pub(crate) fn is_spoken(client: &Client, name: &Reference) -> Result<bool> {
    let missing = || Error::UnknownName { name: name.name() };
    let host = client.host(&client.endpoints(name)?.pop().ok_or_else(missing)?);
    if host.gives_tokens() {
        return Ok(false);
    }
    let doing = format!("ask {} for its protocol", host.registry());
    let mut call = Call::new(Method::GET, "/v2/", &doing);
    call.expected = &[404];
    let answer = host.send_once(&call)?;
    if answer.status() != 404 || answer.headers().contains_key("docker-distribution-api-version") {
        return Ok(false);
    }
    let mut call = Call::new(Method::GET, "/v1/_ping", &doing);
    call.expected = &[404];
    Ok(host.send_once(&call)?.status() == 200)
}

const PAYLOAD_CHECKSUM: header::HeaderName =
    header::HeaderName::from_static("x-docker-payload-checksum");

pub(super) const TOKEN: header::HeaderName = header::HeaderName::from_static("x-docker-token");

/// The first host of `X-Docker-Endpoints`, if it is another and we are willing to go there.
fn other_host(
    client: &Client,
    session: &Session,
    endpoint: &Endpoint,
    named: &str,
    answer: &Response,
) -> Result<Arc<Host>> {
    let named = named.split(',').next().unwrap_or_default().trim();
    if named.is_empty() || named == endpoint.registry {
        return Ok(session.index.clone());
    }
    let refuse = |problem| Error::Elsewhere {
        from: endpoint.registry.clone(),
        to: named.to_owned(),
        problem,
    };
    // Also checks that it is a host and nothing else.
    let name: Reference = format!("{named}/x").parse().map_err(|_| refuse("that is no host"))?;
    let url = Url::parse(&format!("{}://{named}/", answer.url().scheme()))
        .map_err(|_| refuse("that is no host"))?;
    let zone = answer.remote.map_or(crate::transport::Zone::Public, crate::transport::Zone::of);
    session.index.permitted(answer.url(), url, Reach::From(zone))?;
    Ok(client.host(&Endpoint {
        registry: name.registry().to_owned(),
        repository: endpoint.repository.clone(),
        insecure: endpoint.insecure,
        // Not the host the user named, so not the one that the given login is for.
        is_mirror: true,
    }))
}

//! One registry: its scheme, its logins, its redirects, its bad moments.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

pub(crate) use super::backoff::Backoff;
use super::refusal;
use crate::{
    Error, Result,
    auth::{self, Challenge, Memory, State},
    certificates,
    credentials::Login,
    options::Options,
    transport::{
        HeaderMap, HeaderValue, Method, Reach, Request, Response, Transport, Trust, Url, Zone,
        authority, header, is_loopback, same_origin, shown,
    },
};

const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN_ANSWER: u64 = 1 << 20;

/// A registry, `host[:port]`, and what we have learnt about it.
pub(crate) struct Host {
    registry: String,
    insecure: bool,
    /// `https://host` or `http://host`, once it is known.
    base: Mutex<Option<Url>>,
    memory: Memory,
    login: Mutex<Option<Option<Login>>>,
    /// The program's `--creds`, when this is the registry it was given for.
    given: Option<Login>,
    transport: Arc<Transport>,
    options: Arc<Options>,
}

/// A request to a registry, relative to its address.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With the leading slash; may be a whole address that the registry gave us for an upload.
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The repository, for choosing a login.
    pub(crate) repository: &'a str,
    /// What we ask for when asked: `repository:library/debian:pull`.
    pub(crate) scope: &'a str,
    /// For messages: completes "cannot …".
    pub(crate) doing: &'a str,
    /// Statuses besides 2xx that are the caller's business.
    pub(crate) expected: &'a [u16],
}

impl Host {
    pub(crate) fn new(
        registry: &str,
        insecure: bool,
        given: Option<Login>,
        transport: Arc<Transport>,
        options: Arc<Options>,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            insecure: insecure || !options.tls_verify,
            base: Mutex::default(),
            memory: Memory::default(),
            login: Mutex::default(),
            given,
            transport,
            options,
        }
    }

    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Sends, and sends again while that may help.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut backoff = self.backoff();
        loop {
            match self.send_once(call) {
                Err(error) if backoff.wait_after(&error) => {}
                other => return other,
            }
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.options.retries, self.options.timeouts.retry_after)
    }

    /// Sends a call with whatever login the registry asks for, follows redirects, and turns refusals into
    /// errors. A refused token is replaced once.
    pub(crate) fn send_once(&self, call: &Call<'_>) -> Result<Response> {
        let url = self.base(call)?.join(call.path).map_err(|_| self.bad_address(call.path))?;
        let authorization = self.authorization(call)?;
        let answer = self.follow(call, url.clone(), authorization.clone())?;
        if answer.status() != 401 {
            return refusal::check(answer, self, call, authorization.is_some());
        }
        let zone = answer.remote.map_or(Zone::Public, Zone::of);
        let Some(challenge) = auth::challenge(answer.headers()) else {
            return refusal::check(answer, self, call, authorization.is_some());
        };
        drop(answer);
        let answer_to = self.meet(call, challenge, zone, &url, authorization.as_ref())?;
        let Some(authorization) = answer_to else {
            return Err(self.unauthorized(call, false));
        };
        let answer = self.follow(call, url, Some(authorization))?;
        refusal::check(answer, self, call, true)
    }

    pub(crate) fn has_login(&self, repository: &str) -> bool {
        matches!(self.login(repository), Ok(Some(_)))
    }

    fn unauthorized(&self, call: &Call<'_>, with_credentials: bool) -> Error {
        let (registry, what) = (self.registry.clone(), format!("to {}", call.doing));
        Error::Unauthorized { registry, what, with_credentials }
    }

    fn bad_address(&self, address: &str) -> Error {
        let problem = "that is no address";
        Error::Elsewhere { from: self.registry.clone(), to: address.to_owned(), problem }
    }

    /// Follows redirects by hand: each hop is checked, and logins stay at the origin they belong to.
    fn follow(
        &self,
        call: &Call<'_>,
        first: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response> {
        let mut url = first.clone();
        let mut reach = Reach::Anywhere;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = call.headers.clone();
            if let Some(authorization) = &authorization
                && same_origin(&url, &first)
            {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let answer = self.transport.send(&Request {
                method: call.method.clone(),
                url: url.clone(),
                headers,
                body: call.body.clone(),
                trust: self.trust(&url, reach),
                doing: call.doing.to_owned(),
            })?;
            if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            if reach == Reach::Anywhere {
                reach = Reach::From(answer.remote.map_or(Zone::Public, Zone::of));
            }
            url = self.next_hop(&answer, reach)?;
            log::debug!("redirected to {}", shown(&url));
        }
        self.elsewhere(&url, "too many redirects")
    }

    fn next_hop(&self, answer: &Response, reach: Reach) -> Result<Url> {
        let here = answer.url();
        let location = answer.header(header::LOCATION).unwrap_or_default();
        let next = here.join(location).map_err(|_| self.bad_address(location))?;
        self.permitted(here, next, reach)
    }

    /// Whether a registry may send us from `here` to `next` (D-41).
    pub(crate) fn permitted(&self, here: &Url, next: Url, reach: Reach) -> Result<Url> {
        match (here.scheme(), next.scheme()) {
            ("https", "https") | ("http", "http" | "https") => {}
            ("https", "http") => return self.elsewhere(&next, "it leads from https to http"),
            _ => return self.elsewhere(&next, "it is neither http nor https"),
        }
        if !reach.allows_url(&next) {
            return self.elsewhere(&next, "its address is private");
        }
        Ok(next)
    }

    fn elsewhere<T>(&self, to: &Url, problem: &'static str) -> Result<T> {
        Err(Error::Elsewhere { from: self.registry.clone(), to: shown(to), problem })
    }

    fn trust(&self, url: &Url, reach: Reach) -> Trust {
        let authority = authority(url);
        let is_own = authority == self.network_name() || authority == self.registry;
        Trust {
            verify: self.options.tls_verify && !(is_own && self.insecure),
            certificates: certificates::directory(&self.options.certificates, &authority),
            // What the user named may be anywhere, also after a redirect back to it.
            reach: if is_own { Reach::Anywhere } else { reach },
        }
    }

    /// Where Docker Hub really is.
    fn network_name(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// Finds out once whether this registry speaks HTTPS. Plain HTTP is considered only on loopback and where
    /// the user allowed it; there is no falling back from HTTPS elsewhere.
    fn base(&self, call: &Call<'_>) -> Result<Url> {
        let mut known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = &*known {
            return Ok(base.clone());
        }
        let name = self.network_name();
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{name}/")).map_err(|_| self.bad_address(name))
        };
        let base = if is_loopback(name) {
            // A TLS server shows itself by not speaking HTTP, which costs less than the other way round.
            match self.probe(url("http")?, call) {
                Ok(true) => url("http")?,
                Ok(false) | Err(Error::Transfer { .. }) => url("https")?,
                Err(error) => return Err(error),
            }
        } else if self.insecure {
            match self.probe(url("https")?, call) {
                Ok(_) => url("https")?,
                Err(Error::Transfer { .. } | Error::PlainHttp { .. } | Error::Connect { .. }) => {
                    url("http")?
                }
                Err(error) => return Err(error),
            }
        } else {
            url("https")?
        };
        *known = Some(base.clone());
        Ok(base)
    }

    /// Asks for `/v2/` without any login. `false`: the answer is Go's to HTTP on a TLS port.
    fn probe(&self, base: Url, call: &Call<'_>) -> Result<bool> {
        let url = base.join("/v2/").map_err(|_| self.bad_address(base.as_str()))?;
        let answer = self.transport.send(&Request {
            method: Method::GET,
            trust: self.trust(&url, Reach::Anywhere),
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            doing: call.doing.to_owned(),
        })?;
        if answer.status() != 400 {
            return Ok(true);
        }
        let text = answer.read_all(64 << 10).unwrap_or_default();
        Ok(!String::from_utf8_lossy(&text).contains("HTTPS server"))
    }

    fn login(&self, repository: &str) -> Result<Option<Login>> {
        let mut known = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(login) = &*known {
            return Ok(login.clone());
        }
        let found = match &self.given {
            Some(given) => Some(given.clone()),
            None => self.options.credentials.find(&self.registry, repository)?,
        };
        *known = Some(found.clone());
        Ok(found)
    }

    /// The header to send before being asked: what the last challenge of this registry taught us.
    fn authorization(&self, call: &Call<'_>) -> Result<Option<HeaderValue>> {
        let mut state = self.memory.lock();
        match state.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                Ok(self.login(call.repository)?.as_ref().and_then(auth::basic))
            }
            Some(challenge @ Challenge::Bearer { .. }) => {
                if let Some(token) = state.token(call.scope) {
                    return Ok(auth::bearer(token));
                }
                let url = self.base(call)?;
                let token =
                    self.fetch_token(&mut state, call, &challenge, Reach::Anywhere, &url)?;
                Ok(auth::bearer(&token))
            }
        }
    }

    /// Answers a challenge; `None` when we have nothing to answer with.
    fn meet(
        &self,
        call: &Call<'_>,
        challenge: Challenge,
        zone: Zone,
        url: &Url,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let mut state = self.memory.lock();
        state.challenge = Some(challenge.clone());
        match &challenge {
            Challenge::Basic if refused.is_some() => Err(self.unauthorized(call, true)),
            Challenge::Basic => Ok(self.login(call.repository)?.as_ref().and_then(auth::basic)),
            Challenge::Bearer { .. } => {
                state.forget(call.scope, refused);
                // Another thread may have met the same challenge while we waited for the lock.
                if let Some(token) = state.token(call.scope) {
                    return Ok(auth::bearer(token));
                }
                let reach = Reach::From(zone);
                let token = self.fetch_token(&mut state, call, &challenge, reach, url)?;
                Ok(auth::bearer(&token))
            }
        }
    }

    fn fetch_token(
        &self,
        state: &mut State,
        call: &Call<'_>,
        challenge: &Challenge,
        reach: Reach,
        registry_url: &Url,
    ) -> Result<crate::Secret> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Err(self.unauthorized(call, false));
        };
        let realm = Url::parse(realm).map_err(|_| self.bad_address(realm))?;
        let realm = self.permitted(registry_url, realm, reach)?;
        let login = self.login(call.repository)?;
        let scopes = wanted_scopes(call.scope, scope.as_deref());
        let doing = format!("get a token to {}", call.doing);
        let request = TokenRequest { realm, service: service.as_deref(), scopes, doing };
        let with_credentials = login.is_some();
        let mut backoff = self.backoff();
        let answer = loop {
            let sent =
                self.transport.send(&request.build(login.as_ref(), |url| self.trust(url, reach)));
            match sent.and_then(|answer| refusal::check_token(answer, self, call, with_credentials))
            {
                Err(error) if backoff.wait_after(&error) => {}
                other => break other?,
            }
        };
        state.remember(call.scope, &answer.read_all(MAX_TOKEN_ANSWER)?)
    }
}

/// Our scope, and the registry's own if that is another.
fn wanted_scopes(ours: &str, theirs: Option<&str>) -> Vec<String> {
    let mut scopes: Vec<String> = ours.split(' ').map(str::to_owned).collect();
    scopes.extend(theirs.into_iter().flat_map(|text| text.split(' ')).map(str::to_owned));
    scopes.retain(|scope| !scope.is_empty());
    scopes.sort();
    scopes.dedup();
    scopes
}

struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: Vec<String>,
    doing: String,
}

impl TokenRequest<'_> {
    fn build(&self, login: Option<&Login>, trust: impl Fn(&Url) -> Trust) -> Request {
        let mut headers = HeaderMap::new();
        let mut url = self.realm.clone();
        let mut body = Bytes::new();
        let mut method = Method::GET;
        if let Some(Login::IdentityToken(token)) = login {
            method = Method::POST;
            let form = "application/x-www-form-urlencoded";
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("client_id", "crun-cargo");
            form.append_pair("refresh_token", token.expose());
            form.append_pair("scope", &self.scopes.join(" "));
            form.append_pair("service", self.service.unwrap_or_default());
            body = form.finish().into();
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(Login::Password { user, .. }) = login {
                query.append_pair("account", user);
            }
        }
        if let Some(basic) = login.and_then(auth::basic) {
            headers.insert(header::AUTHORIZATION, basic);
        }
        Request { method, trust: trust(&url), url, headers, body, doing: self.doing.clone() }
    }
}
